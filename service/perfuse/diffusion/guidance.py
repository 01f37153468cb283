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
