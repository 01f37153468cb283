"""What a request shows the model: its prompt in the wording of training, and what stands around the fill."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from perfuse.requests import AUTO, Refinement
from perfuse.syntax.fault import Width, line_of, widened
from perfuse.syntax.parsers import TEXT
from perfuse.syntax.places import gist, line_pointed_to
from perfuse.wording import Language, worded


@dataclass(frozen=True, slots=True)
class Shown:
    """What the model reads: `prefix` and `suffix` stay around the fill."""

    prompt: str
    prefix: str
    suffix: str


def shown(prompt: str, language: str, refine: Refinement | None, prefix: str = "", suffix: str = "") -> Shown:
    """The prompt as worded, and what stays around the fill.

    Of code to be refined either the lines that the message points to are written anew, and the prompt says what was
    wrong, or all of it, and the prompt shows it too.

    Args:
        prompt: what the code is to do.
        language: of `perfuse.syntax.parsers.languages`.
        refine: code to be put right; None: there is none.
        prefix: of a request without `refine`.
        suffix: the same.
    """
    if refine is None:
        return Shown(_worded(prompt, language), prefix, suffix)
    error = gist(refine.error)
    width = width_of(refine)
    if width == "whole":
        return Shown(_worded(prompt, language, broken=refine.code, error=error), "", "")
    line = line_pointed_to(refine.error, refine.code)
    assert line is not None
    start, end = widened(refine.code, *line_of(refine.code, line), width)
    start += start > 0  # whole lines with the breaks behind them, as in training
    return Shown(_worded(prompt, language, error=error), refine.code[:start], refine.code[end + 1 :])


def width_of(refine: Refinement) -> Width:
    """How much is written anew: what the request says, and all where the message points nowhere."""
    pointed = line_pointed_to(refine.error, refine.code) is not None
    return cast("Width", refine.width) if pointed and refine.width != AUTO else "whole"


def _worded(prompt: str, language: str, *, broken: str = "", error: str = "") -> str:
    # An installed parser may bring a language that the type does not name; it is said like the others.
    known = "python" if language == TEXT else cast("Language", language)
    return worded(prompt, known, broken=broken, error=error)
