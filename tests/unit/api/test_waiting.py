"""Work that is stopped for a reason, told from work that is cancelled by others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from perfuse.api.waiting import Stopped, unless


class Switch:
    """Arms work and can stop it."""

    def __init__(self) -> None:
        self.stop: Callable[[], None] | None = None

    def arm(self, stop: Callable[[], None]) -> Callable[[], object]:
        self.stop = stop
        return self.disarm

    def disarm(self) -> None:
        self.stop = None


async def answer(value: str | None) -> str | None:
    await asyncio.sleep(0)
    return value


async def forever(cancelled: list[str], name: str = "work") -> None:
    try:
        await asyncio.Event().wait()
    finally:
        cancelled.append(name)


@pytest.mark.parametrize("value", ["done", None])
async def test_work_that_is_left_alone_gives_its_result(value: str | None) -> None:
    switch = Switch()
    assert await unless(answer(value), switch.arm) == value
    assert switch.stop is None


async def test_stopped_work_is_cancelled_and_its_task_goes_on() -> None:
    switch, cancelled = Switch(), list[str]()

    async def whole() -> str:
        try:
            await unless(forever(cancelled), switch.arm)
        except Stopped:
            await asyncio.sleep(0)
            return "stopped"
        return "done"

    task = asyncio.create_task(whole())
    await asyncio.sleep(0)
    assert switch.stop is not None
    switch.stop()
    assert await task == "stopped"
    assert cancelled == ["work"]
    assert switch.stop is None


async def test_cancelling_the_task_is_not_stopping_the_work() -> None:
    switch, cancelled = Switch(), list[str]()
    task = asyncio.create_task(unless(forever(cancelled), switch.arm))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cancelled == ["work"]
    assert switch.stop is None


async def test_an_outer_reason_wins_over_an_inner_one() -> None:
    outer, inner, cancelled = Switch(), Switch(), list[str]()

    async def both() -> None:
        try:
            await unless(forever(cancelled), inner.arm)
        except Stopped:
            cancelled.append("inner")

    task = asyncio.create_task(unless(both(), outer.arm))
    await asyncio.sleep(0)
    assert inner.stop is not None
    assert outer.stop is not None
    inner.stop()
    outer.stop()
    with pytest.raises(Stopped):
        await task
    assert cancelled == ["work"]


async def test_a_failure_of_the_work_is_its_own() -> None:
    async def fails() -> None:
        raise ValueError("3 of 4")

    switch = Switch()
    with pytest.raises(ValueError, match="3 of 4"):
        await unless(fails(), switch.arm)
    assert switch.stop is None
