"""The scheduler gives the most urgent call and those that may ride along."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from hypothesis import given
from hypothesis import strategies as st

from perfuse.engine.scheduler import AGEING, Batch, BatchKey, PendingCall, Scheduler, rank
from perfuse.models.call import Call
from scripted import ScriptedNetwork

NETWORK = ScriptedNetwork()


class Caps:
    def __init__(self, cap: int = 16) -> None:
        self.cap = cap

    def row_cap(self, key: BatchKey) -> int:
        return self.cap

    def batch_seconds(self, key: BatchKey, rows: int) -> float:
        return float(1 + rows)


def pending(job: int, urgency: float, shape: int = 8, index: int = 0) -> PendingCall:
    return PendingCall(Call(NETWORK, {"tokens": torch.zeros(shape)}), BatchKey("n@1", shape), job, index, urgency)


def jobs(batch: Batch | None) -> Sequence[int]:
    assert batch is not None
    return [call.job for call in batch.calls]


def test_nothing_ready_gives_no_batch() -> None:
    assert Scheduler(Caps()).next() is None


def test_the_most_urgent_call_leads_and_equal_keys_ride_along_in_order() -> None:
    scheduler = Scheduler(Caps())
    for job, urgency, shape in [(1, 3.0, 8), (2, 1.0, 8), (3, 0.5, 16), (4, 2.0, 8), (5, 9.0, 16)]:
        scheduler.add(pending(job, urgency, shape))
    assert len(scheduler) == 5
    assert jobs(scheduler.next()) == [3, 5]
    assert jobs(scheduler.next()) == [2, 4, 1]
    assert scheduler.next() is None
    assert len(scheduler) == 0


def test_a_batch_takes_no_more_than_the_cap() -> None:
    scheduler = Scheduler(Caps(2))
    for job in range(5):
        scheduler.add(pending(job, float(job)))
    assert [jobs(scheduler.next()) for _ in range(3)] == [[0, 1], [2, 3], [4]]


def sized(job: int, urgency: float, size: float) -> PendingCall:
    return replace(pending(job, urgency), size=size)


def test_much_larger_requests_do_not_slow_a_small_one_down_unless_the_backlog_is_long() -> None:
    scheduler = Scheduler(Caps())
    calls = [sized(1, 0.0, 1.0), sized(2, 0.1, 9.0), sized(3, 0.2, 1.9), sized(4, 0.3, 9.0)]
    for call in calls:
        scheduler.add(call)
    assert jobs(scheduler.next()) == [1, 3]
    assert jobs(scheduler.next()) == [2, 4]
    for call in calls:
        scheduler.add(call)
    assert jobs(scheduler.next(backlog=8.0)) == [1, 2, 3, 4]


def test_small_requests_ride_with_a_large_one() -> None:
    scheduler = Scheduler(Caps())
    for call in (sized(1, 0.0, 9.0), sized(2, 0.1, 1.0)):
        scheduler.add(call)
    assert jobs(scheduler.next()) == [1, 2]


def test_a_dropped_request_is_never_computed() -> None:
    scheduler = Scheduler(Caps())
    for job in range(4):
        scheduler.add(pending(job, float(job)))
        scheduler.add(pending(job, float(job), shape=16, index=1))
    scheduler.drop(1)
    scheduler.drop(77)
    assert len(scheduler) == 6
    assert jobs(scheduler.next()) == [0, 2, 3]
    assert jobs(scheduler.next()) == [0, 2, 3]
    assert scheduler.next() is None


def test_calls_of_equal_rank_leave_in_the_order_they_came() -> None:
    scheduler = Scheduler(Caps())
    for job in (5, 3, 8):
        scheduler.add(pending(job, 1.0))
    assert jobs(scheduler.next()) == [5, 3, 8]


def test_short_work_goes_first_but_waiting_outweighs_it() -> None:
    assert rank(admitted=10, remaining=0.1) < rank(admitted=10, remaining=2.0)
    waited = 2.0 / AGEING + 1
    assert rank(admitted=10 + waited, remaining=0.1) > rank(admitted=10, remaining=2.0)


def test_priority_is_worth_a_second_of_work_a_level() -> None:
    assert rank(admitted=0, remaining=1.5, priority=1) < rank(admitted=0, remaining=0.6)
    assert rank(admitted=0, remaining=0.1, priority=-100) > rank(admitted=60, remaining=60)


def test_a_deadline_makes_urgent_at_its_latest_start() -> None:
    late = rank(admitted=0, remaining=3.0, deadline=8.0)
    assert late == AGEING * 5.0
    assert late < rank(admitted=5.1, remaining=0.0)
    assert rank(admitted=0, remaining=3.0, deadline=1000.0) == rank(admitted=0, remaining=3.0)


@given(
    st.lists(st.tuples(st.integers(0, 6), st.floats(0, 10), st.sampled_from([8, 16, 32])), min_size=1, max_size=40),
    st.integers(1, 8),
    st.sets(st.integers(0, 6)),
)
def test_every_call_leaves_exactly_once_unless_dropped(
    calls: list[tuple[int, float, int]], cap: int, dropped: set[int]
) -> None:
    scheduler = Scheduler(Caps(cap))
    for index, (job, urgency, shape) in enumerate(calls):
        scheduler.add(pending(job, urgency, shape, index))
    for job in dropped:
        scheduler.drop(job)
    left = []
    while (batch := scheduler.next()) is not None:
        assert 1 <= len(batch.calls) <= cap
        assert {call.key for call in batch.calls} == {batch.key}
        ranks = [call.rank for call in batch.calls]
        assert ranks == sorted(ranks)
        left += [call.index for call in batch.calls]
    assert sorted(left) == [i for i, (job, _, _) in enumerate(calls) if job not in dropped]
    assert len(scheduler) == 0
