"""Which adaptation answers a request: the one learned for requests like it, else the base model.

A request belongs to the nearest champion within whose radius its vector lies. While a cluster has a canary, a share of
the requests that the canary's radius takes in goes to it, drawn from the request's prompt and seed; the others are
answered as if there were no canary. Search is exact, and what is another tenant's, embedder's or base model's is never
looked at.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from perfuse.adaptation.embedding import Encoder
from perfuse.adaptation.isotonic import Falling
from perfuse.adaptation.residency import Residency
from perfuse.adaptation.whitening import Vectors
from perfuse.errors import InvalidRequest, NotFound
from perfuse.requests import Attribution
from perfuse.store.aliases import current
from perfuse.store.learning import ADAPTATIONS, Adaptation, domains
from perfuse.store.store import Snapshot, Value

NEAREST = 16
"""Domains looked at per request: as many may overlap where it lies."""
_COLUMNS = ("id", "cluster", "state", "radius")

Draw = Callable[[str], float]
"""A number in [0, 1) for a purpose; the same for the same request."""


@dataclass(frozen=True, slots=True)
class Found:
    """The record of an adaptation that is to answer; `distance` is None where it was asked for by id."""

    record: Adaptation
    distance: float | None = None

    @property
    def attribution(self) -> Attribution:
        """What the answer says of it."""
        record = self.record
        return Attribution(
            id=record.id,
            cluster=record.cluster,
            state=record.state,
            distance=self.distance,
            weight=1.0,
            gain=_told(record.report)[0],
            dataset=record.dataset,
        )

    @property
    def chance(self) -> Falling | None:
        """That its answers are right, by their doubt, as its gate saw them; None where that were too few."""
        return _told(self.record.report)[1]


@dataclass(frozen=True, slots=True)
class _Match:
    """A domain that a request lies in."""

    id: str
    cluster: str
    distance: float


class Router:
    """Finds adaptations of one base model in the store. Used from one thread.

    Args:
        base: hash of the base model.
        encoder: makes vectors of requests.
        residency: where the adaptations themselves are.
    """

    def __init__(self, base: str, encoder: Encoder, residency: Residency) -> None:
        self.encoder = encoder
        self.residency = residency
        self._base = base
        self._domains = domains(encoder.embedder.width).spec
        self._theirs: Mapping[str, Value] = {"embedder": encoder.embedder.hash, "base": base}
        self._lsn = -1
        self._tenants: frozenset[str] = frozenset()

    def concerns(self, snapshot: Snapshot, tenant: str) -> bool:
        """Whether anything learned serves this tenant; looked up once per snapshot for all tenants."""
        if snapshot.lsn != self._lsn:
            try:
                rows = snapshot.scan(self._domains, self._theirs, ["tenant"])
            except NotFound:  # nothing has been learned yet
                self._tenants = frozenset()
            else:
                self._tenants = frozenset(rows["tenant"].unique().to_pylist())
            self._lsn = snapshot.lsn
        return tenant in self._tenants

    def nearest(self, snapshot: Snapshot, tenant: str, vector: Vectors, draw: Draw) -> Found | None:
        """What answers a request of `tenant` with this vector `[width]`; None: the base model."""
        canaries, champions = self._matches(snapshot, tenant, vector)
        chosen = champions[0] if champions else None
        if canaries and (chosen is None or _comes_first(canaries[0], chosen)):
            canary = canaries[0]
            alias = current(snapshot, tenant, canary.cluster)
            if alias.canary == canary.id and draw(f"canary/{canary.id}") < alias.share:
                chosen = canary
        if chosen is None or (record := ADAPTATIONS.get(snapshot, chosen.id)) is None:
            return None
        return Found(record, chosen.distance)

    def _matches(self, snapshot: Snapshot, tenant: str, vector: Vectors) -> tuple[Sequence[_Match], Sequence[_Match]]:
        """Canaries and champions within whose radius the vector lies, nearest first."""
        where = {"tenant": tenant, **self._theirs}
        rows = snapshot.search(self._domains, vector, NEAREST, where, [*_COLUMNS])
        canaries: list[_Match] = []
        champions: list[_Match] = []
        for row in rows.to_pylist():
            distance = max(0.0, 1.0 - row["_score"])
            if distance <= row["radius"]:
                match = _Match(row["id"], row["cluster"], distance)
                (canaries if row["state"] == "canary" else champions).append(match)
        return canaries, champions

    def named(self, snapshot: Snapshot, tenant: str, identity: str) -> Found:
        """The adaptation `identity`, if it is this tenant's, for this model, and neither rejected nor retired.

        Raises:
            InvalidRequest: it is not, or there is none; which of them is not said.
        """
        try:
            record = ADAPTATIONS.get(snapshot, identity)
        except NotFound:  # nothing has been learned yet
            record = None
        if (
            record is None
            or (record.tenant, record.base) != (tenant, self._base)
            or record.state in ("rejected", "retired")
        ):
            raise not_served(identity)
        return Found(record)


def not_served(identity: str) -> InvalidRequest:
    """What is said where an adaptation was asked for that cannot be had."""
    return InvalidRequest(
        f"no adaptation {identity!r} serves this tenant and model",
        field="/adaptation",
        hint='leave out `adaptation` for what was learned, or say "none" for the base model',
    )


def _comes_first(canary: _Match, champion: _Match) -> bool:
    """A canary stands where its cluster's champion does, and else where it is nearer."""
    return canary.cluster == champion.cluster or canary.distance < champion.distance


@lru_cache(maxsize=256)
def _told(report: str) -> tuple[float | None, Falling | None]:
    """`gain` and `calibration` of a gate's report, where they are; read once for all requests it serves."""
    found = json.loads(report) if report else {}
    gain, calibration = found.get("gain"), found.get("calibration")
    return (
        float(gain) if isinstance(gain, int | float) else None,
        None if calibration is None else Falling.of_json(calibration),
    )
