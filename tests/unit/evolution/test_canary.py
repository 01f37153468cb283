"""The canary's e-value keeps its error at any stopping time, and a regression is rolled back within 50 rows."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfuse.evolution.canary import Rules, Verdict, e_value, verdict
from perfuse.evolution.gate import Pairs


def live(champion: float, candidate: float, rng: Random, *, rows: int, proven: bool = True) -> tuple[Verdict, int]:
    """Rows with these independent pass rates until the canary ends: its verdict and the row of it."""
    gained = lost = 0
    for row in range(1, rows + 1):
        before, after = rng.random() < champion, rng.random() < candidate
        gained, lost = gained + (after and not before), lost + (before and not after)
        if (said := verdict(Pairs(row, gained, lost), proven=proven, rules=Rules(rows=rows + 1))) != "wait":
            return said, row
    return "wait", rows


def test_e_values_of_short_sequences() -> None:
    assert e_value(0, 0) == pytest.approx(1)
    assert e_value(1, 0) == pytest.approx(1.5)  # ∫ 2·2θ over [1/2, 1]
    assert e_value(0, 1) == pytest.approx(0.5)
    assert e_value(7, 0) == pytest.approx(2**8 / 8 * (1 - 2**-8))


@given(st.integers(0, 200), st.integers(0, 200))
def test_a_fair_pair_is_a_fair_bet(wins: int, losses: int) -> None:
    mean = (e_value(wins + 1, losses) + e_value(wins, losses + 1)) / 2
    assert mean == pytest.approx(e_value(wins, losses), rel=1e-9)


def test_long_sequences_do_not_overflow() -> None:
    assert e_value(3000, 0) > 1e300


def test_a_candidate_that_is_no_worse_is_rolled_back_in_at_most_one_run_of_twenty() -> None:
    rng = Random(11)
    ended = [live(0.5, 0.5, rng, rows=300)[0] for _ in range(300)]
    assert ended.count("roll_back") / len(ended) <= 0.05


def test_an_unproven_candidate_that_is_no_better_is_promoted_in_at_most_one_run_of_twenty() -> None:
    rng = Random(12)
    ended = [live(0.5, 0.5, rng, rows=300, proven=False)[0] for _ in range(300)]
    assert ended.count("promote") / len(ended) <= 0.05


@pytest.mark.parametrize(("champion", "candidate"), [(0.9, 0.0), (0.6, 0.0), (0.9, 0.4), (0.6, 0.05)])
def test_an_injected_regression_is_rolled_back_within_fifty_rows(champion: float, candidate: float) -> None:
    rng = Random(13)
    rows = sorted(live(champion, candidate, rng, rows=50) for _ in range(300))
    caught = [row for said, row in rows if said == "roll_back"]
    assert len(caught) >= 0.99 * len(rows)


def test_a_candidate_with_a_shown_gain_is_promoted_after_fifty_rows_unless_it_is_behind() -> None:
    assert verdict(Pairs(49, 5, 0), proven=True) == "wait"
    assert verdict(Pairs(50, 5, 0), proven=True) == "promote"
    assert verdict(Pairs(50, 0, 0), proven=True) == "promote"
    assert verdict(Pairs(50, 1, 2), proven=True) == "wait"
    assert verdict(Pairs(50, 0, 7), proven=True) == "roll_back"


def test_an_unproven_candidate_needs_evidence_and_is_given_up_in_the_end() -> None:
    assert verdict(Pairs(1000, 6, 0), proven=False) == "wait"
    assert verdict(Pairs(1000, 7, 0), proven=False) == "promote"
    assert verdict(Pairs(2000, 3, 3), proven=False) == "give_up"
