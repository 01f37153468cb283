"""Noise schedules in closed form: how much signal and noise a sample holds at time t in [0, 1]."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from perfuse.shapes import Float

_OFFSET = 0.008
Kind = Literal["cosine", "log-linear"]
Sampling = Literal["stratified", "uniform", "logit-normal"]


def cosine_alpha_bar(t: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Share of signal variance: ᾱ(t) = cos²((t + s) / (1 + s) · π/2) / cos²(s / (1 + s) · π/2), s = 0.008.

    Source: Nichol and Dhariwal, arXiv 2102.09672. 1 at t = 0, 0 at t = 1.
    """
    at_zero = math.cos(_OFFSET / (1 + _OFFSET) * math.pi / 2) ** 2
    return torch.cos((t + _OFFSET) / (1 + _OFFSET) * (math.pi / 2)).square() / at_zero


def log_linear_alpha(t: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Chance that a token is not masked at time t: α(t) = 1 − t (log-linear in σ = −log α; MDLM, arXiv 2406.07524)."""
    return 1.0 - t


def beta(kind: Kind, t: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Rate of noising, β(t) = −d log ᾱ / dt.

    Cosine: π / (1 + s) · tan((t + s) / (1 + s) · π/2). Log-linear: 1 / (1 − t). Both grow without limit as t → 1.
    """
    if kind == "cosine":
        return math.pi / (1 + _OFFSET) * torch.tan((t + _OFFSET) / (1 + _OFFSET) * (math.pi / 2))
    return 1.0 / (1.0 - t)


def stratified_times(
    rows: int, generator: torch.Generator | None = None, *, least: float = 1e-3
) -> Float[Tensor, " rows"]:
    """One time per row, uniform on [least, 1), each from another of `rows` equal parts, in random order."""
    part = torch.randperm(rows, generator=generator)
    return least + (1.0 - least) * (part + torch.rand(rows, generator=generator)) / rows


def uniform_times(
    rows: int, generator: torch.Generator | None = None, *, least: float = 1e-3
) -> Float[Tensor, " rows"]:
    """One time per row, uniform on [least, 1), independently."""
    return least + (1.0 - least) * torch.rand(rows, generator=generator)


def logit_normal_times(
    rows: int, generator: torch.Generator | None = None, *, mean: float = 0.0, spread: float = 1.0
) -> Float[Tensor, " rows"]:
    """One time per row, 1 / (1 + exp(−z)) with z ~ N(mean, spread²): most in the middle, where training is hardest.

    Source: arXiv 2403.03206, there for flows.
    """
    return torch.sigmoid(mean + spread * torch.randn(rows, generator=generator))


@dataclass(frozen=True, slots=True)
class NoiseScheduler:
    """A schedule as an object.

    Attributes:
        kind: "cosine" for Gaussian noise, "log-linear" for masks.
    """

    kind: Kind = "cosine"

    def alpha_bar(self, t: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """Signal variance (cosine) or chance of being unmasked (log-linear) at times t."""
        return cosine_alpha_bar(t) if self.kind == "cosine" else log_linear_alpha(t)

    def alpha(self, t: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """Factor of the signal: √ᾱ for Gaussian noise, ᾱ itself for masks."""
        alpha_bar = self.alpha_bar(t)
        return alpha_bar.clamp(min=0).sqrt() if self.kind == "cosine" else alpha_bar

    def sigma(self, t: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """Factor of the noise: √(1 − ᾱ), so that α² + σ² = 1; for masks the chance of being masked, 1 − α."""
        rest = (1.0 - self.alpha_bar(t)).clamp(min=0)
        return rest.sqrt() if self.kind == "cosine" else rest

    def beta(self, t: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """Rate of noising −d log ᾱ / dt."""
        return beta(self.kind, t)

    def times(
        self, rows: int, generator: torch.Generator | None = None, *, how: Sampling = "stratified"
    ) -> Float[Tensor, " rows"]:
        """Training times, one per row."""
        if how == "stratified":
            return stratified_times(rows, generator)
        return uniform_times(rows, generator) if how == "uniform" else logit_normal_times(rows, generator)

    def add_noise(
        self, x: Float[Tensor, " *shape"], noise: Float[Tensor, " *shape"], t: Float[Tensor, " rows"]
    ) -> Float[Tensor, " *shape"]:
        """α(t) x + σ(t) noise, one time per row (Gaussian noise)."""
        shape = (-1, *(1,) * (x.dim() - 1))
        return self.alpha(t).view(shape) * x + self.sigma(t).view(shape) * noise

    def add_masks(self, tokens: Tensor, uniforms: Tensor, t: Float[Tensor, " rows"], mask: int) -> Tensor:
        """Tokens `[rows, length]` with each masked where its uniform is below σ(t) of its row (masked diffusion)."""
        return tokens.masked_fill(uniforms < self.sigma(t)[:, None], mask)
