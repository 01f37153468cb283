"""kill -9 of the front, and of Redis, under feedback: every acknowledged id is in the inbox once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parent / "feedback_kills.py"
QUEUES = ["sqlite", pytest.param("redis", marks=pytest.mark.redis)]


def report(rounds: int, queue: str) -> dict[str, Any]:
    command = [sys.executable, str(SCRIPT), "--rounds", str(rounds), "--queue", queue]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("queue", QUEUES)
def test_kills_under_feedback_lose_and_double_nothing(queue: str) -> None:
    found = report(4, queue)
    assert found["broken"] == [], found
    assert sum(found["kills"].values()) == 4


@pytest.mark.proof
@pytest.mark.timeout(600)
@pytest.mark.parametrize("queue", QUEUES)
def test_20_kills_under_feedback_lose_and_double_nothing(queue: str) -> None:
    found = report(20, queue)
    assert found["broken"] == [], found
