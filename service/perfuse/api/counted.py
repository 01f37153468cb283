"""What the evolution worker counts, asked at most every few seconds, however often metrics are read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from perfuse import orders
from perfuse.dispatch.evolution import Worker
from perfuse.errors import PerfuseError

KEPT_SECONDS = 5.0
ASK_SECONDS = 2.0
"""How long whoever reads metrics waits for a worker; then it counts as absent."""


class Counted:
    """The worker's counts of all stages.

    Args:
        worker: whom to ask; None: the server does not learn.
        clock: seconds that never go back.
    """

    def __init__(self, worker: Worker | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._worker = worker
        self._clock = clock
        self._asking = asyncio.Lock()
        self._until = float("-inf")
        self._counts: orders.Body | None = None

    async def read(self) -> orders.Body | None:
        """The counts, at most `KEPT_SECONDS` old; None while no worker answers."""
        if self._worker is None:
            return None
        async with self._asking:
            if self._clock() >= self._until:
                self._counts = await self._ask(self._worker)
                self._until = self._clock() + KEPT_SECONDS
        return self._counts

    async def _ask(self, worker: Worker) -> orders.Body | None:
        try:
            async with asyncio.timeout(ASK_SECONDS):
                return await worker.ask(orders.Totals(tenant=""))
        except (PerfuseError, TimeoutError):
            return None
