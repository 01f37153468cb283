"""Model folders: what is served, and what a folder that cannot be served says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from perfuse.errors import CheckpointError, ConfigError
from perfuse.pipelines.shipped import HINT, SHIPPED, load, pick_device, shipped_folders


def test_the_shipped_models_load_and_describe_themselves() -> None:
    loaded = load()
    assert {model.modality for model in loaded.models} == set(loaded.pipelines) == set(loaded.warm_ups)
    assert all(1_000_000 < model.parameters < 10_000_000 for model in loaded.models)
    assert {model.name.partition("@")[0] for model in loaded.models} == {folder.name for folder in shipped_folders()}


def test_shipped_models_fit_into_forty_megabytes() -> None:
    assert sum(file.stat().st_size for file in SHIPPED.rglob("*") if file.is_file()) <= 40e6


def test_a_folder_without_a_model_says_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        load([tmp_path])
    assert caught.value.detail == (
        f"no model in {tmp_path}: config.json: [Errno 2] No such file or directory: '{tmp_path}/config.json'"
    )
    assert caught.value.hint == HINT


@pytest.mark.parametrize(
    ("config", "detail"),
    [
        ({"name": "x"}, "config.json names no architecture; expected a string under 'architecture'"),
        ({"architecture": "unet"}, "config.json names the architecture 'unet'; expected 'unified-text' or 'planner'"),
    ],
)
def test_an_unknown_architecture_is_named(tmp_path: Path, config: dict[str, str], detail: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError) as caught:
        load([tmp_path])
    assert caught.value.detail == f"{tmp_path}/{detail}"


def test_a_truncated_weights_file_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "maze2d-umaze"
    shutil.copytree(SHIPPED / "maze2d-umaze", folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"^maze2d-umaze/model\.safetensors does not hold this planner: "):
        load([folder])


def test_two_models_of_one_name_are_refused() -> None:
    folder = SHIPPED / "maze2d-umaze"
    with pytest.raises(ConfigError) as caught:
        load([folder, folder])
    assert caught.value.detail == "more than one model is named maze2d-umaze"


def test_cuda_is_refused_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == "cpu"
    with pytest.raises(ConfigError, match=r"^device 'cuda' was asked for; torch finds none$"):
        pick_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("auto") == pick_device("cuda") == "cuda"
