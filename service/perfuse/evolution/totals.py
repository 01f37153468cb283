"""How much there is of everything, over all tenants: counts alone, for metrics."""

from __future__ import annotations

import json
from collections import Counter

from perfuse.evolution.learned import Learned
from perfuse.store import Snapshot
from perfuse.store.learning import ADAPTATIONS, FEEDBACK, JOBS
from perfuse.store.tables import TableSpec


def totals(learned: Learned) -> dict[str, object]:
    """Counts by label value.

    Returns:
        `feedback`, `jobs`, `adaptations`: how many there are now, by state. `gates`: how many adaptations the gate has
        judged, by outcome. `pairs`, `moves`: see `Tally`, since this worker began.
    """
    snapshot = learned.store.snapshot()
    reports = snapshot.scan(ADAPTATIONS.spec, None, ["report"])["report"].to_pylist()
    return {
        "feedback": _by_state(snapshot, FEEDBACK.spec),
        "jobs": _by_state(snapshot, JOBS.spec),
        "adaptations": _by_state(snapshot, ADAPTATIONS.spec),
        "gates": Counter(json.loads(report)["outcome"] for report in reports if report),
        "pairs": learned.tally.pairs,
        "moves": learned.tally.moves,
    }


def _by_state(snapshot: Snapshot, spec: TableSpec) -> Counter[str]:
    return Counter(snapshot.scan(spec, None, ["state"])["state"].to_pylist())
