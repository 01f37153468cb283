"""What the model reads of a request."""

from __future__ import annotations

import pytest

from perfuse.requests import RefinedWidth, Refinement
from perfuse.syntax.refinement import Shown, shown, width_of

CODE = "def f(x):\n    y = x + 1\n    return z\n"
ERROR = "Traceback (most recent call last):\n  File \"m.py\", line 3, in f\nNameError: name 'z' is not defined\n"
SAID = "NameError: name 'z' is not defined"


def test_python_and_text_are_said_as_they_are_and_others_by_name() -> None:
    assert shown("Double it.", "python", None, "a", "b") == Shown("Double it.", "a", "b")
    assert shown("rust: Double it.", "text", None) == Shown("rust: Double it.", "", "")
    assert shown("Double it.", "rust", None) == Shown("rust: Double it.", "", "")


@pytest.mark.parametrize("width", ["auto", "whole"])
def test_a_whole_program_is_shown_with_its_error(width: RefinedWidth) -> None:
    refine = Refinement(code=CODE, error=ERROR, width=width)
    assert shown("Add.", "python", refine) == Shown(f"Add.\nwrong:\n{CODE}\nerror: {SAID}", "", "")


def test_the_line_that_is_pointed_to_is_left_out() -> None:
    refine = Refinement(code=CODE, error=ERROR, width="line")
    assert shown("Add.", "c", refine) == Shown(f"c: Add.\nerror: {SAID}", "def f(x):\n    y = x + 1\n", "")
    refine = Refinement(code=CODE, error="SyntaxError: x (line 2)", width="line")
    assert shown("", "python", refine) == Shown("\nerror: SyntaxError: x (line 2)", "def f(x):\n", "    return z\n")
    refine = Refinement(code=CODE, error="SyntaxError: x (line 2)", width="around")
    assert shown("", "python", refine) == Shown("\nerror: SyntaxError: x (line 2)", "", "")


def test_an_error_that_points_nowhere_has_all_written_anew() -> None:
    assert width_of(Refinement(code=CODE, error="wrong answer", width="line")) == "whole"
    assert width_of(Refinement(code=CODE, error=ERROR, width="around")) == "around"
