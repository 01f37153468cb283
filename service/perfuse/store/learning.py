"""What the server learns from and what it has learned, as typed rows.

    feedback ──curated──▶ jobs ──trained──▶ adaptations ──named by──▶ aliases
                                            blobs/<sha256>            domains_<width>: where requests are routed to

`feedback` and `memories_<width>` are the asset: they come from outside. All else follows from them. Tables with vectors
carry the width of the embedding in their name, because a column has one width and a new base model may have another;
each row carries the hash of its embedder, and only vectors of equal hashes are compared. Times are Unix seconds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Generic, Literal, TypeVar

import pyarrow as pa  # type: ignore[import-untyped]

from perfuse.store.store import Delete, Key, Put, Snapshot, Value
from perfuse.store.tables import SCHEMA_REGISTRY, TableSpec

AdaptationKind = Literal["lora"]
AdaptationState = Literal["candidate", "canary", "champion", "retired", "rejected"]
FeedbackState = Literal["new", "curated", "quarantined", "superseded"]
JobState = Literal["queued", "running", "done", "failed", "cancelled"]
LIVE: tuple[AdaptationState, ...] = ("candidate", "canary", "champion")

_Record = TypeVar("_Record")


@dataclass(frozen=True, slots=True, kw_only=True)
class Adaptation:
    """What was trained, of what, and what became of it. Only `state`, `reason`, `report` and `changed` ever change.

    Attributes:
        id: see `adaptation_id`.
        blob: SHA-256 (hex) of its bytes.
        parent: the champion when it was trained, which made half of its replay; None for the first.
        base: hash of the base model.
        embedder: hash of what made `centroid`.
        dataset: hash of the training rows.
        feedback: ids of all feedback that it was trained on.
        sources: who gave it.
        config: of the training, as JSON.
        report: the gate's figures, as JSON; "" before the gate.
        reason: why it is in its state.
        radius: cosine distance from `centroid` within which requests belong to it.
    """

    id: str
    tenant: str
    cluster: str
    kind: AdaptationKind
    blob: str
    parent: str | None
    base: str
    embedder: str
    dataset: str
    feedback: tuple[str, ...]
    sources: tuple[str, ...]
    seed: int
    config: str
    report: str
    state: AdaptationState
    reason: str
    centroid: tuple[float, ...]
    radius: float
    created: float
    changed: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Alias:
    """Which adaptation serves a cluster of a tenant; None is the base model. Written by `perfuse.store.aliases` only.

    Attributes:
        key: see `alias_key`.
        previous: the champion before, to roll back to.
        canary: the candidate that runs beside the champion on a share of the rows.
    """

    key: str
    tenant: str
    cluster: str
    champion: str | None = None
    previous: str | None = None
    canary: str | None = None
    share: float = 0.0
    changed: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """Where a champion or canary serves: the row exists as long as an alias names it as one."""

    id: str
    tenant: str
    cluster: str
    embedder: str
    base: str
    state: AdaptationState
    radius: float
    centroid: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """One item of feedback with the generation it is about, and what curation made of it.

    Attributes:
        id: of the item in the inbox, so a redelivered item replaces itself.
        generation: the uuid inside the generation's id.
        prompt: of the request, as are `prefix` and `suffix`.
        output: what the server had answered, prefix and suffix included; "" once that was withdrawn.
        adaptations: ids of those that took part in the answer.
        correction: what it should have answered, prefix and suffix included, if the source says so.
        reward: from -1 (bad) to 1 (good), if the source judged the output.
        verifier: tests or schema as JSON, "" without.
        output_passed: verdict of the verifier on `output`; None where it did not judge.
        correction_passed: the same on `correction`.
        state: "superseded" does not count because of newer items of the same source.
        reason: why it is in its state; for "curated", by what.
        embedding: of the request, as little-endian float32; b"" before it is embedded.
    """

    id: str
    tenant: str
    generation: str
    source: str
    received: float
    model: str
    prompt: str
    prefix: str
    suffix: str
    output: str
    adaptations: tuple[str, ...]
    correction: str | None
    reward: float | None
    verifier: str
    output_passed: bool | None
    correction_passed: bool | None
    state: FeedbackState
    reason: str
    cluster: str
    embedder: str
    embedding: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """An accepted generation, or a text that was put, to be found again by its embedding."""

    id: str
    tenant: str
    source: str
    generation: str
    prompt: str
    text: str
    created: float
    embedder: str
    embedding: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One training: it is resumed from its checkpoint until it has ended.

    Attributes:
        attempt: how many were begun.
        adaptation: what came of it, once it is done.
    """

    id: str
    tenant: str
    cluster: str
    base: str
    feedback: tuple[str, ...]
    state: JobState
    attempt: int
    adaptation: str | None
    reason: str
    created: float
    changed: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """All that a source has sent until `at` is withdrawn; what of it is still on its way is not taken in."""

    key: str
    tenant: str
    source: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedder:
    """A base model's encoder that has made vectors of this store, and their width."""

    hash: str
    width: int


@dataclass(frozen=True, slots=True)
class Records(Generic[_Record]):
    """A table whose rows are records of one class."""

    spec: TableSpec
    make: Callable[..., _Record]

    def rows(self, records: Iterable[_Record]) -> pa.Table:
        """The records as rows of the table."""
        names = self.spec.schema.names
        return pa.Table.from_pylist([{n: getattr(r, n) for n in names} for r in records], schema=self.spec.schema)

    def put(self, *records: _Record) -> Put:
        """The change that writes the records."""
        return Put(self.spec, self.rows(records))

    def drop(self, keys: Sequence[str]) -> Delete:
        """The change that removes the rows of `keys`."""
        return Delete(self.spec, keys)

    def get(self, snapshot: Snapshot, key: Key) -> _Record | None:
        """The record with `key`, or None."""
        row = snapshot.get(self.spec, key)
        return None if row is None else self._record(row)

    def scan(self, snapshot: Snapshot, where: Mapping[str, Value] | None = None) -> list[_Record]:
        """The records whose fields equal all of `where`, in the order they were written."""
        return [self._record(row) for row in snapshot.scan(self.spec, where).to_pylist()]

    def _record(self, row: Mapping[str, object]) -> _Record:
        return self.make(**{name: tuple(v) if isinstance(v, list) else v for name, v in row.items()})


def adaptation_id(tenant: str, cluster: str, dataset: str, blob: str) -> str:
    """Id of an adaptation: a hash of its bytes and of what they were trained on and for.

    The bytes alone would not do: two tenants may send the same feedback, and a rebuild may give the same bytes of less.
    """
    text = json.dumps([tenant, cluster, dataset, blob], ensure_ascii=False)
    return "ad_" + hashlib.sha256(text.encode()).hexdigest()[:32]


def alias_key(tenant: str, name: str) -> str:
    """One string of two that may hold any character."""
    return json.dumps([tenant, name], ensure_ascii=False)


def _spec(name: str, record: type, key: str, vector: str | None = None, **types: pa.DataType) -> TableSpec:
    columns = []
    for field in fields(record):
        kind = types.get(field.name) or _TYPES[str(field.type).removesuffix(" | None")]
        columns.append(pa.field(field.name, kind, nullable=str(field.type).endswith("None")))
    return SCHEMA_REGISTRY.register(TableSpec(name, pa.schema(columns), key, vector))


_TYPES = {
    "str": pa.string(),
    "bytes": pa.binary(),
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "tuple[str, ...]": pa.list_(pa.string()),
    "tuple[float, ...]": pa.list_(pa.float32()),
    **dict.fromkeys(("AdaptationKind", "AdaptationState", "FeedbackState", "JobState"), pa.string()),
}

ADAPTATIONS = Records(_spec("adaptations", Adaptation, "id"), Adaptation)
ALIASES = Records(_spec("aliases", Alias, "key"), Alias)
FEEDBACK = Records(_spec("feedback", Feedback, "id"), Feedback)
JOBS = Records(_spec("jobs", Job, "id"), Job)
REVOCATIONS = Records(_spec("revocations", Revocation, "key"), Revocation)
EMBEDDERS = Records(_spec("embedders", Embedder, "hash"), Embedder)
TABLES = tuple(table.spec for table in (ADAPTATIONS, ALIASES, FEEDBACK, JOBS, REVOCATIONS, EMBEDDERS))


@cache
def domains(width: int) -> Records[Domain]:
    """The table of domains for embeddings of `width`."""
    vector = pa.list_(pa.float32(), width)
    return Records(_spec(f"domains_{width}", Domain, "id", "centroid", centroid=vector), Domain)


@cache
def memories(width: int) -> Records[Memory]:
    """The table of memories for embeddings of `width`."""
    vector = pa.list_(pa.float32(), width)
    return Records(_spec(f"memories_{width}", Memory, "id", "embedding", embedding=vector), Memory)
