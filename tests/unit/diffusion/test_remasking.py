"""ReMDM's step keeps the marginals of masked diffusion, whatever it takes back."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from perfuse.diffusion.remasking import (
    by_confidence,
    capped,
    edited,
    looped,
    looped_alpha,
    most_remasked,
    rescaled,
    reveal_probability,
)

times = st.floats(0.01, 0.99)


@given(times, times, st.floats(0.0, 1.0))
def test_the_share_of_placed_tokens_is_that_of_the_schedule_whatever_is_taken_back(
    a: float, b: float, eta: float
) -> None:
    alpha_t, alpha_s = min(1 - a, 1 - b), max(1 - a, 1 - b)
    most = most_remasked(alpha_t, alpha_s)
    for sigma in (0.0, capped(most, eta), rescaled(most, eta), most):
        reveal = reveal_probability(alpha_t, alpha_s, sigma)
        assert -1e-9 <= reveal <= 1 + 1e-9
        assert (1 - sigma) * alpha_t + reveal * (1 - alpha_t) == pytest.approx(alpha_s)


def test_where_nothing_is_placed_anything_may_be_taken_back() -> None:
    assert most_remasked(0.0, 0.3) == 1.0
    assert most_remasked(0.9, 0.95) == pytest.approx(0.05 / 0.9)
    assert reveal_probability(0.0, 0.3, 1.0) == pytest.approx(0.3)


def test_what_was_placed_with_less_confidence_is_taken_back_more_often() -> None:
    sigma = by_confidence(torch.tensor([0.9, 0.1], dtype=torch.float64), 0.5)
    assert float(sigma.sum()) == pytest.approx(0.5)
    assert float(sigma[1] / sigma[0]) == pytest.approx(float(torch.tensor(0.8).exp()))


def test_the_loop_rises_waits_and_finishes() -> None:
    shares = [looped_alpha(t) for t in (1.0, 0.775, 0.55, 0.3, 0.05, 0.025, 0.0)]
    assert shares == pytest.approx([0.0, 0.45, 0.9, 0.9, 0.9, 0.95, 1.0])
    taken = [looped(t, 1 / 9, 0.05) for t in (0.8, 0.55, 0.3, 0.05)]
    assert taken == pytest.approx([0.0, 0.05, 0.05, 0.0])


def test_a_token_is_edited_where_another_is_surely_meant() -> None:
    told, placed = torch.tensor([4, 5, 6]), torch.tensor([4, 7, 7])
    assert edited(told, torch.tensor([0.99, 0.95, 0.6]), placed, 0.9).tolist() == [False, True, False]
