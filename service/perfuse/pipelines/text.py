"""Text: a masked span is filled in a few forwards, each committing what the model is certain of."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import get_args

import torch

from perfuse._native import Structure
from perfuse.adaptation.embedding import HIDDEN
from perfuse.adaptation.signals import Trace, log_doubt
from perfuse.constraints.structures import Structures
from perfuse.errors import CanvasTooLong, CanvasTooShort, DeadlineExceeded, InvalidRequest, NothingToFill, UnknownModel
from perfuse.models.call import LOGITS, Call
from perfuse.models.canvas import Canvas, lay_out, partial_text, settled_text
from perfuse.models.tokenizer import MASK, NULL, said
from perfuse.pipelines import adapted, sampling
from perfuse.pipelines.contract import Demand, Run
from perfuse.pipelines.filling import Fill
from perfuse.pipelines.repair import Patch, Text, checked, repair
from perfuse.pipelines.stepping import Task, TextModel, advance, heads_of
from perfuse.pipelines.structured import complete
from perfuse.requests import (
    AUTO,
    FinishReason,
    RefinedWidth,
    SyntaxMode,
    SyntaxProblem,
    TextOutput,
    TextRequest,
    TextResult,
)
from perfuse.syntax.parsers import languages
from perfuse.syntax.refinement import Shown, shown

__all__ = ["TextModel", "TextPipeline", "named"]

ENTROPY_BOUND = 0.1
"""Nats committed per forward: .93 pass@1 at 5 forwards, .95 at 69 one by one (measured with 5 M parameters)."""
DRAFT_BOUND = 3.0
"""Nats of entropy up to which a window is worth verifying."""
WINDOW = 16
"""Masked tokens a step works on: of wider ones, tokens that do not see each other break more texts."""
DRAFT_WINDOW = 24
"""The same of "verified", which nothing breaks: 5.53 forwards for a function, 6.04 with 16 (550 held-out tasks)."""
MOST_OUTPUTS = 16
MOST_STEPS = 4096
MOST_TEMPERATURE = 10.0
MOST_GUIDANCE = 20.0
MODES = get_args(SyntaxMode)
WIDTHS = get_args(RefinedWidth)
_HOLE = re.compile(r"<mask(?::(\d{1,6}))?>")


class TextPipeline:
    """Fills text with one of the given models.

    Args:
        models: by name without version; the first is the default.
        window: masked tokens a step works on; None: `WINDOW`, or `DRAFT_WINDOW` for drafts.
        bound: nats of entropy a step of "entropy" may commit.
        draft_bound: nats of entropy up to which "verified" drafts.
        observe: told how each output came to be: what a calibration is made from.
    """

    def __init__(
        self,
        models: Mapping[str, TextModel],
        *,
        window: int | None = None,
        bound: float = ENTROPY_BOUND,
        draft_bound: float = DRAFT_BOUND,
        observe: Callable[[Trace], None] | None = None,
    ) -> None:
        self._models = dict(models)
        self._structures = {model.name: Structures(model.tokenizer) for model in models.values()}
        self._pieces = {model.name: model.tokenizer.pieces() for model in models.values()}
        self._window, self._bound, self._draft_bound = window, bound, draft_bound
        self._observe = observe

    def estimate(self, request: TextRequest) -> Sequence[Demand]:
        """See `Pipeline.estimate`.

        Raises:
            InvalidRequest: a field is out of range, or nothing satisfies the schema or pattern.
            CanvasTooLong, CanvasTooShort, NothingToFill, UnknownModel, UnsupportedConstraint, ConstraintTooLarge: see
                their own words.
        """
        _check(request)
        model = named(self._models, request.model)
        given, _ = _parts(request)
        checked(request, given)
        canvas = self._canvas(model, request)
        rows = sampling.most_forwards(request, canvas.length) * request.n
        rows += adapted.calls(model.router, request.adaptation)
        kind, want = f"text/{sampling.rule_of(request)}", self._want(model)
        demands = [Demand(model.network, _typical(model, canvas, want), rows, kind)]
        if request.guidance != 1.0:
            bare = self._canvas(model, request, prompted=False)
            demands.append(Demand(model.network, _typical(model, bare, want), rows, kind))
        return demands

    async def run(self, request: TextRequest, run: Run) -> TextResult:
        """See `Pipeline.run`."""
        model = named(self._models, request.model)
        canvas = self._canvas(model, request)
        given, _ = _parts(request)
        parser, mends = checked(request, given)
        text = None if parser is None else Text(given, parser, self._pieces[model.name], mends)
        learned = await adapted.find(model.router, request.adaptation, given.prompt, run)
        task = Task(
            model=model,
            request=request,
            sampler=sampling.sampler_of(request, self._bound, self._draft_bound),
            heads=heads_of(model, [given.prompt, ""][: 1 + (request.guidance != 1.0)], given.prefix, given.suffix),
            adaptation=None if learned is None else learned.adaptation,
            most=sampling.most_steps(request, canvas.length),
            window=request.sampler_options.window or self._window or _usual_window(request),
            structure=self._structure(model, request),
            want=self._want(model),
        )
        fills = [Fill.empty(i, canvas.length) for i in range(request.n)]
        if await _filled(task, given, text, run, fills) and text is not None and any(map(text.broken, fills)):
            await _mended(task, text, run, fills)
        outputs = tuple(_output(task, given, text, fill, learned) for fill in fills)
        if self._observe is not None:
            for fill in fills:
                self._observe(fill.trace(task.heads[0]))
        return TextResult(
            model=model.name,
            outputs=outputs,
            attribution=() if learned is None else (learned.attribution,),
            given_tokens=len(said(canvas.ids[: canvas.start])),
        )

    def _canvas(self, model: TextModel, request: TextRequest, *, prompted: bool = True) -> Canvas:
        given, asked = _parts(request)
        parts = [given.prompt if prompted else "", given.prefix, given.suffix]
        prompt, before, after = model.tokenizer.encode_batch(parts)
        used = len(prompt) + len(before) + len(after) + 3
        structure = self._structure(model, request)
        needed = 0 if structure is None else structure.needed
        length = asked if asked is not None else min(max(model.length, 2 * needed), model.limit - used)
        if length < 1 or used + length > model.limit:
            raise CanvasTooLong(
                f"the canvas has {used + max(length, 1)} tokens ({used} given, {max(length, 1)} to fill); "
                f"model {model.name!r} takes at most {model.limit}",
                field="/prompt" if asked is None else "/length",
                hint="shorten prompt, prefix and suffix, or ask for fewer tokens",
            )
        if length < needed:
            raise CanvasTooShort(
                f"the fill has {length} tokens; the shortest text that is allowed has {needed}",
                field="/length" if asked is not None else "/prompt",
                hint=f"ask for a length of {needed} or more" if asked is not None else "shorten what is given",
            )
        return lay_out(prompt, before, after, length)

    def _want(self, model: TextModel) -> frozenset[str]:
        return LOGITS if model.estimator is None and self._observe is None else LOGITS | HIDDEN

    def _structure(self, model: TextModel, request: TextRequest) -> Structure | None:
        return self._structures[model.name].of(request.schema, request.regex)


async def _filled(task: Task, given: Shown, text: Text | None, run: Run, fills: Sequence[Fill]) -> bool:
    """Fills all from masks, and says whether there is time for more."""
    open_fills = fills
    for step in range(task.most):
        try:
            await advance(run, [(task, fill) for fill in open_fills], step, run.uniform)
        except DeadlineExceeded:
            if step == 0:
                raise
            return False
        open_fills = [fill for fill in open_fills if fill.open]
        first = open_fills[0] if open_fills else fills[0]
        in_time = run.report(
            step + 1,
            min(task.most, _steps_left(first, step + 1)),
            canvas=lambda first=first: _canvas_text(task, given.prefix, first, given.suffix),
            settled=lambda: _settled(task, text, fills),
        )
        if not in_time:
            return False
        if not open_fills:
            break
    return True


async def _mended(task: Task, text: Text, run: Run, fills: Sequence[Fill]) -> None:
    """Has the outputs that do not parse written anew in part; at the end all of them are settled."""

    def tell(patches: Sequence[Patch]) -> bool:
        done = max(fills[patch.index].steps + patch.fill.steps for patch in patches)
        first = patches[0]
        return run.report(
            done,
            task.most,
            canvas=lambda: _canvas_text(first.task, first.prefix, first.fill, first.suffix),
            settled=lambda: _settled(task, text, fills),
        )

    await repair(task, text, fills, run, tell)
    done = max(fill.steps for fill in fills)
    run.report(
        done,
        done,
        canvas=lambda: _canvas_text(task, text.shown.prefix, fills[0], text.shown.suffix),
        settled=lambda: _settled(task, None, fills),
    )


def _usual_window(request: TextRequest) -> int:
    return DRAFT_WINDOW if sampling.rule_of(request) == "verified" else WINDOW


def _canvas_text(task: Task, prefix: str, fill: Fill, suffix: str) -> str:
    return prefix + partial_text(task.model.tokenizer, fill.shown().tolist()) + suffix


def _settled(task: Task, text: Text | None, fills: Sequence[Fill]) -> list[str]:
    """How each output will begin; nothing of those that may still be written anew."""
    return [
        ""
        if text is not None and text.mends and (fill.open or text.broken(fill))
        else settled_text(task.model.tokenizer, fill.lasting().tolist())
        for fill in fills
    ]


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
        ("guidance_ramp", request.guidance_ramp, 0.0, 1.0),
    )
    for name, value, least, most in ranges:
        if value is not None and not least <= value <= most:
            raise InvalidRequest(
                f"{name} is {value}; expected a number from {least:g} to {most:g}",
                field=f"/{name}",
                hint=f"leave out `{name}` for its default",
            )
    sampling.check(request)
    adapted.check(request.adaptation)
    choices: tuple[tuple[str, str, Sequence[str]], ...] = (
        ("/language", request.language, languages()),
        ("/syntax", request.syntax, MODES),
        ("/refine/width", AUTO if request.refine is None else request.refine.width, WIDTHS),
    )
    for pointer, said_there, known in choices:
        if said_there not in known:
            name = pointer.rpartition("/")[2]
            raise InvalidRequest(
                f"{name} {said_there!r} is not served; expected one of {', '.join(known)}", field=pointer
            )
    _check_refinement(request)


def _check_refinement(request: TextRequest) -> None:
    if request.refine is None:
        return
    for name in ("prefix", "suffix", "template", "schema", "regex"):
        if getattr(request, name):
            raise InvalidRequest(
                f"refine came together with {name}; the code to be refined is all there is",
                field=f"/{name}",
                hint=f"leave out `{name}`",
            )
    if not request.refine.code.strip():
        raise InvalidRequest("the code to be refined is empty", field="/refine/code", hint="leave out `refine`")


def _parts(request: TextRequest) -> tuple[Shown, int | None]:
    """What the model reads and the asked length, from the fields or from the template."""
    prefix, suffix, length = _sides(request)
    return shown(request.prompt, request.language, request.refine, prefix, suffix), length


def _sides(request: TextRequest) -> tuple[str, str, int | None]:
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


def _typical(model: TextModel, canvas: Canvas, want: frozenset[str]) -> Hashable:
    """Key of a step half-way, when half of the span is in view."""
    shown = canvas.start + -(-canvas.length // 2)
    return model.network.key(Call(model.network, {"tokens": torch.tensor(canvas.ids[:shown])}, want))


def _steps_left(fill: Fill, done: int) -> int:
    """Steps in all if the rest commits at the rate so far."""
    masked = int(fill.masked.sum())
    committed = len(fill.tokens) - masked
    return done + -(-masked * done // max(committed, 1))


def _output(task: Task, given: Shown, text: Text | None, fill: Fill, learned: adapted.Adapted | None) -> TextOutput:
    reason: FinishReason = "complete"
    if bool(fill.masked.any()):
        reason = "deadline"
    elif task.structure is None and not bool((fill.tokens == NULL).any()):
        reason = "length"
    if task.structure is not None:
        complete(fill)
    ids = fill.tokens.tolist()
    filled = task.model.tokenizer.decode([token for token in ids if token != MASK])
    whole = given.prefix + filled + given.suffix
    problem = None
    if text is not None and (faults := text.parser(whole)):
        problem = SyntaxProblem(message=faults[0].message, line=faults[0].line, column=faults[0].column(whole))
        reason = "syntax" if reason == "complete" else reason
    end = ids.index(NULL) + 1 if NULL in ids else len(ids)
    settled = max(end - ids[:end].count(MASK), 1)
    holds, trace = _calibrated(task, given), fill.trace(task.heads[0])
    doubt = log_doubt(trace.certainty)
    estimator = task.model.estimator if holds and learned is None else None
    p_correct, uncertainty = (None, None) if estimator is None else estimator.assess(trace)
    if holds and learned is not None and learned.chance is not None:
        p_correct = learned.chance.at(doubt)
    return TextOutput(
        text=whole,
        fill=filled,
        finish_reason=reason,
        confidence=float(fill.certainty[:end].sum()) / settled,
        steps_done=fill.steps,
        forwards=fill.forwards,
        token_ids=tuple(ids),
        tokens=len(said(ids)),
        syntax_error=problem,
        p_correct=p_correct,
        uncertainty=uncertainty,
        doubt=doubt,
    )


def _calibrated(task: Task, given: Shown) -> bool:
    """Whether calibrations hold: a sentence for Python alone was given, and answered freely."""
    request = task.request
    asked = request.language == "python" and request.refine is None and not (given.prefix or given.suffix)
    return asked and task.structure is None
