"""Memories: texts that are found again by the embedding of their prompt, each within its tenant.

A memory lies in the table for the width of its embedding. A new base model embeds otherwise: what was put before stays
and is listed, but is not found by vectors of the new one until it is replaced.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from perfuse.errors import NotFound
from perfuse.evolution.learned import Learned
from perfuse.ids import uuid7
from perfuse.queue.inbox import IdempotencyKeyReused
from perfuse.store import Snapshot
from perfuse.store.aliases import step
from perfuse.store.learning import EMBEDDERS, Embedder, Memory, Records, alias_key, memories
from perfuse.store.store import Change

_PREFIX = "mem_"


def new_id(tenant: str, key: str | None) -> str:
    """An id nobody has, or the one that the tenant's idempotency key stands for."""
    if key is None:
        return f"{_PREFIX}{uuid7()}"
    return _PREFIX + hashlib.sha256(alias_key(tenant, key).encode()).hexdigest()[:32]


def put(learned: Learned, memory: Memory) -> Memory:
    """Keep a new memory; one that was put under the same id before is given back as it is.

    Raises:
        IdempotencyKeyReused: what was put under the id has another content.
    """

    def decide(snapshot: Snapshot) -> tuple[Memory, Sequence[Change]]:
        there = _find(snapshot, memory.tenant, memory.id)
        if there is None:
            return memory, [memories(len(memory.embedding)).put(memory)]
        if _content(there) != _content(memory):
            raise IdempotencyKeyReused(
                "the idempotency key was used before for another memory",
                field="/idempotency_key",
                hint="use a new key, or PUT the memory to replace it",
            )
        return there, []

    return step(learned.store, decide)


def put_again(learned: Learned, memory: Memory) -> Memory:
    """Put a memory in place of the one with its id, which keeps its time.

    Raises:
        NotFound: the tenant has none of that id.
    """

    def decide(snapshot: Snapshot) -> tuple[Memory, Sequence[Change]]:
        there = get(snapshot, memory.tenant, memory.id)
        kept = replace(memory, created=there.created)
        changes: list[Change] = [memories(len(kept.embedding)).put(kept)]
        if len(there.embedding) != len(kept.embedding):
            changes.append(memories(len(there.embedding)).drop([there.id]))
        return kept, changes

    return step(learned.store, decide)


def delete(learned: Learned, tenant: str, identity: str) -> None:
    """Forget a memory.

    Raises:
        NotFound: the tenant has none of that id.
    """

    def decide(snapshot: Snapshot) -> tuple[None, Sequence[Change]]:
        there = get(snapshot, tenant, identity)
        return None, [memories(len(there.embedding)).drop([identity])]

    step(learned.store, decide)


def get(snapshot: Snapshot, tenant: str, identity: str) -> Memory:
    """A memory of the tenant.

    Raises:
        NotFound: the tenant has none of that id.
    """
    found = _find(snapshot, tenant, identity)
    if found is None:
        raise NotFound(f"no memory {identity}")
    return found


def page(snapshot: Snapshot, tenant: str, limit: int, after: str = "") -> tuple[list[Memory], bool]:
    """At most `limit` memories of the tenant whose ids come behind `after`, by id; and whether there are more."""
    ids = [
        identity
        for table in _tables(snapshot)
        for identity in snapshot.scan(table.spec, {"tenant": tenant}, ["id"])["id"].to_pylist()
        if identity > after
    ]
    found = (_find(snapshot, tenant, identity) for identity in itertools.islice(sorted(ids), limit))
    return [memory for memory in found if memory is not None], len(ids) > limit


def search(
    snapshot: Snapshot, tenant: str, embedder: Embedder, queries: npt.NDArray[np.float32], k: int
) -> list[list[Memory]]:
    """For each query the `k` memories of the tenant nearest to it, best first; exact.

    Args:
        snapshot: of a store that has the tables of `embedder`.
        tenant: whose.
        embedder: what has made the queries; memories that another has embedded are not compared.
        queries: `[n, width]`, float32.
        k: how many per query; fewer come where there are fewer.
    """
    table = memories(embedder.width)
    where = {"tenant": tenant, "embedder": embedder.hash}
    hits = snapshot.search(table.spec, queries, k, where, ["id"])
    nearest: list[list[Memory]] = [[] for _ in queries]
    for query, identity in zip(hits["_query"].to_pylist(), hits["id"].to_pylist(), strict=True):
        if (memory := table.get(snapshot, identity)) is not None:
            nearest[query].append(memory)
    return nearest


def _content(memory: Memory) -> tuple[str, str, str]:
    return memory.prompt, memory.text, memory.source


def _tables(snapshot: Snapshot) -> list[Records[Memory]]:
    return [memories(width) for width in sorted({embedder.width for embedder in EMBEDDERS.scan(snapshot)})]


def _find(snapshot: Snapshot, tenant: str, identity: str) -> Memory | None:
    found = (table.get(snapshot, identity) for table in _tables(snapshot))
    return next((memory for memory in found if memory is not None and memory.tenant == tenant), None)
