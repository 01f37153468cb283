"""Chooses the next batch. Knows neither clock nor threads nor tensors: calls come in, a batch comes out."""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import NamedTuple, Protocol

from perfuse.models.call import Call
from perfuse.models.lora import Adaptation

AGEING = 0.02
"""Seconds of remaining work that one second of waiting outweighs: long requests cannot starve."""
PEER = 2.0
"""Requests up to this many times as large as the lead's share its batches freely."""
BACKLOG_SECONDS = 8.0
"""Seconds of backlog at which larger requests may double the lead's step; without a backlog they must not slow it."""
PRIORITY_SECONDS = 1.0
"""Seconds of remaining work that one level of priority outweighs."""


class BatchKey(NamedTuple):
    """Calls with equal keys may share a batch.

    Attributes:
        network: `model@version`.
        shape: the network's own key of the call.
        reproducible: computed in blocks of a fixed number of rows.
        solo: the only job whose rows may be in the batch (a suspect after a crash), or None.
        adaptation: of reproducible rows: their sums depend on how many rows share an adaptation.
    """

    network: str
    shape: Hashable
    reproducible: bool = False
    solo: int | None = None
    adaptation: Adaptation | None = None

    @property
    def kind(self) -> BatchKey:
        """What the cost depends on: neither whose rows they are nor which adaptation they carry."""
        return self._replace(solo=None, adaptation=None)


@dataclass(frozen=True, slots=True, eq=False)
class PendingCall:
    """A call that is ready to be computed.

    Attributes:
        call: what to compute.
        job: the request it belongs to.
        index: its place among the calls of one await.
        rank: order of urgency, see `rank`.
        size: engine seconds the whole request was expected to take.
    """

    call: Call
    key: BatchKey
    job: int
    index: int
    rank: float
    size: float = 0.0


@dataclass(slots=True)
class Batch:
    """Calls of one key, most urgent first."""

    key: BatchKey
    calls: list[PendingCall] = field(default_factory=list)


class RowCap(Protocol):
    """What the scheduler asks of a cost model."""

    def row_cap(self, key: BatchKey) -> int:
        """Most rows worth computing together."""
        ...

    def batch_seconds(self, key: BatchKey, rows: int) -> float:
        """What a batch of that many rows takes."""
        ...


def rank(*, admitted: float, remaining: float, priority: int = 0, deadline: float | None = None) -> float:
    """Order of urgency, least first: shortest remaining work, with ageing, priority and deadlines.

    The score at time `now` is remaining - AGEING·(now - admitted) - PRIORITY_SECONDS·priority; the term in `now` is the
    same for all, so it is left out and ranks never change while a call waits. A request with a deadline is at its
    latest start (deadline - remaining) as urgent as a new request without work.

    Args:
        admitted: when the request was admitted, in seconds of any clock.
        remaining: seconds of work it still needs.
        priority: levels above (or below) the default 0.
        deadline: when it must be done, same clock.
    """
    score = remaining + AGEING * admitted - PRIORITY_SECONDS * priority
    return score if deadline is None else min(score, AGEING * (deadline - remaining))


class Scheduler:
    """Holds the ready calls of all requests, one heap per key."""

    def __init__(self, caps: RowCap) -> None:
        self._caps = caps
        self._heaps: dict[BatchKey, list[tuple[float, int, PendingCall]]] = {}
        self._waiting: dict[int, int] = {}
        self._ticket = count()

    def __len__(self) -> int:
        """Ready calls that have not been dropped."""
        return sum(self._waiting.values())

    def add(self, call: PendingCall) -> None:
        """A call has become ready."""
        heapq.heappush(self._heaps.setdefault(call.key, []), (call.rank, next(self._ticket), call))
        self._waiting[call.job] = self._waiting.get(call.job, 0) + 1

    def drop(self, job: int) -> None:
        """Forget all ready calls of a request. They are skipped when their turn comes."""
        if self._waiting.pop(job, None) is not None:
            for heap in self._heaps.values():
                heap[:] = [entry for entry in heap if entry[2].job != job]
                heapq.heapify(heap)

    def next(self, backlog: float = 0.0) -> Batch | None:
        """The most urgent ready call and the equal-key calls that ride along, up to the learned row cap.

        Requests several times larger than the lead's ride only as far as they do not slow it down much; the longer the
        backlog (seconds of admitted work), the more throughput counts.
        """
        lead = min((heap[0] for heap in self._heaps.values() if heap), default=None)
        if lead is None:
            return None
        key = lead[2].key
        heap = self._heaps[key]
        batch = Batch(key)
        passed: list[tuple[float, int, PendingCall]] = []
        patience = 1.0 + backlog / BACKLOG_SECONDS
        seconds = partial(self._caps.batch_seconds, key.kind)
        peers, cap = 0, self._caps.row_cap(key.kind)
        while heap and len(batch.calls) < cap:
            entry = heapq.heappop(heap)
            if entry[2].size <= PEER * lead[2].size:
                peers += 1
            elif seconds(len(batch.calls) + 1) > patience * seconds(peers):
                passed.append(entry)
                continue
            batch.calls.append(entry[2])
            self._taken(entry[2].job)
        for entry in passed:
            heapq.heappush(heap, entry)
        if not heap:
            del self._heaps[key]
        return batch

    def _taken(self, job: int) -> None:
        if self._waiting[job] == 1:
            del self._waiting[job]
        else:
            self._waiting[job] -= 1
