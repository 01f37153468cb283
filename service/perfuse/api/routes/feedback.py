"""POST /feedback: what became of a generation. Answered when it is kept durably, learned from later."""

from __future__ import annotations

import time

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from perfuse.api.answering import JSON
from perfuse.api.feedback import FeedbackBody, check, item_of, untagged
from perfuse.api.generate import Front, authorised, front_of, read, recorded
from perfuse.api.idempotency import idempotency_key
from perfuse.api.openapi import body, documented, json_answer
from perfuse.api.problems import InvalidFields
from perfuse.api.schemas import FeedbackAnswer
from perfuse.queue.inbox import InboxFull, InboxUnavailable, Put
from perfuse.wire import pack_feedback

router = APIRouter(tags=["learn"])

_ACCEPTED = 202


@router.post(
    "/feedback",
    status_code=_ACCEPTED,
    openapi_extra=documented(body(FeedbackBody), json_answer(FeedbackAnswer, _ACCEPTED)),
)
async def feedback(request: Request) -> Response:
    """Say how good a generation was. The answer comes when the feedback is on disk; it is learned from later."""
    principal = authorised(request, "feedback")
    front = front_of(request)
    said = await _read(request)
    key = idempotency_key(request, said.idempotency_key)
    found = await recorded(front, said.generation_id, principal.tenant)
    item = pack_feedback(item_of(said, found, time.time()))
    named = None if key is None else f"{principal.tenant}:{key}"
    began = time.perf_counter()
    identity = await _kept(front, Put(item, key=named, body=said.said()))
    front.meter.feedback(said.verdict, time.perf_counter() - began)
    answer = FeedbackAnswer(feedback_id=identity)
    return Response(msgspec.json.encode(answer), status_code=_ACCEPTED, media_type=JSON)


async def _read(request: Request) -> FeedbackBody:
    try:
        said = await read(request, FeedbackBody)
    except InvalidFields as error:
        raise untagged(error) from None
    check(said)
    return said


async def _kept(front: Front, put: Put) -> str:
    try:
        return await front.inbox.put(put)
    except InboxFull:
        front.meter.shed("overloaded")
        raise
    except InboxUnavailable:
        front.meter.shed("unavailable")
        raise
