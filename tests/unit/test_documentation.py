"""What the documents say is so: links lead somewhere, bodies are valid, settings and problem codes are listed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import perfuse.api.app  # noqa: F401 (all problem classes are loaded)
from documents import DOCUMENTS, REPOSITORY, SERVED, blocks, curl_lines, posted
from perfuse.api.schemas import DiffuseText, PlanTrajectory
from perfuse.config import ServeConfig
from perfuse.wire import error_classes

SCHEMAS = {"/diffuse": DiffuseText, "/plan": PlanTrajectory}
SCRIPTS = [
    (document.name, script)
    for document in DOCUMENTS
    for script in blocks(document, "python")
    if SERVED not in script  # those run against a real server, in tests/e2e
]
COMMANDS = [command for document in DOCUMENTS for command in curl_lines(document)]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_links_lead_to_files_of_the_repository(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)", document.read_text(encoding="utf-8"))
    inside = [target for target in targets if "://" not in target]
    assert [target for target in inside if not (document.parent / target).exists()] == []


def test_every_printed_request_is_valid() -> None:
    assert len(COMMANDS) >= 4
    for path, body in map(posted, COMMANDS):
        SCHEMAS[path].model_validate(body)


@pytest.mark.parametrize("script", [script for _, script in SCRIPTS], ids=[name for name, _ in SCRIPTS])
def test_every_printed_script_runs(script: str, tmp_path: Path) -> None:
    child = subprocess.run([sys.executable, "-W", "error", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert child.returncode == 0, child.stderr


def test_every_test_that_is_named_for_a_threat_exists() -> None:
    rows = re.findall(r"^\| .* \|$", (REPOSITORY / "SECURITY.md").read_text(encoding="utf-8"), re.MULTILINE)[1:]
    assert len(rows) >= 15
    for row in rows:
        named = re.findall(r"`((?:tests|deploy)/[\w/.]+)(?:::(\w+))?`", row.split("|")[3])
        assert named, row
        for path, function in named:
            source = (REPOSITORY / path).read_text(encoding="utf-8")
            assert not function or f"def {function}(" in source, f"{path}::{function}"


def test_every_setting_is_documented_with_its_default() -> None:
    text = (REPOSITORY / "docs/reference/settings.md").read_text(encoding="utf-8")
    documented = dict(re.findall(r"^\| `(\w+)` \| `([^`]*)` \|", text, re.MULTILINE))
    defaults = {name: field.default for name, field in ServeConfig.model_fields.items()}
    assert documented == {name: _shown(default) for name, default in defaults.items()}


def test_every_problem_code_is_documented_with_its_status() -> None:
    text = (REPOSITORY / "docs/reference/http.md").read_text(encoding="utf-8")
    documented = dict(re.findall(r"^\| `(\w+)` \| (\d+) \|", text, re.MULTILINE))
    ours = {code: kind for code, kind in error_classes().items() if kind.__module__.startswith("perfuse.")}
    assert documented.items() >= {code: str(kind.status) for code, kind in ours.items()}.items()


def _shown(default: object) -> str:
    if default in (None, ()):
        return "none"
    return str(default).lower() if isinstance(default, bool) else str(default)
