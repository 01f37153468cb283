"""The frozen mixed stream that uncertainty is measured on: requests of known kinds, most with tests of the answer.

In-domain sentences and the rare ones come from held-out combinations that neither the calibration nor the first 1,000
held-out tasks use; the families are those that the calibration does not know.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal, get_args

from perfuse.errors import InvalidRequest
from perfuse.requests import TextRequest
from perfuse.training.calibration import FAMILIES as CALIBRATED_FAMILIES
from perfuse.training.calibration import spare_tasks
from perfuse.training.corpus import families
from perfuse.training.corpus.tasks import Task

Stream = Literal["in_domain", "rare", "unseen", "other", "occluded"]
STREAMS: tuple[Stream, ...] = get_args(Stream)
TEMPERATURE = 1.2
"""Of every second rare request; the others are worded otherwise."""
OCCLUDED = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Shares of a function's characters that are cut out where nothing says what it is to do."""
_VERSION = "1"


@dataclass(frozen=True, slots=True)
class Item:
    """One request of the stream.

    Attributes:
        task: what tells right from wrong; None: no function answers the request, so any is wrong.
        hidden: share of the function that was cut out and that nothing tells of; 0 in the other streams.
    """

    stream: Stream
    request: TextRequest
    task: Task | None
    hidden: float = 0.0


def stream(name: Stream, count: int) -> list[Item]:
    """The first `count` items of a stream; the same on every machine.

    Raises:
        InvalidRequest: there are not as many.
    """
    if count < 1:
        raise InvalidRequest(f"expected at least 1 item per stream; got {count}")
    return _MAKERS[name](count)


def _in_domain(count: int) -> list[Item]:
    return [Item("in_domain", TextRequest(prompt=task.prompt), task) for task in spare_tasks(count)]


def _rare(count: int) -> list[Item]:
    """Spare tasks from the other end, every second reworded, the others drawn at a high temperature."""
    items = []
    for i, task in enumerate(spare_tasks(count, from_end=True)):
        if i % 2 == 0:
            request = TextRequest(prompt=reworded(task.prompt, Random(f"reworded {_VERSION} {i}")))
        else:
            request = TextRequest(prompt=task.prompt, temperature=TEMPERATURE, seed=i)
        items.append(Item("rare", request, task))
    return items


def _unseen(count: int) -> list[Item]:
    """Families that neither training nor calibration knows, in equal shares."""
    chosen = [family for name, family in families.FAMILIES.items() if name not in CALIBRATED_FAMILIES]
    each = -(-count // len(chosen))
    tasks = [drawn.task for family in chosen for drawn in families.tasks(family, "evaluation", each)]
    Random(f"unseen {_VERSION}").shuffle(tasks)
    return [Item("unseen", TextRequest(prompt=task.prompt), task) for task in tasks[:count]]


def _other(count: int) -> list[Item]:
    """Requests for anything but a function."""
    every = [frame.format(subject) for frame in _FRAMES for subject in _SUBJECTS]
    if count > len(every):
        raise InvalidRequest(f"the stream 'other' has {len(every)} requests; {count} were asked for")
    Random(f"other {_VERSION}").shuffle(every)
    return [Item("other", TextRequest(prompt=prompt), None) for prompt in every[:count]]


def _occluded(count: int) -> list[Item]:
    """Functions without their sentence, of which more and more is cut out: what was there is less and less told."""
    items = []
    for i, task in enumerate(spare_tasks(count, from_end=True)):
        share = OCCLUDED[i % len(OCCLUDED)]
        size = max(1, round(share * len(task.code)))
        start = Random(f"occluded {_VERSION} {i}").randint(0, len(task.code) - size)
        prefix, suffix = task.code[:start], task.code[start + size :]
        items.append(Item("occluded", TextRequest(prefix=prefix, suffix=suffix), task, share))
    return items


_MAKERS: dict[Stream, Callable[[int], list[Item]]] = {
    "in_domain": _in_domain,
    "rare": _rare,
    "unseen": _unseen,
    "other": _other,
    "occluded": _occluded,
}


def reworded(prompt: str, rng: Random) -> str:
    """The sentence as no template writes it: without articles, in capitals, with a slip of the pen or in a chat."""
    words = prompt.rstrip(".").split()
    match rng.randrange(5):
        case 0:
            return " ".join(word for word in words if word.lower() not in ("a", "an", "the", "of"))
        case 1:
            return prompt.upper()
        case 2:
            return _with_slip(prompt, rng)
        case 3:
            return f"hey, i need some python for this: {prompt[0].lower()}{prompt[1:].rstrip('.')} - thanks a lot!"
        case _:
            return f"{' '.join(words)}, and do nothing else. It must be in Python, and it must work."


def _with_slip(prompt: str, rng: Random) -> str:
    """Two letters of three words change places."""
    places = [found.start() for found in re.finditer(r"\b[A-Za-z]{4,}", prompt)]
    letters = list(prompt)
    for start in rng.sample(places, min(3, len(places))):
        letters[start + 1], letters[start + 2] = letters[start + 2], letters[start + 1]
    return "".join(letters)


_FRAMES: Sequence[str] = (
    "Write a short essay about {}.",
    "What do you know about {}?",
    "Translate the following sentence into French: we were talking about {}.",
    "Give me three ideas for a talk on {}.",
    "Write an SQL query that joins two tables about {}.",
    "Explain {} to a child of five.",
    "Write a poem about {} in four lines.",
    "Draft a polite e-mail to my landlord regarding {}.",
    "Who was the first to write about {}, and when?",
    "Plan a weekend around {}, with meals and trains.",
)
_SUBJECTS: Sequence[str] = (
    "the sea", "old bridges", "the history of tea", "tax law", "a broken washing machine", "mountain weather",
    "the French revolution", "quantum physics", "my neighbour's dog", "jazz", "the price of bread", "glaciers",
)  # fmt: skip
