"""Which masked positions commit in a step, from what the network says about them.

All functions see ONE row's masked positions only, in order. Nothing here draws random numbers: uniforms come in.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from perfuse.diffusion.noise import gumbel
from perfuse.shapes import Bool, Float, Float64, Int64


def entropy_bounded(entropy: Float[Tensor, " masked"], bound: float, *, at_least: int = 1) -> Bool[Tensor, " masked"]:
    """The most certain positions whose summed entropy, the last one apart, stays within `bound` nats.

    Their joint entropy exceeds what was accounted for by at most the last one's, so the error of committing them
    together is bounded: KL(joint ‖ product) ≤ Σ H − max H ≤ bound. Source: entropy-bounded unmasking, arXiv 2505.24857.
    """
    sorted_entropy, order = entropy.sort(stable=True)
    spent_before = sorted_entropy.cumsum(0) - sorted_entropy
    return _first(order, max(at_least, int((spent_before <= bound).sum())))


def threshold(
    confidence: Float[Tensor, " masked"], level: float = 0.9, *, at_least: int = 1
) -> Bool[Tensor, " masked"]:
    """Every position whose token has at least probability `level`. Source: Fast-dLLM, arXiv 2505.22618."""
    commit = confidence >= level
    return commit if int(commit.sum()) >= at_least else most_confident(confidence, at_least)


def factored(
    confidence: Float[Tensor, " masked"], factor: float = 1.0, *, at_least: int = 1
) -> Bool[Tensor, " masked"]:
    """The n most probable positions, n the largest with (n + 1)(1 − p₍ₙ₎) < factor, p₍ₙ₎ the n-th largest probability.

    With factor 1 every commit of n greedy tokens is the one that greedy decoding one by one makes, if the network's
    conditionals are those of one joint (Fast-dLLM, arXiv 2505.22618, theorem 1 and its factor-based variant).
    """
    sorted_confidence, order = confidence.sort(descending=True, stable=True)
    counts = torch.arange(2, len(confidence) + 2, device=confidence.device)
    within = (counts * (1.0 - sorted_confidence.double()) < factor).nonzero()
    return _first(order, max(at_least, int(within[-1]) + 1 if len(within) > 0 else 0))


def hierarchical(
    confidence: Float[Tensor, " masked"],
    positions: Int64[Tensor, " masked"],
    level: float = 0.9,
    low_level: float = 0.0,
    *,
    at_least: int = 1,
) -> Bool[Tensor, " masked"]:
    """Every position of probability `level` or more, and of each run of adjacent masks the best one above `low_level`.

    Each run is cut in two, so n masks take about log₂ n steps where nothing is sure. Source: hierarchical decoding of
    dInfer, arXiv 2510.08666.

    Args:
        confidence: probability of the token at each position.
        positions: where they stand, ascending; a gap ends a run.
        level: probability that is sure.
        low_level: probability below which a run gets nothing.
        at_least: this number is made up with the most confident.
    """
    run = torch.cat((positions[:1] * 0, (positions[1:] != positions[:-1] + 1).long())).cumsum(0)
    best = torch.full((len(positions),), -1.0, dtype=confidence.dtype, device=confidence.device)
    best = best.scatter_reduce(0, run, confidence, "amax")[run]
    first = _first_of_each(run, confidence == best)
    commit = (confidence >= level) | (first & (confidence > low_level))
    return commit if int(commit.sum()) >= at_least else commit | most_confident(confidence, at_least)


def ranked(
    score: Float[Tensor, " masked"],
    count: int,
    temperature: float = 0.0,
    uniforms: Float64[Tensor, " masked"] | None = None,
) -> Bool[Tensor, " masked"]:
    """The `count` positions of highest score; with a temperature drawn without replacement.

    The top of score / temperature + Gumbel noise are draws from softmax(score / temperature) (arXiv 1903.06059). The
    scores and the temperature are Dream's (arXiv 2508.15487, `alg_temp`): the token's probability ("maskgit_plus"), the
    margin, or minus the entropy.

    Raises:
        ValueError: a temperature above 0 came without uniforms.
    """
    if temperature <= 0.0:
        return most_confident(score, count)
    if uniforms is None:
        raise ValueError(f"the temperature of the order is {temperature}, expected uniforms to draw with; none came")
    return most_confident(score.double() / temperature + gumbel(uniforms), count)


def due(masked: int, unmask: float) -> int:
    """How many of `masked` positions a schedule commits in a step that unmasks each with probability `unmask`.

    What stays is rounded down, so that the last step leaves nothing; at least 1.
    """
    return max(1, masked - math.floor(masked * (1.0 - unmask) + 1e-9))


def most_confident(confidence: Float[Tensor, " masked"], count: int) -> Bool[Tensor, " masked"]:
    """The `count` positions of highest probability, earlier first among equals. Source: LLaDA, arXiv 2502.09992."""
    return _first(confidence.sort(descending=True, stable=True).indices, count)


def ancestral(uniforms: Float64[Tensor, " masked"], unmask: float) -> Bool[Tensor, " masked"]:
    """Positions revealed in a step: each with probability `unmask` of `schedules.unmask_probability`, independently.

    The reverse step of masked diffusion; tokens are drawn from the predicted x0. May commit nothing: the next forward
    would then be the same one, and its logits are kept instead. Source: MDLM, arXiv 2406.07524.
    """
    return uniforms < unmask


def stable(
    best: Int64[Tensor, " masked"],
    before: Int64[Tensor, " masked"],
    entropy: Float[Tensor, " masked"],
    bound: float,
) -> bool:
    """Whether all the rest may be committed: the most likely tokens are those of the step before, and sure.

    Sure means a mean entropy below `bound` nats. Source: the stop of DiffusionGemma's sampler (0.005 nats there).
    """
    return torch.equal(best, before) and float(entropy.mean()) < bound


def _first_of_each(run: Int64[Tensor, " masked"], candidate: Bool[Tensor, " masked"]) -> Bool[Tensor, " masked"]:
    """Of each run the first candidate."""
    place = torch.arange(len(run), device=run.device)
    earliest = torch.full_like(run, len(run)).scatter_reduce(0, run, place.masked_fill(~candidate, len(run)), "amin")
    return candidate & (earliest[run] == place)


def _first(order: Int64[Tensor, " masked"], count: int) -> Bool[Tensor, " masked"]:
    commit = torch.zeros(order.shape[0], dtype=torch.bool, device=order.device)
    commit[order[:count]] = True
    return commit
