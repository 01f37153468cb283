"""Watches canaries: on each live request with a verdict, champion and canary are compared until one of them is chosen.

A live row tells which requests come; both models answer it through the engines and its verifier judges both, so each
row is a pair whoever had answered the client. Outcomes are kept in a file per canary, keyed by row, so a crash counts
none twice. A canary whose requests were gathered into another cluster ends undecided.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path

from perfuse import logging
from perfuse.evolution.answers import Answerer
from perfuse.evolution.canary import Rules, verdict
from perfuse.evolution.gate import Pairs
from perfuse.evolution.learned import Learned
from perfuse.evolution.lessons import Task
from perfuse.evolution.promote import get, promote, withdraw
from perfuse.evolution.trial import compare
from perfuse.store import Snapshot
from perfuse.store.files import write_whole
from perfuse.store.learning import ALIASES, FEEDBACK, Adaptation, Alias, Feedback

_log = logging.get(__name__)

AT_ONCE = 8
"""Rows compared before the test looks again: few, so that a bad canary is stopped soon."""


class Watch:
    """Compares canaries with champions.

    Args:
        learned: the store.
        answerer: asks both.
        folder: of the outcomes.
        rules: when a canary ends.
    """

    def __init__(self, learned: Learned, answerer: Answerer, folder: Path, rules: Rules | None = None) -> None:
        self._learned = learned
        self._answerer = answerer
        self._folder = folder
        self._rules = rules or Rules()

    async def look(self) -> int:
        """Compare on what has come since; gives how many canaries ended.

        Raises:
            PerfuseError: the engines or the sandbox cannot.
        """
        snapshot = self._learned.store.snapshot()
        ended = 0
        for alias in ALIASES.scan(snapshot):
            if alias.canary is not None:
                canary = get(snapshot, alias.canary)
                if (reason := await asyncio.to_thread(_stranded, snapshot, canary)) is not None:
                    _log.info("canary", adaptation=canary.id, verdict="stranded", figures=reason)
                    await asyncio.to_thread(withdraw, self._learned, canary.id, reason, time.time())
                    ended += 1
                else:
                    ended += await self._compare(snapshot, alias, canary)
        return ended

    async def _compare(self, snapshot: Snapshot, alias: Alias, canary: Adaptation) -> bool:
        path = self._folder / f"canary-{canary.id}.json"
        seen = _read(path)
        rows = await asyncio.to_thread(_live, snapshot, canary)
        new = [row for row in rows if row.id not in seen]
        for start in range(0, max(len(new), 1), AT_ONCE):
            tasks = [Task(row, row.correction or "") for row in new[start : start + AT_ONCE]]
            trial = await compare(tasks, self._answerer, alias.champion or "none", canary.id, canary.tenant)
            for pair in zip(trial.before, trial.after, strict=True):
                self._learned.tally.pair(*pair)
            seen |= {task.row.id: pair for task, *pair in zip(tasks, trial.before, trial.after, strict=True)}
            write_whole(path, json.dumps(seen).encode())
            if await asyncio.to_thread(self._decide, canary, list(seen.values())):
                return True
        return False

    def _decide(self, canary: Adaptation, outcomes: Sequence[Sequence[bool]]) -> bool:
        pairs = Pairs.of([before for before, _ in outcomes], [after for _, after in outcomes])
        proven = json.loads(canary.report or "{}").get("outcome") == "promote"
        said = verdict(pairs, proven=proven, rules=self._rules)
        if said == "wait":
            return False
        figures = f"{pairs.gained} won and {pairs.lost} lost of {pairs.n} live rows"
        _log.info("canary", adaptation=canary.id, verdict=said, figures=figures)
        if said == "promote":
            promote(self._learned, canary.id, figures, time.time())
        else:
            withdraw(self._learned, canary.id, f"{said.replace('_', ' ')}: {figures}", time.time())
        return True


def _stranded(snapshot: Snapshot, canary: Adaptation) -> str | None:
    """Why no row would ever decide about a canary, as most of what it was taught has moved away. None: it stays."""
    taught = [row for identity in canary.feedback if (row := FEEDBACK.get(snapshot, identity)) is not None]
    left = sum(row.cluster == canary.cluster for row in taught)
    if 2 * left >= len(taught):
        return None
    return f"{len(taught) - left} of the {len(taught)} requests it was taught belong to another cluster now"


def _live(snapshot: Snapshot, canary: Adaptation) -> list[Feedback]:
    """Rows of the canary's cluster with a verifier, one per request, that came after it had begun."""
    rows = FEEDBACK.scan(snapshot, {"tenant": canary.tenant, "cluster": canary.cluster})
    late = [row for row in rows if row.verifier and row.received > canary.changed and row.output_passed is not None]
    return list({(row.prompt, row.prefix, row.suffix): row for row in late}.values())


def _read(path: Path) -> dict[str, list[bool]]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
