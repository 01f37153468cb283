"""What the learning side asks together."""

from __future__ import annotations

import asyncio

import pytest

from perfuse.errors import GenerationFailed
from perfuse.evolution.answers import each


async def test_each_keeps_the_order() -> None:
    async def later(seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds

    assert await each([0.02, 0.0, 0.01], later) == [0.02, 0.0, 0.01]


async def test_the_first_failure_ends_the_rest_and_is_raised() -> None:
    ended: list[int] = []

    async def work(item: int) -> None:
        if item == 1:
            raise GenerationFailed("one failed")
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(item)

    with pytest.raises(GenerationFailed, match=r"^one failed$"):
        await each([0, 1, 2], work)
    assert sorted(ended) == [0, 2]


async def test_a_cancellation_goes_before_what_fails_because_of_it() -> None:
    async def work(item: int) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise GenerationFailed(f"{item} was in the middle of something")

    asking = asyncio.create_task(each([0, 1], work))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait({asking})
    assert asking.cancelled()
