"""What is printed about the client runs against a real server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from clients.conftest import Taught
from documents import REPOSITORY, SERVED, blocks

PRINTED = [
    (document.name, script)
    for document in (REPOSITORY / "docs/how-to/client.md", REPOSITORY / "clients/python/README.md")
    for script in blocks(document, "python")
]


@pytest.mark.parametrize("script", [script for _, script in PRINTED], ids=[name for name, _ in PRINTED])
def test_a_printed_script_runs(taught: Taught, script: str, tmp_path: Path) -> None:
    assert SERVED in script
    here = script.replace(SERVED, f"127.0.0.1:{taught.server.port}")
    done = ran("-c", here, folder=tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_example_runs(taught: Taught, tmp_path: Path) -> None:
    done = ran(str(REPOSITORY / "examples/client.py"), taught.url, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("-- 1 of ")
    assert done.stdout.count("confidence") == 3


def ran(*command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    whole = [sys.executable, "-W", "error", *command]
    return subprocess.run(whole, cwd=folder, capture_output=True, text=True, env=os.environ)
