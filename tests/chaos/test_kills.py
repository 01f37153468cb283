"""kill -9 of the parts of a real server under load: nothing accepted is lost, nothing is left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parent / "kills.py"


def report(rounds: int) -> dict[str, Any]:
    done = subprocess.run([sys.executable, str(SCRIPT), "--rounds", str(rounds)], capture_output=True, text=True)
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_kills_of_front_engine_and_nursery_lose_nothing() -> None:
    found = report(5)
    assert found["broken"] == [], found


@pytest.mark.proof
@pytest.mark.timeout(600)
def test_20_kills_lose_nothing() -> None:
    found = report(20)
    assert found["broken"] == [], found
