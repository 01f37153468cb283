"""Text: a masked span is filled in a few forwards, each committing what the model is certain of."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from perfuse.adaptation.router import Router
from perfuse.diffusion.guidance import guided
from perfuse.diffusion.samplers import DiscreteSampler, Rule
from perfuse.errors import CanvasTooLong, DeadlineExceeded, InvalidRequest, NothingToFill, UnknownModel
from perfuse.models.call import Call, Network
from perfuse.models.canvas import Canvas, lay_out, partial_text, settled_text
from perfuse.models.lora import Adaptation
from perfuse.models.tokenizer import MASK, NULL, TextTokenizer, said
from perfuse.pipelines import adapted
from perfuse.pipelines.contract import Demand, Run
from perfuse.pipelines.filling import Fill, inputs, take, view
from perfuse.requests import FinishReason, TextOutput, TextRequest, TextResult

ENTROPY_BOUND = 0.1
"""Nats committed per forward: .93 pass@1 at 5 forwards, .95 at 69 one by one (measured with 5 M parameters)."""
DRAFT_BOUND = 3.0
"""Nats of entropy up to which a window is worth verifying."""
WINDOW = 16
"""Masked tokens a step works on."""
MOST_OUTPUTS = 16
MOST_STEPS = 4096
MOST_TEMPERATURE = 10.0
MOST_GUIDANCE = 20.0
LANGUAGES = ("python",)
_HOLE = re.compile(r"<mask(?::(\d{1,6}))?>")


@dataclass(frozen=True, slots=True)
class TextModel:
    """A network with its tokenizer.

    Attributes:
        limit: longest canvas in tokens.
        length: tokens of the span if a request does not say.
        router: finds what was learned for a request; None where nothing can be.
    """

    network: Network
    tokenizer: TextTokenizer
    limit: int
    length: int
    router: Router | None = None

    @property
    def name(self) -> str:
        """`model@version`."""
        return self.network.name


@dataclass(frozen=True, slots=True)
class _Task:
    """What all steps of a request have in common.

    Attributes:
        heads: what stands before the span, with the prompt and, where there is guidance, without it.
        most: steps.
    """

    model: TextModel
    request: TextRequest
    sampler: DiscreteSampler
    heads: tuple[Tensor, ...]
    adaptation: Adaptation | None
    most: int


class TextPipeline:
    """Fills text with one of the given models.

    Args:
        models: by name without version; the first is the default.
        window: masked tokens a step works on.
        bound: nats of entropy a step of "entropy" may commit.
        draft_bound: nats of entropy up to which "verified" drafts.
    """

    def __init__(
        self,
        models: Mapping[str, TextModel],
        *,
        window: int = WINDOW,
        bound: float = ENTROPY_BOUND,
        draft_bound: float = DRAFT_BOUND,
    ) -> None:
        self._models = dict(models)
        self._window, self._bound, self._draft_bound = window, bound, draft_bound

    def estimate(self, request: TextRequest) -> Sequence[Demand]:
        """See `Pipeline.estimate`. Raises InvalidRequest, CanvasTooLong, NothingToFill, UnknownModel."""
        _check(request)
        model = named(self._models, request.model)
        canvas = self._canvas(model, request)
        rows = _most_steps(request, canvas) * request.n
        rows += adapted.calls(model.router, request.adaptation)
        kind = f"text/{_rule(request)}"
        demands = [Demand(model.network, _typical(model, canvas), rows, kind)]
        if request.guidance != 1.0:
            bare = self._canvas(model, replace(request, prompt=""))
            demands.append(Demand(model.network, _typical(model, bare), rows, kind))
        return demands

    async def run(self, request: TextRequest, run: Run) -> TextResult:
        """See `Pipeline.run`."""
        model = named(self._models, request.model)
        canvas = self._canvas(model, request)
        shown = [canvas] if request.guidance == 1.0 else [canvas, self._canvas(model, replace(request, prompt=""))]
        heads = tuple(torch.tensor(one.ids[: one.start]) for one in shown)
        learned = await adapted.find(model.router, request.adaptation, request.prompt, run)
        adaptation = None if learned is None else learned.adaptation
        most = _most_steps(request, canvas)
        task = _Task(model, request, self._sampler(request), heads, adaptation, most)
        fills = [Fill.empty(i, canvas.length) for i in range(request.n)]
        open_fills = fills
        for step in range(most):
            try:
                await self._step(task, run, open_fills, step)
            except DeadlineExceeded:
                if step == 0:
                    raise
                break
            open_fills = [fill for fill in open_fills if bool(fill.masked.any())]
            first = open_fills[0] if open_fills else fills[0]
            in_time = run.report(
                step + 1,
                min(most, _steps_left(first, step + 1)),
                canvas=lambda first=first: _preview(model, request, first),
                settled=lambda: [settled_text(model.tokenizer, fill.tokens.tolist()) for fill in fills],
            )
            if not open_fills or not in_time:
                break
        return TextResult(
            model=model.name,
            outputs=tuple(_output(model, request, fill) for fill in fills),
            attribution=() if learned is None else (learned.attribution,),
            given_tokens=len(said(canvas.ids[: canvas.start])),
        )

    async def _step(self, task: _Task, run: Run, fills: Sequence[Fill], step: int) -> None:
        views = [view(fill, task.sampler, self._window, step, task.most) for fill in fills]
        calls = [
            Call(task.model.network, inputs(head, fill, seen), adaptation=task.adaptation)
            for head in task.heads
            for fill, seen in zip(fills, views, strict=True)
        ]
        outputs = await run.forward(*calls)
        for i, (fill, seen) in enumerate(zip(fills, views, strict=True)):
            logits = outputs[i]["logits"][len(task.heads[0]) - 1 :]
            for bare in task.heads[1:]:
                without = outputs[len(fills) + i]["logits"][len(bare) - 1 :]
                logits = guided(logits, without, task.request.guidance)
            take(fill, task.sampler, logits, seen, step, run.uniform)
            fill.steps += 1
            fill.forwards += len(task.heads)

    def _sampler(self, request: TextRequest) -> DiscreteSampler:
        rule = _rule(request)
        bound = self._draft_bound if rule == "verified" else self._bound
        return DiscreteSampler(rule, bound=bound, temperature=request.temperature)

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


def named(models: Mapping[str, TextModel], asked: str | None) -> TextModel:
    """The model `name` or `name@version`; the first where none is asked for. Raises UnknownModel."""
    if asked is None:
        return next(iter(models.values()))
    name = asked.partition("@")[0]
    model = models.get(name)
    if model is None or asked not in (name, model.name):
        loaded = ", ".join(known.name for known in models.values())
        raise UnknownModel(
            f"no text model {asked!r} is loaded; loaded are {loaded}",
            field="/model",
            hint="leave out `model` for the default, or see GET /models",
        )
    return model


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
    if request.sampler == "verified" and request.steps is not None:
        raise InvalidRequest(
            f"steps is {request.steps} with the sampler 'verified', which takes as many steps as it needs",
            field="/steps",
            hint="leave out `steps`, or choose another sampler",
        )
    adapted.check(request.adaptation)
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


def _rule(request: TextRequest) -> Rule:
    """Verified unless there is a budget of steps, which only the others can keep."""
    if request.sampler != "auto":
        return request.sampler
    return "verified" if request.steps is None else "entropy"


def _most_steps(request: TextRequest, canvas: Canvas) -> int:
    """Each step commits at least one position, so more steps than positions are never needed."""
    return canvas.length if request.steps is None else min(request.steps, canvas.length)


def _typical(model: TextModel, canvas: Canvas) -> Hashable:
    """Key of a step half-way, when half of the span is in view."""
    shown = canvas.start + -(-canvas.length // 2)
    return model.network.key(Call(model.network, {"tokens": torch.tensor(canvas.ids[:shown])}))


def _steps_left(fill: Fill, done: int) -> int:
    """Steps in all if the rest commits at the rate so far."""
    masked = int(fill.masked.sum())
    committed = len(fill.tokens) - masked
    return done + -(-masked * done // max(committed, 1))


def _preview(model: TextModel, request: TextRequest, fill: Fill) -> str:
    prefix, suffix, _ = _parts(request)
    return prefix + partial_text(model.tokenizer, fill.shown().tolist()) + suffix


def _output(model: TextModel, request: TextRequest, fill: Fill) -> TextOutput:
    ids = fill.tokens.tolist()
    masked = ids.count(MASK)
    reason: FinishReason = "complete"
    if masked:
        reason = "deadline"
    elif NULL not in ids:
        reason = "length"
    filled = model.tokenizer.decode([token for token in ids if token != MASK])
    prefix, suffix, _ = _parts(request)
    end = ids.index(NULL) + 1 if NULL in ids else len(ids)
    settled = max(end - ids[:end].count(MASK), 1)
    return TextOutput(
        text=prefix + filled + suffix,
        fill=filled,
        finish_reason=reason,
        confidence=float(fill.certainty[:end].sum()) / settled,
        steps_done=fill.steps,
        forwards=fill.forwards,
        token_ids=tuple(ids),
        tokens=len(said(ids)),
    )
