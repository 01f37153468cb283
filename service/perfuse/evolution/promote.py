"""The life of an adaptation: candidate, canary, champion, and the ways out. Each step is one commit of the store.

    admit ──▶ candidate ──start_canary──▶ canary ──promote──▶ champion ──(next promote)──▶ retired, kept as `previous`
                  │ reject                  │ withdraw            │ roll_back                        │ roll_back
                  ▼                         ▼                     ▼                                  ▼
              rejected                  rejected               retired                            champion
                  └──start_canary by order──▶ canary

Each step checks the state that it starts from, so a step that is repeated after a crash either finds its work done and
returns, or does it. The bytes of what becomes champion are read and compared with their name first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from perfuse.errors import InvalidRequest, NotFound, StoreCorrupt, WrongState
from perfuse.evolution.learned import Learned
from perfuse.evolution.tally import Move
from perfuse.store import Snapshot
from perfuse.store.aliases import current, step
from perfuse.store.learning import (
    ADAPTATIONS,
    ALIASES,
    FEEDBACK,
    Adaptation,
    AdaptationState,
    Alias,
    Domain,
    adaptation_id,
    domains,
)
from perfuse.store.store import Change

_Result = TypeVar("_Result")


def admit(learned: Learned, candidate: Adaptation, data: bytes) -> Adaptation:
    """Keep the bytes and the record of a freshly trained candidate; `id`, `blob` and `state` are filled in here.

    Raises:
        WrongState: feedback it was trained on has been revoked meanwhile; nothing is kept.
    """
    blob = learned.blobs.put(data)
    identity = adaptation_id(candidate.tenant, candidate.cluster, candidate.dataset, blob)
    record = replace(candidate, id=identity, blob=blob, state="candidate", reason="trained")

    def decide(snapshot: Snapshot) -> tuple[Adaptation, Sequence[Change]]:
        if there := ADAPTATIONS.get(snapshot, identity):
            return there, []
        _check_not_revoked(snapshot, record)
        return record, [ADAPTATIONS.put(record)]

    return step(learned.store, decide)


def _check_not_revoked(snapshot: Snapshot, made: Adaptation) -> None:
    if gone := [item for item in made.feedback if FEEDBACK.get(snapshot, item) is None]:
        raise WrongState(
            f"{len(gone)} of {len(made.feedback)} items that it was trained on have been revoked",
            hint="train again on the feedback that is left",
        )


def reject(learned: Learned, identity: str, reason: str, report: str, now: float) -> Adaptation:
    """End a candidate that the gate refused, with the gate's figures."""

    def decide(snapshot: Snapshot) -> tuple[Adaptation, Sequence[Change]]:
        found = _in_state(snapshot, identity, "candidate", done="rejected")
        if found.state == "rejected":
            return found, []
        ended = replace(found, state="rejected", reason=reason, report=report, changed=now)
        return ended, [ADAPTATIONS.put(ended)]

    return step(learned.store, decide)


def start_canary(
    learned: Learned, identity: str, share: float, report: str, now: float, *, ordered: bool = False
) -> Adaptation:
    """Let a candidate run beside the champion on `share` of the cluster's rows; `ordered`: also a rejected one.

    Raises:
        WrongState: another canary of the cluster is running, or feedback that it was trained on has been revoked.
        NotFound, StoreCorrupt: its bytes are not there as they were put.
    """
    if not 0 < share <= 1:
        raise InvalidRequest(f"expected a share above 0 and at most 1; got {share}", field="/share")

    def decide(snapshot: Snapshot) -> tuple[Adaptation, Sequence[Change]]:
        found = get(snapshot, identity)
        if not (ordered and found.state == "rejected"):
            found = _in_state(snapshot, identity, "candidate", done="canary")
        if found.state == "canary":
            return found, []
        _check_not_revoked(snapshot, found)
        alias = current(snapshot, found.tenant, found.cluster)
        if alias.canary is not None:
            raise WrongState(f"{alias.canary} is the canary of cluster {found.cluster!r}; there is one at a time")
        learned.blobs.read(found.blob)
        reason = "started by an administrator" if ordered else "passed the gate"
        canary = replace(found, state="canary", reason=reason, report=report, changed=now)
        moved = replace(alias, canary=identity, share=share, changed=now)
        return canary, [*serving(canary), ALIASES.put(moved)]

    return step(learned.store, decide)


def withdraw(learned: Learned, identity: str, reason: str, now: float) -> Adaptation:
    """End a canary; the champion goes on alone."""

    def decide(snapshot: Snapshot) -> tuple[Adaptation, Sequence[Change]]:
        found = _in_state(snapshot, identity, "canary", done="rejected")
        if found.state == "rejected":
            return found, []
        ended = replace(found, state="rejected", reason=reason, changed=now)
        alias = current(snapshot, found.tenant, found.cluster)
        moved = replace(alias, canary=None, share=0.0, changed=now)
        return ended, [*leaving(ended), ALIASES.put(moved)]

    return _counted(learned, "withdrawn", decide)


def promote(learned: Learned, identity: str, reason: str, now: float) -> Adaptation:
    """Make a canary the champion of its cluster; the champion before is kept to roll back to.

    Raises:
        NotFound, StoreCorrupt: its bytes are not there as they were put.
    """

    def decide(snapshot: Snapshot) -> tuple[Adaptation, Sequence[Change]]:
        found = _in_state(snapshot, identity, "canary", done="champion")
        if found.state == "champion":
            return found, []
        learned.blobs.read(found.blob)
        champion = replace(found, state="champion", reason=reason, changed=now)
        alias = current(snapshot, found.tenant, found.cluster)
        moved = replace(alias, champion=identity, previous=alias.champion, canary=None, share=0.0, changed=now)
        changes = serving(champion)
        if alias.champion is not None:
            before = get(snapshot, alias.champion)
            changes += leaving(replace(before, state="retired", reason=f"replaced by {identity}", changed=now))
        return champion, [*changes, ALIASES.put(moved)]

    return _counted(learned, "promoted", decide)


def roll_back(learned: Learned, identity: str, reason: str, now: float) -> Alias:
    """Take the champion `identity` out of service: the one before it serves again, or the base model.

    The base model serves also where the bytes of the one before are not there as they were put.
    """

    def decide(snapshot: Snapshot) -> tuple[Alias, Sequence[Change]]:
        found = get(snapshot, identity)
        alias = current(snapshot, found.tenant, found.cluster)
        if (found.state, found.reason) == ("retired", reason):
            return alias, []
        _in_state(snapshot, identity, "champion", done="champion")
        changes = leaving(replace(found, state="retired", reason=reason, changed=now))
        heir = heir_of(learned, snapshot, alias)
        if heir is not None:
            changes += serving(replace(heir, state="champion", reason=f"rolled back from {identity}", changed=now))
        moved = replace(alias, champion=None if heir is None else heir.id, previous=None, changed=now)
        return moved, [*changes, ALIASES.put(moved)]

    return _counted(learned, "rolled_back", decide)


def get(snapshot: Snapshot, identity: str) -> Adaptation:
    """The adaptation.

    Raises:
        NotFound: there is none of that id.
    """
    found = ADAPTATIONS.get(snapshot, identity)
    if found is None:
        raise NotFound(f"no adaptation {identity}")
    return found


def heir_of(learned: Learned, snapshot: Snapshot, alias: Alias) -> Adaptation | None:
    """What serves when the champion goes: the one before it, if its bytes are there; else None, the base model."""
    if alias.previous is None:
        return None
    found = get(snapshot, alias.previous)
    try:
        learned.blobs.read(found.blob)
    except (NotFound, StoreCorrupt):
        return None
    return found


def serving(adaptation: Adaptation) -> list[Change]:
    """The changes that write an adaptation that serves, and the domain by which requests find it."""
    domain = Domain(
        id=adaptation.id,
        tenant=adaptation.tenant,
        cluster=adaptation.cluster,
        embedder=adaptation.embedder,
        base=adaptation.base,
        state=adaptation.state,
        radius=adaptation.radius,
        centroid=adaptation.centroid,
    )
    return [ADAPTATIONS.put(adaptation), domains(len(adaptation.centroid)).put(domain)]


def leaving(adaptation: Adaptation) -> list[Change]:
    """The changes that write an adaptation that serves no more, so that no request finds it."""
    return [ADAPTATIONS.put(adaptation), domains(len(adaptation.centroid)).drop([adaptation.id])]


def _counted(learned: Learned, move: Move, decide: Callable[[Snapshot], tuple[_Result, Sequence[Change]]]) -> _Result:
    """The step, counted when it is on disk, unless it had been done before."""
    made: list[Change] = []

    def deciding(snapshot: Snapshot) -> tuple[_Result, Sequence[Change]]:
        result, changes = decide(snapshot)
        made.extend(changes)
        return result, changes

    result = step(learned.store, deciding)
    if made:
        learned.tally.move(move)
    return result


def _in_state(snapshot: Snapshot, identity: str, start: AdaptationState, *, done: AdaptationState) -> Adaptation:
    found = get(snapshot, identity)
    if found.state not in {start, done}:
        raise WrongState(f"expected {identity} to be {start}; it is {found.state}: {found.reason}")
    return found
