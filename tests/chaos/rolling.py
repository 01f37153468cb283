"""Two servers on one Redis are restarted in turn, process by process, under load: does any request fail?

    python -m chaos.rolling --minutes 10

Each client asks one server, then finds the generation and sends feedback for it at the other one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path

from chaos.feedback_kills import Redis
from perfuse.evaluation.load import Connection, Server, serving

BODY = {"modality": "text", "prompt": "Return the sum of a list.", "length": 4, "steps": 2, "seed": 0}
RESTART_SECONDS = 120.0


@dataclass
class Report:
    """What happened.

    Attributes:
        answers: by path and status; status 0 where the connection broke.
        unrecorded: answers that say that the ledger did not take them in time; nobody can find them again.
        restarts: of one server each, from SIGHUP until all its processes were new.
        restart_seconds: each.
        seconds: of each /diffuse.
    """

    answers: Counter[str] = field(default_factory=Counter)
    unrecorded: int = 0
    restarts: int = 0
    restart_seconds: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """Answers that are no success."""
        return sum(count for name, count in self.answers.items() if not name.split()[1].startswith("2"))

    def as_dict(self) -> dict[str, object]:
        """The figures."""
        cuts = statistics.quantiles(self.seconds, n=100)
        shown = asdict(self) | {
            "answers": dict(self.answers),
            "failed": self.failed,
            "p50": cuts[49],
            "p99": cuts[98],
            "longest": max(self.seconds),
        }
        return {**shown, "seconds": len(self.seconds), "restart_seconds": [round(s, 1) for s in self.restart_seconds]}


async def ask(report: Report, connection: Connection, method: str, path: str, body: object = None) -> dict[str, object]:
    """One request, counted."""
    name = "/" + path.split("/")[1]
    try:
        answer = await connection.request(method, path, body)
    except OSError:
        report.answers[f"{name} 0"] += 1
        return {}
    report.answers[f"{name} {answer.status}"] += 1
    if name == "/diffuse":
        report.seconds.append(answer.seconds)
    return answer.json() if answer.status // 100 == 2 else {}


async def client(report: Report, here: Server, there: Server, stop: asyncio.Event) -> None:
    """Ask here; find it and judge it there."""
    with closing(Connection(here.port)) as one, closing(Connection(there.port)) as other:
        while not stop.is_set():
            made = await ask(report, one, "POST", "/diffuse", BODY)
            if "id" not in made:
                continue
            if not made["recorded"]:
                report.unrecorded += 1
                continue
            await ask(report, other, "GET", f"/generations/{made['id']}")
            said = {"generation_id": made["id"], "source": "a", "accepted": True, "idempotency_key": made["id"]}
            await ask(report, other, "POST", "/feedback", said)


async def restarted(server: Server) -> float:
    """Start every process of a server anew; gives the seconds."""
    log = server.data_dir / "logs" / "supervisor.jsonl"
    ends = log.read_text().count('"restart_ends"')
    began = time.monotonic()
    os.kill(server.process.pid, signal.SIGHUP)
    while log.read_text().count('"restart_ends"') == ends:
        assert time.monotonic() - began < RESTART_SECONDS, "the restart did not end"
        await asyncio.sleep(0.1)
    return time.monotonic() - began


async def roll(servers: Sequence[Server], clients: int, minutes: float, least: int) -> Report:
    """Restart one server after the other, at least `least` times, for as long as it takes."""
    report, stop = Report(), asyncio.Event()
    for server in servers:
        await server.ready(RESTART_SECONDS)
    running = [
        asyncio.create_task(client(report, servers[number % 2], servers[1 - number % 2], stop))
        for number in range(clients)
    ]
    began = time.monotonic()
    while report.restarts < least or time.monotonic() - began < 60 * minutes:
        report.restart_seconds.append(await restarted(servers[report.restarts % 2]))
        report.restarts += 1
        await asyncio.sleep(1.0)
    stop.set()
    await asyncio.gather(*running)
    return report


def run(folder: Path, *, clients: int = 8, minutes: float = 0.0, least: int = 2) -> Report:
    """Two servers on one Redis in `folder`; the first has two engines and learns."""
    redis = Redis(folder / "redis")
    try:
        redis.wait()
        flags = ("--queue", f"unix://{redis.path}", "--secret", str(folder / "secret"), "--threads", "1")
        with (
            serving(folder / "first", *flags, "--workers", "2") as first,
            serving(folder / "second", *flags, "--evolution", "off") as second,
        ):
            return asyncio.run(roll([first, second], clients, minutes, least))
    finally:
        redis.stop()


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=8)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="perfuse-rolling-") as folder:
        report = run(Path(folder), clients=given.clients, minutes=given.minutes)
    sys.stdout.write(json.dumps(report.as_dict(), indent=2) + "\n")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
