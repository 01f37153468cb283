"""How often canaries won or lost, and adaptations were promoted or taken back, since this process began."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Literal

Pair = Literal["won", "lost", "even"]
Move = Literal["promoted", "withdrawn", "rolled_back"]


class Tally:
    """Counts from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pairs: Counter[Pair] = Counter()
        self._moves: Counter[Move] = Counter()

    def pair(self, before: bool, after: bool) -> None:  # one verdict each
        """A live row was answered by what serves (`before`) and by the canary (`after`); both were judged."""
        with self._lock:
            self._pairs["even" if before == after else "won" if after else "lost"] += 1

    def move(self, move: Move) -> None:
        """An adaptation was promoted, withdrawn as a canary, or rolled back as a champion."""
        with self._lock:
            self._moves[move] += 1

    @property
    def pairs(self) -> dict[Pair, int]:
        """Pairs by what became of them."""
        with self._lock:
            return dict(self._pairs)

    @property
    def moves(self) -> dict[Move, int]:
        """Moves by kind."""
        with self._lock:
            return dict(self._moves)
