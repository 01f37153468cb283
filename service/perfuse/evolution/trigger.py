"""When a cluster is worth a training: enough new verdicts, and a server that still fails there."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from perfuse.store import Snapshot
from perfuse.store.aliases import current
from perfuse.store.learning import FEEDBACK, JOBS, Feedback, Job

UNFINISHED = ("queued", "running")


@dataclass(frozen=True, slots=True)
class Rules:
    """When to train.

    Args:
        items: curated items of a cluster that no earlier training saw, on answers of what serves it now.
        failing: share of these on which the server's answer was not the right one.
        calm: seconds without feedback before a training begins, so that it does not miss the rest of a stream.
        patience: times `items` from which on it begins all the same.
    """

    items: int = 24
    failing: float = 0.1
    calm: float = 5.0
    patience: int = 8


def due(snapshot: Snapshot, base: str, now: float, quiet: float, rules: Rules | None = None) -> list[Job]:
    """Jobs for the clusters that need one, the largest cluster first.

    Args:
        snapshot: of the store.
        base: hash of the base model.
        now: Unix seconds.
        quiet: seconds since the last feedback was taken in.
        rules: when to train.
    """
    limits = rules or Rules()
    jobs = JOBS.scan(snapshot)
    seen = {item for job in jobs for item in job.feedback}
    busy = {(job.tenant, job.cluster) for job in jobs if job.state in UNFINISHED}
    clusters: dict[tuple[str, str], list[Feedback]] = defaultdict(list)
    for row in FEEDBACK.scan(snapshot, {"state": "curated"}):
        if row.cluster:
            clusters[row.tenant, row.cluster].append(row)
    found = []
    for (tenant, cluster), rows in sorted(clusters.items(), key=lambda pair: (-len(pair[1]), pair[0])):
        alias = current(snapshot, tenant, cluster)
        # What was answered before the present champion came says nothing of it.
        new = [row for row in rows if row.id not in seen and row.received > alias.changed]
        if (tenant, cluster) in busy or alias.canary is not None or len(new) < limits.items:
            continue
        if quiet < limits.calm and len(new) < limits.patience * limits.items:
            continue
        if sum(_failed(row) for row in new) >= limits.failing * len(new):
            found.append(job_of(tenant, cluster, base, rows, f"{len(new)} new items", now))
    return found


def job_of(tenant: str, cluster: str, base: str, rows: Iterable[Feedback], reason: str, now: float) -> Job:
    """A job on these rows; its id follows from them, so the same job is queued once."""
    feedback: Sequence[str] = sorted(row.id for row in rows)
    digest = hashlib.sha256("\n".join([tenant, cluster, base, *feedback]).encode()).hexdigest()[:32]
    return Job(
        id=f"job_{digest}",
        tenant=tenant,
        cluster=cluster,
        base=base,
        feedback=tuple(feedback),
        state="queued",
        attempt=0,
        adaptation=None,
        reason=reason,
        created=now,
        changed=now,
    )


def _failed(row: Feedback) -> bool:
    if row.output_passed is not None:
        return not row.output_passed
    return row.correction is not None and row.correction != row.output
