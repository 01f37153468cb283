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

    Work of lower priority is not in a request's way, so that what a server does in its idle time refuses nobody.

    Args:
        limit: seconds beyond which nothing more is admitted. A lone request is admitted however long it is.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._lock = Lock()
        self._jobs: dict[int, tuple[int, float]] = {}
        self._totals: dict[int, float] = {}

    @property
    def seconds(self) -> float:
        """All admitted work not yet done."""
        return sum(list(self._totals.values()))

    @property
    def limit(self) -> float:
        """Seconds beyond which nothing more is admitted."""
        return self._limit

    def ahead(self, priority: int = 0) -> float:
        """Admitted work not yet done that comes before a new request of this priority."""
        return sum(seconds for other, seconds in list(self._totals.items()) if other >= priority)

    def admit(self, job: int, seconds: float, priority: int = 0) -> None:
        """Take the work on.

        Args:
            job: its number.
            seconds: of work.
            priority: larger is sooner.

        Raises:
            Overloaded: the backlog would pass the limit; `retry_after` is the time it takes to drain.
        """
        with self._lock:
            ahead = self.ahead(priority)
            if ahead > 0.0 and ahead + seconds > self._limit:
                raise Overloaded(
                    f"{ahead:.1f} s of work are queued and this request adds {seconds:.2f} s; "
                    f"at most {self._limit:g} s are taken on",
                    hint="try again after the Retry-After header, or start more workers",
                    retry_after=max(ahead, 0.05),
                )
            self._jobs[job] = priority, seconds
            self._totals[priority] = self._totals.get(priority, 0.0) + seconds

    def update(self, job: int, seconds: float) -> None:
        """The request still needs this long."""
        with self._lock:
            if job in self._jobs:
                priority, before = self._jobs[job]
                self._totals[priority] += seconds - before
                self._jobs[job] = priority, seconds

    def release(self, job: int) -> None:
        """The request is done, failed or gone."""
        with self._lock:
            if job not in self._jobs:
                return
            priority, seconds = self._jobs.pop(job)
            self._totals[priority] -= seconds
            if all(other != priority for other, _ in self._jobs.values()):
                del self._totals[priority]
