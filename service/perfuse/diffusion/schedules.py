"""Noise schedules in closed form: how much signal and noise a sample holds at time t in [0, 1].

A schedule is its decay ᾱ(t), 1 for data and (nearly) 0 for noise. A Gaussian process keeps the factor √ᾱ of the
signal; a masked process keeps each token with probability ᾱ.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from perfuse.shapes import Float, Int64

_OFFSET = 0.008
"""Keeps σ of the cosine schedule away from 0 near the data; Nichol and Dhariwal, arXiv 2102.09672."""
_SLOWEST, _FASTEST = 0.1, 20.0
"""Rate of the linear schedule at t = 0 and at t = 1; Song et al., arXiv 2011.13456, appendix C."""
Kind = Literal["cosine", "linear", "log-linear"]
Process = Literal["gaussian", "masked"]
Sampling = Literal["stratified", "uniform", "logit-normal"]


def cosine_alpha(t: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """√ᾱ of the cosine schedule: cos((t + s) / (1 + s) · π/2) / cos(s / (1 + s) · π/2), s = 0.008.

    Source: Nichol and Dhariwal, arXiv 2102.09672 eq. 17. 1 at t = 0, 0 at t = 1.
    """
    start = math.cos(_OFFSET / (1 + _OFFSET) * math.pi / 2)
    return torch.cos((t + _OFFSET) / (1 + _OFFSET) * (math.pi / 2)) / start


def linear_exponent(t: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """∫₀ᵗ β of a rate that grows linearly, β(u) = b₀ + (b₁ − b₀) u with b₀ = 0.1, b₁ = 20: b₀ t + (b₁ − b₀) t² / 2."""
    return _SLOWEST * t + (_FASTEST - _SLOWEST) / 2 * t.square()


def alpha_bar(kind: Kind, t: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Decay of a schedule: cosine cos²(…) / cos²(…), linear exp(−∫₀ᵗ β), log-linear 1 − t.

    The log-linear one is linear in the chance of a mask, and its σ̄ = −log ᾱ = −log(1 − t) (MDLM, arXiv 2406.07524).
    """
    if kind == "cosine":
        return cosine_alpha(t).square()
    return torch.exp(-linear_exponent(t)) if kind == "linear" else 1.0 - t


def beta(kind: Kind, t: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Rate of noising, β(t) = −d log ᾱ / dt.

    Cosine: π / (1 + s) · tan((t + s) / (1 + s) · π/2). Linear: b₀ + (b₁ − b₀) t. Log-linear: 1 / (1 − t). The first
    and the last grow without limit as t → 1.
    """
    if kind == "cosine":
        return math.pi / (1 + _OFFSET) * torch.tan((t + _OFFSET) / (1 + _OFFSET) * (math.pi / 2))
    return _SLOWEST + (_FASTEST - _SLOWEST) * t if kind == "linear" else 1.0 / (1.0 - t)


def log_snr(kind: Kind, t: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """log(ᾱ / (1 − ᾱ)): of signal to noise variance, or the log odds that a token is not masked.

    Linear: −log(exp(∫₀ᵗ β) − 1). Log-linear: log(1 − t) − log t. Falls from ∞ at t = 0.
    """
    if kind == "linear":
        return -torch.log(torch.expm1(linear_exponent(t)))
    kept = alpha_bar(kind, t)
    return torch.log(kept) - torch.log1p(-kept)


def unmask_probability(kind: Kind, t: Float[Tensor, "*n"], s: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Chance that a token masked at time t is not masked any more at s < t: (ᾱ(s) − ᾱ(t)) / (1 − ᾱ(t)).

    The reverse step of masked diffusion; (t − s) / t for the log-linear schedule (MDLM, arXiv 2406.07524 eq. 6).
    """
    if kind == "log-linear":
        return (t - s) / t
    kept = alpha_bar(kind, t)
    return (alpha_bar(kind, s) - kept) / (1.0 - kept)


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


def importance_times(
    squares: Float[Tensor, " parts"], rows: int, generator: torch.Generator | None = None
) -> tuple[Float[Tensor, " rows"], Float[Tensor, " rows"]]:
    """Times where the loss is large, and the weights that keep its mean: E[weight · loss(time)] = ∫₀¹ loss.

    The i-th of n equal parts of [0, 1) is drawn with probability p_i ∝ √squares_i and weighs 1 / (n p_i); of all
    densities on these parts it has the least variance (arXiv 2102.09672 §3.3). Stratified like `stratified_times`.

    Args:
        squares: mean squared loss of each part, above 0; for example a running mean of training.
        rows: how many times.
        generator: of the noise.
    """
    share = squares.double().sqrt()
    share = share / share.sum()
    ends = share.cumsum(0)
    drawn = stratified_times(rows, generator, least=0.0).double()
    part = torch.searchsorted(ends, drawn, right=True).clamp(max=len(share) - 1)
    inside = ((drawn - (ends - share)[part]) / share[part]).clamp(0.0, 1.0)
    return ((part + inside) / len(share)).float(), (1.0 / (len(share) * share[part])).float()


@dataclass(frozen=True, slots=True)
class NoiseScheduler:
    """A schedule and the process it drives, as an object.

    Attributes:
        kind: how fast the signal decays.
        process: what the noise is, "gaussian" or "masked".
    """

    kind: Kind = "cosine"
    process: Process = "gaussian"

    def alpha_bar(self, t: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """Signal variance (Gaussian) or chance of being unmasked (masked) at times t."""
        return alpha_bar(self.kind, t)

    def alpha(self, t: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """Factor of the signal: √ᾱ for Gaussian noise, ᾱ itself for masks."""
        kept = self.alpha_bar(t).clamp(min=0)
        return kept.sqrt() if self.process == "gaussian" else kept

    def sigma(self, t: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """Factor of the noise: √(1 − ᾱ), so that α² + σ² = 1; for masks the chance of being masked, 1 − α."""
        rest = (1.0 - self.alpha_bar(t)).clamp(min=0)
        return rest.sqrt() if self.process == "gaussian" else rest

    def beta(self, t: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """Rate of noising −d log ᾱ / dt."""
        return beta(self.kind, t)

    def snr(self, t: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """Signal to noise, ᾱ / (1 − ᾱ); ∞ at t = 0."""
        return log_snr(self.kind, t).exp()

    def bound_weight(self, t: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """What a loss at time t counts in the bound on −log p(x), integrated over t.

        Masks: −ᾱ′ / (1 − ᾱ) = β ᾱ / (1 − ᾱ), of the summed cross entropy of the masked tokens (MDLM, arXiv 2406.07524
        eq. 10). Gaussian: −SNR′ / 2 = β ᾱ / (2 (1 − ᾱ)²), of ‖x₀ − prediction‖² (VDM, arXiv 2107.00630 eq. 17).
        """
        weight = self.beta(t) * self.snr(t)
        return weight if self.process == "masked" else weight / (2.0 * (1.0 - self.alpha_bar(t)))

    def times(
        self, rows: int, generator: torch.Generator | None = None, *, how: Sampling = "stratified"
    ) -> Float[Tensor, " rows"]:
        """Training times, one per row; `importance_times` draws them by their loss."""
        if how == "stratified":
            return stratified_times(rows, generator)
        return uniform_times(rows, generator) if how == "uniform" else logit_normal_times(rows, generator)

    def add_noise(
        self, x: Float[Tensor, " *shape"], noise: Float[Tensor, " *shape"], t: Float[Tensor, " rows"]
    ) -> Float[Tensor, " *shape"]:
        """α(t) x + σ(t) noise, one time per row.

        Raises:
            ValueError: the process is not Gaussian.
        """
        if self.process != "gaussian":
            raise ValueError(f"the process is {self.process}, expected gaussian; masks are added by add_masks")
        shape = (-1, *(1,) * (x.dim() - 1))
        return self.alpha(t).view(shape) * x + self.sigma(t).view(shape) * noise

    def add_masks(
        self,
        tokens: Int64[Tensor, "rows length"],
        uniforms: Float[Tensor, "rows length"],
        t: Float[Tensor, " rows"],
        mask: int,
    ) -> Int64[Tensor, "rows length"]:
        """Tokens with each masked where its uniform is below σ(t) of its row.

        Raises:
            ValueError: the process is not masked.
        """
        if self.process != "masked":
            raise ValueError(f"the process is {self.process}, expected masked; Gaussian noise is added by add_noise")
        return tokens.masked_fill(uniforms < self.sigma(t)[:, None], mask)
