"""`perfuse eval drift`: generations of feedback on changing kinds of request; is a champion ever worse than the last?

Then a bad adaptation is put beside the best champion as its canary, as if the gate had let it pass, and has to leave by
what live requests show; and champions are rolled back under load.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, replace
from pathlib import Path

from perfuse.engine.housing import STORE
from perfuse.errors import PerfuseError
from perfuse.evaluation.champions import adapter, champions, given
from perfuse.evaluation.learning import (
    LIVE,
    Score,
    Teaching,
    learned,
    learning,
    live,
    request_of,
    score,
    sent,
    settled,
    status,
    tell,
)
from perfuse.evaluation.load import Connection, Server
from perfuse.evaluation.poison import POINT
from perfuse.evolution.answers import Asked
from perfuse.evolution.learned import Learned
from perfuse.evolution.lessons import lesson_line
from perfuse.evolution.promote import admit, get, start_canary
from perfuse.evolution.training import train
from perfuse.evolution.worker import FOLDER
from perfuse.store import Snapshot
from perfuse.store.files import write_whole
from perfuse.store.kit import Kit, find_kit
from perfuse.store.learning import ALIASES, FEEDBACK
from perfuse.training.corpus import families
from perfuse.training.corpus.families import Family
from perfuse.training.corpus.tasks import Task

CLIENTS = 16
MOST_ROWS = 50
"""Live rows within which a bad canary has to leave."""
ROLLBACK_MS = 100.0
INJECTED_STEPS = 60
_SHARE = 0.25
_CALM_SECONDS = 0.5
_FOOLED = {"outcome": "promote", "reasons": ["injected"], "gain": 0.5, "p_value": 0.0}
"""Report of a gate that let the bad canary pass with the best of grades."""


@dataclass(frozen=True, slots=True)
class Fall:
    """A family that a generation left more than a point below what it was before."""

    generation: int
    family: str
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class Target:
    """The champion beside which the bad canary runs, and the family that it serves."""

    adaptation: str
    family: Family


def scheduled(count: int) -> list[tuple[Family, int]]:
    """Family and seed of each generation: those of the pool in turn, then again with other feedback."""
    pool = families.POOL
    return [(pool[number % len(pool)], number // len(pool)) for number in range(count)]


def fallen(generation: int, before: Mapping[str, float], after: Mapping[str, float]) -> list[Fall]:
    """Families that are more than a point below what they were; rates by name."""
    return [
        Fall(generation, name, before[name], rate)
        for name, rate in after.items()
        if name in before and rate < before[name] - POINT - 1e-9
    ]


async def drift(
    folder: Path,
    *,
    generations: int = 10,
    items: int = 96,
    evaluated: int = 100,
    injected_steps: int = INJECTED_STEPS,
    say: Callable[[str], None] = tell,
) -> dict[str, object]:
    """All generations on one server, then the bad canary, then the rollbacks.

    Args:
        folder: for the data directory.
        generations: how often feedback comes.
        items: corrections of a generation.
        evaluated: tasks per family that nobody corrected.
        injected_steps: updates of the bad adaptation.
        say: told about the progress.

    Raises:
        PerfuseError: no generation made a champion.
    """
    plan = scheduled(generations)
    every = {family.name: family for family, _ in plan}
    with learning(folder) as server:
        await server.ready()
        rows, falls, rates = await _generations(server, plan, items, evaluated, say)
    kit = find_kit()
    assert kit is not None, "the server has learned with it"
    target, bad = await _inject(folder, kit, _families_of(plan, items), every, rates, injected_steps)
    with learning(folder) as server:
        await server.ready()
        injected = await _watched(server, target, bad, items)
        say(f"the bad canary of {target.family.name} is {injected['state']} after {injected['rows']} live rows")
        taken = await rollbacks(server, [drawn.task for drawn in families.tasks(target.family, "evaluation", CLIENTS)])
        say(f"rollbacks took {taken['milliseconds']} ms; {taken['failed']} requests failed")
    return {
        "simulated_feedback": True,
        "items": items,
        "evaluated": evaluated,
        "generations": rows,
        "falls": [{"generation": f.generation, "family": f.family, "from": f.before, "to": f.after} for f in falls],
        "never_below_predecessor": not falls,
        "injected": injected,
        "rollback": taken,
    }


async def _generations(
    server: Server, plan: Sequence[tuple[Family, int]], items: int, evaluated: int, say: Callable[[str], None]
) -> tuple[list[dict[str, object]], list[Fall], dict[str, float]]:
    """Rows, falls, and the rates at the end by family."""
    unseen: dict[str, list[Task]] = {}
    rates: dict[str, float] = {}
    rows: list[dict[str, object]] = []
    falls: list[Fall] = []
    for number, (family, seed) in enumerate(plan, 1):
        if family.name not in unseen:
            unseen[family.name] = [drawn.task for drawn in families.tasks(family, "evaluation", evaluated)]
            rates[family.name] = (await score(server, unseen[family.name])).rate
        shown = families.tasks(family, "feedback", items + LIVE, seed)
        began = time.monotonic()
        lived = await learned(server, shown, items, Teaching(), seed)
        seconds = time.monotonic() - began
        scores: dict[str, Score] = {name: await score(server, tasks) for name, tasks in unseen.items()}
        after = {name: found.rate for name, found in scores.items()}
        falls += fallen(number, rates, after)
        rows.append(
            {
                "generation": number,
                "family": family.name,
                "seed": seed,
                "before": round(rates[family.name], 4),
                "after": round(after[family.name], 4),
                "scores": {name: found.as_json() for name, found in scores.items()},
                "champions": len(await champions(server)),
                "live_requests": lived,
                "seconds": round(seconds, 1),
            }
        )
        say(f"generation {number}, {family.name}: {rates[family.name]:.3f} → {after[family.name]:.3f}, {seconds:.0f} s")
        rates = after
    return rows, falls, rates


def _families_of(plan: Sequence[tuple[Family, int]], items: int) -> dict[str, str]:
    """Name of the family of each prompt that was corrected."""
    return {
        drawn.task.prompt: family.name
        for family, seed in plan
        for drawn in families.tasks(family, "feedback", items, seed)
    }


async def _inject(
    folder: Path,
    kit: Kit,
    prompts: Mapping[str, str],
    every: Mapping[str, Family],
    rates: Mapping[str, float],
    steps: int,
) -> tuple[Target, str]:
    """Make a bad adaptation the canary of the champion whose family is best; the server must be stopped."""
    with Learned.open(folder / "data" / STORE, kit.embedder) as learned:
        target = chosen(learned.store.snapshot(), prompts, every, rates)
        data = await _mistaught(folder / "injected", kit, target.family, steps)
        good = get(learned.store.snapshot(), target.adaptation)
        now = time.time()
        bad = admit(
            learned, replace(good, parent=good.id, dataset="injected", report="", created=now, changed=now), data
        )
        start_canary(learned, bad.id, _SHARE, json.dumps(_FOOLED), now)
    return target, bad.id


def chosen(
    snapshot: Snapshot, prompts: Mapping[str, str], every: Mapping[str, Family], rates: Mapping[str, float]
) -> Target:
    """The champion with most feedback of the family that is served best.

    Args:
        snapshot: of the store.
        prompts: name of the family of each prompt that was corrected.
        every: families by name.
        rates: of the families by name.

    Raises:
        PerfuseError: there is no champion.
    """
    best: tuple[float, int] | None = None
    found: Target | None = None
    for alias in ALIASES.scan(snapshot):
        if alias.champion is None or alias.canary is not None:
            continue
        rows = [FEEDBACK.get(snapshot, identity) for identity in get(snapshot, alias.champion).feedback]
        counts = Counter(prompts[row.prompt] for row in rows if row is not None and row.prompt in prompts)
        for name, count in counts.most_common(1):
            if best is None or (rates[name], count) > best:
                best, found = (rates[name], count), Target(alias.champion, every[name])
    if found is None:
        raise PerfuseError("no generation made a champion", hint="give more items or training steps")
    return found


async def _mistaught(folder: Path, kit: Kit, family: Family, steps: int) -> bytes:
    """An adaptation trained on corrections that belong to other requests."""
    shown = [drawn.task for drawn in families.tasks(family, "feedback", 48)]
    lines = [
        lesson_line(Asked(task.prompt), other.code) for task, other in zip(shown, shown[1:] + shown[:1], strict=True)
    ]
    write_whole(folder / "lessons.jsonl", "\n".join(lines).encode())
    write_whole(folder / "replay.jsonl", b"")
    return await train(folder, kit.folder, {"steps": steps, "minutes": 20.0}, 1200.0)


async def _watched(server: Server, target: Target, bad: str, items: int) -> dict[str, object]:
    """Live requests until the bad canary has left, at most `LIVE`."""
    shown = families.tasks(target.family, "feedback", items + LIVE, seed=1000)[items:]
    await settled(server)  # the worker is there again
    lived = await live(server, shown)
    await settled(server)
    ended = await adapter(server, bad)
    rows = rows_compared(server.data_dir, bad)
    return {
        "family": target.family.name,
        "canary": bad,
        "state": ended.state,
        "reason": ended.reason,
        "rows": rows,
        "live_requests": lived,
        "withdrawn": ended.state == "rejected" and rows <= MOST_ROWS,
    }


def rows_compared(data_dir: Path, canary: str) -> int:
    """Live rows on which a canary was compared with its champion; 0 before the first."""
    try:
        found = json.loads((data_dir / FOLDER / f"canary-{canary}.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return 0
    return len(found)


async def rollbacks(server: Server, tasks: Sequence[Task]) -> dict[str, object]:
    """Roll back every champion, one after another, while clients send requests of its kind.

    Args:
        server: with champions.
        tasks: what the clients ask for.
    """
    taken: list[float] = []
    gone = True
    async with under_load(server, tasks, CLIENTS) as load:
        while (there := await champions(server)) and len(taken) < 20:
            await asyncio.sleep(_CALM_SECONDS)
            started = time.perf_counter()
            await sent(server, f"/adapters/{there[0]}/rollback", {}, 200)
            taken.append(1e3 * (time.perf_counter() - started))
            gone &= not any(there[0] in each.adaptations for each in await given(server, tasks[:1]))
    return {
        "clients": CLIENTS,
        "requests": load.answered,
        "failed": load.failed,
        "rollbacks": len(taken),
        "milliseconds": [round(each, 1) for each in taken],
        "median": round(statistics.median(taken), 1) if taken else None,
        "within_100_ms": bool(taken) and max(taken) <= ROLLBACK_MS,
        "gone_with_the_next_request": gone,
        "status": (await status(server)).get("clusters"),
    }


@dataclass(slots=True)
class Load:
    """How many requests of the clients were answered with 200, and how many were not."""

    answered: int = 0
    failed: int = 0


@asynccontextmanager
async def under_load(server: Server, tasks: Sequence[Task], clients: int) -> AsyncIterator[Load]:
    """Clients that send one request after another until the end of the block."""
    load = Load()
    stop = asyncio.Event()

    async def client(number: int) -> None:
        body = request_of(tasks[number % len(tasks)])
        with closing(Connection(server.port)) as connection:
            while not stop.is_set():
                answered = False
                with contextlib.suppress(OSError):
                    answered = (await connection.request("POST", "/diffuse", body)).status == 200
                load.answered += answered
                load.failed += not answered

    running = [asyncio.create_task(client(number)) for number in range(clients)]
    try:
        yield load
    finally:
        stop.set()
        await asyncio.gather(*running)
