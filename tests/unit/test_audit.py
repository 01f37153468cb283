"""The audit of what is pinned fails on what is known, and never claims to have audited what it could not."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "requirements" / "audit.py"
CLEAN = {"name": "a", "version": "1", "vulns": []}
KNOWN = {"name": "b", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.1", "3"]}]}
UNFIXED = {"name": "c", "version": "3", "vulns": [{"id": "PYSEC-2", "fix_versions": []}]}
UNKNOWN = {"name": "d", "skip_reason": "not found"}


@pytest.fixture
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def saying(folder: Path, said: str) -> Path:
    """A program that says so, as pip-audit does: the status is 1 when something is known."""
    program = folder / "pip-audit"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{said}\nEND\nexit 1\n")
    program.chmod(0o755)
    return program


def test_what_is_known_is_named(audit: ModuleType, tmp_path: Path) -> None:
    program = saying(tmp_path, json.dumps({"dependencies": [CLEAN, KNOWN, UNFIXED, UNKNOWN]}))
    assert audit.python("serve.txt", program) == (
        ["b 2: PYSEC-1, fixed in 2.1, 3", "c 3: PYSEC-2, fixed in none"],
        "serve.txt: 3 of 4 packages audited, 2 known vulnerabilities",
    )


def test_without_advisories_nothing_is_claimed(audit: ModuleType, tmp_path: Path) -> None:
    assert audit.python("serve.txt", saying(tmp_path, "Traceback: no network")) == (
        [],
        "serve.txt: no advisories could be reached, nothing was audited",
    )
