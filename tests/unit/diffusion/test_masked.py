"""The masked process and its loss."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from perfuse.diffusion.masked import causal_loss, mask_exactly, masked_loss, stratified_counts


def test_counts_are_uniform_on_one_to_length_and_cover_the_batch() -> None:
    counts = stratified_counts(torch.full((100,), 100), torch.Generator().manual_seed(0))
    assert sorted(counts.tolist()) == list(range(1, 101))
    short = stratified_counts(torch.tensor([1] * 50), torch.Generator().manual_seed(0))
    assert short.tolist() == [1] * 50


def test_exactly_so_many_maskable_tokens_are_masked() -> None:
    tokens = torch.arange(60).view(3, 20) + 10
    maskable = torch.zeros(3, 20, dtype=torch.bool)
    maskable[:, 5:15] = True
    noised_tokens, noised = mask_exactly(
        tokens, maskable, torch.tensor([1, 4, 10]), 1, torch.Generator().manual_seed(0)
    )
    assert noised.sum(dim=1).tolist() == [1, 4, 10]
    assert not (noised & ~maskable).any()
    assert torch.equal(noised_tokens[~noised], tokens[~noised])
    assert (noised_tokens[noised] == 1).all()


def test_each_row_weighs_the_mean_over_its_masked_tokens() -> None:
    tokens = torch.tensor([[0, 1, 2], [2, 2, 0]])
    noised = torch.tensor([[True, False, False], [True, True, False]])
    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    each = functional.cross_entropy(logits, torch.tensor([0, 2, 2]), reduction="none")
    expected = (each[0] + (each[1] + each[2]) / 2) / 2
    assert float(masked_loss(logits, tokens, noised)) == pytest.approx(float(expected))


def test_the_estimator_is_exact_for_a_model_that_ignores_its_input() -> None:
    """A model with fixed marginals has −log p(x) = Σ −log p_i: every mask pattern must give its mean in expectation."""
    generator = torch.Generator().manual_seed(0)
    rows, length = 4096, 6
    tokens = torch.tensor([[0, 1, 2, 3, 1, 0]]).expand(rows, length)
    table = torch.randn(length, 4, generator=generator)
    truth = functional.cross_entropy(table, tokens[0])
    counts = stratified_counts(torch.full((rows,), length), generator)
    _, noised = mask_exactly(tokens, torch.ones(rows, length, dtype=torch.bool), counts, 9, generator)
    logits = table.expand(rows, length, 4)[noised]
    assert float(masked_loss(logits, tokens, noised)) == pytest.approx(float(truth), abs=0.02)


def test_causal_loss_is_the_mean_cross_entropy() -> None:
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)).bfloat16()
    targets = torch.tensor([0, 1, 2, 3, 6])
    assert float(causal_loss(logits, targets)) == pytest.approx(
        float(functional.cross_entropy(logits.float(), targets))
    )
