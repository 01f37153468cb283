"""From curated rows to what a trainer reads, with a part kept back that it never sees."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from perfuse.evolution.answers import Asked
from perfuse.evolution.curate import Example
from perfuse.store.learning import Feedback

HELD_BACK = 4
"""One request in so many is kept back for the gate."""
MOST_LESSONS = 2000


@dataclass(frozen=True, slots=True)
class Task:
    """A request kept back, with what decides whether an answer is right.

    Attributes:
        row: a row of feedback about it, whose verifier judges.
        text: the right answer, where there is no verifier to ask.
    """

    row: Feedback
    text: str

    @property
    def asked(self) -> Asked:
        """The request."""
        return Asked(self.row.prompt, self.row.prefix, self.row.suffix)


@dataclass(frozen=True, slots=True)
class Lessons:
    """Lines of `lessons.jsonl`, the tasks kept back, and who gave the lessons."""

    lines: tuple[str, ...]
    held_back: tuple[Task, ...]
    feedback: tuple[str, ...]
    sources: tuple[str, ...]

    @property
    def dataset(self) -> str:
        """Hash of the lines."""
        return hashlib.sha256("\n".join(self.lines).encode()).hexdigest()


def lessons_of(examples: Sequence[Example], rows: Mapping[str, Feedback]) -> Lessons:
    """Lessons from the examples of one cluster; all examples of one request are on the same side.

    Only what is right is taught. With wrong answers as lessons of weight -0.2, a training on 94 items of a family lost
    6 of the 9 tasks kept back that the one before had won.

    Args:
        examples: as curated.
        rows: the feedback that they rest on, by id.
    """
    taught: list[Example] = []
    held_back: dict[tuple[str, str, str], Task] = {}
    for example in (each for each in examples if each.good):
        if not _held_back(example):
            taught.append(example)
        else:
            row = next((rows[i] for i in example.feedback if rows[i].verifier), rows[example.feedback[0]])
            held_back.setdefault(_request(example), Task(row, example.text))
    taught = [example for example in taught[:MOST_LESSONS] if _fits(example)]
    used = sorted({i for example in taught for i in example.feedback})
    return Lessons(
        lines=tuple(_line(example) for example in taught),
        held_back=tuple(held_back[request] for request in sorted(held_back)),
        feedback=tuple(used),
        sources=tuple(sorted({source for example in taught for source in example.sources})),
    )


def lesson_line(asked: Asked, middle: str, weight: float = 1.0) -> str:
    """A line of `lessons.jsonl` or `replay.jsonl`: the fields of `training.lora.Lesson`."""
    fields = {"prompt": asked.prompt, "prefix": asked.prefix, "middle": middle, "suffix": asked.suffix}
    return json.dumps({**fields, "weight": weight}, ensure_ascii=False)


def _request(example: Example) -> tuple[str, str, str]:
    return example.prompt, example.prefix, example.suffix


def _held_back(example: Example) -> bool:
    digest = hashlib.sha256("\0".join(_request(example)).encode()).digest()
    return digest[0] % HELD_BACK == 0


def _fits(example: Example) -> bool:
    """Whether the text begins and ends as the request asks; else it fills nothing."""
    room = len(example.text) - len(example.prefix) - len(example.suffix)
    return room > 0 and example.text.startswith(example.prefix) and example.text.endswith(example.suffix)


def _line(example: Example) -> str:
    middle = example.text[len(example.prefix) : len(example.text) - len(example.suffix)]
    return lesson_line(Asked(example.prompt, example.prefix, example.suffix), middle, example.weight)
