"""Losses of text models on batches of training rows."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional

from perfuse.diffusion.blocks import cut_blocks, mask_blocks
from perfuse.diffusion.masked import causal_loss
from perfuse.models.tokenizer import MASK, NULL
from perfuse.training.examples import Batch

UNLIKELY = 1e-4
"""Least probability that unlearning leaves to everything else, so that its loss stays finite."""


@runtime_checkable
class TextNetwork(Protocol):
    """What is trained: hidden vectors of ids, and logits of hidden vectors."""

    def hidden(self, tokens: Tensor, seen: Tensor | None = None, positions: Tensor | None = None) -> Tensor:
        """`[B, L, D]` of `[B, L]`."""
        ...

    def decode(self, hidden: Tensor) -> Tensor:
        """`[..., V]` of `[..., D]`."""
        ...


def diffusion_step(model: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
    """Loss of the block-wise masked model: of the masked copies, and of the settled text's next tokens, equal parts.

    Each is the mean cross entropy over its tokens, weighted by row (equal parts as in TiDAR, arXiv 2511.08923). A row
    of negative weight is unlearned: its settled tokens count −log(1 − p) (unlikelihood, arXiv 1908.04319).
    """
    assert isinstance(model, TextNetwork)
    places = batch.places
    starts = cut_blocks(places.index, generator)
    masked = mask_blocks(places, starts, generator) & (batch.weights > 0)[:, None]
    hidden = model.hidden(batch.tokens.masked_fill(masked, MASK), places.sees(starts), batch.positions)
    ahead, targets = next_tokens(batch)
    noised = masked.flatten().nonzero()[:, 0]
    logits = decode_at(model, hidden, torch.cat((noised, ahead))).float()
    weights = batch.weights.to(logits.device)
    of_noised, of_ahead = (weights[at // batch.tokens.shape[1]] for at in (noised, ahead))
    filled = functional.cross_entropy(logits[: len(noised)], batch.tokens[masked], reduction="none")
    told = functional.cross_entropy(logits[len(noised) :], targets, reduction="none")
    unlearned = -torch.log((1 - torch.exp(-told)).clamp(min=UNLIKELY))
    told = torch.where(of_ahead > 0, told, unlearned)
    return weighted_mean(filled, of_noised) + weighted_mean(told, of_ahead.abs())


def weighted_mean(losses: Tensor, weights: Tensor) -> Tensor:
    """Mean of `[N]` by weights `[N]`; 0 where there is nothing to learn."""
    return (losses * weights).sum() / weights.sum().clamp(min=1e-6)


def causal_step(model: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
    """Loss of the autoregressive twin on one batch; nothing random in it."""
    del generator
    assert isinstance(model, TextNetwork)
    ahead, targets = next_tokens(batch)
    return causal_loss(decode_at(model, model.hidden(batch.tokens), ahead), targets)


def next_tokens(batch: Batch) -> tuple[Tensor, Tensor]:
    """Flat positions whose next id belongs to a span, and that id; of the nulls behind a text only the first counts."""
    later, places = batch.tokens[:, 1:], batch.places
    learned = (places.index[:, 1:] >= 0) & ~places.copy[:, 1:]
    learned &= (later != NULL) | (batch.tokens[:, :-1] != NULL)
    row, column = learned.nonzero(as_tuple=True)
    return row * batch.tokens.shape[1] + column, later[learned]


def decode_at(model: TextNetwork, hidden: Tensor, index: Tensor) -> Tensor:
    """Logits at the flat positions `index` only.

    The number of positions is padded to a multiple of 256: every new shape costs a new kernel that is never freed.
    """
    padded = torch.cat((index, index.new_zeros(-len(index) % 256)))
    return model.decode(hidden.flatten(0, 1)[padded])[: len(index)]
