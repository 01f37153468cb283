"""The engine's side of a running request: its coroutine, what it waits for, and the `Run` its pipeline sees."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Coroutine, Generator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, TypeVar

from torch import Tensor

from perfuse.diffusion import noise
from perfuse.errors import PerfuseError
from perfuse.models.call import Call, Output
from perfuse.pipelines.contract import P, Snapshot
from perfuse.requests import Preview, Request, Result

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A request as the engine takes it.

    Attributes:
        id: chosen by the caller, unique among running jobs.
        deadline: on the engine's clock, None for none.
        previews: whether somebody watches.
        solo: compute its rows in batches of their own (a suspect after a crash).
        tenant: whose it is.
    """

    id: int
    modality: str
    request: Request
    priority: int = 0
    deadline: float | None = None
    previews: bool = False
    solo: bool = False
    tenant: str = ""


class Sink(Protocol):
    """Where events of jobs go. Called on the compute thread; must not block."""

    def preview(self, job: int, preview: Preview) -> None:
        """There is something to show."""

    def finished(self, job: int, result: Result, queue_seconds: float, compute_seconds: float) -> None:
        """The job is done."""

    def failed(self, job: int, error: PerfuseError) -> None:
        """The job failed."""


@dataclass(slots=True)
class Answers:
    """A sink for whoever drives an engine itself (warm-up, benchmarks): keeps how each job ended, and when.

    Attributes:
        clock: of `ended`.
        results: by job; those that failed are in `errors`.
        ended: the clock's time, by job.
    """

    clock: Callable[[], float] = time.monotonic
    results: dict[int, Result] = field(default_factory=dict)
    errors: dict[int, PerfuseError] = field(default_factory=dict)
    ended: dict[int, float] = field(default_factory=dict)
    _changed: threading.Condition = field(default_factory=threading.Condition, init=False)

    def preview(self, job: int, preview: Preview) -> None:
        """Nobody watches."""

    def finished(self, job: int, result: Result, queue_seconds: float, compute_seconds: float) -> None:
        """Keep it."""
        del queue_seconds, compute_seconds
        with self._changed:
            self.results[job] = result
            self._ends(job)

    def failed(self, job: int, error: PerfuseError) -> None:
        """Keep it; `wait` raises it."""
        with self._changed:
            self.errors[job] = error
            self._ends(job)

    def _ends(self, job: int) -> None:
        self.ended[job] = self.clock()
        self._changed.notify_all()

    def wait(self, jobs: int) -> None:
        """Return once that many jobs have ended well.

        Raises:
            PerfuseError: that of the first job that failed, at once.
        """
        with self._changed:
            self._changed.wait_for(lambda: self.errors or len(self.ended) >= jobs)
        for error in self.errors.values():
            raise error


@dataclass(frozen=True, slots=True)
class Forwards:
    """A coroutine's wish: compute these calls."""

    calls: Sequence[Call]

    def __await__(self) -> Generator[Forwards, tuple[Output, ...], tuple[Output, ...]]:
        return (yield self)


@dataclass(frozen=True, slots=True)
class Offload:
    """A coroutine's wish: call this on a host thread."""

    fn: Callable[[], object]

    def __await__(self) -> Generator[Offload, object, object]:
        return (yield self)


class EngineRun:
    """The `Run` of one job. Lives on the compute thread."""

    def __init__(self, job: Job, snapshot: Snapshot, sink: Sink, clock: Callable[[], float]) -> None:
        self._job = job
        self._snapshot = snapshot
        self._sink = sink
        self._clock = clock
        self._reported_at: float | None = None
        self._step_seconds = 0.0

    @property
    def tenant(self) -> str:
        """Whose request it is."""
        return self._job.tenant

    @property
    def snapshot(self) -> Snapshot:
        """The store view pinned at admission."""
        return self._snapshot

    async def forward(self, *calls: Call) -> tuple[Output, ...]:
        """See `perfuse.pipelines.contract.Run.forward`."""
        return await Forwards(calls)

    async def offload(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See `perfuse.pipelines.contract.Run.offload`."""
        result: T = await Offload(partial(fn, *args, **kwargs))  # type: ignore[assignment]
        return result

    def uniform(self, purpose: str, step: int, positions: Tensor) -> Tensor:
        """See `perfuse.diffusion.noise.uniform`."""
        return noise.uniform(self._job.request.seed, purpose, step, positions)

    def report(self, step: int, of: int, **preview: object) -> bool:
        """False when the next step, as long as the last one, would end after the deadline."""
        now = self._clock()
        if self._reported_at is not None:
            self._step_seconds = now - self._reported_at
        self._reported_at = now
        if self._job.previews:
            self._sink.preview(self._job.id, Preview.of_values(step, of, preview))
        return self._job.deadline is None or now + self._step_seconds < self._job.deadline


@dataclass(slots=True, eq=False)
class Running:
    """State of one admitted job on the compute thread.

    Attributes:
        expected_calls: rows it will probably need; `calls_done` so far.
        row_seconds: engine seconds a row of this job costs, by the cost model at admission.
        outputs: outcomes of the present await, by index; `missing` of them are still to come.
        error: first failure among them.
    """

    job: Job
    sink: Sink
    coroutine: Coroutine[Forwards | Offload, object, Result]
    admitted: float
    kinds: frozenset[str]
    estimated_calls: int
    expected_calls: float
    row_seconds: float
    calls_done: int = 0
    started: float | None = None
    outputs: list[Output | None] = field(default_factory=list)
    missing: int = 0
    error: PerfuseError | None = None

    def remaining_seconds(self) -> float:
        """Engine seconds it probably still needs: at least one row's."""
        return max(self.expected_calls - self.calls_done, 1.0) * self.row_seconds
