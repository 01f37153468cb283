"""What a template of the foreign languages is: slots with options, and a function that sketches chosen options."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from random import Random
from typing import Literal, get_args

from perfuse.training.corpus.languages import c, javascript, rust, shell
from perfuse.training.corpus.languages.form import Function, Kind, function
from perfuse.training.corpus.options import Bound, Option
from perfuse.training.corpus.template import Chosen

Foreign = Literal["javascript", "rust", "c", "shell"]
FOREIGN: tuple[Foreign, ...] = get_args(Foreign)
EMITTERS: Mapping[Foreign, Callable[[Function], str]] = {
    "javascript": javascript.emit,
    "rust": rust.emit,
    "c": c.emit,
    "shell": shell.emit,
}
FRAMES: Mapping[Foreign, Callable[[Function, Sequence[str]], str]] = {
    "javascript": javascript.framed,
    "rust": rust.framed,
    "c": c.framed,
    "shell": shell.framed,
}
Arguments = Callable[[Random], Sequence[object]]


@dataclass(frozen=True)
class Sketch:
    """A task before its language is chosen.

    `lines` are the body in the intermediate form. Where a language has idioms that the form cannot say, `idioms` has
    its body, and `lines` only say what comes out; a sketch with idioms exists in the languages that they name.
    """

    sentences: tuple[str, ...]
    name: str
    parameters: Mapping[str, Kind]
    result: Kind
    lines: tuple[str, ...]
    arguments: Arguments
    idioms: Mapping[Foreign, tuple[str, ...]] = field(default_factory=dict)

    @cached_property
    def form(self) -> Function:
        """The intermediate form."""
        return function(self.name, self.parameters, self.result, self.lines)

    def source(self, language: Foreign) -> str:
        """The function in a language."""
        if not self.idioms:
            return EMITTERS[language](self.form)
        return FRAMES[language](self.form, self.idioms[language])


@dataclass(frozen=True, slots=True)
class Template:
    """A family of tasks in several languages: one option per slot makes one combination."""

    name: str
    types: str
    languages: tuple[Foreign, ...]
    slots: dict[str, tuple[Option, ...]]
    sketch: Callable[[Chosen], Sketch]


@dataclass(slots=True)
class Registry:
    """The templates, in the order of their definition."""

    templates: list[Template] = field(default_factory=list)

    def template(
        self, types: str, languages: tuple[Foreign, ...] = FOREIGN, **slots: tuple[Option, ...]
    ) -> Callable[[Callable[[Chosen], Sketch]], Callable[[Chosen], Sketch]]:
        """Registers the decorated function as a template over `slots`; `types` names what goes in."""

        def register(sketch: Callable[[Chosen], Sketch]) -> Callable[[Chosen], Sketch]:
            self.templates.append(Template(sketch.__name__.lstrip("_"), types, languages, slots, sketch))
            return sketch

        return register


def numbers(*chosen: Bound) -> Arguments:
    """One list of integers that every language computes alike with these options.

    Quotients and remainders of negative numbers differ between languages, and products must fit into 32 bits.
    """
    keys = {bound.key for bound in chosen}
    low, high, longest = (-5, 5, 4) if "product" in keys else (-25, 25, 9)
    if keys & {"modulo", "floor"}:
        low = 0

    def draw(rng: Random) -> Sequence[object]:
        return [[rng.randint(low, high) for _ in range(rng.randint(0, longest))]]

    return draw


def number(low: int, high: int, *chosen: Bound) -> Arguments:
    """One integer of a range, not negative with options that need that."""
    if {bound.key for bound in chosen} & {"modulo", "floor"}:
        low = max(low, 0)
    return lambda rng: [rng.randint(low, high)]
