"""Kill every part of a server that learns, at each stage of learning, under feedback; then account for every id.

    cd tests && python -m chaos.learning_kills --rounds 100 --rate 20 --queue redis

Clients post corrections of tasks that the model cannot do, each with an idempotency key, and send them again until
they are answered with 202. Meanwhile front, engine, evolution worker, trainer and Redis are killed with SIGKILL; the
worker when it is seen at a chosen stage. One item kills the worker whenever it is begun, another is no JSON.
At the end every acknowledged id must be one row or a dead item, and what was learned must follow from the rows.
Prints one JSON object; exit code 1 if a promise was broken.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import random
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from chaos.feedback_kills import Redis
from chaos.learning_lineage import feedback_problems, lineage_problems
from chaos.learning_stages import Outside, named
from perfuse import __version__
from perfuse.engine.housing import STORE
from perfuse.evaluation.learning import request_of, verifier_of
from perfuse.evaluation.load import Server, ask, children_of, serving
from perfuse.evolution.learned import Learned
from perfuse.pipelines.shipped import SHIPPED
from perfuse.queue.inbox import DeadItem, InboxUnavailable, Put, connect
from perfuse.store.kit import Kit, read_kit
from perfuse.store.learning import ADAPTATIONS, JOBS
from perfuse.training.corpus import families

Queue = Literal["sqlite", "redis"]
FLAGS = ("--train-after", "8", "--train-steps", "5", "--max-backlog-seconds", "600")
PARTS = ("front", "learner", "engine", "learner", "trainer", "learner")
STAGES = ("lease", "train", "verify", "gate", "ack", "blob", "cas")
"""Where the worker is killed, in turn."""
POISON_KILLS = 3
"""So often is an item begun before it is put aside."""
BURST = 15
"""Posts sent at once just before a kill of front or Redis, so that it meets some half way."""
LOOK_SECONDS = 0.002
POISON = "def poison():\n    while True:\n        pass\n"
UNREADABLE = b"\xff no JSON"


@dataclass(frozen=True)
class Options:
    """How the storm is.

    Attributes:
        rate: feedback per second.
        tasks: of each of two families.
        patience: seconds for which a stage is waited for.
        drain: seconds within which less must wait in the inbox, until it is empty at the end.
    """

    rate: float = 20.0
    tasks: int = 12
    patience: float = 60.0
    drain: float = 300.0
    seed: int = 0


@dataclass
class Report:
    """What happened.

    Attributes:
        version: of perfuse.
        queue: what kept the feedback, in its own words: version and persistence.
        kills: by part.
        stages: how often a kill of worker or trainer found it there; it takes feedback and works on a job at once.
        chosen: stages that were waited for, and how often they came in time.
        unseen: stages that were waited for in vain; the worker was killed all the same.
        statuses: of answers to feedback; `orders`: of answers to promotions and roll-backs.
        seconds: from the first post to the last acknowledgement; `drained`: from then until the inbox was empty.
        lost: acknowledged, and neither a row nor dead.
        doubled: kept twice, by id or by what was said.
        strange: kept and never acknowledged.
        changed: acknowledged under two ids, or kept with other words than were sent.
        dead: why items were put aside.
        innocent: put aside, and no poison.
        spared: poison that was not put aside.
        contradictions: in the lineage.
        orphans: processes left.
    """

    rounds: int
    version: str = __version__
    queue: str = ""
    kills: Counter[str] = field(default_factory=Counter)
    stages: Counter[str] = field(default_factory=Counter)
    chosen: Counter[str] = field(default_factory=Counter)
    unseen: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    acknowledged: int = 0
    retried: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    orders: Counter[int] = field(default_factory=Counter)
    seconds: float = 0.0
    drained: float = 0.0
    jobs: Counter[str] = field(default_factory=Counter)
    adaptations: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    doubled: int = 0
    strange: int = 0
    changed: int = 0
    dead: Counter[str] = field(default_factory=Counter)
    innocent: int = 0
    spared: int = 0
    contradictions: list[str] = field(default_factory=list)
    orphans: int = 0
    exit_code: int = -1

    @property
    def broken(self) -> list[str]:
        """The promises not kept, in words."""
        names = ("lost", "doubled", "strange", "changed", "innocent", "spared", "orphans")
        found = [f"{getattr(self, name)} {name}" for name in names if getattr(self, name)]
        found += [f"{self.sent - self.acknowledged} never acknowledged"] if self.sent != self.acknowledged else []
        wrong = {status: count for status, count in self.statuses.items() if status not in (202, 503)}
        found += [f"{count} answers with status {status}" for status, count in wrong.items()]
        return found + self.contradictions + ([f"exit code {self.exit_code}"] if self.exit_code else [])


class Load:
    """Feedback at a fixed rate, each sent until it is acknowledged.

    Attributes:
        said: source and correction of what was acknowledged, by its id.
    """

    def __init__(self, server: Server, report: Report, rate: float, tasks: Sequence[tuple[str, families.FamilyTask]]):
        self._server, self._report, self._rate, self._tasks = server, report, rate, tasks
        self.said: dict[str, tuple[str, str]] = {}
        self._running: set[asyncio.Task[str]] = set()
        self._stopped = False

    async def run(self) -> None:
        """Send until `stop`."""
        started = time.monotonic()
        while not self._stopped:
            self.send()
            await asyncio.sleep(max(0.0, started + self._report.sent / self._rate - time.monotonic()))
        if self._running:
            await asyncio.wait(self._running, timeout=120)
        self._report.seconds = round(time.monotonic() - started, 1)

    def send(self, count: int = 1) -> None:
        """Send at once. One request in four comes with tests, of the others several sources say the same."""
        for _ in range(count):
            which = self._report.sent % len(self._tasks)
            identity, drawn = self._tasks[which]
            tests = {"verifier": verifier_of(drawn.task)} if which % 4 == 0 else {}
            self._begin(identity, drawn.task.code, **tests)

    def poison(self) -> asyncio.Task[str]:
        """Send an item whose verifier takes long enough to kill whoever runs it; gives its id."""
        tests = {"kind": "python_tests", "entry_point": "poison", "cases": [{"args": [], "expected": 1}]}
        return self._begin(self._tasks[0][0], POISON, verifier=tests)

    def stop(self) -> None:
        """Send nothing new."""
        self._stopped = True

    def _begin(self, identity: str, correction: str, **more: object) -> asyncio.Task[str]:
        number, self._report.sent = self._report.sent, self._report.sent + 1
        body = {
            "generation_id": identity, "source": f"agent-{number}", "correction": correction,
            "idempotency_key": f"key-{number}", **more,
        }  # fmt: skip
        task = asyncio.create_task(self._acknowledged(number, body))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def _acknowledged(self, number: int, body: dict[str, object]) -> str:
        identity = await self._post(body)
        self._report.acknowledged += 1
        self.said[identity] = (str(body["source"]), str(body["correction"]))
        if number % 7 == 0 and await self._post(body) != identity:
            self._report.changed += 1
        return identity

    async def _post(self, body: dict[str, object]) -> str:
        while True:
            with suppress(OSError):
                answer = await ask(self._server.port, "POST", "/feedback", body)
                self._report.statuses[answer.status] += 1
                if answer.status == 202:
                    return str(answer.json()["feedback_id"])
            self._report.retried += 1
            await asyncio.sleep(0.1)


class Storm:
    """Kills parts of one server.

    Args:
        server: what is stormed.
        outside: sees where its worker is.
        redis: its queue, None where that is SQLite.
        load: the feedback.
        report: what happens is counted there.
        patience: seconds for which a stage is waited for.
        seed: of all that is drawn.
    """

    def __init__(
        self,
        server: Server,
        outside: Outside,
        redis: Redis | None,
        load: Load,
        report: Report,
        patience: float,
        seed: int,
    ) -> None:
        self._server, self._outside, self._redis, self._load, self._report = server, outside, redis, load, report
        self._patience = patience
        self._orders: set[asyncio.Task[None]] = set()
        self._draw = random.Random(seed)

    async def run(self) -> None:
        """All rounds, the poison's among them."""
        parts = [*PARTS, "redis"] if self._redis is not None else [*PARTS]
        stages = [*STAGES]
        poisoning = asyncio.create_task(self._poison())
        for number in itertools.count():
            reserved = 0 if poisoning.done() else POISON_KILLS - self._report.chosen["poison"]
            if sum(self._report.kills.values()) + reserved >= self._report.rounds:
                break
            part = parts[number % len(parts)]
            await asyncio.sleep(self._draw.uniform(0.2, 1.0))
            if part != "learner":
                await self._kill(part)
            elif poisoning.done():  # before, the worker has its hands full with the poison
                stages.append(stages.pop(0))
                await self._kill_learner(stages[-1])
        await poisoning

    # other parts -----------------------------------------------------------------------------------------------------

    async def _kill(self, part: str) -> None:
        if part == "redis":
            assert self._redis is not None
            await self._meet_posts()
            self._redis.kill()
            self._report.kills[part] += 1
            return
        if part == "front":
            await self._meet_posts()
        if (victim := await self._alive(part)) is None:
            return
        stages = self._kill_now(part, victim)
        if part == "trainer":
            self._report.stages.update(stages)
        else:
            await self._until(self._ready, 60, f"no {part} came back")

    async def _meet_posts(self) -> None:
        self._load.send(BURST)
        await asyncio.sleep(self._draw.uniform(0.0, 0.04))

    async def _alive(self, part: str) -> int | None:
        """The process; None where none comes in time, as there is not always a trainer."""
        deadline = time.monotonic() + self._patience
        while not (found := named(self._server.process.pid, part)):
            if time.monotonic() >= deadline:
                self._report.unseen[part] += 1
                return None
            await asyncio.sleep(0.05)
        if part == "trainer":
            await asyncio.sleep(self._draw.uniform(0.0, 6.0))
        return found[0]

    def _kill_now(self, part: str, victim: int) -> list[str]:
        """SIGKILL; gives where the worker was then."""
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
            self._report.kills[part] += 1
        return [stage for stage in (self._outside.taking(), self._outside.working()) if stage]

    async def _ready(self) -> bool:
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(2):
                return (await ask(self._server.port, "GET", "/readyz")).status == 200
        return False

    # the worker ------------------------------------------------------------------------------------------------------

    async def _kill_learner(self, stage: str) -> None:
        victim = await self._learner()
        seen = await self._at(stage)
        (self._report.chosen if seen else self._report.unseen)[stage] += 1
        self._report.stages.update(self._kill_now("learner", victim) or ["idle"])

    async def _learner(self) -> int:
        """The worker, once it takes orders."""
        await self._until(self._taking_orders, 60, "no evolution worker came back")
        return named(self._server.process.pid, "learner")[0]

    async def _taking_orders(self) -> bool:
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(5):
                return (await ask(self._server.port, "GET", "/evolution")).status == 200
        return False

    async def _at(self, stage: str) -> bool:
        """Wait until the worker is seen at the stage."""
        if stage == "cas":
            return await self._ordering()
        if stage in ("train", "gate", "blob"):
            await self._make_room()
        looks: dict[str, Callable[[], bool]] = {
            "train": lambda: bool(named(self._server.process.pid, "trainer")),
            "gate": lambda: self._outside.working() == "gate",
            "blob": self._outside.drafting,
        }
        look = looks.get(stage, lambda: self._outside.taking() == stage)
        deadline = time.monotonic() + self._patience
        while not look():
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(LOOK_SECONDS)
        if stage in ("train", "gate"):
            await asyncio.sleep(self._draw.uniform(0.0, 2.0 if stage == "train" else 0.3))
        return True

    async def _make_room(self) -> None:
        """End the canaries, of which a cluster has one at a time, so that there are trainings to come."""
        for alias in self._outside.aliases():
            if alias.canary is not None:
                await self._order(alias.canary, self._draw.choice(("promote", "rollback")))

    async def _ordering(self) -> bool:
        """Have an alias moved; gives whether there was one to move, when the order is on its way."""
        deadline = time.monotonic() + self._patience
        while not (movable := [alias for alias in self._outside.aliases() if alias.canary or alias.champion]):
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(0.05)
        alias = self._draw.choice(movable)
        moved, verb = (alias.canary, "promote") if alias.canary else (alias.champion, "rollback")
        order = asyncio.create_task(self._order(str(moved), verb))
        self._orders.add(order)
        order.add_done_callback(self._orders.discard)
        await asyncio.sleep(self._draw.uniform(0.0, 0.03))
        return True

    async def _order(self, adaptation: str, verb: str) -> None:
        with suppress(OSError):
            body = {"force": True} if verb == "promote" else None
            answer = await ask(self._server.port, "POST", f"/adapters/{adaptation}/{verb}", body)
            self._report.orders[answer.status] += 1

    async def _poison(self) -> None:
        """Kill the worker whenever it has begun the poison, until that is put aside."""
        identity = await self._load.poison()
        seen = 0
        while (attempts := self._outside.attempts(identity)) is not None:
            if attempts > seen and identity in self._outside.leased():
                seen = attempts
                victim = named(self._server.process.pid, "learner")[0]
                self._report.stages.update(self._kill_now("learner", victim))
                self._report.chosen["poison"] += 1
            await asyncio.sleep(0.05)

    async def _until(self, there: Callable[[], object], seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        while not await there():
            assert time.monotonic() < deadline, f"{what} within {seconds:g} s"
            await asyncio.sleep(0.05)


async def generate(server: Server, count: int) -> list[tuple[str, families.FamilyTask]]:
    """Generations to correct, with the tasks they were about."""
    drawn = [task for family in families.demonstrated(0)[:2] for task in families.tasks(family, "feedback", count)]
    found = []
    for task in drawn:
        answer = (await ask(server.port, "POST", "/diffuse", request_of(task.task))).json()
        assert answer["recorded"], answer
        found.append((str(answer["id"]), task))
    return found


async def storm(server: Server, queue: str, redis: Redis | None, report: Report, options: Options) -> Load:
    """All rounds on one server, until nothing waits any more."""
    await server.ready()
    kept = str((await ask(server.port, "GET", "/readyz")).json()["inbox"])
    report.queue = kept if redis else f"SQLite {sqlite3.sqlite_version}, synchronous=FULL, {kept}"
    load = Load(server, report, options.rate, await generate(server, options.tasks))
    inbox = connect(queue, server.data_dir)
    await inbox.open()
    await inbox.put(Put(UNREADABLE))
    outside = Outside(server.data_dir, queue)
    sending = asyncio.create_task(load.run())
    try:
        await Storm(server, outside, redis, load, report, options.patience, options.seed).run()
        load.stop()
        await sending
        began = moved = time.monotonic()
        least = sys.maxsize
        while True:
            with suppress(InboxUnavailable):
                stats = await inbox.stats()
                if not stats.waiting and not stats.leased:
                    break
                if stats.waiting < least:
                    least, moved = stats.waiting, time.monotonic()
            assert time.monotonic() - moved < options.drain, f"for {options.drain:g} s {stats} is left"
            await asyncio.sleep(0.2)
        report.drained = round(time.monotonic() - began, 1)
    finally:
        sending.cancel()
        outside.close()
        await inbox.close()
    return load


async def dead_items(queue: str, data_dir: Path) -> list[DeadItem]:
    """What was put aside."""
    inbox = connect(queue, data_dir)
    await inbox.open()
    try:
        return await inbox.dead_items()
    finally:
        await inbox.close()


def reconcile(data_dir: Path, kit: Kit, load: Load, dead: list[DeadItem], report: Report) -> None:
    """Account for every id, and for what was learned."""
    poison = {identity for identity, (_, words) in load.said.items() if words == POISON}
    unreadable = {item.id for item in dead if item.size == len(UNREADABLE)}
    report.dead = Counter(item.reason for item in dead)
    report.innocent = len({item.id for item in dead} - poison - unreadable)
    report.spared = len(poison - {item.id for item in dead}) + (not unreadable)
    with Learned.open(data_dir / STORE, kit.embedder) as learned:
        for name, count in feedback_problems(learned, load.said, dead).items():
            setattr(report, name, getattr(report, name) + count)
        report.contradictions = lineage_problems(learned, kit, data_dir / "evolution")
        snapshot = learned.store.snapshot()
        report.jobs = Counter(job.state for job in JOBS.scan(snapshot))
        report.adaptations = Counter(made.state for made in ADAPTATIONS.scan(snapshot))


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


def run(rounds: int, queue: Queue = "sqlite", options: Options | None = None) -> Report:
    """Start a server, storm it, stop it, and reconcile."""
    report = Report(rounds)
    kit = read_kit(SHIPPED / "code-small")
    assert kit is not None
    with tempfile.TemporaryDirectory(prefix="perfuse-learning-") as folder:
        data_dir = Path(folder) / "data"
        with _redis(queue == "redis", Path(folder) / "redis") as redis:
            address = "sqlite" if redis is None else f"unix://{redis.path}"
            with serving(data_dir, *FLAGS, "--queue", address) as server:
                try:
                    load = asyncio.run(storm(server, address, redis, report, options or Options()))
                except BaseException:
                    sys.stderr.write((data_dir.parent / f"{data_dir.name}.log").read_text()[-20_000:])
                    raise
                family = children_of(server.process.pid)
                report.exit_code = server.stop()
                report.orphans = sum(Path(f"/proc/{pid}").exists() for pid in family)
            dead = asyncio.run(dead_items(address, data_dir))
        reconcile(data_dir, kit, load, dead, report)
    return report


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--queue", choices=("sqlite", "redis"), default="sqlite")
    parser.add_argument("--rate", type=float, default=20.0, help="feedback per second")
    parser.add_argument("--tasks", type=int, default=12, help="of each of two families")
    parser.add_argument("--patience", type=float, default=60.0, help="seconds for which a stage is waited for")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    options = Options(rate=given.rate, tasks=given.tasks, patience=given.patience, seed=given.seed)
    report = run(given.rounds, given.queue, options)
    sys.stdout.write(json.dumps({**vars(report), "broken": report.broken}, indent=1) + "\n")
    return 1 if report.broken else 0


if __name__ == "__main__":
    sys.exit(main())
