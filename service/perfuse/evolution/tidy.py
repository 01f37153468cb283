"""Keeps the store small while the server runs: a compaction keeps neither commits nor readers waiting."""

from __future__ import annotations

import asyncio

from perfuse import logging
from perfuse.errors import StoreError
from perfuse.store import Store

_log = logging.get(__name__)

SECONDS = 600.0
"""Between two looks: a look reads every row's mark."""


async def tidy(store: Store, seconds: float = SECONDS) -> None:
    """Compact the store whenever most of it is dead; until cancelled."""
    while True:
        await asyncio.sleep(seconds)
        try:
            if await asyncio.to_thread(store.compaction_due):
                done = await asyncio.to_thread(store.compact)
                _log.info("store_compacted", bytes_before=done.bytes_before, bytes_after=done.bytes_after)
        except StoreError as error:
            _log.warning("store_not_compacted", reason=error.detail)
