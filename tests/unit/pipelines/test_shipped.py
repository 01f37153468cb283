"""Model folders: what is served, and what a folder that cannot be served says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from adapting import domain_of
from perfuse.errors import CheckpointError, ConfigError
from perfuse.models.lora import fresh, to_bytes
from perfuse.models.text import read_config
from perfuse.pipelines.alone import AloneRun, run_alone
from perfuse.pipelines.shipped import HINT, SHIPPED, load, pick_device, shipped_folders
from perfuse.requests import EmbedRequest, TextRequest
from perfuse.store.blobs import FOLDER, Blobs
from perfuse.store.kit import read_kit
from perfuse.store.learning import ADAPTATIONS, TABLES, Adaptation, domains
from perfuse.store.store import Store


def test_the_shipped_models_load_and_describe_themselves() -> None:
    loaded = load()
    assert {model.modality for model in loaded.models} == {"text", "trajectory"}
    assert set(loaded.pipelines) == set(loaded.warm_ups) == {"text", "trajectory", "embedding", "score"}
    assert all(1_000_000 < model.parameters < 10_000_000 for model in loaded.models)
    assert {model.name.partition("@")[0] for model in loaded.models} == {folder.name for folder in shipped_folders()}


def test_every_warm_up_is_answered() -> None:
    loaded = load()
    for modality, request in loaded.warm_ups.items():
        run_alone(loaded.pipelines[modality], request, run=AloneRun(request.seed))


def test_with_a_store_the_shipped_text_model_answers_with_what_it_has_learned(tmp_path: Path) -> None:
    folder = SHIPPED / "code-small"
    kit = read_kit(folder)
    assert kit is not None
    loaded = load([folder], store=tmp_path)
    prompt = "Return the sum of a list."
    embedded = run_alone(loaded.pipelines["embedding"], EmbedRequest(prompts=(prompt,)), run=AloneRun(0))
    assert (embedded.embedder, len(embedded.vectors[0])) == (kit.embedder.hash, 4 * kit.embedder.width)
    blob = Blobs(tmp_path / FOLDER).put(to_bytes(fresh(read_config(folder).network, 4, 4.0, torch.Generator())))
    record = Adaptation(
        id="ad_" + "1" * 32, tenant="t", cluster="c", kind="lora", blob=blob, parent=None, base=kit.base,
        embedder=kit.embedder.hash, dataset="d", feedback=(), sources=(), seed=0, config="{}", report="",
        state="champion", reason="", centroid=tuple(np.frombuffer(embedded.vectors[0], "<f4").tolist()), radius=0.01,
        created=1.0, changed=1.0,
    )  # fmt: skip
    with Store(tmp_path, [*TABLES, domains(kit.embedder.width).spec]) as store:
        store.commit([ADAPTATIONS.put(record), domains(kit.embedder.width).put(domain_of(record))])
        run = AloneRun(0, tenant="t", snapshot=store.snapshot())
        answer = run_alone(loaded.pipelines["text"], TextRequest(prompt=prompt, length=8), run=run)
    assert [each.id for each in answer.attribution] == [record.id]


def test_a_model_without_a_learning_kit_is_served_and_learns_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "code-small"
    shutil.copytree(SHIPPED / "code-small", folder, ignore=shutil.ignore_patterns("anchors.jsonl"))
    assert set(load([folder], store=tmp_path).pipelines) == {"text", "score"}


def test_a_learning_kit_of_another_model_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "code-small"
    shutil.copytree(SHIPPED / "code-small", folder)
    parts = {"mean": np.zeros(2, np.float32), "matrix": np.eye(2, dtype=np.float32)}
    save_file(parts, folder / "embedder.safetensors", metadata={"reach": "0.5"})
    with pytest.raises(CheckpointError) as caught:
        load([folder])
    assert caught.value.detail == "code-small: the learning kit is for vectors of width 2, the model's have 256"
    assert caught.value.hint == "make it again with `perfuse train kit`"


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
