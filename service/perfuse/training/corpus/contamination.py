"""Keeps evaluation suites out of training: texts that share words in a row with HumanEval or MBPP's test items.

`evaluated.bin` holds 8 bytes of the SHA-256 of one in `ONE_IN` runs of `RUN` words of these suites' sentences and
solutions, so nothing of them is in the repository. `perfuse train marks FILE…` writes it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

MARKS = Path(__file__).with_name("evaluated.bin")
RUN = 10
"""Words in a row that two texts share only by copying; GPT-3's filter used 13, of longer documents (2005.14165, C)."""
ONE_IN = 8
"""Which runs are kept follows from their hash, so both texts choose the same; a copy of 25 words has two of them."""
BYTES = 8
FIELDS = ("prompt", "description", "text_original", "canonical_solution", "code")
"""Of a suite's lines: sentences and solutions."""
_WORD = re.compile(r"[A-Za-z]+|\d+|[^\sA-Za-z\d]")


def marks(text: str) -> Iterator[bytes]:
    """Hashes of one in `ONE_IN` runs of `RUN` words or signs, letters made small."""
    words = [word.lower() for word in _WORD.findall(text)]
    for start in range(len(words) - RUN + 1):
        mark = hashlib.sha256(" ".join(words[start : start + RUN]).encode()).digest()[:BYTES]
        if mark[0] % ONE_IN == 0:
            yield mark


def is_evaluated(text: str) -> bool:
    """Whether `text` shares `RUN` words in a row with an evaluation suite."""
    known = _known()
    return any(mark in known for mark in marks(text))


def write_marks(texts: Iterable[str], path: Path = MARKS) -> int:
    """Writes the marks of `texts`, sorted; gives their number."""
    found = sorted({mark for text in texts for mark in marks(text)})
    path.write_bytes(b"".join(found))
    return len(found)


@cache
def _known() -> frozenset[bytes]:
    data = MARKS.read_bytes()
    return frozenset(data[start : start + BYTES] for start in range(0, len(data), BYTES))
