"""A calibration is made of reserved tasks, or says why it cannot be; the shipped one is the shipped model's."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from perfuse import sandbox
from perfuse.adaptation.embedding import read_whitening
from perfuse.adaptation.signals import Trace
from perfuse.adaptation.uncertainty import CALIBRATION_FILE, Novelty, UncertaintyEstimator, read_calibration
from perfuse.cli.app import app
from perfuse.errors import InvalidRequest
from perfuse.models.text import TextConfig, load_text, save_text
from perfuse.models.tokenizer import TextTokenizer
from perfuse.models.unified import DiffusionConfig, UnifiedScoreNetwork
from perfuse.requests import TextRequest
from perfuse.store.kit import read_kit
from perfuse.training import calibration
from perfuse.training.calibration import REFERENCE_BYTES, Observed, make_calibration
from perfuse.training.judging import passes
from perfuse.training.kit import make_kit, reference_prompts

SHIPPED = Path(__file__).parents[3] / "service" / "perfuse" / "pretrained" / "code-small"
confined = pytest.mark.skipif(sandbox.availability().tier == "none", reason="this kernel cannot confine")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    tokenizer = TextTokenizer.train(reference_prompts(50), 300)
    shape = DiffusionConfig(tokenizer.size, width=16, layers=1, heads=2, condition=8)
    torch.manual_seed(0)
    network = UnifiedScoreNetwork(shape)
    save_text(tmp_path / "tiny", TextConfig("tiny", 1, shape, 256, 6, "", {}), network.state_dict(), tokenizer)
    return tmp_path / "tiny"


@confined
def test_a_model_that_is_always_wrong_cannot_be_calibrated(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_kit(model, prompts=30, anchors=5)
    monkeypatch.setattr(calibration, "REFERENCE_BYTES", 16 * 20)
    with pytest.raises(InvalidRequest) as caught:
        make_calibration(model, items=10)
    assert caught.value.detail == ("0 of 10 calibration items are right; expected at least 24 for a threshold at 0.04")
    assert not (model / CALIBRATION_FILE).exists()


def test_a_model_without_a_kit_cannot_be_calibrated(model: Path) -> None:
    result = CliRunner().invoke(app, ["train", "calibration", "--model", str(model)])
    assert isinstance(result.exception, InvalidRequest)
    assert result.exception.detail == "tiny has no learning kit"
    assert result.exception.hint == "make one with `perfuse train kit`"


@confined
def test_what_passes_is_what_the_tests_say() -> None:
    tasks = calibration.calibration_tasks(3)
    assert passes(tasks, [task.code for task in tasks]) == [True] * 3
    assert passes(tasks, ["", tasks[0].code, "def"]) == [False] * 3


def test_an_answer_comes_with_how_it_came_to_be(model: Path) -> None:
    loaded = load_text(model)
    answer = Observed(loaded)
    output, trace = answer(TextRequest(prompt="Return the sum."))
    assert isinstance(trace, Trace)
    assert len(trace.tokens) == len(trace.certainty) == len(trace.entropy) == len(trace.revealed)
    assert trace.steps == output.steps_done
    assert len(trace.told_entropy) == trace.steps
    assert ((trace.revealed >= 0) & (trace.revealed < trace.steps)).all()
    assert float(trace.certainty.sum()) / len(trace.certainty) == pytest.approx(output.confidence)
    assert trace.state is not None
    assert trace.state.shape == (16,)
    assert (output.p_correct, output.uncertainty) == (None, None)
    assert answer(TextRequest(prefix="def f():"))[1].state is None


def test_novelty_of_the_shipped_model_knows_its_own_sentences() -> None:
    kit = read_kit(SHIPPED)
    assert kit is not None
    answer = Observed(load_text(SHIPPED))

    def states(prompts: list[str]) -> list[np.ndarray[tuple[int], np.dtype[np.float32]]]:
        traces = [answer(TextRequest(prompt=prompt, length=1))[1] for prompt in prompts]
        return [trace.state for trace in traces if trace.state is not None]

    prompts = reference_prompts(80)
    novelty = Novelty.of(read_whitening(SHIPPED), np.stack(states(prompts[:60])))
    own = [novelty.of_state(state) for state in states(prompts[60:])]
    (strange,) = map(novelty.of_state, states(["Draft a polite e-mail to my landlord regarding jazz."]))
    assert strange > max(own)


@pytest.mark.skipif(not (SHIPPED / CALIBRATION_FILE).exists(), reason="the shipped model has no calibration yet")
def test_the_shipped_calibration_is_the_shipped_models() -> None:
    kit = read_kit(SHIPPED)
    assert kit is not None
    found = read_calibration(SHIPPED, kit.base, read_whitening(SHIPPED))
    assert found is not None
    assert len(found.doubts) == len(found.novelties) == len(found.ranks) >= 1000
    label = re.escape(load_text(SHIPPED).config.label)
    assert re.fullmatch(rf"{len(found.doubts)} right answers of {label} to 1\d\d\d validation tasks", found.described)
    assert len(found.novelty.references) == REFERENCE_BYTES // kit.embedder.width
    assert (SHIPPED / CALIBRATION_FILE).stat().st_size < 100_000
    estimator = UncertaintyEstimator(found)
    for prompt, novel in (
        ("Given numbers, keep those that are even, double each one and return them sorted.", False),
        ("Who wrote about jazz?", True),
    ):
        output, trace = Observed(load_text(SHIPPED))(TextRequest(prompt=prompt))
        scored = estimator.score(trace)
        assert scored is not None
        assert scored.should_evolve == novel, (prompt, scored)
        chance = estimator.p_correct(trace)
        assert chance is not None
        assert (chance < 0.5) == novel, output.text
