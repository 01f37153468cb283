"""The end of the evolution worker."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from structlog.testing import capture_logs

from perfuse.evolution import worker


async def test_a_task_that_misses_its_cancellation_is_cancelled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_CANCEL_SECONDS", 0.05)

    async def deaf() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        await asyncio.sleep(60)

    async def learn() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(deaf())

    learning = asyncio.create_task(learn())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    with capture_logs() as logs:
        await worker.end(learning)
    assert learning.cancelled()
    (said,) = logs
    assert said["event"] == "tasks_do_not_end"
    assert any("deaf" in task for task in said["tasks"])


async def test_what_ends_at_once_is_not_mentioned() -> None:
    learning = asyncio.create_task(asyncio.sleep(60))
    await asyncio.sleep(0)
    with capture_logs() as logs:
        await worker.end(learning)
    assert (learning.cancelled(), logs) == (True, [])
