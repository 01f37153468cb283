"""Every pipeline against the contract of `perfuse.pipelines.contract`."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from adapting import encoder_of, tiny_text
from conformance import CHECKS, Case, Wrap
from perfuse.diffusion.samplers import RULES
from perfuse.models.planner import PlannerConfig, untrained_planner
from perfuse.models.text import TextConfig, untrained_text
from perfuse.models.tokenizer import TextTokenizer
from perfuse.models.unified import DiffusionConfig
from perfuse.pipelines.reading import EmbeddingPipeline, ScorePipeline
from perfuse.pipelines.text import TextModel, TextPipeline
from perfuse.pipelines.trajectory import TrajectoryPipeline
from perfuse.requests import EmbedRequest, Goal, ScoreRequest, TextRequest, TrajectoryRequest
from scripted import ScriptedNetwork, ScriptedPipeline


@cache
def tiny_tokenizer() -> TextTokenizer:
    return TextTokenizer.train(["def double(values): return [value * 2 for value in values]"] * 4, 300)


def text_pipeline(wrap: Wrap) -> TextPipeline:
    tokenizer = tiny_tokenizer()
    network = DiffusionConfig(tokenizer.size, width=32, layers=2, heads=2, condition=16, max_length=128)
    config = TextConfig("tiny", 1, network, limit=128, length=12, tokenizer="", training={})
    loaded = untrained_text(config, tokenizer)
    return TextPipeline({"tiny": TextModel(wrap(loaded.network), tokenizer, limit=128, length=12)})


def embedding_pipeline(wrap: Wrap) -> EmbeddingPipeline:
    read = tiny_text()
    encoder = replace(encoder_of(read), network=wrap(read.network))
    model = TextModel(encoder.network, read.tokenizer, limit=128, length=8)
    return EmbeddingPipeline({"tiny": model}, {"tiny": encoder})


def score_pipeline(wrap: Wrap) -> ScorePipeline:
    read = tiny_text()
    return ScorePipeline({"tiny": TextModel(wrap(read.network), read.tokenizer, limit=128, length=8)})


def trajectory_pipeline(wrap: Wrap) -> TrajectoryPipeline:
    config = PlannerConfig(
        environment="maze2d-umaze",
        tokens=8,
        stride=6,
        dt=0.01,
        width=16,
        blocks=1,
        centre=(2.0, 2.0, 0.0, 0.0),
        scale=(1.5, 1.5, 5.0, 5.0),
        name="tiny-umaze",
    )
    planner = untrained_planner(config, seed=0)
    return TrajectoryPipeline([replace(planner, network=wrap(planner.network))])


def plan(seed: int, candidates: int, steps: int) -> TrajectoryRequest:
    return TrajectoryRequest(
        environment="maze2d-umaze",
        state=(3.0, 1.0, 0.0, 0.0),
        goal=Goal(position=(1.0, 1.0)),
        candidates=candidates,
        steps=steps,
        seed=seed,
    )


CASES = [
    Case(
        "scripted",
        lambda wrap: ScriptedPipeline(wrap(ScriptedNetwork())),  # type: ignore[arg-type]
        [
            TextRequest(prompt="a", steps=6),
            TextRequest(prompt="b", steps=3, guidance=2.0),
            TextRequest(prompt="c", steps=4, length=16),
        ],
    ),
    Case(
        "text",
        text_pipeline,
        [
            TextRequest(prompt="double", seed=1, temperature=0.8),
            TextRequest(prefix="def ", suffix=":\n", length=7, guidance=1.7, steps=4, sampler="low_confidence"),
            TextRequest(prompt="a", n=3, temperature=1.0, steps=3, sampler="ancestral", seed=9),
            TextRequest(prompt="a longer prompt than the others", sampler="threshold", length=40, steps=9),
            TextRequest(prompt="a", regex="[a-d]{3,9}( = [0-9]+)?", length=12, temperature=1.0, seed=4),
            TextRequest(prompt="b", schema='{"enum": ["double", "sum", 12]}', length=20, sampler="entropy", steps=4),
        ],
    ),
    Case(
        "samplers",
        text_pipeline,
        [
            TextRequest(
                prompt=rule,
                sampler=rule,
                temperature=0.8,
                guidance=2.0 if rule == "remdm_cap" else 1.0,
                seed=4,
                length=9,
            )
            for rule in RULES
        ],
    ),
    Case("trajectory", trajectory_pipeline, [plan(1, 5, 4), plan(2, 1, 8), plan(3, 16, 2)]),
    Case(
        "embedding",
        embedding_pipeline,
        [
            EmbedRequest(prompts=("double", "every value of a list, " * 12, "sum")),
            EmbedRequest(prompts=("",)),
            EmbedRequest(prompts=("reverse words",) * 9),
        ],
    ),
    Case(
        "score",
        score_pipeline,
        [
            ScoreRequest(prompt="double", text="value"),
            ScoreRequest(prefix="keep ", suffix=" list", text="a " * 20),
            ScoreRequest(prompt="double", text="value of words"),
        ],
        awaits=1,
    ),
]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_pipeline(case: Case, check: str) -> None:
    CHECKS[check](case)
