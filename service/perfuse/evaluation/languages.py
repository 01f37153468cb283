"""Measures text models on functions in JavaScript, Rust, C and shell: executed tests, Wilson intervals, a baseline."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random

from perfuse import sandbox
from perfuse.errors import InvalidRequest
from perfuse.evaluation.code import PRETRAINED, Fill, Rate, in_process
from perfuse.evaluation.neighbours import NearestSentence
from perfuse.models.text import load_text
from perfuse.requests import TextRequest
from perfuse.training.corpus.languages import FOREIGN, Foreign, ForeignTask, held_out_foreign, tasks_in
from perfuse.wording import LANGUAGES

log = logging.getLogger(__name__)
NEIGHBOURS = 20_000
"""Training sentences of the language that the retrieval baseline may choose from."""


@dataclass(frozen=True, slots=True)
class Written:
    """What was produced for a task, and at what cost."""

    task: ForeignTask
    text: str
    forwards: int


def named_language(name: str) -> Foreign | None:
    """The language beside Python of that name, None for Python.

    Raises:
        InvalidRequest: no such language.
    """
    if name == "python":
        return None
    for language in FOREIGN:
        if name == language:
            return language
    raise InvalidRequest(f"expected a language of {', '.join(LANGUAGES)}; got {name!r}")


def program(written: Written) -> sandbox.Program:
    """What the judge runs."""
    cases = [sandbox.Case(case.arguments, case.expected) for case in written.task.cases]
    return sandbox.Program(written.text, written.task.entry_point, cases, written.task.in_place)


def rated(language: Foreign, attempts: Sequence[Written]) -> dict[str, object]:
    """Pass rate with its interval, mean forwards, and the share that the compiler or interpreter accepts.

    Raises:
        SandboxUnavailable: no toolchain, or this kernel cannot confine generated code.
    """
    verdicts = sandbox.judge_programs(language, map(program, attempts))
    n = len(verdicts)
    found = Rate(sum(v.passed for v in verdicts), n, sum(a.forwards for a in attempts) / max(n, 1)).as_json()
    found["compiles"] = round(sum(v.reason != "syntax" for v in verdicts) / max(n, 1), 4)
    return found


def nearest(language: Foreign, tasks: Sequence[ForeignTask], training: int = NEIGHBOURS) -> list[Written]:
    """For each task the code of the training task whose sentence is most like its own, under the asked-for name."""
    known = list(islice(tasks_in(language, Random("neighbours")), training))
    index = NearestSentence([task.prompt for task in known])
    attempts = []
    for task in tasks:
        found = known[index.find(task.prompt)]
        renamed = found.code.replace(f"{found.entry_point}(", f"{task.entry_point}(", 1)
        attempts.append(Written(task, renamed, 0))
    return attempts


def attempt_all(fill: Fill, tasks: Sequence[ForeignTask]) -> list[Written]:
    """One attempt per task from its sentence and its language."""
    attempts = []
    for done, task in enumerate(tasks, 1):
        output = fill(TextRequest(prompt=task.prompt, language=task.language))
        attempts.append(Written(task, output.text, output.forwards))
        if done % 50 == 0:
            log.info("%d of %d tasks", done, len(tasks))
    return attempts


def evaluate_language(
    language: Foreign,
    model: Path = PRETRAINED / "code-small",
    *,
    tasks: int,
    baselines: bool = True,
    fill: Fill | None = None,
) -> dict[str, object]:
    """`perfuse eval code --language`: pass@1 on held-out combinations with the default sampler, beside retrieval.

    The model is loaded from `model`, unless `fill` answers. Where the language cannot be judged, `pass_at_1` is None
    and `reason` says why.

    Raises:
        CheckpointError: the model folder is missing or damaged.
    """
    if (reason := sandbox.lacking(language)) is not None:
        return {"language": language, "pass_at_1": None, "reason": reason}
    chosen = held_out_foreign(language, tasks)
    attempts = attempt_all(fill or in_process(load_text(model)), chosen)
    found = {"language": language, **rated(language, attempts)}
    found["baselines"] = {"nearest_neighbour": rated(language, nearest(language, chosen))} if baselines else {}
    return found
