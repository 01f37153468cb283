"""`perfuse eval reproducible`: are reproducible answers the same bytes alone, in company and on any number of threads?

Also its price, and how many answers are equal without it. Runs the shipped models through the real engine.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import signal
import struct
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import get_args

from perfuse.diffusion.samplers import RULES
from perfuse.engine.cost import CostModel
from perfuse.engine.loop import Engine
from perfuse.engine.run import Answers, Job
from perfuse.evaluation.load import Server, ask, serving
from perfuse.pipelines.alone import AloneRun, run_alone
from perfuse.pipelines.shipped import Loaded, load
from perfuse.planning.mazes import MAZES
from perfuse.requests import Goal, Request, Result, TextRequest, TextResult, TrajectoryRequest, TrajectoryResult
from perfuse.wire import Served

PROMPTS = (
    "Write a function that doubles every number of a list.",
    "Return the sum of the even numbers in a list.",
    "Count the words of a text that start with a capital letter.",
    "Reverse every string in a list and join them with a comma.",
)
CODE = "def scale(values):\n    return [value * 2 for value in values]\n"


@dataclass(frozen=True, slots=True)
class Reproducibility:
    """Counts of answers equal to the answer of the request alone; seconds are medians.

    Attributes:
        cases: random requests, text and plan.
        equal_one_thread: reproducible, in a mixed batch on one thread.
        equal_two_threads: the same on two.
        occupancy: mean rows per batch in those runs.
        equal_without: the same requests without `reproducible`, in the same company.
        throughput_share: requests per second with it, as a share of those without.
        lone_latency_ratio: seconds of a lone request with it over without.
        equal_after_kill: reproducible, over HTTP, sent again while the engine is killed with SIGKILL.
    """

    cases: int
    equal_one_thread: int
    equal_two_threads: int
    occupancy: float
    equal_without: int
    throughput_share: float
    lone_latency_ratio: float
    equal_after_kill: int

    def as_dict(self) -> dict[str, float]:
        """The figures by name."""
        return asdict(self)


def digest(result: Result) -> str:
    """SHA-256 of the token ids, or of the raw floats, of a result."""
    state = hashlib.sha256()
    if isinstance(result, TextResult):
        for output in result.outputs:
            state.update(struct.pack(f"<{len(output.token_ids)}q", *output.token_ids))
            state.update(struct.pack("<d", output.confidence))
    elif isinstance(result, TrajectoryResult) and result.trajectory is not None:
        for row in result.trajectory.states:
            state.update(struct.pack(f"<{len(row)}d", *row))
    return state.hexdigest()


def draw(count: int, seed: int, modalities: Sequence[str]) -> list[tuple[str, Request]]:
    """Random requests with other seeds, lengths, steps, temperatures and guidance."""
    rng = random.Random(seed)
    drawn: list[tuple[str, Request]] = []
    for i in range(count):
        modality = modalities[i % len(modalities)]
        drawn.append((modality, _text(rng) if modality == "text" else _trajectory(rng)))
    return drawn


def _text(rng: random.Random) -> TextRequest:
    cut = rng.randrange(len(CODE))
    infill = rng.random() < 0.5
    return TextRequest(
        prompt=rng.choice(PROMPTS),
        prefix=CODE[:cut] if infill else "",
        suffix=CODE[min(cut + 12, len(CODE)) :] if infill else "",
        length=rng.choice([16, 24, 40]),
        steps=rng.choice([None, 4, 9]),
        sampler=rng.choice(["auto", *(rule for rule in RULES if rule != "verified")]),
        temperature=rng.choice([0.0, 0.7, 1.0]),
        guidance=rng.choice([1.0, 1.0, 1.5]),
        seed=rng.randrange(2**31),
    )


def _trajectory(rng: random.Random) -> TrajectoryRequest:
    row, column = rng.choice(MAZES["maze2d-umaze"].starts.tolist())
    x, y = row + rng.uniform(-0.1, 0.1), column + rng.uniform(-0.1, 0.1)
    return TrajectoryRequest(
        environment="maze2d-umaze",
        state=(x, y, 0.0, 0.0),
        goal=Goal(position=(1.0, 1.0)),
        candidates=rng.choice([1, 4, 16]),
        steps=rng.choice([1, 4, 8]),
        seed=rng.randrange(2**31),
    )


def measure(*, cases: int = 100, seed: int = 0, models: Sequence[Path] = ()) -> Reproducibility:
    """Compare every case alone and in company, on the shipped models or those in `models`."""
    loaded = load(models)
    modalities = sorted(loaded.pipelines.keys() & get_args(Served))
    drawn = draw(cases, seed, modalities)
    company = draw(cases // 2, seed + 1, modalities)
    wanted = [(modality, replace(request, reproducible=True)) for modality, request in drawn]
    expected = [digest(_alone(loaded, *case)) for case in wanted]
    one, occupancy, _ = _together(loaded, wanted, company, threads=1)
    two, _, with_seconds = _together(loaded, wanted, [], threads=2)
    loose_expected = [digest(_alone(loaded, *case)) for case in drawn]
    loose, _, without_seconds = _together(loaded, drawn, [], threads=2)
    return Reproducibility(
        cases=cases,
        equal_one_thread=sum(a == b for a, b in zip(one, expected, strict=True)),
        equal_two_threads=sum(a == b for a, b in zip(two, expected, strict=True)),
        occupancy=occupancy,
        equal_without=sum(a == b for a, b in zip(loose, loose_expected, strict=True)),
        throughput_share=without_seconds / with_seconds,
        lone_latency_ratio=_lone_seconds(loaded, wanted) / _lone_seconds(loaded, drawn),
        equal_after_kill=asyncio.run(_equal_after_kill(wanted, models)),
    )


def body_of(modality: str, request: Request) -> tuple[str, dict[str, object]]:
    """Path and HTTP body of a request."""
    fields = {name: value for name, value in asdict(request).items() if value is not None}
    if modality == "text":
        return "/diffuse", {"modality": "text", **fields}
    return "/plan", {"domain": "trajectory", **fields}


async def _equal_after_kill(cases: Sequence[tuple[str, Request]], models: Sequence[Path]) -> int:
    """How many answers are the same when sent again, eight at a time, while the engine dies under them."""
    with tempfile.TemporaryDirectory(prefix="perfuse-kill-") as folder:
        flags = [part for model in models for part in ("--model", str(model))]
        with serving(Path(folder) / "data", "--max-backlog-seconds", "600", *flags) as server:
            await server.ready()
            posts = [body_of(*case) for case in cases]
            before = await _answers(server, posts)
            again = asyncio.create_task(_answers(server, posts))
            await asyncio.sleep(0.5)
            os.kill(server.children()["engine"][0], signal.SIGKILL)
            after = await again
    return sum(a == b != (None, None) for a, b in zip(before, after, strict=True))


async def _answers(server: Server, posts: Sequence[tuple[str, dict[str, object]]]) -> list[tuple[object, object]]:
    """What was generated, by request; floats in JSON are exact."""
    gathered: list[tuple[object, object]] = [(None, None)] * len(posts)
    turns = iter(enumerate(posts))

    async def client() -> None:
        for i, (path, body) in turns:
            answer = (await ask(server.port, "POST", path, body)).json()
            gathered[i] = (answer.get("outputs"), answer.get("trajectory"))

    await asyncio.gather(*(client() for _ in range(8)))
    return gathered


def _alone(loaded: Loaded, modality: str, request: Request) -> Result:
    run = AloneRun(request.seed, reproducible=request.reproducible)
    result: Result = run_alone(loaded.pipelines[modality], request, run=run)
    return result


def _together(
    loaded: Loaded, cases: Sequence[tuple[str, Request]], company: Sequence[tuple[str, Request]], *, threads: int
) -> tuple[list[str], float, float]:
    """Digests of the cases run at once beside the company, mean rows per batch, and seconds."""
    engine = Engine(loaded.pipelines, threads=threads, cost=CostModel(threads=threads), backlog_limit=1e9)
    answers = Answers()
    for job, (modality, request) in enumerate([*cases, *company]):
        engine.submit(Job(id=job, modality=modality, request=request), answers)
    started = time.perf_counter()
    engine.run_until_idle()
    seconds = time.perf_counter() - started
    engine.stop()
    engine.run_forever()
    answers.wait(len(cases) + len(company))
    occupancy = engine.counters.rows / engine.counters.batches
    return [digest(answers.results[job]) for job in range(len(cases))], occupancy, seconds


def _lone_seconds(loaded: Loaded, cases: Sequence[tuple[str, Request]]) -> float:
    def seconds(modality: str, request: Request) -> float:
        started = time.perf_counter()
        _alone(loaded, modality, request)
        return time.perf_counter() - started

    return median(seconds(*case) for case in cases)
