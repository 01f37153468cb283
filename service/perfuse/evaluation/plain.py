"""The text network's layers written plainly with torch's own modules, from the same weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from perfuse.models.layers import Block, rotations
from perfuse.models.layers import Linear as OurLinear
from perfuse.models.unified import UnifiedScoreNetwork


def _linear(ours: OurLinear) -> nn.Linear:
    """The layer of torch with the weights of ours."""
    outputs, inputs = ours.weight.shape
    plain = nn.Linear(inputs, outputs, bias=ours.bias is not None)
    plain.weight = nn.Parameter(ours.weight.detach().clone())
    if ours.bias is not None:
        plain.bias = nn.Parameter(ours.bias.detach().clone())
    return plain


class PlainBlock(nn.Module):
    """A pre-norm block with adaptive norms (DiT, arXiv 2212.09748), line by line."""

    def __init__(self, ours: Block) -> None:
        super().__init__()
        self.heads = ours.attention.heads
        width = ours.attention.out.weight.shape[0]
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.qkv, self.out = _linear(ours.attention.qkv), _linear(ours.attention.out)
        self.up, self.down, self.adapt = _linear(ours.up), _linear(ours.down), _linear(ours.adapt)

    def forward(self, x: Tensor, condition: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        """`[B, L, D]`; `mask` `[B, 1, L, L]` is true where a position sees another."""
        rows, length, width = x.shape
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.adapt(condition).unsqueeze(1).chunk(6, dim=-1)
        query, key, value = (
            part.view(rows, length, self.heads, -1).transpose(1, 2)
            for part in self.qkv(self.norm(x) * (1 + scale_a) + shift_a).chunk(3, dim=-1)
        )
        query = query * cos + rotate_half(query) * sin
        key = key * cos + rotate_half(key) * sin
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        x = x + gate_a * self.out(mixed.transpose(1, 2).reshape(rows, length, width))
        hidden = functional.relu(self.up(self.norm(x) * (1 + scale_m) + shift_m)).square()
        out: Tensor = x + gate_m * self.down(hidden)
        return out


class PlainNetwork(nn.Module):
    """Logits `[B, L, V]` of tokens `[B, L]`, as `UnifiedScoreNetwork` gives them for masked text."""

    cos: Tensor
    sin: Tensor

    def __init__(self, ours: UnifiedScoreNetwork) -> None:
        super().__init__()
        unit = functional.normalize(ours.text.table.detach(), dim=-1)
        self.embedding = nn.Embedding(*unit.shape)
        self.embedding.weight = nn.Parameter(unit)
        self.scale = nn.Parameter(ours.text.scale.detach().clone())
        self.condition = nn.Parameter(functional.silu(ours.trunk.modality[:1].detach()))
        self.blocks = nn.ModuleList(PlainBlock(block) for block in ours.trunk.blocks if isinstance(block, Block))
        self.norm = nn.LayerNorm(unit.shape[1], elementwise_affine=False)
        cos, sin = rotations(ours.config.max_length, ours.config.width // ours.config.heads)
        self.register_buffer("cos", torch.cat((cos, cos), dim=-1), persistent=False)
        self.register_buffer("sin", torch.cat((sin, sin), dim=-1), persistent=False)

    def forward(self, tokens: Tensor, seen: Tensor) -> Tensor:
        """`seen` `[B, L, L]` is true where a position (second axis) sees another (third)."""
        length = tokens.shape[1]
        x = self.embedding(tokens) * self.embedding.embedding_dim**0.5
        for block in self.blocks:
            x = block(x, self.condition, self.cos[:length], self.sin[:length], seen.unsqueeze(1))
        direction = functional.normalize(self.norm(x), dim=-1)
        logits: Tensor = functional.linear(direction, self.embedding.weight) * self.scale
        return logits


def rotate_half(x: Tensor) -> Tensor:
    """(low, high) halves of the last axis become (−high, low)."""
    low, high = x.chunk(2, dim=-1)
    return torch.cat((-high, low), dim=-1)
