"""A text model as the engine sees it, and its folder: `model.safetensors`, `config.json`, `tokenizer.json`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from perfuse.diffusion.blocks import NEVER, attends
from perfuse.errors import CheckpointError
from perfuse.models.call import Call, Network, Output
from perfuse.models.lora import grouped
from perfuse.models.precision import carried, pick_dtype
from perfuse.models.tokenizer import NULL, TextTokenizer
from perfuse.models.unified import DiffusionConfig, UnifiedScoreNetwork

ARCHITECTURE = "unified-text"
BUCKET = 32
SPAN = 96
NETWORK_KEYS = [field.name for field in fields(DiffusionConfig)]
_HINT = "fetch the model folder again, or train it with `perfuse train code`"


@dataclass(frozen=True, slots=True)
class TextConfig:
    """What `config.json` of a text model holds.

    Attributes:
        name: model name.
        version: counted up with each training that is shipped.
        network: shape of the network.
        limit: longest canvas in tokens.
        length: tokens of a span when a request does not say.
        tokenizer: SHA-256 of `tokenizer.json`.
        training: how the weights came to be: generator version, hash of the split, seconds, tokens.
        baseline: whether the folder is there to be measured against and not to be served.
    """

    name: str
    version: int
    network: DiffusionConfig
    limit: int
    length: int
    tokenizer: str
    training: Mapping[str, object]
    baseline: bool = False

    @property
    def label(self) -> str:
        """`model@version`."""
        return f"{self.name}@{self.version}"


class TextNetwork:
    """A `UnifiedScoreNetwork` behind the engine's contract.

    Input of a call: `tokens` [L] int64, and `order` [L] int64 of `diffusion.blocks.attends`; without it everything sees
    everything. Outputs: "logits" [L, V] and, if wanted, "hidden" [L, D]. A row is padded to the next multiple of 32
    positions, chosen by this row alone; padding is hidden from attention.
    """

    def __init__(self, network: UnifiedScoreNetwork, name: str) -> None:
        self._network = network.eval().requires_grad_(requires_grad=False)
        self._network.text.freeze()
        self._name = name
        self._device = network.text.table.device

    @property
    def name(self) -> str:
        """`model@version`."""
        return self._name

    @property
    def reproducible_rows(self) -> int:
        """Rows of a reproducible block; small, because a lone request pays for all of them."""
        return 4

    def key(self, call: Call) -> Hashable:
        """Padded length, and what is wanted."""
        return -(-call.inputs["tokens"].shape[0] // BUCKET) * BUCKET, call.want

    @torch.inference_mode()
    def forward(self, calls: Sequence[Call]) -> Sequence[Output]:
        """Outputs of rows of one key; those of one adaptation are computed as a group."""
        places = sorted(range(len(calls)), key=lambda i: id(calls[i].adaptation))
        outputs = dict(zip(places, self._forward([calls[i] for i in places]), strict=True))
        return [outputs[i] for i in range(len(calls))]

    def _forward(self, calls: Sequence[Call]) -> list[Output]:
        rows = [call.inputs["tokens"] for call in calls]
        length = -(-max(row.shape[0] for row in rows) // BUCKET) * BUCKET
        tokens = torch.stack([functional.pad(row, (0, length - row.shape[0]), value=NULL) for row in rows])
        orders = [call.inputs.get("order", torch.zeros_like(row)) for call, row in zip(calls, rows, strict=True)]
        order = torch.stack([functional.pad(row, (0, length - row.shape[0]), value=NEVER) for row in orders])
        tokens, seen = tokens.to(self._device), attends(order).to(self._device)
        hidden = self._network.hidden(tokens, seen, adapted=grouped([call.adaptation for call in calls]))
        logits = self._network.text.decode(hidden) if "logits" in calls[0].want else None
        outputs: list[Output] = []
        for i, call in enumerate(calls):
            end = rows[i].shape[0]
            output: dict[str, Tensor] = {}
            if logits is not None:
                output["logits"] = logits[i, :end]
            if "hidden" in call.want:
                output["hidden"] = hidden[i, :end]
            outputs.append(output)
        return outputs


@dataclass(frozen=True, slots=True)
class LoadedText:
    """A text model read from its folder."""

    network: Network
    tokenizer: TextTokenizer
    config: TextConfig
    parameters: int


def save_text(folder: Path, config: TextConfig, weights: Mapping[str, Tensor], tokenizer: TextTokenizer) -> None:
    """Write a model folder; weights are stored as bf16."""
    folder.mkdir(parents=True, exist_ok=True)
    stored = {name: weight.detach().to("cpu", torch.bfloat16).contiguous() for name, weight in weights.items()}
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save(folder / "tokenizer.json")
    described = {
        "architecture": ARCHITECTURE,
        "name": config.name,
        "version": config.version,
        "limit": config.limit,
        "length": config.length,
        "tokenizer": digest(folder / "tokenizer.json"),
        "baseline": config.baseline,
        "network": config.network.as_dict(),
        "training": dict(config.training),
    }
    (folder / "config.json").write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")


def digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_config(folder: Path) -> TextConfig:
    """The configuration in `folder`.

    Raises:
        CheckpointError: it is missing, damaged or not a text model's.
    """
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if found["architecture"] != ARCHITECTURE:
            raise CheckpointError(
                f"{folder.name}: expected the architecture {ARCHITECTURE!r}, config.json says {found['architecture']!r}"
            )
        shape = DiffusionConfig(**{name: found["network"][name] for name in NETWORK_KEYS if name in found["network"]})
        rest = {
            name: found[name] for name in ("name", "version", "limit", "length", "tokenizer", "training", "baseline")
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(
            f"{folder.name}/config.json does not describe a text model: {type(error).__name__}: {error}", hint=_HINT
        ) from error
    return TextConfig(network=shape, **rest)


def load_text(folder: Path, device: str = "cpu", dtype: str = "auto") -> LoadedText:
    """The text model in `folder`, stored as bf16, computing in the dtype of `pick_dtype`.

    Raises:
        CheckpointError: a file is missing, damaged, of another layout, or the tokenizer is not the model's.
    """
    config = read_config(folder)
    tokenizer = TextTokenizer.load(folder / "tokenizer.json")
    if digest(folder / "tokenizer.json") != config.tokenizer:
        raise CheckpointError(
            f"{folder.name}/tokenizer.json is not the one the model was trained with: "
            f"SHA-256 {digest(folder / 'tokenizer.json')[:12]}…, expected {config.tokenizer[:12]}…",
            hint=_HINT,
        )
    network = UnifiedScoreNetwork(config.network)
    weights = read_weights(folder, network)
    network.load_state_dict(weights)
    computing = pick_dtype(dtype, device)
    network.to(device, carried(computing))
    if computing is torch.int8:
        network.quantize()
    size = sum(weight.numel() for weight in weights.values())
    return LoadedText(TextNetwork(network, config.label), tokenizer, config, size)


def read_weights(folder: Path, network: UnifiedScoreNetwork, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """The weights in `folder`, which must be those of `network`; in their own dtype unless one is given.

    Raises:
        CheckpointError: the file is missing, damaged, or holds other tensors.
    """
    try:
        weights = load_file(folder / "model.safetensors")
    except (OSError, SafetensorError) as error:
        raise _not_this_model(folder, _first_line(error)) from error
    expected = {name: tuple(weight.shape) for name, weight in network.state_dict().items()}
    found = {name: tuple(weight.shape) for name, weight in weights.items()}
    if found != expected:
        other = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
        raise _not_this_model(folder, f"{other[0]} has shape {found.get(other[0])}, expected {expected.get(other[0])}")
    return {name: weight if dtype is None else weight.to(dtype) for name, weight in weights.items()}


def _not_this_model(folder: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{folder.name}/model.safetensors does not hold this text model: {reason}", hint=_HINT)


def untrained_text(config: TextConfig, tokenizer: TextTokenizer, seed: int = 0) -> LoadedText:
    """The same model with random weights, as a baseline."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = UnifiedScoreNetwork(config.network).to(pick_dtype())
    size = sum(p.numel() for p in network.parameters())
    return LoadedText(TextNetwork(network, f"{config.label}-untrained"), tokenizer, config, size)


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
