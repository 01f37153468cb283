"""What every pipeline must do, as functions over a `Case`; run by tests/unit/pipelines/test_conformance.py."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

from perfuse.engine.cost import CostModel
from perfuse.engine.loop import Engine
from perfuse.engine.run import Job
from perfuse.errors import DeadlineExceeded, GenerationFailed
from perfuse.models.call import Call, Network, Output
from perfuse.pipelines.alone import AloneRun, run_alone
from perfuse.pipelines.contract import Pipeline
from perfuse.requests import Request, Result
from scripted import FakeClock, Recorder

Wrap = Callable[[Network], Network]


@dataclass(frozen=True)
class Case:
    """A pipeline to be held to the contract.

    Attributes:
        make: builds the pipeline, with every network it calls passed through a wrapper.
        requests: a few different valid ones, each of several forwards; the first is the one interrupted and broken.
        awaits: at least how many batches the first takes.
    """

    name: str
    make: Callable[[Wrap], Pipeline[Any, Any]]
    requests: Sequence[Request]
    awaits: int = 2


@dataclass(eq=False)
class Watched:
    """A network that counts its rows, moves a clock, and fails on the rows it is told to."""

    inner: Network
    clock: FakeClock = field(default_factory=FakeClock)
    seconds: float = 0.01
    rows: int = 0
    fail_at: int | None = None
    victims: set[int] = field(default_factory=set)

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def reproducible_rows(self) -> int:
        return self.inner.reproducible_rows

    def key(self, call: Call) -> Hashable:
        return self.inner.key(dataclasses.replace(call, network=self.inner))

    def forward(self, calls: Sequence[Call]) -> Sequence[Output]:
        self.rows += len(calls)
        self.clock.now += self.seconds
        if self.victims & {id(call) for call in calls}:
            msg = "planted"
            raise RuntimeError(msg)
        return self.inner.forward([dataclasses.replace(call, network=self.inner) for call in calls])


def watched(case: Case, **fields: Any) -> tuple[Watched, Pipeline[Any, Any]]:
    """The case's pipeline over one shared watcher (every case has one network)."""
    made: list[Watched] = []

    def wrap(network: Network) -> Network:
        made.append(Watched(network, **fields))
        return made[-1]

    pipeline = case.make(wrap)
    assert len(made) == 1
    return made[0], pipeline


def reproducible(request: Request) -> Request:
    return dataclasses.replace(request, reproducible=True)


def alone(pipeline: Pipeline[Any, Any], request: Request) -> Result:
    return run_alone(pipeline, request, run=AloneRun(request.seed, reproducible=request.reproducible))


def engine_of(pipeline: Pipeline[Any, Any], network: Watched, threads: int = 1) -> Engine:
    return Engine(
        {"any": pipeline}, clock=network.clock, cost=CostModel(max_rows=8, threads=threads), threads=threads,
        backlog_limit=1e9,
    )  # fmt: skip


def close(engine: Engine) -> None:
    engine.stop()
    engine.run_forever()


def alone_equals_batched(case: Case, threads: int) -> None:
    """Reproducible requests give the same result alone and in any company, on any number of threads."""
    network, pipeline = watched(case)
    expected = [alone(pipeline, reproducible(request)) for request in case.requests]
    engine, sink = engine_of(pipeline, network, threads), Recorder()
    for i, request in enumerate(case.requests):
        engine.submit(Job(id=i, modality="any", request=reproducible(request)), sink)
        engine.submit(Job(id=100 + i, modality="any", request=request), sink)
        engine.submit(Job(id=200 + i, modality="any", request=reproducible(request), solo=True), sink)
    engine.run_until_idle()
    close(engine)
    assert not sink.errors
    assert [sink.results[i] for i in range(len(case.requests))] == expected
    assert [sink.results[200 + i] for i in range(len(case.requests))] == expected


def cancelled_at_every_await(case: Case) -> None:
    """Wherever a request is cancelled, no further row is computed, nothing is reported and nothing stays behind."""
    _, pipeline = watched(case)
    run = AloneRun(case.requests[0].seed)
    run_alone(pipeline, case.requests[0], run=run)
    awaits = 0
    while True:
        network, pipeline = watched(case)
        engine, sink = engine_of(pipeline, network), Recorder()
        engine.submit(Job(id=1, modality="any", request=case.requests[0]), sink)
        for _ in range(awaits):
            engine.step()
        ended = bool(sink.results)
        host_work = engine._offloaded > 0  # it may end before the cancel is seen; then the result was first
        before = network.rows
        engine.cancel(1)
        engine.run_until_idle()
        assert network.rows == before
        assert bool(sink.results) == ended or host_work
        assert not sink.errors
        assert engine.backlog.seconds == 0
        close(engine)
        if ended:
            break
        awaits += 1
    assert awaits >= case.awaits


def a_fault_harms_only_its_own_request(case: Case) -> None:
    """Whichever call of a request fails, that request fails and its neighbours finish with what they give alone."""
    network, pipeline = watched(case)
    expected = alone(pipeline, case.requests[1])
    total = AloneRun(case.requests[0].seed)
    run_alone(pipeline, case.requests[0], run=total)
    for broken in sorted({0, total.forwards // 2, total.forwards - 1}):
        network, pipeline = watched(case)
        seen = 0

        def plant(original: Callable[..., Any], network: Watched = network, broken: int = broken) -> Callable[..., Any]:
            def add(pending: Any) -> None:
                nonlocal seen
                if pending.job == 1:
                    if seen == broken:
                        network.victims.add(id(pending.call))
                    seen += 1
                original(pending)

            return add

        engine, sink = engine_of(pipeline, network), Recorder()
        engine._scheduler.add = plant(engine._scheduler.add)  # type: ignore[method-assign]
        engine.submit(Job(id=1, modality="any", request=case.requests[0]), sink)
        engine.submit(Job(id=2, modality="any", request=case.requests[1]), sink)
        engine.run_until_idle()
        close(engine)
        assert set(sink.errors) == {1}, broken
        assert type(sink.errors[1]) is GenerationFailed
        assert sink.errors[1].detail == f"the forward of {network.name} raised RuntimeError: planted"
        assert type(sink.results[2]) is type(expected)


def estimates_at_least_what_it_uses(case: Case) -> None:
    """Admission counts on it."""
    for request in case.requests:
        network, pipeline = watched(case)
        estimated = sum(demand.calls for demand in pipeline.estimate(request))
        alone(pipeline, request)
        assert 1 <= network.rows <= estimated


def keeps_its_deadline(case: Case) -> None:
    """With half the time it needs it answers in time with what it has; with none, an error says so."""
    network, pipeline = watched(case)
    alone(pipeline, case.requests[0])
    needed = network.clock.now
    for share in (0.5, 0.8):
        network, pipeline = watched(case)
        engine, sink = engine_of(pipeline, network), Recorder(network.clock)
        engine.submit(Job(id=1, modality="any", request=case.requests[0], deadline=needed * share), sink)
        engine.run_until_idle()
        close(engine)
        assert sink.ended[1] <= needed * share + network.seconds
        assert set(sink.results) == {1} or type(sink.errors[1]) is DeadlineExceeded
    network, pipeline = watched(case)
    engine, sink = engine_of(pipeline, network), Recorder(network.clock)
    engine.submit(Job(id=1, modality="any", request=case.requests[0], deadline=0.0), sink)
    engine.run_until_idle()
    close(engine)
    assert type(sink.errors[1]) is DeadlineExceeded
    assert network.rows == 0


CHECKS: dict[str, Callable[[Case], None]] = {
    "alone_equals_batched_on_one_thread": lambda case: alone_equals_batched(case, 1),
    "alone_equals_batched_on_two_threads": lambda case: alone_equals_batched(case, 2),
    "cancelled_at_every_await": cancelled_at_every_await,
    "a_fault_harms_only_its_own_request": a_fault_harms_only_its_own_request,
    "estimates_at_least_what_it_uses": estimates_at_least_what_it_uses,
    "keeps_its_deadline": keeps_its_deadline,
}
