"""Rank statistics against their definitions."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfuse.evaluation.intervals import clopper_pearson_upper
from perfuse.evaluation.ranking import auroc, bootstrap, pearson, ranks, spearman


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=30))
def test_auroc_is_the_share_of_pairs_in_order(items: list[tuple[int, bool]]) -> None:
    yes, no = [s for s, p in items if p], [s for s, p in items if not p]
    found = auroc(np.array([s for s, _ in items], float), np.array([p for _, p in items], float))
    if not yes or not no:
        assert math.isnan(found)
    else:
        pairs = [(a > b) + (a == b) / 2 for a, b in product(yes, no)]
        assert found == pytest.approx(np.mean(pairs))


def test_equal_values_share_their_rank() -> None:
    assert ranks(np.array([3.0, 1.0, 3.0, 2.0])).tolist() == [3.5, 1.0, 3.5, 2.0]


def test_correlations() -> None:
    values = np.array([1.0, 2.0, 3.0, 4.0])
    assert pearson(values, 2 * values + 1) == pytest.approx(1.0)
    assert spearman(values, -np.exp(values)) == pytest.approx(-1.0)
    assert math.isnan(pearson(values, np.ones(4)))


def test_an_interval_covers_its_value_and_narrows_with_items() -> None:
    rng = np.random.default_rng(0)
    wide = []
    for n in (50, 800):
        positive = (rng.uniform(size=n) < 0.5).astype(float)
        value, low, high = bootstrap(auroc, list(rng.normal(size=n) + positive), list(positive), draws=200)
        assert low < value < high
        wide.append(high - low)
    assert wide[1] < wide[0] / 2


def test_what_is_defined_nowhere_has_no_interval() -> None:
    assert all(math.isnan(value) for value in bootstrap(auroc, [1.0, 2.0], [1.0, 1.0], draws=10))


def test_the_exact_bound_is_that_of_the_tables() -> None:
    assert clopper_pearson_upper(0, 100) == pytest.approx(1 - 0.05 ** (1 / 100))
    assert clopper_pearson_upper(100, 2000) == pytest.approx(0.0588, abs=5e-4)
    assert clopper_pearson_upper(80, 2000) == pytest.approx(0.048, abs=5e-4)
    assert (clopper_pearson_upper(3, 3), clopper_pearson_upper(0, 0)) == (1.0, 1.0)
