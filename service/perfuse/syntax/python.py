"""Python's own parser."""

from __future__ import annotations

import warnings

from perfuse.syntax.fault import Fault, line_of


def faults(code: str) -> list[Fault]:
    """What keeps `code` from being compiled as a module, at most one fault: Python stops at the first.

    The code is compiled and not executed, so that a `return` outside a function is found too.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            compile(code, "<text>", "exec", dont_inherit=True)
    except SyntaxError as error:
        return [_located(code, error)]
    except (ValueError, RecursionError, MemoryError) as error:  # null bytes; nested too deeply
        return [Fault(0, len(code), 1, str(error) or "nested too deeply")]
    return []


def _located(code: str, error: SyntaxError) -> Fault:
    """Python counts lines and columns from 1, and says 0 or nothing where it does not know."""
    line = min(max(error.lineno or 1, 1), code.count("\n") + 1)
    first, last = line_of(code, line)
    start = min(first + max((error.offset or 1) - 1, 0), last)
    end = start + 1
    if error.end_lineno is not None and error.end_offset:
        end = max(line_of(code, error.end_lineno)[0] + error.end_offset - 1, end)
    return Fault(start, min(end, max(len(code), start)), line, f"{type(error).__name__}: {error.msg}")
