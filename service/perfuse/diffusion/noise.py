"""Counter-based noise: a hash of (seed, purpose, step, position), the same alone, in a batch, on CPU and on GPU."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from perfuse.shapes import Float64, Int64

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15, SplitMix64's increment (Steele et al., OOPSLA 2014)
_MIX1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX2 = -7723592293110705685  # 0x94D049BB133111EB


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Logical shift of a 64-bit word held in a signed integer."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    """SplitMix64's finaliser: a bijection of 64-bit words with full avalanche."""
    x = (x ^ _shift_right(x, 30)) * _MIX1
    x = (x ^ _shift_right(x, 27)) * _MIX2
    return x ^ _shift_right(x, 31)


def stream(seed: int, purpose: str, step: int) -> int:
    """Start of the counter sequence of one purpose at one step, as a signed 64-bit integer."""
    digest = hashlib.blake2b(f"{seed}/{purpose}/{step}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def uniform(seed: int, purpose: str, step: int, positions: Int64[Tensor, "*n"]) -> Float64[Tensor, "*n"]:
    """Uniforms in [0, 1) with 53 random bits, one per absolute position. SplitMix64 as a counter-based generator."""
    word = _mix(stream(seed, purpose, step) + (positions + 1) * _GOLDEN)
    return _shift_right(word, 11).to(torch.float64) * 2.0**-53


def gaussian(uniforms: Float64[Tensor, "*n"]) -> Float64[Tensor, "*n"]:
    """Standard normal numbers by inverse CDF: x = Φ⁻¹(u); u = 0 counts as half of its resolution."""
    normal: Tensor = torch.special.ndtri(uniforms.clamp_min(2.0**-54))
    return normal


def gumbel(uniforms: Float64[Tensor, "*n"]) -> Float64[Tensor, "*n"]:
    """Standard Gumbel numbers by inverse CDF: x = −log(−log u); u = 0 counts as half of its resolution.

    In float64, because single precision truncates the upper tail and thereby lowers the temperature unasked
    (arXiv 2409.02908).
    """
    return -torch.log(-torch.log(uniforms.clamp_min(2.0**-54)))
