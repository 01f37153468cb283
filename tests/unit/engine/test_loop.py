"""The engine on a fake clock: batching, isolation, cancelling, deadlines, admission, head-of-line blocking."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from statistics import quantiles

import pytest
import torch

from perfuse.engine.cost import CostModel
from perfuse.engine.loop import Engine
from perfuse.engine.run import Job
from perfuse.errors import (
    DeadlineExceeded,
    GenerationFailed,
    InvalidRequest,
    NonFiniteOutput,
    NotFound,
    Overloaded,
)
from perfuse.models.call import Call, Output
from perfuse.models.lora import Adaptation
from perfuse.pipelines.contract import Run
from perfuse.requests import TextRequest, TextResult
from scripted import FakeClock, Recorder, ScriptedNetwork, ScriptedPipeline


@dataclass
class Bench:
    network: ScriptedNetwork
    engine: Engine
    sink: Recorder
    pipeline: ScriptedPipeline
    flights: list[list[int]] = field(default_factory=list)

    @property
    def clock(self) -> FakeClock:
        return self.network.clock

    def submit(self, job: int, prompt: str = "a", **fields: object) -> None:
        own = {name: fields.pop(name) for name in ("priority", "deadline", "previews", "solo") if name in fields}
        request = TextRequest(prompt=prompt, **{"steps": 3, **fields})  # type: ignore[arg-type]
        self.engine.submit(Job(id=job, modality="text", request=request, **own), self.sink)  # type: ignore[arg-type]


@pytest.fixture
def build() -> Iterator[Callable[..., Bench]]:
    engines = []

    def make(pipeline: type[ScriptedPipeline] = ScriptedPipeline, **options: object) -> Bench:
        own = {name: options.pop(name) for name in ("seconds", "fault") if name in options}
        network = ScriptedNetwork(**own)  # type: ignore[arg-type]
        flights: list[list[int]] = []
        made = pipeline(network)
        engine = Engine(
            {"text": made},
            clock=network.clock,
            on_batch=lambda jobs: flights.append(list(jobs)),
            **options,  # type: ignore[arg-type]
        )
        engines.append(engine)
        return Bench(network, engine, Recorder(network.clock), made, flights)

    yield make
    for engine in engines:
        engine.stop()
        engine.run_forever()


def marked(call: Call, prompt: str) -> bool:
    return bool(call.inputs["tokens"][0] == float(sum(prompt.encode())))


def test_requests_share_batches_whatever_their_step_counts(build: Callable[..., Bench]) -> None:
    bench = build()
    for job, steps in enumerate([2, 4, 3]):
        bench.submit(job, steps=steps)
    bench.engine.run_until_idle()
    assert [len(batch) for batch in bench.network.batches] == [3, 3, 2, 1]
    assert [bench.sink.results[job].outputs[0].steps_done for job in range(3)] == [2, 4, 3]
    assert bench.flights[:4] == [[0], [1], [2], [0, 2, 1]]
    assert bench.engine.counters.rows == 9
    assert bench.engine.counters.batches == 4
    assert bench.engine.backlog.seconds == 0


def test_guidance_is_two_calls_of_one_await(build: Callable[..., Bench]) -> None:
    bench = build()
    bench.submit(1, guidance=2.0, steps=2)
    bench.engine.run_until_idle()
    assert [len(batch) for batch in bench.network.batches] == [2, 2]
    assert bench.sink.results[1].outputs[0].forwards == 4


def test_different_keys_do_not_share_a_batch(build: Callable[..., Bench]) -> None:
    bench = build()
    bench.submit(1, length=8, steps=1)
    bench.submit(2, length=16, steps=1)
    bench.engine.run_until_idle()
    assert [len(batch) for batch in bench.network.batches] == [1, 1]


def test_a_raising_row_fails_alone(build: Callable[..., Bench]) -> None:
    def fault(call: Call) -> Output | None:
        if marked(call, "poison"):
            msg = "boom"
            raise ValueError(msg)
        return None

    bench = build(fault=fault)
    for job in range(8):
        bench.submit(job, "poison" if job == 5 else "fine")
    bench.engine.run_until_idle()
    assert set(bench.sink.results) == {0, 1, 2, 3, 4, 6, 7}
    error = bench.sink.errors[5]
    assert type(error) is GenerationFailed
    assert error.detail == "the forward of scripted@1 raised ValueError: boom"
    assert error.hint == "other requests were not affected; if it happens again, report the request"
    assert bench.engine.counters.failed == 1


def test_a_row_that_yields_nan_fails_alone(build: Callable[..., Bench]) -> None:
    bench = build(fault=lambda call: {"logits": torch.tensor([torch.nan])} if marked(call, "nan") else None)
    for job in range(8):
        bench.submit(job, "nan" if job == 2 else "fine")
    bench.engine.run_until_idle()
    assert set(bench.sink.results) == {0, 1, 3, 4, 5, 6, 7}
    assert type(bench.sink.errors[2]) is NonFiniteOutput
    assert bench.sink.errors[2].detail == "the forward of scripted@1 gave NaN or infinity"


def test_a_network_s_own_error_keeps_its_words(build: Callable[..., Bench]) -> None:
    def fault(call: Call) -> Output | None:
        raise NonFiniteOutput("row overflowed")

    bench = build(fault=fault)
    bench.submit(1)
    bench.engine.run_until_idle()
    assert bench.sink.errors[1].detail == "row overflowed"


def test_one_failed_call_of_an_await_fails_the_request_and_drops_the_others(build: Callable[..., Bench]) -> None:
    failed = []

    def fault(call: Call) -> Output | None:
        if not failed:
            failed.append(call)
            msg = "first"
            raise RuntimeError(msg)
        return None

    cost = CostModel(max_rows=1)
    bench = build(fault=fault, cost=cost)
    bench.submit(1, guidance=2.0)
    bench.engine.run_until_idle()
    assert bench.network.rows == 1
    assert bench.sink.errors[1].detail == "the forward of scripted@1 raised RuntimeError: first"


def test_queued_requests_whose_clients_leave_are_never_computed(build: Callable[..., Bench]) -> None:
    bench = build()
    for job in range(20):
        bench.submit(job)
    for job in range(20):
        bench.engine.cancel(job)
    bench.engine.run_until_idle()
    assert bench.network.rows == 0
    assert bench.engine.counters.rows == 0
    assert bench.engine.counters.cancelled == 20
    assert bench.engine.backlog.seconds == 0


def test_a_running_request_is_freed_within_one_step(build: Callable[..., Bench]) -> None:
    bench = build()
    bench.submit(1, steps=64)
    bench.engine.step()
    bench.engine.step()
    bench.engine.cancel(1)
    bench.engine.run_until_idle()
    assert bench.network.rows == 2
    assert bench.engine.backlog.seconds == 0


def test_a_request_cancelled_while_computed_counts_as_wasted(build: Callable[..., Bench]) -> None:
    def fault(call: Call) -> Output | None:
        bench.engine.cancel(1)

    bench = build(fault=fault)
    bench.submit(1)
    bench.submit(2)
    bench.engine.run_until_idle()
    assert bench.engine.counters.rows_wasted == 1
    assert set(bench.sink.results) == {2}


def test_a_solo_request_shares_no_batch(build: Callable[..., Bench]) -> None:
    bench = build()
    bench.submit(1, solo=True)
    bench.submit(2)
    bench.submit(3, solo=True)
    bench.engine.run_until_idle()
    assert all(len(set(jobs)) == 1 for jobs in bench.flights)
    assert set(bench.sink.results) == {1, 2, 3}


def test_reproducible_rows_run_in_blocks_of_exactly_r(build: Callable[..., Bench]) -> None:
    bench = build()
    for job in range(6):
        bench.submit(job, reproducible=True, steps=2)
    bench.submit(9, reproducible=True, steps=3, solo=True)
    bench.engine.run_until_idle()
    assert {len(batch) for batch in bench.network.batches} == {4}
    assert set(bench.sink.results) == {0, 1, 2, 3, 4, 5, 9}


ADAPTATIONS = {name: Adaptation(name, 1, 1.0, ()) for name in ("x", "y")}


class AdaptedPipeline(ScriptedPipeline):
    """Its calls carry the adaptation that the prompt names."""

    def call(self, request: TextRequest) -> Call:
        return replace(super().call(request), adaptation=ADAPTATIONS.get(request.prompt))


def test_reproducible_rows_of_two_adaptations_never_share_a_block(build: Callable[..., Bench]) -> None:
    bench = build(AdaptedPipeline, cost=CostModel(max_rows=64))
    for job, prompt in enumerate(["x", "y", "base", "x", "y", "base"] * 2):
        bench.submit(job, prompt, reproducible=True, steps=2)
    bench.engine.run_until_idle()
    assert not bench.sink.errors
    assert all(len({call.adaptation for call in batch}) == 1 for batch in bench.network.batches)
    assert all(len(batch) == 4 for batch in bench.network.batches)
    assert len(bench.engine.cost.snapshot()) == 1


def test_other_rows_of_several_adaptations_share_batches(build: Callable[..., Bench]) -> None:
    bench = build(AdaptedPipeline, cost=CostModel(max_rows=64))
    for job, prompt in enumerate(["x", "y", "base"] * 4):
        bench.submit(job, prompt, steps=3)
    bench.engine.run_until_idle()
    assert max(len({call.adaptation for call in batch}) for batch in bench.network.batches) == 3


def test_the_whole_server_can_be_reproducible(build: Callable[..., Bench]) -> None:
    bench = build(reproducible=True)
    bench.submit(1)
    bench.engine.run_until_idle()
    assert {len(batch) for batch in bench.network.batches} == {4}


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_blocks_side_by_side_keep_the_order_of_rows(build: Callable[..., Bench], threads: int) -> None:
    class Echo(ScriptedPipeline):
        async def run(self, request: TextRequest, run: Run) -> TextResult:
            (output,) = await run.forward(self.call(request))
            assert output["logits"][0] == 2.0 * sum(request.prompt.encode())
            return await super().run(request, run)

    bench = build(pipeline=Echo, threads=threads)
    for job in range(11):
        bench.submit(job, chr(ord("a") + job), reproducible=job % 2 == 0)
    bench.engine.run_until_idle()
    assert set(bench.sink.results) == set(range(11))
    assert not bench.sink.errors


def test_previews_are_sent_only_to_those_who_watch(build: Callable[..., Bench]) -> None:
    bench = build()
    bench.submit(1, steps=2, previews=True)
    bench.submit(2, steps=2)
    bench.engine.run_until_idle()
    assert [(job, p.step, p.of, p.body) for job, p in bench.sink.previews] == [
        (1, 1, 2, {"canvas": "x"}),
        (1, 2, 2, {"canvas": "xx"}),
    ]


def test_a_deadline_shortens_the_run_and_the_best_so_far_is_returned(build: Callable[..., Bench]) -> None:
    bench = build(seconds=lambda rows: 0.01)
    bench.submit(1, steps=64, deadline=0.1)
    bench.engine.run_until_idle()
    output = bench.sink.results[1].outputs[0]
    assert output.finish_reason == "deadline"
    assert 8 <= output.steps_done <= 10
    assert bench.sink.ended[1] <= 0.1


def test_a_deadline_that_passes_while_queued_is_an_error(build: Callable[..., Bench]) -> None:
    bench = build()
    bench.submit(1, steps=4, deadline=0.5)
    bench.clock.now = 0.6
    bench.engine.run_until_idle()
    assert bench.network.rows == 0
    error = bench.sink.errors[1]
    assert type(error) is DeadlineExceeded
    assert error.detail == "the deadline passed after 0 of about 4 forwards"
    assert error.hint == "allow more time, or ask for fewer steps or candidates"


def test_a_full_backlog_refuses_with_the_time_it_takes_to_drain(build: Callable[..., Bench]) -> None:
    bench = build(backlog_limit=2.0, seconds=lambda rows: 0.01 * rows)
    for job in range(30):
        bench.submit(job, steps=5)
        bench.engine.run_until_idle()
    start = bench.clock.now
    refused: list[Overloaded] = []
    for job in range(100, 600):
        try:
            bench.submit(job, steps=5)
        except Overloaded as error:
            refused.append(error)
    assert len(refused) > 300
    assert bench.engine.counters.refused == len(refused)
    bench.engine.run_until_idle()
    drained = bench.clock.now - start
    assert refused[0].retry_after == pytest.approx(drained, rel=0.1)
    assert refused[0].detail == ("2.0 s of work are queued and this request adds 0.05 s; at most 2 s are taken on")


def test_idle_work_refuses_nobody_else_and_is_refused_where_others_wait(build: Callable[..., Bench]) -> None:
    bench = build(backlog_limit=1.0)  # a row that was never timed counts 5 ms
    bench.submit(1, steps=90, priority=-20)
    bench.submit(2, steps=90, priority=-20)
    with pytest.raises(Overloaded, match=r"^0\.9 s of work are queued and this request adds 0\.45 s; "):
        bench.submit(3, steps=90, priority=-20)
    assert bench.engine.backlog.ahead() == 0
    bench.submit(4, steps=150)
    assert bench.engine.backlog.ahead() == pytest.approx(0.75)
    with pytest.raises(Overloaded, match=r"^0\.8 s of work are queued and this request adds 0\.75 s; "):
        bench.submit(5, steps=150)
    bench.engine.run_until_idle()
    assert set(bench.sink.results) == {1, 2, 4}
    assert bench.engine.backlog.seconds == 0


def test_a_lone_request_longer_than_the_limit_is_admitted(build: Callable[..., Bench]) -> None:
    bench = build(backlog_limit=0.001)
    bench.submit(1, steps=64)
    bench.engine.run_until_idle()
    assert set(bench.sink.results) == {1}


def test_an_unknown_modality_and_a_refused_request_never_enter(build: Callable[..., Bench]) -> None:
    bench = build()
    with pytest.raises(InvalidRequest, match=r"^modality 'smell' is not served; this server has \['text'\]$"):
        bench.engine.submit(Job(id=1, modality="smell", request=TextRequest()), bench.sink)
    with pytest.raises(InvalidRequest, match=r"^steps must be at least 1, got 0$"):
        bench.submit(1, steps=0)
    assert bench.engine.backlog.seconds == 0


class Offloading(ScriptedPipeline):
    """Host work before, between and after the forwards; the prompt says what goes wrong."""

    async def run(self, request: TextRequest, run: Run) -> TextResult:
        if request.prompt == "bug":
            return await run.offload(divmod, 1, 0)  # type: ignore[return-value]
        if request.prompt == "refused":

            def refuse() -> None:
                raise NotFound("no such plan")

            await run.offload(refuse)
        if request.prompt == "raises":
            msg = "typo"
            raise KeyError(msg)
        assert await run.offload(max, 3, 5) == 5
        assert await run.forward() == ()
        return await super().run(request, run)


def test_host_work_runs_beside_and_its_failures_are_the_request_s_own(build: Callable[..., Bench]) -> None:
    bench = build(pipeline=Offloading)
    for job, prompt in enumerate(["fine", "bug", "refused", "raises"]):
        bench.submit(job, prompt)
    bench.engine.run_until_idle()
    assert set(bench.sink.results) == {0}
    assert {job: (type(e), e.detail) for job, e in bench.sink.errors.items()} == {
        1: (GenerationFailed, "host work raised ZeroDivisionError: integer division or modulo by zero"),
        2: (NotFound, "no such plan"),
        3: (GenerationFailed, "the pipeline raised KeyError: 'typo'"),
    }


def test_a_request_cancelled_during_host_work_is_gone(build: Callable[..., Bench]) -> None:
    gate = threading.Event()

    class Waiting(ScriptedPipeline):
        async def run(self, request: TextRequest, run: Run) -> TextResult:
            await run.offload(gate.wait)
            return await super().run(request, run)

    bench = build(pipeline=Waiting)
    bench.submit(1)
    bench.engine.step()
    bench.engine.cancel(1)
    bench.engine.step()
    gate.set()
    bench.engine.run_until_idle()
    assert bench.network.rows == 0
    assert not bench.sink.results
    assert not bench.sink.errors


def test_a_thread_serves_until_stopped_and_closes_what_runs(build: Callable[..., Bench]) -> None:
    bench = build()
    thread = threading.Thread(target=bench.engine.run_forever)
    thread.start()
    bench.submit(1)
    while 1 not in bench.sink.results:
        assert thread.is_alive()
    bench.engine.stop()
    thread.join(5)
    assert not thread.is_alive()
    assert bench.engine.busy is False


def head_of_line(build: Callable[..., Bench], rate: float) -> tuple[list[float], list[float]]:
    """Poisson arrivals for 12 s, 80 % of 8 steps, 20 % of 64, on device A: a step takes 4 + 0.5·rows ms."""
    bench = build(cost=CostModel(max_rows=16), backlog_limit=60.0)
    rng = random.Random(4242)
    arrivals: list[tuple[float, int]] = []
    now = 0.0
    while (now := now + rng.expovariate(rate)) < 12.0:
        arrivals.append((now, 8 if rng.random() < 0.8 else 64))
    came: dict[int, float] = {}
    while len(bench.sink.ended) < len(arrivals):
        while len(came) < len(arrivals) and arrivals[len(came)][0] <= bench.clock.now:
            job = len(came)
            came[job] = arrivals[job][0]
            bench.submit(job, steps=arrivals[job][1])
        if not bench.engine.step() and len(came) < len(arrivals):
            bench.clock.now = max(bench.clock.now, arrivals[len(came)][0])
    latency = [(bench.sink.ended[job] - came[job], arrivals[job][1]) for job in came]
    return [s for s, steps in latency if steps == 8], [s for s, steps in latency if steps == 64]


def test_short_requests_do_not_wait_for_long_ones(build: Callable[..., Bench]) -> None:
    short, long = head_of_line(build, 30.0)
    assert quantiles(short, n=100)[-1] <= 0.120
    assert max(long) < 3.0
