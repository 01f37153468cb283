"""Did a process end by its own doing, or was it ended from outside?

A segmentation fault, an abort or an error code is its own doing. SIGKILL has four senders: the kernel when memory is
short, the supervisor or the engine itself when it is stuck, and people. The kernel counts its victims before it kills
them (`oom_kill` in /proc/vmstat, of all control groups and containers of the machine), so a SIGKILL without a count is
somebody's decision and says nothing about the request that was being computed.
"""

from __future__ import annotations

import signal
from pathlib import Path

_VMSTAT = Path("/proc/vmstat")
_MEMORY_SECONDS = 10.0
"""A victim of this long ago may only now be dead: its memory is torn down first."""
_ASKED = frozenset({0, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP})
"""Exit statuses of a process that was told to end. An engine told so ends with 0, with jobs open if they took long."""


def oom_kills(vmstat: Path = _VMSTAT) -> int | None:
    """Processes the kernel has killed for memory since boot. None: it does not say."""
    try:
        lines = vmstat.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    counts = (line.partition(" ")[2] for line in lines if line.startswith("oom_kill "))
    return next((int(count) for count in counts if count.isdecimal()), None)


class Endings:
    """Tells deaths apart; has to `look` more often than every `_MEMORY_SECONDS`."""

    def __init__(self, vmstat: Path = _VMSTAT) -> None:
        self._vmstat = vmstat
        self._kills = oom_kills(vmstat)
        self._killed_at = float("-inf")

    def look(self, now: float) -> None:
        """Note the time at which the kernel last killed somebody for memory."""
        kills = oom_kills(self._vmstat)
        if kills is None or kills != self._kills:
            self._killed_at = now
        self._kills = kills

    def from_outside(self, status: int, now: float, *, stuck: bool) -> bool:
        """Whether the death is certainly not the process's own doing.

        Args:
            status: exit status (negative: the signal).
            now: when it was noticed.
            stuck: the supervisor killed it because it gave no sign of life.
        """
        if status == -signal.SIGKILL:
            self.look(now)
            return not stuck and now - self._killed_at > _MEMORY_SECONDS
        return status in _ASKED
