"""Vectors of prompts and bits of texts, as the learning side reads them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from adapting import WIDTH, World, phrases
from perfuse.errors import CanvasTooLong, InvalidRequest, UnknownModel
from perfuse.models.call import Call
from perfuse.models.canvas import given
from perfuse.models.tokenizer import NULL
from perfuse.pipelines.reading import EmbeddingPipeline, ScorePipeline
from perfuse.requests import EmbedRequest, EmbedResult, ScoreRequest, ScoreResult

PROMPT, OTHER = phrases(2, seed=1)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "store")
    made.open_tables()
    yield made
    made.close()


def embedding(world: World) -> EmbeddingPipeline:
    return EmbeddingPipeline({"tiny": world.model(), "kitless": world.model()}, {"tiny": world.encoder})


def score(world: World, request: ScoreRequest) -> ScoreResult:
    result, _ = world.run(ScorePipeline({"tiny": world.model()}), request)
    assert isinstance(result, ScoreResult)
    return result


def test_vectors_are_those_that_requests_are_routed_by(world: World) -> None:
    prompts = tuple(phrases(20, seed=5))
    result, run = world.run(embedding(world), EmbedRequest(prompts=prompts))
    assert isinstance(result, EmbedResult)
    assert (result.model, result.embedder, run.forwards) == ("tiny@1-untrained", "e", 20)
    vectors = np.stack([np.frombuffer(data, "<f4") for data in result.vectors])
    assert vectors.shape == (20, WIDTH)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)
    np.testing.assert_allclose(vectors, [world.vector(prompt) for prompt in prompts], atol=1e-5)


@pytest.mark.parametrize("count", [0, 65])
def test_the_number_of_prompts_is_bounded(world: World, count: int) -> None:
    with pytest.raises(InvalidRequest) as caught:
        embedding(world).estimate(EmbedRequest(prompts=("a",) * count))
    assert caught.value.detail == f"{count} prompts came; expected 1 to 64"
    assert (caught.value.field, caught.value.hint) == ("/prompts", "send them in several requests")


def test_a_prompt_longer_than_the_model_takes_is_named(world: World) -> None:
    with pytest.raises(CanvasTooLong) as caught:
        embedding(world).estimate(EmbedRequest(prompts=("a", "?" * 127)))
    assert caught.value.detail == "the row of the prompt has 129 tokens; model 'tiny@1-untrained' takes at most 128"
    assert (caught.value.field, caught.value.hint) == ("/prompts/1", "shorten the prompt")


def test_models_without_a_learning_kit_have_no_vectors(world: World) -> None:
    with pytest.raises(UnknownModel) as caught:
        embedding(world).estimate(EmbedRequest(prompts=("a",), model="kitless"))
    assert caught.value.detail == "no text model 'kitless' is loaded; loaded are tiny@1-untrained"


def test_bits_are_the_loss_of_settled_text_in_training(world: World) -> None:
    request = ScoreRequest(prompt=PROMPT, prefix="keep a ", suffix=" list", text="sum of words")
    found = score(world, request)
    parts = [request.prompt, request.prefix, request.suffix, request.text]
    prompt, prefix, suffix, text = world.read.tokenizer.encode_batch(parts)
    head = given(prompt, prefix, suffix)
    nats = 0.0
    for i, token in enumerate([*text, NULL]):  # one token at a time, with nothing behind it
        row = torch.tensor([*head, *text[:i]])
        order = torch.tensor([*[0] * len(head), *range(1, i + 1)])
        (output,) = world.read.network.forward([Call(world.read.network, {"tokens": row, "order": order})])
        nats += float(functional.cross_entropy(output["logits"][-1:].float(), torch.tensor([token])))
    assert found.tokens == len(text) + 1
    assert found.bits == pytest.approx(nats / math.log(2), rel=1e-4)


def test_an_empty_text_costs_its_end(world: World) -> None:
    found = score(world, ScoreRequest(prompt=PROMPT))
    assert found.tokens == 1
    assert found.bits > 0


def test_bits_of_an_adaptation_are_asked_for_by_id(world: World) -> None:
    record = world.teach(PROMPT, state="candidate")
    request = ScoreRequest(prompt=OTHER, text="sum of words")
    assert score(world, request) != score(world, ScoreRequest(prompt=OTHER, text="sum of words", adaptation=record.id))
    with pytest.raises(InvalidRequest, match=r"^no adaptation 'ad_0{32}' serves this tenant and model$"):
        score(world, ScoreRequest(text="a", adaptation="ad_" + "0" * 32))


def test_bits_as_served_are_routed_like_a_text(world: World) -> None:
    record = world.teach(PROMPT)
    served = score(world, ScoreRequest(prompt=PROMPT, text="sum", adaptation="auto"))
    assert served == score(world, ScoreRequest(prompt=PROMPT, text="sum", adaptation=record.id))
    elsewhere = score(world, ScoreRequest(prompt=OTHER, text="sum", adaptation="auto"))
    assert elsewhere == score(world, ScoreRequest(prompt=OTHER, text="sum"))


def test_a_text_longer_than_the_model_takes_is_refused(world: World) -> None:
    with pytest.raises(CanvasTooLong) as caught:
        ScorePipeline({"tiny": world.model()}).estimate(ScoreRequest(text="?" * 125))
    assert caught.value.detail == "the canvas has 129 tokens; model 'tiny@1-untrained' takes at most 128"
    assert (caught.value.field, caught.value.hint) == ("/text", "shorten prompt, prefix, suffix or text")
