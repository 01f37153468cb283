"""Heads: what turns a modality's own values into hidden vectors and back."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class TextProjectionHead(nn.Module):
    """Tokens to hidden vectors and back over one tied table of unit-length embeddings.

    The logit of token j for the encoding of token i is `scale² <e_i, e_j>` up to the order-preserving factor of the
    norm, and for unit vectors `<e_i, e_j> < 1 = <e_i, e_i>` unless `e_i = e_j`: the arg max gives i back, exactly.
    """

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(vocabulary, width) * width**-0.5)
        self.scale = nn.Parameter(torch.tensor(12.0))
        self._frozen: Tensor | None = None

    def freeze(self) -> None:
        """Keep the unit table instead of computing it at each use; call it after the weights are loaded."""
        self._frozen = functional.normalize(self.table.detach(), dim=-1)

    def unit(self) -> Tensor:
        """The table with rows of length one, `[V, D]`."""
        return self._frozen if self._frozen is not None else functional.normalize(self.table, dim=-1)

    def encode(self, tokens: Tensor) -> Tensor:
        """Hidden vectors `[..., D]` of length `sqrt(D)` for token ids `[...]`."""
        vectors: Tensor = functional.embedding(tokens, self.unit()) * self.table.shape[1] ** 0.5
        return vectors

    def decode(self, hidden: Tensor) -> Tensor:
        """Logits `[..., V]` of hidden vectors `[..., D]`: scaled cosine similarity with every token."""
        direction = functional.normalize(hidden, dim=-1)
        return functional.linear(direction, self.unit()) * self.scale
