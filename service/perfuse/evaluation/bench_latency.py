"""`perfuse bench latency`: short requests beside long ones on the real engine with the shipped text model.

Poisson arrivals at a share of the measured capacity, 80 % short (8 steps) and 20 % long (64 steps); the baseline is the
same short request alone.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import quantiles

from perfuse.engine.cost import CostModel
from perfuse.engine.loop import Engine
from perfuse.engine.run import Answers, Job
from perfuse.pipelines.shipped import load
from perfuse.requests import TextRequest

SHORT = TextRequest(
    prompt="Return the sum of the even numbers in a list.", length=64, steps=8, sampler="low_confidence"
)
LONG = TextRequest(
    prompt="Return the sum of the even numbers in a list.", length=64, steps=64, sampler="low_confidence"
)


@dataclass(frozen=True, slots=True)
class MixedLoad:
    """Seconds, and requests per second. The target is `ratio_p99` <= 2: short beside long against short alone."""

    rate: float
    short_p50: float
    short_p99: float
    long_p50: float
    long_p99: float
    ratio_p99: float
    mean_rows: float


@dataclass(frozen=True, slots=True)
class LatencyBench:
    """Capacity one at a time and at once, the short request alone, and the mix at a share of each capacity."""

    load: float
    capacity_one_at_a_time: float
    capacity_at_once: float
    alone_p50: float
    alone_p99: float
    of_one_at_a_time: MixedLoad
    of_at_once: MixedLoad

    def as_dict(self) -> dict[str, object]:
        """The figures by name."""
        return asdict(self)


class _Bench:
    """An engine on its own thread."""

    def __init__(self, threads: int) -> None:
        self.engine = Engine(load().pipelines, threads=threads, cost=CostModel(threads=threads), backlog_limit=1e9)
        self._thread = threading.Thread(target=self.engine.run_forever, name="compute")
        self._thread.start()
        self._next = 0

    def run(self, arrivals: Sequence[tuple[float, TextRequest]]) -> list[float]:
        """Seconds each request took; arrivals are (seconds after start, request)."""
        answers, first, started = Answers(time.perf_counter), self._next, time.perf_counter()
        came: list[float] = []
        for due, request in arrivals:
            time.sleep(max(0.0, started + due - time.perf_counter()))
            came.append(time.perf_counter())
            self.engine.submit(Job(id=self._next, modality="text", request=request), answers)
            self._next += 1
        answers.wait(len(arrivals))
        return [answers.ended[first + i] - at for i, at in enumerate(came)]

    def close(self) -> None:
        self.engine.stop()
        self._thread.join()


def mix(rng: random.Random) -> TextRequest:
    """80 % short, 20 % long."""
    return SHORT if rng.random() < 0.8 else LONG


def run(*, load_share: float = 0.7, seconds: float = 30.0, threads: int = 1, seed: int = 0) -> LatencyBench:
    """Measure both capacities, the short request alone, then the mix at `load_share` of either."""
    rng = random.Random(seed)
    bench = _Bench(threads)
    try:
        bench.run([(0.0, mix(rng)) for _ in range(40)])
        closed = [(0.0, mix(rng)) for _ in range(120)]
        at_once = len(closed) / max(bench.run(closed))
        singles = [mix(rng) for _ in range(60)]
        one_at_a_time = len(singles) / sum(bench.run([(0.0, request)])[0] for request in singles)
        alone = quantiles((bench.run([(0.0, SHORT)])[0] for _ in range(200)), n=100)
        return LatencyBench(
            load=load_share,
            capacity_one_at_a_time=one_at_a_time,
            capacity_at_once=at_once,
            alone_p50=alone[49],
            alone_p99=alone[98],
            of_one_at_a_time=_mixed(bench, rng, load_share * one_at_a_time, seconds, alone[98]),
            of_at_once=_mixed(bench, rng, load_share * at_once, seconds, alone[98]),
        )
    finally:
        bench.close()


def _mixed(bench: _Bench, rng: random.Random, rate: float, seconds: float, alone_p99: float) -> MixedLoad:
    now, arrivals = 0.0, list[tuple[float, TextRequest]]()
    while (now := now + rng.expovariate(rate)) < seconds or len(arrivals) < 20:
        arrivals.append((now, SHORT if len(arrivals) % 5 else LONG))
    before = bench.engine.counters.rows, bench.engine.counters.batches
    taken = bench.run(arrivals)
    rows, batches = bench.engine.counters.rows - before[0], bench.engine.counters.batches - before[1]
    short = quantiles((s for s, (_, request) in zip(taken, arrivals, strict=True) if request is SHORT), n=100)
    long = quantiles((s for s, (_, request) in zip(taken, arrivals, strict=True) if request is LONG), n=100)
    return MixedLoad(
        rate=rate,
        short_p50=short[49],
        short_p99=short[98],
        long_p50=long[49],
        long_p99=long[98],
        ratio_p99=short[98] / alone_p99,
        mean_rows=rows / max(batches, 1),
    )
