"""`perfuse bench serve`: what the server adds to its pipelines, measured on a real server with a shipped model.

The baseline of each figure is the direct call of the same pipeline in this process, interleaved with the requests.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from perfuse.arrow_engine import ArrowEngine
from perfuse.evaluation.bench_engine import bookkeeping_seconds_per_row_step
from perfuse.evaluation.load import Connection, Server, cpu_seconds, resident_bytes, serving, storm

BODY = {"modality": "text", "prompt": "Double every number.", "length": 4, "steps": 1, "seed": 1}
"""One forward: the smallest request, so that the front is as busy as it can be."""


@dataclass(frozen=True, slots=True)
class ServeBench:
    """What the front and the engine add. Times in microseconds or milliseconds as named; memory in MB."""

    front_cpu_us_1: float
    front_cpu_us_64: float
    added_latency_ms_1: float
    engine_us_per_row_step: float
    direct_ms: float
    lone_ms: float
    requests_per_second_64: float
    ready_seconds: float
    first_answer_seconds: float
    front_mb_idle: float
    front_mb_busy: float
    engine_mb_idle: float
    engine_mb_busy: float

    def as_dict(self) -> dict[str, float]:
        """The figures by name."""
        return asdict(self)


def run(*, requests: int = 300) -> ServeBench:
    """Measure; takes about a minute on two cores."""
    with tempfile.TemporaryDirectory(prefix="perfuse-bench-") as folder, serving(Path(folder) / "data") as server:
        return asyncio.run(_measure(server, requests))


async def _measure(server: Server, requests: int) -> ServeBench:
    ready = await server.ready()
    parts = server.children()
    front, engine = parts["front"][0], parts["engine"][0]
    idle = resident_bytes(front), resident_bytes(engine)
    with closing(Connection(server.port)) as connection:
        await connection.request("POST", "/diffuse", BODY)
        first = time.monotonic() - server.started
        lone, direct, lone_cpu = await _lone(connection, ArrowEngine(), front, requests)
    before, started = cpu_seconds(front), time.perf_counter()
    answers = await storm(server.port, "/diffuse", [{**BODY, "seed": i} for i in range(requests * 8)], 64)
    elapsed = time.perf_counter() - started
    many_cpu = (cpu_seconds(front) - before) / len(answers)
    busy = resident_bytes(front), resident_bytes(engine)
    return ServeBench(
        front_cpu_us_1=lone_cpu * 1e6,
        front_cpu_us_64=many_cpu * 1e6,
        added_latency_ms_1=(lone - direct) * 1e3,
        engine_us_per_row_step=median(bookkeeping_seconds_per_row_step() for _ in range(5)) * 1e6,
        direct_ms=direct * 1e3,
        lone_ms=lone * 1e3,
        requests_per_second_64=len(answers) / elapsed,
        ready_seconds=ready,
        first_answer_seconds=first,
        front_mb_idle=idle[0] / 1e6,
        front_mb_busy=busy[0] / 1e6,
        engine_mb_idle=idle[1] / 1e6,
        engine_mb_busy=busy[1] / 1e6,
    )


async def _lone(connection: Connection, local: ArrowEngine, front: int, requests: int) -> tuple[float, float, float]:
    """Median seconds of a request and of a direct call, interleaved; and the front's CPU seconds per request."""
    over_http: list[float] = []
    directly: list[float] = []
    before = cpu_seconds(front)
    for i in range(requests):
        over_http.append((await connection.request("POST", "/diffuse", {**BODY, "seed": i})).seconds)
        started = time.perf_counter()
        local.diffuse(prompt=str(BODY["prompt"]), length=4, steps=1, seed=i)
        directly.append(time.perf_counter() - started)
    return median(over_http), median(directly), (cpu_seconds(front) - before) / requests
