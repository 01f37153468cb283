"""Which deaths are a process's own doing."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from perfuse.engine.endings import Endings, oom_kills


@pytest.fixture
def vmstat(tmp_path: Path) -> Path:
    path = tmp_path / "vmstat"
    write(path, 3)
    return path


def write(path: Path, kills: int) -> None:
    path.write_text(f"nr_free_pages 9\noom_kill {kills}\noom_kill_other 7\n")


@pytest.mark.parametrize(
    ("status", "stuck", "outside"),
    [
        (-signal.SIGKILL, False, True),
        (-signal.SIGKILL, True, False),
        (-signal.SIGTERM, False, True),
        (-signal.SIGHUP, False, True),
        (0, False, True),
        (-signal.SIGSEGV, False, False),
        (-signal.SIGBUS, False, False),
        (-signal.SIGABRT, False, False),
        (1, False, False),
        (75, False, False),
    ],
)
def test_what_an_exit_status_says(vmstat: Path, status: int, stuck: bool, outside: bool) -> None:
    assert Endings(vmstat).from_outside(status, 100.0, stuck=stuck) is outside


def test_a_kill_soon_after_the_kernel_killed_somebody_for_memory_may_be_the_kernels(vmstat: Path) -> None:
    endings = Endings(vmstat)
    endings.look(100.0)
    assert endings.from_outside(-signal.SIGKILL, 100.0, stuck=False)
    write(vmstat, 4)
    assert not endings.from_outside(-signal.SIGKILL, 100.2, stuck=False)
    endings.look(105.0)
    assert not endings.from_outside(-signal.SIGKILL, 110.0, stuck=False)
    assert endings.from_outside(-signal.SIGTERM, 110.0, stuck=False)
    assert endings.from_outside(-signal.SIGKILL, 110.3, stuck=False)


def test_a_kernel_that_counts_no_kills_is_never_ruled_out(tmp_path: Path, vmstat: Path) -> None:
    for path in (tmp_path / "nothing", tmp_path / "without"):
        if path.name == "without":
            path.write_text("nr_free_pages 9\n")
        assert oom_kills(path) is None
        assert not Endings(path).from_outside(-signal.SIGKILL, 1e9, stuck=False)
    assert oom_kills(vmstat) == 3
