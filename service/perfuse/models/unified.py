"""SharedTransformer: one trunk for every modality, and the score network that puts heads on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from perfuse.models.heads import TextProjectionHead
from perfuse.models.layers import NOTHING, Adapted, Block, Linear, norm, rotations, sinusoidal

MODALITIES = ("text", "image", "audio")


@dataclass(frozen=True, slots=True)
class DiffusionConfig:
    """Shape of a unified network; its fields are the keys of a checkpoint's `config.json` under `network`.

    Attributes:
        vocabulary: number of token ids.
        width: D.
        layers: transformer blocks.
        heads: attention heads.
        condition: width of the modality and time embedding.
        max_length: longest row.
        causal: a position sees only what is before it (the autoregressive twin).
        timed: the blocks are told the diffusion time.
    """

    vocabulary: int
    width: int = 256
    layers: int = 6
    heads: int = 4
    condition: int = 64
    max_length: int = 256
    causal: bool = False
    timed: bool = False

    def as_dict(self) -> dict[str, int | bool]:
        """The fields by name."""
        return asdict(self)


class SharedTransformer(nn.Module):
    """Transformer whose blocks are modulated by the row's modality and, where `timed`, by its diffusion time.

    Masked text is time-agnostic: the number of masks tells the time (arXiv 2406.03736), so text passes no time.
    """

    def __init__(self, config: DiffusionConfig) -> None:
        super().__init__()
        self.config = config
        self.modality = nn.Parameter(torch.randn(len(MODALITIES), config.condition) * 0.5)
        self.time = Linear(config.condition, config.condition, bias=True) if config.timed else None
        self.blocks = nn.ModuleList(Block(config.width, config.heads, config.condition) for _ in range(config.layers))
        cos, sin = rotations(config.max_length, config.width // config.heads)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(
        self,
        x: Tensor,
        modality: int,
        t: Tensor | None = None,
        seen: Tensor | None = None,
        positions: Tensor | None = None,
        adapted: Sequence[Adapted] | None = None,
    ) -> Tensor:
        """Hidden vectors `[B, L, D]`, normalised.

        Args:
            x: `[B, L, D]` from a head.
            modality: index into `MODALITIES`.
            t: `[B]` diffusion times in 0..1; ignored unless the network is timed.
            seen: `[B, L or 1, L]`, true where a position (second axis) sees another (third); None: everywhere.
            positions: `[B, L]` where each vector stands, in 0..max_length - 1; None: in order.
            adapted: low-rank layers of each block; None: none.
        """
        condition = self.modality[modality].expand(x.shape[0], -1)
        if self.time is not None and t is not None:
            condition = condition + self.time(sinusoidal(t, self.config.condition).to(x.dtype))
        condition = functional.silu(condition)
        at = slice(x.shape[1]) if positions is None else positions[:, None]
        cos, sin = self.cos[at].to(x.dtype), self.sin[at].to(x.dtype)  # type: ignore[index]
        for i, block in enumerate(self.blocks):
            layers = NOTHING if adapted is None else adapted[i]
            x = block(x, condition, cos, sin, seen, causal=self.config.causal, adapted=layers)
        return norm(x)


class UnifiedScoreNetwork(nn.Module):
    """The shared transformer with its heads; this checkpoint family has the text head."""

    def __init__(self, config: DiffusionConfig) -> None:
        super().__init__()
        self.config = config
        self.text = TextProjectionHead(config.vocabulary, config.width)
        self.trunk = SharedTransformer(config)

    def quantize(self) -> None:
        """Compute in bytes from now on (`Linear.quantize`), on a CPU; the rest is to be fp32."""
        for block in self.trunk.blocks:
            assert isinstance(block, Block)
            block.quantize()

    def hidden(
        self,
        tokens: Tensor,
        seen: Tensor | None = None,
        positions: Tensor | None = None,
        adapted: Sequence[Adapted] | None = None,
    ) -> Tensor:
        """Hidden vectors `[B, L, D]` of tokens `[B, L]`; see `SharedTransformer.forward`."""
        hidden: Tensor = self.trunk(self.text.encode(tokens), 0, seen=seen, positions=positions, adapted=adapted)
        return hidden

    def forward(self, tokens: Tensor, seen: Tensor | None = None, positions: Tensor | None = None) -> Tensor:
        """Logits `[B, L, V]` of tokens `[B, L]`."""
        return self.decode(self.hidden(tokens, seen, positions))

    def decode(self, hidden: Tensor) -> Tensor:
        """Logits `[..., V]` of hidden vectors `[..., D]`."""
        return self.text.decode(hidden)


def parameters(module: nn.Module) -> int:
    """Number of trainable numbers."""
    return sum(p.numel() for p in module.parameters())
