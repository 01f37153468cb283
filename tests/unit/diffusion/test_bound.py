"""Estimates of the bound bracket the true −log p of a text whose joint is known."""

from __future__ import annotations

import math

import pytest
import torch

from perfuse.diffusion.masked import mask_exactly, masked_loss, stratified_counts
from perfuse.diffusion.schedules import Kind, NoiseScheduler, importance_times, stratified_times
from unit.diffusion.test_few_step_distribution import LENGTH, MASK, joint, oracle_row

TEXTS = [(2, 0, 3), (0, 0, 0), (3, 2, 2)]
BATCHES, ROWS = 20, 100
SIGMAS = 4.0
"""Standard errors on each side; with fixed seeds."""


def brackets(batches: list[float], truth: float) -> bool:
    """Whether the truth lies within the interval of the mean of independent estimates."""
    found = torch.tensor(batches, dtype=torch.float64)
    return abs(float(found.mean()) - truth) <= SIGMAS * float(found.std()) / math.sqrt(len(batches))


@pytest.mark.parametrize("text", TEXTS)
def test_counting_masks_estimates_the_likelihood(text: tuple[int, ...]) -> None:
    """With the table's own conditionals the bound is tight, so its mean is the likelihood itself."""
    generator, estimates = torch.Generator().manual_seed(1), []
    tokens = torch.tensor(text).expand(ROWS, LENGTH)
    for _ in range(BATCHES):
        counts = stratified_counts(torch.full((ROWS,), LENGTH), generator)
        noised, where = mask_exactly(tokens, torch.ones_like(tokens, dtype=torch.bool), counts, MASK, generator)
        logits = torch.stack([oracle_row(tuple(row.tolist())) for row in noised])
        estimates.append(LENGTH * float(masked_loss(logits[where], tokens, where)))
    assert brackets(estimates, -math.log(joint()[text]))


@pytest.mark.parametrize("kind", ["cosine", "linear", "log-linear"])
def test_every_schedule_estimates_the_same_likelihood(kind: Kind) -> None:
    """∫ weight(t) E[Σ −log p of the masked] dt, with stratified times; the bound does not depend on the schedule."""
    schedule, text = NoiseScheduler(kind, "masked"), TEXTS[0]
    generator = torch.Generator().manual_seed(2)
    estimates = []
    for _ in range(BATCHES):
        t = stratified_times(ROWS, generator, least=1e-6)
        estimates.append(float((schedule.bound_weight(t) * losses(schedule, text, t, generator)).mean()))
    assert brackets(estimates, -math.log(joint()[text]))


def losses(
    schedule: NoiseScheduler, text: tuple[int, ...], t: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """Summed −log p of the masked tokens of one noised copy per time."""
    tokens = torch.tensor(text).expand(len(t), LENGTH)
    noised = schedule.add_masks(tokens, torch.rand(tokens.shape, generator=generator), t, MASK)
    told = torch.stack([oracle_row(tuple(row.tolist())).log_softmax(-1) for row in noised])
    each = -told.gather(2, tokens[:, :, None])[:, :, 0]
    return torch.where(noised == MASK, each, 0.0).sum(dim=1)


def test_times_drawn_by_their_loss_estimate_it_with_less_variance() -> None:
    schedule, text, parts = NoiseScheduler("linear", "masked"), TEXTS[0], 16
    generator = torch.Generator().manual_seed(3)
    middle = (torch.arange(parts) + 0.5) / parts
    squares = torch.stack(
        [(schedule.bound_weight(t) * losses(schedule, text, t.expand(100), generator)).square().mean() for t in middle]
    )
    plain, drawn = [], []
    for _ in range(BATCHES):
        even = stratified_times(ROWS, generator, least=1e-6)
        plain.append(float((schedule.bound_weight(even) * losses(schedule, text, even, generator)).mean()))
        t, weight = importance_times(squares.clamp(min=1e-3), ROWS, generator)
        drawn.append(float((weight * schedule.bound_weight(t) * losses(schedule, text, t, generator)).mean()))
    assert brackets(drawn, -math.log(joint()[text]))
    assert torch.tensor(drawn).var() < 0.7 * torch.tensor(plain).var()
