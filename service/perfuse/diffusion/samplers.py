"""Samplers of masked diffusion: which token each masked position gets, and which positions commit in this step.

All functions see ONE row's masked positions only, in order. Nothing here draws random numbers: uniforms come in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from perfuse.shapes import Bool, Float, Float64, Int64


@dataclass(frozen=True, slots=True)
class Guess:
    """What the network says about the masked positions of one row.

    Attributes:
        tokens: the token each position would get.
        confidence: probability of that token (at the temperature asked for).
        entropy: of the position's distribution at temperature 1, in nats.
    """

    tokens: Int64[Tensor, " masked"]
    confidence: Float[Tensor, " masked"]
    entropy: Float[Tensor, " masked"]


def predict(
    logits: Float[Tensor, "masked vocabulary"], uniforms: Float64[Tensor, " masked"] | None, temperature: float
) -> Guess:
    """Tokens by arg max (temperature 0) or by inverse CDF in float64 from one uniform per position.

    token = min {v : Σ_{w ≤ v} p_w > u}, p = softmax(logits / temperature). Float64, because single precision truncates
    the tails and thereby lowers the temperature unasked (arXiv 2409.02908). Entropy −Σ p log p at temperature 1 is
    log Z − Σ p z with z = logits − max.

    Raises:
        ValueError: a temperature above 0 came without uniforms.
    """
    wide = logits.float()
    best, tokens = wide.max(dim=-1)
    shifted = (wide - best[:, None]).clamp_(min=-1e4)  # so that 0 · log 0 is 0, also behind −inf
    weights = shifted.exp()
    total = weights.sum(dim=-1)
    entropy = (total.log() - torch.linalg.vecdot(weights, shifted) / total).clamp_(min=0.0)
    if temperature <= 0.0:
        return Guess(tokens, 1.0 / total, entropy)
    if uniforms is None:
        raise ValueError(f"temperature is {temperature}, expected uniforms to draw with; none came")
    scaled = shifted.double().div_(temperature)
    cumulative = scaled.exp().cumsum(dim=-1)
    all_weight = cumulative[:, -1]
    drawn = torch.searchsorted(cumulative, (uniforms * all_weight)[:, None], right=True)
    drawn = drawn.clamp_(max=logits.shape[-1] - 1)
    confidence = scaled.gather(1, drawn)[:, 0].exp() / all_weight
    return Guess(drawn[:, 0], confidence.float(), entropy)


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


def most_confident(confidence: Float[Tensor, " masked"], count: int) -> Bool[Tensor, " masked"]:
    """The `count` positions of highest probability, earlier first among equals. Source: LLaDA, arXiv 2502.09992."""
    return _first(confidence.sort(descending=True, stable=True).indices, count)


def ancestral(uniforms: Float64[Tensor, " masked"], t: float, s: float) -> Bool[Tensor, " masked"]:
    """Positions revealed between times t and s < t: each with probability (t − s) / t, independently.

    The reverse step of log-linear masked diffusion, where a token is masked at time t with probability t; tokens are
    drawn from the predicted x0. Source: MDLM, arXiv 2406.07524. May commit nothing; s = 0 commits all.
    """
    return uniforms < (t - s) / t


def drafted(entropy: Float[Tensor, " masked"], bound: float) -> int:
    """How many of the first positions are worth verifying: as far as their summed entropy stays within `bound` nats."""
    return int((entropy.cumsum(0) <= bound).sum())


def _first(order: Int64[Tensor, " masked"], count: int) -> Bool[Tensor, " masked"]:
    commit = torch.zeros(order.shape[0], dtype=torch.bool, device=order.device)
    commit[order[:count]] = True
    return commit


Rule = Literal["verified", "entropy", "threshold", "low_confidence", "ancestral"]
FIXED = ("low_confidence", "ancestral")
"""Rules that spend a given number of steps; the others go as fast as the model is certain."""


@dataclass(frozen=True, slots=True)
class DiscreteSampler:
    """One way to sample as an object: the rule and its constants, over the functions of this module.

    Attributes:
        rule: which positions commit. "verified" needs the network's word on settled text: `pipelines.filling` has it.
        bound: nats per step of "entropy", per draft of "verified".
        level: probability of "threshold".
        temperature: 0 takes the most likely token.
        steps: of the fixed schedules "low_confidence" and "ancestral"; None: one per position.
        mask: id of the mask.
    """

    rule: Rule = "entropy"
    bound: float = 0.1
    level: float = 0.9
    temperature: float = 0.0
    steps: int | None = None
    mask: int = field(default=1, kw_only=True)

    def choose(
        self, guess: Guess, left: int, *, at_least: int = 1, reveal: Float64[Tensor, " masked"] | None = None
    ) -> Bool[Tensor, " masked"]:
        """Which of the masked positions commit now, with `left` steps to go for a fixed schedule.

        Raises:
            ValueError: "ancestral" came without the uniforms `reveal`, or the rule is "verified".
        """
        if self.rule == "entropy":
            return entropy_bounded(guess.entropy, self.bound, at_least=at_least)
        if self.rule == "threshold":
            return threshold(guess.confidence, self.level, at_least=at_least)
        if self.rule == "low_confidence":
            return most_confident(guess.confidence, -(-len(guess.tokens) // left))
        if self.rule == "verified":
            raise ValueError("the rule is verified, which commits what settled text says; nothing to choose here")
        if reveal is None:
            raise ValueError("the rule is ancestral, expected uniforms to reveal by; none came")
        return ancestral(reveal, t=float(left), s=left - 1.0)

    def step(
        self,
        logits: Float[Tensor, "length vocabulary"],
        tokens: Int64[Tensor, " length"],
        step: int,
        uniform: Callable[[str, int, Tensor], Tensor],
    ) -> Int64[Tensor, " length"]:
        """Tokens after this step; only masked ones change. `uniform(purpose, step, positions)` supplies the noise."""
        positions = (tokens == self.mask).nonzero()[:, 0]
        uniforms = uniform("token", step, positions) if self.temperature > 0 else None
        guess = predict(logits[positions], uniforms, self.temperature)
        left = max(1, (self.steps or len(positions) + step) - step)
        reveal = uniform("reveal", step, positions) if self.rule == "ancestral" else None
        commit = self.choose(guess, left, reveal=reveal)
        after = tokens.clone()
        after[positions[commit]] = guess.tokens[commit]
        return after
