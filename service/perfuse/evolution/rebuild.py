"""Jobs that train a cluster anew on the feedback that counts, all or what is left of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from perfuse.errors import NotFound
from perfuse.evolution.learned import Learned
from perfuse.store import Snapshot
from perfuse.store.aliases import step
from perfuse.store.learning import FEEDBACK, JOBS, Job, JobState
from perfuse.store.store import Change

UNFINISHED: tuple[JobState, ...] = ("queued", "running")


def rebuild(learned: Learned, tenant: str, base: str, cluster: str | None, now: float) -> list[Job]:
    """Queue the training of a cluster, or of all, on all its curated feedback; what is under way for that is left so.

    Args:
        learned: the owner's store.
        tenant: whose clusters.
        base: hash of the base model to train on.
        cluster: its name; None: every cluster.
        now: Unix seconds.

    Raises:
        NotFound: the cluster has no curated feedback.
    """

    def decide(snapshot: Snapshot) -> tuple[list[Job], Sequence[Change]]:
        curated = curated_of(snapshot, tenant)
        if cluster is not None and cluster not in curated:
            raise NotFound(
                f"no curated feedback in cluster {cluster!r}",
                hint=f"there are clusters {', '.join(sorted(curated))}" if curated else "there is none in any cluster",
            )
        bases = dict.fromkeys(curated if cluster is None else (cluster,), base)
        wanted = jobs_of(tenant, bases, curated, "rebuild by an administrator", now)
        there = [JOBS.get(snapshot, job.id) for job in wanted]
        under_way = {job.id: job for job in there if job is not None and job.state in UNFINISHED}
        fresh = [job for job in wanted if job.id not in under_way]
        return [under_way.get(job.id, job) for job in wanted], [JOBS.put(job) for job in fresh]

    return step(learned.store, decide)


def jobs_of(
    tenant: str, bases: Mapping[str, str], curated: Mapping[str, Sequence[str]], reason: str, now: float
) -> list[Job]:
    """One job per cluster that has curated feedback; its id follows from what it is trained on.

    Args:
        tenant: whose clusters.
        bases: hash of the base model to train on, by cluster.
        curated: ids of curated feedback, by cluster.
        reason: why.
        now: Unix seconds.
    """
    jobs = []
    for cluster, base in sorted(bases.items()):
        feedback = tuple(sorted(curated.get(cluster, ())))
        if feedback:
            digest = hashlib.sha256("\n".join([tenant, cluster, base, *feedback]).encode()).hexdigest()[:32]
            jobs.append(
                Job(
                    id=f"rebuild_{digest}",
                    tenant=tenant,
                    cluster=cluster,
                    base=base,
                    feedback=feedback,
                    state="queued",
                    attempt=0,
                    adaptation=None,
                    reason=reason,
                    created=now,
                    changed=now,
                )
            )
    return jobs


def curated_of(snapshot: Snapshot, tenant: str) -> dict[str, list[str]]:
    """Ids of the tenant's curated feedback, by cluster; without what is not yet sorted into one."""
    table = snapshot.scan(FEEDBACK.spec, {"tenant": tenant, "state": "curated"}, ["id", "cluster"])
    clusters: dict[str, list[str]] = {}
    for identity, cluster in zip(table["id"].to_pylist(), table["cluster"].to_pylist(), strict=True):
        if cluster:
            clusters.setdefault(cluster, []).append(identity)
    return clusters
