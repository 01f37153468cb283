"""Vectors of prompts, and the file that makes them comparable."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from perfuse.adaptation.embedding import HIDDEN, pooled, prompt_inputs, read_whitening
from perfuse.errors import CheckpointError
from perfuse.models.call import Call
from perfuse.models.text import LoadedText, TextConfig, untrained_text
from perfuse.models.tokenizer import BOS, SEP, TextTokenizer
from perfuse.models.unified import DiffusionConfig

PROMPTS = ("", "double", "double every value of a list, then return it", "é ☕ \n\t")


@pytest.fixture(scope="module")
def model() -> LoadedText:
    tokenizer = TextTokenizer.train(["double every value of a list"] * 4, 300)
    network = DiffusionConfig(tokenizer.size, width=16, layers=2, heads=2, condition=8, max_length=64)
    return untrained_text(TextConfig("tiny", 1, network, limit=64, length=12, tokenizer="", training={}), tokenizer)


def test_the_row_of_a_prompt_is_given_text_between_its_marks(model: LoadedText) -> None:
    row = prompt_inputs(model.tokenizer, "double every")
    assert row["tokens"].tolist() == [BOS, *model.tokenizer.encode("double every"), SEP]
    assert row["order"].tolist() == [0] * len(row["tokens"])


def test_a_vector_is_the_mean_over_the_prompts_own_tokens() -> None:
    hidden = torch.tensor([[9.0, 9.0], [1.0, 2.0], [3.0, 6.0], [9.0, -9.0]], dtype=torch.bfloat16)
    assert pooled(hidden, 2).tolist() == [2.0, 4.0]
    assert pooled(hidden, 2).dtype == np.float32


def test_without_a_prompt_it_is_the_mean_over_the_marks() -> None:
    assert pooled(torch.tensor([[1.0, 2.0], [3.0, 6.0]]), 0).tolist() == [2.0, 4.0]


def test_a_vector_is_the_same_alone_and_in_company(model: LoadedText) -> None:
    rows = [prompt_inputs(model.tokenizer, prompt) for prompt in PROMPTS]
    calls = [Call(model.network, row, HIDDEN) for row in rows]
    together = model.network.forward(calls)
    for call, output in zip(calls, together, strict=True):
        count = len(call.inputs["tokens"]) - 2
        (alone,) = model.network.forward([call])
        np.testing.assert_allclose(pooled(output["hidden"], count), pooled(alone["hidden"], count), atol=2e-2)


def test_the_whitening_of_a_folder_is_read(tmp_path: Path) -> None:
    mean, matrix = np.array([1.0, 2.0], np.float32), np.array([[2.0, 0.0], [0.0, 1.0]], np.float32)
    save_file({"mean": mean, "matrix": matrix}, tmp_path / "embedder.safetensors", metadata={"reach": "0.5"})
    assert read_whitening(tmp_path).unit([2.0, 2.0]).tolist() == [[1.0, 0.0]]


def test_a_damaged_whitening_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    path = folder / "embedder.safetensors"
    with pytest.raises(CheckpointError) as missing:
        read_whitening(folder)
    assert missing.value.detail.startswith("model/embedder.safetensors cannot be read: FileNotFoundError: ")
    assert missing.value.hint == "make it again with `perfuse train kit`"
    save_file({"mean": np.zeros(2, np.float32)}, path)
    with pytest.raises(CheckpointError) as partial:
        read_whitening(folder)
    assert partial.value.detail == "model/embedder.safetensors cannot be read: KeyError: 'matrix'"
    save_file({"mean": np.zeros(2, np.float32), "matrix": np.zeros((2, 3), np.float64)}, path)
    with pytest.raises(CheckpointError) as shaped:
        read_whitening(folder)
    assert shaped.value.detail == (
        "model/embedder.safetensors holds mean (2,) float32 and matrix (2, 3) float64; "
        "expected [W] and [W, W], both float32"
    )
