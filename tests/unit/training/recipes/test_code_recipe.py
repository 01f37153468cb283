"""The recipe of code-small, run for moments: it leaves a model folder that the server can load."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from perfuse.errors import CheckpointError, InvalidRequest
from perfuse.models.text import digest, load_text, read_config, read_weights
from perfuse.models.unified import UnifiedScoreNetwork
from perfuse.pipelines.alone import AloneRun, run_alone
from perfuse.pipelines.text import TextModel, TextPipeline
from perfuse.requests import TextRequest
from perfuse.training.corpus.tasks import VERSION, split
from perfuse.training.recipes.code import CodeConfig, begin_with, main, trainer


def moments(out: Path) -> CodeConfig:
    return CodeConfig(
        out, minutes=0.01, device="cpu", vocabulary=320, layers=1, batch_tokens=256, pool_rows=8, tokenizer_tasks=40
    )


def test_a_trained_folder_holds_a_model_that_fills_text(tmp_path: Path) -> None:
    assert main(moments(tmp_path)) == tmp_path
    model = load_text(tmp_path)
    assert model.config.label == "code-small@1"
    assert model.config.baseline is False
    assert model.config.training["generator"] == VERSION
    assert model.config.training["split"] == split().digest
    assert model.config.training["seconds"] >= 1
    served = TextModel(model.network, model.tokenizer, model.config.limit, model.config.length)
    result = run_alone(TextPipeline({"code-small": served}), TextRequest(prompt="Add.", length=4), run=AloneRun(0))
    assert result.outputs[0].forwards >= 1
    main(replace(moments(tmp_path), resume=True, minutes=0.02))
    assert load_text(tmp_path).config.training["seconds"] >= 1


def test_the_twin_is_causal_and_marked_as_a_baseline(tmp_path: Path) -> None:
    main(replace(moments(tmp_path), twin="ar"))
    model = load_text(tmp_path)
    assert model.config.label == "code-small-ar@1"
    assert model.config.baseline is True
    assert model.config.network.causal is True


def grown(out: Path, folder: Path) -> CodeConfig:
    (out / "grown").mkdir()
    (out / "grown" / "pairs.jsonl").write_text(
        '{"prompt": "Give the sum of both.", "code": "def f(a, b):\\n    return a\\n"}\n'
    )
    return replace(moments(out / "grown"), grown_from=folder, layers=2)


def test_a_grown_model_says_at_first_what_it_was_grown_from(tmp_path: Path) -> None:
    main(moments(tmp_path))
    shape = read_config(tmp_path).network
    small, tokens = UnifiedScoreNetwork(shape), torch.arange(40)[None]
    small.load_state_dict(read_weights(tmp_path, small, torch.float32))
    large = UnifiedScoreNetwork(replace(shape, layers=3))
    begin_with(large, tmp_path)
    assert torch.equal(large(tokens), small(tokens))


def test_a_grown_model_is_the_next_version_and_names_its_origin(tmp_path: Path) -> None:
    main(moments(tmp_path))
    made = load_text(main(grown(tmp_path, tmp_path)))
    assert (made.config.label, made.config.network.layers) == ("code-small@2", 2)
    assert made.config.training["grown_from"] == dict(load_text(tmp_path).config.training)


def test_a_model_is_taught_its_own_answers(tmp_path: Path) -> None:
    main(moments(tmp_path))
    config = replace(grown(tmp_path, tmp_path), layers=1, answers=3)
    (config.out / "answers.jsonl").write_text('{"prompt": "Say one.", "code": "def one():\\n    return 1\\n"}\n')
    made = load_text(main(config))
    assert made.config.training["answers"] == digest(config.out / "answers.jsonl")
    with pytest.raises(InvalidRequest, match=r"^3 answers are to be taught, and no model is named that gives them$"):
        trainer(replace(config, grown_from=None))


def test_a_model_does_not_shrink(tmp_path: Path) -> None:
    main(moments(tmp_path))
    with pytest.raises(CheckpointError, match="or the same with fewer layers$"):
        trainer(replace(grown(tmp_path, tmp_path), layers=2, twin="ar"))


def test_the_same_seed_gives_the_same_losses(tmp_path: Path) -> None:
    def losses(folder: Path) -> list[float]:
        made, _ = trainer(moments(folder))
        batches = made.batches()
        return [made.step(next(batches)) for _ in range(50)]

    first = losses(tmp_path / "a")
    assert first == pytest.approx(losses(tmp_path / "b"), abs=1e-3)
    assert first[-1] < first[0]
