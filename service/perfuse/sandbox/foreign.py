"""Runs candidates in JavaScript, Rust, C and shell in the jail, and judges them from outside.

What confines a run: the same jail as Python's (`native/jail`): limits of memory, processor time, files and processes, a
fresh user when started as root, no capabilities, Landlock, seccomp, SIGKILL to the whole group at the end. It may read
the C library's directory and its own script, write nothing but its output, and has no network. It may execute the
compiled program or the interpreter; a shell may also run eleven filters (tr, rev, cut, …) in at most eight processes,
each of them in the same jail. Beside Python's jail, `exec` of those files is allowed, and `fork` in shell.

What does not: the compiler, which is trusted but reads text that nobody has read. It runs as the judge's user under
limits of time and memory; text with preprocessor lines, includes, assembler or attributes is refused before. The
driver and the candidate share a process, so a candidate can print answers of its own: it must still print the right
ones, which it is not told.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory

from perfuse.errors import SandboxUnavailable
from perfuse.sandbox.compare import same
from perfuse.sandbox.drivers import MISSING, ForeignLanguage, Program, Unreadable, answers, driver
from perfuse.sandbox.judge import Case, Reason, Verdict, cleaned, shown
from perfuse.sandbox.process import JailedProcess, Limits, NoAnswer
from perfuse.sandbox.toolchains import REACHING_OUT, NotCompiled, build, compiles, found, needed

_KNOWN_RIGHT = {
    "javascript": "function double(n) {\n    return n * 2;\n}\n",
    "rust": "fn double(n: i64) -> i64 {\n    n * 2\n}\n",
    "c": "int double_(int n) {\n    return n * 2;\n}\n",
    "shell": "double() {\n    echo $(($1 * 2)) | cat\n}\n",
}
SECONDS = 2.0


@cache
def lacking(language: ForeignLanguage) -> str | None:
    """Why candidates in a language cannot be judged here, found out by judging one; None: they can."""
    if found(language) is None:
        return f"{needed(language)} is not on PATH"
    name = "double_" if language == "c" else "double"
    try:
        (verdict,) = judge_programs(language, [Program(_KNOWN_RIGHT[language], name, [Case([4], 8)])], seconds=20.0)
    except SandboxUnavailable as refusal:
        return refusal.detail
    return None if verdict.passed else f"a program known to be right ended with {verdict.reason}: {verdict.detail}"


def judge_programs(
    language: ForeignLanguage, programs: Iterable[Program], *, seconds: float = SECONDS, parallel: int = 2
) -> list[Verdict]:
    """Verdicts of `programs` in their order; each is compiled alone and has a fresh jailed process.

    Reasons are those of `perfuse.sandbox.Verdict`; "syntax" is also what a compiler refuses, and "missing" a function
    that is there under another name or with other types. `seconds` bounds all cases of a program together.

    Raises:
        SandboxUnavailable: no toolchain on PATH, or this kernel cannot confine; nothing was run.
    """
    if found(language) is None:
        raise SandboxUnavailable(f"expected {needed(language)} on PATH to judge {language}; it is not there")
    with ThreadPoolExecutor(max_workers=parallel, thread_name_prefix="foreign") as pool:
        return list(pool.map(partial(_judged, language, seconds), programs))


def run_trusted(language: ForeignLanguage, programs: list[Program], *, seconds: float) -> list[object]:
    """The answers of programs that are trusted not to disturb each other: one compilation and one jailed process.

    Raises:
        SandboxUnavailable: this kernel cannot confine.
        NotCompiled: the compiler refused one of them.
    """
    with TemporaryDirectory(prefix="perfuse-foreign-") as name:
        output, _ = _run(language, programs, Path(name), seconds)
    return answers(language, output, programs)


def _judged(language: ForeignLanguage, seconds: float, program: Program) -> Verdict:
    started = time.monotonic()
    if (pattern := REACHING_OUT.get(language)) is not None and (reach := pattern.search(program.code)) is not None:
        detail = f"{cleaned(reach.group().strip())!r} is not given to a compiler"
        return Verdict(passed=False, reason="syntax", case=None, detail=detail, seconds=0.0)
    with TemporaryDirectory(prefix="perfuse-foreign-") as name:
        folder = Path(name)
        try:
            output, failure = _run(language, [program], folder, seconds)
        except NotCompiled as refusal:
            alone = compiles(language, program.code, folder)
            return _failed(started, "missing" if alone else "syntax", None, str(refusal))
    return _verdict(language, program, output, failure, started)


def _run(
    language: ForeignLanguage, programs: list[Program], folder: Path, seconds: float
) -> tuple[str, NoAnswer | None]:
    built = build(language, driver(language, programs), folder)
    with JailedProcess(Limits(seconds, built.least_memory_mb), built.command) as jailed:
        output, failure = jailed.output(time.monotonic() + seconds)
    return output.decode(errors="replace"), failure


def _verdict(
    language: ForeignLanguage, program: Program, output: str, failure: NoAnswer | None, started: float
) -> Verdict:
    if (refused := _refused(language, program, output, failure)) is not None:
        reason, detail = refused
        return _failed(started, reason, None, detail)
    found = answers(language, output, [program])
    for index, case in enumerate(program.cases):
        if index >= len(found):
            if failure is None:
                return _failed(started, "crashed", index, "it ended before it had answered")
            return _failed(started, failure.reason, index, failure.detail)
        answer = found[index]
        if isinstance(answer, Unreadable):
            reason, detail = ("raised", answer.text) if answer.text.startswith('{"raised"') else _unreadable(answer)
            return _failed(started, reason, index, detail)
        if not same(case.expected, answer, case.tolerance):
            return _failed(started, "wrong_value", index, f"expected {shown(case.expected)}; got {shown(answer)}")
    detail = f"{len(program.cases)} cases passed"
    return Verdict(passed=True, reason="passed", case=None, detail=detail, seconds=time.monotonic() - started)


def _unreadable(answer: Unreadable) -> tuple[Reason, str]:
    return "wrong_value", f"expected a plain value; got {answer.text}"


def _refused(
    language: ForeignLanguage, program: Program, output: str, failure: NoAnswer | None
) -> tuple[Reason, str] | None:
    """Why an interpreter did not get as far as the cases, None if it did."""
    if language == "javascript" and output.startswith('{"syntax"'):
        return "syntax", output
    if output.startswith(('{"missing"', MISSING)):
        return "missing", f"the code defines no function {program.entry_point!r}"
    if language == "shell" and not output and failure is not None and failure.reason == "crashed":
        return "syntax", failure.detail
    return None


def _failed(started: float, reason: Reason, case: int | None, detail: str) -> Verdict:
    return Verdict(
        passed=False, reason=reason, case=case, detail=cleaned(detail.strip()), seconds=time.monotonic() - started
    )
