"""Intervals of rates, means and paired differences against values worked out by hand."""

from __future__ import annotations

import pytest

from perfuse.evaluation.intervals import Mean, mean_of, paired, wilson


def test_wilson_of_half_of_a_hundred() -> None:
    assert wilson(50, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)


def test_wilson_stays_inside_and_knows_nothing_without_trials() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)


def test_a_mean_lies_between_two_errors() -> None:
    found = mean_of([1.0, 2.0, 3.0, 6.0])  # s = √(14 / 3), s / √4 = 1.0801
    assert found == Mean(3.0, pytest.approx(0.8830, abs=1e-4), pytest.approx(5.1170, abs=1e-4))
    with pytest.raises(ValueError, match="^expected at least two observations; got 1$"):
        mean_of([1.0])


def test_a_paired_difference_counts_only_where_the_two_differ() -> None:
    ours, theirs = [True] * 6 + [False] * 4, [True] * 3 + [False] * 6 + [True]
    assert paired(ours, theirs) == {"difference": 0.2, "low": -0.1719, "high": 0.5719, "won": 3, "lost": 1}
    assert paired(ours, ours) == {"difference": 0.0, "low": 0.0, "high": 0.0, "won": 0, "lost": 0}
    with pytest.raises(ValueError, match="^expected the same items on both sides; got 1 and 2$"):
        paired([True], [True, False])
