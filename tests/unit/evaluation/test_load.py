"""The load generator against a scripted peer, and what it reads from /proc."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from perfuse.errors import Unavailable
from perfuse.evaluation import load
from perfuse.evaluation.load import Connection, Server, ask, serving, storm

NOBODY = 2**22 + 1
"""Above the largest process id of Linux."""


class Peer:
    """Answers every POST with its body and every GET with the status that comes next."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.connections = 0
        self.port = 0
        self.serving: list[asyncio.Task[None] | None] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.serving.append(asyncio.current_task())
        while head := await self._head(reader):
            length = int(head.lower().split("content-length: ")[1].split()[0])
            body = await reader.readexactly(length)
            status = self.statuses.pop(0) if head.startswith("GET") and len(self.statuses) else 200
            if status == 0:
                break
            writer.write(f"HTTP/1.1 {status} -\r\nContent-Length: {length}\r\nX-Case: A:b\r\n\r\n".encode() + body)
        writer.close()
        await writer.wait_closed()

    async def _head(self, reader: asyncio.StreamReader) -> str:
        try:
            return (await reader.readuntil(b"\r\n\r\n")).decode()
        except (asyncio.IncompleteReadError, ConnectionError):
            return ""


@asynccontextmanager
async def listening(*statuses: int) -> AsyncIterator[Peer]:
    peer = Peer(*statuses)
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
    peer.port = server.sockets[0].getsockname()[1]
    try:
        yield peer
    finally:
        server.close()
        await asyncio.gather(*(task for task in peer.serving if task is not None))


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


async def test_an_answer_has_status_headers_body_and_seconds() -> None:
    async with listening() as peer:
        answer = await ask(peer.port, "POST", "/x", {"a": [1]})
    assert answer.status == 200
    assert answer.headers == {"content-length": "10", "x-case": "A:b"}
    assert answer.json() == {"a": [1]}
    assert answer.seconds > 0


async def test_a_storm_answers_in_order_over_one_connection_per_client() -> None:
    async with listening() as peer:
        answers = await storm(peer.port, "/x", [{"i": i} for i in range(20)], 3)
        assert peer.connections == 3
    assert [answer.json() for answer in answers] == [{"i": i} for i in range(20)]


@pytest.mark.parametrize(("count", "size"), [(30, 10), (2, 9_000_000)])
async def test_a_burst_opens_a_connection_for_each_request(count: int, size: int) -> None:
    body = {"text": "a" * size}
    async with listening() as peer:
        answers = await asyncio.to_thread(load.burst, peer.port, "/x", body, count)
        assert peer.connections == count
    assert [answer.status for answer in answers] == [200] * count
    assert all(answer.json() == body for answer in answers)
    assert all(answer.headers["x-case"] == "A:b" and answer.seconds > 0 for answer in answers)


async def test_a_burst_says_which_answer_was_cut_short() -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}")
        writer.write(b"HTTP/1.1 200 -\r\nContent-Length: 9\r\n\r\n{}")
        writer.close()

    async with await asyncio.start_server(cut, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ConnectionResetError, match="the connection was closed after 39 bytes of an answer"):
            await asyncio.to_thread(load.burst, port, "/x", {}, 1)


async def test_a_broken_connection_is_an_error_and_the_next_request_opens_another() -> None:
    async with listening(0) as peer:
        connection = Connection(peer.port)
        with pytest.raises(ConnectionResetError, match="0 bytes read on a total of undefined expected bytes"):
            await connection.request("GET", "/x")
        assert (await connection.request("GET", "/x")).status == 200
        assert peer.connections == 2
        connection.close()


async def test_nobody_listening_is_refused() -> None:
    with pytest.raises(ConnectionRefusedError):
        await ask(load.free_port(), "GET", "/x")


async def test_ready_waits_for_200(sleeper: subprocess.Popen[bytes], tmp_path: Path) -> None:
    async with listening(0, 503, 503) as peer:
        server = Server(sleeper, peer.port, tmp_path)
        assert await server.ready() >= 3 * 0.02
        assert peer.connections == 4
    assert server.stop() == -signal.SIGTERM


async def test_ready_tells_of_a_server_that_ended(sleeper: subprocess.Popen[bytes], tmp_path: Path) -> None:
    sleeper.terminate()
    sleeper.wait()
    server = Server(sleeper, load.free_port(), tmp_path)
    with pytest.raises(Unavailable) as caught:
        await server.ready()
    assert caught.value.detail == "the server ended with exit code -15"
    assert server.stop() == -signal.SIGTERM


async def test_ready_gives_up_in_time(sleeper: subprocess.Popen[bytes], tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as caught:
        await Server(sleeper, load.free_port(), tmp_path).ready(0.1)
    assert caught.value.detail == "the server was not ready after 0.1 s"


def test_a_server_that_does_not_end_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sleeper: subprocess.Popen[bytes]
) -> None:
    def never(_server: Server, seconds: float = 30.0) -> int:
        raise subprocess.TimeoutExpired("perfuse", seconds)

    monkeypatch.setattr(Server, "stop", never)
    monkeypatch.setattr(load.subprocess, "Popen", lambda *_arguments, **_options: sleeper)
    with serving(tmp_path / "data") as server:
        assert server.process.poll() is None
    assert sleeper.poll() == -signal.SIGKILL


def test_processes_are_found_with_their_cpu_time_and_memory(sleeper: subprocess.Popen[bytes]) -> None:
    assert sleeper.pid in load.children_of(os.getpid())
    assert load.part_of(sleeper.pid) == "other"
    assert "time.sleep(60)" in load.command_of(sleeper.pid)
    assert load.cpu_seconds(os.getpid()) > 0
    assert load.resident_bytes(os.getpid()) > 1e6


def test_a_process_that_has_ended_has_no_name() -> None:
    assert load.part_of(NOBODY) == "other"
    assert load.command_of(NOBODY) == ""
    assert load.children_of(NOBODY) == []


async def test_what_a_server_has_not_read_is_counted_by_client() -> None:
    with socket.create_server(("127.0.0.1", 0)) as idle:
        port: int = idle.getsockname()[1]
        first, second = Connection(port), Connection(port)
        asked = [asyncio.create_task(each.request("POST", "/", "x" * 1000)) for each in (first, second)]
        while not (first.sent_from and second.sent_from):
            await asyncio.sleep(0.001)
        one = load.unread_bytes(port, {first.sent_from})
        assert one > 1000
        assert load.unread_bytes(port, {first.sent_from, second.sent_from}) == 2 * one
        accepted, (_, came_from) = idle.accept()
        with accepted:
            accepted.recv(1 << 16)
            assert load.unread_bytes(port, {came_from}) == 0
            assert load.unread_bytes(port, {first.sent_from, second.sent_from}) == one
    first.close()
    second.close()
    assert all(isinstance(each, OSError) for each in await asyncio.gather(*asked, return_exceptions=True))
