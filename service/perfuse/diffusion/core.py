"""The sampling loop in one process, without an engine: what a notebook or an evaluation runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from perfuse.diffusion import noise
from perfuse.diffusion.remasking import edited
from perfuse.diffusion.samplers import REMASKING, REVISING, DiscreteSampler, predict
from perfuse.diffusion.unmasking import stable
from perfuse.shapes import Bool, Float, Float64, Int64

Denoiser = Callable[[Sequence[Tensor]], Sequence[Tensor]]
"""Logits `[L, V]` for each of several token rows `[L]`."""
Uniform = Callable[[str, int, Tensor], Tensor]
"""Noise by purpose, step and positions."""
POST_STEPS = 16
"""Most steps in which "editing" looks over a text without masks; `max_post_steps` of LLaDA2.1."""


@dataclass(frozen=True, slots=True)
class Generated:
    """A finished canvas and the number of forwards it took."""

    tokens: Int64[Tensor, " length"]
    forwards: int


@dataclass(slots=True)
class Row:
    """A canvas while it is filled.

    Attributes:
        tokens: masks where nothing is placed.
        span: what was masked at the start; nothing else is ever written.
        certainty: probability with which each token was placed.
        best: most likely tokens of the step before; -1 where none was told.
        told: logits that hold for the masks as they are; None: ask the denoiser.
        steps: done so far.
        posts: of them those without a mask.
        finished: whether nothing is left to do.
        forwards: spent so far.
    """

    tokens: Int64[Tensor, " length"]
    span: Bool[Tensor, " length"]
    certainty: Float64[Tensor, " length"]
    best: Int64[Tensor, " length"]
    told: Float[Tensor, "length vocabulary"] | None = None
    steps: int = 0
    posts: int = 0
    finished: bool = False
    forwards: int = 0

    @classmethod
    def of(cls, canvas: Int64[Tensor, " length"], mask: int) -> Row:
        """A canvas `[L]` as it comes."""
        span = canvas == mask
        row = cls(canvas.clone(), span, torch.zeros(len(canvas), dtype=torch.float64), torch.full_like(canvas, -1))
        row.finished = not bool(span.any())
        return row


class DiffusionCore:
    """Fills masked canvases with a denoiser and a sampler.

    Args:
        denoiser: logits of token rows; those of a placed token say what else could stand there ("editing" asks).
        sampler: how positions commit.
    """

    def __init__(self, denoiser: Denoiser, sampler: DiscreteSampler | None = None) -> None:
        self.denoiser = denoiser
        self.sampler = sampler or DiscreteSampler()

    @torch.inference_mode()
    def generate(self, canvases: Sequence[Tensor], *, seed: int = 0) -> list[Generated]:
        """Fills every masked position of every canvas `[L]`, each of its own length; no other position is written.

        Rows leave the batch when they are done. Row i draws its noise from (seed + i).
        """
        rows = [Row.of(canvas, self.sampler.mask) for canvas in canvases]
        while open_rows := [i for i, row in enumerate(rows) if not row.finished]:
            asking = [i for i in open_rows if rows[i].told is None]
            told = self.denoiser([rows[i].tokens for i in asking]) if asking else []
            for i, logits in zip(asking, told, strict=True):
                rows[i].told = logits
                rows[i].forwards += 1
            for i in open_rows:
                advance(self.sampler, rows[i], partial(noise.uniform, seed + i))
        return [Generated(row.tokens, row.forwards) for row in rows]


def advance(sampler: DiscreteSampler, row: Row, uniform: Uniform) -> None:
    """One step of a row whose logits are told: reveals, takes back or edits tokens of its span, and nothing else."""
    logits, step = row.told, row.steps
    assert logits is not None
    masked = row.tokens == sampler.mask
    positions, placed = masked.nonzero()[:, 0], (row.span & ~masked).nonzero()[:, 0]
    of = sampler.steps or int(row.span.sum())
    left = max(1, of - step)
    guess = sampler.predict(logits[positions], uniform("token", step, positions) if sampler.temperature > 0 else None)
    commit = sampler.choose(
        guess, left, of=of, positions=positions, draw=lambda purpose: uniform(purpose, step, positions)
    )
    if sampler.stop_entropy is not None and len(positions) > 0:
        best = logits[positions].argmax(dim=-1)
        if stable(best, row.best[positions], guess.entropy, sampler.stop_entropy):
            commit = torch.ones_like(commit)
        row.best[positions] = best
    changed = bool(commit.any())
    if sampler.rule in REMASKING and left > 1 and len(placed) > 0:
        back = placed[sampler.remask(row.certainty[placed], left, of, lambda purpose: uniform(purpose, step, placed))]
        row.tokens[back] = sampler.mask
        changed = changed or len(back) > 0
    elif sampler.rule == "editing" and len(placed) > 0:
        said = predict(logits[placed], None, 0.0)
        at = edited(said.tokens, said.confidence, row.tokens[placed], sampler.edit_level)
        row.tokens[placed[at]], row.certainty[placed[at]] = said.tokens[at], said.confidence[at].double()
        changed = changed or bool(at.any())
    row.tokens[positions[commit]] = guess.tokens[commit]
    row.certainty[positions[commit]] = guess.confidence[commit].double()
    _note(sampler, row, left, changed=changed)


def _note(sampler: DiscreteSampler, row: Row, left: int, *, changed: bool) -> None:
    """What the row has spent, whether its logits still hold, and whether it is finished."""
    row.steps += 1
    full, remasking = not bool((row.tokens == sampler.mask).any()), sampler.rule in REMASKING
    if changed and not (full and remasking):
        row.told = None
    if full:
        row.posts += 1
        more = left > 1 if remasking else changed and row.posts <= POST_STEPS
        row.finished = sampler.rule not in REVISING or not more
