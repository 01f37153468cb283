"""The sampling loop in one process, without an engine: what a notebook or an evaluation runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from perfuse.diffusion import noise
from perfuse.diffusion.samplers import DiscreteSampler
from perfuse.shapes import Int64

Denoiser = Callable[[Sequence[Tensor]], Sequence[Tensor]]
"""Logits `[L, V]` for each of several token rows `[L]`."""


@dataclass(frozen=True, slots=True)
class Generated:
    """A finished canvas and the number of forwards it took."""

    tokens: Int64[Tensor, " length"]
    forwards: int


class DiffusionCore:
    """Fills masked canvases with a denoiser and a sampler.

    Args:
        denoiser: logits of token rows.
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
        tokens = list(canvases)
        forwards = [0] * len(tokens)
        step = 0
        while open_rows := [i for i, row in enumerate(tokens) if bool((row == self.sampler.mask).any())]:
            for i, logits in zip(open_rows, self.denoiser([tokens[i] for i in open_rows]), strict=True):
                tokens[i] = self.sampler.step(logits, tokens[i], step, partial(noise.uniform, seed + i))
                forwards[i] += 1
            step += 1
        return [Generated(row, count) for row, count in zip(tokens, forwards, strict=True)]
