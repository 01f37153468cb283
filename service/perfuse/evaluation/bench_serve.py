"""`perfuse bench serve`: what the server adds to its pipelines, measured on a real server with a shipped model.

The baseline of each figure is the direct call of the same pipeline in this process, in turns with the requests, `BLOCK`
at a time: one by one, two programs drive each other out of the caches, and the sum of both is measured (3.2 ms added
instead of 1.6, in one run). One client and 64 take turns in rounds; figures are medians over the rounds. CPU time comes
from the kernel's scheduler, in nanoseconds.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from operator import attrgetter
from pathlib import Path
from statistics import median, quantiles

from perfuse.arrow_engine import ArrowEngine
from perfuse.evaluation.bench_engine import bookkeeping_seconds_per_row_step
from perfuse.evaluation.load import Answer, Connection, Server, burst, cpu_seconds, resident_bytes, serving, storm

BODY = {"modality": "text", "prompt": "Double every number.", "length": 4, "steps": 1, "seed": 1}
"""One forward: the smallest request, so that the front is as busy as it can be."""
LONG = {"modality": "text", "prompt": "Double every number.", "length": 64, "steps": 64, "sampler": "low_confidence"}
"""A few of these are `BACKLOG_SECONDS` of work."""
BACKLOG_SECONDS = 2
ROUNDS = 5
BLOCK = 10
BURST = 500


@dataclass(frozen=True, slots=True)
class ServeBench:
    """What the front and the engine add. Times in microseconds or milliseconds as named; memory in MB.

    `rejected` of `BURST` requests at once are refused, each after the milliseconds given, its connection included;
    `rejected_ms_max` is the longest of all rounds, `retry_after_share` what they were told to wait for, of the time
    until the last of the others was answered (1 is honest; whole seconds, no less than one, can be told).
    """

    front_cpu_us_1: float
    front_cpu_us_64: float
    added_latency_ms_1: float
    engine_us_per_row_step: float
    direct_ms: float
    lone_ms: float
    requests_per_second_64: float
    rejected: float
    rejected_ms_p50: float
    rejected_ms_p99: float
    rejected_ms_max: float
    retry_after_share: float
    ready_seconds: float
    first_answer_seconds: float
    front_mb_idle: float
    front_mb_busy: float
    engine_mb_idle: float
    engine_mb_busy: float

    def as_dict(self) -> dict[str, float]:
        """The figures by name."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Lone:
    """Median seconds of a request and of a direct call, and the front's CPU seconds per request."""

    over_http: float
    direct: float
    front_cpu: float


@dataclass(frozen=True, slots=True)
class _Many:
    """The front's CPU seconds per request, and requests per second."""

    front_cpu: float
    rate: float


@dataclass(frozen=True, slots=True)
class _Rejected:
    """How many requests were refused, seconds until they were, and the hint as a share of the time to drain."""

    count: int
    p50: float
    p99: float
    most: float
    hint: float


def run(*, requests: int = 300) -> ServeBench:
    """Measure; takes about a minute on two cores."""
    with (
        tempfile.TemporaryDirectory(prefix="perfuse-bench-") as folder,
        serving(Path(folder) / "data", "--max-backlog-seconds", str(BACKLOG_SECONDS)) as server,
    ):
        return asyncio.run(_measure(server, requests))


async def _measure(server: Server, requests: int) -> ServeBench:
    ready = await server.ready()
    parts = server.children()
    front, engine = parts["front"][0], parts["engine"][0]
    idle = resident_bytes(front), resident_bytes(engine)
    local = ArrowEngine()
    lone: list[_Lone] = []
    many: list[_Many] = []
    with closing(Connection(server.port)) as connection:
        await connection.request("POST", "/diffuse", BODY)
        first = time.monotonic() - server.started
        for _ in range(ROUNDS):
            lone.append(await _lone(connection, local, front, max(1, requests // ROUNDS)))
            many.append(await _many(server.port, front, max(1, requests * 16 // ROUNDS)))
        busy = resident_bytes(front), resident_bytes(engine)
        await connection.request("POST", "/diffuse", LONG)  # the engine learns what such a request costs
    rejected = [_rejected(server.port) for _ in range(ROUNDS)]
    return ServeBench(
        front_cpu_us_1=_middle(lone, "front_cpu") * 1e6,
        front_cpu_us_64=_middle(many, "front_cpu") * 1e6,
        added_latency_ms_1=median(one.over_http - one.direct for one in lone) * 1e3,
        engine_us_per_row_step=median(bookkeeping_seconds_per_row_step() for _ in range(5)) * 1e6,
        direct_ms=_middle(lone, "direct") * 1e3,
        lone_ms=_middle(lone, "over_http") * 1e3,
        requests_per_second_64=_middle(many, "rate"),
        rejected=_middle(rejected, "count"),
        rejected_ms_p50=_middle(rejected, "p50") * 1e3,
        rejected_ms_p99=_middle(rejected, "p99") * 1e3,
        rejected_ms_max=max(each.most for each in rejected) * 1e3,
        retry_after_share=_middle(rejected, "hint"),
        ready_seconds=ready,
        first_answer_seconds=first,
        front_mb_idle=idle[0] / 1e6,
        front_mb_busy=busy[0] / 1e6,
        engine_mb_idle=idle[1] / 1e6,
        engine_mb_busy=busy[1] / 1e6,
    )


def _middle(rounds: Sequence[object], figure: str) -> float:
    """The median of one figure over the rounds."""
    return float(median(map(attrgetter(figure), rounds)))


async def _lone(connection: Connection, local: ArrowEngine, front: int, requests: int) -> _Lone:
    """One client, one request at a time, `BLOCK` direct calls after as many requests."""
    over_http: list[float] = []
    directly: list[float] = []
    before = cpu_seconds(front)
    for start in range(0, requests, BLOCK):
        block = range(start, min(start + BLOCK, requests))
        over_http += [(await connection.request("POST", "/diffuse", {**BODY, "seed": i})).seconds for i in block]
        for i in block:
            started = time.perf_counter()
            local.diffuse(prompt=str(BODY["prompt"]), length=4, steps=1, seed=i)
            directly.append(time.perf_counter() - started)
    return _Lone(median(over_http), median(directly), (cpu_seconds(front) - before) / requests)


async def _many(port: int, front: int, requests: int) -> _Many:
    """64 clients, each one request at a time."""
    before, started = cpu_seconds(front), time.perf_counter()
    answers = await storm(port, "/diffuse", [{**BODY, "seed": i} for i in range(requests)], 64)
    elapsed = time.perf_counter() - started
    _check(answers, {200})
    return _Many((cpu_seconds(front) - before) / requests, requests / elapsed)


def _rejected(port: int) -> _Rejected:
    """`BURST` requests at once, of which the engine's backlog takes a few."""
    answers = burst(port, "/diffuse", LONG, BURST)
    _check(answers, {200, 429})
    seconds = [answer.seconds for answer in answers if answer.status == 429]
    percentiles = quantiles(seconds, n=100)
    drained = max(answer.seconds for answer in answers if answer.status == 200)
    hint = median(float(answer.headers["retry-after"]) for answer in answers if answer.status == 429) / drained
    return _Rejected(len(seconds), percentiles[49], percentiles[98], max(seconds), hint)


def _check(answers: Sequence[Answer], expected: set[int]) -> None:
    assert {answer.status for answer in answers} <= expected, "the server refused what it should have answered"
