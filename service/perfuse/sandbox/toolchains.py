"""Compilers and interpreters of the languages beside Python: where they are, and how a driver becomes a command."""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from perfuse.sandbox.drivers import ForeignLanguage
from perfuse.sandbox.process import Command

COMPILE_SECONDS = 60.0
_COMPILER_BYTES = 4 << 30
_NEEDED = {"javascript": ("node",), "rust": ("rustc",), "c": ("cc", "gcc"), "shell": ("sh",)}
_FILTERS = ("tr", "rev", "cut", "wc", "head", "tail", "sort", "uniq", "seq", "expr", "cat")
"""What a shell function may run beside the shell."""
_PASSED_ON = ("PATH", "HOME", "RUSTUP_HOME", "CARGO_HOME", "RUSTUP_TOOLCHAIN", "TMPDIR")
_NODE = ("--max-old-space-size=64", "--single-threaded", "--no-expose-wasm")
_LONGEST = 400
_HEADERS = ("ctype", "limits", "stdbool", "stddef", "stdint", "stdio", "stdlib", "string")
REACHING_OUT = {
    "c": re.compile(
        rf"#(?! *include *<({'|'.join(_HEADERS)})\.h> *$)|%:|\?\?|\\[ \t]*$|\b_*asm_*\b|_Pragma|__has_\w+", re.MULTILINE
    ),
    "rust": re.compile(r"#|\b(include\w*|env|option_env|\w*asm|macro_rules|mod|extern)\b"),
}
"""What would let the text reach past itself while it is compiled: other files, the assembler, attributes."""


class NotCompiled(Exception):
    """The compiler refused; the text is its first error."""


@dataclass(frozen=True, slots=True)
class Built:
    """A command that runs a driver, and the least memory that its runtime needs, in MiB."""

    command: Command
    least_memory_mb: int


@cache
def found(language: ForeignLanguage) -> Path | None:
    """The compiler or interpreter on PATH, None without one."""
    paths = [path for name in _NEEDED[language] if (path := shutil.which(name)) is not None]
    return Path(paths[0]) if paths else None


def needed(language: ForeignLanguage) -> str:
    """What has to be on PATH."""
    return " or ".join(_NEEDED[language])


def build(language: ForeignLanguage, source: str, folder: Path) -> Built:
    """Writes `source` into `folder`, compiles it if the language is compiled, and says how to run it.

    The compiler runs unconfined but for address space and time; `REACHING_OUT` says what is not given to it.

    Raises:
        NotCompiled: the compiler refused, or took too long.
    """
    folder.chmod(0o755)  # the jailed user is nobody that owns anything
    tool = found(language)
    assert tool is not None
    if language in {"javascript", "shell"}:
        return _interpreted(language, tool.resolve(), source, folder)
    compile_text(language, source, folder, [*_options(language), "-o", "program"])
    return Built(Command([str(folder / "program")]), 64)


def _options(language: ForeignLanguage) -> Sequence[str]:
    if language == "rust":
        return ("--edition=2021", "-Cdebuginfo=0", "-Copt-level=0", "-Cpanic=abort", "-Coverflow-checks=on")
    return ("-std=gnu17", "-O1", "-w")


def compile_text(language: ForeignLanguage, source: str, folder: Path, options: Sequence[str]) -> None:
    """Runs the compiler of a language on `source`. Raises NotCompiled."""
    name = "driver.rs" if language == "rust" else "driver.c"
    (folder / name).write_text(source, encoding="utf-8")
    environment = {key: value for key in _PASSED_ON if (value := os.environ.get(key)) is not None}
    process = subprocess.Popen(  # noqa: S603 (a compiler found on PATH, our file)
        [str(found(language)), name, *options],
        cwd=folder,
        env={**environment, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    resource.prlimit(process.pid, resource.RLIMIT_AS, (_COMPILER_BYTES, _COMPILER_BYTES))
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (256 << 20, 256 << 20))
    try:
        _, said = process.communicate(timeout=COMPILE_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.communicate()
        raise NotCompiled(f"not compiled within {COMPILE_SECONDS:.0f} s") from None
    if process.returncode != 0:
        lines = said.decode(errors="replace").splitlines()
        raise NotCompiled(next((line for line in lines if "error" in line), "refused")[:_LONGEST])


def compiles(language: ForeignLanguage, code: str, folder: Path) -> bool:
    """Whether the candidate compiles without a driver: then only the function that was asked for is missing."""
    if language == "rust":
        source, options = f"#![allow(warnings)]\n{code}", ("--edition=2021", "--crate-type=lib", "--emit=metadata")
    else:
        source = "".join(f"#include <{header}.h>\n" for header in _HEADERS) + code
        options = ("-std=gnu17", "-w", "-fsyntax-only")
    try:
        compile_text(language, source, folder, options)
    except NotCompiled:
        return False
    return True


def _interpreted(language: ForeignLanguage, tool: Path, source: str, folder: Path) -> Built:
    script = folder / ("driver.js" if language == "javascript" else "driver.sh")
    script.write_text(source, encoding="utf-8")
    script.chmod(0o644)
    if language == "javascript":
        return Built(Command([str(tool), *_NODE, str(script)], readable=[folder]), 2048)
    filters = [Path(path).resolve() for name in _FILTERS if (path := shutil.which(name, path="/usr/bin:/bin"))]
    return Built(Command([str(tool), str(script)], readable=[folder], programs=filters, processes=8), 256)
