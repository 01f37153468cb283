"""Who killed the engine? Decided from its flight record and the history of the requests it was computing."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import Enum, auto

from perfuse.dispatch.link import PendingJob

_CRASHES_BEFORE_SUSPICION = 2
_SOLO_CRASHES = 2
_OUTSIDE_BELIEVED = 5
"""A watchdog outside may kill the engine because of a request, for its memory: not for ever."""


class Verdict(Enum):
    """What becomes of a request whose engine died."""

    INNOCENT = auto()
    """It was not being computed: start it again."""
    SUSPECT = auto()
    """It was in the batch: start it again, alone."""
    CULPRIT = auto()
    """It was computed alone when the engine died: refuse it."""


def judge(
    jobs: Sequence[PendingJob], batch: Collection[int] | None, *, from_outside: bool = False
) -> dict[PendingJob, Verdict]:
    """A verdict on each request that a dead engine had taken.

    The batch in the flight record is suspected; a suspect that was running alone when its engine died is the culprit.
    The record can miss the cause (host code that crashes between batches), so a request under which engines died
    `_CRASHES_BEFORE_SUSPICION` times becomes a suspect, and a suspect that was merely present `_SOLO_CRASHES` times is
    taken for the culprit. So every crash raises a count, and a request that crashes engines is refused after a few.
    An engine ended from outside accuses nobody, `_OUTSIDE_BELIEVED` times for each request.

    Args:
        jobs: submitted to the dead engine and not answered; their `solo_crashes` or `outside` are counted up.
        batch: ids in the flight record, None if it cannot be read (then everybody is suspected).
        from_outside: somebody else ended the engine (`perfuse.engine.endings`).
    """
    verdicts: dict[PendingJob, Verdict] = {}
    for job in jobs:
        if from_outside and job.outside < _OUTSIDE_BELIEVED:
            job.outside += 1
            verdicts[job] = Verdict.SUSPECT if job.solo else Verdict.INNOCENT
            continue
        named = batch is None or job.id in batch
        if job.solo:
            job.solo_crashes += 1
            alone = len(jobs) == 1 and not batch
            guilty = (named and batch is not None) or alone or job.solo_crashes >= _SOLO_CRASHES
            verdicts[job] = Verdict.CULPRIT if guilty else Verdict.SUSPECT
        elif named or job.restarts - job.outside + 1 >= _CRASHES_BEFORE_SUSPICION:
            verdicts[job] = Verdict.SUSPECT
        else:
            verdicts[job] = Verdict.INNOCENT
    return verdicts
