"""What outputs say of themselves: only where a calibration holds for the request, and without changing the text."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from perfuse.adaptation.signals import Trace
from perfuse.adaptation.uncertainty import Calibration, Novelty, Seen, UncertaintyEstimator
from perfuse.adaptation.whitening import Whitening
from perfuse.diffusion.samplers import RULES
from perfuse.models.text import LoadedText, TextConfig, untrained_text
from perfuse.models.tokenizer import NULL, TextTokenizer
from perfuse.models.unified import DiffusionConfig
from perfuse.pipelines.alone import AloneRun, run_alone
from perfuse.pipelines.text import TextModel, TextPipeline
from perfuse.requests import TextRequest, TextResult

WIDTH = 16
PROMPT = TextRequest(prompt="Double every value.", length=12)


@pytest.fixture(scope="module")
def model() -> LoadedText:
    tokenizer = TextTokenizer.train(["def double(values):\n    return values\n", "Double every value."] * 4, 300)
    shape = DiffusionConfig(tokenizer.size, width=WIDTH, layers=1, heads=2, condition=8)
    return untrained_text(TextConfig("m", 1, shape, 128, 12, "", {}), tokenizer)


@pytest.fixture(scope="module")
def estimator() -> UncertaintyEstimator:
    rng = np.random.default_rng(0)
    states = rng.normal(size=(40, WIDTH)).astype(np.float32)
    novelty = Novelty.of(Whitening.of(states), states)
    known = [Seen(float(doubt), 1.0, right=True) for doubt in rng.exponential(1.0, 50)]
    unknown = [Seen(1.0, 3.0, right=False)] * 10
    return UncertaintyEstimator(Calibration.of("b", "made up", known, [], unknown, novelty))


def served(model: LoadedText, estimator: UncertaintyEstimator | None) -> TextModel:
    return TextModel(model.network, model.tokenizer, model.config.limit, model.config.length, None, estimator)


def fill(model: LoadedText, estimator: UncertaintyEstimator | None, request: TextRequest) -> TextResult:
    return run_alone(TextPipeline({"m": served(model, estimator)}), request, run=AloneRun(request.seed))


def test_outputs_say_how_sure_they_are(model: LoadedText, estimator: UncertaintyEstimator) -> None:
    for output in fill(model, estimator, replace(PROMPT, n=2, temperature=1.0)).outputs:
        assert output.uncertainty is not None
        assert output.p_correct is not None
        assert output.uncertainty.calibrated_on == "made up"
        assert output.uncertainty.should_evolve  # an untrained network: every token is a guess
        assert output.uncertainty.combined == max(
            output.uncertainty.confidence_quantile, output.uncertainty.novelty_quantile
        )
        assert 0.0 < output.p_correct <= 1.0


@pytest.mark.parametrize("sampler", [None, *RULES])
def test_a_calibration_changes_no_text(model: LoadedText, estimator: UncertaintyEstimator, sampler: str | None) -> None:
    request = replace(PROMPT, sampler=sampler or "auto", temperature=0.7, seed=3)
    said, bare = (fill(model, one, request).outputs[0] for one in (estimator, None))
    assert said.uncertainty is not None
    assert replace(said, p_correct=None, uncertainty=None) == bare


@pytest.mark.parametrize(
    "request_",
    [
        TextRequest(length=8),
        replace(PROMPT, prefix="def f():"),
        replace(PROMPT, template="<mask>\n", length=8),
        replace(PROMPT, regex="[ab]{2}"),
        replace(PROMPT, schema='{"type": "null"}'),
    ],
)
def test_nothing_is_said_where_no_calibration_holds(
    model: LoadedText, estimator: UncertaintyEstimator, request_: TextRequest
) -> None:
    (output,) = fill(model, estimator, request_).outputs
    assert (output.p_correct, output.uncertainty) == (None, None)


def test_a_trace_has_what_happened_to_each_token(model: LoadedText) -> None:
    traces: list[Trace] = []
    pipeline = TextPipeline({"m": served(model, None)}, observe=traces.append)
    result = run_alone(pipeline, replace(PROMPT, n=2, sampler="low_confidence", steps=4), run=AloneRun(0))
    assert len(traces) == 2
    for output, trace in zip(result.outputs, traces, strict=True):
        assert trace.tokens.tolist() == [*output.token_ids][: len(trace.tokens)]
        assert set(output.token_ids[len(trace.tokens) :]) <= {NULL}
        assert set(trace.revealed.tolist()) <= set(range(4))
        assert len(trace.told_entropy) == trace.steps == output.steps_done
        assert ((trace.entropy > 0) & (trace.entropy < np.log(300))).all()
        assert ((trace.certainty > 0) & (trace.certainty <= 1)).all()
    assert traces[0].state is not None
    assert traces[1].state is not None
    np.testing.assert_allclose(traces[0].state, traces[1].state, atol=1e-2)


def test_the_state_is_that_of_the_prompt_alone_whatever_window_stands_behind_it(model: LoadedText) -> None:
    traces: list[Trace] = []
    pipeline = TextPipeline({"m": served(model, None)}, observe=traces.append)
    for request in (PROMPT, replace(PROMPT, length=1), replace(PROMPT, prompt="Double every number.")):
        run_alone(pipeline, request, run=AloneRun(0))
    states = [torch.tensor(trace.state) for trace in traces]
    torch.testing.assert_close(states[0], states[1], atol=1e-2, rtol=1e-2)
    assert float((states[0] - states[2]).abs().max()) > 0.02
