"""What the SQLite inbox acknowledges is on disk: a slow disk delays it, and losing all that was not synced loses none.

A library loaded before the C library's stands for the disk. `slow` makes every sync take 200 ms. `recorded` copies a
file whenever it is synced, and notes the names in a directory whenever that is: together they are what a power failure
must leave. Of what was written since, any 4 KiB block may or may not have reached the disk.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from perfuse.queue.inbox import connect

FILE = "inbox.sqlite3"
BLOCK = 4096
LATE = r"""
#include <time.h>
#include <sys/syscall.h>
#include <unistd.h>
static void wait(void) {
    struct timespec pause = {0, 200 * 1000 * 1000};
    nanosleep(&pause, 0);
}
int fdatasync(int fd) { wait(); return syscall(SYS_fdatasync, fd); }
int fsync(int fd) { wait(); return syscall(SYS_fsync, fd); }
"""
RECORDED = r"""
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
static void put(const char *name, int from) {
    char made[4096], final[4096], bytes[65536];
    snprintf(made, sizeof made, "%s/making-%s", getenv("SHADOW"), name);
    snprintf(final, sizeof final, "%s/%s", getenv("SHADOW"), name);
    int to = open(made, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ssize_t n;
    for (off_t at = 0; from >= 0 && (n = pread(from, bytes, sizeof bytes, at)) > 0; at += n)
        if (write(to, bytes, n) != n) abort();
    close(to);
    rename(made, final);
}
static void record(int fd) {
    char link[64], path[4096], entry[4096];
    struct stat status;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0 || fstat(fd, &status)) return;
    path[length] = 0;
    if (S_ISDIR(status.st_mode)) {
        DIR *directory = opendir(path);
        for (struct dirent *each; (each = readdir(directory));)
            if (!strncmp(each->d_name, "inbox", 5)) {
                snprintf(entry, sizeof entry, "entry-%s", each->d_name);
                put(entry, -1);
            }
        closedir(directory);
    } else if (!strncmp(strrchr(path, '/') + 1, "inbox", 5)) {
        int from = open(path, O_RDONLY);
        put(strrchr(path, '/') + 1, from);
        close(from);
    }
}
int fdatasync(int fd) { record(fd); return syscall(SYS_fdatasync, fd); }
int fsync(int fd) { record(fd); return syscall(SYS_fsync, fd); }
"""
Shim = Callable[[str], dict[str, str]]


@pytest.fixture
def shim(tmp_path: Path) -> Shim:
    """Compiles a library; gives an environment in which programs load it."""
    compiler = shutil.which("cc")
    assert compiler is not None, "the shims need a C compiler"

    def build(source: str) -> dict[str, str]:
        code, library = tmp_path / "shim.c", tmp_path / "shim.so"
        code.write_text(source)
        subprocess.run([compiler, "-shared", "-fPIC", "-o", library, code], check=True)
        return {**os.environ, "LD_PRELOAD": str(library), "SHADOW": str(tmp_path / "shadow")}

    return build


FEEDBACK = """
import asyncio, sys, time, httpx2, msgspec
from pathlib import Path
from types import SimpleNamespace
from perfuse.api.app import create_app
from perfuse.api.auth import LOCAL_TENANT, Keyring
from perfuse.ids import Minter
from perfuse.queue import inbox, ledger
async def main(folder):
    kept, said = ledger.connect("sqlite", folder, 60), inbox.connect("sqlite", folder)
    await kept.open(); await said.open()
    minter = Minter(bytes(32))
    identity = minter.mint(LOCAL_TENANT)
    await kept.record(ledger.Generation(
        id=minter.inside(identity), tenant=LOCAL_TENANT, created=time.time(), kind="plan", model="m@1", seed=1,
        snapshot=0, request=msgspec.Raw(b"{}"), result=msgspec.Raw(b"{}")))
    app = create_app(pool=SimpleNamespace(counters=dict), ledger=kept, inbox=said, secret=bytes(32),
                     keyring=Keyring(), max_body_bytes=10000)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://127.0.0.1") as client:
        for _ in range(3):
            began = time.perf_counter()
            answer = await client.post("/feedback", json={"generation_id": identity, "source": "s", "reward": 1})
            print(answer.status_code, time.perf_counter() - began)
    await said.close(); await kept.close()
asyncio.run(main(Path(sys.argv[1])))
"""


def test_a_disk_that_syncs_late_delays_the_answer(shim: Shim, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FEEDBACK, str(tmp_path)], env=shim(LATE), capture_output=True, text=True, check=True
    )
    answers = [line.split() for line in done.stdout.splitlines()]
    assert [status for status, _ in answers] == ["202"] * 3
    assert min(float(seconds) for _, seconds in answers) >= 0.2


STREAM = """
import asyncio, random, sys
from pathlib import Path
from perfuse.queue.inbox import Put, connect
async def main(folder):
    draw = random.Random(int(sys.argv[2]))
    inbox = connect("sqlite", folder)
    await inbox.open()
    async def put():
        while True:
            identity = await inbox.put(Put(bytes([draw.randrange(256)]) * draw.randrange(1, int(sys.argv[3]))))
            print("put", identity, flush=True)
    async def work():
        while True:
            for lease in await inbox.lease(3, 60):
                await inbox.begin(lease)
                if draw.random() < 0.3:
                    print("ack", lease.id, flush=True)
                    await inbox.ack(lease)
            await asyncio.sleep(0.01)
    await asyncio.gather(put(), put(), put(), work())
asyncio.run(main(Path(sys.argv[1])))
"""


def interrupted(folder: Path, environment: dict[str, str], seed: int, size: int) -> tuple[set[str], set[str]]:
    """Ids that were acknowledged to the client, and those whose end had begun, when the power failed."""
    command = [sys.executable, "-c", STREAM, str(folder), str(seed), str(size)]
    child = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    draw = random.Random(seed)
    seen = [child.stdout.readline() for _ in range(draw.randrange(20, 120))]
    time.sleep(draw.uniform(0.0, 0.02))
    child.kill()
    seen += child.stdout.readlines()
    assert child.wait() == -signal.SIGKILL
    child.stdout.close()
    whole = [line.split() for line in seen if line.endswith("\n")]
    return {word for kind, word in whole if kind == "put"}, {word for kind, word in whole if kind == "ack"}


def after_power_loss(written: Path, shadow: Path, image: Path, draw: random.Random | None) -> None:
    """Make the directory as the disk may hold it: what was synced, and of later blocks those that were drawn."""
    image.mkdir()
    for name in (FILE, f"{FILE}-wal"):
        if not (shadow / f"entry-{name}").exists() or not (shadow / name).exists():
            continue
        synced = bytearray((shadow / name).read_bytes())
        if draw is not None:
            later = (written / name).read_bytes()
            synced.extend(bytes(max(0, len(later) - len(synced))))
            for at in range(0, len(later), BLOCK):
                if later[at : at + BLOCK] != synced[at : at + BLOCK] and draw.random() < 0.5:
                    synced[at : at + BLOCK] = later[at : at + BLOCK]
        (image / name).write_bytes(synced)


async def ids_in(folder: Path) -> list[str]:
    """All that an inbox holds: what is leased has come free by then, or is counted."""
    inbox = connect("sqlite", folder)
    await inbox.open()
    inbox._clock = lambda: time.time() + 3600  # type: ignore[attr-defined]
    leased = await inbox.lease(100_000, 60)
    await inbox.close()
    assert all(lease.item == lease.item[:1] * len(lease.item) for lease in leased)
    return [lease.id for lease in leased]


def check_rounds(tmp_path: Path, environment: dict[str, str], rounds: int) -> None:
    for number in range(rounds):
        folder, shadow = tmp_path / f"written-{number}", Path(environment["SHADOW"])
        folder.mkdir()
        shutil.rmtree(shadow, ignore_errors=True)
        shadow.mkdir()
        size = 100_000 if number % 2 else 2_000  # large ones move the log into the database all the time
        acknowledged, ended = interrupted(folder, environment, number, size)
        assert acknowledged
        for variant in range(6):
            image = tmp_path / f"image-{number}-{variant}"
            after_power_loss(folder, shadow, image, random.Random(variant) if variant else None)
            found = asyncio.run(ids_in(image))
            assert len(found) == len(set(found))
            assert acknowledged - ended <= set(found)
            shutil.rmtree(image)


def test_a_power_failure_takes_nothing_that_was_acknowledged(shim: Shim, tmp_path: Path) -> None:
    check_rounds(tmp_path, shim(RECORDED), 2)


@pytest.mark.proof
@pytest.mark.timeout(600)
def test_twenty_power_failures_take_nothing_that_was_acknowledged(shim: Shim, tmp_path: Path) -> None:
    check_rounds(tmp_path, shim(RECORDED), 20)
