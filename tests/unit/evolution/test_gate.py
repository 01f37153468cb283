"""The gate: exact tests and bounds against published and closed forms, and every way a candidate is refused."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfuse.errors import InvalidRequest
from perfuse.evolution.gate import (
    Measured,
    Pairs,
    Thresholds,
    at_least_heads,
    clopper_pearson_lower,
    clopper_pearson_upper,
    decide,
    drop_upper_bound,
    mcnemar,
)

SAFE = Measured(Pairs(200, 40, 8), {"corpus": Pairs(1000, 1, 0)}, nll_bits=0.01, latency_ratio=1.02, memory_ratio=1.05)


def rate_at_least(k: int, n: int, p: float) -> float:
    return sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k, n + 1))


def test_mcnemar_is_the_upper_tail_of_a_fair_coin() -> None:
    assert mcnemar(Pairs(200, 15, 5)) == 21700 / 2**20  # Σ C(20, k) for k = 15..20
    assert mcnemar(Pairs(200, 0, 0)) == 1.0
    assert mcnemar(Pairs(10, 5, 0)) == 2**-5


@given(st.integers(0, 60), st.integers(0, 60))
def test_the_two_tails_of_mcnemar_share_the_middle(gained: int, lost: int) -> None:
    pairs, swapped = Pairs(200, gained, lost), Pairs(200, lost, gained)
    middle = math.comb(gained + lost, gained) / 2 ** (gained + lost)
    assert mcnemar(pairs) + mcnemar(swapped) == pytest.approx(1 + middle)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    # the two-sided 95 % intervals that tables print, 10 of 100 and 4 of 20 among them
    [(10, 100, 0.0490, 0.1762), (4, 20, 0.0573, 0.4366), (0, 10, 0.0, 0.3085), (10, 10, 0.6915, 1.0)],
)
def test_clopper_pearson_gives_the_tabulated_intervals(successes: int, trials: int, low: float, high: float) -> None:
    assert clopper_pearson_lower(successes, trials, 0.975) == pytest.approx(low, abs=5e-5)
    assert clopper_pearson_upper(successes, trials, 0.975) == pytest.approx(high, abs=5e-5)


def test_without_a_success_the_bound_has_a_closed_form() -> None:
    assert clopper_pearson_upper(0, 1000, 0.95) == pytest.approx(1 - 0.05 ** (1 / 1000))
    assert (clopper_pearson_upper(0, 0, 0.95), clopper_pearson_lower(0, 0, 0.95)) == (1.0, 0.0)


@given(st.integers(1, 60), st.data())
def test_clopper_pearson_leaves_exactly_the_error_it_names(trials: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, trials - 1))
    bound = clopper_pearson_upper(successes, trials, 0.9)
    assert 1 - rate_at_least(successes + 1, trials, bound) == pytest.approx(0.1)


@pytest.mark.parametrize(("lost", "gained", "points"), [(0, 0, 0.368), (1, 0, 0.556), (3, 0, 0.874), (4, 0, 1.021)])
def test_the_anchor_bound_of_a_thousand_pairs(lost: int, gained: int, points: float) -> None:
    assert 100 * drop_upper_bound(Pairs(1000, gained, lost), 0.95) == pytest.approx(points, abs=5e-4)


@given(st.integers(0, 20), st.integers(0, 20))
def test_the_anchor_bound_lies_above_what_was_seen(gained: int, lost: int) -> None:
    pairs = Pairs(1000, gained, lost)
    assert drop_upper_bound(pairs, 0.95) > -pairs.change


def test_pairs_come_from_outcomes_task_by_task() -> None:
    pairs = Pairs.of([True, False, False, True, True], [True, True, False, False, False])
    assert (pairs, pairs.change) == (Pairs(5, 1, 2), -0.2)
    assert Pairs.of([], []).change == 0.0
    with pytest.raises(InvalidRequest) as refused:
        Pairs.of([True], [])
    assert refused.value.detail == "expected as many outcomes after as before; got 0 and 1"
    with pytest.raises(InvalidRequest) as refused:
        Pairs(3, 2, 2)
    assert refused.value.detail == "expected 0 ≤ gained + lost ≤ n; got 2 + 2 of 3"


def test_a_gain_without_harm_is_promoted_with_its_figures() -> None:
    decision = decide(SAFE)
    assert (decision.outcome, decision.reasons) == ("promote", ())
    assert decision.p_value == at_least_heads(40, 48)
    assert decision.anchor_bounds == {"corpus": drop_upper_bound(Pairs(1000, 1, 0), 0.95)}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"gain": Pairs(200, 20, 15)},
            "no gain is shown: 20 won and 15 lost of 200 pairs, p = 0.250; below 0.05 is needed",
        ),
        (
            {"anchors": {"words": Pairs(1000, 3, 13)}},
            "anchors 'words' fell by 1.00 points; below 1 is allowed",
        ),
        ({"nll_bits": 0.08}, "masked NLL rose by 0.080 bits per token; less than 0.08 is allowed"),
        ({"nll_bits": math.nan}, "masked NLL rose by nan bits per token; less than 0.08 is allowed"),
        ({"latency_ratio": 1.6}, "a forward takes 1.60 times as long; at most 1.5 is allowed"),
        ({"memory_ratio": math.inf}, "memory is inf times the present; at most 1.2 is allowed"),
    ],
)
def test_a_shown_harm_rejects_with_its_reason(change: dict[str, object], reason: str) -> None:
    decision = decide(replace(SAFE, **change))  # type: ignore[arg-type]
    assert (decision.outcome, decision.reasons) == ("reject", (reason,))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"gain": Pairs(199, 60, 0)}, "199 pairs; at least 200 are needed to show a gain"),
        ({"anchors": {}}, "no anchors were measured"),
        (
            {"anchors": {"words": Pairs(1000, 0, 5)}},
            "anchors 'words': a drop of up to 1.16 points is open with 1000 pairs",
        ),
        (
            {"anchors": {"words": Pairs(50, 0, 2)}},
            "anchors 'words': a drop of up to 13.71 points is open with 50 pairs",
        ),
    ],
)
def test_what_is_neither_shown_nor_ruled_out_waits(change: dict[str, object], reason: str) -> None:
    decision = decide(replace(SAFE, **change))  # type: ignore[arg-type]
    assert (decision.outcome, decision.reasons) == ("unproven", (reason,))


def test_all_reasons_are_named_and_a_harm_outweighs_a_doubt() -> None:
    decision = decide(replace(SAFE, gain=Pairs(10, 5, 0), nll_bits=1.0, latency_ratio=2.0))
    assert decision.outcome == "reject"
    assert len(decision.reasons) == 2


def test_one_bad_domain_is_not_hidden_by_a_good_mean() -> None:
    anchors = {"numbers": Pairs(5000, 100, 0), "words": Pairs(500, 0, 8)}
    assert decide(replace(SAFE, anchors=anchors)).outcome == "reject"


def test_the_documented_power_and_number_of_anchors_hold() -> None:
    critical = next(k for k in range(41) if at_least_heads(k, 40) < 0.05)
    assert critical == 26
    assert rate_at_least(critical, 40, 0.75) > 0.93
    fewest = next(n for n in range(300, 500) if drop_upper_bound(Pairs(n, 0, 0), 0.95) < 0.01)
    assert Thresholds().anchors == fewest
