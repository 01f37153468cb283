"""Text: a masked span is filled in a few forwards, each committing what the model is certain of."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from perfuse.diffusion import samplers
from perfuse.diffusion.guidance import guided
from perfuse.errors import CanvasTooLong, DeadlineExceeded, InvalidRequest, NothingToFill, UnknownModel
from perfuse.models.call import Call, Network
from perfuse.models.canvas import Canvas, lay_out, partial_text
from perfuse.models.tokenizer import MARKS, MASK, NULL, TextTokenizer
from perfuse.pipelines.contract import Demand, Run
from perfuse.requests import FinishReason, TextOutput, TextRequest, TextResult

ENTROPY_BOUND = 0.1
"""Nats committed per forward: .93 pass@1 at 5 forwards, .95 at 69 one by one (measured with 5 M parameters)."""
MOST_OUTPUTS = 16
MOST_STEPS = 4096
MOST_TEMPERATURE = 10.0
MOST_GUIDANCE = 20.0
LANGUAGES = ("python",)
_NEVER = [mark for mark in range(len(MARKS)) if mark != NULL]
"""Marks that no span may hold."""
_HOLE = re.compile(r"<mask(?::(\d{1,6}))?>")


@dataclass(frozen=True, slots=True)
class TextModel:
    """A network with its tokenizer.

    Attributes:
        limit: longest canvas in tokens.
        length: tokens of the span if a request does not say.
    """

    network: Network
    tokenizer: TextTokenizer
    limit: int
    length: int

    @property
    def name(self) -> str:
        """`model@version`."""
        return self.network.name


@dataclass(slots=True)
class _Fill:
    """One output while it is filled."""

    index: int
    tokens: Tensor
    certainty: Tensor
    steps: int = 0
    forwards: int = 0
    late: bool = False

    @property
    def masked(self) -> Tensor:
        return self.tokens == MASK


class TextPipeline:
    """Fills text with one of the given models.

    Args:
        models: by name without version; the first is the default.
    """

    def __init__(self, models: Mapping[str, TextModel]) -> None:
        self._models = dict(models)

    def estimate(self, request: TextRequest) -> Sequence[Demand]:
        """See `Pipeline.estimate`. Raises InvalidRequest, CanvasTooLong, NothingToFill, UnknownModel."""
        _check(request)
        model = self._model(request)
        canvas = self._canvas(model, request)
        rows = _most_steps(request, canvas) * request.n
        kind = f"text/{_sampler(request)}"
        demands = [Demand(model.network, model.network.key(_call(model, canvas, None)), rows, kind)]
        if request.guidance != 1.0:
            bare = self._canvas(model, replace(request, prompt=""))
            demands.append(Demand(model.network, model.network.key(_call(model, bare, None)), rows, kind))
        return demands

    async def run(self, request: TextRequest, run: Run) -> TextResult:
        """See `Pipeline.run`."""
        model = self._model(request)
        canvas = self._canvas(model, request)
        bare = self._canvas(model, replace(request, prompt="")) if request.guidance != 1.0 else None
        most = _most_steps(request, canvas)
        fills = [
            _Fill(i, torch.full((canvas.length,), MASK), torch.zeros(canvas.length, dtype=torch.float64))
            for i in range(request.n)
        ]
        open_fills = fills
        for step in range(most):
            try:
                await self._step(model, request, run, (canvas, bare), open_fills, step, most)
            except DeadlineExceeded:
                if step == 0:
                    raise
                break
            open_fills = [fill for fill in open_fills if bool(fill.masked.any())]
            shown = open_fills[0] if open_fills else fills[0]
            in_time = run.report(
                step + 1,
                min(most, _steps_left(shown, step + 1)),
                canvas=lambda shown=shown: _preview(model, request, shown),
            )
            if not open_fills or not in_time:
                break
        return TextResult(model=model.name, outputs=tuple(_output(model, request, fill) for fill in fills))

    async def _step(
        self,
        model: TextModel,
        request: TextRequest,
        run: Run,
        canvases: tuple[Canvas, Canvas | None],
        fills: Sequence[_Fill],
        step: int,
        most: int,
    ) -> None:
        canvas, bare = canvases
        calls = [_call(model, canvas, fill.tokens) for fill in fills]
        if bare is not None:
            calls += [_call(model, bare, fill.tokens) for fill in fills]
        outputs = await run.forward(*calls)
        for i, fill in enumerate(fills):
            logits = outputs[i]["logits"][canvas.start : canvas.end]
            if bare is not None:
                unconditional = outputs[len(fills) + i]["logits"][bare.start : bare.end]
                logits = guided(logits, unconditional, request.guidance)
            _commit(request, run, fill, logits, step, most)
            fill.steps += 1
            fill.forwards += 1 if bare is None else 2

    def _model(self, request: TextRequest) -> TextModel:
        if request.model is None:
            return next(iter(self._models.values()))
        name = request.model.partition("@")[0]
        model = self._models.get(name)
        if model is None or request.model not in (name, model.name):
            loaded = ", ".join(known.name for known in self._models.values())
            raise UnknownModel(
                f"no text model {request.model!r} is loaded; loaded are {loaded}",
                field="/model",
                hint="leave out `model` for the default, or see GET /models",
            )
        return model

    def _canvas(self, model: TextModel, request: TextRequest) -> Canvas:
        prefix, suffix, asked = _parts(request)
        prompt, before, after = model.tokenizer.encode_batch([request.prompt, prefix, suffix])
        used = len(prompt) + len(before) + len(after) + 3
        length = asked if asked is not None else min(model.length, model.limit - used)
        if length < 1 or used + length > model.limit:
            raise CanvasTooLong(
                f"the canvas has {used + max(length, 1)} tokens ({used} given, {max(length, 1)} to fill); "
                f"model {model.name!r} takes at most {model.limit}",
                field="/prompt" if asked is None else "/length",
                hint="shorten prompt, prefix and suffix, or ask for fewer tokens",
            )
        return lay_out(prompt, before, after, length)


def _check(request: TextRequest) -> None:
    ranges: tuple[tuple[str, float | None, float, float], ...] = (
        ("n", request.n, 1, MOST_OUTPUTS),
        ("steps", request.steps, 1, MOST_STEPS),
        ("length", request.length, 1, 1_000_000),
        ("temperature", request.temperature, 0.0, MOST_TEMPERATURE),
        ("guidance", request.guidance, 0.0, MOST_GUIDANCE),
    )
    for name, value, least, most in ranges:
        if value is not None and not least <= value <= most:
            raise InvalidRequest(
                f"{name} is {value}; expected a number from {least:g} to {most:g}",
                field=f"/{name}",
                hint=f"leave out `{name}` for its default",
            )
    if request.language not in LANGUAGES:
        raise InvalidRequest(
            f"language {request.language!r} is not served; expected one of {', '.join(LANGUAGES)}", field="/language"
        )


def _parts(request: TextRequest) -> tuple[str, str, int | None]:
    """Prefix, suffix and the asked length, from the fields or from the template."""
    if request.template is None:
        return request.prefix, request.suffix, request.length
    if request.prefix or request.suffix:
        raise InvalidRequest(
            "a template came together with a prefix or suffix; expected one or the other",
            field="/template",
            hint="write the prefix and suffix around <mask> in the template",
        )
    holes = list(_HOLE.finditer(request.template))
    if not holes:
        raise NothingToFill(
            "the template holds no <mask>; expected exactly one",
            field="/template",
            hint="write <mask> or <mask:24> where text is to be filled in",
        )
    if len(holes) > 1:
        raise InvalidRequest(
            f"the template holds {len(holes)} masks; expected exactly one",
            field="/template",
            hint="send one request per mask",
        )
    (hole,) = holes
    length = int(hole.group(1)) if hole.group(1) is not None else request.length
    if length == 0:
        raise NothingToFill("the mask has 0 tokens; expected at least 1", field="/template", hint="write <mask:24>")
    return request.template[: hole.start()], request.template[hole.end() :], length


def _sampler(request: TextRequest) -> str:
    return "entropy" if request.sampler == "auto" else request.sampler


def _most_steps(request: TextRequest, canvas: Canvas) -> int:
    """Each step commits at least one position, so more steps than positions are never needed."""
    return canvas.length if request.steps is None else min(request.steps, canvas.length)


def _call(model: TextModel, canvas: Canvas, span: Tensor | None) -> Call:
    tokens = torch.tensor(canvas.ids)
    if span is not None:
        tokens[canvas.start : canvas.end] = span
    return Call(model.network, {"tokens": tokens})


def _commit(request: TextRequest, run: Run, fill: _Fill, logits: Tensor, step: int, most: int) -> None:
    """Commit the positions the sampler chooses in this step."""
    positions = fill.masked.nonzero().squeeze(1)
    uniforms = None
    if request.temperature > 0:
        uniforms = run.uniform(f"token/{fill.index}", step, positions)
    allowed = logits[positions].cpu().float()
    allowed[:, _NEVER] = -1e9  # finite: entropy multiplies it by a probability of 0
    guess = samplers.predict(allowed, uniforms, request.temperature)
    left = most - step
    sampler = _sampler(request)
    if left == 1:
        chosen = torch.ones_like(guess.tokens, dtype=torch.bool)
    elif sampler == "entropy":
        least = _at_least(request, positions, left)
        chosen = samplers.entropy_bounded(guess.entropy, ENTROPY_BOUND, at_least=least, window=samplers.WINDOW)
        chosen = samplers.closed(chosen, guess.tokens == NULL)
    elif sampler == "threshold":
        chosen = samplers.threshold(guess.confidence, at_least=_at_least(request, positions, left))
    elif sampler == "low_confidence":
        chosen = samplers.most_confident(guess.confidence, -(-len(positions) // left))
    else:
        order = run.uniform(f"reveal/{fill.index}", step, positions)
        chosen = samplers.ancestral(order, t=left / most, s=(left - 1) / most)
    at = positions[chosen]
    fill.tokens[at] = guess.tokens[chosen]
    fill.certainty[at] = guess.confidence[chosen].double()


def _at_least(request: TextRequest, positions: Tensor, left: int) -> int:
    """With a step budget the rest must fit into the steps left."""
    return 1 if request.steps is None else -(-len(positions) // left)


def _steps_left(fill: _Fill, done: int) -> int:
    """Steps in all if the rest commits at the rate so far."""
    masked = int(fill.masked.sum())
    committed = len(fill.tokens) - masked
    return done + -(-masked * done // max(committed, 1))


def _preview(model: TextModel, request: TextRequest, fill: _Fill) -> str:
    prefix, suffix, _ = _parts(request)
    return prefix + partial_text(model.tokenizer, fill.tokens.tolist()) + suffix


def _output(model: TextModel, request: TextRequest, fill: _Fill) -> TextOutput:
    ids = fill.tokens.tolist()
    masked = ids.count(MASK)
    reason: FinishReason = "complete"
    if masked:
        reason = "deadline"
    elif NULL not in ids:
        reason = "length"
    filled = model.tokenizer.decode([token for token in ids if token != MASK])
    prefix, suffix, _ = _parts(request)
    settled = max(len(ids) - masked, 1)
    return TextOutput(
        text=prefix + filled + suffix,
        fill=filled,
        finish_reason=reason,
        confidence=float(fill.certainty.sum()) / settled,
        steps_done=fill.steps,
        forwards=fill.forwards,
        token_ids=tuple(ids),
    )
