"""Thresholds keep their promise on exchangeable items, and follow a drift."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfuse.adaptation.conformal import next_level, p_value, quantile, threshold
from perfuse.errors import InvalidRequest

VALUES = st.lists(st.integers(0, 30), min_size=1, max_size=60)


def test_a_quantile_counts_what_lies_below() -> None:
    scores = np.array([1.0, 2.0, 2.0, 5.0])
    assert [quantile(scores, value) for value in (0.0, 1.0, 2.0, 3.0, 9.0)] == [0.0, 0.0, 0.2, 0.6, 0.8]


def test_the_threshold_is_the_conformal_order_statistic() -> None:
    scores = np.arange(1.0, 25.0)
    assert threshold(scores, 0.04) == 24.0
    assert threshold(scores[:23], 0.04) == np.inf
    assert threshold(scores, 0.5) == 13.0


@given(VALUES, st.integers(0, 31), st.sampled_from([0.04, 0.1, 0.25, 0.5]))
def test_a_p_value_is_at_most_the_level_exactly_beyond_the_threshold(
    values: list[int], value: int, level: float
) -> None:
    scores = np.sort(np.array(values, dtype=np.float64))
    assert (p_value(scores, value) <= level + 1e-9) == (value > threshold(scores, level))


def test_false_triggers_keep_to_the_level_over_many_calibrations() -> None:
    rng = np.random.default_rng(0)
    found = [float(rng.exponential()) > threshold(np.sort(rng.exponential(size=99)), 0.04) for _ in range(20_000)]
    assert 0.034 < np.mean(found) < 0.046


@pytest.mark.parametrize("level", [0.0, 1.0, -0.5])
def test_a_level_that_is_no_share_is_refused(level: float) -> None:
    with pytest.raises(InvalidRequest) as caught:
        threshold(np.arange(9.0), level)
    assert caught.value.detail == f"level is {level}; expected a number between 0 and 1"


def test_the_level_follows_outcomes_so_that_errors_keep_to_the_target_under_drift() -> None:
    rng = np.random.default_rng(1)
    scores = np.sort(rng.normal(size=999))
    level, erred = 0.05, []
    for step in range(4000):
        drifted = rng.normal() + step / 1000
        erred.append(level >= 1 or (level > 0 and drifted > threshold(scores, level)))
        level = next_level(level, 0.05, erred=erred[-1], rate=0.02)
    assert abs(np.mean(erred) - 0.05) <= (1.0 + 0.02) / (0.02 * len(erred))
    fixed = np.mean([rng.normal() + step / 1000 > threshold(scores, 0.05) for step in range(4000)])
    assert fixed > 0.3


def test_one_step_of_the_level() -> None:
    assert next_level(0.04, 0.04, erred=True, rate=0.1) == pytest.approx(0.04 - 0.096)
    assert next_level(0.04, 0.04, erred=False, rate=0.1) == pytest.approx(0.044)
