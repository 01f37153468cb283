"""Fail unless coverage is at least 90 % overall and of each package, without `omit` and with few pragmas.

The client has to be covered wholly.

Usage: python tests/coverage_gate.py coverage.json
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
SOURCES = Path("service/perfuse")
CLIENT = Path("clients/python/src/perfuse_client")
THRESHOLD = 90.0
THRESHOLDS = {CLIENT.name: 100.0}
MOST_PRAGMAS = 10


@dataclass
class Tally:
    """Statements and branches, and how many of them ran."""

    possible: int = 0
    covered: int = 0

    def add(self, summary: dict[str, int]) -> None:
        """Count one file's summary of coverage.py's JSON report."""
        self.possible += summary["num_statements"] + summary.get("num_branches", 0)
        self.covered += summary["covered_lines"] + summary.get("covered_branches", 0)

    @property
    def percent(self) -> float:
        """Share that ran; 100 where there is nothing to run."""
        return 100.0 if self.possible == 0 else 100.0 * self.covered / self.possible


def package_of(file: Path) -> str:
    """`engine` for service/perfuse/engine/loop.py, `perfuse` for the top-level modules, else the client."""
    if file.is_relative_to(CLIENT):
        return CLIENT.name
    inside = file.relative_to(SOURCES)
    return inside.parts[0] if len(inside.parts) > 1 else "perfuse"


def tallies(report: dict[str, dict[str, dict[str, dict[str, int]]]]) -> dict[str, Tally]:
    """Coverage by package, with `total` last.

    Raises:
        SystemExit: a source file is missing from the report.
    """
    measured = {Path(name): body["summary"] for name, body in report["files"].items()}
    sources = {file.relative_to(REPOSITORY) for file in _sources()}
    if missing := sorted(str(file) for file in sources - measured.keys() if (REPOSITORY / file).stat().st_size):
        raise SystemExit(f"not in the coverage report: {', '.join(missing)}")
    found: defaultdict[str, Tally] = defaultdict(Tally)
    for file in sorted(measured, key=package_of):
        found[package_of(file)].add(measured[file])
    found["total"] = Tally(sum(t.possible for t in found.values()), sum(t.covered for t in found.values()))
    return dict(found)


def _sources() -> list[Path]:
    return sorted(file for folder in (SOURCES, CLIENT) for file in (REPOSITORY / folder).rglob("*.py"))


def pragmas() -> list[str]:
    """`file:line: text` of every line taken out of the measurement."""
    return [
        f"{file.relative_to(REPOSITORY)}:{number}: {line.strip()}"
        for file in _sources()
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(r"#\s*pragma:\s*no\s*(cover|branch)", line)
    ]


def omissions() -> list[str]:
    """Settings that would take code out of the measurement."""
    tool = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["coverage"]
    names = {"omit", "exclude_lines", "exclude_also"}
    return [f"{section}.{name}" for section, body in tool.items() for name in body if name in names]


def main(path: str) -> int:
    """Print the table and say whether it passes: 0 or 1."""
    report = json.loads(Path(path).read_text(encoding="utf-8"))
    failures = [f"pyproject.toml sets {name} for coverage" for name in omissions()]
    for package, tally in tallies(report).items():
        sys.stdout.write(f"{package:<16}{tally.possible:>7}{tally.percent:>8.1f} %\n")
        if tally.percent < (wanted := THRESHOLDS.get(package, THRESHOLD)):
            failures.append(f"{package}: {tally.percent:.1f} % covered, {wanted:.0f} % wanted")
    marked = pragmas()
    sys.stdout.write("".join(f"{line}\n" for line in [f"pragmas: {len(marked)}", *marked]))
    if len(marked) > MOST_PRAGMAS:
        failures.append(f"{len(marked)} pragmas, at most {MOST_PRAGMAS} allowed")
    sys.stderr.write("".join(f"{failure}\n" for failure in failures))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
