"""What a jailed interpreter can read: its standard library and the shared libraries that it loads.

Installed packages and perfuse itself stay closed: a task could otherwise import the reference solution.
"""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterable
from functools import cache
from pathlib import Path

_SYSTEM_FILES = ("/etc/ld.so.cache", "/etc/localtime", "/usr/share/zoneinfo", "/dev/urandom", "/dev/null")
_LOADERS = ("lib64/ld-linux-*.so.*", "lib/ld-linux-*.so.*", "lib/ld-musl-*.so.*")
_SYSTEM_PREFIXES = (Path("/"), Path("/usr"))
_PACKAGE_FOLDERS = ("site-packages", "dist-packages", "test", "idlelib", "ensurepip")


@cache
def readable() -> tuple[Path, ...]:
    """Directories and files to open for reading; those that do not exist are passed over."""
    standard_library = {Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")}
    prefix = Path(sys.base_prefix)
    if prefix not in _SYSTEM_PREFIXES:  # conda and pyenv keep shared libraries beside the standard library
        standard_library.add(prefix / "lib")
    return _outermost((*standard_library, *_shared_libraries(), *map(Path, _SYSTEM_FILES)))


@cache
def libraries() -> tuple[Path, ...]:
    """What any program of the system needs to start: shared libraries and a few files."""
    return _outermost((*_shared_libraries(), *map(Path, _SYSTEM_FILES)))


@cache
def loaders() -> tuple[Path, ...]:
    """The dynamic loaders, which the kernel executes in place of a program that is linked to libraries."""
    return tuple(sorted({path.resolve() for pattern in _LOADERS for path in Path("/").glob(pattern)}))


def _outermost(wanted: Iterable[Path]) -> tuple[Path, ...]:
    paths = {path.resolve() for path in wanted}
    return tuple(sorted(path for path in paths if paths.isdisjoint(path.parents)))


@cache
def hidden() -> tuple[Path, ...]:
    """Directories inside those that stay closed."""
    standard_library = Path(sysconfig.get_path("stdlib"))
    packages = {Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")}
    packages.update(standard_library / folder for folder in _PACKAGE_FOLDERS)
    packages.add(Path(__file__).parent.parent)
    return tuple(sorted(packages))


def _shared_libraries() -> set[Path]:
    """Directories that hold the C library of this process, which also hold what extension modules link to."""
    maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    loaded = {Path(words[5]) for line in maps if len(words := line.split(maxsplit=5)) == 6}
    return {path.parent for path in loaded if path.name.startswith(("libc.", "libc-", "ld-musl-"))}
