"""Who killed the engine."""

from __future__ import annotations

import asyncio

import pytest

from perfuse import wire
from perfuse.dispatch.link import PendingJob
from perfuse.dispatch.suspects import Verdict, judge
from perfuse.requests import TextRequest

FREE, S, C = Verdict.INNOCENT, Verdict.SUSPECT, Verdict.CULPRIT


def job(identity: int, *, restarts: int = 0, solo: bool = False, solo_crashes: int = 0, outside: int = 0) -> PendingJob:
    loop = asyncio.new_event_loop()
    future: asyncio.Future[wire.Finished] = loop.create_future()
    loop.close()
    return PendingJob(
        id=identity,
        modality="text",
        packed=wire.pack(TextRequest()),
        priority=0,
        deadline=None,
        previews=False,
        since=0.0,
        future=future,
        on_event=None,
        restarts=restarts,
        solo=solo,
        solo_crashes=solo_crashes,
        outside=outside,
    )


@pytest.mark.parametrize(
    ("jobs", "batch", "verdicts"),
    [
        pytest.param([job(1), job(2), job(3)], {1, 2}, [S, S, FREE], id="the crashed batch is suspected"),
        pytest.param([job(1), job(2)], None, [S, S], id="without a record everybody is suspected"),
        pytest.param([job(1), job(2)], set(), [FREE, FREE], id="killed between batches: nobody"),
        pytest.param([job(1, restarts=1), job(2)], set(), [S, FREE], id="present twice is suspicious"),
        pytest.param([job(1, solo=True), job(2)], {1}, [C, FREE], id="computed alone when it crashed"),
        pytest.param([job(1, solo=True), job(2)], {2}, [S, S], id="another batch crashed"),
        pytest.param([job(1, solo=True)], set(), [C], id="nobody else was there"),
        pytest.param([job(1, solo=True)], None, [C], id="nobody else was there, no record"),
        pytest.param([job(1, solo=True, solo_crashes=1), job(2)], {2}, [C, S], id="present twice as a suspect"),
        pytest.param([job(1, restarts=1, outside=1), job(2)], set(), [FREE, FREE], id="the first was from outside"),
        pytest.param([], {1}, [], id="nothing was under way"),
    ],
)
def test_verdicts(jobs: list[PendingJob], batch: set[int] | None, verdicts: list[Verdict]) -> None:
    assert list(judge(jobs, batch).values()) == verdicts


def test_an_engine_ended_from_outside_accuses_nobody_five_times() -> None:
    free, solo = job(1), job(2, solo=True)
    jobs = [free, solo]
    for _ in range(5):
        assert judge(jobs, {2}, from_outside=True) == {free: FREE, solo: S}
        for each in jobs:
            each.restarts += 1
    assert (free.outside, solo.outside, solo.solo_crashes) == (5, 5, 0)
    assert judge(jobs, {1, 2}, from_outside=True) == {free: S, solo: C}
