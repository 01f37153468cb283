"""Kill the front of a real server, and Redis where there is one, under feedback; then count every id.

    python tests/chaos/feedback_kills.py --rounds 20 --rate 50 --queue redis

Clients post feedback at a fixed rate, each with an idempotency key, and send it again until it is answered with 202.
At the end everything in the inbox is leased: each acknowledged id must be there once, with what was said, and nothing
else.
Prints one JSON object; exit code 1 if a promise was broken.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from perfuse.evaluation.load import Server, ask, serving
from perfuse.queue.inbox import connect
from perfuse.wire import unpack_feedback

BURST = 15
"""Posts sent at once just before each kill, so that it meets some half way."""


@dataclass
class Report:
    """What happened.

    Attributes:
        queue: what kept the feedback, in its own words.
        retried: posts sent again after a broken connection or a 503.
        repeated: posts sent again although they were acknowledged.
        seconds: from the first post to the last acknowledgement.
        lost: acknowledged and not in the inbox.
        doubled: in the inbox more than once, by id or by what was said.
        strange: in the inbox and never acknowledged.
        changed: acknowledged under two ids, or kept with other words than were sent.
    """

    rounds: int
    queue: str = ""
    kills: dict[str, int] = field(default_factory=dict)
    sent: int = 0
    acknowledged: int = 0
    retried: int = 0
    repeated: int = 0
    seconds: float = 0.0
    statuses: dict[int, int] = field(default_factory=dict)
    lost: int = 0
    doubled: int = 0
    strange: int = 0
    changed: int = 0
    exit_code: int = -1

    @property
    def broken(self) -> list[str]:
        """The promises not kept, in words."""
        counts = {"lost": self.lost, "doubled": self.doubled, "strange": self.strange, "changed": self.changed}
        found = [f"{count} {name}" for name, count in counts.items() if count]
        found += [f"{self.sent - self.acknowledged} never acknowledged"] if self.sent != self.acknowledged else []
        wrong = {status: count for status, count in self.statuses.items() if status not in (202, 503)}
        found += [f"{count} answers with status {status}" for status, count in wrong.items()]
        return found + ([f"exit code {self.exit_code}"] if self.exit_code else [])


class Redis:
    """A redis-server with an append-only file on a unix socket, which can be killed and comes back with its data."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        self.path = folder / "socket"
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        program = shutil.which("redis-server")
        assert program is not None, "this needs redis-server"
        self.path.unlink(missing_ok=True)
        flags = ["--port", "0", "--unixsocket", str(self.path), "--dir", str(self._folder), "--appendonly", "yes"]
        return subprocess.Popen([program, *flags, "--save", ""], stdout=subprocess.DEVNULL)

    def wait(self) -> None:
        """Until it answers."""
        deadline = time.monotonic() + 20
        while True:
            with socket.socket(socket.AF_UNIX) as probe:
                if probe.connect_ex(str(self.path)) == 0:
                    probe.sendall(b"PING\r\n")
                    if probe.recv(16).startswith(b"+PONG"):
                        return
            assert time.monotonic() < deadline, "redis-server did not start"
            time.sleep(0.01)

    def kill(self) -> None:
        """kill -9 and start again."""
        self.process.kill()
        self.process.wait()
        self.process = self._start()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


class Load:
    """Feedback at a fixed rate, each sent until it is acknowledged."""

    def __init__(self, server: Server, report: Report, rate: float, generations: list[str]) -> None:
        self._server, self._report, self._rate, self._generations = server, report, rate, generations
        self.ids: dict[int, str] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._stopped = False

    async def run(self) -> None:
        """Send until `stop`."""
        started = time.monotonic()
        while not self._stopped:
            self.send()
            await asyncio.sleep(max(0.0, started + self._report.sent / self._rate - time.monotonic()))
        if self._running:
            await asyncio.wait(self._running, timeout=60)
        self._report.seconds = round(time.monotonic() - started, 2)

    def send(self, count: int = 1) -> None:
        """Send at once."""
        for _ in range(count):
            task = asyncio.create_task(self._acknowledged(self._report.sent))
            self._report.sent += 1
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    def stop(self) -> None:
        """Send nothing new."""
        self._stopped = True

    async def _acknowledged(self, number: int) -> None:
        await self._post(number)
        self._report.acknowledged += 1
        if number % 7 == 0:
            self._report.repeated += 1
            await self._post(number)

    async def _post(self, number: int) -> None:
        body = {
            "generation_id": self._generations[number % len(self._generations)],
            "source": f"agent-{number}",
            "correction": f"text {number}",
            "idempotency_key": f"key-{number}",
        }
        while True:
            try:
                answer = await ask(self._server.port, "POST", "/feedback", body)
            except OSError:
                self._report.retried += 1
                await asyncio.sleep(0.02)
                continue
            self._report.statuses[answer.status] = self._report.statuses.get(answer.status, 0) + 1
            if answer.status == 202:
                break
            self._report.retried += 1
            await asyncio.sleep(0.2)
        identity = str(answer.json()["feedback_id"])
        if self.ids.setdefault(number, identity) != identity:
            self._report.changed += 1


async def generate(server: Server, count: int) -> list[str]:
    """Ids of generations to give feedback on."""
    body = {"modality": "text", "prompt": "Return the sum of a list.", "length": 4, "steps": 1}
    answers = [(await ask(server.port, "POST", "/diffuse", body)).json() for _ in range(count)]
    assert all(answer["recorded"] for answer in answers)
    return [str(answer["id"]) for answer in answers]


async def storm(server: Server, redis: Redis | None, report: Report, *, rate: float, seed: int) -> dict[int, str]:
    """All rounds on one server; the acknowledged id of each feedback."""
    draw = random.Random(seed)
    await server.ready()
    report.queue = str((await ask(server.port, "GET", "/readyz")).json()["inbox"])
    load = Load(server, report, rate, await generate(server, 5))
    sending = asyncio.create_task(load.run())
    for number in range(report.rounds):
        await asyncio.sleep(draw.uniform(0.2, 1.0))
        load.send(BURST)
        await asyncio.sleep(draw.uniform(0.0, 0.04))
        if redis is not None and number % 2:
            report.kills["redis"] = report.kills.get("redis", 0) + 1
            redis.kill()
        else:
            while not (fronts := server.children()["front"]):
                await asyncio.sleep(0.01)
            report.kills["front"] = report.kills.get("front", 0) + 1
            os.kill(fronts[0], signal.SIGKILL)
    await asyncio.sleep(1.0)
    load.stop()
    await sending
    return load.ids


async def reconcile(queue: str, data_dir: Path, ids: dict[int, str], report: Report) -> None:
    """Compare what was acknowledged with what is kept, id by id."""
    inbox = connect(queue, data_dir)
    await inbox.open()
    kept = [(lease.id, unpack_feedback(lease.item)) for lease in await inbox.lease(1_000_000, 60)]
    await inbox.close()
    found = Counter(identity for identity, _ in kept)
    said = Counter(item.source for _, item in kept)
    report.lost = len(set(ids.values()) - set(found))
    report.strange = len(set(found) - set(ids.values()))
    report.doubled = sum(count - 1 for counts in (found, said) for count in counts.values())
    words = {identity: (item.source, item.correction) for identity, item in kept}
    report.changed += sum(
        words.get(identity, expected) != expected
        for identity, expected in ((ids[number], (f"agent-{number}", f"text {number}")) for number in ids)
    )


@contextmanager
def _redis(wanted: bool, folder: Path) -> Iterator[Redis | None]:
    if not wanted:
        yield None
        return
    redis = Redis(folder)
    try:
        redis.wait()
        yield redis
    finally:
        redis.stop()


def run(rounds: int, *, rate: float = 50.0, seed: int = 0, with_redis: bool = False) -> Report:
    """Start a server, storm it, stop it, and reconcile."""
    report = Report(rounds)
    with tempfile.TemporaryDirectory(prefix="perfuse-feedback-") as folder:
        data_dir = Path(folder) / "data"
        with _redis(with_redis, Path(folder) / "redis") as redis:
            queue = "sqlite" if redis is None else f"unix://{redis.path}"
            with serving(data_dir, "--queue", queue, "--evolution", "off") as server:
                ids = asyncio.run(storm(server, redis, report, rate=rate, seed=seed))
                report.exit_code = server.stop()
            asyncio.run(reconcile(queue, data_dir, ids, report))
    return report


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--rate", type=float, default=50.0, help="feedback per second")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--queue", choices=("sqlite", "redis"), default="sqlite")
    options = parser.parse_args()
    report = run(options.rounds, rate=options.rate, seed=options.seed, with_redis=options.queue == "redis")
    sys.stdout.write(json.dumps({**asdict(report), "broken": report.broken}, indent=1) + "\n")
    return 1 if report.broken else 0


if __name__ == "__main__":
    sys.exit(main())
