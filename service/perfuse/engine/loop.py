"""The engine: resumes coroutines, collects their calls, computes one batch at a time.

One thread runs `run_forever`; `submit`, `cancel` and `stop` may be called from any other. Time comes from `clock`, so
tests drive the whole engine on a fake one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

from perfuse.engine.backlog import Backlog, seconds_of
from perfuse.engine.compute import Computer, Outcome
from perfuse.engine.cost import CostModel
from perfuse.engine.run import EngineRun, Forwards, Job, Offload, Running, Sink
from perfuse.engine.scheduler import Batch, BatchKey, PendingCall, Scheduler, rank
from perfuse.errors import DeadlineExceeded, GenerationFailed, InvalidRequest, PerfuseError
from perfuse.models.call import Call
from perfuse.pipelines.alone import EmptySnapshot
from perfuse.pipelines.contract import Demand, Pipeline, Snapshot
from perfuse.requests import Result

_log = logging.getLogger(__name__)

AnyPipeline = Pipeline[Any, Any]  # the modality of a job selects it; each pipeline checks its own request type
IDLE_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Admitted:
    """What a submitter learns at once: seconds of work in a new request's way, and the store snapshot it will see."""

    backlog: float
    lsn: int


@dataclass(slots=True)
class Counters:
    """Monotonic counts since start. A step is one computed row."""

    batches: int = 0
    rows: int = 0
    rows_wasted: int = 0
    finished: int = 0
    failed: int = 0
    cancelled: int = 0
    refused: int = 0
    compute_seconds: float = 0.0
    host_seconds: float = 0.0


class Engine:
    """Runs the pipelines of all admitted jobs.

    Args:
        pipelines: one per modality.
        threads: compute threads.
        backlog_limit: seconds of admitted work beyond which jobs are refused.
        reproducible: treat every job as reproducible.
        cost: a cost model; made here if None.
        snapshots: gives the newest store view.
        on_batch: told whose code is about to run, before a job starts and before a batch (the flight record).
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        pipelines: Mapping[str, AnyPipeline],
        *,
        threads: int = 1,
        backlog_limit: float = 10.0,
        reproducible: bool = False,
        cost: CostModel | None = None,
        snapshots: Callable[[], Snapshot] = EmptySnapshot,
        on_batch: Callable[[Sequence[int]], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pipelines = pipelines
        self.cost = cost or CostModel(threads=threads)
        self.backlog = Backlog(backlog_limit)
        self.counters = Counters()
        self._scheduler = Scheduler(self.cost)
        self._computer = Computer(threads)
        self._hosts = ThreadPoolExecutor(2, thread_name_prefix="offload")
        self._reproducible = reproducible
        self._snapshots = snapshots
        self._on_batch = on_batch
        self._clock = clock
        self._running: dict[int, Running] = {}
        self._inbox: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._stopping = False
        self._offloaded = 0
        self.busy = False
        self.last_step_at = clock()

    # any thread ------------------------------------------------------------------------------------------------

    def submit(self, job: Job, sink: Sink) -> Admitted:
        """Validate, admit and queue a job.

        Raises:
            InvalidRequest: the pipeline refuses the request.
            Overloaded: the backlog is full.
        """
        if (pipeline := self._pipelines.get(job.modality)) is None:
            raise InvalidRequest(
                f"modality {job.modality!r} is not served; this server has {sorted(self._pipelines)}",
                field="/modality",
                hint="load a model of that modality",
            )
        demands = pipeline.estimate(job.request)
        try:
            self.backlog.admit(job.id, seconds_of(demands, self.cost), job.priority)
        except PerfuseError:
            self.counters.refused += 1
            raise
        snapshot = self._snapshots()
        now = self._clock()
        run = EngineRun(job, snapshot, sink, self._clock)
        self._inbox.put(partial(self._start, job, sink, pipeline, run, demands, now))
        return Admitted(self.backlog.ahead(), snapshot.lsn)

    def cancel(self, job: int) -> None:
        """Nobody waits for the job any more: no further row of it is computed."""
        self._inbox.put(partial(self._cancel, job))

    def stop(self) -> None:
        """Let `run_forever` return after the present batch."""
        self._inbox.put(self._stop)

    # the compute thread ----------------------------------------------------------------------------------------

    def run_forever(self) -> None:
        """Serve until `stop`."""
        while not self._stopping:
            if not self.step():
                self.busy = False
                self._wait()
        for running in list(self._running.values()):
            self._cancel(running.job.id)
        self._computer.close()
        self._hosts.shutdown()

    def run_until_idle(self) -> None:
        """Serve until nothing is left to compute (tests, warm-up, benchmarks)."""
        while self.step() or self._offloaded:
            if self._offloaded and not len(self._scheduler):
                self._inbox.get()()

    def step(self) -> bool:
        """Take in what has arrived and compute one batch. False if there was none."""
        self._take_in()
        batch = self._next_batch()
        if batch is None:
            self.last_step_at = self._clock()
            return False
        self.busy = True
        self._compute(batch)
        self.last_step_at = self._clock()
        return True

    def _wait(self) -> None:
        try:
            self._inbox.get(timeout=IDLE_SECONDS)()
        except Empty:
            self.last_step_at = self._clock()

    def _take_in(self) -> None:
        while True:
            try:
                command = self._inbox.get_nowait()
            except Empty:
                return
            command()

    def _stop(self) -> None:
        self._stopping = True

    def _start(
        self,
        job: Job,
        sink: Sink,
        pipeline: AnyPipeline,
        run: EngineRun,
        demands: Sequence[Demand],
        admitted: float,
    ) -> None:
        estimated = sum(demand.calls for demand in demands)
        expected = sum(demand.calls * self.cost.usage(demand.kind) for demand in demands)
        running = Running(
            job=job,
            sink=sink,
            coroutine=pipeline.run(job.request, run),
            admitted=admitted,
            kinds=frozenset(demand.kind for demand in demands),
            estimated_calls=estimated,
            expected_calls=expected,
            row_seconds=seconds_of(demands, self.cost) / max(expected, 1.0),
        )
        self._running[job.id] = running
        if self._on_batch is not None:
            self._on_batch((job.id,))
        self._resume(running, None)

    def _cancel(self, job: int) -> None:
        if (running := self._running.pop(job, None)) is not None:
            running.coroutine.close()
            self._scheduler.drop(job)
            self.backlog.release(job)
            self.counters.cancelled += 1

    def _resume(self, running: Running, value: object, error: PerfuseError | None = None) -> None:
        try:
            wish = running.coroutine.send(value) if error is None else running.coroutine.throw(error)
        except StopIteration as stop:
            self._finish(running, stop.value)
        except PerfuseError as failure:
            self._fail(running, failure)
        except Exception as failure:  # noqa: BLE001 (a pipeline may be a plug-in; its fault is its own request's)
            _log.exception("pipeline_raised", extra={"modality": running.job.modality})
            self._fail(running, GenerationFailed(f"the pipeline raised {type(failure).__name__}: {failure}"))
        else:
            self._await(running, wish)

    def _await(self, running: Running, wish: Forwards | Offload) -> None:
        if isinstance(wish, Offload):
            self._offloaded += 1
            future = self._hosts.submit(wish.fn)
            future.add_done_callback(lambda done: self._inbox.put(partial(self._offload_done, running, done)))
            return
        running.outputs = [None] * len(wish.calls)
        running.missing = len(wish.calls)
        running.error = None
        if not wish.calls:
            self._resume(running, ())
            return
        job = running.job
        size = running.expected_calls * running.row_seconds
        urgency = rank(
            admitted=running.admitted,
            remaining=running.remaining_seconds(),
            priority=job.priority,
            deadline=job.deadline,
        )
        for index, call in enumerate(wish.calls):
            self._scheduler.add(PendingCall(call, self._key(job, call), job.id, index, urgency, size))

    def _key(self, job: Job, call: Call) -> BatchKey:
        reproducible = self._reproducible or job.request.reproducible
        adapted = call.adaptation if reproducible else None
        return BatchKey(call.network.name, call.network.key(call), reproducible, job.id if job.solo else None, adapted)

    def _offload_done(self, running: Running, done: Future[object]) -> None:
        self._offloaded -= 1
        if running.job.id not in self._running:
            return
        failure = done.exception()
        if failure is None:
            self._resume(running, done.result())
        elif isinstance(failure, PerfuseError):
            self._resume(running, None, failure)
        else:
            _log.error("offload_raised", exc_info=failure)
            self._resume(running, None, GenerationFailed(f"host work raised {type(failure).__name__}: {failure}"))

    def _next_batch(self) -> Batch | None:
        while (batch := self._scheduler.next(self.backlog.seconds)) is not None:
            now = self._clock()
            for job in {call.job for call in batch.calls}:
                running = self._running[job]
                if running.job.deadline is not None and now >= running.job.deadline:
                    batch.calls = [call for call in batch.calls if call.job != job]
                    self._scheduler.drop(job)
                    self._resume(running, None, _too_late(running))
            if batch.calls:
                return batch
        return None

    def _compute(self, batch: Batch) -> None:
        jobs = list(dict.fromkeys(call.job for call in batch.calls))
        if self._on_batch is not None:
            self._on_batch(jobs)
        started = self._clock()
        for job in jobs:
            running = self._running[job]
            running.started = started if running.started is None else running.started
        rows = [pending.call for pending in batch.calls]
        outcomes = self._forward(batch, rows)
        computed = self._clock()
        self._deliver(batch, jobs, outcomes)
        ended = self._clock()
        self.counters.batches += 1
        self.counters.rows += len(rows)
        self.counters.compute_seconds += computed - started
        self.counters.host_seconds += ended - computed
        self.cost.observe(batch.key.kind, len(rows), ended - started)

    def _forward(self, batch: Batch, rows: Sequence[Call]) -> list[Outcome]:
        if batch.key.reproducible:
            return self._computer.compute_reproducible(rows)
        kind = batch.key.kind
        blocks = self.cost.blocks(kind, len(rows))
        started = self._clock()
        outcomes = self._computer.compute(rows, blocks)
        self.cost.observe_split(kind, len(rows), blocks, self._clock() - started)
        return outcomes

    def _deliver(self, batch: Batch, jobs: Sequence[int], outcomes: Sequence[Outcome]) -> None:
        for pending, outcome in zip(batch.calls, outcomes, strict=True):
            running = self._running[pending.job]
            running.calls_done += 1
            running.missing -= 1
            if isinstance(outcome, PerfuseError):
                running.error = running.error or outcome
            else:
                running.outputs[pending.index] = outcome
        self._take_in()
        for job in jobs:
            if job not in self._running:
                self.counters.rows_wasted += sum(call.job == job for call in batch.calls)
                continue
            running = self._running[job]
            self.backlog.update(job, running.remaining_seconds())
            if running.error is not None:
                self._scheduler.drop(job)
                self._resume(running, None, running.error)
            elif running.missing == 0:
                self._resume(running, tuple(running.outputs))

    def _finish(self, running: Running, result: Result) -> None:
        self._forget(running)
        self.counters.finished += 1
        for kind in running.kinds:
            self.cost.observe_usage(kind, running.calls_done / max(running.estimated_calls, 1))
        now = self._clock()
        started = now if running.started is None else running.started
        running.sink.finished(running.job.id, result, started - running.admitted, now - started)

    def _fail(self, running: Running, error: PerfuseError) -> None:
        self._forget(running)
        self.counters.failed += 1
        running.sink.failed(running.job.id, error)

    def _forget(self, running: Running) -> None:
        self._running.pop(running.job.id, None)
        self.backlog.release(running.job.id)


def _too_late(running: Running) -> DeadlineExceeded:
    return DeadlineExceeded(
        f"the deadline passed after {running.calls_done} of about {running.expected_calls:.0f} forwards",
        field="/deadline_ms",
        hint="allow more time, or ask for fewer steps or candidates",
    )
