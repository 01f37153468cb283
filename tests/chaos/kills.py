"""Kill parts of a real server at random moments under load, and count what went wrong.

    python tests/chaos/kills.py --rounds 20 --rate 25

Clients send `POST /diffuse` at a fixed rate with fixed seeds, and send again only what met a refused or broken
connection, with the same body. Each round kills front, engine or a nursery with SIGKILL at a random moment and waits
until the server is ready again. Prints one JSON object; exit code 1 if a promise was broken.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from perfuse.evaluation.load import Connection, Server, children_of, serving

PARTS = ("front", "engine", "nursery")
READY_WITHIN = {"front": 2.0, "engine": 10.0, "nursery": 10.0}
PROMPTS = (
    "Return the sum of a list.",
    "Write a function that doubles every number of a list.",
    "Count the vowels of a text.",
)


@dataclass
class Report:
    """What happened.

    Attributes:
        recovery: seconds from each kill to the next 200 of /readyz from a server whose victim was replaced, by part.
        differing: reproducible requests of one seed whose text differed before and after a crash.
    """

    rounds: int
    sent: int = 0
    retried: int = 0
    statuses: dict[int, int] = field(default_factory=dict)
    recovery: dict[str, list[float]] = field(default_factory=lambda: {part: [] for part in PARTS})
    unanswered: int = 0
    differing: int = 0
    slowest_answer: float = 0.0
    orphans: int = 0
    stale_files: int = 0
    exit_code: int = -1

    @property
    def broken(self) -> list[str]:
        """The promises not kept, in words."""
        found = [
            f"{part} ready after {max(times):.2f} s, promised {READY_WITHIN[part]:g} s"
            for part, times in self.recovery.items()
            if times and max(times) >= READY_WITHIN[part]
        ]
        wrong = {status: count for status, count in self.statuses.items() if status != 200}
        checks = {"unanswered": self.unanswered, "differing": self.differing, "orphans": self.orphans}
        found += [f"{count} {name}" for name, count in checks.items() if count]
        found += [f"{count} answers with status {status}" for status, count in wrong.items()]
        found += [f"{self.stale_files} stale files"] if self.stale_files else []
        found += [f"exit code {self.exit_code}"] if self.exit_code else []
        return found


class Load:
    """Requests at a fixed rate, each retried until answered."""

    def __init__(self, server: Server, report: Report, rate: float) -> None:
        self._server = server
        self._report = report
        self._rate = rate
        self._texts: dict[int, str] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._stopped = False

    async def run(self) -> None:
        """Send until `stop`."""
        started = time.monotonic()
        while not self._stopped:
            number = self._report.sent
            self._report.sent += 1
            task = asyncio.create_task(self._answered(number))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
            await asyncio.sleep(max(0.0, started + self._report.sent / self._rate - time.monotonic()))

    async def stop(self) -> None:
        """Send nothing more and wait for every answer."""
        self._stopped = True
        _, pending = await asyncio.wait(self._running, timeout=60) if self._running else (set(), set())
        self._report.unanswered = len(pending)

    async def _answered(self, number: int) -> None:
        seed = number % 30
        body = {
            "modality": "text",
            "prompt": PROMPTS[seed % len(PROMPTS)],
            "length": 4,
            "steps": 1,
            "seed": seed,
            "temperature": 0.7,
            "reproducible": True,
        }
        began = time.monotonic()
        while True:
            connection = Connection(self._server.port)
            try:
                answer = await connection.request("POST", "/diffuse", body)
            except OSError:
                self._report.retried += 1
                await asyncio.sleep(0.02)
                continue
            finally:
                connection.close()
            break
        self._report.slowest_answer = max(self._report.slowest_answer, time.monotonic() - began)
        statuses = self._report.statuses
        statuses[answer.status] = statuses.get(answer.status, 0) + 1
        if answer.status == 200:
            outputs = answer.json()["outputs"]
            assert isinstance(outputs, list)
            if self._texts.setdefault(seed, outputs[0]["text"]) != outputs[0]["text"]:
                self._report.differing += 1


async def _back(server: Server, part: str, victim: int) -> float:
    """Seconds until the victim's successor works."""
    began = time.monotonic()
    while True:
        if time.monotonic() - began > 60:
            raise TimeoutError(f"{part} did not come back within 60 s")
        successors = [pid for pid in server.children()[part] if pid != victim]
        if len(successors) == (2 if part == "nursery" else 1) and await _ready(server):
            return time.monotonic() - began
        await asyncio.sleep(0.02)


async def _ready(server: Server) -> bool:
    connection = Connection(server.port)
    try:
        async with asyncio.timeout(2):
            return (await connection.request("GET", "/readyz")).status == 200
    except (OSError, TimeoutError):
        return False
    finally:
        connection.close()


async def storm(server: Server, report: Report, *, rate: float, seed: int) -> None:
    """All rounds on one server."""
    draw = random.Random(seed)
    await server.ready()
    load = Load(server, report, rate)
    sending = asyncio.create_task(load.run())
    await asyncio.sleep(1.0)
    for number in range(report.rounds):
        part = PARTS[number % 2] if number % 5 != 4 else "nursery"
        await asyncio.sleep(draw.uniform(0.2, 1.5))
        (victim, *_) = server.children()[part]
        os.kill(victim, signal.SIGKILL)
        report.recovery[part].append(round(await _back(server, part, victim), 3))
    await asyncio.sleep(1.0)
    await load.stop()
    await sending


def run(rounds: int, *, rate: float = 20.0, seed: int = 0) -> Report:
    """Start a server, storm it, stop it, and look for what it left behind."""
    report = Report(rounds)
    with tempfile.TemporaryDirectory(prefix="perfuse-kills-") as folder:
        data_dir = Path(folder) / "data"
        with serving(data_dir, "--max-backlog-seconds", "60") as server:
            asyncio.run(storm(server, report, rate=rate, seed=seed))
            family = children_of(server.process.pid)
            report.exit_code = server.stop()
            report.orphans = sum(Path(f"/proc/{pid}").exists() for pid in family)
            report.stale_files = len(list(data_dir.rglob("*.sock"))) + len(list(data_dir.rglob("*.flight")))
    return report


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--rate", type=float, default=20.0, help="requests per second")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    report = run(options.rounds, rate=options.rate, seed=options.seed)
    sys.stdout.write(json.dumps({**asdict(report), "broken": report.broken}, indent=1) + "\n")
    return 1 if report.broken else 0


if __name__ == "__main__":
    sys.exit(main())
