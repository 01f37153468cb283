"""The layers of pyproject.toml's [tool.importlinter] hold, and what needs no torch does not load it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

import perfuse

REPOSITORY = Path(__file__).parents[2]
PACKAGE = Path(perfuse.__file__).parent
WITHOUT_TORCH = [
    "perfuse",
    "perfuse.api.app",
    "perfuse.cli",
    "perfuse.queue",
    "perfuse.wire",
    "perfuse.engine.supervisor",
]


def test_each_package_imports_only_what_lies_below_it(capsys: pytest.CaptureFixture[str]) -> None:
    status = lint_imports(str(REPOSITORY / "pyproject.toml"), no_cache=True)
    assert status == EXIT_STATUS_SUCCESS, capsys.readouterr().out


@pytest.mark.parametrize("module", WITHOUT_TORCH)
def test_importing_it_loads_no_torch(module: str) -> None:
    script = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


def test_a_front_starts_without_what_its_requests_seldom_need() -> None:
    script = "import sys, perfuse.api.front; sys.exit(bool({'mcp', 'mcp_types', 'openai', 'yaml'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


def test_every_folder_with_code_is_a_package() -> None:
    folders = {file.parent for file in PACKAGE.rglob("*.py")}
    assert [str(folder) for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


def test_no_module_has_a_name_that_says_nothing() -> None:
    empty = {"utils", "util", "helpers", "helper", "common", "manager", "managers", "misc"}
    named = [path for path in PACKAGE.rglob("*") if path.stem in empty]
    assert named == []


def test_modules_stay_readable_in_one_sitting() -> None:
    lengths = {str(file.relative_to(PACKAGE)): len(file.read_text().splitlines()) for file in PACKAGE.rglob("*.py")}
    assert {name: length for name, length in lengths.items() if length > 500} == {}
