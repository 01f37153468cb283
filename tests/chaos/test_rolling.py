"""Servers that share a Redis are restarted in turn without a failed request."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chaos.rolling import run


@pytest.mark.proof
def test_no_request_fails_while_two_servers_are_started_anew(tmp_path: Path) -> None:
    report = run(tmp_path, clients=4)
    assert (report.failed, report.unrecorded) == (0, 0), report.answers
    assert report.restarts == 2
    assert json.loads(json.dumps(report.as_dict()))["answers"] == report.answers
    assert {name.split()[0] for name in report.answers} == {"/diffuse", "/generations", "/feedback"}
