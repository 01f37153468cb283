"""Feedback from body to inbox: checked, joined with its generation, kept durably. Shared by /feedback and MCP."""

from __future__ import annotations

import time

from perfuse.api.auth import Principal
from perfuse.api.feedback import FeedbackBody, check, item_of, untagged
from perfuse.api.generate import Front, parse, recorded
from perfuse.api.problems import InvalidFields
from perfuse.api.schemas import FeedbackAnswer
from perfuse.queue.inbox import InboxFull, InboxUnavailable, Put
from perfuse.wire import pack_feedback


def parse_feedback(raw: bytes) -> FeedbackBody:
    """The body of a feedback. Raises MalformedBody or InvalidFields."""
    try:
        said = parse(raw, FeedbackBody)
    except InvalidFields as error:
        raise untagged(error) from None
    check(said)
    return said


async def accept(front: Front, principal: Principal, said: FeedbackBody, key: str | None) -> FeedbackAnswer:
    """Keep feedback; it is on disk when this returns.

    Args:
        front: what to work with.
        principal: whose generation is meant.
        said: checked.
        key: under which it may be sent again.

    Raises:
        PerfuseError: there is no such generation, or it cannot be kept.
    """
    found = await recorded(front, said.generation_id, principal.tenant)
    item = pack_feedback(item_of(said, found, time.time()))
    named = None if key is None else f"{principal.tenant}:{key}"
    began = time.perf_counter()
    identity = await _kept(front, Put(item, key=named, body=said.said()))
    front.meter.feedback(said.verdict, time.perf_counter() - began)
    return FeedbackAnswer(feedback_id=identity)


async def _kept(front: Front, put: Put) -> str:
    try:
        return await front.inbox.put(put)
    except InboxFull:
        front.meter.shed("overloaded")
        raise
    except InboxUnavailable:
        front.meter.shed("unavailable")
        raise
