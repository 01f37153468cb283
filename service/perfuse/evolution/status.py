"""How far learning has come: what the store knows of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from perfuse.evolution.learned import Learned
from perfuse.evolution.rebuild import UNFINISHED, curated_of
from perfuse.evolution.shown import outcome_of, report_of
from perfuse.store import Snapshot
from perfuse.store.learning import ADAPTATIONS, ALIASES, FEEDBACK, JOBS, Adaptation, Alias, Job, alias_key

Body = dict[str, object]

ENDED_JOBS = 10
"""Jobs that have ended are shown up to this many, the latest."""


def report(learned: Learned, tenant: str) -> Body:
    """Feedback by state, clusters with what serves them, and jobs, of one tenant.

    Returns:
        `feedback`: how many items, by state. `clusters`: each with `size` (curated items), `champion`, `canary`,
        `share` and `last_gate`. `jobs`: those under way, then the latest that have ended.
    """
    snapshot = learned.store.snapshot()
    states = snapshot.scan(FEEDBACK.spec, {"tenant": tenant}, ["state"])["state"].to_pylist()
    return {
        "feedback": dict(sorted(Counter(states).items())),
        "clusters": _clusters(snapshot, tenant),
        "jobs": [_job(job) for job in _jobs(JOBS.scan(snapshot, {"tenant": tenant}))],
    }


def _clusters(snapshot: Snapshot, tenant: str) -> list[Body]:
    curated = curated_of(snapshot, tenant)
    aliases = {alias.cluster: alias for alias in ALIASES.scan(snapshot, {"tenant": tenant})}
    judged: dict[str, Adaptation] = {}
    for adaptation in ADAPTATIONS.scan(snapshot, {"tenant": tenant}):
        known = judged.get(adaptation.cluster)
        if adaptation.report and (known is None or known.changed <= adaptation.changed):
            judged[adaptation.cluster] = adaptation
    names = sorted({*curated, *aliases, *judged}, key=lambda name: (-len(curated.get(name, ())), name))
    return [_cluster(name, len(curated.get(name, ())), aliases.get(name), judged.get(name), tenant) for name in names]


def _cluster(name: str, size: int, alias: Alias | None, judged: Adaptation | None, tenant: str) -> Body:
    serves = alias or Alias(key=alias_key(tenant, name), tenant=tenant, cluster=name)
    return {
        "cluster": name,
        "size": size,
        "champion": serves.champion,
        "canary": serves.canary,
        "share": serves.share,
        "last_gate": None if judged is None else _gate(judged),
    }


def _gate(judged: Adaptation) -> Body:
    figures = report_of(judged) or {}
    return {
        "adaptation": judged.id,
        "state": judged.state,
        "outcome": outcome_of(judged),
        "gain": figures.get("gain"),
        "p_value": figures.get("p_value"),
        "reasons": figures.get("reasons", []),
    }


def _jobs(every: Iterable[Job]) -> list[Job]:
    latest = sorted(every, key=lambda job: job.changed, reverse=True)
    under_way = [job for job in latest if job.state in UNFINISHED]
    return under_way + [job for job in latest if job.state not in UNFINISHED][:ENDED_JOBS]


def _job(job: Job) -> Body:
    return {
        "id": job.id,
        "cluster": job.cluster,
        "state": job.state,
        "stage": "",
        "reason": job.reason,
        "feedback": len(job.feedback),
        "attempt": job.attempt,
        "adaptation": job.adaptation,
        "created": job.created,
        "changed": job.changed,
    }
