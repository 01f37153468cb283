"""Samplers of masked diffusion: which token each masked position gets, and the rules by which positions commit.

The rules themselves are the functions of `unmasking` and `remasking`. All see ONE row's masked positions only, in
order. Nothing here draws random numbers: uniforms come in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor

from perfuse.diffusion import remasking
from perfuse.diffusion.schedules import Kind, alpha_bar, unmask_probability
from perfuse.diffusion.unmasking import (
    ancestral,
    due,
    entropy_bounded,
    factored,
    hierarchical,
    most_confident,
    ranked,
    threshold,
)
from perfuse.errors import PluginFailed
from perfuse.shapes import Bool, Float, Float64, Int64


@dataclass(frozen=True, slots=True)
class Guess:
    """What the network says about the masked positions of one row.

    Attributes:
        tokens: the token each position would get.
        confidence: probability of that token (at the temperature asked for).
        entropy: of the position's distribution at temperature 1, in nats.
        margin: how much more probable the most likely token is than the next, at temperature 1; None: not asked for.
    """

    tokens: Int64[Tensor, " masked"]
    confidence: Float[Tensor, " masked"]
    entropy: Float[Tensor, " masked"]
    margin: Float[Tensor, " masked"] | None = None


Chooser = Callable[[Guess, int], Tensor]
"""A sampler of another package: of masked positions in order, with so many steps left, those that commit (bool)."""


def predict(
    logits: Float[Tensor, "masked vocabulary"],
    uniforms: Float64[Tensor, " masked"] | None,
    temperature: float,
    *,
    margins: bool = False,
) -> Guess:
    """Tokens by arg max (temperature 0) or by inverse CDF in float64 from one uniform per position.

    token = min {v : Σ_{w ≤ v} p_w > u}, p = softmax(logits / temperature). Float64, because single precision truncates
    the tails and thereby lowers the temperature unasked (arXiv 2409.02908). Entropy −Σ p log p at temperature 1 is
    log Z − Σ p z with z = logits − max. `margins` also fills in the margin, which costs about as much as the rest.

    Raises:
        ValueError: a temperature above 0 came without uniforms.
    """
    wide = logits.float()
    best, tokens = wide.max(dim=-1)
    shifted = (wide - best[:, None]).clamp_(min=-1e4)  # so that 0 · log 0 is 0, also behind −inf
    weights = shifted.exp()
    total = weights.sum(dim=-1)
    entropy = (total.log() - torch.linalg.vecdot(weights, shifted) / total).clamp_(min=0.0)
    margin = (1.0 - weights.topk(2, dim=-1).values[:, 1]) / total if margins else None
    if temperature <= 0.0:
        return Guess(tokens, 1.0 / total, entropy, margin)
    if uniforms is None:
        raise ValueError(f"temperature is {temperature}, expected uniforms to draw with; none came")
    scaled = shifted.double().div_(temperature)
    cumulative = scaled.exp().cumsum(dim=-1)
    all_weight = cumulative[:, -1]
    drawn = torch.searchsorted(cumulative, (uniforms * all_weight)[:, None], right=True)
    drawn = drawn.clamp_(max=logits.shape[-1] - 1)
    confidence = scaled.gather(1, drawn)[:, 0].exp() / all_weight
    return Guess(drawn[:, 0], confidence.float(), entropy, margin)


def chosen_by(chooser: Chooser, name: str, guess: Guess, left: int, at_least: int) -> Bool[Tensor, " masked"]:
    """What another package's function chooses, with the most confident positions besides if they are too few.

    Raises:
        PluginFailed: it raised, or gave anything but one bool per position.
    """
    try:
        chosen = chooser(guess, left)
    except Exception as error:  # somebody else's code: its fault ends this request alone
        raise PluginFailed(f"the sampler {name!r} failed: {type(error).__name__}: {error}") from error
    wanted = guess.confidence.shape
    if not isinstance(chosen, Tensor) or chosen.dtype != torch.bool or chosen.shape != wanted:
        got = f"{chosen.dtype} {list(chosen.shape)}" if isinstance(chosen, Tensor) else type(chosen).__name__
        raise PluginFailed(f"the sampler {name!r} gave {got}; expected torch.bool {list(wanted)}")
    return chosen if int(chosen.sum()) >= at_least else chosen | most_confident(guess.confidence, at_least)


def drafted(entropy: Float[Tensor, " masked"], bound: float) -> int:
    """How many of the first positions are worth verifying: as far as their summed entropy stays within `bound` nats."""
    return int((entropy.cumsum(0) <= bound).sum())


Rule = Literal[
    "verified",
    "entropy",
    "threshold",
    "factor",
    "hierarchy",
    "low_confidence",
    "margin",
    "low_entropy",
    "random",
    "ancestral",
    "remdm_cap",
    "remdm_rescale",
    "remdm_conf",
    "remdm_loop",
    "editing",
]
RULES: tuple[Rule, ...] = get_args(Rule)
RANKED = ("low_confidence", "margin", "low_entropy", "random")
"""Rules that commit a given number per step, the best by some score."""
REMASKING = ("remdm_cap", "remdm_rescale", "remdm_conf", "remdm_loop")
DRAWN = ("ancestral", *REMASKING)
"""Rules that commit each position with a given chance: a step may commit nothing, and there may be many steps."""
FIXED = (*RANKED, *DRAWN)
"""Rules that spend a given number of steps; the others go as fast as the model is certain."""
REVISING = (*REMASKING, "editing")
"""Rules that may change what they placed."""

_ORDER = ("schedule", "order_temperature", "stop_entropy")
OPTIONS: Mapping[str, tuple[str, ...]] = {
    "verified": ("bound",),
    "entropy": ("bound", "stop_entropy"),
    "threshold": ("level", "stop_entropy"),
    "factor": ("factor", "stop_entropy"),
    "hierarchy": ("level", "low_level", "stop_entropy"),
    "low_confidence": _ORDER,
    "margin": _ORDER,
    "low_entropy": _ORDER,
    "random": ("schedule", "stop_entropy"),
    "ancestral": ("schedule", "stop_entropy"),
    "remdm_cap": ("schedule", "eta"),
    "remdm_rescale": ("schedule", "eta"),
    "remdm_conf": ("schedule",),
    "remdm_loop": ("eta",),
    "editing": ("level", "edit_level"),
}
"""The constants each rule reads, by their names in `DiscreteSampler`."""

Draw = Callable[[str], Tensor]
"""Float64 uniforms of a purpose, one per position."""


@dataclass(frozen=True, slots=True)
class DiscreteSampler:
    """One way to sample as an object: the rule and its constants, over the functions of this module.

    Attributes:
        rule: which positions commit. "verified" needs the network's word on settled text: `pipelines.filling` has it.
        bound: nats per step of "entropy", per draft of "verified".
        level: probability of "threshold", "hierarchy" and "editing".
        temperature: 0 takes the most likely token.
        steps: of the rules in `FIXED`; None: one per position.
        mask: id of the mask.
        chooser: decides instead of the rule, which then is its name.
        factor: of "factor".
        low_level: probability below which "hierarchy" gives a run nothing.
        edit_level: probability with which "editing" replaces a placed token.
        eta: how readily ReMDM takes tokens back.
        schedule: by which the rules in `FIXED` spend their steps.
        order_temperature: of the order in which the rules in `RANKED` commit.
        stop_entropy: mean nats below which everything is committed once it is stable; None: never.
    """

    rule: Rule | str = "entropy"
    bound: float = 0.1
    level: float = 0.9
    temperature: float = 0.0
    steps: int | None = None
    mask: int = field(default=1, kw_only=True)
    chooser: Chooser | None = field(default=None, kw_only=True)
    factor: float = field(default=1.0, kw_only=True)
    low_level: float = field(default=0.0, kw_only=True)
    edit_level: float = field(default=0.9, kw_only=True)
    eta: float = field(default=0.1, kw_only=True)
    schedule: Kind = field(default="log-linear", kw_only=True)
    order_temperature: float = field(default=0.0, kw_only=True)
    stop_entropy: float | None = field(default=None, kw_only=True)

    def predict(self, logits: Float[Tensor, "masked vocabulary"], uniforms: Float64[Tensor, " masked"] | None) -> Guess:
        """What the network says, with all that the rule needs."""
        return predict(logits, uniforms, self.temperature, margins=self.rule == "margin")

    def choose(
        self,
        guess: Guess,
        left: int,
        *,
        of: int | None = None,
        at_least: int = 1,
        positions: Int64[Tensor, " masked"] | None = None,
        draw: Draw | None = None,
    ) -> Bool[Tensor, " masked"]:
        """Which of the masked positions commit now.

        Args:
            guess: of the masked positions.
            left: steps to go for a fixed schedule.
            of: its steps in all; None: `left`.
            at_least: so many commit, however unsure the network is; fixed schedules know for themselves.
            positions: where the masks stand; None: side by side.
            draw: noise at the masked positions.

        Raises:
            ValueError: the rule draws and no noise came, or the rule is "verified".
            PluginFailed: the `chooser` did.
        """
        if self.chooser is not None:
            return chosen_by(self.chooser, self.rule, guess, left, at_least)
        if self.rule in FIXED:
            return self._scheduled(guess, left, of or left, draw)
        if self.rule == "entropy":
            return entropy_bounded(guess.entropy, self.bound, at_least=at_least)
        if self.rule == "factor":
            return factored(guess.confidence, self.factor, at_least=at_least)
        if self.rule == "hierarchy":
            where = torch.arange(len(guess.tokens)) if positions is None else positions
            return hierarchical(guess.confidence, where, self.level, self.low_level, at_least=at_least)
        if self.rule == "verified":
            raise ValueError("the rule is verified, which commits what settled text says; nothing to choose here")
        return threshold(guess.confidence, self.level, at_least=at_least)

    def _scheduled(self, guess: Guess, left: int, of: int, draw: Draw | None) -> Bool[Tensor, " masked"]:
        if self.rule in REMASKING:
            alpha_t, alpha_s, most = self._alphas(left, of)
            sigma = 0.0 if self.rule == "remdm_conf" else self._sigma(left / of, most)
            unmask = remasking.reveal_probability(alpha_t, alpha_s, sigma)
            return ancestral(self._drawn("reveal", draw), unmask)
        unmask = self._unmask(left, of)
        if self.rule == "ancestral":
            return ancestral(self._drawn("reveal", draw), unmask)
        count = due(len(guess.tokens), unmask)
        if self.rule == "random":
            return most_confident(self._drawn("order", draw), count)
        score = guess.confidence
        if self.rule != "low_confidence":
            score = -guess.entropy if guess.margin is None else guess.margin
        order = self._drawn("order", draw) if self.order_temperature > 0 else None
        return ranked(score, count, self.order_temperature, order)

    def remask(self, certainty: Float64[Tensor, " placed"], left: int, of: int, draw: Draw) -> Bool[Tensor, " placed"]:
        """Which placed tokens ReMDM takes back in the step with `left` of `of` to go; none in the last.

        Args:
            certainty: probability with which each was placed.
            left: steps to go.
            of: steps in all.
            draw: noise at the placed positions.
        """
        _, _, most = self._alphas(left, of)
        uniforms = draw("remask")
        if self.rule == "remdm_conf":
            return uniforms < remasking.by_confidence(certainty, most)
        return uniforms < self._sigma(left / of, most)

    def _unmask(self, left: int, of: int) -> float:
        t, s = torch.tensor([left, left - 1], dtype=torch.float64) / of
        return float(unmask_probability(self.schedule, t, s))

    def _alphas(self, left: int, of: int) -> tuple[float, float, float]:
        """α at the two ends of the step, and the most that may be taken back in it."""
        if self.rule == "remdm_loop":
            alpha_t, alpha_s = remasking.looped_alpha(left / of), remasking.looped_alpha((left - 1) / of)
        else:
            times = torch.tensor([left, left - 1], dtype=torch.float64) / of
            alpha_t, alpha_s = alpha_bar(self.schedule, times).tolist()
        return alpha_t, alpha_s, remasking.most_remasked(alpha_t, alpha_s)

    def _sigma(self, t: float, most: float) -> float:
        if self.rule == "remdm_loop":
            return remasking.looped(t, most, self.eta)
        return remasking.rescaled(most, self.eta) if self.rule == "remdm_rescale" else remasking.capped(most, self.eta)

    def _drawn(self, purpose: str, draw: Draw | None) -> Float64[Tensor, " masked"]:
        if draw is None:
            raise ValueError(f"the rule is {self.rule}, expected uniforms to {purpose} by; none came")
        return draw(purpose)
