"""`make demo`: a fresh server is taught four new kinds of request over HTTP, and asked for everything again.

Each family is asked for before, after corrections that belong to other requests (the control), and after its own. At
the end the base model's own tasks, all families and a restarted server are asked.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from perfuse.evaluation.champions import champions
from perfuse.evaluation.learning import (
    ANCHORS,
    LIVE,
    Score,
    Teaching,
    anchor_tasks,
    learned,
    learning,
    score,
    settled,
    status,
    teach,
    tell,
)
from perfuse.evaluation.load import Server
from perfuse.training.corpus import families
from perfuse.training.corpus.families import Family
from perfuse.training.corpus.tasks import Task

ITEMS = 96
EVALUATED = 150
ASKED_AGAIN = 100
"""Of each family after the restart: a quarter of an hour has no room for all of them twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taught:
    """One family on its way.

    Attributes:
        items: corrections.
        before: asked of the server as it was.
        control: asked after as many corrections that belong to other requests.
        after: asked after the family's own corrections.
        champions: ids of what serves it, with that of the control in front.
        live: requests with tests that were sent while a canary ran.
        seconds: from the first correction to the last champion.
    """

    family: Family
    items: int
    before: Score
    control: Score
    control_champions: tuple[str, ...]
    after: Score
    champions: tuple[str, ...]
    live: int
    seconds: float

    def as_json(self, curve: Mapping[int, float]) -> dict[str, object]:
        """The figures; `curve` holds pass@1 by number of corrections."""
        return {
            "name": self.family.name,
            "distance": self.family.distance,
            "items": self.items,
            "before": round(self.before.rate, 4),
            "after": round(self.after.rate, 4),
            "n": len(self.after.passed),
            "gain": round(self.after.rate - self.before.rate, 4),
            "control_after": round(self.control.rate, 4),
            "control_promoted": len(self.control_champions),
            "curve": {str(items): round(rate, 4) for items, rate in sorted(curve.items())},
            "score": {"before": self.before.as_json(), "after": self.after.as_json()},
            "live_requests": self.live,
            "seconds": round(self.seconds, 1),
        }


async def demonstrate(
    family: Family,
    server: Server,
    *,
    items: int = ITEMS,
    evaluated: int = EVALUATED,
    how: Teaching | None = None,
    say: Callable[[str], None] = tell,
) -> Taught:
    """One family from corrections to champion."""
    unseen = [drawn.task for drawn in families.tasks(family, "evaluation", evaluated)]
    shown = families.tasks(family, "feedback", items + LIVE)
    there = await champions(server)
    before = await score(server, unseen)
    say(f"{family.name}: {before.rate:.3f} of {evaluated} unseen tasks before")
    await teach(server, shown[:items], Teaching(shuffled=True, name=f"{family.name}-shuffled"))
    await settled(server)
    misled = tuple(each for each in await champions(server) if each not in there)
    control = await score(server, unseen)
    say(f"{family.name}: {control.rate:.3f} after {items} corrections of other requests")
    began = time.monotonic()
    lived = await learned(server, shown, items, replace(how or Teaching(), name=family.name))
    seconds = time.monotonic() - began
    after = await score(server, unseen)
    say(f"{family.name}: {after.rate:.3f} after {items} corrections, {seconds:.0f} s; {after.adapted} adapted")
    return Taught(
        family=family,
        items=items,
        before=before,
        control=control,
        control_champions=misled,
        after=after,
        champions=tuple(each for each in await champions(server) if each not in (*there, *misled)),
        live=lived,
        seconds=seconds,
    )


async def demonstration(
    folder: Path,
    chosen: Sequence[Family],
    *,
    items: int = ITEMS,
    evaluated: int = EVALUATED,
    anchors: int = ANCHORS,
    asked_again: int = ASKED_AGAIN,
    curve: Sequence[int] = (),
    how: Teaching | None = None,
    say: Callable[[str], None] = tell,
) -> dict[str, object]:
    """All families one after another on one server, then a restart of all its processes.

    Args:
        folder: for data directories.
        chosen: the families.
        items: corrections of each.
        evaluated: tasks of each that nobody corrected.
        anchors: tasks of the base model's own kind.
        asked_again: of each family's evaluated tasks, those asked a second time after the restart.
        curve: other numbers of corrections, each with a fresh server for each family.
        how: feedback is given.
        say: told about the progress.
    """
    began = time.monotonic()
    base, given = anchor_tasks(anchors), how or Teaching()
    with learning(folder / "demo") as server:
        await server.ready()
        before = await score(server, base)
        say(f"base model: {before.rate:.3f} of {anchors} tasks of its own kind")
        taught = [
            await demonstrate(family, server, items=items, evaluated=evaluated, how=given, say=say) for family in chosen
        ]
        after = await score(server, base)
        say(f"base model: {after.rate:.3f} with all adaptations")
        kept = await _all(server, chosen, evaluated)
        overview = await status(server)
    with learning(folder / "demo") as server:
        await server.ready()
        again = await _all(server, chosen, min(asked_again, evaluated))
    seconds = time.monotonic() - began
    curves = {row.family.name: {items: row.after.rate} for row in taught}
    for family, count in ((family, count) for family in chosen for count in curve):
        with learning(folder / f"{family.name}-{count}") as server:
            await server.ready()
            curves[family.name][count] = await _taught(server, family, count, evaluated, given)
            say(f"{family.name}: {curves[family.name][count]:.3f} after {count} corrections, on a server of its own")
    routed = _routed(taught, kept, after)
    return {
        "simulated_feedback": True,
        "families": [row.as_json(curves[row.family.name]) for row in taught],
        "anchors": {
            "before": round(before.rate, 4),
            "after": round(after.rate, 4),
            "n": len(after.passed),
            "score": {"before": before.as_json(), "after": after.as_json()},
        },
        "misroute": routed["rate"],
        "routing": routed,
        "restart": {
            "answers": sum(len(row.texts) for row in again),
            "identical": all(a.texts[: len(b.texts)] == b.texts for a, b in zip(kept, again, strict=True)),
        },
        "adaptation_ids": [identity for row in taught for identity in row.champions],
        "seconds": round(seconds, 1),
        "status": overview,
    }


async def _all(server: Server, chosen: Sequence[Family], evaluated: int) -> list[Score]:
    unseen = [[drawn.task for drawn in families.tasks(family, "evaluation", evaluated)] for family in chosen]
    return [await score(server, tasks) for tasks in unseen]


async def _taught(server: Server, family: Family, items: int, evaluated: int, how: Teaching) -> float:
    """pass@1 on unseen tasks after so many corrections."""
    unseen: list[Task] = [drawn.task for drawn in families.tasks(family, "evaluation", evaluated)]
    shown = families.tasks(family, "feedback", items + LIVE)
    await learned(server, shown, items, replace(how, name=family.name))
    return (await score(server, unseen)).rate


def _routed(taught: Sequence[Taught], kept: Sequence[Score], anchors: Score) -> dict[str, object]:
    """Who answered: a request of a family belongs to one of its own champions, one of the base model's to none."""
    counts: Counter[str] = Counter()
    for row, found in zip(taught, kept, strict=True):
        for by in found.by:
            counts["own" if by in row.champions else "another's" if by else "base model"] += 1
    asked = sum(len(found.by) for found in kept) + len(anchors.by)
    wrong = counts["another's"] + counts["base model"] + anchors.adapted
    return {
        "rate": round(wrong / asked, 4),
        "n": asked,
        "families": {name: counts[name] for name in ("own", "another's", "base model")},
        "anchors_adapted": anchors.adapted,
    }


COLUMNS = ("kind of request", "distance", "before", "shuffled", "after", "95 % interval", "n", "seconds")


def table(found: Mapping[str, object]) -> Iterator[Sequence[str]]:
    """Rows of a demonstration under `COLUMNS`."""
    rows, anchors = found["families"], found["anchors"]
    assert isinstance(rows, list)
    assert isinstance(anchors, dict)
    for row in rows:
        after = row["score"]["after"]
        interval = f"{after['low']:.3f} to {after['high']:.3f}"
        rates = [f"{row[name]:.3f}" for name in ("before", "control_after", "after")]
        yield [row["name"], row["distance"], *rates, interval, str(row["n"]), f"{row['seconds']:.0f}"]
    after = anchors["score"]["after"]
    interval = f"{after['low']:.3f} to {after['high']:.3f}"
    ends = [f"{anchors['after']:.3f}", interval, str(anchors["n"]), f"{found['seconds']:.0f}"]
    yield ["the base model's own", "", f"{anchors['before']:.3f}", "", *ends]
