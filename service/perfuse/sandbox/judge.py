"""Runs a task in the jail and judges it from outside.

The jailed process receives code and arguments and returns values. What is expected never goes in, so whatever a
program does to its own process (an `__eq__` that is always true, a patched runner, bytes written to the pipe), it
passes only by sending the right values, one answer per case, after the case was sent.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from perfuse.errors import InvalidRequest
from perfuse.sandbox.child import NotAValue, to_wire
from perfuse.sandbox.compare import same
from perfuse.sandbox.process import JailedProcess, Limits, NoAnswer

Reason = Literal[
    "passed", "wrong_value", "raised", "timeout", "memory", "syntax", "missing", "crashed", "output", "forged"
]
_SHOWN = 120
_LONGEST_TEXT = 400
_MOST_SECONDS = 3600.0
_LEAST_MEMORY_MB = 64


@dataclass(frozen=True, slots=True)
class Case:
    """One call and what must come of it.

    Args:
        args: positional arguments: None, bool, int, float, str, and lists, tuples and dicts of them.
        expected: value to return, of the same kinds; compared as `perfuse.sandbox.compare.same` says.
        raises: name of the exception class, or of a base class of it, that the call must raise instead.
        tolerance: how far numbers may be off, int and float then being one kind; None: exact, types included.
    """

    args: Sequence[object]
    expected: object
    raises: str | None = None
    tolerance: float | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """Arguments of `run_tests`, for `run_many`."""

    code: str
    entry_point: str
    cases: Sequence[Case]
    seconds: float = 2.0
    memory_mb: int = 512
    scratch: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a task.

    `reason` is "passed", or why not: "wrong_value", "raised", "timeout" (wall or processor time), "memory",
    "syntax", "missing" (no such function), "crashed" (the process died), "output" (an answer above 1 MiB) or
    "forged" (an answer that does not belong to its question). `case` is the index of the failed case, None where
    the module itself failed or all passed. `detail` may quote the program: show it, never trust it. `seconds` is
    wall time without the start of the interpreter.
    """

    passed: bool
    reason: Reason
    case: int | None
    detail: str
    seconds: float


class _Failed(Exception):
    """Ends a run with a verdict."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason: Reason = reason
        self.detail = detail


def run_tests(
    code: str,
    entry_point: str,
    cases: Sequence[Case],
    *,
    seconds: float = 2.0,
    memory_mb: int = 512,
    scratch: bool = False,
) -> Verdict:
    """Runs `code` in a fresh jailed process, calls `entry_point` with each case, stops at the first that fails.

    All cases share the process, so a program keeps its state between them, as under any test runner.

    Args:
        code: a Python module.
        entry_point: name of the function to call.
        cases: at least one; a program without cases cannot be judged.
        seconds: wall time for the module and all cases together, without the start of the interpreter.
        memory_mb: address space in MiB, the interpreter's 20 included.
        scratch: give the program an own empty directory as its working directory; else no file can be written.

    Raises:
        SandboxUnavailable: this kernel cannot confine; the code was not run.
        InvalidRequest: no cases, a limit out of range, or a case that holds something else than values.
    """
    _check(cases, seconds, memory_mb)
    if not scratch:
        return _judge(code, entry_point, cases, Limits(seconds, memory_mb))
    with TemporaryDirectory(prefix="perfuse-jail-", ignore_cleanup_errors=True) as folder:
        return _judge(code, entry_point, cases, Limits(seconds, memory_mb, Path(folder)))


def run_many(tasks: Iterable[Task], *, parallel: int = 2) -> list[Verdict]:
    """Verdicts of `tasks` in their order, `parallel` processes at a time; each task has a fresh one.

    Raises:
        SandboxUnavailable, InvalidRequest: as `run_tests`, for the first task that does.
    """
    with ThreadPoolExecutor(max_workers=parallel, thread_name_prefix="jail") as pool:
        waiting = [pool.submit(_run_task, task) for task in tasks]
        try:
            return [future.result() for future in waiting]
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _run_task(task: Task) -> Verdict:
    return run_tests(
        task.code,
        task.entry_point,
        task.cases,
        seconds=task.seconds,
        memory_mb=task.memory_mb,
        scratch=task.scratch,
    )


def _check(cases: Sequence[Case], seconds: float, memory_mb: int) -> None:
    if not cases:
        raise InvalidRequest("expected at least one case; got none", field="/cases")
    if not (math.isfinite(seconds) and 0 < seconds <= _MOST_SECONDS):
        raise InvalidRequest(f"expected more than 0 and at most {_MOST_SECONDS:.0f} seconds; got {seconds}")
    if memory_mb < _LEAST_MEMORY_MB:
        raise InvalidRequest(f"expected at least {_LEAST_MEMORY_MB} MiB of memory; got {memory_mb}")
    for index, case in enumerate(cases):
        try:
            to_wire(list(case.args)), to_wire(case.expected)
        except (NotAValue, RecursionError) as error:
            raise InvalidRequest(
                f"expected None, bool, int, float, str, list, tuple or dict; got {error}", field=f"/cases/{index}"
            ) from error


def _judge(code: str, entry_point: str, cases: Sequence[Case], limits: Limits) -> Verdict:
    with JailedProcess(limits) as jailed:
        started = time.monotonic()
        deadline = started + limits.seconds
        index: int | None = None
        try:
            _load(jailed, code, entry_point, deadline)
            for index, case in enumerate(cases):  # noqa: B007 (the failed case's index is in the verdict)
                _try_case(jailed, case, deadline)
        except (_Failed, NoAnswer) as failure:
            return _verdict(started, failure.reason, index, failure.detail)
        return _verdict(started, "passed", None, f"{len(cases)} cases passed")


def _verdict(started: float, reason: Reason, case: int | None, detail: str) -> Verdict:
    return Verdict(reason == "passed", reason, case, detail, time.monotonic() - started)


def _load(jailed: JailedProcess, code: str, entry_point: str, deadline: float) -> None:
    question = {"code": json.dumps(code), "entry_point": json.dumps(entry_point)}
    kind, value = jailed.ask(question, deadline)
    match kind:
        case "loaded":
            return
        case "missing":
            raise _Failed("missing", f"the code defines no function {entry_point!r}")
        case "syntax" | "raised":
            names, text = _error(value)
            raise _Failed("memory" if "MemoryError" in names else kind, text)
        case _:
            raise _Failed("forged", "what came is no answer to this question")


def _try_case(jailed: JailedProcess, case: Case, deadline: float) -> None:
    kind, value = jailed.ask({"arguments": to_wire(list(case.args))}, deadline)
    wanted = f"{case.raises} to be raised" if case.raises is not None else shown(case.expected)
    match kind:
        case "raised":
            names, text = _error(value)
            if case.raises is None:
                raise _Failed("memory" if "MemoryError" in names else "raised", text)
            if case.raises not in names:
                raise _Failed("raised", f"expected {wanted}; got {text}")
        case "value":
            if case.raises is not None or not _equal(case, value):
                raise _Failed("wrong_value", f"expected {wanted}; got {shown(value)}")
        case "unwritable":
            raise _Failed("wrong_value", f"expected {wanted}; got a {shown(value)}, which is not a plain value")
        case _:
            raise _Failed("forged", "what came is no answer to this question")


def _equal(case: Case, value: object) -> bool:
    try:
        return same(case.expected, value, case.tolerance)
    except RecursionError:
        return False


def _error(value: object) -> tuple[list[object], str]:
    """Class names and one line of text from what the child says about an exception."""
    match value:
        case [[str(kind), *others], str(text), line]:
            place = f" (line {line})" if isinstance(line, int) else ""
            return [kind, *others], cleaned(f"{kind}: {text}{place}")
        case _:
            raise _Failed("forged", "what came is no answer to this question")


def cleaned(text: str) -> str:
    """Foreign text on one line, without control characters that a terminal would obey."""
    cut = text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…"
    return "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in cut)


def shown(value: object) -> str:
    """A value as a message shows it, cut where it is long."""
    try:
        text = value if isinstance(value, str) and value.isidentifier() else repr(value)
    except (RecursionError, ValueError):  # deep nesting, or an integer of more than 4,300 digits
        text = f"a {type(value).__name__} too large to show"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
