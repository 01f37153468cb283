"""How a masked span fills: what each step shows the network, and what it takes from the answer.

Settled text sees what is before it, the masked window behind it all of that and itself (`diffusion.blocks`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from perfuse.diffusion.samplers import FIXED, DiscreteSampler, Guess, drafted, predict
from perfuse.models.tokenizer import MARKS, MASK, NULL

Uniform = Callable[[str, int, Tensor], Tensor]
"""Noise by purpose, step and positions."""
_NEVER = [mark for mark in range(len(MARKS)) if mark != NULL]
"""Marks that no span may hold."""


@dataclass(slots=True)
class Fill:
    """One output while it is filled.

    Attributes:
        index: which output of its request.
        tokens: the span; `MASK` where nothing is settled.
        certainty: probability of each settled token.
        draft: tokens behind the settled text that the next forward verifies.
        block: of a fixed schedule, entered at step `entered`.
    """

    index: int
    tokens: Tensor
    certainty: Tensor
    draft: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))
    block: int = -1
    entered: int = 0
    steps: int = 0
    forwards: int = 0

    @classmethod
    def empty(cls, index: int, length: int) -> Fill:
        """A span of masks."""
        return cls(index, torch.full((length,), MASK), torch.zeros(length, dtype=torch.float64))

    @property
    def masked(self) -> Tensor:
        """Where nothing is settled."""
        return self.tokens == MASK

    def shown(self, end: int | None = None) -> Tensor:
        """The span up to `end` as the next row shows it: settled text, draft, masks."""
        span = self.tokens[:end].clone()
        if len(self.draft) > 0:
            start = int(self.masked.nonzero()[0])
            span[start : start + len(self.draft)] = self.draft
        return span

    def settle(self, positions: Tensor, guess: Guess) -> None:
        """Keeps tokens; a text ends with its first null, so whatever is open behind that is null too."""
        self.tokens[positions] = guess.tokens
        self.certainty[positions] = guess.confidence.double()
        nulls = (self.tokens == NULL).nonzero()
        if len(nulls) > 0:
            self.tokens[self.masked & (torch.arange(len(self.tokens)) > nulls[0])] = NULL


@dataclass(frozen=True, slots=True)
class View:
    """What of a span one step works on: the window `start:end`, of which at least so many tokens are to be settled."""

    start: int
    end: int
    at_least: int
    left: int


def view(fill: Fill, sampler: DiscreteSampler, window: int, step: int, most: int) -> View:
    """The window behind settled text and draft; for a fixed schedule the block it is in, with its share of the steps.

    A budget of fewer steps than positions is kept by settling the same number in each step.
    """
    length, masked = len(fill.tokens), fill.masked.nonzero()[:, 0]
    start, left = int(masked[0]), most - step
    if sampler.rule == "verified":
        start += len(fill.draft)
        return View(start, min(start + window, length), 1, left)
    if sampler.rule not in FIXED:
        at_least = 1 if most == length else -(-len(masked) // left)
        end = max(start + window, int(masked[at_least - 1]) + 1)
        return View(start, min(end, length), at_least, left)
    size = max(window, -(-length // most))
    if fill.block != start // size:
        fill.block, fill.entered = start // size, step
    share = most // -(-length // size)
    end = min((fill.block + 1) * size, length)
    return View(start, end, 1, max(1, min(left, share - (step - fill.entered))))


def inputs(head: Tensor, fill: Fill, seen: View) -> dict[str, Tensor]:
    """Ids and order of one row: the given text, the span up to the window's end."""
    order = torch.cat((torch.zeros_like(head), torch.arange(1, seen.end + 1).clamp(max=seen.start + 1)))
    return {"tokens": torch.cat((head, fill.shown(seen.end))), "order": order}


def take(fill: Fill, sampler: DiscreteSampler, logits: Tensor, seen: View, step: int, uniform: Uniform) -> None:
    """Settles what the sampler chooses.

    Args:
        fill: changed in place.
        sampler: the rule.
        logits: `[1 + end, V]`, from the last given token on.
        seen: what the row showed.
        step: number of the step.
        uniform: noise.
    """
    if sampler.rule == "verified":
        _verify(fill, sampler, logits, seen, uniform)
        return
    positions = fill.masked[: seen.end].nonzero()[:, 0]
    guess = _predict(logits[positions + 1], positions, sampler, step, fill, uniform)
    reveal = uniform(f"reveal/{fill.index}", step, positions) if sampler.rule == "ancestral" else None
    chosen = sampler.choose(guess, seen.left, at_least=min(seen.at_least, len(positions)), reveal=reveal)
    if seen.left == 1:
        chosen = torch.ones_like(chosen)
    fill.settle(positions[chosen], Guess(guess.tokens[chosen], guess.confidence[chosen], guess.entropy[chosen]))


def _verify(fill: Fill, sampler: DiscreteSampler, logits: Tensor, seen: View, uniform: Uniform) -> None:
    """Keeps the draft as far as the settled text itself continues so, and one token more; drafts from the window.

    What comes out is what next-token sampling with the same noise gives, whatever was drafted: each position has one
    uniform. Source: TiDAR, arXiv 2511.08923; coupling by the uniform instead of rejection.
    """
    start = seen.start - len(fill.draft)
    told = torch.arange(start, min(seen.start + 1, len(fill.tokens)))
    target = _predict(logits[told], told, sampler, 0, fill, uniform)
    kept = int((target.tokens[: len(fill.draft)] == fill.draft).long().cumprod(0).sum())
    whole = kept == len(fill.draft)
    fill.draft = fill.draft[:0]
    kept = min(kept + 1, len(told))
    fill.settle(told[:kept], Guess(target.tokens[:kept], target.confidence[:kept], target.entropy[:kept]))
    if whole and bool(fill.masked.any()) and seen.end > seen.start + 1:
        window = torch.arange(seen.start, seen.end)
        guess = _predict(logits[window + 1], window, sampler, 0, fill, uniform)
        if guess.tokens[0] == target.tokens[-1]:
            fill.draft = guess.tokens[1 : 1 + drafted(guess.entropy[1:], sampler.bound)]


def _predict(
    logits: Tensor, positions: Tensor, sampler: DiscreteSampler, step: int, fill: Fill, uniform: Uniform
) -> Guess:
    noise = uniform(f"token/{fill.index}", step, positions) if sampler.temperature > 0 else None
    allowed = logits.cpu().float()
    allowed[:, _NEVER] = -1e9  # finite: entropy multiplies it by a probability of 0
    return predict(allowed, noise, sampler.temperature)
