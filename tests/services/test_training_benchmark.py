"""What a training costs those who are served: a real server beside a real trainer, for a second."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from perfuse.errors import PerfuseError
from perfuse.evaluation import bench_training


@pytest.mark.timeout(300)
async def test_short_requests_are_measured_with_and_without_a_training() -> None:
    found = await bench_training.run(rate=4.0, seconds=1.0, rounds=2)
    assert (found.idle_requests, found.training_requests) == (8, 8)
    assert found.trained_steps >= 1
    figures = found.as_dict()
    assert figures["target"] == 1.5
    assert all(figures[name] > 0 for name in ("idle_p50", "idle_p99", "training_p50", "training_p99"))
    assert found.ratio_p99 == found.training_p99 / found.idle_p99


async def test_without_a_kit_there_is_no_training(monkeypatch) -> None:
    monkeypatch.setattr(bench_training, "find_kit", lambda: None)
    with pytest.raises(PerfuseError, match=r"^no shipped model has a learning kit$"):
        await bench_training.run()


@pytest.fixture
def ended() -> subprocess.Popen[bytes]:
    child = subprocess.Popen([sys.executable, "-c", "raise SystemExit(65)"])
    child.wait()
    return child


async def test_a_trainer_that_ends_is_noticed(ended: subprocess.Popen[bytes], tmp_path: Path) -> None:
    with pytest.raises(PerfuseError, match=r"^the trainer has not begun; exit code 65$"):
        await bench_training._begun(ended, tmp_path)
    with pytest.raises(PerfuseError, match=r"^the trainer ended with 65$"):
        bench_training._signal(ended, signal.SIGCONT)
