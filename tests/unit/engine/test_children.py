"""When a child is started again, given up or killed: no process, no waiting."""

from __future__ import annotations

import signal
import subprocess
from dataclasses import dataclass, field

import pytest

from perfuse.engine.children import HOPELESS_STARTS, Backoff, Child, status_name


@dataclass
class FakeProcess:
    pid: int
    status: int | None = None
    signals: list[int] = field(default_factory=list)

    def poll(self) -> int | None:
        return self.status

    def wait(self, timeout: float) -> int:
        if self.status is None:
            raise subprocess.TimeoutExpired("fake", timeout)
        return self.status

    def send_signal(self, number: int) -> None:
        self.signals.append(number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Family:
    """A child whose incarnations are fakes."""

    def __init__(self) -> None:
        self.settled = False
        self.silent = 0.0
        self.possible = True
        self.born: list[FakeProcess] = []
        self.deaths: list[tuple[int, float, bool]] = []
        self.child = Child(
            "fake",
            self._spawn,
            settled=lambda: self.settled,
            stuck=lambda _now: self.silent,
            died=lambda *death: self.deaths.append(death),
        )

    def _spawn(self, incarnation: int) -> FakeProcess | None:
        if not self.possible:
            return None
        assert incarnation == len(self.born)
        self.born.append(FakeProcess(100 + incarnation))
        return self.born[-1]

    def die(self, now: float, status: int = 1) -> int | None:
        self.born[-1].status = status
        return self.child.reap(now)


def test_the_first_restart_is_immediate_then_delays_double_up_to_5_seconds() -> None:
    backoff = Backoff()
    delays = [backoff.died(settled=False) for _ in range(8)]
    assert delays == [0.0, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert backoff.died(settled=True) == 0.0
    assert backoff.died(settled=False) == 0.2


def test_a_dead_child_is_started_again_when_its_delay_has_passed() -> None:
    family = Family()
    child = family.child
    child.start_if_due(0.0)
    assert (child.running, child.pid, child.seconds_until_due(0.0)) == (True, 100, None)
    assert child.reap(0.5) is None
    assert family.die(1.0) == 1
    assert (child.running, child.pid, child.seconds_until_due(1.0)) == (False, None, 0.0)
    child.start_if_due(1.0)
    assert family.die(2.0, -9) == -9
    assert child.seconds_until_due(2.0) == pytest.approx(0.2)
    child.start_if_due(2.1)
    assert not child.running
    child.start_if_due(2.2)
    assert child.pid == 102


def test_a_child_that_never_comes_up_is_given_up() -> None:
    family = Family()
    for _ in range(HOPELESS_STARTS):
        assert not family.child.cannot_start
        family.child.start_if_due(1e9)
        family.die(0.0)
    assert family.child.cannot_start


def test_a_child_that_was_up_once_is_started_for_ever() -> None:
    family = Family()
    family.settled = True
    family.child.start_if_due(0.0)
    family.die(0.0)
    family.settled = False
    for _ in range(20):
        family.child.start_if_due(1e9)
        family.die(0.0)
    assert not family.child.cannot_start


def test_a_birth_that_is_not_possible_yet_is_asked_for_again() -> None:
    family = Family()
    family.possible = False
    family.child.start_if_due(0.0)
    assert not family.child.running
    assert family.child.seconds_until_due(0.0) == 0.05
    family.possible = True
    family.child.start_if_due(0.01)
    assert not family.child.running
    family.child.start_if_due(0.05)
    assert family.child.running


def test_a_silent_child_is_killed() -> None:
    family = Family()
    family.child.kill_if_stuck(0.0, 1.0)
    family.child.start_if_due(0.0)
    family.silent = 0.9
    family.child.kill_if_stuck(1.0, 1.0)
    assert family.born[0].signals == []
    family.silent = 1.1
    family.child.kill_if_stuck(1.0, 1.0)
    assert family.born[0].signals == [signal.SIGKILL]
    family.die(1.5, -signal.SIGKILL)
    family.silent = 0.0
    family.child.start_if_due(1.5)
    family.die(2.5, -signal.SIGKILL)
    assert family.deaths == [(-signal.SIGKILL, 1.5, True), (-signal.SIGKILL, 2.5, False)]


def test_stopping_signals_and_waits() -> None:
    family = Family()
    assert family.child.wait(0.0)
    family.child.signal(signal.SIGTERM)
    family.child.start_if_due(0.0)
    family.child.signal(signal.SIGTERM)
    assert family.born[0].signals == [signal.SIGTERM]
    assert not family.child.wait(-1.0)
    family.born[0].status = 0
    assert family.child.wait(-1.0)
    assert not family.child.running


@pytest.mark.parametrize(("status", "name"), [(0, "exit 0"), (3, "exit 3"), (-9, "SIGKILL"), (-199, "signal 199")])
def test_exit_statuses_have_names(status: int, name: str) -> None:
    assert status_name(status) == name


def test_a_successor_starts_beside_the_running_one_which_then_leaves() -> None:
    family = Family()
    child = family.child
    child.start_if_due(0.0)
    family.settled = True
    assert child.start_beside()
    old, new = family.born
    family.settled = False
    assert (child.pid, child.up, child.incarnations) == (new.pid, False, 2)
    family.settled = True
    assert child.up
    assert (old.signals, new.signals) == ([], [])
    child.let_go()
    assert (old.signals, new.signals) == ([signal.SIGTERM], [])
    old.status = 0
    assert child.reap(1.0) is None
    child.let_go()
    assert old.signals == [signal.SIGTERM]
    assert family.deaths == []


def test_a_successor_that_cannot_start_now_changes_nothing() -> None:
    family = Family()
    family.child.start_if_due(0.0)
    family.settled, family.possible = True, False
    assert not family.child.start_beside()
    assert (family.child.pid, family.child.up, family.child.incarnations) == (100, True, 1)


def test_who_is_leaving_is_waited_for_and_signalled_too() -> None:
    family = Family()
    family.child.start_if_due(0.0)
    assert family.child.start_beside()
    old, new = family.born
    family.child.signal(signal.SIGTERM)
    assert (old.signals, new.signals) == ([signal.SIGTERM], [signal.SIGTERM])
    new.status = 0
    assert not family.child.wait(-1.0)
    old.status = 0
    assert family.child.wait(-1.0)
