"""Samplers that take back what they placed: ReMDM's remasking and LLaDA2.1's editing.

ReMDM (arXiv 2503.00307) replaces the reverse step of masked diffusion by one with the same marginals that masks a
placed token again with probability σ. With α the chance that a token is not masked, from time t to s < t:

    placed token:  masked with probability σ, else kept
    masked token:  revealed with probability (α_s − (1 − σ) α_t) / (1 − α_t)

σ may be anything up to σ_max = min(1, (1 − α_s) / α_t); σ = 0 is MDLM. The variants choose σ.
"""

from __future__ import annotations

import torch
from torch import Tensor

from perfuse.shapes import Bool, Float, Float64, Int64

LOOP_ON, LOOP_OFF, LOOP_ALPHA = 0.55, 0.05, 0.9
"""Times between which "loop" stays, and the share of tokens placed there; arXiv 2503.00307, appendix on ReMDM-loop."""


def most_remasked(alpha_t: float, alpha_s: float) -> float:
    """σ_max = min(1, (1 − α_s) / α_t), the most that keeps the marginals; 1 where nothing is placed yet."""
    return 1.0 if alpha_t <= 0.0 else min(1.0, (1.0 - alpha_s) / alpha_t)


def capped(most: float, eta: float) -> float:
    """σ = min(η, σ_max) of ReMDM-cap."""
    return min(eta, most)


def rescaled(most: float, eta: float) -> float:
    """σ = η σ_max of ReMDM-rescale."""
    return eta * most


def by_confidence(certainty: Float64[Tensor, " placed"], most: float) -> Float64[Tensor, " placed"]:
    """σ_i = σ_max softmax(−ψ)_i of ReMDM-conf: what was placed with less probability ψ_i is taken back more often.

    Masked positions have σ = 0, so they are revealed as in MDLM.
    """
    return most * torch.softmax(-certainty, dim=0)


def looped_alpha(t: float) -> float:
    """Share placed at time t of ReMDM-loop: up to 0.9 by t = 0.55, waiting there until t = 0.05, then the rest.

    α = 0.9 (1 − t) / (1 − 0.55) above 0.55, 0.9 between, 1 − t (1 − 0.9) / 0.05 below 0.05.
    """
    if t > LOOP_ON:
        return (1.0 - t) * LOOP_ALPHA / (1.0 - LOOP_ON)
    return LOOP_ALPHA if t > LOOP_OFF else 1.0 - t * (1.0 - LOOP_ALPHA) / LOOP_OFF


def looped(t: float, most: float, eta: float) -> float:
    """σ of ReMDM-loop: min(η, σ_max) while it waits, else 0."""
    return capped(most, eta) if LOOP_OFF < t <= LOOP_ON else 0.0


def reveal_probability(alpha_t: float, alpha_s: float, sigma: float) -> float:
    """Chance that a masked token is revealed: (α_s − (1 − σ) α_t) / (1 − α_t)."""
    return (alpha_s - (1.0 - sigma) * alpha_t) / (1.0 - alpha_t)


def edited(
    told: Int64[Tensor, " placed"],
    probability: Float[Tensor, " placed"],
    placed: Int64[Tensor, " placed"],
    level: float,
) -> Bool[Tensor, " placed"]:
    """Placed tokens to be replaced: where the network says another one with more probability than `level`.

    Args:
        told: the most likely token at each place.
        probability: of that token.
        placed: the token that stands there.
        level: 0.5 or more, or two tokens could replace each other for ever.

    Source: token editing of LLaDA2.1 (its `editing_threshold`, 0.9 there).
    """
    return (told != placed) & (probability > level)
