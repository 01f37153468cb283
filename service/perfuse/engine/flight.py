"""The flight record: what an engine was computing when it died, and when it last gave a sign of life.

A file mapped into memory by the engine; what was stored survives the death of the process by any signal. The layout is
an array of native unsigned 64-bit words, of which each is stored whole:

    0  magic ("PFFLIGHT")        2  alive: CLOCK_MONOTONIC nanoseconds of the last heartbeat, 0 before the first
    1  number of the valid slot  3  how it ended: 0 not noted, 1 by its own doing, 2 from outside
    4 … 4+W, 4+W … 4+2W          two slots of W = 1 + CAPACITY words: count, job ids

The supervisor writes word 3 when it has found the engine dead. A batch is written into the slot that is not valid, then
the number is changed, so a reader never sees half a batch.
"""

from __future__ import annotations

import mmap
import os
from array import array
from collections.abc import Sequence
from pathlib import Path

_MAGIC = int.from_bytes(b"PFFLIGHT", "little")
_HEADER = 4
_WORD = 8
CAPACITY = 1024
"""Most job ids recorded of one batch; the rest is left out."""
_SLOT = 1 + CAPACITY
_ENDED = 3
_OWN_DOING = 1
_OUTSIDE = 2
_SIZE = (_HEADER + 2 * _SLOT) * _WORD


class FlightRecorder:
    """The writing side, in the engine. One thread calls `batch`, one `alive`.

    Args:
        path: created anew.
    """

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, _SIZE)
            self._map = mmap.mmap(descriptor, _SIZE)
        finally:
            os.close(descriptor)
        self._words = memoryview(self._map).cast("Q")
        self._words[0] = _MAGIC

    def batch(self, jobs: Sequence[int]) -> None:
        """These jobs are about to be computed; none: nothing is."""
        kept = array("Q", jobs[:CAPACITY])
        slot = 1 - self._words[1]
        start = _HEADER + slot * _SLOT
        self._words[start + 1 : start + 1 + len(kept)] = memoryview(kept)
        self._words[start] = len(kept)
        self._words[1] = slot

    def alive(self, monotonic: float) -> None:
        """The process can still answer at this time (`time.monotonic()`)."""
        self._words[2] = int(monotonic * 1e9)

    def close(self) -> None:
        """Release the mapping; the file stays."""
        self._words.release()
        self._map.close()


def batch_of(path: Path) -> frozenset[int] | None:
    """Jobs of the batch that was being computed last. None: there is no such record."""
    words = _read(path)
    if words is None:
        return None
    start = _HEADER + words[1] * _SLOT
    return frozenset(words[start + 1 : start + 1 + words[start]])


def alive_at(path: Path) -> float | None:
    """`time.monotonic()` of the last sign of life. None: none yet."""
    words = _read(path)
    if words is None or words[2] == 0:
        return None
    return words[2] / 1e9


def note_end(path: Path, *, from_outside: bool) -> None:
    """The engine of this record is dead (see `perfuse.engine.endings`). Does nothing where there is no record."""
    if _read(path) is not None:
        with path.open("r+b") as record:
            record.seek(_ENDED * _WORD)
            record.write(array("Q", [_OUTSIDE if from_outside else _OWN_DOING]).tobytes())


def ended_from_outside(path: Path) -> bool | None:
    """Whether somebody ended the engine from outside. None: not noted (yet)."""
    words = _read(path)
    if words is None or words[_ENDED] == 0:
        return None
    return words[_ENDED] == _OUTSIDE


def _read(path: Path) -> array[int] | None:
    try:
        content = path.read_bytes()
    except OSError:
        return None
    if len(content) != _SIZE:
        return None
    words = array("Q", content)
    if words[0] != _MAGIC or words[1] > 1:
        return None
    return words
