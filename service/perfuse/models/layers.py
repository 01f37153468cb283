"""The layers every architecture is built from: the only `Linear`, attention with RoPE, norms, adaptive norms."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, slots=True, eq=False)
class LowRank:
    """What an adaptation adds to one layer for some rows of a batch: `scale · up (down x)`."""

    rows: slice
    down: Tensor
    """`[rank, inputs]`"""
    up: Tensor
    """`[outputs, rank]`"""
    scale: float


class Linear(nn.Module):
    """`x @ weight.T + bias`; the one place where low-bit weights and per-row adaptations enter."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) * inputs**-0.5)
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self._codes: tuple[Tensor, Tensor] | None = None

    def quantize(self) -> None:
        """From now on multiply 8-bit weights with 8-bit activations (`in_bytes`); the weights themselves are let go."""
        codes, scales = in_bytes(self.weight.detach())
        self._codes = codes.t(), scales.t()
        self.weight = nn.Parameter(torch.empty(0), requires_grad=False)

    def forward(self, x: Tensor, adapted: Sequence[LowRank] = ()) -> Tensor:
        """Maps `[B, ..., inputs]` to `[B, ..., outputs]`; rows that no adaptation names are those of the bare layer."""
        y = functional.linear(x, self.weight, self.bias) if self._codes is None else self._by_bytes(x, *self._codes)
        for one in adapted:
            small = functional.linear(x[one.rows], one.down).flatten(0, -2)
            y[one.rows].flatten(0, -2).addmm_(small, one.up.T, alpha=one.scale)
        return y

    def _by_bytes(self, x: Tensor, weights: Tensor, scales: Tensor) -> Tensor:
        codes, own = in_bytes(x.flatten(0, -2))
        y: Tensor = torch._int_mm(codes, weights).float().mul_(own).mul_(scales)  # noqa: SLF001 (there is no public one)
        return (y if self.bias is None else y.add_(self.bias)).view(*x.shape[:-1], -1)


def in_bytes(x: Tensor) -> tuple[Tensor, Tensor]:
    """int8 codes round(x / s) of each row of `[N, K]` and its scale s = max |x| / 127 `[N, 1]`, fp32.

    Each vector has a scale of its own, so nothing depends on what else is in a batch (LLM.int8(), arXiv 2208.07339).
    """
    scales = x.abs().amax(dim=-1, keepdim=True).float().div_(127).clamp_(min=1e-12)
    return (x / scales).round_().to(torch.int8), scales


Adapted = Mapping[str, Sequence[LowRank]]
"""Low-rank layers of one block by name."""
NOTHING: Adapted = MappingProxyType({})


def norm(x: Tensor) -> Tensor:
    """Layer norm over the last axis without weights; adaptive scale and shift follow it."""
    return functional.layer_norm(x, x.shape[-1:])


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """`norm(x) (1 + scale) + shift` of `[B, L, D]`, shift and scale `[B, 1, D]` (DiT, arXiv 2212.09748)."""
    return torch.addcmul(shift, norm(x), 1 + scale)


def rotations(length: int, width: int, *, base: float = 10_000.0) -> tuple[Tensor, Tensor]:
    """Cosines and sines `[length, width / 2]` of rotary position embedding (arXiv 2104.09864)."""
    frequency = base ** -(torch.arange(0, width, 2, dtype=torch.float64) / width)
    angle = torch.arange(length, dtype=torch.float64)[:, None] * frequency
    return angle.cos().float(), angle.sin().float()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotates halves of the last axis of `[..., L, width]` by their position's angle."""
    low, high = x.chunk(2, dim=-1)
    return torch.cat((low * cos - high * sin, high * cos + low * sin), dim=-1)


def sinusoidal(t: Tensor, width: int, *, period: float = 10_000.0) -> Tensor:
    """Embedding `[B, width]` of times `t` `[B]` in 0..1: cosines then sines of `1000 t` at geometric frequencies."""
    frequency = torch.exp(-math.log(period) * torch.arange(width // 2, device=t.device) / (width // 2))
    angle = 1000.0 * t.float()[:, None] * frequency
    return torch.cat((angle.cos(), angle.sin()), dim=-1)


class Attention(nn.Module):
    """Multi-head self-attention with RoPE."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = Linear(width, 3 * width)
        self.out = Linear(width, width)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, seen: Tensor | None, *, causal: bool, adapted: Adapted = NOTHING
    ) -> Tensor:
        """Attends within each row.

        Args:
            x: `[B, L, D]`.
            cos: `[L, D / heads / 2]`, or `[B, 1, L, D / heads / 2]` if positions differ by row.
            sin: like `cos`.
            seen: `[B, L or 1, L]`, true where a position (second axis) sees another (third); None: everywhere.
            causal: whether a position sees only itself and what is before it.
            adapted: low-rank layers by name.
        """
        rows, length, width = x.shape
        qkv = (
            self.qkv(x, adapted.get("attention.qkv", ()))
            .view(rows, length, 3, self.heads, width // self.heads)
            .permute(2, 0, 3, 1, 4)
        )
        query, key = rotate(qkv[:2], cos, sin)
        mixed = attend(query, key, qkv[2], seen, causal=causal)
        joined: Tensor = self.out(mixed.transpose(1, 2).reshape(rows, length, width), adapted.get("attention.out", ()))
        return joined


def attend(query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None = None, *, causal: bool = False) -> Tensor:
    """Softmax attention `[B, H, L, W]`; `seen` `[B, L or 1, S]` is true where a key counts for a query.

    With `causal`, padding must lie behind the real positions: the causal mask then hides it.
    """
    if torch.is_grad_enabled():  # on CPU the backward of three plain operations is 3 times as fast as the fused one
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
        if causal:
            scores = scores + scores.new_full(scores.shape[-2:], -torch.inf).triu(1)
        elif seen is not None:
            hidden = torch.zeros(seen.shape, dtype=scores.dtype, device=scores.device).masked_fill(~seen, -3e4)
            scores = scores + hidden[:, None]
        mixed: Tensor = scores.softmax(dim=-1) @ value
        return mixed
    mask = None if seen is None or causal else seen[:, None]
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=causal)


class SquaredRelu(torch.autograd.Function):
    """max(x, 0)² (Primer, arXiv 2109.08668); its slope 2 max(x, 0) needs one saved tensor and no comparison."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        """The value."""
        positive = functional.relu(x)
        ctx.save_for_backward(positive)
        return positive * positive

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> Tensor:
        """The slope."""
        (positive,) = ctx.saved_tensors  # type: ignore[attr-defined]
        slope: Tensor = positive.mul_(grad).mul_(2.0)
        return slope


class Block(nn.Module):
    """Pre-norm transformer block; shift, scale and gate of both halves come from the row's condition (adaLN)."""

    def __init__(self, width: int, heads: int, condition: int, expansion: int = 4) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.up = Linear(width, expansion * width)
        self.down = Linear(expansion * width, width)
        self.adapt = Linear(condition, 6 * width, bias=True)
        nn.init.zeros_(self.adapt.weight)
        with torch.no_grad():
            assert self.adapt.bias is not None
            self.adapt.bias.view(6, width)[2::3] = 1.0  # gates start open

    def quantize(self) -> None:
        """Multiply bytes in the four layers that cost something; see `Linear.quantize`."""
        for layer in (self.attention.qkv, self.attention.out, self.up, self.down):
            layer.quantize()

    def forward(
        self,
        x: Tensor,
        condition: Tensor,
        cos: Tensor,
        sin: Tensor,
        seen: Tensor | None,
        *,
        causal: bool,
        adapted: Adapted = NOTHING,
    ) -> Tensor:
        """One block over `[B, L, D]`; `condition` is `[B, C]`."""
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.adapt(condition)[:, None].chunk(6, dim=-1)
        mixed = self.attention(modulate(x, shift_a, scale_a), cos, sin, seen, causal=causal, adapted=adapted)
        x = torch.addcmul(x, gate_a, mixed)
        hidden = SquaredRelu.apply(self.up(modulate(x, shift_m, scale_m), adapted.get("up", ())))
        return torch.addcmul(x, gate_m, self.down(hidden, adapted.get("down", ())))
