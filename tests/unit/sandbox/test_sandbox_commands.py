"""What a jailed command counts and reaches."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from perfuse.sandbox import reach
from perfuse.sandbox.process import tasks_of, tasks_of_this_user


def test_root_gets_a_fresh_user_that_runs_nothing_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert tasks_of_this_user() == 0


def test_a_user_runs_as_many_threads_as_this_process_has_at_least() -> None:
    release = threading.Event()
    started = [threading.Thread(target=release.wait) for _ in range(3)]
    for thread in started:
        thread.start()
    counted = tasks_of(Path("/proc/self").stat().st_uid)
    release.set()
    assert counted >= 4


def test_nobody_runs_nothing() -> None:
    assert tasks_of(1_999_999_999) == 0


def test_a_command_reaches_no_library_of_python() -> None:
    assert set(reach.libraries()) < set(reach.readable())
    assert not any("python" in path.name for path in reach.libraries())


def test_the_dynamic_loader_is_a_file_with_its_real_name() -> None:
    assert reach.loaders()
    assert all(loader.is_file() and loader == loader.resolve() for loader in reach.loaders())
