"""One connection from the front to one engine: frames, what it advertised last, and the jobs it holds."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import msgspec

from perfuse import logging, wire
from perfuse.dispatch.pool import Event
from perfuse.engine import flight

_log = logging.get(__name__)

Accepting = wire.Accepted | wire.PreviewFrame | wire.Finished | wire.Problem
"""Messages about one job."""

_RECONNECT_SECONDS = 0.1
_REFUSED_SECONDS = 1.0
_STALE_SECONDS = 2.0
"""An engine silent for so long is not chosen while another one speaks."""
_SMOOTHING = 0.2
_SILENT_SECONDS = 10.0
"""After which an engine on another host counts as lost; engines speak four times a second."""
REMOTE = "tcp://"
_LOOKS_FOR_END = 50
_LOOK_SECONDS = 0.01
"""The supervisor notes how an engine ended within milliseconds of its connection's end."""


@dataclass(slots=True, eq=False, kw_only=True)
class PendingJob:
    """A request that is not answered.

    Attributes:
        deadline: on the pool's clock.
        since: when it came.
        link: the engine that has it, None while it waits for one.
        solo: a suspect; asks for batches of its own.
        solo_crashes: engines that died while it ran as a suspect.
        outside: engines that somebody ended from outside while they had it.
        tenant: whose it is.
    """

    id: int
    modality: wire.Modality
    packed: msgspec.Raw
    priority: int
    deadline: float | None
    previews: bool
    since: float
    future: asyncio.Future[wire.Finished]
    on_event: Callable[[Event], None] | None
    link: EngineLink | None = None
    accepted: bool = False
    lsn: int = 0
    restarts: int = 0
    solo: bool = False
    solo_crashes: int = 0
    outside: int = 0
    tenant: str = ""


class Pool(Protocol):
    """Who owns the links (`perfuse.dispatch.engines.EnginePool`)."""

    def link_ready(self, link: EngineLink) -> None:
        """It can take jobs."""

    def link_lost(self, link: EngineLink, jobs: list[PendingJob], *, from_outside: bool) -> None:
        """It is gone, with these jobs; `from_outside`: certainly not because of them."""

    def link_says(self, link: EngineLink, job: PendingJob, message: Accepting) -> None:
        """A message about a job."""


class EngineLink(asyncio.Protocol):
    """The connection to one engine, made again whenever it is lost.

    Args:
        index: number of the engine.
        path: its socket, or `tcp://host:port` of one on another host.
        pool: told of everything.
        clock: seconds, monotonic.
        token: that engines on other hosts expect.

    Attributes:
        jobs: submitted and not answered, by id.
        ready: whether hello was said on the present connection.
        draining: whether it refused a job because it is about to end.
        unanswered: how many of `jobs` it has neither taken nor refused.
        full: whether it has refused a job for its backlog, and not said since that there is room.
        remote: whether it is on another host. Its loss accuses no request at first: the network may have failed.
        deaths: connections lost after hello.
        lost_at: when the last of them was lost, on the pool's clock.
    """

    def __init__(
        self, index: int, path: str, pool: Pool, clock: Callable[[], float] = time.monotonic, token: str = ""
    ) -> None:
        self.index = index
        self.path = path
        self.remote = path.startswith(REMOTE)
        self._token = token
        self.jobs: dict[int, PendingJob] = {}
        self.ready = False
        self.draining = False
        self.full = False
        self.unanswered = 0
        self.deaths = 0
        self.lost_at = -math.inf
        self.pid: int | None = None
        self.models: list[wire.ModelInfo] = []
        self.backlog_limit = 0.0
        self.flight = ""
        self.busy = False
        self.last_step_age = 0.0
        self.counters: dict[str, float] = {}
        self._pool = pool
        self._clock = clock
        self._backlog = 0.0
        self._heard_at = 0.0
        self._mean_seconds = 0.01
        self._reader = wire.FrameReader()
        self._transport: asyncio.Transport | None = None
        self._unsent: list[bytes] = []
        self._lost = asyncio.Event()

    async def keep_connected(self) -> None:
        """Connect, and again whenever the connection is lost. Runs until cancelled."""
        while True:
            self._lost.clear()
            deaths = self.deaths
            try:
                await self._connect()
            except OSError as error:
                _log.debug("engine_unreachable", engine=self.index, reason=str(error))
                await asyncio.sleep(_RECONNECT_SECONDS)
            else:
                await self._until_lost()
                if self.deaths > deaths:
                    await self._hand_back()
                elif self.remote:
                    _log.warning("engine_hangs_up", engine=self.index, hint="does it know the same --engine-token?")
                    await asyncio.sleep(_REFUSED_SECONDS)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        if not self.remote:
            await loop.create_unix_connection(lambda: self, self.path)
            return
        host, _, port = self.path.removeprefix(REMOTE).rpartition(":")
        async with asyncio.timeout(_SILENT_SECONDS):
            await loop.create_connection(lambda: self, host.strip("[]"), int(port))

    async def _until_lost(self) -> None:
        """A machine that vanishes closes no connection: its silence ends it here."""
        self._heard_at = self._clock()
        while not self._lost.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SILENT_SECONDS if self.remote else None):
                    await self._lost.wait()
            if self._transport is not None and self._clock() - self._heard_at > _SILENT_SECONDS:
                _log.warning("engine_silent", engine=self.index, seconds=_SILENT_SECONDS)
                self._transport.abort()

    async def _hand_back(self) -> None:
        """Give the jobs of a dead engine to the pool once the supervisor has noted how the engine ended."""
        from_outside: bool | None = None
        for _ in range(_LOOKS_FOR_END if self.jobs and self.flight else 0):
            if (from_outside := flight.ended_from_outside(Path(self.flight))) is not None:
                break
            await asyncio.sleep(_LOOK_SECONDS)
        jobs, self.jobs = list(self.jobs.values()), {}
        for job in jobs:
            job.link = None
        self._pool.link_lost(self, jobs, from_outside=from_outside is True)

    def close(self) -> None:
        """Disconnect, telling nobody."""
        self.jobs.clear()
        self.ready = False
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    # load ----------------------------------------------------------------------------------------------------------

    def backlog_now(self) -> float:
        """Seconds of admitted work, from the last advertisement less the time passed since."""
        return max(0.0, self._backlog - (self._clock() - self._heard_at))

    def load(self) -> tuple[bool, bool, float, int]:
        """Order of preference: answering, taking jobs, least work, fewest jobs."""
        stale = self._clock() - self._heard_at > _STALE_SECONDS
        return stale, self.full, self.backlog_now() + self.unanswered * self._mean_seconds, len(self.jobs)

    def overloaded(self, seconds: float) -> None:
        """It refused a job because it has this much to do."""
        self._advertised(seconds)
        self.full = True

    def _advertised(self, backlog: float) -> None:
        self.full = False
        self._backlog = backlog
        self._heard_at = self._clock()

    # sending -------------------------------------------------------------------------------------------------------

    def submit(self, job: PendingJob, deadline_seconds: float | None) -> None:
        """Send the job."""
        job.link = self
        job.accepted = False
        self.jobs[job.id] = job
        self.unanswered += 1
        self.send(
            wire.Submit(
                id=job.id,
                modality=job.modality,
                request=job.packed,
                priority=job.priority,
                deadline_seconds=deadline_seconds,
                previews=job.previews,
                solo=job.solo,
                tenant=job.tenant,
            )
        )

    def send(self, message: wire.Message) -> None:
        """Send a frame, if connected: at the end of this turn of the loop, with all others of the turn."""
        if self._transport is not None:
            if not self._unsent:
                asyncio.get_running_loop().call_soon(self._flush)
            self._unsent.append(wire.frame(message))

    def _flush(self) -> None:
        frames, self._unsent = self._unsent, []
        if self._transport is not None:
            self._transport.write(b"".join(frames))

    def forget(self, job: PendingJob) -> None:
        """The job is answered or withdrawn."""
        self.jobs.pop(job.id, None)
        if not job.accepted:
            self.unanswered = max(0, self.unanswered - 1)
        job.link = None

    # asyncio.Protocol ------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected; the engine speaks first."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no subclass
        self._reader = wire.FrameReader()
        if self.remote:
            self._transport.write(wire.frame(wire.Greet(token=self._token)))

    def data_received(self, data: bytes) -> None:
        """Frames from the engine."""
        try:
            for body in self._reader.feed(data):
                self._received(wire.decode_engine(body))
        except ValueError as error:
            _log.error("malformed_frame", engine=self.index, reason=str(error))
            if self._transport is not None:
                self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The engine has died or closed."""
        del exc
        self._transport = None
        self._unsent.clear()
        was_ready, self.ready = self.ready, False
        self.unanswered = 0
        self._backlog = 0.0
        self.busy = False
        if was_ready:
            self.deaths += 1
            self.lost_at = self._clock()
        self._lost.set()

    def _received(self, message: wire.EngineMessage) -> None:
        match message:
            case wire.Heartbeat():
                self.busy = message.busy
                self.last_step_age = message.last_step_age
                self.counters = message.counters
                self._advertised(message.backlog)
            case wire.Hello():
                self._hello(message)
            case _:
                if (job := self.jobs.get(message.id)) is not None:
                    self._about(job, message)

    def _about(self, job: PendingJob, message: Accepting) -> None:
        if isinstance(message, wire.Accepted):
            self.unanswered = max(0, self.unanswered - 1)
            added = max(message.backlog - self.backlog_now(), 0.0)
            self._mean_seconds += _SMOOTHING * (added - self._mean_seconds)
            self._advertised(message.backlog)
        self._pool.link_says(self, job, message)

    def _hello(self, hello: wire.Hello) -> None:
        if hello.protocol != wire.PROTOCOL:
            raise ValueError(f"the engine speaks protocol {hello.protocol}, this front {wire.PROTOCOL}")
        self.pid = hello.pid
        self.models = hello.models
        self.backlog_limit = hello.backlog_limit
        self.flight = hello.flight
        self.draining = False
        self.ready = True
        self._advertised(0.0)
        self._pool.link_ready(self)
