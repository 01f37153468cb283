"""How a masked span fills where the text must have a structure.

In each step the dynamic program finds the most probable text of the whole span that has it (or draws one), and the
sampler settles tokens of that text only. So what is settled can always be completed. Source: DINGO, arXiv 2505.23061.
"""

from __future__ import annotations

import torch
from torch import Tensor

from perfuse._native import Structure
from perfuse.diffusion.samplers import DiscreteSampler, Guess, drafted
from perfuse.models.tokenizer import MASK
from perfuse.pipelines.filling import Fill, Uniform, View, allowed, chosen_of, go_on


def take_structured(
    fill: Fill,
    sampler: DiscreteSampler,
    logits: Tensor,
    seen: View,
    step: int,
    uniform: Uniform,
    structure: Structure,
) -> None:
    """Settles what the sampler chooses of the best text that has the structure; keeps that text as `fill.plan`.

    Args:
        fill: changed in place.
        sampler: the rule.
        logits: `[1 + end, V]`, from the last given token on.
        seen: what the row showed.
        step: number of the step.
        uniform: noise.
        structure: what the span must be.
    """
    if sampler.rule == "verified":
        _verify(fill, sampler, logits, seen, uniform, structure)
        return
    positions = fill.masked[: seen.end].nonzero()[:, 0]
    start = int(positions[0])
    guess = _planned(fill, sampler, logits[start + 1 : seen.end + 1], start, step, uniform, structure)
    shown = _at(guess, positions)
    chosen = chosen_of(fill, sampler, logits, shown, positions, seen, step, uniform)
    fill.settle(positions[chosen], _at(shown, chosen))
    go_on(fill, sampler, logits, seen, changed=bool(chosen.any()))


def _verify(
    fill: Fill, sampler: DiscreteSampler, logits: Tensor, seen: View, uniform: Uniform, structure: Structure
) -> None:
    """Keeps the draft as far as the settled text continues so within the structure, and one token more; drafts anew.

    A structure that allows everything therefore changes nothing. The draft is the best text over the window.
    """
    start, drafts = seen.start - len(fill.draft), fill.draft.tolist()
    fill.draft = fill.draft[:0]
    ahead: Guess | None = None
    for place in range(start, min(seen.start + 1, len(fill.tokens))):
        if place == seen.start:
            ahead = _planned(fill, sampler, logits[place + 1 : seen.end + 1], place, 0, uniform, structure)
        own = _planned(fill, sampler, logits[place : place + 1], place, 0, uniform, structure)
        here = torch.tensor([place])
        fill.settle(here, _at(own, here))
        if drafts[place - start : place - start + 1] != [int(own.tokens[place])]:
            break
    if ahead is not None and bool(fill.masked.any()) and ahead.tokens[seen.start] == fill.tokens[seen.start]:
        behind = slice(seen.start + 1, seen.end)
        fill.plan, fill.draft = ahead, ahead.tokens[behind][: drafted(ahead.entropy[behind], sampler.bound)]


def complete(fill: Fill) -> None:
    """Settles what is open as the last step planned it: there is no time for another."""
    positions = fill.masked.nonzero()[:, 0]
    assert fill.plan is not None
    fill.settle(positions, _at(fill.plan, positions))


def _planned(
    fill: Fill,
    sampler: DiscreteSampler,
    rows: Tensor,
    first: int,
    step: int,
    uniform: Uniform,
    structure: Structure,
) -> Guess:
    """The whole span as the best text, or a drawn one; `rows` are of the positions from `first` on.

    Confidence and entropy are of the tokens that are possible behind the text before them.
    """
    warm = sampler.temperature > 0
    scores = (allowed(rows) / (sampler.temperature if warm else 1.0)).log_softmax(dim=-1).contiguous().numpy()
    tokens = fill.tokens.tolist()
    if warm:
        uniforms = uniform(f"token/{fill.index}", step, torch.arange(len(tokens))).tolist()
        path = structure.draw(tokens, MASK, first, scores, uniforms)
    else:
        path = structure.best(tokens, MASK, first, scores)
    fill.plan = Guess(torch.tensor(path[0]), torch.tensor(path[1]), torch.tensor(path[2]))
    return fill.plan


def _at(guess: Guess, chosen: Tensor) -> Guess:
    return Guess(guess.tokens[chosen], guess.confidence[chosen], guess.entropy[chosen])
