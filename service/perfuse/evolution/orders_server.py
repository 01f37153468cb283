"""The worker's end of the socket on which orders come: any number of connections, each answered as it asks."""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import Protocol, cast

from perfuse import logging, orders, wire
from perfuse.errors import PerfuseError, Unavailable

_log = logging.get(__name__)

_READY = wire.frame(orders.Ready())


class Carrying(Protocol):
    """Who carries out orders (`perfuse.evolution.desk.Desk`)."""

    async def carry_out(self, order: orders.AnyOrder) -> orders.Body:
        """Do it and give the answer. Raises PerfuseError."""
        ...


class OrdersServer:
    """Takes orders on a listening unix socket, which its owner has bound with mode 0600 and keeps.

    Args:
        desk: carries them out.
        listening: the socket.
    """

    def __init__(self, desk: Carrying, listening: socket.socket) -> None:
        self._desk = desk
        self._listening = listening
        self._connections: set[_Connection] = set()
        self._under_way: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Take connections from now on. The socket file is the supervisor's; newer interpreters would remove it."""
        loop = asyncio.get_running_loop()
        if sys.version_info >= (3, 13):
            self._server = await loop.create_unix_server(self._connection, sock=self._listening, cleanup_socket=False)
        else:
            self._server = await loop.create_unix_server(self._connection, sock=self._listening)

    def _connection(self) -> _Connection:
        return _Connection(self)

    async def close(self) -> None:
        """Take no more; carry out and answer what was ordered, then disconnect."""
        if self._server is not None:
            self._server.close()
        if self._under_way:
            await asyncio.wait(self._under_way)
        for connection in list(self._connections):
            connection.close()

    def opened(self, connection: _Connection) -> None:
        """Somebody has connected."""
        self._connections.add(connection)

    def lost(self, connection: _Connection) -> None:
        """Somebody has disconnected; what they have ordered is carried out all the same."""
        self._connections.discard(connection)

    def ordered(self, connection: _Connection, order: orders.AnyOrder) -> None:
        """An order has come."""
        if self._server is None or not self._server.is_serving():
            ending = Unavailable("the evolution worker is ending", retry_after=1.0)
            connection.send(wire.problem_of(order.id, ending))
            return
        task = asyncio.create_task(self._answer(connection, order))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _answer(self, connection: _Connection, order: orders.AnyOrder) -> None:
        try:
            answer: wire.Message = orders.Done(order.id, await self._desk.carry_out(order))
        except PerfuseError as error:
            answer = wire.problem_of(order.id, error)
        except Exception as error:  # noqa: BLE001  # the boundary of the process: whoever asks gets an answer
            _log.error("order_failed", exc_info=error, order=type(order).__name__)
            unforeseen = PerfuseError("something failed that should not have", hint="see the server's log")
            answer = wire.problem_of(order.id, unforeseen)
        connection.send(answer)


class _Connection(asyncio.Protocol):
    """One asker."""

    def __init__(self, server: OrdersServer) -> None:
        self._server = server
        self._reader = wire.FrameReader()
        self._transport: asyncio.Transport | None = None

    def send(self, message: wire.Message) -> None:
        """Send a frame, if somebody is still there."""
        if self._transport is not None:
            self._transport.write(wire.frame(message))

    def close(self) -> None:
        """Disconnect when all is sent."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say that a worker is here."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no subclass
        self._server.opened(self)
        self._transport.write(_READY)

    def data_received(self, data: bytes) -> None:
        """Orders. Who sends anything else is disconnected, nobody else."""
        try:
            for body in self._reader.feed(data):
                self._server.ordered(self, orders.decode_order(body))
        except ValueError as error:
            _log.warning("malformed_order", reason=str(error))
            if self._transport is not None:
                self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """They have left."""
        del exc
        self._transport = None
        self._server.lost(self)
