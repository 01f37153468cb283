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
from perfuse.engine.run import Job
from perfuse.errors import PerfuseError
from perfuse.pipelines.shipped import load
from perfuse.requests import Preview, Result, TextRequest

SHORT = TextRequest(
    prompt="Return the sum of the even numbers in a list.", length=64, steps=8, sampler="low_confidence"
)
LONG = TextRequest(
    prompt="Return the sum of the even numbers in a list.", length=64, steps=64, sampler="low_confidence"
)


@dataclass(frozen=True, slots=True)
class LatencyBench:
    """Seconds, and requests per second. The target is `ratio_p99` <= 2."""

    load: float
    rate: float
    capacity: float
    alone_p50: float
    alone_p99: float
    short_p50: float
    short_p99: float
    long_p50: float
    long_p99: float
    ratio_p99: float
    mean_rows: float

    def as_dict(self) -> dict[str, float]:
        """The figures by name."""
        return asdict(self)


class _Stopwatch:
    """A sink that notes when each job ended."""

    def __init__(self) -> None:
        self.ended: dict[int, float] = {}
        self._changed = threading.Condition()

    def preview(self, job: int, preview: Preview) -> None:
        """Nobody watches."""

    def finished(self, job: int, result: Result, queue_seconds: float, compute_seconds: float) -> None:
        """Note the time."""
        del result, queue_seconds, compute_seconds
        with self._changed:
            self.ended[job] = time.perf_counter()
            self._changed.notify_all()

    def failed(self, job: int, error: PerfuseError) -> None:
        """These requests never fail."""
        raise AssertionError(job) from error

    def wait(self, count: int) -> None:
        """Until that many jobs have ended."""
        with self._changed:
            self._changed.wait_for(lambda: len(self.ended) >= count)


class _Bench:
    """An engine on its own thread."""

    def __init__(self, threads: int) -> None:
        self.engine = Engine(load().pipelines, threads=threads, cost=CostModel(threads=threads), backlog_limit=1e9)
        self._thread = threading.Thread(target=self.engine.run_forever, name="compute")
        self._thread.start()
        self._next = 0

    def run(self, arrivals: Sequence[tuple[float, TextRequest]]) -> list[float]:
        """Seconds each request took; arrivals are (seconds after start, request)."""
        watch, first, started = _Stopwatch(), self._next, time.perf_counter()
        came: list[float] = []
        for due, request in arrivals:
            time.sleep(max(0.0, started + due - time.perf_counter()))
            came.append(time.perf_counter())
            self.engine.submit(Job(id=self._next, modality="text", request=request), watch)
            self._next += 1
        watch.wait(len(arrivals))
        return [watch.ended[first + i] - at for i, at in enumerate(came)]

    def close(self) -> None:
        self.engine.stop()
        self._thread.join()


def mix(rng: random.Random) -> TextRequest:
    """80 % short, 20 % long."""
    return SHORT if rng.random() < 0.8 else LONG


def run(*, load_share: float = 0.7, seconds: float = 30.0, threads: int = 1, seed: int = 0) -> LatencyBench:
    """Measure capacity, then the short request alone, then the mix at `load_share` of capacity."""
    rng = random.Random(seed)
    bench = _Bench(threads)
    try:
        closed = [(0.0, mix(rng)) for _ in range(200)]
        bench.run(closed[:50])
        capacity = len(closed) / max(bench.run(closed))
        alone = [bench.run([(0.0, SHORT)])[0] for _ in range(200)]
        rate, now, arrivals = load_share * capacity, 0.0, list[tuple[float, TextRequest]]()
        while (now := now + rng.expovariate(rate)) < seconds:
            arrivals.append((now, mix(rng)))
        before = bench.engine.counters.rows, bench.engine.counters.batches
        taken = bench.run(arrivals)
        after = bench.engine.counters.rows, bench.engine.counters.batches
    finally:
        bench.close()
    short = [s for s, (_, request) in zip(taken, arrivals, strict=True) if request is SHORT]
    long = [s for s, (_, request) in zip(taken, arrivals, strict=True) if request is LONG]
    alone_cut, short_cut, long_cut = (quantiles(values, n=100) for values in (alone, short, long))
    return LatencyBench(
        load=load_share,
        rate=rate,
        capacity=capacity,
        alone_p50=alone_cut[49],
        alone_p99=alone_cut[98],
        short_p50=short_cut[49],
        short_p99=short_cut[98],
        long_p50=long_cut[49],
        long_p99=long_cut[98],
        ratio_p99=short_cut[98] / alone_cut[98],
        mean_rows=(after[0] - before[0]) / max(after[1] - before[1], 1),
    )
