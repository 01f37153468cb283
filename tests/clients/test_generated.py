"""The generated half of the client follows from openapi.yaml, and stays as small as it claims to be."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

from documents import REPOSITORY

PACKAGE = REPOSITORY / "clients/python"
SOURCES = sorted((PACKAGE / "src").rglob("*.py"))
GENERATE = REPOSITORY / "clients/generate.py"
MOST_BYTES = 60_000


def run(*command: str, folder: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True, env=os.environ)


def test_generating_again_changes_nothing() -> None:
    done = run(str(GENERATE), "--check")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_change_of_the_document_is_noticed_and_what_cannot_be_said_refused(tmp_path: Path) -> None:
    clients = tmp_path / "clients"
    (clients / "python/src/perfuse_client").mkdir(parents=True)
    for file in ("generate.py", "client.py.jinja", "python/pyproject.toml"):
        (clients / file).write_bytes((REPOSITORY / "clients" / file).read_bytes())
    (tmp_path / "pyproject.toml").write_bytes((REPOSITORY / "pyproject.toml").read_bytes())
    document = yaml.safe_load((REPOSITORY / "openapi.yaml").read_text())
    document["paths"] = {"/livez": document["paths"]["/livez"]}
    (tmp_path / "openapi.yaml").write_text(yaml.safe_dump(document))
    done = run(str(clients / "generate.py"), "--check")
    assert done.returncode == 1
    defined = [line for line in done.stderr.splitlines() if " def " in line]
    assert defined == ["+    def livez(", "+    async def livez("]
    document["paths"]["/livez"]["get"]["responses"]["200"]["content"] = {"image/png": {}}
    (tmp_path / "openapi.yaml").write_text(yaml.safe_dump(document))
    done = run(str(clients / "generate.py"), "--check")
    assert "Unsupported: livez: it answers with none of JSON and text; got ['image/png']" in done.stderr


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_each_module_is_python_39_and_knows_nothing_of_perfuse(source: Path) -> None:
    tree = ast.parse(source.read_text(encoding="utf-8"), feature_version=(3, 9))
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    roots = {name.partition(".")[0] for name in imported} - sys.stdlib_module_names
    # pydantic itself depends on pydantic_core and typing_extensions.
    assert roots <= {"perfuse_client", "httpx2", "pydantic", "pydantic_core", "typing_extensions"}


def test_there_are_two_dependencies() -> None:
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    assert [each.partition(">")[0] for each in project["dependencies"]] == ["httpx2", "pydantic"]
    assert project["requires-python"] == ">=3.9"


def test_importing_it_imports_nothing_else() -> None:
    program = (
        "import sys; import perfuse_client; from perfuse_client import NotFound\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules} & {'perfuse', 'httpx2', 'pydantic'}))"
    )
    done = run("-c", program)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_all_names_can_be_imported() -> None:
    import perfuse_client

    for name in perfuse_client.__all__:
        assert getattr(perfuse_client, name) is not None
    with pytest.raises(AttributeError, match=r"^module 'perfuse_client' has no attribute 'Server'$"):
        _ = perfuse_client.Server  # type: ignore[attr-defined]


def test_the_wheel_is_small_and_holds_the_package_alone(tmp_path: Path) -> None:
    done = run("-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path), folder=PACKAGE)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.stat().st_size < MOST_BYTES
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == {f"perfuse_client/{source.name}" for source in SOURCES} | {"perfuse_client/py.typed"}
