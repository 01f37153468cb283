"""A place where code does not parse, and the lines around a place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

Width = Literal["line", "around", "whole"]
AROUND = 2
"""Lines on each side of the place."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One place where code does not parse.

    Attributes:
        start, end: character offsets of the place; `end` is behind its last character.
        line: of the start, from 1.
        message: what the parser says.
    """

    start: int
    end: int
    line: int
    message: str

    def column(self, code: str) -> int:
        """Of the start in its line of `code`, in characters from 1."""
        return self.start - (code.rfind("\n", 0, self.start) + 1) + 1


class Parser(Protocol):
    """Finds faults; none: the code parses. It must not execute the code."""

    def __call__(self, code: str) -> list[Fault]:
        """The faults of `code`, first ones first."""
        ...


def widened(code: str, start: int, end: int, width: Width) -> tuple[int, int]:
    """The lines that hold the characters `start:end`, with those around or all, as offsets `[start, end)`.

    The line break before the first of them belongs to the result and the one behind the last does not, so that the
    indentation is written anew too.
    """
    if width == "whole":
        return 0, len(code)
    more = AROUND if width == "around" else 0
    breaks = [place for place, character in enumerate(code) if character == "\n"]
    first = code.count("\n", 0, start) - more
    last = code.count("\n", 0, max(end - 1, start)) + more
    return (breaks[first - 1] if first > 0 else 0), (breaks[last] if last < len(breaks) else len(code))


def line_of(code: str, number: int) -> tuple[int, int]:
    """Offsets of line `number`, from 1, without its line break; the last line where there are fewer."""
    start = 0
    for _ in range(number - 1):
        found = code.find("\n", start)
        if found < 0:
            break
        start = found + 1
    found = code.find("\n", start)
    return start, len(code) if found < 0 else found
