"""Syntax-guided remasking: where a text does not parse, the lines where the parser stopped are filled anew.

Each round masks the lines of the first fault with what stands around them as given text, so the fill may also become
longer or shorter; where that does not help, more lines, then all. Prefix and suffix of the request are never touched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import Tensor

from perfuse.errors import DeadlineExceeded, InvalidRequest, NotInstalled
from perfuse.models.tokenizer import NULL
from perfuse.pipelines import sampling
from perfuse.pipelines.contract import Run
from perfuse.pipelines.filling import Fill, Uniform
from perfuse.pipelines.stepping import Task, advance, heads_of
from perfuse.requests import TextRequest
from perfuse.syntax.expecting import parseable
from perfuse.syntax.fault import Fault, Parser, Width, widened
from perfuse.syntax.parsers import parser_of
from perfuse.syntax.refinement import Shown

WIDTHS: tuple[Width, ...] = ("line", "around", "whole")
ROUNDS = 4
"""Most rounds: a fault that moved on starts again at its line."""
WARMTH = 0.5
"""Temperature at which all is written anew where the request has none: the most likely text is the one that failed."""
ROOM = 16
"""Tokens by which lines that are written anew may grow."""

LEAST_STEPS = 24
"""Steps that repairing an output may take even where filling it took less; else it takes at most as many again."""

Tell = Callable[[Sequence["Patch"]], bool]
"""Shows what is being filled; False: there is no time for more."""


@dataclass(slots=True)
class Patch:
    """Tokens `start:end` of an output's fill, written anew as `fill` between `prefix` and `suffix`."""

    index: int
    task: Task
    fill: Fill
    start: int
    end: int
    prefix: str
    suffix: str


@dataclass(frozen=True, slots=True)
class Text:
    """What fills stand in, and what says whether the whole parses.

    Attributes:
        shown: what the model reads.
        parser: of the request's language.
        pieces: bytes of each token.
        mends: whether faults are to be put right.
    """

    shown: Shown
    parser: Parser
    pieces: Sequence[bytes]
    mends: bool

    def words(self, fill: Fill) -> str:
        """What the fill says."""
        return b"".join(self.pieces[token] for token in fill.tokens.tolist()).decode(errors="replace")

    def faults(self, fill: Fill) -> list[Fault]:
        """Those of the whole text."""
        return self.parser(self.shown.prefix + self.words(fill) + self.shown.suffix)

    def broken(self, fill: Fill) -> bool:
        """Whether it came to its end, does not parse, and is to be put right."""
        return self.mends and _ended(fill) and bool(self.faults(fill))


def checked(request: TextRequest, shown: Shown) -> tuple[Parser | None, bool]:
    """The parser that the text of a request is held to, None for none, and whether faults are put right.

    "auto" does so where the text is expected to parse: whatever stands around the fill can be part of code, and the
    packages of the parser are there.

    Raises:
        InvalidRequest: it is asked for where there is no parser, or beside a schema or pattern.
        NotInstalled, ConfigError, PluginFailed: the parser that is asked for cannot be used.
    """
    structured = request.schema is not None or request.regex is not None
    if request.syntax == "off":
        return None, False
    if request.syntax == "auto":
        try:
            expected = request.refine is not None or parseable(shown.prefix, shown.suffix, request.language)
            return (parser_of(request.language) if expected and not structured else None), True
        except NotInstalled:
            return None, False
    if structured or (parser := parser_of(request.language)) is None:
        beside = "beside a schema or regex" if structured else f"and the language {request.language!r} has no parser"
        raise InvalidRequest(
            f"syntax is {request.syntax!r} {beside}", field="/syntax", hint='leave out `syntax`, or say "off"'
        )
    return parser, request.syntax == "repair"


async def repair(task: Task, text: Text, fills: Sequence[Fill], run: Run, tell: Tell) -> None:
    """Fills that came to their end and do not parse are written anew in part, in place; the best of all rounds stays.

    Better is less faults, then the first fault further on. Steps count within those of the task, and no more
    are taken than filling took, or `LEAST_STEPS`. Rounds end early where time is short.

    Args:
        task: of the request.
        text: what stands around, and its parser.
        fills: one per output.
        run: of the request.
        tell: shows the state.
    """
    faults = [text.faults(fill) if _ended(fill) else [] for fill in fills]
    widths = [0] * len(fills)
    most = [min(task.most, fill.steps + max(fill.steps, LEAST_STEPS)) for fill in fills]
    for number in range(ROUNDS):
        patches = [
            patch
            for i, fill in enumerate(fills)
            if faults[i] and widths[i] < len(WIDTHS)
            if (patch := _patch(task, text, fill, faults[i][0], WIDTHS[widths[i]], most[i] - fill.steps)) is not None
        ]
        if not patches:
            return
        in_time = await _filled(run, patches, _renewed(run.uniform, number), tell)
        for patch in patches:
            fill = fills[patch.index]
            fill.steps += patch.fill.steps
            fill.forwards += patch.fill.forwards
            made = _merged(fill, patch)
            found = faults[patch.index] if made is None else text.faults(made)
            if made is not None and _rank(found) < _rank(faults[patch.index]):
                fill.tokens, fill.certainty = made.tokens, made.certainty
                faults[patch.index], widths[patch.index] = found, 0
            else:
                widths[patch.index] += 1
        if not in_time:
            return


def _ended(fill: Fill) -> bool:
    return not fill.open and bool((fill.tokens == NULL).any())


def _rank(faults: Sequence[Fault]) -> tuple[int, int]:
    return len(faults), -faults[0].start if faults else 0


def _renewed(uniform: Uniform, number: int) -> Uniform:
    """Noise of the request's own seed, another one in each round."""

    def drawn(purpose: str, step: int, positions: Tensor) -> Tensor:
        return uniform(f"{purpose}/repair {number}", step, positions)

    return drawn


async def _filled(run: Run, patches: Sequence[Patch], uniform: Uniform, tell: Tell) -> bool:
    """Fills all patches, those of a step together; whether there is time for more."""
    for step in range(max(patch.task.most for patch in patches)):
        rows = [(patch.task, patch.fill) for patch in patches if patch.fill.open and step < patch.task.most]
        if not rows:
            break
        try:
            await advance(run, rows, step, uniform)
        except DeadlineExceeded:
            return False
        if not tell(patches):
            return False
    return True


def _patch(task: Task, text: Text, fill: Fill, fault: Fault, width: Width, left: int) -> Patch | None:
    """The part of the fill around a fault, for at most `left` steps; None where no steps or no room are left."""
    ids = fill.tokens[: fill.told_to() - 1].tolist()
    prefix, suffix, words = text.shown.prefix, text.shown.suffix, text.words(fill)
    start, end = _span(prefix + words + suffix, len(prefix), len(words), fault, width)
    first, last = _tokens([text.pieces[token] for token in ids], words, start, end)
    model, request = task.model, task.request
    before = prefix + model.tokenizer.decode(ids[:first])
    behind = model.tokenizer.decode(ids[last:]) + suffix
    heads = heads_of(model, [text.shown.prompt, ""][: len(task.heads)], before, behind)
    spare = len(fill.tokens) - len(ids)
    length = last - first + (min(spare, ROOM) if width != "whole" else spare)
    length = min(length, model.limit - max(map(len, heads)))
    most = min(sampling.most_steps(request, length), left)
    if length < 1 or most < 1:
        return None
    temperature = max(request.temperature, WARMTH) if width == "whole" else request.temperature
    own = replace(task, heads=heads, most=most, sampler=replace(task.sampler, temperature=temperature))
    return Patch(fill.index, own, Fill.empty(fill.index, length), first, last, before, behind)


def _span(whole: str, begin: int, length: int, fault: Fault, width: Width) -> tuple[int, int]:
    """Characters of the fill, which is `whole[begin:begin + length]`, around the fault or the nearest to it."""
    last = begin + max(length - 1, 0)
    start, end = min(max(fault.start, begin), last), min(max(fault.end, begin + 1), begin + length)
    start, end = widened(whole, start, max(end, start), width)
    return max(start - begin, 0), min(max(end - begin, 0), length)


def _tokens(pieces: Sequence[bytes], words: str, start: int, end: int) -> tuple[int, int]:
    """The least run of tokens, cut between characters, that holds `start:end`; all if it is not UTF-8."""
    raw = words.encode()
    ends = list(accumulate(map(len, pieces), initial=0))
    if ends[-1] != len(raw):
        return 0, len(pieces)
    cuts = [place for place, at in enumerate(ends) if at == len(raw) or raw[at] & 0xC0 != 0x80]
    low, high = len(words[:start].encode()), len(words[:end].encode())
    first = max((place for place in cuts if ends[place] <= low), default=0)
    return first, min((place for place in cuts if ends[place] >= high), default=len(pieces))


def _merged(fill: Fill, patch: Patch) -> Fill | None:
    """The fill with what was written anew in it; None where that did not come to its end."""
    new = patch.fill
    if new.open or not _ended(new):
        return None
    before, words, behind = slice(patch.start), slice(new.told_to() - 1), slice(patch.end, fill.told_to())
    made = Fill.empty(fill.index, len(fill.tokens))
    made.tokens.fill_(NULL)
    tokens = torch.cat((fill.tokens[before], new.tokens[words], fill.tokens[behind]))
    made.tokens[: len(tokens)] = tokens
    certainty = torch.cat((fill.certainty[before], new.certainty[words], fill.certainty[behind]))
    made.certainty[: len(tokens)] = certainty
    return made
