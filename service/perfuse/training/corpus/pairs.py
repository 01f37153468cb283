"""Sentence and function from documented code: the first sentence of a docstring, and the function without it."""

from __future__ import annotations

import ast
import hashlib
import json
import logging
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from perfuse.training.corpus.contamination import is_evaluated
from perfuse.training.corpus.sources import files

log = logging.getLogger(__name__)
MOST_LINES = 16
LONGEST = 700
"""Characters of a function: more do not fit a canvas of 256 tokens beside their sentence."""
WORDS = range(4, 33)
"""Of a sentence that says what a function does."""
_SENTENCE = re.compile(r"(.+?[.:])(?:\s|$)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Pair:
    """What a function is said to do, and the function."""

    prompt: str
    code: str


def collect(paths: Sequence[Path] | None = None) -> list[Pair]:
    """The pairs of all files, each function once (by its syntax tree), none that an evaluation suite holds."""
    found: dict[bytes, Pair] = {}
    for path in files() if paths is None else paths:
        try:
            tree = ast.parse(source := path.read_text(encoding="utf-8"))
        except (UnicodeDecodeError, SyntaxError, ValueError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and (pair := of_function(node, source)) is not None:
                found.setdefault(hashlib.sha256(_shape(pair.code)).digest(), pair)
    pairs = [pair for pair in found.values() if not is_evaluated(f"{pair.prompt}\n{pair.code}")]
    log.info("%d pairs of sentence and function, %d more share words with evaluation suites",
             len(pairs), len(found) - len(pairs))  # fmt: skip
    return pairs


def of_function(node: ast.FunctionDef, source: str) -> Pair | None:
    """The pair of a short function with a docstring of whole words; None for others."""
    documented = ast.get_docstring(node)
    if documented is None or len(node.body) < 2:
        return None
    sentence = _SENTENCE.match(" ".join(documented.split("\n\n")[0].split()) + " ")
    if sentence is None or len(sentence[1].split()) not in WORDS or not sentence[1].isascii():
        return None
    lines = source.splitlines()
    first, last = node.body[0], node.body[-1]
    assert first.end_lineno is not None
    assert last.end_lineno is not None
    kept = [*lines[node.lineno - 1 : first.lineno - 1], *lines[first.end_lineno : last.end_lineno]]
    code = textwrap.dedent("\n".join(line.rstrip() for line in kept if line.strip())) + "\n"
    if len(kept) > MOST_LINES or len(code) > LONGEST or not code.isascii() or not code.startswith("def "):
        return None
    return Pair(sentence[1].rstrip(":"), code) if _shape(code) else None


def _shape(code: str) -> bytes:
    """The syntax tree as bytes; empty where cutting out the docstring left no program."""
    try:
        return ast.dump(ast.parse(code)).encode()
    except SyntaxError:
        return b""


def kept(path: Path) -> Sequence[Pair]:
    """The pairs in the file at `path`, which is written on first use: collecting takes a minute."""
    if not path.exists():
        path.write_text("".join(f"{json.dumps(asdict(pair))}\n" for pair in collect()), encoding="utf-8")
    return list(_read(path))


def _read(path: Path) -> Iterator[Pair]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield Pair(**json.loads(line))
