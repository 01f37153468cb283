"""Model folders → pipelines. A folder's `config.json` names its architecture; the shipped ones are the default."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open

from perfuse.adaptation.embedding import Encoder, read_whitening
from perfuse.adaptation.residency import Residency
from perfuse.adaptation.router import Router
from perfuse.adaptation.uncertainty import UncertaintyEstimator, read_calibration
from perfuse.adaptation.whitening import Whitening
from perfuse.errors import CheckpointError, ConfigError
from perfuse.models.planner import Planner, load_planner
from perfuse.models.precision import carried, name_of, pick_dtype
from perfuse.models.text import LoadedText, load_text
from perfuse.pipelines.contract import Pipeline
from perfuse.pipelines.reading import EmbeddingPipeline, ScorePipeline
from perfuse.pipelines.text import TextModel, TextPipeline
from perfuse.pipelines.trajectory import TrajectoryPipeline
from perfuse.planning.mazes import MAZES
from perfuse.requests import EmbedRequest, Goal, Request, ScoreRequest, TextRequest, TrajectoryRequest
from perfuse.store.blobs import FOLDER, Blobs
from perfuse.store.kit import Kit, read_kit

SHIPPED = Path(__file__).parent.parent / "pretrained"
HINT = "point --model at a folder written by `perfuse train`, or leave it out for the shipped models"


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """What `GET /models` tells of a model; `dtype` is the one it computes in."""

    name: str
    modality: Literal["text", "trajectory"]
    parameters: int
    dtype: str
    limit: int


@dataclass(frozen=True, slots=True)
class Loaded:
    """Pipelines by modality, the models behind them, and a small request per modality that touches every network."""

    pipelines: dict[str, Pipeline[Any, Any]]
    models: list[LoadedModel]
    warm_ups: dict[str, Request]


def pick_device(device: str) -> str:
    """The device meant: "auto" is "cuda" where there is one, else "cpu".

    Raises:
        ConfigError: CUDA was asked for and is not there.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device 'cuda' was asked for; torch finds none", hint="use --device auto or cpu")
    return device


def architecture(folder: Path) -> str:
    """The architecture a folder's `config.json` names.

    Raises:
        CheckpointError: there is no such file, or it is damaged.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"no model in {folder}: {path.name}: {error}", hint=HINT) from error
    name = config.get("architecture") if isinstance(config, dict) else None
    if not isinstance(name, str):
        raise CheckpointError(f"{path} names no architecture; expected a string under 'architecture'", hint=HINT)
    return name


def load(folders: Sequence[Path] = (), device: str = "auto", dtype: str = "auto", store: Path | None = None) -> Loaded:
    """Load model folders, the shipped ones if none are given.

    Args:
        folders: written by `perfuse train`.
        device: see `pick_device`.
        dtype: of text models, see `pick_dtype`; planners compute in fp32.
        store: what was learned; without it the base models answer.

    Raises:
        CheckpointError: a folder holds no model of a known architecture, or a damaged one.
        ConfigError: the device is not there, or two models have the same name.
    """
    where = pick_device(device)
    computing = name_of(pick_dtype(dtype, where))
    texts: dict[str, TextModel] = {}
    encoders: dict[str, Encoder] = {}
    planners: list[Planner] = []
    models: list[LoadedModel] = []
    for folder in folders or shipped_folders():
        kind = architecture(folder)
        if kind == "unified-text":
            read = load_text(folder, where, dtype)
            router, estimator = None, None
            if (kit := read_kit(folder)) is not None:
                encoder = encoders[read.config.name] = _encoder(kit, read)
                router = None if store is None else _router(kit, encoder, read, store, where, dtype)
                estimator = estimator_of(kit, encoder.whitening)
            config = read.config
            texts[config.name] = TextModel(read.network, read.tokenizer, config.limit, config.length, router, estimator)
            models.append(LoadedModel(read.network.name, "text", read.parameters, computing, read.config.limit))
        elif kind == "planner":
            planner = load_planner(folder, where)
            planners.append(planner)
            size = _parameters(folder)
            models.append(LoadedModel(planner.network.name, "trajectory", size, "f32", planner.config.tokens))
        else:
            raise CheckpointError(
                f"{folder / 'config.json'} names the architecture {kind!r}; expected 'unified-text' or 'planner'",
                hint=HINT,
            )
    names = [model.name.partition("@")[0] for model in models]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ConfigError(f"more than one model is named {', '.join(sorted(twice))}", hint="give each --model once")
    return _loaded(texts, encoders, planners, models)


def _encoder(kit: Kit, read: LoadedText) -> Encoder:
    whitening = read_whitening(kit.folder)
    if kit.embedder.width != read.config.network.width:
        raise CheckpointError(
            f"{kit.folder.name}: the learning kit is for vectors of width {kit.embedder.width}, "
            f"the model's have {read.config.network.width}",
            hint="make it again with `perfuse train kit`",
        )
    return Encoder(read.network, read.tokenizer, whitening, kit.embedder)


def estimator_of(kit: Kit, whitening: Whitening) -> UncertaintyEstimator | None:
    """What says how sure the model of a kit is; None where it has no calibration. Raises CheckpointError."""
    calibration = read_calibration(kit.folder, kit.base, whitening)
    return None if calibration is None else UncertaintyEstimator(calibration)


def _router(kit: Kit, encoder: Encoder, read: LoadedText, store: Path, device: str, dtype: str) -> Router:
    holds = carried(pick_dtype(dtype, device))
    return Router(kit.base, encoder, Residency(Blobs(store / FOLDER), read.config.network, torch.device(device), holds))


def _parameters(folder: Path) -> int:
    """How many numbers the weights file holds, by its header."""
    with safe_open(folder / "model.safetensors", "pt") as file:
        return sum(math.prod(file.get_slice(key).get_shape()) for key in file.keys())  # noqa: SIM118 (not a mapping)


def shipped_folders() -> list[Path]:
    """Folders of the models that come with the package, in order of name; those for measuring only are left out."""
    return sorted(folder for folder in SHIPPED.iterdir() if (folder / "config.json").is_file() and served(folder))


def served(folder: Path) -> bool:
    """Whether a shipped folder is for serving: a baseline says `"baseline": true` in its configuration."""
    return json.loads((folder / "config.json").read_text(encoding="utf-8")).get("baseline") is not True


def _loaded(
    texts: dict[str, TextModel], encoders: dict[str, Encoder], planners: list[Planner], models: list[LoadedModel]
) -> Loaded:
    pipelines: dict[str, Pipeline[Any, Any]] = {}
    warm_ups: dict[str, Request] = {}
    if texts:
        pipelines["text"] = TextPipeline(texts)
        warm_ups["text"] = TextRequest(prompt="Return the sum of a list.", length=16)
        pipelines["score"] = ScorePipeline(texts)
        warm_ups["score"] = ScoreRequest(prompt="Return the sum of a list.", text="return sum(values)")
    if encoders:
        pipelines["embedding"] = EmbeddingPipeline(texts, encoders)
        warm_ups["embedding"] = EmbedRequest(prompts=("Return the sum of a list.",))
    if planners:
        pipelines["trajectory"] = TrajectoryPipeline(planners)
        maze = MAZES[planners[0].config.environment]
        x, y = maze.goal
        warm_ups["trajectory"] = TrajectoryRequest(
            environment=planners[0].config.environment, state=(x, y, 0.0, 0.0), goal=Goal(position=(x, y))
        )
    return Loaded(pipelines, models, warm_ups)
