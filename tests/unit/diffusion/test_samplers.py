"""Samplers against brute force over their definitions."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from perfuse.diffusion.core import DiffusionCore
from perfuse.diffusion.guidance import guided
from perfuse.diffusion.samplers import (
    DiscreteSampler,
    ancestral,
    entropy_bounded,
    most_confident,
    predict,
    threshold,
)

MASK = 1
entropies = st.lists(st.floats(0.0, 3.0, width=32), min_size=1, max_size=12)
probabilities = st.lists(st.floats(0.0, 1.0, width=32), min_size=1, max_size=12)


@given(entropies, st.floats(0.0, 2.0), st.integers(1, 3))
def test_entropy_bounded_commits_the_most_certain_within_the_bound(
    values: list[float], bound: float, at_least: int
) -> None:
    commit = entropy_bounded(torch.tensor(values), bound, at_least=at_least)
    chosen = sorted(v for v, c in zip(values, commit, strict=True) if c)
    assert len(chosen) >= min(at_least, len(values))
    assert chosen == sorted(values)[: len(chosen)]
    if len(chosen) > at_least:
        assert sum(chosen[:-1]) <= bound + 1e-4


def test_entropy_bounded_commits_every_certain_position_at_once() -> None:
    assert entropy_bounded(torch.zeros(64), 0.1).all()


def test_threshold_commits_exactly_what_is_sure() -> None:
    assert threshold(torch.tensor([0.95, 0.2, 0.9, 0.89])).tolist() == [True, False, True, False]


def test_threshold_commits_the_best_when_nothing_is_sure() -> None:
    assert threshold(torch.tensor([0.3, 0.5, 0.4]), at_least=2).tolist() == [False, True, True]


@given(probabilities, st.integers(1, 12))
def test_most_confident_is_the_top_k(values: list[float], count: int) -> None:
    commit = most_confident(torch.tensor(values), count)
    assert int(commit.sum()) == min(count, len(values))
    left = [v for v, c in zip(values, commit, strict=True) if not c]
    taken = [v for v, c in zip(values, commit, strict=True) if c]
    assert not left or min(taken) >= max(left)


def test_ancestral_reveals_the_share_of_the_reverse_step() -> None:
    uniforms = torch.rand(200_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert float(ancestral(uniforms, t=0.8, s=0.6).double().mean()) == pytest.approx(0.25, abs=0.005)
    assert ancestral(uniforms, t=0.3, s=0.0).all()


def test_temperature_zero_takes_the_most_likely_token() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0], [2.0, 0.0, -1.0]])
    guess = predict(logits, None, 0.0)
    assert guess.tokens.tolist() == [1, 0]
    assert guess.confidence.tolist() == pytest.approx(logits.softmax(-1).amax(-1).tolist())
    expected = torch.distributions.Categorical(logits=logits).entropy()
    assert torch.allclose(guess.entropy, expected, atol=1e-6)


def test_inverse_cdf_draws_the_tempered_distribution() -> None:
    row = torch.tensor([0.0, 1.0, 2.0, -1.0])
    grid = (torch.arange(50_000, dtype=torch.float64) + 0.5) / 50_000
    guess = predict(row.expand(50_000, 4), grid, 0.7)
    share = torch.bincount(guess.tokens, minlength=4).double() / 50_000
    wanted = (row.double() / 0.7).softmax(-1)
    assert torch.allclose(share, wanted, atol=1e-4)
    assert torch.allclose(guess.confidence.double(), wanted[guess.tokens], atol=1e-6)


@pytest.mark.parametrize("uniform", [0.0, 1.0 - 2.0**-53])
def test_the_ends_of_the_uniforms_give_tokens_of_the_vocabulary(uniform: float) -> None:
    guess = predict(torch.tensor([[-1e4, 0.0, -1e4]]), torch.tensor([uniform], dtype=torch.float64), 1.0)
    assert guess.tokens.tolist() == [1]


def test_a_temperature_without_uniforms_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^temperature is 0.5, expected uniforms to draw with; none came$"):
        predict(torch.zeros(1, 3), None, 0.5)


def test_the_ancestral_rule_needs_uniforms() -> None:
    guess = predict(torch.zeros(2, 3), None, 0.0)
    with pytest.raises(ValueError, match=r"^the rule is ancestral, expected uniforms to reveal by; none came$"):
        DiscreteSampler("ancestral").choose(guess, 2)


@given(st.floats(0.0, 4.0))
def test_guidance_at_scale_one_is_the_conditional_model(scale: float) -> None:
    conditional, unconditional = torch.tensor([1.0, 2.0]), torch.tensor([0.5, -1.0])
    assert torch.allclose(guided(conditional, unconditional, 1.0), conditional)
    expected = (1 - scale) * unconditional + scale * conditional
    assert torch.allclose(guided(conditional, unconditional, scale), expected, atol=1e-5)


@pytest.mark.parametrize(
    "sampler",
    [
        DiscreteSampler("entropy"),
        DiscreteSampler("threshold"),
        DiscreteSampler("low_confidence", steps=3),
        DiscreteSampler("low_confidence"),
        DiscreteSampler("ancestral", steps=4, temperature=1.0),
    ],
    ids=lambda s: f"{s.rule}-{s.steps}",
)
def test_the_loop_fills_every_mask_and_nothing_else(sampler: DiscreteSampler) -> None:
    generator = torch.Generator().manual_seed(3)
    table = torch.randn(40, 9, generator=generator)
    table[:, MASK] = -torch.inf
    core = DiffusionCore(lambda rows: [table[: len(row)] for row in rows], sampler)
    given_rows = [torch.tensor([5, MASK, MASK, 7, MASK, 2]), torch.tensor([MASK] * 9), torch.tensor([4, 4])]
    done = core.generate(given_rows, seed=11)
    for before, after in zip(given_rows, done, strict=True):
        assert not (after.tokens == MASK).any()
        assert torch.equal(after.tokens[before != MASK], before[before != MASK])
    assert done[2].forwards == 0
    if sampler.rule == "low_confidence":
        assert [d.forwards for d in done[:2]] == [3, 3 if sampler.steps else 9]
    again = core.generate(given_rows, seed=11)
    assert all(torch.equal(a.tokens, b.tokens) for a, b in itertools.zip_longest(done, again))
