"""HTTP connections that send the head of an answer and its body in one packet, and say when the client leaves.

Uvicorn writes head and body one after the other. Together they cost one system call less and wake the client once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

WHEN_GONE = "perfuse.when_gone"
"""Key of the scope: an `Arm` that stops work when the client leaves. Waiting for ASGI to say so takes a task."""

_HEAD = (b"HTTP/1.1 2", b"HTTP/1.1 4", b"HTTP/1.1 5")
_HEAD_END = b"\r\n\r\n"


class JoiningTransport(asyncio.Transport):
    """Holds a head back until the next write, or until the connection closes; everything else goes straight on.

    Args:
        transport: where it goes.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""
        # Asked for or called per request; the rest of the interface is not used by uvicorn.
        self.is_closing = transport.is_closing  # type: ignore[method-assign]
        self.get_extra_info = transport.get_extra_info  # type: ignore[method-assign]
        self.pause_reading = transport.pause_reading  # type: ignore[method-assign]
        self.resume_reading = transport.resume_reading  # type: ignore[method-assign]

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send, a head with what follows it."""
        if self._head:
            data, self._head = self._head + data, b""
        elif isinstance(data, bytes) and data.startswith(_HEAD) and data.endswith(_HEAD_END):
            self._head = data
            return
        self._transport.write(data)

    def close(self) -> None:
        """Send what is held back and close."""
        if self._head:
            self.write(b"")
        self._transport.close()


class Connection(HttpToolsProtocol):
    """Uvicorn's connection on a `JoiningTransport`, with `WHEN_GONE` in the scope of its requests."""

    _stop: Callable[[], None] | None = None
    _lost = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        super().connection_made(JoiningTransport(transport))

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self.scope[WHEN_GONE] = self._arm  # type: ignore[literal-required]

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has left."""
        super().connection_lost(exc)
        self._lost = True
        self._leave()

    def _arm(self, stop: Callable[[], None]) -> Callable[[], object]:
        """One slot is enough: requests of a connection are answered one after the other."""
        self._stop = stop
        if self._lost:
            self.loop.call_soon(self._leave)
        return self._disarm

    def _disarm(self) -> None:
        self._stop = None

    def _leave(self) -> None:
        if self._stop is not None:
            self._stop()
