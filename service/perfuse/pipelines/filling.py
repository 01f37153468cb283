"""How a masked span fills: what each step shows the network, and what it takes from the answer.

Settled text sees what is before it, the masked window behind it all of that and itself (`diffusion.blocks`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from perfuse.adaptation.signals import Trace
from perfuse.adaptation.whitening import Vectors
from perfuse.diffusion.core import POST_STEPS
from perfuse.diffusion.remasking import edited
from perfuse.diffusion.samplers import DRAWN, FIXED, REMASKING, DiscreteSampler, Guess, drafted, predict
from perfuse.diffusion.unmasking import stable
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
        entropy: of the network's distribution at each settled token, in nats.
        revealed: step that settled each token, from 0.
        told_entropy: mean entropy of what each step was told about, in nats; of this and the two before
            `adaptation.signals` says how sure the text is.
        best: most likely token of each position in the step before; -1 where none was told.
        draft: tokens behind the settled text that the next forward verifies.
        plan: where the text must have a structure, the whole span as the last step would have it.
        state: `[D]`, hidden states of the prompt in the first step, averaged; None where nobody asked for them.
        block: of a fixed schedule, entered at step `entered`.
        firm: tokens before it never change again; None: no settled token does.
        unfinished: whether there is something to do though nothing is masked.
        posts: steps done on a text without masks.
        told: logits that hold for the masks as they are.
    """

    index: int
    tokens: Tensor
    certainty: Tensor
    entropy: Tensor
    revealed: Tensor
    best: Tensor
    told_entropy: list[float] = field(default_factory=list)
    draft: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))
    plan: Guess | None = None
    state: Vectors | None = None
    block: int = -1
    entered: int = 0
    firm: int | None = None
    unfinished: bool = False
    posts: int = 0
    told: Tensor | None = None
    steps: int = 0
    forwards: int = 0

    @classmethod
    def empty(cls, index: int, length: int) -> Fill:
        """A span of masks."""
        masks, none = torch.full((length,), MASK), torch.zeros(length, dtype=torch.float64)
        return cls(index, masks, none, none.clone(), torch.zeros_like(masks), torch.full_like(masks, -1))

    @property
    def masked(self) -> Tensor:
        """Where nothing is settled."""
        return self.tokens == MASK

    @property
    def open(self) -> bool:
        """Whether there is anything left to do."""
        return self.unfinished or bool(self.masked.any())

    def shown(self, end: int | None = None) -> Tensor:
        """The span up to `end` as the next row shows it: settled text, draft, masks."""
        span = self.tokens[:end].clone()
        if len(self.draft) > 0:
            start = int(self.masked.nonzero()[0])
            span[start : start + len(self.draft)] = self.draft
        return span

    def lasting(self) -> Tensor:
        """The span with masks wherever a token may still change."""
        if self.firm is None or not self.open:
            return self.tokens
        return torch.cat((self.tokens[: self.firm], torch.full_like(self.tokens[self.firm :], MASK)))

    def told_to(self) -> int:
        """Number of positions that count: those up to the first null."""
        nulls = (self.tokens == NULL).nonzero()
        return int(nulls[0]) + 1 if len(nulls) > 0 else len(self.tokens)

    def settle(self, positions: Tensor, guess: Guess) -> None:
        """Keeps tokens, also in place of others; a text ends with its first null, so whatever is behind it is null."""
        self._loosen(positions)
        self.tokens[positions] = guess.tokens
        self.certainty[positions] = guess.confidence.double()
        self.entropy[positions] = guess.entropy.double()
        self.revealed[positions] = self.steps
        self.tokens[self.told_to() :] = NULL

    def reopen(self, positions: Tensor) -> None:
        """Masks tokens again; if the null that ended the text is among them, all behind it is open."""
        self._loosen(positions)
        self.tokens[positions] = MASK
        self.certainty[positions] = 0.0
        self.tokens[self.told_to() :] = NULL

    def trace(self, given: Tensor) -> Trace:
        """How the text came to be, behind the `given` ids."""
        end = self.told_to()
        return Trace(
            tokens=self.tokens[:end],
            certainty=self.certainty[:end],
            entropy=self.entropy[:end],
            revealed=self.revealed[:end],
            steps=self.steps,
            told_entropy=tuple(self.told_entropy),
            state=self.state,
            given=given,
        )

    def _loosen(self, positions: Tensor) -> None:
        """Opens what is behind the null that ended the text, if that is one of the positions."""
        ends = positions[self.tokens[positions] == NULL]
        if len(ends) > 0:
            self.tokens[int(ends[0]) + 1 :] = MASK
            self.certainty[int(ends[0]) + 1 :] = 0.0


@dataclass(frozen=True, slots=True)
class View:
    """What of a span one step works on: the window `start:end`, of which at least so many tokens are to be settled.

    A fixed schedule has `left` of its `of` steps to go in this window.
    """

    start: int
    end: int
    at_least: int
    left: int
    of: int


def view(fill: Fill, sampler: DiscreteSampler, window: int, step: int, most: int) -> View:
    """The window behind settled text and draft; for a fixed schedule the block it is in, with its share of the steps.

    A budget of fewer steps than positions is kept by settling the same number in each step.
    """
    length, masked, left = len(fill.tokens), fill.masked.nonzero()[:, 0], most - step
    if sampler.rule in FIXED:
        return _block(fill, sampler, window, step, most)
    if len(masked) == 0:
        end = fill.told_to()
        return View(end, end, 0, left, most)
    start = int(masked[0])
    if sampler.rule == "verified":
        start += len(fill.draft)
        return View(start, min(start + window, length), 1, left, most)
    if sampler.rule == "editing":
        fill.firm = max(fill.firm or 0, start - window)
    at_least = max(1, -(-len(masked) // left))
    end = max(start + window, int(masked[at_least - 1]) + 1)
    return View(start, min(end, length), at_least, left, most)


def _block(fill: Fill, sampler: DiscreteSampler, window: int, step: int, most: int) -> View:
    """Where its share of the steps lets it, a sampler that takes tokens back stays in a block without masks."""
    length, masked = len(fill.tokens), fill.masked.nonzero()[:, 0]
    size = max(window, -(-length // most))
    share = most // -(-length // size)
    start = int(masked[0]) if len(masked) > 0 else length
    stays = sampler.rule in REMASKING and fill.block >= 0 and step < fill.entered + share
    if fill.block != start // size and not stays:
        fill.block, fill.entered = start // size, step
    if sampler.rule in REMASKING:
        fill.firm = fill.block * size
    end = min((fill.block + 1) * size, length)
    left = max(1, min(most - step, share - (step - fill.entered)))
    return View(min(start, end), end, 1, left, share)


def asks(fill: Fill, sampler: DiscreteSampler, seen: View) -> bool:
    """Whether the step needs a forward: not where nothing is masked, nor where nothing changed since the last one."""
    return fill.told is None and (sampler.rule not in REMASKING or bool(fill.masked[: seen.end].any()))


def inputs(head: Tensor, fill: Fill, seen: View) -> dict[str, Tensor]:
    """Ids and order of one row: the given text, the span up to the window's end."""
    order = torch.cat((torch.zeros_like(head), torch.arange(1, seen.end + 1).clamp(max=seen.start + 1)))
    return {"tokens": torch.cat((head, fill.shown(seen.end))), "order": order}


def take(fill: Fill, sampler: DiscreteSampler, logits: Tensor | None, seen: View, step: int, uniform: Uniform) -> None:
    """Settles what the sampler chooses, and takes back or replaces what it wants to.

    Args:
        fill: changed in place.
        sampler: the rule.
        logits: `[1 + end, V]`, from the last given token on; None: nothing was asked.
        seen: what the row showed.
        step: number of the step.
        uniform: noise.
    """
    if sampler.rule == "verified":
        assert logits is not None
        _verify(fill, sampler, logits, seen, uniform)
        return
    positions = fill.masked[: seen.end].nonzero()[:, 0]
    back = _taken_back(fill, sampler, seen, step, uniform)
    changed = len(back) > 0
    if len(positions) > 0:
        assert logits is not None
        guess = _predict(logits[positions + 1], positions, sampler, step, fill, uniform)
        fill.told_entropy.append(float(guess.entropy.mean()))
        chosen = chosen_of(fill, sampler, logits, guess, positions, seen, step, uniform)
        fill.settle(positions[chosen], Guess(guess.tokens[chosen], guess.confidence[chosen], guess.entropy[chosen]))
        changed = changed or bool(chosen.any())
    if len(back) > 0:
        fill.reopen(back)
    if sampler.rule == "editing" and seen.left > 1:
        assert logits is not None
        changed = _edit(fill, sampler, logits, seen.start) or changed
    go_on(fill, sampler, logits, seen, changed=changed)


def go_on(fill: Fill, sampler: DiscreteSampler, logits: Tensor | None, seen: View, *, changed: bool) -> None:
    """What the next step starts from: the logits, if it would ask for the same, and whether it is to look once more."""
    fill.told = logits if sampler.rule in DRAWN and not changed else None
    if sampler.rule in REMASKING:
        fill.unfinished = seen.left > 1
    elif sampler.rule == "editing" and not bool(fill.masked.any()):
        fill.posts += 1
        fill.unfinished = changed and seen.left > 2 and fill.posts <= POST_STEPS


def chosen_of(
    fill: Fill,
    sampler: DiscreteSampler,
    logits: Tensor,
    guess: Guess,
    positions: Tensor,
    seen: View,
    step: int,
    uniform: Uniform,
) -> Tensor:
    """Which of the masked `positions`, of which `guess` is, commit now; all of them in the last step.

    See `take` for the other arguments.
    """
    if seen.left == 1:
        return torch.ones_like(positions, dtype=torch.bool)
    chosen = sampler.choose(
        guess,
        seen.left,
        of=seen.of,
        at_least=min(seen.at_least, len(positions)),
        positions=positions,
        draw=partial(_draw, fill, step, positions, uniform),
    )
    if sampler.stop_entropy is not None:
        chosen |= _stable(fill, sampler.stop_entropy, logits, guess, positions)
    return chosen


def _stable(fill: Fill, bound: float, logits: Tensor, guess: Guess, positions: Tensor) -> bool:
    """Whether the masked positions say what they said in the step before, and surely."""
    best = allowed(logits[positions + 1]).argmax(dim=-1)
    found = stable(best, fill.best[positions], guess.entropy, bound)
    fill.best[positions] = best
    return found


def _taken_back(fill: Fill, sampler: DiscreteSampler, seen: View, step: int, uniform: Uniform) -> Tensor:
    """Settled positions of the block that are to be masked again."""
    if sampler.rule not in REMASKING or seen.left == 1:
        return torch.zeros(0, dtype=torch.long)
    placed = torch.arange(fill.firm or 0, min(seen.end, fill.told_to()))
    placed = placed[~fill.masked[placed]]
    if len(placed) == 0:
        return placed
    draw = partial(_draw, fill, step, placed, uniform)
    return placed[sampler.remask(fill.certainty[placed], seen.left, seen.of, draw)]


def _draw(fill: Fill, step: int, positions: Tensor, uniform: Uniform, purpose: str) -> Tensor:
    return uniform(f"{purpose}/{fill.index}", step, positions)


def _edit(fill: Fill, sampler: DiscreteSampler, logits: Tensor, start: int) -> bool:
    """Replaces settled tokens where the text before them surely continues otherwise; whether it did.

    Masked diffusion says nothing about its unmasked positions; the settled text, which is causal here, says at each
    position what follows.
    """
    judged = torch.arange(fill.firm or 0, start)
    if len(judged) == 0:
        return False
    said = predict(allowed(logits[judged]), None, 0.0)
    at = edited(said.tokens, said.confidence, fill.tokens[judged], sampler.edit_level)
    if bool(at.any()):
        fill.settle(judged[at], Guess(said.tokens[at], said.confidence[at], said.entropy[at]))
    return bool(at.any())


def _verify(fill: Fill, sampler: DiscreteSampler, logits: Tensor, seen: View, uniform: Uniform) -> None:
    """Keeps the draft as far as the settled text itself continues so, and one token more; drafts from the window.

    What comes out is what next-token sampling with the same noise gives, whatever was drafted: each position has one
    uniform. Source: TiDAR, arXiv 2511.08923; coupling by the uniform instead of rejection.
    """
    start = seen.start - len(fill.draft)
    told = torch.arange(start, min(seen.start + 1, len(fill.tokens)))
    target = _predict(logits[told], told, sampler, 0, fill, uniform)
    fill.told_entropy.append(float(target.entropy.mean()))
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
    return sampler.predict(allowed(logits), noise)


def allowed(logits: Tensor) -> Tensor:
    """A float32 copy on the CPU of `[n, V]` logits in which no span may hold a mark but the null."""
    copy = logits.cpu().to(torch.float32, copy=True)
    copy[:, _NEVER] = -1e9  # finite: entropy multiplies it by a probability of 0
    return copy
