"""A real redis-server for the tests marked `redis`."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

StartRedis = Callable[..., str]


@pytest.fixture
def start_redis(tmp_path: Path) -> Iterator[StartRedis]:
    """Starts a redis-server on a unix socket; gives its address."""
    program = shutil.which("redis-server")
    assert program is not None, "tests marked redis need redis-server"
    running: list[subprocess.Popen[bytes]] = []

    def start(name: str = "redis", *, aof: bool = True) -> str:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        path = folder / "socket"
        flags = [
            "--port",
            "0",
            "--unixsocket",
            str(path),
            "--dir",
            str(folder),
            "--save",
            "",
            "--loglevel",
            "warning",
        ]
        process = subprocess.Popen([program, *flags, "--appendonly", "yes" if aof else "no"], stdout=subprocess.DEVNULL)
        running.append(process)
        start.processes[name] = process
        deadline = time.monotonic() + 10
        while not _listens(path):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return f"unix://{path}"

    start.processes = {}
    yield start
    for process in running:
        process.kill()
        process.wait()


def _listens(path: Path) -> bool:
    """Whether a server answers there; its file appears a moment earlier."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0
