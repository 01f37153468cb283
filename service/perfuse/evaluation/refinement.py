"""Whether code that failed is put right from its own error message, against drawing it anew with as many forwards.

The first attempts are drawn at a temperature, so that enough of them fail. A message is what running the program said:
its exception, or "wrong answer" without any value of the tests; the tests are never shown.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from perfuse import sandbox
from perfuse.errors import CanvasTooLong
from perfuse.evaluation.code import TASKS, Fill, in_process
from perfuse.evaluation.intervals import wilson
from perfuse.models.text import load_text
from perfuse.requests import RefinedWidth, Refinement, TextOutput, TextRequest
from perfuse.training.corpus.tasks import Task, validation_tasks
from perfuse.training.judging import SECONDS

log = logging.getLogger(__name__)
TEMPERATURE = 1.5
"""Of the first attempts and of those drawn anew."""
ROUNDS = 2
WRONG = "wrong answer"
STRATEGIES: dict[str, tuple[RefinedWidth, ...]] = {
    "whole": ("whole", "whole"),
    "line, then whole": ("line", "whole"),
    "around, then whole": ("around", "whole"),
}
"""What is written anew in each round."""
_MOST_DRAWS = 64

Judged = tuple[bool, str]
"""Whether a program passed, and what running it said."""
Judge = Callable[[Sequence[tuple[Task, str]]], list[Judged]]


@dataclass(frozen=True, slots=True)
class Failure:
    """A first attempt that failed."""

    task: Task
    seed: int
    code: str
    error: str


@dataclass(slots=True)
class Trial:
    """What became of a failure: whether some round passed, and the forwards of all rounds."""

    passed: bool = False
    forwards: int = 0


def evaluate_refinement(model: Path, *, tasks: int = 500, temperature: float = TEMPERATURE) -> dict[str, object]:
    """`perfuse eval refine`: share of the failures that are put right within two rounds, and that drawing anew passes.

    Every strategy and its rival get the same failures. The rival draws with other seeds for as long as the forwards
    that the strategy took on that failure last, and once at least; it passes if one draw does. What a strategy gains
    is told with the failures that it alone repaired, and those that the rival alone did.

    Raises:
        CheckpointError: the model folder is missing or damaged.
        SandboxUnavailable: this kernel cannot confine generated code.
    """
    loaded = load_text(model)
    fill = in_process(loaded)
    chosen = validation_tasks(tasks, TASKS)
    found = failures(fill, chosen, temperature)
    log.info("%d of %d first attempts failed", len(found), len(chosen))
    return {
        "model": loaded.config.label,
        "tasks": len(chosen),
        "temperature": temperature,
        "failed": len(found),
        "wrong_answers": sum(failure.error == WRONG for failure in found),
        "rounds": ROUNDS,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "strategies": [compared(name, widths, fill, found, temperature) for name, widths in STRATEGIES.items()],
    }


def failures(fill: Fill, tasks: Sequence[Task], temperature: float) -> list[Failure]:
    """First attempts that do not pass, with what running them said. `seed` is the number of the task."""
    made = [
        fill(TextRequest(prompt=task.prompt, temperature=temperature, seed=seed, syntax="off")).text
        for seed, task in enumerate(tasks)
    ]
    judged = judge(list(zip(tasks, made, strict=True)))
    return [
        Failure(task, seed, code, said)
        for seed, (task, code, (passed, said)) in enumerate(zip(tasks, made, judged, strict=True))
        if not passed and code.strip()
    ]


def judge(attempts: Sequence[tuple[Task, str]]) -> list[Judged]:
    """What running each program in the jail said: nothing where it passed, and no value of the tests."""
    verdicts = sandbox.run_many(
        sandbox.Task(
            code=code,
            entry_point=task.entry_point,
            cases=[
                sandbox.Case(case.arguments, case.expected, "ValueError" if case.raises else None)
                for case in task.cases
            ],
            seconds=SECONDS,
        )
        for task, code in attempts
    )
    return [
        (verdict.passed, "" if verdict.passed else _said(task, verdict))
        for (task, _), verdict in zip(attempts, verdicts, strict=True)
    ]


def _said(task: Task, verdict: sandbox.Verdict) -> str:
    """As `training.corpus.repairs` words it: the exception and its line, without what the tests wanted instead."""
    match verdict.reason:
        case "syntax" | "raised" | "missing":
            wanted = verdict.case is not None and task.cases[verdict.case].raises
            return verdict.detail.partition("; got ")[2] if wanted else verdict.detail
        case "timeout":
            return "timeout"
        case _:
            return WRONG


def compared(
    name: str, widths: Sequence[RefinedWidth], fill: Fill, found: Sequence[Failure], temperature: float
) -> dict[str, object]:
    """One strategy and its rival on the same failures."""
    ours = refined(widths, fill, found)
    theirs = redrawn(fill, found, [trial.forwards for trial in ours], temperature)
    won = sum(a.passed and not b.passed for a, b in zip(ours, theirs, strict=True))
    lost = sum(b.passed and not a.passed for a, b in zip(ours, theirs, strict=True))
    return {
        "strategy": name,
        "repaired": _rate(ours),
        "drawn_anew": _rate(theirs),
        "won": won,
        "lost": lost,
        "points": round(100.0 * (won - lost) / max(len(found), 1), 1),
    }


def refined(widths: Sequence[RefinedWidth], fill: Fill, found: Sequence[Failure]) -> list[Trial]:
    """Each failure put right from its message, then what came out from its own, one round per width.

    A second round of the same width is drawn, because the most likely text has failed already.
    """
    trials = [Trial() for _ in found]
    state = [(failure.code, failure.error) for failure in found]
    for number, width in enumerate(widths):
        made: list[tuple[int, str]] = []
        for i, (failure, trial) in enumerate(zip(found, trials, strict=True)):
            if trial.passed:
                continue
            output = _asked(fill, failure, *state[i], width, number, again=width in widths[:number])
            if output is not None:
                trial.forwards += output.forwards
                made.append((i, output.text))
        for (i, code), (passed, said) in zip(made, judge([(found[i].task, code) for i, code in made]), strict=True):
            trials[i].passed, state[i] = passed, (code, said)
    return trials


def _asked(
    fill: Fill, failure: Failure, code: str, error: str, width: RefinedWidth, number: int, *, again: bool
) -> TextOutput | None:
    """The answer of one round; None where code and message do not fit on the canvas."""
    if not code.strip():
        return None
    request = TextRequest(
        prompt=failure.task.prompt,
        refine=Refinement(code=code, error=error, width=width),
        seed=failure.seed + (number + 1) * 1_000_000,
        temperature=0.5 if again else 0.0,
    )
    try:
        return fill(request)
    except CanvasTooLong:
        return None


def redrawn(fill: Fill, found: Sequence[Failure], forwards: Iterable[int], temperature: float) -> list[Trial]:
    """Each failure drawn anew until as many forwards are spent, from its sentence alone."""
    trials: list[Trial] = []
    made: list[tuple[int, str]] = []
    for i, (failure, budget) in enumerate(zip(found, forwards, strict=True)):
        trial = Trial()
        first = TextRequest(prompt=failure.task.prompt, temperature=temperature, syntax="off")
        for draw in range(1, _MOST_DRAWS + 1):
            output = fill(replace(first, seed=failure.seed + draw * 1_000_000))
            trial.forwards += output.forwards
            made.append((i, output.text))
            if trial.forwards >= budget:
                break
        trials.append(trial)
    for (i, _), (passed, _said_now) in zip(made, judge([(found[i].task, code) for i, code in made]), strict=True):
        trials[i].passed = trials[i].passed or passed
    return trials


def _rate(trials: Sequence[Trial]) -> dict[str, object]:
    passed, n = sum(trial.passed for trial in trials), len(trials)
    low, high = wilson(passed, n)
    return {
        "passed": passed,
        "n": n,
        "rate": round(passed / max(n, 1), 4),
        "low": round(low, 4),
        "high": round(high, 4),
        "mean_forwards": round(sum(trial.forwards for trial in trials) / max(n, 1), 2),
    }
