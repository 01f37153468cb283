"""Sentence → function in JavaScript, Rust, C or shell with test cases; the whole is divided as the Python tasks are.

A combination (a template with one option per slot) that is held out is held out in every language, so nothing that an
evaluation asks was ever shown in another notation.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random

from perfuse.training.corpus.languages.form import reference
from perfuse.training.corpus.languages.integers import INTEGERS
from perfuse.training.corpus.languages.numbers import NUMBERS
from perfuse.training.corpus.languages.sketch import FOREIGN, Arguments, Foreign, Sketch, Template
from perfuse.training.corpus.languages.strings import STRINGS
from perfuse.training.corpus.tasks import CASES, Case, Combination, Split, divided
from perfuse.training.corpus.template import Chosen

VERSION = "languages-1"
TEMPLATES = (*NUMBERS.templates, *INTEGERS.templates, *STRINGS.templates)
_WIDEST = 2**31 - 1


@dataclass(frozen=True, slots=True)
class ForeignTask:
    """A sentence without its language, the function that it asks for, and cases that tell right from wrong.

    The kind of each parameter and of the result are those of the values in `cases`. A C function whose result is a
    list, or with `in_place` a text, leaves it in its argument.
    """

    language: Foreign
    prompt: str
    entry_point: str
    code: str
    combination: Combination
    cases: tuple[Case, ...] = ()
    in_place: bool = False

    @property
    def template(self) -> str:
        """Name of the template."""
        return self.combination[0]


@cache
def split() -> Split:
    """10 % of all combinations by hash, less those that would remove an option from training."""
    return divided(TEMPLATES, VERSION)


@cache
def _by_name() -> dict[str, Template]:
    return {template.name: template for template in TEMPLATES}


def build(language: Foreign, combination: Combination, rng: Random, *, tests: bool) -> ForeignTask:
    """The task of a combination in a language; `rng` draws constants, wording and, with `tests`, arguments."""
    template = _by_name()[combination[0]]
    slots = {
        slot: next(option for option in options if option.key == key).bind(rng)
        for (slot, options), key in zip(template.slots.items(), combination[2:], strict=True)
    }
    sketch = template.sketch(Chosen(rng, slots))
    form = sketch.form
    prompt = _framed(rng.choice(sketch.sentences), rng)
    cases = _cases(reference(form), sketch.arguments, rng) if tests else ()
    name = form.camel if language == "javascript" else form.snake
    return ForeignTask(
        language, prompt, name, sketch.source(language), combination, cases, language == "c" and _is_in_place(sketch)
    )


def _is_in_place(sketch: Sketch) -> bool:
    return sketch.result in {"str", "list[int]"} and sketch.result in sketch.parameters.values()


def _framed(sentence: str, rng: Random) -> str:
    draw = rng.random()
    if draw < 0.15:
        return "Write a function: " + sentence[0].lower() + sentence[1:]
    if draw < 0.3 and not sentence.endswith("?"):
        return "Please " + sentence[0].lower() + sentence[1:]
    return sentence.rstrip(".") if draw < 0.4 else sentence


def _cases(function: Callable[..., object], arguments: Arguments, rng: Random) -> tuple[Case, ...]:
    cases: dict[str, Case] = {}
    for _ in range(6 * CASES):
        drawn = tuple(arguments(rng))
        cases.setdefault(json.dumps(drawn), Case(drawn, function(*copy.deepcopy(drawn))))
        if len(cases) == CASES:
            break
    return tuple(cases.values())


def foreign_tasks(rng: Random) -> Iterator[ForeignTask]:
    """Endless training tasks, the languages in turn, templates weighted by the root of their number of combinations."""
    train = split().train
    names = {language: [t.name for t in TEMPLATES if language in t.languages] for language in FOREIGN}
    weights = {language: [len(train[name]) ** 0.5 for name in names[language]] for language in FOREIGN}
    while True:
        for language in FOREIGN:
            (name,) = rng.choices(names[language], weights[language])
            yield build(language, rng.choice(train[name]), rng, tests=False)


def tasks_in(language: Foreign, rng: Random) -> Iterator[ForeignTask]:
    """Endless training tasks of one language, templates weighted as in `foreign_tasks`."""
    train = split().train
    names = [template.name for template in TEMPLATES if language in template.languages]
    weights = [len(train[name]) ** 0.5 for name in names]
    while True:
        (name,) = rng.choices(names, weights)
        yield build(language, rng.choice(train[name]), rng, tests=False)


def held_out_foreign(language: Foreign, count: int, seed: int = 0) -> Sequence[ForeignTask]:
    """`count` tasks with tests, templates in equal shares, each from another held-out combination.

    Tasks whose tests all expect the same value are skipped: they tell nothing.
    """
    rng = Random(f"held-out {VERSION} {language} {seed}")
    pools: dict[str, list[Combination]] = {}
    for combination in split().held_out:
        if language in _by_name()[combination[0]].languages:
            pools.setdefault(combination[0], []).append(combination)
    for pool in pools.values():
        rng.shuffle(pool)
    tasks: list[ForeignTask] = []
    while len(tasks) < count and any(pools.values()):
        for pool in pools.values():
            if pool and len(tasks) < count:
                task = build(language, pool.pop(), rng, tests=True)
                if len({repr(case.expected) for case in task.cases}) > 1:
                    tasks.append(task)
    return tasks
