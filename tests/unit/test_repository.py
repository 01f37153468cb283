"""The repository is complete in itself: no registry address, no path of one machine, one set of pins, no ballast."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
TEXT_LIMIT = 2_000_000
SIZE_LIMIT = 20 * 1024 * 1024

# Dots and hyphens in brackets, so that this file does not find itself.
REGISTRIES = re.compile(
    r"pypi[.]org|pythonhosted[.]org|download[.]pytorch|index[-]url|find[-]links |(static|index)[.]crates[.]io",
    re.IGNORECASE,
)
MACHINE_PATHS = re.compile(r"(?<![\w.~$}{-])/(?:work|root|home/[a-z]+|Users/[A-Za-z]+|opt/wheels)/")
OUTSIDE = re.compile("[.][.]/shared")


def committed() -> list[Path]:
    """Files git knows; where there is no git (a source archive), nothing can be said."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True)
    if listing.returncode != 0:
        pytest.skip("not a git checkout")
    return [REPOSITORY / name for name in listing.stdout.split("\0") if name and (REPOSITORY / name).is_file()]


def texts() -> list[tuple[str, str]]:
    """Name and content of the committed text files."""
    found = []
    for file in committed():
        data = file.read_bytes()
        if len(data) <= TEXT_LIMIT and b"\0" not in data[:8192]:
            found.append((str(file.relative_to(REPOSITORY)), data.decode(errors="replace")))
    return found


def lines_with(pattern: re.Pattern[str]) -> list[str]:
    """`file:line: text` of every committed line in which the pattern is found."""
    return [
        f"{name}:{number}: {line.strip()[:120]}"
        for name, text in texts()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def test_no_file_names_a_package_registry() -> None:
    # Options that keep addresses out; cargo's own name for its default registry.
    allowed = ("Makefile:", "Cargo.lock:", "native/fuzz/Cargo.lock:")
    assert [line for line in lines_with(REGISTRIES) if not line.startswith(allowed)] == []


def test_no_file_names_a_path_of_one_machine() -> None:
    assert lines_with(MACHINE_PATHS) == []


def test_no_file_refers_to_anything_outside_the_repository() -> None:
    assert lines_with(OUTSIDE) == []


def test_no_file_is_larger_than_20_mib() -> None:
    assert [str(file) for file in committed() if file.stat().st_size > SIZE_LIMIT] == []


def test_only_one_tool_pins_the_environment() -> None:
    others = {"uv.lock", "poetry.lock", "Pipfile.lock", "pdm.lock"}
    assert [str(file) for file in committed() if file.name in others] == []


def test_every_pinned_requirement_has_a_hash() -> None:
    for file in sorted((REPOSITORY / "requirements").glob("*.txt")):
        entries = [entry for entry in re.split(r"\n(?=\S)", file.read_text()) if not entry.startswith("#")]
        assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []


def test_pins_of_tests_agree_with_pins_of_the_server() -> None:
    def pins(name: str) -> dict[str, str]:
        lines = (REPOSITORY / "requirements" / f"{name}.txt").read_text().splitlines()
        return {line.split("==")[0]: line.split()[0] for line in lines if re.match(r"[a-z0-9-]+==", line)}

    server, tests = pins("serve"), pins("dev")
    assert {name: tests[name] for name in tests.keys() & server.keys() if tests[name] != server[name]} == {}
