"""What the learning side reads from text models: vectors of prompts, and how well a text fills a request."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch

from perfuse.adaptation.embedding import Encoder
from perfuse.errors import CanvasTooLong, InvalidRequest
from perfuse.models.call import Call
from perfuse.models.canvas import given
from perfuse.models.tokenizer import NULL
from perfuse.pipelines import adapted
from perfuse.pipelines.contract import Demand, Run
from perfuse.pipelines.text import TextModel, named
from perfuse.requests import EmbedRequest, EmbedResult, ScoreRequest, ScoreResult

MOST_PROMPTS = 64
"""Prompts of one request."""


class EmbeddingPipeline:
    """Vectors of prompts, as requests are compared by.

    Args:
        models: by name without version; the first is the default.
        encoders: of those models that have a learning kit, by the same name.
    """

    def __init__(self, models: Mapping[str, TextModel], encoders: Mapping[str, Encoder]) -> None:
        self._models = {name: models[name] for name in encoders}
        self._encoders = dict(encoders)

    def estimate(self, request: EmbedRequest) -> Sequence[Demand]:
        """See `Pipeline.estimate`. Raises InvalidRequest, CanvasTooLong, UnknownModel."""
        if not 1 <= len(request.prompts) <= MOST_PROMPTS:
            raise InvalidRequest(
                f"{len(request.prompts)} prompts came; expected 1 to {MOST_PROMPTS}",
                field="/prompts",
                hint="send them in several requests",
            )
        model = named(self._models, request.model)
        calls = self._calls(model, request)
        for i, call in enumerate(calls):
            if (length := len(call.inputs["tokens"])) > model.limit:
                raise CanvasTooLong(
                    f"the row of the prompt has {length} tokens; model {model.name!r} takes at most {model.limit}",
                    field=f"/prompts/{i}",
                    hint="shorten the prompt",
                )
        return [Demand(model.network, model.network.key(call), 1, "embedding") for call in calls]

    async def run(self, request: EmbedRequest, run: Run) -> EmbedResult:
        """See `Pipeline.run`."""
        model = named(self._models, request.model)
        encoder = self._encoder(model)
        calls = self._calls(model, request)
        outputs = await run.forward(*calls)
        vectors = [encoder.vector(call, output) for call, output in zip(calls, outputs, strict=True)]
        return EmbedResult(
            model=model.name,
            embedder=encoder.embedder.hash,
            vectors=tuple(vector.astype("<f4").tobytes() for vector in vectors),
        )

    def _calls(self, model: TextModel, request: EmbedRequest) -> list[Call]:
        encoder = self._encoder(model)
        return [encoder.call(prompt) for prompt in request.prompts]

    def _encoder(self, model: TextModel) -> Encoder:
        return self._encoders[model.name.partition("@")[0]]


class ScorePipeline:
    """How many bits a text costs as the fill of a request, told token by token.

    -log2 p(text, null) = -Σ log2 p(token i | given text, tokens before i): the loss of settled text in training
    (`training.losses.diffusion_step`), where each token sees the given text and what is settled before it.

    Args:
        models: by name without version; the first is the default.
    """

    def __init__(self, models: Mapping[str, TextModel]) -> None:
        self._models = dict(models)

    def estimate(self, request: ScoreRequest) -> Sequence[Demand]:
        """See `Pipeline.estimate`. Raises InvalidRequest, CanvasTooLong, UnknownModel."""
        adapted.check(request.adaptation)
        model = named(self._models, request.model)
        call, _ = _row(model, request)
        if (length := len(call.inputs["tokens"])) > model.limit:
            raise CanvasTooLong(
                f"the canvas has {length} tokens; model {model.name!r} takes at most {model.limit}",
                field="/text",
                hint="shorten prompt, prefix, suffix or text",
            )
        rows = 1 + adapted.calls(model.router, request.adaptation)
        return [Demand(model.network, model.network.key(call), rows, "score")]

    async def run(self, request: ScoreRequest, run: Run) -> ScoreResult:
        """See `Pipeline.run`."""
        model = named(self._models, request.model)
        call, start = _row(model, request)
        learned = await adapted.find(model.router, request.adaptation, request.prompt, run)
        if learned is not None:
            call = Call(call.network, call.inputs, adaptation=learned.adaptation)
        (output,) = await run.forward(call)
        targets = call.inputs["tokens"][start:]
        told = output["logits"][start - 1 : -1].float().cpu().log_softmax(dim=-1)
        nats = -told.gather(1, targets[:, None]).double().sum()
        return ScoreResult(model=model.name, bits=float(nats) / math.log(2), tokens=len(targets))


def _row(model: TextModel, request: ScoreRequest) -> tuple[Call, int]:
    """The settled row with the text and its null behind what is given, and where the text starts."""
    parts = [request.prompt, request.prefix, request.suffix, request.text]
    prompt, prefix, suffix, text = model.tokenizer.encode_batch(parts)
    head = given(prompt, prefix, suffix)
    tokens = torch.tensor((*head, *text, NULL))
    order = (torch.arange(len(tokens)) - len(head) + 1).clamp(min=0)
    return Call(model.network, {"tokens": tokens, "order": order}), len(head)
