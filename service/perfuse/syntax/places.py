"""Which line a traceback or a compiler's message points to, and what of it a model is told."""

from __future__ import annotations

import re

_PYTHON = re.compile(r'^\s*File "[^"\n]*", line (\d+)', re.MULTILINE)
_SAID = re.compile(r"\((?:[^()\n]*, )?line (\d+)\)")
"""The last line alone: SyntaxError: … (<string>, line N), or as our jail says it, (line N)."""
_PLACED = re.compile(r"(?:^|[\s(])[^\s:()]*\.(?:rs|c|h|js|mjs|cjs|sh|py):(\d+)(?::\d+)?", re.MULTILINE)
"""rustc, gcc, clang and node: FILE:LINE:COLUMN."""
_SHELL = re.compile(r"^\S+: (?:line )?(\d+): ", re.MULTILINE)
_RAISED = re.compile(r"^[\w.]*(?:Error|Exception|Interrupt|Exit|Warning)\b.*$")
_COMPILED = re.compile(r"^(?:\S+?:\d+:(?:\d+:)? *)?((?:fatal )?error\b.*)$")


def line_pointed_to(error: str, code: str) -> int | None:
    """The line of `code`, from 1, that the message points to; None where it names none.

    A Python traceback ends at the place; compilers and node name it first. Lines that `code` does not have belong to
    other files.
    """
    lines = code.count("\n") + 1
    if found := _within(_PYTHON.findall(error), lines):
        return found[-1]
    for pattern in (_SAID, _PLACED, _SHELL):
        if found := _within(pattern.findall(error), lines):
            return found[0]
    return None


def _within(numbers: list[str], lines: int) -> list[int]:
    return [number for text in numbers if 1 <= (number := int(text)) <= lines]


def gist(error: str) -> str:
    """The line of a message that says what is wrong: the exception, or a compiler's first error, or the last line."""
    said = [line.strip() for line in error.splitlines() if line.strip()]
    raised = [line for line in said if _RAISED.match(line)]
    if raised:
        return raised[-1]
    compiled = next((match for line in said if (match := _COMPILED.match(line))), None)
    if compiled is not None:
        return compiled.group(1)
    return said[-1] if said else ""
