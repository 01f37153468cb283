"""Takes feedback from the inbox into the store: verified in the jail, written under its own id, then acknowledged.

A crash at any point costs only time: the item is leased again and its row replaces itself. Items that were never
begun are worked on together; one that has seen a death before is worked on alone, so that it takes nobody with it.
Leases are short and held for as long as the work takes, so what a killed worker held is worked on again soon.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import msgspec

from perfuse import logging
from perfuse.errors import InvalidRequest, SandboxUnavailable
from perfuse.evolution.intake import row_of, verify
from perfuse.evolution.learned import Learned
from perfuse.evolution.revoke import withdrawn, without_answer
from perfuse.queue.inbox import Inbox, InboxUnavailable, Lease, LeaseLost
from perfuse.sandbox import availability
from perfuse.store.learning import FEEDBACK, REVOCATIONS, Feedback, alias_key
from perfuse.wire import unpack_feedback

_log = logging.get(__name__)

TOGETHER = 16
"""Items of one lease."""
VERIFIED_TOGETHER = 4
"""Rows; a worker that is to end waits for those in the jail, 16 s at most."""
LEASE_SECONDS = 5.0
"""Extended while the work goes on; so long after a worker was killed nobody works on what it held."""
_EXTENSIONS = 3
"""Per lease, so that one may come late."""


class Taking:
    """Moves items from the inbox to the store.

    Attributes:
        taken: rows written since the start.
        refused: items put aside since the start.
    """

    def __init__(self, learned: Learned, inbox: Inbox) -> None:
        self._learned = learned
        self._inbox = inbox
        self._confines = False
        self.taken = 0
        self.refused = 0

    async def take(self) -> int:
        """Take in what waits, at most `TOGETHER` items; gives how many were leased.

        Raises:
            InboxUnavailable: the queue cannot be reached now.
            SandboxUnavailable: nothing can be verified on this machine; all stays in the inbox, no attempt is counted.
        """
        if not self._confines:
            await asyncio.to_thread(_check_jail)
            self._confines = True
        leases = await self._inbox.lease(TOGETHER, LEASE_SECONDS)
        fresh = [lease for lease in leases if lease.attempts == 0]
        async with self._held(leases):
            for group in ([fresh] if fresh else []) + [[lease] for lease in leases if lease.attempts > 0]:
                await self._take(group)
        return len(leases)

    @contextlib.asynccontextmanager
    async def _held(self, leases: Sequence[Lease]) -> AsyncIterator[None]:
        """Extend the leases until the work is done; those that have ended or were lost are passed over."""

        async def extend() -> None:
            while True:
                await asyncio.sleep(LEASE_SECONDS / _EXTENSIONS)
                for lease in leases:
                    with contextlib.suppress(LeaseLost, InboxUnavailable):
                        await self._inbox.extend(lease, LEASE_SECONDS)

        extending = asyncio.create_task(extend())
        try:
            yield
        finally:
            extending.cancel()
            await asyncio.gather(extending, return_exceptions=True)

    async def _take(self, leases: Sequence[Lease]) -> None:
        rows: list[Feedback] = []
        held: list[Lease] = []
        for lease in leases:
            try:
                await self._inbox.begin(lease)
                row = row_of(lease.id, unpack_feedback(lease.item))
            except LeaseLost:
                continue
            except (msgspec.DecodeError, InvalidRequest) as error:
                await self._inbox.dead(lease, str(error))
                self.refused += 1
                continue
            held.append(lease)
            if not self._revoked(row):
                rows.append(row)
        judged: list[Feedback] = []
        for start in range(0, len(rows), VERIFIED_TOGETHER):
            judged += await asyncio.to_thread(verify, rows[start : start + VERIFIED_TOGETHER])
        judged = self._without_withdrawn(judged)
        if judged:
            await asyncio.to_thread(self._learned.store.commit, [FEEDBACK.put(*judged)])
            self.taken += len(judged)
        for lease in held:
            try:
                await self._inbox.ack(lease)
            except LeaseLost:
                _log.debug("lease_lost", item=lease.id)

    def _without_withdrawn(self, rows: Sequence[Feedback]) -> list[Feedback]:
        """The rows without answers that repeat a source which was revoked meanwhile."""
        snapshot = self._learned.store.snapshot()
        unfit = {tenant: withdrawn(snapshot, tenant) for tenant in {row.tenant for row in rows if row.adaptations}}
        return [
            row if unfit.get(row.tenant, set()).isdisjoint(row.adaptations) else without_answer(row) for row in rows
        ]

    def _revoked(self, row: Feedback) -> bool:
        found = REVOCATIONS.get(self._learned.store.snapshot(), alias_key(row.tenant, row.source))
        return found is not None and row.received <= found.at


def _check_jail() -> None:
    found = availability()
    if found.tier == "none":
        raise SandboxUnavailable(
            f"feedback waits, because nothing can be verified here: {'; '.join(found.reasons)}",
            hint="`perfuse doctor --sandbox` shows what is missing",
        )
