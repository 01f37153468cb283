"""kill -9 of everything that learns, under feedback: every acknowledged id is a row or a dead item, once.

The whole, 100 kills at every stage, takes half an hour: `cd tests && python -m chaos.learning_kills --rounds 100`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parent.parent
QUEUES = [("sqlite", "SQLite "), pytest.param("redis", "Redis ", marks=pytest.mark.redis)]


def report(rounds: int, queue: str, *more: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "chaos.learning_kills", "--rounds", str(rounds), "--queue", queue, *more]
    done = subprocess.run(command, cwd=TESTS, capture_output=True, text=True)
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(("queue", "kept"), QUEUES)
def test_kills_while_learning_lose_and_double_nothing(queue: str, kept: str) -> None:
    found = report(8, queue, "--tasks", "2", "--patience", "2")
    assert found["broken"] == [], found
    assert found["queue"].startswith(kept)
    assert sum(found["kills"].values()) == 8
    assert found["chosen"]["poison"] == 3
    assert found["acknowledged"] >= 100
