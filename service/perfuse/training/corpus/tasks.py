"""Sentence → Python function with executable tests, drawn from templates × operations × types × wordings.

A *combination* is a template with one option per slot, such as `(comprehend, list[int], even, square, sum)`. Whole
combinations are held out; every single option of every template stays in training inside other combinations.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from random import Random
from typing import Protocol

from perfuse.training.corpus.integers import INTEGERS
from perfuse.training.corpus.mappings import MAPPINGS
from perfuse.training.corpus.numbers import NUMBERS
from perfuse.training.corpus.options import Option
from perfuse.training.corpus.template import Chosen, Draft, Template
from perfuse.training.corpus.text import TEXT

VERSION = "1"
HELD_OUT_PERCENT = 10
CASES = 8
TEMPLATES = (*NUMBERS.templates, *INTEGERS.templates, *TEXT.templates, *MAPPINGS.templates)

Combination = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """One test: arguments (JSON values) and the plain value expected, or that ValueError is raised."""

    arguments: tuple[object, ...]
    expected: object
    raises: bool = False


@dataclass(frozen=True, slots=True)
class Task:
    """A sentence, the function it asks for, and tests that tell right from wrong."""

    prompt: str
    entry_point: str
    signature: str
    code: str
    combination: Combination
    cases: tuple[Case, ...] = ()

    @property
    def template(self) -> str:
        """Name of the template."""
        return self.combination[0]


@dataclass(frozen=True, slots=True)
class Split:
    """Combinations by side, and a hash of the held-out ones together with the generator's version."""

    train: dict[str, tuple[Combination, ...]]
    held_out: tuple[Combination, ...]
    digest: str


class Slotted(Protocol):
    """What can be divided: a template of any kind."""

    @property
    def name(self) -> str:
        """Of the template."""

    @property
    def types(self) -> str:
        """What goes in."""

    @property
    def slots(self) -> dict[str, tuple[Option, ...]]:
        """Options by slot."""


def combinations(template: Slotted) -> list[Combination]:
    """All combinations of a template: its name, its types, then one option key per slot."""
    keys = [[option.key for option in options] for options in template.slots.values()]
    return [(template.name, template.types, *choice) for choice in product(*keys)]


def _is_held_out(combination: Combination, version: str) -> bool:
    digest = hashlib.sha256(f"{version}|{'|'.join(combination)}".encode()).digest()
    return int.from_bytes(digest[:4], "big") % 100 < HELD_OUT_PERCENT


@cache
def split() -> Split:
    """The split: 10 % of all combinations by hash, less those that would remove an option from training."""
    return divided(TEMPLATES, VERSION)


def divided(templates: Sequence[Slotted], version: str) -> Split:
    """The combinations of `templates` on two sides; another `version` holds out others."""
    train: dict[str, tuple[Combination, ...]] = {}
    held_out: list[Combination] = []
    for template in templates:
        every = combinations(template)
        kept = [c for c in every if not _is_held_out(c, version)]
        seen = {(slot, key) for c in kept for slot, key in enumerate(c)}
        aside = [c for c in every if _is_held_out(c, version)]
        train[template.name] = (*kept, *(c for c in aside if any(pair not in seen for pair in enumerate(c))))
        held_out += [c for c in aside if all(pair in seen for pair in enumerate(c))]
    digest = hashlib.sha256("\n".join(["v" + version, *("|".join(c) for c in held_out)]).encode()).hexdigest()
    return Split(train, tuple(held_out), digest)


@cache
def _by_name() -> dict[str, Template]:
    return {template.name: template for template in TEMPLATES}


def build(combination: Combination, rng: Random, *, tests: bool) -> Task:
    """The task of a combination; `rng` draws constants, wording and, with `tests`, arguments."""
    template = _by_name()[combination[0]]
    slots = {
        slot: next(option for option in options if option.key == key).bind(rng)
        for (slot, options), key in zip(template.slots.items(), combination[2:], strict=True)
    }
    draft = template.draft(Chosen(rng, slots))
    prompt, documented = draft_sentence(draft, rng)
    signature = f"def {draft.name}({draft.parameters}):"
    head = [f'    """{draft.name.replace("_", " ").capitalize()}."""'] if documented else []
    code = "\n".join([signature, *head, *(f"    {line}" for line in draft.body)]) + "\n"
    cases = draw_cases(code, draft, rng) if tests else ()
    return Task(prompt, draft.name, signature, code, combination, cases)


def draft_sentence(draft: Draft, rng: Random) -> tuple[str, bool]:
    """One of the draft's sentences in one of several frames, and whether it asks for a docstring."""
    sentence = rng.choice(draft.sentences)
    documented = rng.random() < 0.06
    frame = rng.random()
    if frame < 0.15:
        sentence = "Write a function: " + sentence[0].lower() + sentence[1:]
    elif frame < 0.3:
        sentence = "Please " + sentence[0].lower() + sentence[1:]
    elif frame < 0.4:
        sentence = sentence.rstrip(".")
    return (sentence.rstrip(".") + ". Add a docstring." if documented else sentence), documented


def draw_cases(code: str, draft: Draft, rng: Random) -> tuple[Case, ...]:
    """`CASES` distinct calls with the values that `code`, written by this generator, gives."""
    namespace: dict[str, object] = {}
    exec(compile(code, "<generated task>", "exec"), namespace)  # noqa: S102 - the generator's own source
    function = namespace[draft.name]
    assert callable(function)
    cases: dict[str, Case] = {}
    for _ in range(6 * CASES):
        arguments = tuple(draft.arguments(rng))
        try:
            case = Case(arguments, function(*copy.deepcopy(arguments)))
        except ValueError:
            case = Case(arguments, None, raises=True)
        cases.setdefault(json.dumps(arguments), case)
        if len(cases) == CASES:
            break
    return tuple(cases.values())


def training_tasks(rng: Random, *, tests: bool = False) -> Iterator[Task]:
    """Endless tasks from training combinations, templates weighted by the root of their number of combinations."""
    train = split().train
    names = list(train)
    weights = [len(train[name]) ** 0.5 for name in names]
    while True:
        for name in rng.choices(names, weights, k=256):
            yield build(rng.choice(train[name]), rng, tests=tests)


def held_out_tasks(count: int, seed: int = 0) -> Sequence[Task]:
    """`count` tasks with tests, templates in equal shares, each from another held-out combination.

    Tasks whose tests all expect the same value are skipped: they tell nothing.
    """
    return _drawn(split().held_out, count, Random(f"held-out {VERSION} {seed}"))


def validation_tasks(count: int, apart: int) -> Sequence[Task]:
    """`count` tasks to choose constants by: from held-out combinations that the first `apart` held-out tasks leave."""
    evaluated = {task.combination for task in held_out_tasks(apart)}
    left = [combination for combination in split().held_out if combination not in evaluated]
    return _drawn(left, count, Random(f"validation {VERSION}"))


def _drawn(combinations: Sequence[Combination], count: int, rng: Random) -> Sequence[Task]:
    pools: dict[str, list[Combination]] = {}
    for combination in combinations:
        pools.setdefault(combination[0], []).append(combination)
    for pool in pools.values():
        rng.shuffle(pool)
    tasks: list[Task] = []
    while len(tasks) < count and any(pools.values()):
        for pool in pools.values():
            if pool and len(tasks) < count:
                task = build(pool.pop(), rng, tests=True)
                if len({repr(case.expected) for case in task.cases}) > 1:
                    tasks.append(task)
    return tasks
