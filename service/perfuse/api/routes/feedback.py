"""POST /feedback: what became of a generation. Answered when it is kept durably, learned from later."""

from __future__ import annotations

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from perfuse.api.accepting import accept, parse_feedback
from perfuse.api.answering import JSON
from perfuse.api.feedback import FeedbackBody
from perfuse.api.generate import authorised, front_of, received
from perfuse.api.idempotency import idempotency_key
from perfuse.api.openapi import body, documented, json_answer
from perfuse.api.schemas import FeedbackAnswer

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
    said = parse_feedback(await received(request))
    answer = await accept(front_of(request), principal, said, idempotency_key(request, said.idempotency_key))
    return Response(msgspec.json.encode(answer), status_code=_ACCEPTED, media_type=JSON)
