"""Raw Python: the sources of the interpreter's standard library and of the installed packages, read where they lie."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from pathlib import Path
from random import Random

MAX_BYTES = 200_000


def files() -> list[Path]:
    """Python files of the standard library and of installed packages, sorted, without their tests' bulk data."""
    roots = {Path(sysconfig.get_path(kind)) for kind in ("stdlib", "purelib")}
    found = {path for root in roots for path in root.rglob("*.py") if 200 < path.stat().st_size < MAX_BYTES}
    return sorted(found)


def windows(rng: Random, lines: int = 12, paths: list[Path] | None = None) -> Iterator[str]:
    """Endless runs of at most `lines` consecutive lines from random files; files that are not UTF-8 are passed over."""
    paths = paths or files()
    while True:
        try:
            text = rng.choice(paths).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        rows = text.splitlines(keepends=True)
        for _ in range(4):
            start = rng.randrange(len(rows))
            piece = "".join(rows[start : start + rng.randint(2, lines)])
            if piece.strip():
                yield piece
