"""What a batch costs, learned while serving: `seconds = a + b · rows` per key, and how many rows are worth taking.

The row cap grows only while the cost per row falls: on a device that computes rows one after the other batching is
worth nothing and would only make short requests wait (measured: research notes in docs/explanation/scheduling.md).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from perfuse.engine.scheduler import BatchKey

FORGET = 0.98
"""Weight of the past at each observation of the linear fit: the last ~50 batches count."""
SMOOTH = 0.1
"""Weight of a new observation in the averages."""
STALE = 200
"""Observations of a key after which an unseen row count is no longer believed."""
BELIEVE = 3
"""Observations of a way of splitting before it is compared."""
FIRST_GUESS_SECONDS = 0.005
"""Cost of a row of a key never seen. The first batch replaces it."""


@dataclass(slots=True)
class _Average:
    value: float
    seen_at: int

    def add(self, value: float, now: int) -> None:
        self.value += SMOOTH * (value - self.value)
        self.seen_at = now


@dataclass(slots=True)
class _KeyCost:
    """Decayed sums for the least-squares line, and the measured cost per row by power-of-two row count."""

    count: int = 0
    weight: float = 0.0
    rows: float = 0.0
    rows2: float = 0.0
    seconds: float = 0.0
    rows_seconds: float = 0.0
    per_row: dict[int, _Average] = field(default_factory=dict)

    def observe(self, rows: int, seconds: float) -> None:
        self.count += 1
        self.weight = self.weight * FORGET + 1.0
        self.rows = self.rows * FORGET + rows
        self.rows2 = self.rows2 * FORGET + rows * rows
        self.seconds = self.seconds * FORGET + seconds
        self.rows_seconds = self.rows_seconds * FORGET + rows * seconds
        bucket = rows.bit_length()
        if (average := self.per_row.get(bucket)) is None:
            self.per_row[bucket] = _Average(seconds / rows, self.count)
        else:
            average.add(seconds / rows, self.count)

    def line(self) -> tuple[float, float]:
        """(a, b) in seconds, both >= 0. One row count alone says nothing of the slope: half and half is assumed."""
        if self.count == 0:
            return FIRST_GUESS_SECONDS / 2, FIRST_GUESS_SECONDS / 2
        mean_rows, mean_seconds = self.rows / self.weight, self.seconds / self.weight
        spread = self.rows2 / self.weight - mean_rows**2
        if spread < 0.05 * mean_rows:
            return mean_seconds / 2, mean_seconds / 2 / mean_rows
        slope = (self.rows_seconds / self.weight - mean_rows * mean_seconds) / spread
        slope = min(max(slope, 0.0), mean_seconds / mean_rows)
        return max(mean_seconds - slope * mean_rows, 0.0), slope

    def seconds_per_row(self, rows: int) -> float:
        """Measured where this row count was seen of late, else from the line."""
        average = self.per_row.get(rows.bit_length())
        if average is not None and self.count - average.seen_at <= STALE:
            return average.value
        a, b = self.line()
        return a / rows + b


class CostModel:
    """Learns from every batch. Knows no clock: durations come in.

    Args:
        max_rows: most rows in one batch.
        max_batch_seconds: a batch is kept shorter than this, so that everything stays preemptible.
        min_gain: doubling the rows must save at least this share of the cost per row.
        threads: compute threads; a batch may be split over all of them or stay on one.
    """

    def __init__(
        self, *, max_rows: int = 64, max_batch_seconds: float = 0.1, min_gain: float = 0.05, threads: int = 1
    ) -> None:
        self._max_rows = max_rows
        self._max_batch_seconds = max_batch_seconds
        self._min_gain = min_gain
        self._threads = threads
        self._batches: dict[BatchKey, _KeyCost] = {}
        self._splits: dict[tuple[BatchKey, int], _KeyCost] = {}
        self._usage: dict[str, tuple[float, int]] = {}

    def observe(self, key: BatchKey, rows: int, seconds: float) -> None:
        """A whole cycle (forward, resuming, sampling) of `rows` rows took `seconds`."""
        self._batches.setdefault(key, _KeyCost()).observe(rows, seconds)

    def observe_split(self, key: BatchKey, rows: int, blocks: int, seconds: float) -> None:
        """The forward alone of `rows` rows in `blocks` side-by-side blocks took `seconds`."""
        self._splits.setdefault((key, blocks), _KeyCost()).observe(rows, seconds)

    def blocks(self, key: BatchKey, rows: int) -> int:
        """Into how many single-threaded blocks to split the rows: the faster of one and all threads, tried in turn."""
        if self._threads == 1 or rows == 1:
            return 1
        many = min(self._threads, rows)
        one_cost, many_cost = self._splits.get((key, 1)), self._splits.get((key, many))
        if many_cost is None or many_cost.count < BELIEVE:
            return many
        if one_cost is None or one_cost.count < BELIEVE:
            return 1
        return many if many_cost.seconds_per_row(rows) <= one_cost.seconds_per_row(rows) else 1

    def line(self, key: BatchKey) -> tuple[float, float]:
        """The fitted (a, b) of a key in seconds."""
        return self._batches.get(key, _KeyCost()).line()

    def seconds_per_row(self, key: BatchKey) -> float:
        """Seconds of engine time per row of late: full batches count for as many rows as they had."""
        cost = self._batches.get(key)
        return FIRST_GUESS_SECONDS if cost is None else cost.seconds / cost.rows

    def row_cap(self, key: BatchKey) -> int:
        """Most rows to take: doubled from one while that makes a row cheaper by at least `min_gain`."""
        cost = self._batches.get(key, _KeyCost())
        rows = 1
        while rows * 2 <= self._max_rows:
            now, doubled = cost.seconds_per_row(rows), cost.seconds_per_row(rows * 2)
            if doubled > now * (1.0 - self._min_gain) or doubled * rows * 2 > self._max_batch_seconds:
                break
            rows *= 2
        return rows

    def batch_seconds(self, key: BatchKey, rows: int) -> float:
        """What a batch of that many rows takes."""
        return self._batches.get(key, _KeyCost()).seconds_per_row(rows) * rows

    def observe_usage(self, kind: str, share: float) -> None:
        """A finished request of this kind needed `share` of the calls it had estimated.

        The mean at first, later a moving average: the warm-up request is like no other.
        """
        before, count = self._usage.get(kind, (0.0, 0))
        self._usage[kind] = before + max(SMOOTH, 1 / (count + 1)) * (share - before), count + 1

    def usage(self, kind: str) -> float:
        """Share of the estimated calls that requests of this kind really need (1 until the first has finished)."""
        return self._usage.get(kind, (1.0, 0))[0]

    def snapshot(self) -> dict[BatchKey, tuple[float, float, int]]:
        """(a, b, row cap) of every key seen."""
        return {key: (*cost.line(), self.row_cap(key)) for key, cost in self._batches.items()}
