"""Wrong programs with the message they fail with, and the right program: what refinement is learned from."""

from __future__ import annotations

import copy
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from types import FrameType
from typing import TYPE_CHECKING

from perfuse.training.corpus.tasks import TEMPLATES, Case, Combination, Task, build, split, training_tasks
from perfuse.training.corpus.template import Template

if TYPE_CHECKING:
    from _typeshed import TraceFunction

WRONG = "wrong answer"
"""All that is said of a program which runs and gives other values than expected: the tests stay hidden."""
LINES = 3000
"""Lines a wrong program may run before it counts as endless; right ones run less than 600."""
OTHER = 0.45
"""Share of wrong programs that do another operation than asked, as a model's own mistakes are; the rest is damaged."""
_TRIES = 8
_FILE = "<candidate>"
"""As the jail names the file; messages of syntax errors say it."""
_SWAPS = (
    (r" < ", " <= "), (r" > ", " >= "), (r" <= ", " < "), (r" >= ", " > "), (r" == ", " != "), (r" != ", " == "),
    (r" \+ ", " - "), (r" - ", " + "), (r" \* ", " + "), (r" // ", " / "), (r" % ", " // "), (r" and ", " or "),
    (r" or ", " and "), (r" not in ", " in "), (r" in ", " not in "), (r"\bmax\b", "min"), (r"\bmin\b", "max"),
    (r"\bTrue\b", "False"), (r"\bFalse\b", "True"), (r"\breturn ", ""), (r":$", ""), (r"\)$", ""), (r"\]$", ""),
    (r" == ", " = "), (r"\belse\b", "elif"), (r"\bdef\b", "define"), (r"\bfor\b", "For"), (r"^    ", ""),
    (r"^    ", "     "),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Repair:
    """A program that fails, what it says, and the one that was asked for.

    Attributes:
        prompt: the sentence.
        broken: the wrong program.
        error: its message as the jail words it, or `WRONG`.
        code: the right program.
    """

    prompt: str
    broken: str
    error: str
    code: str

    def around(self) -> tuple[str, str, str]:
        """What both programs begin with, the right lines between, and what both end with."""
        right, wrong = self.code.splitlines(keepends=True), self.broken.splitlines(keepends=True)
        shorter = min(len(right), len(wrong))
        head = next((i for i in range(shorter) if right[i] != wrong[i]), shorter)
        tail = next((i for i in range(shorter - head) if right[-1 - i] != wrong[-1 - i]), shorter - head)
        if head + tail == len(right):  # a line too many: what is around it is written anew
            head = max(head - 1, 0)
        end = len(right) - tail
        return "".join(right[:head]), "".join(right[head:end]), "".join(right[end:])


def repairs(rng: Random) -> Iterator[Repair]:
    """Endless repairs of tasks from training combinations."""
    tasks = training_tasks(rng)
    named = {template.name: template for template in TEMPLATES}
    while True:
        seed = rng.getrandbits(32)
        combination = next(tasks).combination
        task = build(combination, Random(seed), tests=True)
        if not task.cases:
            continue
        other = rng.random() < OTHER
        for _ in range(_TRIES):
            broken = _other(named[task.template], combination, seed, task, rng) if other else damaged(task.code, rng)
            error = None if broken is None else failure(broken, task.entry_point, task.cases)
            if broken is not None and error is not None:
                yield Repair(task.prompt, broken, error, task.code)
                break


def _other(template: Template, combination: Combination, seed: int, task: Task, rng: Random) -> str | None:
    """The function of a combination that differs in one slot, under the name of the one asked for."""
    slot = rng.randrange(len(template.slots))
    options = list(template.slots.values())[slot]
    changed = list(combination)
    changed[2 + slot] = rng.choice(options).key
    if tuple(changed) == combination or tuple(changed) not in _trained(template.name):
        return None
    made = build(tuple(changed), Random(seed), tests=False)
    return made.code.replace(made.entry_point, task.entry_point)


def _trained(template: str) -> frozenset[Combination]:
    if template not in _TRAINED:
        _TRAINED[template] = frozenset(split().train[template])
    return _TRAINED[template]


_TRAINED: dict[str, frozenset[Combination]] = {}


def damaged(code: str, rng: Random) -> str | None:
    """`code` with one line spoilt: an operator, a constant, a name, a bracket, the indentation, or the whole line."""
    lines = code.rstrip("\n").split("\n")
    at = rng.randrange(len(lines))
    kinds: Sequence[Callable[[str, Random], str | None]] = (_swapped, _swapped, _shifted, _misspelt, _dropped)
    spoilt = rng.choice(kinds)(lines[at], rng)
    if spoilt == lines[at]:
        return None
    lines[at : at + 1] = [] if spoilt is None else [spoilt]
    return "\n".join(lines) + "\n" if lines else None


def _swapped(line: str, rng: Random) -> str:
    found = [(pattern, by) for pattern, by in _SWAPS if re.search(pattern, line)]
    if not found:
        return line
    pattern, by = rng.choice(found)
    place = rng.choice(list(re.finditer(pattern, line)))
    return line[: place.start()] + by + line[place.end() :]


def _shifted(line: str, rng: Random) -> str:
    numbers = list(re.finditer(r"(?<![\w.])\d+(?![\w.])", line))
    if not numbers:
        return line
    place = rng.choice(numbers)
    return line[: place.start()] + str(max(int(place.group()) + rng.choice((-1, 1)), 0)) + line[place.end() :]


def _misspelt(line: str, rng: Random) -> str:
    words = [place for place in re.finditer(r"[A-Za-z_]{3,}", line) if place.group() not in ("def", "return")]
    if not words:
        return line
    place = rng.choice(words)
    word, cut = place.group(), rng.randrange(1, len(place.group()))
    return line[: place.start()] + word[:cut] + word[cut + 1 :] + line[place.end() :]


def _dropped(line: str, rng: Random) -> None:
    """No line at all."""
    del line, rng


def failure(code: str, entry_point: str, cases: Sequence[Case]) -> str | None:
    """What `code`, made from the generator's own, says when it fails the cases; None when it passes.

    The words are those of `perfuse.sandbox`: kind, message and line of an exception, `WRONG` for a wrong value. It
    runs in this process, as the generator's functions do, for at most `LINES` lines.
    """
    budget = _Budget()
    namespace: dict[str, object] = {}
    try:
        compiled = compile(code, _FILE, "exec")
    except SyntaxError as error:
        return f"{type(error).__name__}: {error}"
    watching = sys.gettrace()  # a debugger, or what measures coverage
    sys.settrace(budget.trace)
    try:
        exec(compiled, namespace)  # noqa: S102 - the generator's own source
        function = namespace.get(entry_point)
        if not callable(function):
            return f"the code defines no function {entry_point!r}"
        for case in cases:
            said = _tried(function, case, budget)
            if said is not None:
                return said
    except Exception as error:  # noqa: BLE001 - whatever a wrong program raises is its message
        return _message(error, budget)
    finally:
        sys.settrace(watching)
    return None


def _tried(function: Callable[..., object], case: Case, budget: _Budget) -> str | None:
    try:
        value = function(*copy.deepcopy(case.arguments))
    except ValueError as error:
        return None if case.raises else _message(error, budget)
    same = not case.raises and type(value) is type(case.expected) and value == case.expected
    return None if same else WRONG


def _message(error: Exception, budget: _Budget) -> str:
    if isinstance(error, _EndlessError):
        return "timeout"
    return f"{type(error).__name__}: {error} (line {budget.line})"


class _EndlessError(Exception):
    """The budget of lines is used up."""


class _Budget:
    """Counts lines of the traced program; `line` is the last."""

    def __init__(self) -> None:
        self.left, self.line = LINES, 0

    def trace(self, frame: FrameType, event: str, argument: object) -> TraceFunction | None:
        """See `sys.settrace`."""
        del argument
        if frame.f_code.co_filename != _FILE:
            return None
        if event == "line":
            self.line, self.left = frame.f_lineno, self.left - 1
            if self.left < 0:
                raise _EndlessError
        return self.trace
