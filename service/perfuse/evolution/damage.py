"""Adaptations whose bytes are missing or damaged leave service; engines answer with the base model in the meantime."""

from __future__ import annotations

import contextlib

from perfuse import logging
from perfuse.errors import NotFound, StoreCorrupt, WrongState
from perfuse.evolution.learned import Learned
from perfuse.evolution.promote import get, roll_back, withdraw
from perfuse.store.learning import ALIASES

_log = logging.get(__name__)


def leave_damaged(learned: Learned, now: float) -> list[str]:
    """Withdraw canaries and roll back champions that cannot be read; gives their ids.

    Args:
        learned: the owner's store.
        now: Unix seconds.
    """
    snapshot = learned.store.snapshot()
    left = []
    for alias in ALIASES.scan(snapshot):
        for identity, leave in ((alias.canary, withdraw), (alias.champion, roll_back)):
            if identity is None:
                continue
            try:
                learned.blobs.read(get(snapshot, identity).blob)
            except (NotFound, StoreCorrupt) as error:
                _log.error("adaptation_damaged", adaptation=identity, reason=error.detail)
                with contextlib.suppress(WrongState):  # somebody took it out of service meanwhile
                    leave(learned, identity, f"its bytes cannot be read: {error.detail}", now)
                    left.append(identity)
    return left
