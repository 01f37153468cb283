"""The cost model learns a line, a row cap and a way of splitting."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfuse.engine.cost import FIRST_GUESS_SECONDS, CostModel
from perfuse.engine.scheduler import BatchKey

KEY = BatchKey("net@1", 64)


def taught(seconds: Callable[[int], float], rows: list[int], rounds: int = 30) -> CostModel:
    cost = CostModel()
    for _ in range(rounds):
        for n in rows:
            cost.observe(KEY, n, seconds(n))
    return cost


def test_a_key_never_seen_costs_the_first_guess() -> None:
    cost = CostModel()
    assert cost.seconds_per_row(KEY) == FIRST_GUESS_SECONDS
    assert cost.line(KEY) == (FIRST_GUESS_SECONDS / 2, FIRST_GUESS_SECONDS / 2)


@given(a=st.floats(1e-4, 1e-2), b=st.floats(1e-5, 1e-2))
def test_the_line_is_recovered_from_exact_measurements(a: float, b: float) -> None:
    cost = taught(lambda n: a + b * n, [1, 2, 5, 9, 16])
    assert cost.line(KEY) == pytest.approx((a, b), rel=1e-3, abs=1e-7)


def test_the_cap_grows_while_a_row_becomes_cheaper() -> None:
    cost = taught(lambda n: 0.004 + 0.0005 * n, [1, 2, 4, 8, 16])
    assert cost.row_cap(KEY) == 64


def test_the_cap_stays_small_where_rows_are_computed_one_after_the_other() -> None:
    cost = taught(lambda n: 0.0004 + 0.002 * n, [1, 2, 4, 8, 16])
    assert cost.row_cap(KEY) == 2


def test_a_batch_stays_shorter_than_a_tenth_of_a_second() -> None:
    cost = taught(lambda n: 0.04 + 0.004 * n, [1, 2, 4, 8])
    assert cost.row_cap(KEY) == 8
    assert 0.04 + 0.004 * 16 > 0.1


def test_one_row_count_alone_does_not_stop_the_cap_from_growing() -> None:
    assert taught(lambda n: 0.003 * n, [1]).row_cap(KEY) > 1


def test_a_measured_row_count_that_was_slow_is_forgotten_after_a_while() -> None:
    cost = taught(lambda n: 0.004 + 0.0005 * n, [1, 8])
    cost.observe(KEY, 2, 0.5)
    assert cost.row_cap(KEY) == 1
    for _ in range(201):
        cost.observe(KEY, 1, 0.0045)
        cost.observe(KEY, 8, 0.008)
    assert cost.row_cap(KEY) > 1


def test_blocks_are_tried_both_ways_and_the_faster_one_wins() -> None:
    cost = CostModel(threads=2)
    seen = []
    for _ in range(10):
        blocks = cost.blocks(KEY, 8)
        seen.append(blocks)
        cost.observe_split(KEY, 8, blocks, 0.010 if blocks == 1 else 0.006)
    assert seen[:6] == [2, 2, 2, 1, 1, 1]
    assert set(seen[6:]) == {2}
    assert cost.blocks(KEY, 1) == 1
    assert CostModel(threads=1).blocks(KEY, 8) == 1


def test_usage_is_learned_per_kind() -> None:
    cost = CostModel()
    assert cost.usage("text/entropy") == 1.0
    cost.observe_usage("text/entropy", 0.1)
    assert cost.usage("text/entropy") == 0.1
    cost.observe_usage("text/entropy", 0.2)
    assert cost.usage("text/entropy") == pytest.approx(0.15)
    for _ in range(200):
        cost.observe_usage("text/entropy", 0.4)
    assert cost.usage("text/entropy") == pytest.approx(0.4)
    assert cost.usage("plan") == 1.0


def test_the_snapshot_gives_line_and_cap_of_every_key() -> None:
    cost = taught(lambda n: 0.004 + 0.0005 * n, [1, 2, 4, 8, 16])
    assert cost.snapshot() == {KEY: (pytest.approx(0.004), pytest.approx(0.0005), 64)}
