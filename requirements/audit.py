"""Known vulnerabilities in what is pinned: `pip-audit` for Python, `cargo audit` for Rust where that is installed.

Fails where one is known. Where no source of advisories can be reached, or a package is unknown to it, it says so and
passes: a build must not depend on the network, and must not claim an audit that did not happen.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
PINNED = ("serve.txt", "mcp.txt", "otel.txt")
PIP_AUDIT = Path(sys.executable).with_name("pip-audit")
SECONDS = 120


def python(pinned: str, program: Path = PIP_AUDIT) -> tuple[list[str], str]:
    """What is known against the packages of a file, and what was audited, in words."""
    command = [
        str(program),
        *("--requirement", str(FOLDER / pinned), "--require-hashes", "--disable-pip"),
        *("--format", "json", "--progress-spinner", "off"),
    ]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        packages = json.loads(said.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        return [], f"{pinned}: no advisories could be reached, nothing was audited"
    audited = [package for package in packages if "vulns" in package]
    known = [
        f"{package['name']} {package['version']}: {one['id']}, fixed in {', '.join(one['fix_versions']) or 'none'}"
        for package in audited
        for one in package["vulns"]
    ]
    return known, f"{pinned}: {len(audited)} of {len(packages)} packages audited, {len(known)} known vulnerabilities"


def rust() -> tuple[list[str], str]:
    """The same for Cargo.lock."""
    if shutil.which("cargo-audit") is None:
        return [], "Cargo.lock: cargo-audit is not installed, nothing was audited"
    said = subprocess.run(["cargo", "audit", "--json"], capture_output=True, text=True, cwd=FOLDER.parent, check=False)
    try:
        found = json.loads(said.stdout)["vulnerabilities"]["list"]
    except (ValueError, KeyError):
        return [], "Cargo.lock: no advisories could be reached, nothing was audited"
    known = [f"{each['package']['name']} {each['package']['version']}: {each['advisory']['id']}" for each in found]
    return known, f"Cargo.lock: audited, {len(known)} known vulnerabilities"


def main() -> int:
    """Entry point."""
    failed = False
    for known, said in [*(python(pinned) for pinned in PINNED), rust()]:
        sys.stderr.write("\n".join([said, *(f"  {one}" for one in known)]) + "\n")
        failed = failed or bool(known)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
