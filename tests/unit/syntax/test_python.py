"""Python's faults: where, and in whose words."""

from __future__ import annotations

import pytest

from perfuse.syntax.python import faults


@pytest.mark.parametrize(
    ("code", "place", "line", "column", "message"),
    [
        ("def f(:\n    pass\n", ":", 1, 7, "SyntaxError: invalid syntax"),
        ("if x:\ny\n", "y", 2, 1, "IndentationError: expected an indented block after 'if' statement on line 1"),
        ("x = [1,\n", "[", 1, 5, "SyntaxError: '[' was never closed"),
        ("é = 1\nreturn x\n", "return x", 2, 1, "SyntaxError: 'return' outside function"),
        ("if x:\n    a\n  b\n", "b", 3, 4, "IndentationError: unindent does not match any outer indentation level"),
    ],
)  # fmt: skip
def test_a_fault_has_its_place_and_message(code: str, place: str, line: int, column: int, message: str) -> None:
    (fault,) = faults(code)
    assert (fault.line, fault.message) == (line, message)
    if message.startswith("SyntaxError"):
        assert (code[fault.start : fault.end], fault.column(code)) == (place, column)


@pytest.mark.parametrize("code", ["", "\n", "def f(x):\n    return x\n", "x = '\\d'\n", "x = 1\r\n"])
def test_what_parses_has_no_fault(code: str) -> None:
    assert faults(code) == []


def test_what_cannot_be_read_at_all_is_one_fault_of_all() -> None:
    assert faults("x\0")[0].message.endswith("source code string cannot contain null bytes")
    deep = "(" * 5000 + ")" * 5000
    (fault,) = faults(deep)
    assert fault.line == 1
    assert 0 <= fault.start < fault.end <= len(deep)


def test_the_end_of_the_text_is_a_place() -> None:
    (fault,) = faults("x = ")
    assert (fault.line, fault.message, fault.column("x = ")) == (1, "SyntaxError: invalid syntax", 5)
