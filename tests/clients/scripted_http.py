"""A small real HTTP server that answers with given bytes, for what a perfuse server does rarely or never."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

_HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True)
class Received:
    """One request: when its last byte came, its first line, headers in lower case, and body."""

    at: float
    line: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> dict[str, object]:
        parsed: dict[str, object] = json.loads(self.body)
        return parsed


@dataclass
class Script:
    """What the server was asked, and where it listens."""

    url: str
    received: list[Received] = field(default_factory=list)


@contextmanager
def answering(*answers: bytes | None) -> Iterator[Script]:
    """Answers one connection after the other and closes it; None: reads the request and is silent until the end."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        script = Script(f"http://127.0.0.1:{listening.getsockname()[1]}")
        ended = threading.Event()

        def serve() -> None:
            for answer in answers:
                connection, _ = listening.accept()
                with connection:
                    script.received.append(_request(connection))
                    if answer is None:
                        ended.wait()
                    else:
                        connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield script
        finally:
            ended.set()
            thread.join(10)
            assert not thread.is_alive(), "not every answer was asked for"


def answer(status: int, body: object, **headers: str) -> bytes:
    """An answer with a JSON body, or with bytes as they are."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {"content-type": "application/json", "content-length": str(len(content)), "connection": "close"}
    named.update({name.replace("_", "-"): value for name, value in headers.items()})
    lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    return f"HTTP/1.1 {status} X\r\n{lines}\r\n".encode() + content


def events(*blocks: bytes) -> bytes:
    """A stream that ends when the connection does."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\nconnection: close\r\n\r\n"
    return head + b"".join(blocks)


def problem(status: int, code: str, **more: object) -> dict[str, object]:
    """A problem's body."""
    said = {"type": f"/problems/{code}", "title": code, "status": status, "detail": "because", "code": code}
    return {**said, "request_id": "r", **more}


def _request(connection: socket.socket) -> Received:
    raw = b""
    while _HEAD_END not in raw:
        raw += connection.recv(65_536)
    head, _, body = raw.partition(_HEAD_END)
    line, *rest = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (each.partition(": ") for each in rest)}
    while len(body) < int(headers.get("content-length", 0)):
        body += connection.recv(65_536)
    return Received(time.monotonic(), line, headers, body)
