"""A running server answers whatever fits or does not fit `openapi.yaml` as that says: all checks of schemathesis."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from perfuse.evaluation.load import ask, serving

KEY = "a-key-for-the-contract-test"
CONFIG = Path(__file__).with_name("schemathesis.toml")
DESCRIPTION = Path(__file__).parents[2] / "openapi.yaml"
EXAMPLES = int(os.environ.get("PERFUSE_CONTRACT_EXAMPLES", "40"))
"""Drawn bodies per operation, beside those that follow from the schema; 1300 make over 20,000 cases."""
SECONDS = float(os.environ.get("PERFUSE_CONTRACT_SECONDS", "600"))
LEAST_CASES = 1500


@pytest.mark.proof
@pytest.mark.timeout(SECONDS + 60)
def test_a_server_keeps_to_its_description(tmp_path: Path) -> None:
    keys = tmp_path / "keys.yaml"
    keys.write_text(f"- key: {KEY}\n  tenant: contract\n  scopes: [generate, feedback, admin]\n")
    with serving(tmp_path / "data", "--keys", str(keys)) as server:
        asyncio.run(server.ready())
        command = [
            str(Path(sys.executable).with_name("schemathesis")),
            f"--config-file={CONFIG}",
            *("run", str(DESCRIPTION), f"--url=http://127.0.0.1:{server.port}", "--request-timeout=120"),
            "--max-response-time=120",  # how fast an answer is depends on the machine
            *(f"--header=Authorization: Bearer {KEY}", "--checks=all", "--seed=1", "--no-color"),
            *("--phases=coverage,fuzzing,stateful", f"--max-examples={EXAMPLES}", "--generation-database=none"),
        ]
        said = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, cwd=tmp_path)
        assert said.returncode == 0, said.stdout + said.stderr
        assert asyncio.run(ask(server.port, "GET", "/readyz")).status == 200
    (cases,) = re.findall(r"^  (\d+) generated, .*", said.stdout, re.MULTILINE)
    assert int(cases) >= LEAST_CASES, said.stdout
