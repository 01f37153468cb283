"""Masked (absorbing) diffusion over tokens: the forward process and its low-variance loss."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from perfuse.shapes import Bool, Float, Int64


def stratified_counts(
    lengths: Int64[Tensor, " rows"], generator: torch.Generator | None = None
) -> Int64[Tensor, " rows"]:
    """How many of `lengths` maskable tokens to mask per row: uniform on 1..length, stratified over the batch.

    Row i of n draws from the i-th of n equal parts (in random order), so a batch covers all noise levels.
    """
    rows = lengths.shape[0]
    part = torch.randperm(rows, generator=generator)
    uniform = (part + torch.rand(rows, generator=generator)) / rows
    return (uniform * lengths).floor().long() + 1


def mask_exactly(
    tokens: Int64[Tensor, "rows length"],
    maskable: Bool[Tensor, "rows length"],
    counts: Int64[Tensor, " rows"],
    mask: int,
    generator: torch.Generator | None = None,
) -> tuple[Int64[Tensor, "rows length"], Bool[Tensor, "rows length"]]:
    """Replaces `counts[i]` random maskable tokens of row i by `mask`; gives the noised tokens and where they are."""
    order = torch.rand(tokens.shape, generator=generator).masked_fill(~maskable, 2.0).argsort(dim=1).argsort(dim=1)
    noised = (order < counts[:, None]) & maskable
    return tokens.masked_fill(noised, mask), noised


def masked_loss(
    logits: Float[Tensor, "masked vocabulary"],
    tokens: Int64[Tensor, "rows length"],
    noised: Bool[Tensor, "rows length"],
) -> Float[Tensor, ""]:
    """Bound on the negative log likelihood in nats per maskable token, averaged over rows.

    With k of L tokens masked, k uniform on 1..L, the bound is E[(L / k) Σ_masked −log p] / L: each row counts by its
    mean over masked tokens. Same expectation as the continuous-time bound of MDLM (arXiv 2406.07524) at much less
    variance; estimator of LLaDA (arXiv 2502.09992). `logits` holds the masked positions only, in row-major order.
    """
    loss = functional.cross_entropy(logits.float(), tokens[noised], reduction="none")
    weight = (1.0 / noised.sum(dim=1).clamp(min=1))[:, None].expand_as(noised)[noised]
    return (loss * weight).sum() / tokens.shape[0]


def causal_loss(
    logits: Float[Tensor, "predicted vocabulary"], targets: Int64[Tensor, " predicted"]
) -> Float[Tensor, ""]:
    """Mean next-token cross entropy in nats, for the autoregressive twin."""
    return functional.cross_entropy(logits.float(), targets)
