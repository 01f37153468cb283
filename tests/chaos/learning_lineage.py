"""Whether what a server has learned is consistent, from each acknowledged feedback to what serves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from perfuse.evolution.learned import Learned
from perfuse.queue.inbox import DeadItem
from perfuse.store.kit import Kit
from perfuse.store.learning import (
    ADAPTATIONS,
    ALIASES,
    FEEDBACK,
    JOBS,
    LIVE,
    Adaptation,
    adaptation_id,
    domains,
)


def feedback_problems(learned: Learned, said: Mapping[str, tuple[str, str]], dead: list[DeadItem]) -> dict[str, int]:
    """Compare what was acknowledged with what is kept, id by id.

    Args:
        learned: the store, whose worker has ended.
        said: source and correction of every acknowledged feedback, by id.
        dead: what was put aside.

    Returns:
        How many are `lost` (neither row nor dead), `doubled` (both, or one source in two rows), `strange` (kept and
        never acknowledged), `changed` (kept with other words).
    """
    rows = FEEDBACK.scan(learned.store.snapshot())
    kept, put_aside = {row.id: (row.source, row.correction) for row in rows}, {item.id for item in dead}
    sources = Counter(row.source for row in rows)
    return {
        "lost": len(said.keys() - kept.keys() - put_aside),
        "doubled": len(kept.keys() & put_aside) + sum(count - 1 for count in sources.values()) + len(rows) - len(kept),
        "strange": len(kept.keys() - said.keys()),
        "changed": sum(kept[identity] != words for identity, words in said.items() if identity in kept),
    }


def lineage_problems(learned: Learned, kit: Kit, folder: Path) -> list[str]:
    """What contradicts itself among feedback, jobs, adaptations, aliases, domains and blobs, in words."""
    return [*_of_adaptations(learned), *_of_jobs(learned, folder), *_of_aliases(learned, kit)]


def _of_adaptations(learned: Learned) -> Iterator[str]:
    snapshot = learned.store.snapshot()
    rows = {row.id: row for row in FEEDBACK.scan(snapshot)}
    every = {made.id: made for made in ADAPTATIONS.scan(snapshot)}
    jobs = JOBS.scan(snapshot)
    for made in every.values():
        if made.id != adaptation_id(made.tenant, made.cluster, made.dataset, made.blob):
            yield f"{made.id}: its id is not made of what it is"
        if unknown := [item for item in made.feedback if item not in rows]:
            yield f"{made.id}: {len(unknown)} of its items of feedback do not exist"
        if others := [item for item in made.feedback if item in rows and rows[item].cluster != made.cluster]:
            yield f"{made.id}: {len(others)} of its items of feedback belong to another cluster"
        if made.parent is not None and made.parent not in every:
            yield f"{made.id}: its parent {made.parent} does not exist"
        if made.state in LIVE and not learned.blobs.holds(made.blob):
            yield f"{made.id}: its bytes are not there"
        makers = [job for job in jobs if set(made.feedback) <= set(job.feedback) and job.cluster == made.cluster]
        if not makers:
            yield f"{made.id}: no job was for it"


def _of_jobs(learned: Learned, folder: Path) -> Iterator[str]:
    snapshot = learned.store.snapshot()
    jobs = JOBS.scan(snapshot)
    if (running := sum(job.state == "running" for job in jobs)) > 1:
        yield f"{running} jobs are running"
    for job in jobs:
        made = None if job.adaptation is None else ADAPTATIONS.get(snapshot, job.adaptation)
        if job.adaptation is not None and made is None:
            yield f"{job.id}: its adaptation {job.adaptation} does not exist"
        if made is not None and made.cluster != job.cluster:
            yield f"{job.id}: its adaptation is of another cluster"
        if job.state == "done" and made is None:
            yield f"{job.id}: it is done and nothing came of it"
        if job.state in ("done", "failed", "cancelled") and made is not None and made.state == "candidate":
            yield f"{job.id}: it is {job.state} and its adaptation waits for the gate"
        if job.state in ("done", "cancelled") and (folder / job.id).exists():
            yield f"{job.id}: it is {job.state} and its files are still there"


def _of_aliases(learned: Learned, kit: Kit) -> Iterator[str]:
    snapshot = learned.store.snapshot()
    every = {made.id: made for made in ADAPTATIONS.scan(snapshot)}
    served: dict[str, str] = {}
    for alias in ALIASES.scan(snapshot):
        for role, identity in (("champion", alias.champion), ("canary", alias.canary), ("retired", alias.previous)):
            if identity is None:
                continue
            yield from _misnamed(alias.key, role, alias.cluster, every.get(identity))
            if role != "retired":
                served[identity] = role
        if (alias.share > 0) != (alias.canary is not None):
            yield f"alias {alias.key}: its share is {alias.share} and its canary {alias.canary}"
    left = {made.id: made.state for made in every.values() if made.state in ("champion", "canary")}
    found = {domain.id: domain.state for domain in domains(kit.embedder.width).scan(snapshot)}
    if not served == left == found:
        yield f"aliases name {served}, adaptations say {left}, requests find {found}"


def _misnamed(key: str, role: str, cluster: str, made: Adaptation | None) -> Iterator[str]:
    if made is None:
        yield f"alias {key}: its {role} does not exist"
    elif (made.state, made.cluster) != (role, cluster):
        yield f"alias {key}: its {role} {made.id} is {made.state} in cluster {made.cluster}"
