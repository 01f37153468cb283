"""The number format a text model computes in: the narrowest that the device multiplies natively."""

from __future__ import annotations

import torch

from perfuse.errors import ConfigError

DTYPES = {"bf16": torch.bfloat16, "f32": torch.float32, "int8": torch.int8}
NATIVE = ("amx_bf16", "avx512_bf16", "bf16")
"""CPU features with which bf16 is multiplied by instructions of its own; without them torch emulates it."""


def pick_dtype(dtype: str = "auto", device: str = "cpu") -> torch.dtype:
    """The dtype meant: "auto" is bf16 on CUDA and on CPUs that multiply it natively, else fp32.

    A CPU with AVX2 only emulates bf16 at a tenth of the speed of fp32: 7 against 72 GFLOP/s for 128 x 256 x 1024 on an
    AMD EPYC (`perfuse doctor` prints both for the machine at hand). "int8" is for CPUs: the products of the blocks'
    layers are of 8-bit weights and activations, everything else is fp32 (`carried`).

    Raises:
        ConfigError: it is none of "auto", "bf16", "f32", "int8", or the device does not compute in it.
    """
    if dtype == "int8" and device != "cpu":
        raise ConfigError(f"int8 is computed on CPUs only; the device is {device}", hint="use --dtype auto")
    if dtype in DTYPES:
        return DTYPES[dtype]
    if dtype != "auto":
        raise ConfigError(f"expected a dtype of auto, {', '.join(DTYPES)}; got {dtype!r}", hint="use --dtype auto")
    if device != "cpu":
        return torch.bfloat16
    features = torch.cpu.get_capabilities()
    return torch.bfloat16 if any(features.get(name) for name in NATIVE) else torch.float32


def carried(dtype: torch.dtype) -> torch.dtype:
    """What values have between products of `dtype`: itself, or fp32 where the products are of integers."""
    return torch.float32 if dtype is torch.int8 else dtype


def name_of(dtype: torch.dtype) -> str:
    """Its name in settings and in `GET /models`."""
    return next(name for name, known in DTYPES.items() if known == dtype)
