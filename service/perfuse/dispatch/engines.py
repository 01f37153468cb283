"""The front's side of the engines: which one takes a request, and what happens to it when an engine dies.

`EnginePool.run` sends a request to the ready engine with the least backlog and waits. No task is made
per request. The requests of a dead engine are sent again; who is suspected of having killed it is decided in
`perfuse.dispatch.suspects`. While no engine is ready, requests wait for one, so a restart costs time and loses nothing.

An engine is asked about `WINDOW` requests at a time. Of a thousand that come at once the first few fill its backlog,
and the rest is refused here, without being sent; those that come in by `admit` before their bodies are read.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from perfuse import logging, wire
from perfuse.dispatch.link import Accepting, EngineLink, PendingJob
from perfuse.dispatch.pool import AcceptedEvent, Completed, Event, PreviewEvent, RestartedEvent
from perfuse.dispatch.suspects import Verdict, judge
from perfuse.engine import flight
from perfuse.errors import DeadlineExceeded, Overloaded, PerfuseError, Unavailable, WorkerKilled
from perfuse.requests import Preview, Request

_log = logging.get(__name__)

HOLD_SECONDS = 30.0
MOST_HELD = 1024
WINDOW = 64
"""Requests that one engine may have neither taken nor refused."""
_TICK_SECONDS = 0.25
_RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class EngineState:
    """One engine as last heard of."""

    index: int
    ready: bool
    pid: int | None
    busy: bool
    last_step_age: float
    backlog: float
    in_flight: int
    deaths: int
    counters: dict[str, float]


class EnginePool:
    """All engines of this server, as one. Lives on one event loop.

    Args:
        engines: unix socket paths, or `tcp://host:port` of engines on other hosts.
        token: that those expect.
        hold_seconds: how long a request waits when no engine is ready.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        engines: Sequence[str],
        *,
        token: str = "",
        hold_seconds: float = HOLD_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hold_seconds = hold_seconds
        self._clock = clock
        self._links = [EngineLink(index, path, self, clock, token) for index, path in enumerate(engines)]
        self._ids = itertools.count(secrets.randbits(30) << 32)  # unlike those of any other front of the same engines
        self._held: deque[PendingJob] = deque()
        self._coming: deque[asyncio.Future[bool]] = deque()
        self._suspects: deque[PendingJob] = deque()
        self._solo: PendingJob | None = None
        self._started = clock()
        self._tasks: list[asyncio.Task[None]] = []
        self._restarted = 0
        self._killers = 0
        self._waiting = asyncio.Event()

    async def start(self) -> None:
        """Begin to connect, and go on doing so; returns at once."""
        self._started = self._clock()
        self._tasks = [asyncio.create_task(link.keep_connected()) for link in self._links]
        self._tasks.append(asyncio.create_task(self._tick()))

    async def close(self) -> None:
        """Disconnect; requests still waiting raise Unavailable."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        waiting = [*self._held, *self._suspects, *(job for link in self._links for job in link.jobs.values())]
        for link in self._links:
            link.close()
        self._let_in()
        for job in waiting:
            self._fail(job, Unavailable("the server is stopping", hint="try again", retry_after=1.0))

    # what the application sees ---------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether an engine that has answered its warm-up requests is connected."""
        return any(link.ready for link in self._links)

    @property
    def models(self) -> list[wire.ModelInfo]:
        """Models of the ready engines, each once; those last heard of while none is ready."""
        links = [link for link in self._links if link.ready] or self._links
        return list({model.name: model for link in links for model in link.models}.values())

    @property
    def engines(self) -> list[EngineState]:
        """Each engine as last heard of."""
        return [
            EngineState(
                index=link.index,
                ready=link.ready,
                pid=link.pid,
                busy=link.busy,
                last_step_age=link.last_step_age,
                backlog=link.backlog_now(),
                in_flight=len(link.jobs),
                deaths=link.deaths,
                counters=dict(link.counters),
            )
            for link in self._links
        ]

    def counters(self) -> dict[str, float]:
        """Sums over the engines, by metric name, and this pool's own counts. Grow except when an engine restarts."""
        sums: dict[str, float] = {
            "engines_ready": float(sum(link.ready for link in self._links)),
            "engine_deaths": float(sum(link.deaths for link in self._links)),
            "backlog_seconds": sum(link.backlog_now() for link in self._links),
            "in_flight": float(sum(len(link.jobs) for link in self._links)),
            "held": float(len(self._held) + len(self._suspects)),
            "restarted": float(self._restarted),
            "killers": float(self._killers),
        }
        for link in self._links:
            for name, value in link.counters.items():
                sums[name] = sums.get(name, 0.0) + value
        return sums

    async def admit(self) -> None:
        """Let a new request in, once an engine can be asked about it; cheap, as its body need not be read before.

        Raises:
            Overloaded: it would be refused, from what the engines advertised last.
        """
        if (refusal := self._refusal()) is not None:
            raise refusal
        if self._crowded():
            full: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            self._coming.append(full)
            if await full:
                raise _full([link for link in self._links if link.ready])

    def _crowded(self) -> bool:
        """Whether all engines that could answer have been asked about as many requests as they are at a time."""
        taking = self._taking
        return bool(taking) and all(link.unanswered >= WINDOW for link in taking)

    @property
    def _taking(self) -> list[EngineLink]:
        """Engines that take jobs."""
        return [link for link in self._links if link.ready and not link.draining]

    def _let_in(self) -> None:
        """Let those in that can be asked about now; all, if every engine is full (to be refused) or none is ready."""
        taking = self._taking
        full = bool(taking) and all(link.full for link in taking)
        room = sum(max(0, WINDOW - link.unanswered) for link in taking) - len(self._held)
        while self._coming and (room > 0 or full or not taking):
            waiting = self._coming.popleft()
            if not waiting.done():  # its client may have left
                waiting.set_result(full)
                room -= 1

    def _refusal(self) -> Overloaded | None:
        """Why a new request would be refused now, if it would."""
        if (waiting := len(self._held) + len(self._coming)) >= MOST_HELD:
            waits = f"{waiting} requests wait for one"
            return Overloaded(
                f"no engine has answered and {waits}" if self.ready else f"no engine is ready and {waits}",
                hint="try again after the Retry-After header",
                retry_after=5.0,
            )
        ready = [link for link in self._links if link.ready]
        for link in ready:
            if link.backlog_now() < link.backlog_limit * (0.5 if link.full else 1.0):  # a smaller job may yet fit
                return None
        return _full(ready) if ready else None

    async def run(
        self,
        modality: wire.Modality,
        request: Request,
        *,
        tenant: str = "",
        priority: int = 0,
        deadline_seconds: float | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> Completed:
        """Have a request computed. Cancelling the waiting task stops the computation.

        Args:
            modality: which pipeline.
            request: its request record.
            tenant: whose it is.
            priority: larger is sooner.
            deadline_seconds: seconds from now after which the best so far is wanted.
            on_event: told of admission, previews (only then are they made) and restarts; must not block.

        Raises:
            InvalidRequest, UnknownModel, CanvasTooLong, …: the pipeline refuses the request.
            Overloaded: the backlog is full; `retry_after` says when it will have drained.
            Unavailable: no engine became ready in time, or the server stops.
            DeadlineExceeded: not one step could be finished.
            GenerationFailed: its own forward failed; WorkerKilled: and took the engine with it, twice.
        """
        if (refusal := self._refusal()) is not None:
            raise refusal
        now = self._clock()
        job = PendingJob(
            id=next(self._ids),
            modality=modality,
            packed=wire.pack(request),
            priority=priority,
            deadline=None if deadline_seconds is None else now + deadline_seconds,
            previews=on_event is not None,
            since=now,
            future=asyncio.get_running_loop().create_future(),
            on_event=on_event,
            tenant=tenant,
        )
        self._place(job)
        try:
            finished: wire.Finished = await job.future
        except asyncio.CancelledError:
            self._withdraw(job)
            raise
        return Completed(
            result=wire.unpack_result(finished.modality, finished.result),
            queue_seconds=finished.queue_seconds,
            compute_seconds=finished.compute_seconds,
            lsn=job.lsn,
            restarts=job.restarts,
        )

    # what links report -----------------------------------------------------------------------------------------

    def link_ready(self, link: EngineLink) -> None:
        """An engine said hello: give it what waits."""
        _log.info("engine_connected", engine=link.index, pid=link.pid)
        self._use_room()
        self._next_suspect()

    def link_lost(self, link: EngineLink, jobs: list[PendingJob], *, from_outside: bool) -> None:
        """An engine died with these jobs: start each again, suspects one at a time, and refuse the culprit."""
        batch = frozenset() if link.remote else flight.batch_of(Path(link.flight)) if link.flight else None
        _log.warning("engine_lost", engine=link.index, jobs=len(jobs), from_outside=from_outside)
        verdicts = judge(jobs, batch, from_outside=from_outside)
        if self._solo in jobs:
            self._solo = None
        for job in jobs:
            verdict = verdicts[job]
            if verdict is Verdict.CULPRIT:
                self._killers += 1
                self._fail(job, _killer(job))
                continue
            job.restarts += 1
            self._restarted += 1
            self._tell(job, RestartedEvent(job.restarts))
            if verdict is Verdict.SUSPECT:
                job.solo = True
                self._suspects.append(job)
                self._waiting.set()
            else:
                self._place(job)
        self._next_suspect()
        self._use_room()

    def link_says(self, link: EngineLink, job: PendingJob, message: Accepting) -> None:
        """An engine says something about a job."""
        match message:
            case wire.Finished():
                link.forget(job)
                link.full = False
                if not job.future.done():
                    job.future.set_result(message)
                self._after(job)
            case wire.PreviewFrame():
                self._tell(job, PreviewEvent(Preview(step=message.step, of=message.of, body=message.body)))
                link.send(wire.PreviewSeen(id=job.id))
            case wire.Accepted():
                job.lsn = message.lsn
                job.accepted = True
                self._tell(job, AcceptedEvent(message.backlog, message.lsn))
            case wire.Problem():
                link.forget(job)
                self._problem(link, job, wire.error_of(message))
        self._use_room()

    @property
    def _dark_since(self) -> float:
        """When the last engine was lost, if none is ready."""
        return max(self._started, *(link.lost_at for link in self._links))

    # placing -----------------------------------------------------------------------------------------------------

    def _place(self, job: PendingJob) -> None:
        """Send the job to the engine with the least backlog, or keep it until one takes jobs."""
        if job.future.done():
            self._after(job)
        elif (link := self._choose()) is None:
            self._held.append(job)
            self._waiting.set()
        else:
            link.submit(job, None if job.deadline is None else max(0.0, job.deadline - self._clock()))

    def _choose(self) -> EngineLink | None:
        links = [link for link in self._links if link.unanswered < WINDOW and link.ready and not link.draining]
        return links[0] if len(links) == 1 else min(links, key=EngineLink.load, default=None)

    def _use_room(self) -> None:
        """An engine has answered, come or gone: go on with those who wait for one, and for being asked about."""
        if self._held:
            self._place_held()
        if self._coming:
            self._let_in()

    def _place_held(self) -> None:
        """Send what is held as far as engines take it, and refuse it where they have become full meanwhile."""
        ready = [link for link in self._links if link.ready]
        full = all(link.full for link in ready)
        while self._held and self._choose() is not None:
            job = self._held.popleft()
            if job.restarts or not full:
                self._place(job)
            else:
                self._fail(job, _full(ready))

    def _problem(self, link: EngineLink, job: PendingJob, error: PerfuseError) -> None:
        if type(error) is Unavailable and not job.accepted:
            link.draining = True
            self._place(job)
        elif isinstance(error, Overloaded) and job.restarts:
            # It was admitted once and is not refused now.
            wait = min(error.retry_after or _RETRY_SECONDS, _RETRY_SECONDS)
            asyncio.get_running_loop().call_later(wait, self._place, job)
        else:
            if isinstance(error, Overloaded) and job.priority >= 0:  # idle work finds no room where others do
                link.overloaded(error.retry_after or 0.0)
            self._fail(job, error)

    def _next_suspect(self) -> None:
        """One suspect at a time, and only with an engine to run it."""
        while self._solo is None and self._suspects and self.ready:
            job = self._suspects.popleft()
            if not job.future.done():
                self._solo = job
                self._place(job)

    def _after(self, job: PendingJob) -> None:
        if self._solo is job:
            self._solo = None
            self._next_suspect()

    def _fail(self, job: PendingJob, error: PerfuseError) -> None:
        if not job.future.done():
            job.future.set_exception(error)
        self._after(job)

    def _withdraw(self, job: PendingJob) -> None:
        """Nobody waits for the job any more."""
        if job.link is not None:
            job.link.send(wire.Cancel(id=job.id))
            job.link.forget(job)
            self._use_room()
        self._after(job)

    def _tell(self, job: PendingJob, event: Event) -> None:
        if job.on_event is not None and not job.future.done():
            job.on_event(event)

    async def _tick(self) -> None:
        """Let no request wait beyond its deadline, nor for ever for an engine."""
        while True:
            if not self._held and not self._suspects:
                self._waiting.clear()
                await self._waiting.wait()
            await asyncio.sleep(_TICK_SECONDS)
            now = self._clock()
            for queue in (self._held, self._suspects):
                for job in [job for job in queue if self._give_up(job, now)]:
                    queue.remove(job)

    def _give_up(self, job: PendingJob, now: float) -> bool:
        if job.future.done():
            return True
        if job.deadline is not None and now > job.deadline:
            self._fail(job, DeadlineExceeded("no engine was ready before the deadline", field="/deadline_ms"))
            return True
        if not self.ready and now - max(self._dark_since, job.since) > self._hold_seconds:
            self._fail(
                job,
                Unavailable(
                    f"no engine became ready within {self._hold_seconds:g} s",
                    hint="see the server's log; /readyz says when it works again",
                    retry_after=5.0,
                ),
            )
            return True
        return False


def _full(links: Sequence[EngineLink]) -> Overloaded:
    best = min(links, key=EngineLink.backlog_now)
    backlog = best.backlog_now()
    return Overloaded(
        f"{backlog:.1f} s of work are queued; at most {best.backlog_limit:g} s are taken on",
        hint="try again after the Retry-After header, or start more workers",
        retry_after=backlog,
    )


def _killer(job: PendingJob) -> WorkerKilled:
    return WorkerKilled(
        f"computing this request alone killed the engine process, after it had been in a batch whose engine died; "
        f"it was started {job.restarts + 1} times and is not started again",
        hint="the input makes the model's code crash; report it with the request",
    )
