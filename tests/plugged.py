"""The example packages of examples/plugins, installed into a folder of their own."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from perfuse import plugins

PACKAGES = Path(__file__).parents[1] / "examples" / "plugins"
UV = Path(sys.executable).with_name("uv")


def installed(folder: Path, name: str) -> Path:
    """The folder, to be put on the path of an interpreter."""
    command = [UV, "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--offline", "--target", folder]
    subprocess.run([*command, "--python", sys.executable, PACKAGES / name], check=True, capture_output=True)
    return folder


@contextlib.contextmanager
def importable(folder: Path) -> Iterator[None]:
    """What is installed there is found by this interpreter, for so long."""
    sys.path.insert(0, str(folder))
    _forget()
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        _forget()


def _forget() -> None:
    plugins._named.cache_clear()
    plugins._loaded.cache_clear()
