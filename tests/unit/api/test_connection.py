from __future__ import annotations

import asyncio

from perfuse.api.connection import JoiningTransport

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
