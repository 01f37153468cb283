"""Gaussian diffusion with a variance-preserving cosine schedule: noising, DDIM and the x0-prediction loss.

x_t = α_t x_0 + σ_t ε with α² + σ² = 1; time runs from 0 (data) to 1 (noise).
"""

from __future__ import annotations

import torch
from torch import Tensor

from perfuse.diffusion.schedules import cosine_alpha
from perfuse.shapes import Float


def signal_level(t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """α_t = √ᾱ(t) of the cosine schedule."""
    return cosine_alpha(t).clamp(0.0, 1.0)


def noise_level(t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """σ_t = √(1 − α_t²)."""
    return (1.0 - signal_level(t).square()).clamp_min(0.0).sqrt()


def noised(x0: Float[Tensor, "*b"], noise: Float[Tensor, "*b"], t: Float[Tensor, "#*b"]) -> Float[Tensor, "*b"]:
    """A sample of q(x_t | x_0): α_t x_0 + σ_t ε. `t` broadcasts against the data."""
    return signal_level(t) * x0 + noise_level(t) * noise


def implied_noise(x: Float[Tensor, "*b"], x0: Float[Tensor, "*b"], t: Float[Tensor, "#*b"]) -> Float[Tensor, "*b"]:
    """The ε that makes x_t of x_0: (x_t − α_t x_0) / σ_t, for t > 0."""
    return (x - signal_level(t) * x0) / noise_level(t)


def ddim_step(
    x: Float[Tensor, "*b"], x0: Float[Tensor, "*b"], t: Float[Tensor, "#*b"], s: Float[Tensor, "#*b"]
) -> Float[Tensor, "*b"]:
    """The deterministic step from time t to s < t given the predicted x_0 (DDIM, arXiv 2010.02502 eq. 12, η = 0)."""
    return noised(x0, implied_noise(x, x0, t), s)


def time_grid(steps: int) -> Float[Tensor, " times"]:
    """`steps + 1` evenly spaced times from 1 to 0."""
    return torch.linspace(1.0, 0.0, steps + 1, dtype=torch.float64)
