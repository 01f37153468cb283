"""The recipe of code-small, run for moments: it leaves a model folder that the server can load."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from perfuse.models.text import load_text
from perfuse.pipelines.alone import AloneRun, run_alone
from perfuse.pipelines.text import TextModel, TextPipeline
from perfuse.requests import TextRequest
from perfuse.training.corpus.tasks import VERSION, split
from perfuse.training.recipes.code import CodeConfig, main


def moments(out: Path) -> CodeConfig:
    return CodeConfig(
        out, minutes=0.01, device="cpu", vocabulary=320, layers=1, batch_tokens=512, pool_rows=8, tokenizer_tasks=40
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
