"""A generation as server-sent events, and cancelling it when the client leaves.

Events: `accepted` {backlog_seconds, snapshot}, `step` {step, of}, `preview` {step, of, …}, `restarted` {restarts}, and
at the end `result` (the answer) or `error` (the problem). Previews: the latest wins while the client is slow.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Protocol, TypeVar

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from perfuse import logging
from perfuse.api.connection import WHEN_GONE
from perfuse.api.generate import Asked, Front, generate
from perfuse.api.middleware import CLIENT_CLOSED
from perfuse.api.problems import encode, problem_of, unforeseen
from perfuse.api.refusals import refusal
from perfuse.api.waiting import Arm, Stopped, unless
from perfuse.dispatch.pool import AcceptedEvent, Event, PreviewEvent, RestartedEvent
from perfuse.errors import PerfuseError
from perfuse.metrics import Metrics

_log = logging.get(__name__)
_encode = msgspec.json.Encoder().encode

PING_SECONDS = 15.0
_PING = b": ping\n\n"
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
        super().__init__(status_code=CLIENT_CLOSED)


class Telling(Protocol):
    """How one generation is told as events."""

    changed: asyncio.Event
    """Set when there is something to take."""

    async def run(self) -> bytes:
        """Generate, and give the last events. Raises PerfuseError."""
        ...

    def take(self) -> tuple[bytes, bool]:
        """The events since the last look, and whether a preview is among them."""
        ...

    def failure(self, error: PerfuseError) -> bytes:
        """The last events of a generation that failed on the way."""
        ...


class Told:
    """A generation in our own events; previews that nobody looked at are replaced by later ones."""

    def __init__(self, front: Front, asked: Asked) -> None:
        self.changed = asyncio.Event()
        self._front, self._asked = front, asked
        self._events: list[bytes] = []
        self._preview: PreviewEvent | None = None

    async def run(self) -> bytes:
        """See `Telling`."""
        return event("result", await generate(self._front, self._asked, self._put))

    def failure(self, error: PerfuseError) -> bytes:
        """See `Telling`."""
        return event("error", encode(problem_of(error, self._asked.exchange.request_id)))

    def _put(self, happened: Event) -> None:
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
        """See `Telling`."""
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
    """The answer as events. It starts when the request is admitted, so that refusals keep their HTTP status.

    Args:
        meter: counts.
        asked: the request.
        telling: what the events are.
    """

    def __init__(self, meter: Metrics, asked: Asked, telling: Telling) -> None:
        super().__init__()
        self._meter = meter
        self._asked = asked
        self._telling = telling
        self._started = False
        self._previewed = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; see ASGI."""
        if await unless_gone(self._stream(scope, receive, send), scope, receive) is None:
            self._meter.client_gone(self._asked.kind)

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> bool:
        work = asyncio.create_task(self._telling.run())
        work.add_done_callback(lambda _: self._telling.changed.set())
        try:
            while not work.done():
                await self._send(send, await self._next())
            error = work.exception()
            if error is not None and not self._started:
                if not isinstance(error, PerfuseError):
                    raise error
                await refusal(error, self._asked.exchange.kind, self._asked.exchange.request_id)(scope, receive, send)
                return True
            last = work.result() if error is None else self._failure(error)
            await self._send(send, self._take() + last)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            work.cancel()
        return True

    async def _next(self) -> bytes:
        """What is to be sent next; a comment now and then keeps proxies from closing the connection."""
        try:
            async with asyncio.timeout(PING_SECONDS):
                await self._telling.changed.wait()
        except TimeoutError:
            return _PING if self._started else b""
        return self._take()

    def _take(self) -> bytes:
        chunk, has_preview = self._telling.take()
        if has_preview and not self._previewed:
            self._previewed = True
            self._meter.first_preview(self._asked.kind, self._asked.exchange.seconds())
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
        return self._telling.failure(error)
