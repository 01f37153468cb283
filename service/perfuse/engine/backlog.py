"""Admission: the seconds of work taken on and not yet done, counted in one place."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock

from perfuse.engine.cost import CostModel
from perfuse.engine.scheduler import BatchKey
from perfuse.errors import Overloaded
from perfuse.pipelines.contract import Demand


def seconds_of(demands: Sequence[Demand], cost: CostModel) -> float:
    """Engine seconds these demands will take: calls × learned share really used × learned seconds per row."""
    return sum(
        demand.calls * cost.usage(demand.kind) * cost.seconds_per_row(BatchKey(demand.network.name, demand.key))
        for demand in demands
    )


class Backlog:
    """Seconds of admitted work by request. Thread-safe: admitted on the I/O thread, worked off on the compute thread.

    Args:
        limit: seconds beyond which nothing more is admitted. A lone request is admitted however long it is.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._lock = Lock()
        self._seconds: dict[int, float] = {}
        self._total = 0.0

    @property
    def seconds(self) -> float:
        """All admitted work not yet done."""
        return self._total

    @property
    def limit(self) -> float:
        """Seconds beyond which nothing more is admitted."""
        return self._limit

    def admit(self, job: int, seconds: float) -> float:
        """Take the work on; gives the backlog with it, which is about when it will be done.

        Raises:
            Overloaded: the backlog would pass the limit; `retry_after` is the time it takes to drain.
        """
        with self._lock:
            ahead = self._total
            if self._seconds and ahead + seconds > self._limit:
                raise Overloaded(
                    f"{ahead:.1f} s of work are queued and this request adds {seconds:.2f} s; "
                    f"at most {self._limit:g} s are taken on",
                    hint="try again after the Retry-After header, or start more workers",
                    retry_after=max(ahead, 0.05),
                )
            self._seconds[job] = seconds
            self._total += seconds
            return self._total

    def update(self, job: int, seconds: float) -> None:
        """The request still needs this long."""
        with self._lock:
            if job in self._seconds:
                self._total += seconds - self._seconds[job]
                self._seconds[job] = seconds

    def release(self, job: int) -> None:
        """The request is done, failed or gone."""
        with self._lock:
            self._total -= self._seconds.pop(job, 0.0)
            if not self._seconds:
                self._total = 0.0
