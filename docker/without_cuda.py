"""Make an installed CUDA build of torch load without CUDA's libraries, for the CPU image.

    python without_cuda.py SITE_PACKAGES

The package index has one torch for x86-64 Linux: 1.1 GB, and 4 GB of libraries beside it that a CPU never calls, but
without which it does not load. Where torch's CPU build cannot be reached, this puts a small library of the same name,
with the same functions and versions, in the place of each that is not installed, as the CUDA toolkit does with its
`stubs` for linking. A function of them that is called names itself and ends the process. On a CPU none is: the CUDA
runtime (0.7 MB), which must be installed, says that there is no device. Needs cc, nm and readelf.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

LAZY = ("libtorch_cuda_linalg.so", "libcaffe2_nvrtc.so")
"""Parts of torch that it opens when a device is used."""
NVIDIA = re.compile(r"lib(cu|nccl|nv)\w*\.so\.\d+$")
DYNAMIC = re.compile(r"\((NEEDED|SONAME)\).*\[(.+)\]")
VERSION = re.compile(r"File: (\S+)|Name: (\S+)")
HEAD = """#include <stdio.h>
#include <stdlib.h>
static void refuse(const char *name) {
    fprintf(stderr, "%s: this image has no CUDA; use the target cuda on a machine with a GPU\\n", name);
    abort();
}
"""

Symbol = tuple[str, str]
"""Name and version, "" without one."""


def listed(*command: str | Path) -> list[str]:
    """What a program prints, by lines."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def dynamic(library: Path, kind: str) -> list[str]:
    """The names a library gives itself (SONAME) or asks for (NEEDED)."""
    found = (DYNAMIC.search(line) for line in listed("readelf", "--dynamic", "--wide", library))
    return [match[2] for match in found if match and match[1] == kind]


def versions(library: Path) -> dict[str, str]:
    """The file that each version a library asks for belongs to."""
    files: dict[str, str] = {}
    file = ""
    for line in listed("readelf", "--version-info", "--wide", library):
        if match := VERSION.search(line):
            file = match[1] or file
            if match[2]:
                files[match[2]] = file
    return files


def undefined(library: Path) -> set[Symbol]:
    """The symbols that a library must find elsewhere."""
    found = set()
    for line in listed("nm", "--dynamic", "--undefined-only", library):
        kind, symbol = line.split()
        name, _, version = symbol.partition("@")
        if kind == "U":
            found.add((name, version.lstrip("@")))
    return found


def stub(library: Path, wanted: set[Symbol]) -> None:
    """Put a library there whose functions refuse."""
    names = defaultdict(list)
    for name, version in sorted(wanted):
        names[version].append(name)
    script = "\n".join(f"{version} {{ global: {'; '.join(found)}; }};" for version, found in names.items() if version)
    code = [f'void {name}(void) {{ refuse("{name}"); }}' for found in names.values() for name in found]
    with tempfile.TemporaryDirectory() as folder:
        source, map_file = Path(folder, "stub.c"), Path(folder, "stub.map")
        source.write_text(HEAD + "\n".join(code))
        map_file.write_text(script)
        flags = ["-shared", "-fPIC", "-s", "-w", f"-Wl,-soname,{library.name}"]
        flags += [f"-Wl,--version-script,{map_file}"] if script else []
        subprocess.run(["cc", *flags, "-o", library, source], check=True)


def main(site_packages: Path) -> None:
    """Replace what is missing, and print how much of it."""
    lib = site_packages / "torch" / "lib"
    for name in LAZY:
        (lib / name).unlink()
    there = [*lib.glob("*.so*"), *(site_packages / "nvidia").rglob("*.so*")]
    files = {version: file for library in there for version, file in versions(library).items()}
    wanted = {symbol for library in there for symbol in undefined(library)}
    needed = {name for library in there for name in dynamic(library, "NEEDED") if NVIDIA.match(name)}
    for name in sorted(needed - {library.name for library in there}):
        prefix = name.removeprefix("lib").partition(".")[0].lower()
        named = {each for each in wanted if each[1] and files.get(each[1]) == name}
        stub(lib / name, named | {each for each in wanted if not each[1] and each[0].lower().startswith(prefix)})
        sys.stdout.write(f"{name} replaced\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
