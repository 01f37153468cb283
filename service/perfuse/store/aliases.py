"""Aliases move in steps that decide on a snapshot and commit what they decided before any other step looks.

A request pins a snapshot, and a snapshot holds whole commits: it sees an alias with the adaptation that it names, or
neither. A store has one owner process, and in it all steps pass one lock, so a step compares and swaps whatever it
read: not one alias alone, but also the feedback that an adaptation was trained on. Other writes do not wait.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from perfuse.store.learning import ALIASES, Alias, alias_key
from perfuse.store.store import Change, Snapshot, Store

_Result = TypeVar("_Result")
_stepping = threading.Lock()


def current(snapshot: Snapshot, tenant: str, cluster: str) -> Alias:
    """The alias of a cluster; one that names nothing where there is none."""
    key = alias_key(tenant, cluster)
    return ALIASES.get(snapshot, key) or Alias(key=key, tenant=tenant, cluster=cluster)


def step(store: Store, decide: Callable[[Snapshot], tuple[_Result, Sequence[Change]]]) -> _Result:
    """Run `decide` on the newest snapshot and commit its changes at once; without changes nothing is written.

    Returns:
        The result of `decide`, when its changes are on disk.
    """
    with _stepping:
        result, changes = decide(store.snapshot())
        if changes:
            store.commit(changes)
        return result
