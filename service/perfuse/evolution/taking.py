"""Takes feedback from the inbox into the store: verified in the jail, written under its own id, then acknowledged.

A crash at any point costs only time: the item is leased again and its row replaces itself. Items that were never
begun are worked on together; one that has seen a death before is worked on alone, so that it takes nobody with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from perfuse import logging
from perfuse.errors import InvalidRequest
from perfuse.evolution.intake import row_of, verify
from perfuse.evolution.learned import Learned
from perfuse.queue.inbox import Inbox, Lease, LeaseLost
from perfuse.store.learning import FEEDBACK, REVOCATIONS, Feedback, alias_key
from perfuse.wire import unpack_feedback

_log = logging.get(__name__)

TOGETHER = 16
"""Items of one lease."""
LEASE_SECONDS = 120.0
"""Longer than all verifiers of a batch may take, two at a time."""


class Taking:
    """Moves items from the inbox to the store.

    Attributes:
        taken: rows written since the start.
        refused: items put aside since the start.
    """

    def __init__(self, learned: Learned, inbox: Inbox) -> None:
        self._learned = learned
        self._inbox = inbox
        self.taken = 0
        self.refused = 0

    async def take(self) -> int:
        """Take in what waits, at most `TOGETHER` items; gives how many were leased.

        Raises:
            InboxUnavailable: the queue cannot be reached now.
            SandboxUnavailable: nothing can be verified on this machine; what was leased stays in the inbox.
        """
        leases = await self._inbox.lease(TOGETHER, LEASE_SECONDS)
        fresh = [lease for lease in leases if lease.attempts == 0]
        for group in ([fresh] if fresh else []) + [[lease] for lease in leases if lease.attempts > 0]:
            await self._take(group)
        return len(leases)

    async def _take(self, leases: Sequence[Lease]) -> None:
        rows: list[Feedback] = []
        held: list[Lease] = []
        for lease in leases:
            try:
                await self._inbox.begin(lease)
                row = row_of(lease.id, unpack_feedback(lease.item))
            except LeaseLost:
                continue
            except (msgspec.ValidationError, InvalidRequest) as error:
                await self._inbox.dead(lease, str(error))
                self.refused += 1
                continue
            held.append(lease)
            if not self._revoked(row):
                rows.append(row)
        judged = await asyncio.to_thread(verify, rows)
        if judged:
            await asyncio.to_thread(self._learned.store.commit, [FEEDBACK.put(*judged)])
            self.taken += len(judged)
        for lease in held:
            try:
                await self._inbox.ack(lease)
            except LeaseLost:
                _log.debug("lease_lost", item=lease.id)

    def _revoked(self, row: Feedback) -> bool:
        found = REVOCATIONS.get(self._learned.store.snapshot(), alias_key(row.tenant, row.source))
        return found is not None and row.received <= found.at
