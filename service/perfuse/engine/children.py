"""A supervised process: when to start it again, when it is beyond hope, when it is stuck."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from perfuse import logging

_log = logging.get(__name__)

FIRST_DELAY = 0.2
LONGEST_DELAY = 5.0
HOPELESS_STARTS = 5
ASK_AGAIN_SECONDS = 0.05


@dataclass(slots=True)
class Backoff:
    """How long to wait before the next start: 0, 0.2, 0.4, 0.8 … 5 s; from 0 again once the process had settled.

    Attributes:
        failures: deaths in a row before settling.
    """

    failures: int = 0

    def died(self, *, settled: bool) -> float:
        """Seconds to wait after this death."""
        if settled:
            self.failures = 0
        delay = 0.0 if self.failures == 0 else min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** (self.failures - 1))
        self.failures += 1
        return delay


class Process(Protocol):
    """What is needed of a process: a `subprocess.Popen`, or an engine adopted from the nursery."""

    pid: int

    def poll(self) -> int | None:
        """The exit status (negative: the signal), None while it runs."""
        ...

    def wait(self, timeout: float) -> int:
        """The exit status. Raises subprocess.TimeoutExpired."""
        ...

    def send_signal(self, number: int, /) -> None:
        """Send a signal if it runs."""

    def kill(self) -> None:
        """SIGKILL if it runs."""


Spawn = Callable[[int], Process | None]
"""Start the n-th incarnation (from 0). None: not possible now, ask again soon."""


class Child:
    """One process that is to run for as long as the server does.

    Args:
        name: for the log.
        spawn: starts it.
        settled: whether the running or latest incarnation is or has been up, so that its death is an accident and not a
            failure to start. Not asked again once it has said yes.
        stuck: seconds for which the running incarnation has shown no sign of life.
        died: told the exit status of an incarnation, when it was noticed, and whether it was killed here as stuck.
    """

    def __init__(
        self,
        name: str,
        spawn: Spawn,
        *,
        settled: Callable[[], bool],
        stuck: Callable[[float], float] = lambda _now: 0.0,
        died: Callable[[int, float, bool], None] = lambda _status, _now, _stuck: None,
    ) -> None:
        self.name = name
        self.incarnations = 0
        self._ever_settled = False
        self._up = False
        self._leaving: list[Process] = []
        self._spawn = spawn
        self._settled = settled
        self._stuck = stuck
        self._died = died
        self._killed = False
        self._backoff = Backoff()
        self._process: Process | None = None
        self._due = 0.0

    @property
    def running(self) -> bool:
        """Whether there is a process that was not found dead."""
        return self._process is not None

    @property
    def pid(self) -> int | None:
        """Process id of the running incarnation."""
        return None if self._process is None else self._process.pid

    @property
    def pids(self) -> set[int]:
        """Process ids of the running incarnation and of those that are leaving."""
        return {process.pid for process in self._every}

    @property
    def up(self) -> bool:
        """Whether the running or latest incarnation is or has been up."""
        self._up = self._up or self._settled()
        return self._up

    @property
    def cannot_start(self) -> bool:
        """Whether it has never settled in `HOPELESS_STARTS` starts."""
        return not self._ever_settled and self._backoff.failures >= HOPELESS_STARTS

    def start_if_due(self, now: float) -> None:
        """Start the next incarnation if none runs and the back-off has passed."""
        if self._process is None and now >= self._due:
            self._process = self._spawn(self.incarnations)
            self._killed = False
            if self._process is None:
                self._due = now + ASK_AGAIN_SECONDS
                return
            self._up = False
            self.incarnations += 1

    def start_beside(self) -> bool:
        """Start the next incarnation while the running one goes on; False: not possible now.

        `let_go` ends the one before, when it is needed no more.
        """
        before, asked = self._process, self.up  # what the one before has said must not count for its successor
        if (process := self._spawn(self.incarnations)) is None:
            self._up = asked
            return False
        self._leaving += [before] if before is not None else []
        self._process, self._up = process, False
        self.incarnations += 1
        return True

    def let_go(self) -> None:
        """Ask those beside which the running one was started to finish and leave."""
        for process in self._leaving:
            process.send_signal(signal.SIGTERM)

    def seconds_until_due(self, now: float) -> float | None:
        """Until the next start. None: it runs."""
        return None if self._process is not None else max(0.0, self._due - now)

    def reap(self, now: float) -> int | None:
        """The exit status (negative: the signal) if the process has died since the last look."""
        self._leaving = [process for process in self._leaving if process.poll() is None]
        if self._process is None or (status := self._process.poll()) is None:
            return None
        self._died(status, now, self._killed)
        self._ever_settled |= self.up
        delay = self._backoff.died(settled=self.up)
        self._process = None
        self._due = now + delay
        _log.warning("child_died", child=self.name, status=status_name(status), restart_in_seconds=round(delay, 1))
        return status

    def kill_if_stuck(self, now: float, limit: float) -> None:
        """SIGKILL the process if it has shown no sign of life for longer than `limit` seconds."""
        if self._process is not None and (silent := self._stuck(now)) > limit:
            _log.critical("child_stuck", child=self.name, seconds=round(silent, 1))
            self._process.kill()
            self._killed = True

    def signal(self, number: signal.Signals) -> None:
        """Send a signal if it runs, and to those that are leaving."""
        for process in self._every:
            process.send_signal(number)

    def wait(self, seconds: float) -> bool:
        """Whether it and those that were leaving have ended within this time; a negative time does not wait."""
        try:
            for process in self._every:
                process.wait(max(seconds, 0.0))
        except subprocess.TimeoutExpired:
            return False
        self._process, self._leaving = None, []
        return True

    @property
    def _every(self) -> list[Process]:
        return self._leaving if self._process is None else [*self._leaving, self._process]


def status_name(status: int) -> str:
    """An exit status in words: "exit 1", "SIGKILL"."""
    if status >= 0:
        return f"exit {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
