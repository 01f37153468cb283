"""`perfuse eval poison`: can wrong corrections harm? Each arm teaches a fresh server, some of it wrong.

A wrong correction is plausible: one operation is another one (`training.corpus.families.wrong_correction`). The base
model's figures are measured once; every arm starts from it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from perfuse.api.learned import AdapterBrief
from perfuse.errors import InvalidRequest
from perfuse.evaluation.champions import adapters
from perfuse.evaluation.learning import (
    LIVE,
    Score,
    Teaching,
    anchor_tasks,
    learned,
    learning,
    score,
    status,
    tell,
)
from perfuse.training.corpus import families
from perfuse.training.corpus.families import Family
from perfuse.training.corpus.tasks import Task

MANY = 5
"""Sources of the arm with many; more than a quorum."""
ARMS: Mapping[str, Teaching] = {
    "verified": Teaching(verified=True),
    "one-source": Teaching(verified=False),
    "many-sources": Teaching(verified=False, sources=MANY),
}
SHARES = (0.0, 0.1, 0.3, 1.0)
POINT = 0.01

Reached = Literal["promoted", "canary", "rejected", "quarantined", "untrained"]


@dataclass(frozen=True, slots=True)
class Figures:
    """What a server can do: tasks of the family taught, and tasks of the base model's own kind."""

    family: Score
    anchors: Score


def reached(made: Sequence[AdapterBrief], feedback: Mapping[str, int]) -> Reached:
    """How far the feedback came: the furthest state of an adaptation, else what became of the feedback itself."""
    states = {each.state for each in made}
    if "champion" in states:
        return "promoted"
    if "canary" in states:
        return "canary"
    if states:
        return "rejected"
    return "quarantined" if feedback.get("quarantined") and not feedback.get("curated") else "untrained"


def harmless(before: Figures, after: Figures) -> bool:
    """Whether neither the family nor the anchors are more than a point below what they were."""
    pairs = (before.family, after.family), (before.anchors, after.anchors)
    return all(now.rate >= then.rate - POINT - 1e-9 for then, now in pairs)


def arms_of(names: str) -> tuple[str, ...]:
    """Arms by name, separated by commas; all without names.

    Raises:
        InvalidRequest: there is no arm of that name.
    """
    chosen = tuple(names.split(",")) if names else tuple(ARMS)
    if unknown := [name for name in chosen if name not in ARMS]:
        raise InvalidRequest(f"no arm is named {', '.join(unknown)}; there are {', '.join(ARMS)}")
    return chosen


def shares_of(text: str) -> tuple[float, ...]:
    """Shares of wrong corrections, separated by commas.

    Raises:
        InvalidRequest: one is no number from 0 to 1.
    """
    try:
        shares = tuple(float(part) for part in text.split(","))
    except ValueError:
        shares = ()
    if not shares or not all(0 <= share <= 1 for share in shares):
        raise InvalidRequest(f"expected shares from 0 to 1, separated by commas; got {text!r}")
    return shares


async def poison(
    folder: Path,
    family: Family,
    *,
    items: int = 96,
    evaluated: int = 200,
    anchors: int = 1000,
    arms: Sequence[str] = tuple(ARMS),
    shares: Sequence[float] = SHARES,
    say: Callable[[str], None] = tell,
) -> dict[str, object]:
    """One row per arm and share of wrong corrections.

    Args:
        folder: for data directories.
        family: what is taught.
        items: corrections.
        evaluated: tasks of the family that nobody corrected, judged by their true tests.
        anchors: tasks of the base model's own kind.
        arms: names of `ARMS`.
        shares: of the corrections that are wrong.
        say: told about each row.
    """
    unseen = [drawn.task for drawn in families.tasks(family, "evaluation", evaluated)]
    base = anchor_tasks(anchors)
    before: Figures | None = None
    rows: list[dict[str, object]] = []
    for arm in arms:
        for share in shares:
            how = Teaching(wrong=share, verified=ARMS[arm].verified, sources=ARMS[arm].sources)
            below = folder / f"{arm}-{share:g}"
            below.mkdir(parents=True)
            before, row = await _row(below, family, how, items, unseen, base, before)
            rows.append({"arm": arm, "wrong": share, **row})
            say(f"{arm}, {share:.0%} wrong: {row['state']}, harmless: {row['never_below']}")
    return {
        "simulated_feedback": True,
        "family": family.name,
        "items": items,
        "sources": {arm: ARMS[arm].sources for arm in arms},
        "rows": rows,
        "never_below": all(row["never_below"] for row in rows),
    }


async def _row(
    folder: Path,
    family: Family,
    how: Teaching,
    items: int,
    unseen: Sequence[Task],
    base: Sequence[Task],
    before: Figures | None,
) -> tuple[Figures, dict[str, object]]:
    shown = families.tasks(family, "feedback", items + LIVE)
    with learning(folder) as server:
        await server.ready()
        if before is None:
            before = Figures(await score(server, unseen), await score(server, base))
        began = time.monotonic()
        lived = await learned(server, shown, items, how)
        after = Figures(await score(server, unseen), await score(server, base))
        made, found = await adapters(server), (await status(server))["feedback"]
    assert isinstance(found, dict), "settled waits for it"
    state = reached(made, found)
    return before, {
        "state": state,
        "adaptations": [f"{each.state}: {each.reason}" for each in made],
        "feedback": found,
        "live_requests": lived,
        "family": {"before": before.family.as_json(), "after": after.family.as_json()},
        "anchors": {"before": before.anchors.as_json(), "after": after.anchors.as_json()},
        "never_below": harmless(before, after),
        "seconds": round(time.monotonic() - began, 1),
    }
