"""A generation as server-sent events, and cancelling it when the client leaves.

Events: `accepted` {backlog_seconds, snapshot}, `step` {step, of}, `preview` {step, of, …}, `restarted` {restarts}, and
at the end `result` (the answer) or `error` (the problem). Previews: the latest wins while the client is slow.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TypeVar

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from perfuse import logging
from perfuse.api.connection import WHEN_GONE
from perfuse.api.generate import Asked, Front, generate
from perfuse.api.problems import encode, problem_of, response_of, unforeseen
from perfuse.api.waiting import Arm, Stopped, unless
from perfuse.dispatch.pool import AcceptedEvent, Event, PreviewEvent, RestartedEvent
from perfuse.errors import PerfuseError

_log = logging.get(__name__)
_encode = msgspec.json.Encoder().encode

PING_SECONDS = 15.0
_PING = b": ping\n\n"
_CLIENT_CLOSED = 499
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]

T = TypeVar("T")


def event(name: str, data: bytes) -> bytes:
    """One event; `data` is JSON, which has no line breaks."""
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"


async def unless_gone(work: Coroutine[object, None, T], scope: Scope, receive: Receive) -> T | None:
    """The result of `work`, or None if the client left before, in which case `work` was cancelled.

    Args:
        work: what the client waits for.
        scope: of the request; a `Connection` says there when the client leaves.
        receive: the ASGI channel, which says so under any other server; the body must have been read.
    """
    arm: Arm = scope.get(WHEN_GONE) or (lambda stop: asyncio.create_task(_watch(receive, stop)).cancel)
    try:
        return await unless(work, arm)
    except Stopped:
        return None


async def _watch(receive: Receive, leave: Callable[[], None]) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue
    leave()


class Gone(Response):
    """Answers a client that is no longer there; only the metrics see it."""

    def __init__(self) -> None:
        super().__init__(status_code=_CLIENT_CLOSED)


class _Mailbox:
    """What has happened since the last look; previews that nobody looked at are replaced by later ones."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self._events: list[bytes] = []
        self._preview: PreviewEvent | None = None

    def put(self, happened: Event) -> None:
        """Note an event."""
        match happened:
            case AcceptedEvent():
                self._events.append(
                    event("accepted", _encode({"backlog_seconds": happened.backlog, "snapshot": happened.lsn}))
                )
            case RestartedEvent():
                self._preview = None
                self._events.append(event("restarted", _encode({"restarts": happened.restarts})))
            case PreviewEvent():
                self._preview = happened
        self.changed.set()

    def take(self) -> tuple[bytes, bool]:
        """The new events, and whether a preview is among them."""
        self.changed.clear()
        chunks, self._events = self._events, []
        latest, self._preview = self._preview, None
        if latest is not None:
            shown = latest.preview
            progress: dict[str, object] = {"step": shown.step, "of": shown.of}
            name = "preview" if shown.body else "step"
            chunks.append(event(name, _encode({**progress, **shown.body})))
        return b"".join(chunks), latest is not None


class EventStream(Response):
    """The answer as events. It starts when the request is admitted, so that refusals keep their HTTP status."""

    def __init__(self, front: Front, asked: Asked) -> None:
        super().__init__()
        self._front = front
        self._asked = asked
        self._started = False
        self._previewed = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; see ASGI."""
        if await unless_gone(self._stream(scope, receive, send), scope, receive) is None:
            self._front.meter.client_gone(self._asked.kind)

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> bool:
        mailbox = _Mailbox()
        work = asyncio.create_task(generate(self._front, self._asked, mailbox.put))
        work.add_done_callback(lambda _: mailbox.changed.set())
        try:
            while not work.done():
                await self._send(send, await self._next(mailbox))
            error = work.exception()
            if error is not None and not self._started:
                if not isinstance(error, PerfuseError):
                    raise error
                await response_of(error, self._asked.exchange.request_id)(scope, receive, send)
                return True
            last = event("result", work.result()) if error is None else self._failure(error)
            await self._send(send, self._take(mailbox) + last)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            work.cancel()
        return True

    async def _next(self, mailbox: _Mailbox) -> bytes:
        """What is to be sent next; a comment now and then keeps proxies from closing the connection."""
        try:
            async with asyncio.timeout(PING_SECONDS):
                await mailbox.changed.wait()
        except TimeoutError:
            return _PING if self._started else b""
        return self._take(mailbox)

    def _take(self, mailbox: _Mailbox) -> bytes:
        chunk, has_preview = mailbox.take()
        if has_preview and not self._previewed:
            self._previewed = True
            self._front.meter.first_preview(self._asked.kind, self._asked.exchange.seconds())
        return chunk

    async def _send(self, send: Send, chunk: bytes) -> None:
        if not chunk:
            return
        if not self._started:
            self._started = True
            await send({"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})
        await send({"type": "http.response.body", "body": chunk, "more_body": True})

    def _failure(self, error: BaseException) -> bytes:
        if not isinstance(error, PerfuseError):
            _log.error("request_failed", exc_info=error, kind=self._asked.kind)
            error = unforeseen()
        return event("error", encode(problem_of(error, self._asked.exchange.request_id)))
