"""A model's own answers to training sentences: what it is taught again, so that it says one thing where it knew many.

A generator writes the same function in several ways, and a block of masks that could become any of them is filled with
parts of each. The greedy answers of one model are one way only. Source: sequence-level distillation, arXiv 1606.07947;
for few steps of masked diffusion, arXiv 2411.18810.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from random import Random

from perfuse.models.text import load_text
from perfuse.pipelines.text import TextModel, TextPipeline
from perfuse.pipelines.together import run_together
from perfuse.requests import TextRequest
from perfuse.syntax.parsers import parser_of
from perfuse.training.corpus.languages import ForeignTask, foreign_tasks
from perfuse.training.corpus.tasks import Task, training_tasks
from perfuse.training.judging import passes
from perfuse.wording import worded

log = logging.getLogger(__name__)
AT_ONCE = 512
"""Sentences answered between two words to the log."""
PYTHON = 0.6
"""Share of Python among the sentences."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A prompt as the model reads it, and what it answered."""

    prompt: str
    code: str


def collect(folder: Path, count: int, seed: int) -> Iterator[Answer]:
    """The answers of the model in `folder` to `count` sentences, less those that are wrong.

    Python has to pass its tests, other languages have to parse.

    Raises:
        CheckpointError: the model is missing or damaged.
        NotInstalled: the parsers of the other languages are.
        SandboxUnavailable: this kernel cannot confine generated code.
    """
    loaded = load_text(folder)
    served = TextModel(loaded.network, loaded.tokenizer, loaded.config.limit, loaded.config.length)
    pipeline = TextPipeline({loaded.config.name: served})
    tasks = _tasks(Random(f"answers/{seed}"))
    asked = right = 0
    while asked < count:
        chosen = list(islice(tasks, min(AT_ONCE, count - asked)))
        requests = [TextRequest(prompt=task.prompt, language=_language(task), syntax="off") for task in chosen]
        texts = [result.outputs[0].text for result in run_together(pipeline, requests)]
        for task, text, good in zip(chosen, texts, _judged(chosen, texts), strict=True):
            if good:
                right += 1
                yield Answer(worded(task.prompt, task.language) if isinstance(task, ForeignTask) else task.prompt, text)
        asked += len(chosen)
        log.info("%d of %d sentences answered, %d rightly", asked, count, right)


def _tasks(rng: Random) -> Iterator[Task | ForeignTask]:
    python, foreign = training_tasks(rng, tests=True), foreign_tasks(rng)
    while True:
        yield next(python) if rng.random() < PYTHON else next(foreign)


def _language(task: Task | ForeignTask) -> str:
    return task.language if isinstance(task, ForeignTask) else "python"


def _judged(tasks: Sequence[Task | ForeignTask], texts: Sequence[str]) -> list[bool]:
    python = [(task, text) for task, text in zip(tasks, texts, strict=True) if isinstance(task, Task)]
    verdicts = iter(passes([task for task, _ in python], [text for _, text in python]))
    return [
        next(verdicts) if isinstance(task, Task) else _parses(task, text)
        for task, text in zip(tasks, texts, strict=True)
    ]


def _parses(task: ForeignTask, text: str) -> bool:
    parser = parser_of(task.language)
    assert parser is not None
    return bool(text.strip()) and not parser(text)


def kept(path: Path, folder: Path, count: int, seed: int) -> Sequence[Answer]:
    """The answers in the file at `path`, which is written on first use: collecting takes a while."""
    if not path.exists():
        found = [f"{json.dumps(asdict(answer))}\n" for answer in collect(folder, count, seed)]
        path.write_text("".join(found), encoding="utf-8")
    with path.open(encoding="utf-8") as lines:
        return [Answer(**json.loads(line)) for line in lines]
