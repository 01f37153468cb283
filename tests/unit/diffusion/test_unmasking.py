"""Which positions commit, against brute force over the definitions."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from perfuse.diffusion.unmasking import (
    ancestral,
    due,
    entropy_bounded,
    factored,
    hierarchical,
    most_confident,
    ranked,
    stable,
    threshold,
)

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


def test_ancestral_reveals_each_position_with_the_chance_of_the_step() -> None:
    uniforms = torch.rand(200_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert float(ancestral(uniforms, 0.25).double().mean()) == pytest.approx(0.25, abs=0.005)
    assert ancestral(uniforms, 1.0).all()


@given(probabilities, st.floats(0.1, 4.0), st.integers(1, 3))
def test_factored_takes_the_largest_number_that_the_factor_allows(
    values: list[float], factor: float, at_least: int
) -> None:
    best = sorted(torch.tensor(values).tolist(), reverse=True)
    allowed = [n for n in range(1, len(best) + 1) if (n + 1) * (1.0 - best[n - 1]) < factor]
    count = min(max([at_least, *allowed]), len(best))
    commit = factored(torch.tensor(values), factor, at_least=at_least)
    assert int(commit.sum()) == count
    assert sorted(torch.tensor(values)[commit].tolist(), reverse=True) == best[:count]


def test_what_factored_commits_at_once_is_what_one_by_one_commits() -> None:
    """Theorem 1 of Fast-dLLM on a joint: where n + 1 times the largest doubt is below 1, the modes agree."""
    joint = torch.tensor([[0.70, 0.05], [0.05, 0.20]])  # the marginals say 0 with 0.75, the joint (0, 0)
    confidence = torch.tensor([float(joint.sum(1).max()), float(joint.sum(0).max())])
    assert factored(confidence).tolist() == [True, True]
    assert int(joint.flatten().argmax()) == 0
    doubtful = torch.tensor([0.6, 0.6])  # 3 (1 - 0.6) > 1: one of them only
    assert factored(doubtful).tolist() == [True, False]


def test_hierarchical_takes_one_of_each_run_and_what_is_sure() -> None:
    confidence = torch.tensor([0.2, 0.5, 0.95, 0.92, 0.3, 0.4])
    positions = torch.tensor([0, 1, 2, 3, 7, 8])
    assert hierarchical(confidence, positions, 0.9).tolist() == [False, False, True, True, False, True]
    assert hierarchical(confidence, positions, 0.99, 0.6).tolist() == [False, False, True, False, False, False]
    assert hierarchical(torch.full((3,), 0.5), torch.arange(3), 0.9).tolist() == [True, False, False]
    assert hierarchical(torch.full((3,), 0.5), torch.arange(3), 0.9, 0.8).tolist() == [True, False, False]
    assert int(hierarchical(confidence, positions, 0.99, at_least=5).sum()) == 5
    assert hierarchical(torch.zeros(0), torch.zeros(0, dtype=torch.long)).tolist() == []


@given(st.integers(1, 64))
def test_hierarchical_needs_about_the_logarithm_of_steps_where_the_middle_is_surest(masks: int) -> None:
    positions, steps = torch.arange(masks), 0
    while len(positions) > 0:
        runs = positions - torch.arange(len(positions))
        centre = torch.stack([positions[runs == run].double().mean() for run in runs])
        commit = hierarchical(1.0 / (2.0 + (positions - centre).abs()), positions, 1.0)
        positions, steps = positions[~commit], steps + 1
    assert steps <= math.floor(math.log2(masks)) + 1


def test_an_order_is_drawn_without_replacement_by_its_temperature() -> None:
    """The chance of each pair of 4 scores, against softmax draws one after the other."""
    scores, temperature, draws = torch.tensor([0.9, 0.5, 0.2, 0.7]), 0.3, 4_000
    weights = (scores.double() / temperature).exp().tolist()
    expected = dict.fromkeys(itertools.combinations(range(4), 2), 0.0)
    for first, second in itertools.permutations(range(4), 2):
        left = sum(weights) - weights[first]
        expected[min(first, second), max(first, second)] += weights[first] / sum(weights) * weights[second] / left
    uniforms = torch.rand(draws, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    counts = dict.fromkeys(expected, 0)
    for row in uniforms:
        counts[tuple(ranked(scores, 2, temperature, row).nonzero()[:, 0].tolist())] += 1
    for pair, share in expected.items():
        assert counts[pair] / draws == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / draws))
    assert ranked(scores, 2).tolist() == [True, False, False, True]
    with pytest.raises(
        ValueError, match=r"^the temperature of the order is 0.3, expected uniforms to draw with; none came$"
    ):
        ranked(scores, 2, temperature)


@given(st.integers(1, 40), st.integers(1, 40))
def test_an_even_schedule_commits_the_rest_divided_by_the_steps_to_go_rounded_up(masked: int, steps: int) -> None:
    rest = masked
    for left in range(steps, 0, -1):
        if rest > 0:
            assert due(rest, 1.0 / left) == -(-rest // left)
            rest -= due(rest, 1.0 / left)
    assert rest == 0


def test_a_text_is_stable_when_its_guesses_stay_and_are_sure() -> None:
    best, entropy = torch.tensor([4, 5]), torch.tensor([0.001, 0.003])
    assert stable(best, torch.tensor([4, 5]), entropy, 0.005)
    assert not stable(best, torch.tensor([4, 5]), entropy, 0.002)
    assert not stable(best, torch.tensor([4, -1]), entropy, 0.005)
