"""Low-rank adaptations: a few numbers that teach a base model one kind of request, never merged into its weights.

`y = W x + scale · B (A x)`, A `[rank, in]`, B `[out, rank]` (LoRA, arXiv 2106.09685), `scale = alpha / sqrt(rank)`
(rsLoRA, arXiv 2312.03732). Names and files are those of PEFT, so adaptations travel both ways.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from perfuse.errors import CheckpointError
from perfuse.models.layers import LowRank
from perfuse.models.unified import DiffusionConfig

TARGETS = ("attention.qkv", "attention.out", "up", "down")
"""The adapted layers of a block."""
_NAME = re.compile(r"base_model\.model\.trunk\.blocks\.(\d+)\.([a-z_.]+)\.lora_(A|B)\.weight")
_HINT = "expected the files of a PEFT LoRA made for this model"


@dataclass(frozen=True, slots=True, eq=False)
class Adaptation:
    """One adaptation; calls that carry the same object are computed as one group of rows.

    Attributes:
        id: its name in logs and attributions.
        rank: r.
        alpha: numerator of the scale.
        blocks: for each transformer block (A, B) by layer.
    """

    id: str
    rank: int
    alpha: float
    blocks: tuple[Mapping[str, tuple[Tensor, Tensor]], ...]

    @property
    def parameters(self) -> int:
        """How many numbers it holds."""
        return sum(a.numel() + b.numel() for block in self.blocks for a, b in block.values())

    @property
    def scale(self) -> float:
        """What `B (A x)` is multiplied by."""
        return self.alpha / math.sqrt(self.rank)

    def scaled(self) -> Adaptation:
        """The same with the scale in B, which is a twelfth of a lone row's adapted layer cheaper."""
        blocks = tuple({name: (a, b * self.scale) for name, (a, b) in block.items()} for block in self.blocks)
        return Adaptation(self.id, self.rank, math.sqrt(self.rank), blocks)

    def on(self, rows: slice) -> list[dict[str, LowRank]]:
        """Its layers for these rows of a batch, by block."""
        return [{name: LowRank(rows, a, b, self.scale) for name, (a, b) in block.items()} for block in self.blocks]

    def to(self, device: torch.device, dtype: torch.dtype) -> Adaptation:
        """The same on another device or in another dtype."""
        moved = tuple(
            {name: (a.to(device, dtype), b.to(device, dtype)) for name, (a, b) in block.items()}
            for block in self.blocks
        )
        return Adaptation(self.id, self.rank, self.alpha, moved)


def shapes(config: DiffusionConfig) -> dict[str, tuple[int, int]]:
    """(inputs, outputs) of each adapted layer."""
    width = config.width
    return {
        "attention.qkv": (width, 3 * width),
        "attention.out": (width, width),
        "up": (width, 4 * width),
        "down": (4 * width, width),
    }


def fresh(config: DiffusionConfig, rank: int, alpha: float, generator: torch.Generator, name: str = "") -> Adaptation:
    """An adaptation that changes nothing yet: A is uniform on ±1/sqrt(in) as in PEFT, B is zero."""

    def pair(inputs: int, outputs: int) -> tuple[Tensor, Tensor]:
        a = (torch.rand(rank, inputs, generator=generator) * 2 - 1) * inputs**-0.5
        return a, torch.zeros(outputs, rank)

    layers = shapes(config)
    return Adaptation(
        name, rank, alpha, tuple({key: pair(*layers[key]) for key in TARGETS} for _ in range(config.layers))
    )


def grouped(adaptations: Sequence[Adaptation | None]) -> list[dict[str, list[LowRank]]] | None:
    """Layers of a whole batch, by block, for rows that lie together by adaptation; None: nothing is adapted."""
    merged: list[dict[str, list[LowRank]]] = []
    start = 0
    while start < len(adaptations):
        end = start + 1
        while end < len(adaptations) and adaptations[end] is adaptations[start]:
            end += 1
        one = adaptations[start]
        if one is not None:
            merged = merged or [{name: [] for name in TARGETS} for _ in one.blocks]
            for block, layers in zip(merged, one.on(slice(start, end)), strict=True):
                for name, layer in layers.items():
                    block[name].append(layer)
        start = end
    return merged or None


def to_bytes(adaptation: Adaptation) -> bytes:
    """`adapter_model.safetensors` of PEFT; rank and alpha stand in its header."""
    tensors = {
        f"base_model.model.trunk.blocks.{i}.{name}.lora_{side}.weight": part.detach().cpu().contiguous()
        for i, block in enumerate(adaptation.blocks)
        for name, pair in block.items()
        for side, part in zip("AB", pair, strict=True)
    }
    return save(tensors, metadata={"adapter_config": json.dumps(peft_config(adaptation))})


def peft_config(adaptation: Adaptation) -> dict[str, object]:
    """`adapter_config.json` of PEFT."""
    return {
        "peft_type": "LORA",
        "r": adaptation.rank,
        "lora_alpha": adaptation.alpha,
        "use_rslora": True,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": list(TARGETS),
    }


def from_bytes(data: bytes, config: DiffusionConfig, name: str, peft: Mapping[str, object] | None = None) -> Adaptation:
    """The adaptation in a PEFT file; `peft` is its `adapter_config.json` where the header does not carry it.

    Raises:
        CheckpointError: the bytes are damaged, or made for another network.
    """
    try:
        tensors = load(data)
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size]).get("__metadata__", {})
        described = peft if peft is not None else json.loads(header["adapter_config"])
        rank, alpha = int(str(described["r"])), float(str(described["lora_alpha"]))
    except (SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"adaptation {name!r} cannot be read: {type(error).__name__}: {error}", hint=_HINT
        ) from error
    if not described.get("use_rslora", False):
        alpha /= math.sqrt(rank)  # plain LoRA scales by alpha / rank
    found: list[dict[str, dict[str, Tensor]]] = [{} for _ in range(config.layers)]
    for key, tensor in tensors.items():
        matched = _NAME.fullmatch(key)
        if matched is None or int(matched[1]) >= config.layers or matched[2] not in TARGETS:
            raise CheckpointError(f"adaptation {name!r} holds {key!r}, which this model has not", hint=_HINT)
        found[int(matched[1])].setdefault(matched[2], {})[matched[3]] = tensor
    for i, block in enumerate(found):
        for key, (inputs, outputs) in shapes(config).items():
            pair = block.get(key, {})
            sizes = {side: tuple(part.shape) for side, part in sorted(pair.items())}
            if sizes != {"A": (rank, inputs), "B": (outputs, rank)}:
                raise CheckpointError(
                    f"adaptation {name!r}: block {i} {key} has shapes {sizes}, "
                    f"expected A {(rank, inputs)} and B {(outputs, rank)}",
                    hint=_HINT,
                )
    blocks = tuple({key: (pair["A"], pair["B"]) for key, pair in block.items()} for block in found)
    return Adaptation(name, rank, alpha, blocks)
