"""Taking back: all that was learned from a source, or on another base model, leaves service in one commit.

What is retired is named, and jobs that train it again on what is left are queued in the same commit, so a crash loses
neither. The bytes are gone after `purge`, which sweeps blobs that no adaptation in use names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from perfuse.evolution.curate import Rules, curate
from perfuse.evolution.learned import Learned
from perfuse.evolution.promote import heir_of, leaving, serving
from perfuse.evolution.rebuild import UNFINISHED, curated_of, jobs_of
from perfuse.store import Snapshot
from perfuse.store.aliases import step
from perfuse.store.learning import (
    ADAPTATIONS,
    ALIASES,
    EMBEDDERS,
    FEEDBACK,
    JOBS,
    LIVE,
    REVOCATIONS,
    Adaptation,
    Alias,
    Feedback,
    Job,
    Revocation,
    alias_key,
    memories,
)
from perfuse.store.store import Change


@dataclass(frozen=True, slots=True)
class Taken:
    """What was taken back.

    Attributes:
        retired: ids of adaptations that left.
        rebuild: jobs queued to train their clusters again.
        cancelled: ids of jobs that were under way on what was taken back.
        feedback: how many items were removed.
        memories: how many memories were removed.
    """

    retired: tuple[str, ...]
    rebuild: tuple[Job, ...]
    cancelled: tuple[str, ...] = ()
    feedback: int = 0
    memories: int = 0


def revoke(learned: Learned, tenant: str, source: str, now: float, rules: Rules | None = None) -> Taken:
    """Take back all that `source` gave to `tenant`: its feedback, its memories, and every adaptation made of them.

    An adaptation is made of a source also through its ancestors, because a champion writes part of the rows that its
    successors train on. A champion's place goes to the one before it, if that one is clean; else to the base model.
    What is left is curated again, because the source may have been one of a quorum. Done twice, it finds nothing the
    second time.
    """
    revoked = Revocation(key=alias_key(tenant, source), tenant=tenant, source=source, at=now)
    reason = f"source {source!r} was revoked"

    def decide(snapshot: Snapshot) -> tuple[Taken, Sequence[Change]]:
        every = ADAPTATIONS.scan(snapshot, {"tenant": tenant})
        unfit = made_of(every, source)
        changes, retired = _retiring(learned, snapshot, tenant, every, unfit, reason, now)
        gone, left, withdrawing = _withdrawing(snapshot, revoked, unfit, rules)
        stopped = [
            replace(job, state="cancelled", reason=reason, changed=now)
            for job in JOBS.scan(snapshot, {"tenant": tenant})
            if job.state in UNFINISHED and not set(gone).isdisjoint(job.feedback)
        ]
        bases = {a.cluster: a.base for a in retired} | {job.cluster: job.base for job in stopped}
        rebuild = jobs_of(tenant, bases, left, f"rebuild without {source!r}", now)
        changes += [*withdrawing, *(JOBS.put(job) for job in (*stopped, *rebuild))]
        forgotten, forgetting = _forgetting(snapshot, tenant, source)
        identities = tuple(a.id for a in retired), tuple(rebuild), tuple(job.id for job in stopped)
        return Taken(*identities, len(gone), forgotten), [*changes, *forgetting, REVOCATIONS.put(revoked)]

    return step(learned.store, decide)


def retire_foreign(learned: Learned, tenant: str, base: str, now: float) -> Taken:
    """Retire every adaptation of `tenant` that was trained on another base model than `base`, and queue its rebuild."""

    def decide(snapshot: Snapshot) -> tuple[Taken, Sequence[Change]]:
        every = ADAPTATIONS.scan(snapshot, {"tenant": tenant})
        foreign = {a.id for a in every if a.base != base}
        reason = f"trained on another base model; the present one is {base}"
        changes, retired = _retiring(learned, snapshot, tenant, every, foreign, reason, now)
        bases = dict.fromkeys((a.cluster for a in retired), base)
        rebuild = jobs_of(tenant, bases, curated_of(snapshot, tenant), f"rebuild on {base}", now)
        changes += [JOBS.put(job) for job in rebuild]
        return Taken(tuple(a.id for a in retired), tuple(rebuild)), changes

    return step(learned.store, decide)


def made_of(every: Iterable[Adaptation], source: str) -> set[str]:
    """Ids of the adaptations whose own feedback, or that of an ancestor, came from `source`."""
    found = {a.id: a for a in every}
    tainted = {a.id for a in found.values() if source in a.sources}
    while grown := {a.id for a in found.values() if a.parent in tainted} - tainted:
        tainted |= grown
    return tainted


def withdrawn(snapshot: Snapshot, tenant: str | None = None) -> set[str]:
    """Ids of the adaptations that were made of a source which was revoked later: what they wrote may be its words."""
    matching = {} if tenant is None else {"tenant": tenant}
    revocations = REVOCATIONS.scan(snapshot, matching)
    every = ADAPTATIONS.scan(snapshot, matching) if revocations else []
    found: set[str] = set()
    for revoked in revocations:
        theirs = (a for a in every if a.tenant == revoked.tenant and a.created <= revoked.at)
        found |= made_of(theirs, revoked.source)
    return found


def without_answer(row: Feedback) -> Feedback:
    """The row without the answer that it is about, and without what its verifier said of that."""
    return replace(row, output="", output_passed=None)


def purge(learned: Learned) -> list[str]:
    """Remove the bytes of adaptations that neither serve nor may serve again; gives the names of the blobs."""

    def decide(snapshot: Snapshot) -> tuple[list[str], Sequence[Change]]:
        kept = {alias.previous for alias in ALIASES.scan(snapshot)}
        used = [a.blob for a in ADAPTATIONS.scan(snapshot) if a.state in LIVE or a.id in kept]
        return learned.blobs.sweep(used), []

    return step(learned.store, decide)


def _retiring(
    learned: Learned,
    snapshot: Snapshot,
    tenant: str,
    every: Sequence[Adaptation],
    unfit: set[str],
    reason: str,
    now: float,
) -> tuple[list[Change], list[Adaptation]]:
    """Changes that take the unfit out of their aliases, with the adaptations that were live or kept to roll back to."""
    changes: list[Change] = []
    kept = set()
    for alias in ALIASES.scan(snapshot, {"tenant": tenant}):
        if not {alias.champion, alias.previous, alias.canary} & unfit:
            continue
        kept.add(alias.previous)
        moved, heir = _without(learned, snapshot, alias, unfit, now)
        changes.append(ALIASES.put(moved))
        if heir is not None:
            changes += serving(replace(heir, state="champion", reason=f"its successor left: {reason}", changed=now))
    leavers = [a for a in every if a.id in unfit and (a.state in LIVE or a.id in kept)]
    for leaver in leavers:
        changes += leaving(replace(leaver, state="retired", reason=reason, changed=now))
    return changes, leavers


def _without(
    learned: Learned, snapshot: Snapshot, alias: Alias, unfit: set[str], now: float
) -> tuple[Alias, Adaptation | None]:
    clean = replace(
        alias,
        previous=None if alias.previous in unfit else alias.previous,
        canary=None if alias.canary in unfit else alias.canary,
        share=0.0 if alias.canary in unfit else alias.share,
        changed=now,
    )
    if alias.champion not in unfit:
        return clean, None
    heir = heir_of(learned, snapshot, clean)
    return replace(clean, champion=None if heir is None else heir.id, previous=None), heir


def _withdrawing(
    snapshot: Snapshot, revoked: Revocation, unfit: set[str], rules: Rules | None
) -> tuple[list[str], dict[str, list[str]], list[Change]]:
    """Ids of the source's feedback, curated ids left by cluster, and the changes that remove and relabel rows.

    What the unfit adaptations answered is taken out of the feedback that others gave on it; their corrections stay.
    A label can change only where the source had a say: about the same requests. There the rest is curated again.
    """
    rows = _listed(snapshot, revoked.tenant)
    gone = [row.id for row in rows if row.source == revoked.source]
    others = [row for row in rows if row.source != revoked.source]
    answered = {row.id for row in others if not unfit.isdisjoint(row.adaptations)}
    touched = {row.request for row in rows if row.source == revoked.source or row.id in answered}
    near = [row for row in others if row.id in answered or (row.request in touched and row.counts)]
    before = [found for row in near if (found := FEEDBACK.get(snapshot, row.id)) is not None]
    after = {row.id: without_answer(row) if row.id in answered else row for row in before}
    counting = {row.id for row in near if row.counts}
    earlier = REVOCATIONS.scan(snapshot, {"tenant": revoked.tenant})
    curated = curate((row for row in after.values() if row.id in counting), rules, earlier)
    after |= {row.id: row for row in curated.rows}
    changes: list[Change] = [FEEDBACK.drop(gone)] if gone else []
    if changed := [after[row.id] for row in before if row != after[row.id]]:
        changes.append(FEEDBACK.put(*changed))
    states = {row.id: row.state for row in others}
    states |= {row.id: row.state for row in changed}
    return gone, _curated(rows, states), changes


class _Listed(NamedTuple):
    """What revoking needs of every row of feedback, without its texts and vectors in full."""

    id: str
    source: str
    state: str
    cluster: str
    adaptations: tuple[str, ...]
    request: tuple[str, str, str]

    @property
    def counts(self) -> bool:
        return self.state not in {"new", "superseded"}


def _listed(snapshot: Snapshot, tenant: str) -> list[_Listed]:
    columns = ("id", "source", "state", "cluster", "adaptations", "prompt", "prefix", "suffix")
    table = snapshot.scan(FEEDBACK.spec, {"tenant": tenant}, columns)
    every = zip(*(table.column(name).to_pylist() for name in columns), strict=True)
    return [
        _Listed(identity, source, state, cluster, tuple(adaptations), (prompt, prefix, suffix))
        for identity, source, state, cluster, adaptations, prompt, prefix, suffix in every
    ]


def _curated(rows: Sequence[_Listed], states: Mapping[str, str]) -> dict[str, list[str]]:
    """Ids of the curated rows, by cluster."""
    clusters: dict[str, list[str]] = {}
    for row in rows:
        if states.get(row.id) == "curated":
            clusters.setdefault(row.cluster, []).append(row.id)
    return clusters


def _forgetting(snapshot: Snapshot, tenant: str, source: str) -> tuple[int, list[Change]]:
    """The memories of a source in the tables of every embedder there was: how many, and the changes that drop them."""
    changes: list[Change] = []
    dropped = 0
    for width in sorted({embedder.width for embedder in EMBEDDERS.scan(snapshot)}):
        table = memories(width)
        if keys := [memory.id for memory in table.scan(snapshot, {"tenant": tenant, "source": source})]:
            changes.append(table.drop(keys))
            dropped += len(keys)
    return dropped, changes
