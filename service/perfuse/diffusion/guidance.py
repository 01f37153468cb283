"""Classifier-free guidance."""

from __future__ import annotations

from torch import Tensor

from perfuse.shapes import Float


def guided(
    conditional: Float[Tensor, "*shape"], unconditional: Float[Tensor, "*shape"], scale: float
) -> Float[Tensor, "*shape"]:
    """Unconditional + scale · (conditional − unconditional); scale 1 is the conditional model (arXiv 2207.12598).

    For logits this is the product p(x)^(1 − scale) p(x | c)^scale up to its norm.
    """
    return unconditional + scale * (conditional - unconditional)


def ramped(scale: float, settled: float, ramp: float) -> float:
    """The scale while a share `settled` of the tokens is settled: from 1 in a line to `scale` at the share `ramp`.

    1 + (scale − 1) · min(1, settled / ramp); with ramp 0 it is `scale` from the start. First tokens are then drawn
    freely and later ones held to the condition (Muse, arXiv 2301.00704 §2.7, which ramps over all steps: ramp 1).
    """
    return scale if ramp <= 0.0 else 1.0 + (scale - 1.0) * min(1.0, settled / ramp)
