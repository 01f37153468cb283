"""The I/O side of an engine process: frames in, jobs to the compute thread, events out. One asyncio thread.

Knows no model: an `Engine` (or a scripted one in tests) does the work on its own thread and calls back into `_Outbox`.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

import msgspec

from perfuse import logging, wire
from perfuse.engine.run import Job, Sink
from perfuse.errors import GenerationFailed, InvalidRequest, PerfuseError, Unavailable
from perfuse.requests import Preview, Result

_log = logging.get(__name__)

HEARTBEAT_SECONDS = 0.25
_GREETING_SECONDS = 5.0
_GREETING_BYTES = 1024
"""What is read from a front that has not said the token."""
_MAX_ID = 2**63
_MAX_UNREAD = 1 << 20
"""Bytes a front may leave unread before it gets no more heartbeats."""


class Admission(Protocol):
    """What the engine says when it has taken a job."""

    @property
    def backlog(self) -> float:
        """Seconds of work to be done, this job included."""
        ...

    @property
    def lsn(self) -> int:
        """The store snapshot pinned for the job."""
        ...


class Jobs(Protocol):
    """What the I/O side needs of an engine (`perfuse.engine.loop.Engine`)."""

    def submit(self, job: Job, sink: Sink) -> Admission:
        """Validate, admit and queue. Raises PerfuseError."""
        ...

    def cancel(self, job: int) -> None:
        """Nobody waits for the job any more."""
        ...


class Pulse(Protocol):
    """The state of the compute thread."""

    def heartbeat(self, now: float) -> wire.Heartbeat:
        """The state at `now` (`time.monotonic()`)."""
        ...


@dataclass(slots=True, eq=False)
class _Open:
    """A job that is not finished: whose it is, and its previews (latest wins, one unacknowledged)."""

    link: _Link
    modality: wire.Modality
    previews: bool
    unseen: bool = False
    latest: Preview | None = None


class EngineServer:
    """Serves any number of fronts on a listening socket.

    Args:
        jobs: the engine.
        pulse: its state.
        hello: the first frame of every connection.
        on_heartbeat: told the time and the state, every `HEARTBEAT_SECONDS` (the watchdog and the flight record).
        token: fronts on other hosts must know it; "": only this machine's can connect at all.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        jobs: Jobs,
        pulse: Pulse,
        hello: wire.Hello,
        *,
        on_heartbeat: Callable[[float, wire.Heartbeat], None] | None = None,
        token: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._jobs = jobs
        self._token = token
        self._pulse = pulse
        self._hello = wire.frame(hello)
        self._on_heartbeat = on_heartbeat
        self._clock = clock
        self._links: set[_Link] = set()
        self._open: dict[int, _Open] = {}
        self._draining = False
        self._drained = asyncio.Event()
        self._outbox = _Outbox(self._deliver)

    @property
    def open_jobs(self) -> int:
        """Jobs taken and not finished."""
        return len(self._open)

    def protocol(self) -> asyncio.Protocol:
        """The protocol of a new connection, for `loop.create_unix_server`."""
        return _Link(self, self._token)

    async def run(self) -> None:
        """Send heartbeats until drained."""
        while not self._drained.is_set():
            now = self._clock()
            beat = self._pulse.heartbeat(now)
            data = wire.frame(beat)
            for link in self._links:
                if link.unread() < _MAX_UNREAD:
                    link.write(data)
            if self._on_heartbeat is not None:
                self._on_heartbeat(now, beat)
            try:
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    await self._drained.wait()
            except TimeoutError:
                continue
        for link in list(self._links):
            link.close()

    def drain(self) -> None:
        """Take nothing new; `run` returns when what is open is finished."""
        self._draining = True
        self._check_drained()

    def stop(self) -> None:
        """Let `run` return now."""
        self._drained.set()

    # what links report -----------------------------------------------------------------------------------------

    def opened(self, link: _Link) -> None:
        """A front has connected."""
        self._links.add(link)
        link.write(self._hello)
        link.write(wire.frame(self._pulse.heartbeat(self._clock())))

    def closed(self, link: _Link) -> None:
        """A front has gone: nobody waits for its jobs."""
        self._links.discard(link)
        for identity in [identity for identity, job in self._open.items() if job.link is link]:
            self._cancel(identity)

    def received(self, link: _Link, message: wire.FrontMessage) -> None:
        """A front says something."""
        match message:
            case wire.Submit():
                self._submit(link, message)
            case wire.Cancel():
                if (job := self._open.get(message.id)) is not None and job.link is link:
                    self._cancel(message.id)
            case wire.PreviewSeen():
                if (job := self._open.get(message.id)) is not None and job.link is link:
                    self._seen(message.id, job)
            case wire.Drain():
                self.drain()
            case wire.Greet():
                raise ValueError("a greeting came to an engine that expects none")

    def _submit(self, link: _Link, message: wire.Submit) -> None:
        if not 0 <= message.id < _MAX_ID or message.id in self._open:
            raise ValueError(f"expected a new job id below 2**63, got {message.id}")
        if self._draining:
            refusal = Unavailable("this engine is draining and takes nothing new", hint="try again", retry_after=1.0)
            link.send(wire.problem_of(message.id, refusal))
            return
        self._open[message.id] = _Open(link, message.modality, message.previews)
        try:
            admitted = self._jobs.submit(self._job(message), self._outbox)
        except PerfuseError as error:
            del self._open[message.id]
            link.send(wire.problem_of(message.id, error))
        else:
            link.send(wire.Accepted(id=message.id, backlog=admitted.backlog, lsn=admitted.lsn))

    def _job(self, message: wire.Submit) -> Job:
        try:
            request = wire.unpack_request(message.modality, message.request)
        except msgspec.DecodeError as error:
            raise InvalidRequest(
                f"the request record of modality {message.modality!r} does not decode: {error}"
            ) from None
        deadline = None if message.deadline_seconds is None else self._clock() + message.deadline_seconds
        return Job(
            id=message.id,
            modality=message.modality,
            request=request,
            priority=message.priority,
            deadline=deadline,
            previews=message.previews,
            solo=message.solo,
            tenant=message.tenant,
        )

    def _cancel(self, identity: int) -> None:
        del self._open[identity]
        self._jobs.cancel(identity)
        self._check_drained()

    def _seen(self, identity: int, job: _Open) -> None:
        if job.latest is None:
            job.unseen = False
        else:
            job.link.send(_preview_frame(identity, job.latest))
            job.latest = None

    def _check_drained(self) -> None:
        if self._draining and not self._open:
            self._drained.set()

    # what the compute thread reports, on the I/O thread -----------------------------------------------------------

    def _deliver(self, identity: int, event: _Event) -> None:
        if (job := self._open.get(identity)) is None:
            return
        if isinstance(event, Preview):
            if not job.previews:
                return
            if job.unseen:
                job.latest = event
            else:
                job.unseen = True
                job.link.send(_preview_frame(identity, event))
            return
        del self._open[identity]
        if isinstance(event, PerfuseError):
            job.link.send(wire.problem_of(identity, event))
        else:
            job.link.send(_finished(identity, job.modality, event))
        self._check_drained()


@dataclass(frozen=True, slots=True)
class _Done:
    """A finished job: its result and the seconds it waited and computed."""

    result: Result
    queue_seconds: float
    compute_seconds: float


_Event = Preview | PerfuseError | _Done


class _Outbox:
    """Carries events of the compute thread over to the I/O thread, waking it once for many."""

    def __init__(self, deliver: Callable[[int, _Event], None]) -> None:
        self._deliver = deliver
        self._events: deque[tuple[int, _Event]] = deque()
        self._awake = False
        self._loop = asyncio.get_running_loop()

    def preview(self, job: int, preview: Preview) -> None:
        """See `Sink`."""
        self._put(job, preview)

    def finished(self, job: int, result: Result, queue_seconds: float, compute_seconds: float) -> None:
        """See `Sink`."""
        self._put(job, _Done(result, queue_seconds, compute_seconds))

    def failed(self, job: int, error: PerfuseError) -> None:
        """See `Sink`."""
        self._put(job, error)

    def _put(self, job: int, event: _Event) -> None:
        self._events.append((job, event))
        if not self._awake:
            self._awake = True
            self._loop.call_soon_threadsafe(self._empty)

    def _empty(self) -> None:
        self._awake = False  # before emptying: an event that comes now wakes again
        while self._events:
            self._deliver(*self._events.popleft())


class _Link(asyncio.Protocol):
    """One front's connection. A malformed frame ends it, and so does anything but the token, where there is one."""

    def __init__(self, server: EngineServer, token: str) -> None:
        self._server = server
        self._token = token
        self._reader = wire.FrameReader(_GREETING_BYTES if token else wire.MAX_FRAME)
        self._transport: asyncio.Transport | None = None
        self._unsent: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        if self._token:
            asyncio.get_running_loop().call_later(_GREETING_SECONDS, self._late)
        else:
            self._server.opened(self)

    def _late(self) -> None:
        if self._token and self._transport is not None:
            _log.warning("no_greeting", seconds=_GREETING_SECONDS)
            self._transport.abort()

    def _greeted(self, message: wire.FrontMessage) -> None:
        """From here on it is a front like any other."""
        if not isinstance(message, wire.Greet) or not hmac.compare_digest(message.token.encode(), self._token.encode()):
            raise ValueError("expected the token of this engine, got another one, or none")
        self._token = ""
        self._reader.limit = wire.MAX_FRAME
        self._server.opened(self)

    def data_received(self, data: bytes) -> None:
        try:
            for body in self._reader.feed(data):
                message = wire.decode_front(body)
                if self._token:
                    self._greeted(message)
                else:
                    self._server.received(self, message)
        except ValueError as error:
            _log.warning("malformed_frame", reason=str(error))
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._transport = None
        self._unsent.clear()
        self._server.closed(self)

    def send(self, message: wire.Message) -> None:
        self.write(wire.frame(message))

    def write(self, data: bytes) -> None:
        """Send at the end of this turn of the loop: what a batch has finished reaches the front as one piece."""
        if self._transport is not None:
            if not self._unsent:
                asyncio.get_running_loop().call_soon(self._flush)
            self._unsent.append(data)

    def _flush(self) -> None:
        frames, self._unsent = self._unsent, []
        if self._transport is not None and frames:
            self._transport.write(b"".join(frames))

    def unread(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def close(self) -> None:
        if self._transport is not None:
            self._flush()
            self._transport.close()


def _preview_frame(identity: int, preview: Preview) -> wire.PreviewFrame:
    return wire.PreviewFrame(id=identity, step=preview.step, of=preview.of, body=preview.body)


def _finished(identity: int, modality: wire.Modality, done: _Done) -> wire.Message:
    try:
        result = wire.pack(done.result)
    except TypeError as error:
        return wire.problem_of(identity, GenerationFailed(f"the result cannot be sent: {error}"))
    return wire.Finished(
        id=identity,
        modality=modality,
        result=result,
        queue_seconds=done.queue_seconds,
        compute_seconds=done.compute_seconds,
    )
