"""Raw Python: the standard library and named packages of permissive licence, read where they lie.

The packages are those of requirements/serve.txt, in the versions pinned there, so every machine reads the same text of
them; the standard library is the interpreter's own. `digest` tells whether two machines read the same.
"""

from __future__ import annotations

import hashlib
import sysconfig
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from random import Random

from perfuse.training.corpus.contamination import is_evaluated

MAX_BYTES = 200_000
PACKAGES = {
    "anyio": "MIT",
    "httpx2": "BSD-3-Clause",
    "jinja2": "BSD-3-Clause",
    "mpmath": "BSD-3-Clause",
    "networkx": "BSD-3-Clause",
    "numpy": "BSD-3-Clause",
    "pydantic": "MIT",
    "rich": "MIT",
    "starlette": "BSD-3-Clause",
    "sympy": "BSD-3-Clause",
    "torch": "BSD-3-Clause",
    "typer": "MIT",
    "uvicorn": "BSD-3-Clause",
}
"""Folders of installed packages, with their licence."""
HELD_OUT = 20
"""One file in so many is never trained on, so that likelihoods can be measured on it."""


@cache
def files(*, held_out: bool = False) -> tuple[Path, ...]:
    """Python files of the standard library and of `PACKAGES`, sorted; the side that is trained on, or the other."""
    library = Path(sysconfig.get_path("stdlib"))
    roots = [(library, library), *((Path(sysconfig.get_path("purelib")) / name, None) for name in PACKAGES)]
    found: set[Path] = set()
    for root, base in roots:
        for path in root.rglob("*.py"):
            name = path.relative_to(base or root.parent)
            if name.parts[0] == "site-packages" or not 200 < path.stat().st_size < MAX_BYTES:
                continue
            if _is_held_out(name) == held_out:
                found.add(path)
    return tuple(sorted(found))


def _is_held_out(name: Path) -> bool:
    return int.from_bytes(hashlib.sha256(name.as_posix().encode()).digest()[:4], "big") % HELD_OUT == 0


@cache
def digest(paths: tuple[Path, ...]) -> str:
    """SHA-256 over the contents of the files, in their order."""
    whole = hashlib.sha256()
    for path in paths:
        whole.update(hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()


def windows(rng: Random, lines: int = 12, paths: Sequence[Path] | None = None) -> Iterator[str]:
    """Endless runs of at most `lines` consecutive lines from random files.

    Files that are not UTF-8 and runs that an evaluation suite holds as well are passed over.
    """
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
            if piece.strip() and not is_evaluated(piece):
                yield piece
