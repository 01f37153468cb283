"""The tutorial's script teaches a real server, as docs/tutorials/teach.md says."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from documents import REPOSITORY
from perfuse.evaluation.load import serving


@pytest.mark.proof
def test_a_person_teaches_a_house_rule_over_http(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        asyncio.run(server.ready())
        done = subprocess.run(
            [sys.executable, "-I", str(REPOSITORY / "examples/teach.py"), "--url", f"http://127.0.0.1:{server.port}"],
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr
    rates = [(int(a), int(b)) for a, b in re.findall(r"^(?:before|after): (\d+) of (\d+)", done.stdout, re.MULTILINE)]
    assert rates[0] == (0, 20)
    assert rates[1][0] >= 15, done.stdout
    (attribution,) = re.findall(r"^attribution: (.*)$", done.stdout, re.MULTILINE)
    (adapted,) = json.loads(attribution)
    assert adapted["state"] == "champion"
