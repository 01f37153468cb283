"""What a template is: named slots, each with options, and a function that turns chosen options into a draft."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from perfuse.training.corpus.options import Bound, Option

Arguments = Callable[[Random], Sequence[object]]


@dataclass(frozen=True, slots=True)
class Draft:
    """A task before its style is chosen: sentences to pick from, name, parameters, body, and a source of arguments."""

    sentences: tuple[str, ...]
    name: str
    parameters: str
    body: tuple[str, ...]
    arguments: Arguments


@dataclass(frozen=True, slots=True)
class Chosen:
    """The options of one task, by slot, and the random source for everything that is not part of the combination."""

    rng: Random
    slots: dict[str, Bound]

    def __getitem__(self, slot: str) -> Bound:
        return self.slots[slot]

    def pick(self, *values: str) -> str:
        """One of `values`; wording that does not change what the function computes."""
        return self.rng.choice(values)


@dataclass(frozen=True, slots=True)
class Template:
    """A family of tasks: one option per slot makes one combination."""

    name: str
    types: str
    slots: dict[str, tuple[Option, ...]]
    draft: Callable[[Chosen], Draft]


@dataclass(slots=True)
class Registry:
    """The templates, in the order of their definition."""

    templates: list[Template] = field(default_factory=list)

    def template(
        self, types: str, **slots: tuple[Option, ...]
    ) -> Callable[[Callable[[Chosen], Draft]], Callable[[Chosen], Draft]]:
        """Registers the decorated function as a template over `slots`; `types` names what goes in."""

        def register(draft: Callable[[Chosen], Draft]) -> Callable[[Chosen], Draft]:
            self.templates.append(Template(draft.__name__.lstrip("_"), types, slots, draft))
            return draft

        return register


NOUNS = (
    ("number", "numbers"), ("value", "values"), ("score", "scores"), ("price", "prices"), ("point", "points"),
    ("reading", "readings"), ("age", "ages"), ("amount", "amounts"),
)  # fmt: skip
WORDS = (
    "Apple", "bread", "level", "cat", "Delta", "echo", "noon", "stone", "River", "tree", "moon", "Anna", "lion", "code",
    "test", "Mist", "rotor", "idea", "Oslo", "nest", "elm", "radar", "Tin", "sand", "dormant", "Internet", "cinema",
)  # fmt: skip
FIELDS = ("age", "price", "score", "weight", "height", "stock")
NAMES = ("ann", "bob", "cat", "dan", "eve", "fay", "gus")


def integers(rng: Random) -> list[int]:
    """A list of small integers of both signs, sometimes empty."""
    return [rng.randint(-25, 25) for _ in range(rng.choice((0, 3, 5, 7, 9, 9)))]


def filled_integers(rng: Random) -> list[int]:
    """A list of at least four small integers of both signs."""
    return [rng.randint(-25, 25) for _ in range(rng.randint(4, 9))]


def words(rng: Random) -> list[str]:
    """A list of words, some capitalised, some palindromes, sometimes empty."""
    return [rng.choice(WORDS) for _ in range(rng.choice((0, 4, 6, 8, 10)))]


def sentence(rng: Random) -> str:
    """Words and a number separated by single spaces."""
    return " ".join([*words(rng), str(rng.randint(0, 999)), rng.choice(WORDS)])
