"""After a power cut, whoever finds the record of an adaptation finds its bytes.

A shim writes down what a process asks of the disk. The bytes must be on it, under a name that is on it, in a folder
whose name is on it, before the log that names them is synced. Mistakes are planted, and noticed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SHIM = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
static void note(const char *what, const char *path, const char *to) {
    char line[2 * PATH_MAX + 32];
    int length = snprintf(line, sizeof line, "%s\\t%s\\t%s\\n", what, path, to);
    int file = open(getenv("SHIM_LOG"), O_WRONLY | O_APPEND | O_CREAT, 0600);
    if (file >= 0 && write(file, line, length) == length) close(file);
}
static void note_file(const char *what, int file) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length < 0 ? 0 : length] = 0;
    note(what, path, "");
}
int fsync(int file) { note_file("sync", file); return syscall(SYS_fsync, file); }
int fdatasync(int file) { note_file("sync", file); return syscall(SYS_fdatasync, file); }
int rename(const char *from, const char *to) {
    note("rename", from, to);
    return syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}
int mkdir(const char *path, mode_t mode) { note("mkdir", path, ""); return syscall(SYS_mkdirat, AT_FDCWD, path, mode); }
"""

ADMIT = """
import hashlib, os, sys
from pathlib import Path
from perfuse.evolution import promote
from perfuse.evolution.learned import Learned
from perfuse.store.blobs import Blobs
from perfuse.store.learning import FEEDBACK
from unit.evolution.learning import EMBEDDER, candidate, feedback
afterwards = []
PLANT
with Learned.open(Path(sys.argv[1]), EMBEDDER) as learned:
    learned.store.commit([FEEDBACK.put(feedback("c-a", "a"))])
    promote.admit(learned, candidate("d1", "a"), b"weights")
    for work in afterwards:
        work()
"""

RECORD_FIRST = """
put = Blobs.put
def name_only(blobs, data):
    afterwards.append(lambda: put(blobs, data))
    return hashlib.sha256(data).hexdigest()
Blobs.put = name_only
"""

BYTES_NOT_SYNCED = """
sync = os.fsync
os.fsync = lambda file: None if Path(f"/proc/self/fd/{file}").readlink().is_file() else sync(file)
"""

NAMES_NOT_SYNCED = "Blobs._sync = lambda blobs: None"


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if (compiler := shutil.which("cc")) is None:
        pytest.skip("no C compiler to build the shim with")
    folder = tmp_path_factory.mktemp("shim")
    (folder / "shim.c").write_text(SHIM)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", folder / "shim.so", folder / "shim.c", "-ldl"], check=True)
    return folder / "shim.so"


def asked_of_the_disk(shim: Path, folder: Path, plant: str = "") -> list[tuple[str, Path, Path]]:
    log = folder / "log"
    subprocess.run(
        [sys.executable, "-c", ADMIT.replace("PLANT", plant), str(folder / "store")],
        env=os.environ | {"LD_PRELOAD": str(shim), "SHIM_LOG": str(log), "PYTHONPATH": str(Path(__file__).parents[1])},
        check=True,
    )
    return [
        (what, Path(path), Path(to)) for what, path, to in (line.split("\t") for line in log.read_text().splitlines())
    ]


def lost_by_a_power_cut(asked: list[tuple[str, Path, Path]]) -> str:
    """Why the last record may be on the disk without the bytes it names; empty if it cannot."""
    record = max(index for index, (what, path, _) in enumerate(asked) if what == "sync" and path.suffix == ".wal")
    before = asked[:record]
    names = [index for index, (what, _, to) in enumerate(before) if what == "rename" and to.parent.name == "blobs"]
    if not names:
        return "the bytes have no name"
    _, draft, blob = before[names[0]]
    if ("sync", draft, Path()) not in before[: names[0]]:
        return "the bytes are not on the disk"
    if ("sync", blob.parent, Path()) not in before[names[0] :]:
        return "their name is not on the disk"
    made = [index for index, (what, path, _) in enumerate(before) if what == "mkdir" and path == blob.parent]
    if made and ("sync", blob.parent.parent, Path()) not in before[made[0] :]:
        return "the name of their folder is not on the disk"
    return ""


def test_the_bytes_are_on_the_disk_before_a_record_names_them(shim: Path, tmp_path: Path) -> None:
    assert lost_by_a_power_cut(asked_of_the_disk(shim, tmp_path)) == ""


@pytest.mark.parametrize(
    ("mistake", "noticed"),
    [
        (RECORD_FIRST, "the bytes have no name"),
        (BYTES_NOT_SYNCED, "the bytes are not on the disk"),
        (NAMES_NOT_SYNCED, "their name is not on the disk"),
    ],
    ids=["record first", "bytes not synced", "names not synced"],
)
def test_mistakes_are_noticed(shim: Path, tmp_path: Path, mistake, noticed) -> None:
    assert lost_by_a_power_cut(asked_of_the_disk(shim, tmp_path, mistake)) == noticed
