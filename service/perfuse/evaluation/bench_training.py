"""`perfuse bench training`: what a training beside the engine costs those who are served.

One client sends short requests at a fixed rate, in windows that alternate: the trainer child, the one that the
evolution worker starts, computes in every other window and is stopped in those between. So both see the same machine.

Run it without `nice`: a server at nice 19 has 5 times the weight of an idle-class trainer instead of 341 times.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from statistics import quantiles

from perfuse.errors import PerfuseError
from perfuse.evaluation.load import Connection, serving
from perfuse.evolution.answers import Asked
from perfuse.evolution.lessons import lesson_line
from perfuse.evolution.training import progress
from perfuse.store.files import write_whole
from perfuse.store.kit import Kit, find_kit
from perfuse.training.corpus.families import NEAR, tasks

TARGET = 1.5
BODY = {
    "modality": "text",
    "prompt": "Return the sum of the even numbers in a list.",
    "length": 64,
    "steps": 8,
    "sampler": "low_confidence",
    "seed": 0,
}
LESSONS = 96
_SETTLE_SECONDS = 0.5
_START_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class TrainingBench:
    """Seconds from when a request was due to its answer.

    Attributes:
        rate: requests per second.
        niceness: of the server; the figures of a nice one are those of nobody's server.
        idle_requests: requests while the trainer was stopped.
        training_requests: requests while it computed.
        trained_steps: updates of the trainer in its windows.
        ratio_p99: training over idle.
        target: largest ratio asked for.
    """

    rate: float
    niceness: int
    idle_requests: int
    training_requests: int
    trained_steps: int
    idle_p50: float
    idle_p99: float
    training_p50: float
    training_p99: float
    ratio_p50: float
    ratio_p99: float
    target: float

    def as_dict(self) -> dict[str, float]:
        """The figures by name."""
        return asdict(self)


def summary(rate: float, idle: list[float], training: list[float], steps: int) -> TrainingBench:
    """The figures of both kinds of window, of at least two requests each."""
    at_rest, at_work = quantiles(idle, n=100), quantiles(training, n=100)
    return TrainingBench(
        rate=rate,
        niceness=os.getpriority(os.PRIO_PROCESS, 0),
        idle_requests=len(idle),
        training_requests=len(training),
        trained_steps=steps,
        idle_p50=at_rest[49],
        idle_p99=at_rest[98],
        training_p50=at_work[49],
        training_p99=at_work[98],
        ratio_p50=at_work[49] / at_rest[49],
        ratio_p99=at_work[98] / at_rest[98],
        target=TARGET,
    )


async def run(*, rate: float = 5.0, seconds: float = 20.0, rounds: int = 6) -> TrainingBench:
    """Measure `rounds` pairs of windows of `seconds` each.

    Raises:
        PerfuseError: no shipped model has a learning kit, or the trainer ended.
    """
    if (kit := find_kit()) is None:
        raise PerfuseError("no shipped model has a learning kit", hint="make one with `perfuse train kit`")
    with tempfile.TemporaryDirectory(prefix="perfuse-training-") as folder:
        below = Path(folder)
        with serving(below / "data", "--evolution", "off") as server, _trainer(below / "job", kit) as child:
            await server.ready()
            await _begun(child, below / "job")
            idle, training = [], []
            with closing(Connection(server.port)) as connection:
                await _window(connection, rate, 1.0)
                for _ in range(rounds):
                    idle += await _window(connection, rate, seconds)
                    _signal(child, signal.SIGCONT)
                    await asyncio.sleep(_SETTLE_SECONDS)
                    training += await _window(connection, rate, seconds)
                    _signal(child, signal.SIGSTOP)
                    await asyncio.sleep(_SETTLE_SECONDS)
            return summary(rate, idle, training, int(str(progress(below / "job").get("step", 0))))


async def _window(connection: Connection, rate: float, seconds: float) -> list[float]:
    """Seconds of each request from when it was due, so that a late answer counts for those behind it as well."""
    taken = []
    started = time.perf_counter()
    for number in range(max(1, round(rate * seconds))):
        due = started + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        answer = await connection.request("POST", "/diffuse", BODY)
        if answer.status != 200:
            raise PerfuseError(f"POST /diffuse: expected 200, got {answer.status}: {answer.body.decode()[:500]}")
        taken.append(time.perf_counter() - due)
    return taken


@contextmanager
def _trainer(folder: Path, kit: Kit) -> Iterator[subprocess.Popen[bytes]]:
    """A trainer child that goes on for as long as anybody measures."""
    lessons = [lesson_line(Asked(drawn.task.prompt), drawn.task.code) for drawn in tasks(NEAR, "feedback", LESSONS)]
    anchors = Random(0).sample(kit.anchors(), LESSONS)
    replay = [lesson_line(Asked(anchor.prompt), anchor.code) for anchor in anchors]
    write_whole(folder / "lessons.jsonl", "\n".join(lessons).encode())
    write_whole(folder / "replay.jsonl", "\n".join(replay).encode())
    write_whole(folder / "job.json", _job(kit))
    child = subprocess.Popen(  # noqa: S603 (our own interpreter and module)
        [sys.executable, "-m", "perfuse.training.adapt", str(folder)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def _job(kit: Kit) -> bytes:
    config = {"steps": 1_000_000, "minutes": 600.0}
    return json.dumps({"base": str(kit.folder), "config": config, "parent": os.getpid()}).encode()


async def _begun(child: subprocess.Popen[bytes], folder: Path) -> None:
    """Wait until the trainer has made its first step, then stop it."""
    deadline = time.monotonic() + _START_SECONDS
    while not progress(folder):
        if child.poll() is not None or time.monotonic() > deadline:
            raise PerfuseError(f"the trainer has not begun; exit code {child.poll()}")
        await asyncio.sleep(0.1)
    _signal(child, signal.SIGSTOP)


def _signal(child: subprocess.Popen[bytes], which: signal.Signals) -> None:
    if child.poll() is not None:
        raise PerfuseError(f"the trainer ended with {child.poll()}")
    child.send_signal(which)
