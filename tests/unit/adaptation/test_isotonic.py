"""The fitted chances fall, are the averages of their blocks, and are calibrated on what they were fitted to."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfuse.adaptation.isotonic import Falling, calibration_error, fit_falling
from perfuse.errors import InvalidRequest

ITEMS = st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=1, max_size=40)


def test_violators_are_pooled_into_their_average() -> None:
    fitted = fit_falling([0, 1, 2, 3, 4], [1, 0, 1, 0, 0], prior=0.0)
    assert fitted.edges.tolist() == [0.0, 1.0, 3.0]
    assert fitted.values.tolist() == [1.0, 0.5, 0.0]
    assert [fitted.at(score) for score in (-1.0, 0.5, 1.0, 2.9, 3.0, 99.0)] == [1.0, 1.0, 0.5, 0.5, 0.0, 0.0]


@given(ITEMS)
def test_no_other_falling_function_is_nearer_in_squares(items: list[tuple[int, bool]]) -> None:
    scores, right = np.array([s for s, _ in items], float), np.array([r for _, r in items], float)
    fitted = fit_falling(scores, right, prior=0.0)
    told = np.array([fitted.at(score) for score in scores])
    assert (np.diff(fitted.values) < 0).all()
    # The solution of isotonic regression: min over starts of max over ends of the averages between (Barlow, 1972).
    edges = np.unique(scores)
    for score, value in zip(scores, told, strict=True):
        best = min(
            max(right[(scores >= low) & (scores <= high)].mean() for high in edges[edges >= score])
            for low in edges[edges <= score]
        )
        assert value == pytest.approx(best)


@given(ITEMS)
def test_the_prior_keeps_chances_falling_and_off_the_extremes(items: list[tuple[int, bool]]) -> None:
    right = [r for _, r in items]
    fitted = fit_falling([s for s, _ in items], right)
    assert (np.diff(fitted.values) <= 0).all()
    assert (fitted.values > 0).all() == any(right)
    assert (fitted.values < 1).all() == (not all(right))


def test_an_item_of_weight_two_counts_as_two() -> None:
    weighed = fit_falling([0, 1, 2], [1, 1, 0], [1, 2, 3])
    counted = fit_falling([0, 1, 1, 2, 2, 2], [1, 1, 1, 0, 0, 0])
    assert weighed.edges.tolist() == counted.edges.tolist()
    assert weighed.values.tolist() == counted.values.tolist()


def test_what_was_fitted_is_calibrated() -> None:
    rng = np.random.default_rng(0)
    scores = rng.uniform(size=4000)
    right = rng.uniform(size=4000) < 1 - scores**2
    fitted = fit_falling(scores, right, prior=0.0)
    told = [fitted.at(score) for score in scores]
    assert calibration_error(told, right) < 1e-9
    assert calibration_error(1 - scores, right) > 0.1


def test_the_calibration_error_by_hand() -> None:
    assert calibration_error([0.9, 0.9, 0.1, 1.0], [1, 0, 0, 1], bins=2) == pytest.approx((0.8 + 0.1) / 4)


@pytest.mark.parametrize(("scores", "right", "shapes"), [([], [], "(0,) and (0,)"), ([1.0], [1, 0], "(2,) and (1,)")])
def test_items_without_outcomes_are_refused(scores: list[float], right: list[int], shapes: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        fit_falling(scores, right)
    assert caught.value.detail == f"expected one outcome per score, of at least 1; got {shapes}"


@given(ITEMS)
def test_a_fit_is_told_as_json_and_read_back(items: list[tuple[int, bool]]) -> None:
    fitted = fit_falling([score for score, _ in items], [right for _, right in items])
    back = Falling.of_json(json.loads(json.dumps(fitted.as_json())))
    assert (back.edges.tolist(), back.values.tolist()) == (fitted.edges.tolist(), fitted.values.tolist())
