"""A store among processes: killed writers, readers that follow, slow and full disks."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from perfuse import ArrowStorage
from perfuse.errors import StoreFull

WRITER = """
import sys, pyarrow as pa
from perfuse import ArrowStorage
store = ArrowStorage.open(sys.argv[1])
schema = pa.schema([pa.field("n", pa.int64(), nullable=False), ("text", pa.string())])
store.create_table("a", schema, "n")
store.create_table("b", schema, "n")
rows = store.snapshot().count("a")
print("ready", rows, flush=True)
while True:
    batch = pa.table({"n": [rows, rows + 1], "text": ["x" * (rows % 4000), None]}, schema=schema)
    store.commit([("put", "a", batch), ("put", "b", batch)])
    rows += 2
    print(rows, flush=True)
"""


def writer(path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)


def kill_while_it_writes(path: Path, seconds: float) -> int:
    """Rows acknowledged by a writer that is killed after `seconds` of writing."""
    child = writer(path)
    assert child.stdout is not None
    acknowledged = int(child.stdout.readline().split()[1])
    time.sleep(seconds)
    child.kill()
    # The last line may have been cut by the kill; a whole line is an acknowledgement.
    whole = [line for line in child.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
    assert child.wait() == -signal.SIGKILL
    child.stdout.close()
    return int(whole[-1]) if whole else acknowledged


def check_rounds(path: Path, rounds: int) -> None:
    delays = random.Random(7)
    before = 0
    for _ in range(rounds):
        acknowledged = kill_while_it_writes(path, delays.uniform(0.0, 0.15))
        with ArrowStorage.open(path, "reader") as reader:
            seen = pa.table(reader.scan("a"))["n"].to_pylist()
            assert seen[:acknowledged] == list(range(acknowledged))
        with ArrowStorage.open(path) as store:
            for table in ("a", "b"):
                rows = pa.table(store.scan(table))["n"].to_pylist()
                assert rows == list(range(len(rows)))  # nothing lost in between
                assert len(rows) in (acknowledged, acknowledged + 2)  # at most the commit in flight
                assert len(rows) == store.snapshot().count("a")  # both tables or none
            assert acknowledged >= before
            store.verify()
        before = acknowledged
    assert before > 0


def test_five_killed_writers_lose_no_acknowledged_row(tmp_path: Path) -> None:
    check_rounds(tmp_path, 5)


@pytest.mark.proof
@pytest.mark.timeout(600)
def test_fifty_killed_writers_lose_no_acknowledged_row(tmp_path: Path) -> None:
    check_rounds(tmp_path, 50)


def test_a_reader_process_sees_a_growing_prefix_of_whole_commits(tmp_path: Path) -> None:
    child = writer(tmp_path)
    assert child.stdout is not None
    try:
        child.stdout.readline()
        with ArrowStorage.open(tmp_path, "reader") as reader:
            last = 0
            for line in (child.stdout.readline() for _ in range(100)):
                lsn = reader.refresh()
                snapshot = reader.snapshot()
                rows = snapshot.count("a")
                assert (snapshot.lsn, snapshot.count("b")) == (lsn, rows)
                assert rows == 2 * (lsn - 2)  # two rows per commit after the two tables
                assert rows >= max(last, int(line))
                last = rows
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


SHIM = """
#include <time.h>
#include <sys/syscall.h>
#include <unistd.h>
int fdatasync(int fd) {
    struct timespec pause = {0, 200 * 1000 * 1000};
    nanosleep(&pause, 0);
    return syscall(SYS_fdatasync, fd);
}
"""

TIMED = """
import sys, time, pyarrow as pa
from perfuse import ArrowStorage
store = ArrowStorage.open(sys.argv[1])
store.create_table("t", pa.schema([("n", pa.int64())]), "n")
for n in range(3):
    start = time.perf_counter()
    store.put("t", pa.table({"n": [n]}))
    print(time.perf_counter() - start)
"""


def test_a_disk_that_syncs_late_delays_the_acknowledgement(tmp_path: Path) -> None:
    if (compiler := shutil.which("cc")) is None:
        pytest.skip("no C compiler to build the shim with")
    source, shim = tmp_path / "shim.c", tmp_path / "shim.so"
    source.write_text(SHIM)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", shim, source], check=True)
    done = subprocess.run(
        [sys.executable, "-c", TIMED, str(tmp_path / "store")],
        env=os.environ | {"LD_PRELOAD": str(shim)},
        capture_output=True,
        text=True,
        check=True,
    )
    seconds = [float(line) for line in done.stdout.split()]
    assert len(seconds) == 3
    assert min(seconds) >= 0.2


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting a small tmpfs needs root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def fill(store: ArrowStorage) -> Iterator[int]:
    """Puts rows until the disk is full; gives the number of those acknowledged after each."""
    for n in range(1000):
        store.put("t", pa.table({"n": [n], "text": ["x" * 8000]}))
        yield n + 1


def test_a_full_disk_refuses_commits_and_loses_none(small_disk: Path) -> None:
    path = small_disk / "store"
    acknowledged: list[int] = []
    with ArrowStorage.open(path) as store:
        store.create_table("t", pa.schema([("n", pa.int64()), ("text", pa.string())]), "n")
        with pytest.raises(StoreFull) as refused:
            acknowledged.extend(fill(store))
        log = next((path / "wal").iterdir())
        assert refused.value.detail == f"could not write {log}: No space left on device (os error 28)"
        assert refused.value.hint == "free some space and try again"
        rows = pa.table(store.scan("t"))["n"].to_pylist()
        assert 20 < len(rows) < 100
        assert rows == list(range(len(rows))) == [count - 1 for count in acknowledged]
        assert store.verify()["lsn"] == store.lsn == len(rows) + 1
    with ArrowStorage.open(path) as store:
        assert store.snapshot().count("t") == len(rows)
        subprocess.run(["mount", "-o", "remount,size=2m", str(small_disk)], check=True)
        assert next(fill(store)) == 1
        assert store.lsn == len(rows) + 2
