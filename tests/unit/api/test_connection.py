from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.server import ServerState

from perfuse.api.connection import WHEN_GONE, Connection, JoiningTransport
from perfuse.api.events import unless_gone

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"


class Wire(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.packets: list[bytes] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.packets.append(bytes(data))

    def close(self) -> None:
        self.closed = True


def test_a_head_leaves_with_its_body_and_later_parts_leave_at_once() -> None:
    wire = Wire()
    joining = JoiningTransport(wire)
    for part in (HEAD, b"o", b"k"):
        joining.write(part)
    assert wire.packets == [HEAD + b"o", b"k"]


def test_the_next_answer_on_a_connection_has_a_head_of_its_own() -> None:
    wire = Wire()
    joining = JoiningTransport(wire)
    for part in (HEAD, b"ok", HEAD, b"ok"):
        joining.write(part)
    assert wire.packets == [HEAD + b"ok"] * 2


def test_a_head_without_a_body_leaves_when_the_connection_closes() -> None:
    wire = Wire()
    joining = JoiningTransport(wire)
    joining.write(HEAD)
    joining.close()
    assert wire.packets == [HEAD]
    assert wire.closed


def test_leave_to_send_the_body_is_given_at_once() -> None:
    wire = Wire()
    JoiningTransport(wire).write(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert wire.packets == [b"HTTP/1.1 100 Continue\r\n\r\n"]


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[int]:
    config = uvicorn.Config(app, ws="none", lifespan="off", log_config=None)
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(config, state, {}), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in state.tasks:
            task.cancel()


REQUEST = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}"


async def test_work_for_a_client_that_leaves_is_cancelled() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def work() -> str:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return "done"

    seen: list[str | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert WHEN_GONE in scope
        seen.append(await unless_gone(work(), scope, receive))

    async with serving(app) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST)
        await begun.wait()
        writer.close()
        await asyncio.wait_for(ended.wait(), 5)
    assert seen == [None]


async def test_work_begun_for_a_client_that_has_left_is_cancelled() -> None:
    arrived, left = asyncio.Event(), asyncio.Event()
    seen: asyncio.Queue[str | None] = asyncio.Queue()

    async def work() -> str:
        await asyncio.sleep(3600)
        return "done"

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        arrived.set()
        while (await receive())["type"] != "http.disconnect":
            continue
        left.set()
        seen.put_nowait(await unless_gone(work(), scope, receive))

    async with serving(app) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST)
        await arrived.wait()
        writer.close()
        await left.wait()
        assert await asyncio.wait_for(seen.get(), 5) is None


@pytest.mark.parametrize("requests", [1, 3])
async def test_a_client_that_stays_gets_every_answer_and_may_leave_after(requests: int) -> None:
    cancelled: list[bool] = []

    async def work() -> bytes:
        await asyncio.sleep(0)
        return b"ok"

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = await unless_gone(work(), scope, receive)
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
            await send({"type": "http.response.body", "body": body})
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async with serving(app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(requests):
            writer.write(REQUEST)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK")
            assert await reader.readexactly(2) == b"ok"
        writer.close()
        await writer.wait_closed()
    assert cancelled == []
