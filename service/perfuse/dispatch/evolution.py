"""The connection to the evolution worker, made when it is first needed and again after it was lost."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from typing import Protocol, cast

import msgspec

from perfuse import orders, wire
from perfuse.errors import Unavailable

_HINT = "it is starting again; try again"
_RETRY_SECONDS = 2.0


class Worker(Protocol):
    """Who carries out orders."""

    async def ask(self, order: orders.AnyOrder) -> orders.Body:
        """The answer to an order. Raises PerfuseError: refused, failed, or nobody is there."""
        ...


class EvolutionLink(asyncio.Protocol):
    """Asks the worker behind a unix socket, several orders at a time.

    Args:
        path: its socket.
        ready_seconds: how long a worker may take to take a connection and say so.
        answer_seconds: how long it may take for an order.
    """

    def __init__(self, path: str, *, ready_seconds: float = 1.0, answer_seconds: float = 30.0) -> None:
        self._path = path
        self._ready_seconds = ready_seconds
        self._answer_seconds = answer_seconds
        self._ids = itertools.count(1)
        self._connecting = asyncio.Lock()
        self._reader = wire.FrameReader()
        self._transport: asyncio.Transport | None = None
        self._ready = asyncio.Event()
        self._open: dict[int, asyncio.Future[orders.Body]] = {}

    async def ask(self, order: orders.AnyOrder) -> orders.Body:
        """The answer to an order, whose `id` is given here.

        Raises:
            Unavailable: no worker is there, or it ended or fell silent before it answered; the order may have been
                carried out then.
            PerfuseError: refused or failed, as the worker says.
        """
        async with self._connecting:
            transport = await self._connected()
        identity = next(self._ids)
        answer: asyncio.Future[orders.Body] = asyncio.get_running_loop().create_future()
        self._open[identity] = answer
        transport.write(wire.frame(msgspec.structs.replace(order, id=identity)))
        try:
            async with asyncio.timeout(self._answer_seconds):
                return await answer
        except TimeoutError:
            raise Unavailable(
                f"the evolution worker did not answer within {self._answer_seconds:g} s",
                hint="look at `perfuse evolve status` before you try again",
                retry_after=_RETRY_SECONDS,
            ) from None
        finally:
            del self._open[identity]

    def close(self) -> None:
        """Disconnect; whoever waits is told that nobody is there."""
        if self._transport is not None:
            self._transport.abort()

    async def _connected(self) -> asyncio.Transport:
        """The present connection, or a new one on which a worker has spoken."""
        if self._transport is not None and self._ready.is_set():
            return self._transport
        with contextlib.suppress(OSError):  # TimeoutError is one
            async with asyncio.timeout(self._ready_seconds):
                if self._transport is None:
                    await asyncio.get_running_loop().create_unix_connection(lambda: self, self._path)
                await self._ready.wait()
        if self._transport is None or not self._ready.is_set():
            raise Unavailable("the evolution worker is not running", hint=_HINT, retry_after=_RETRY_SECONDS)
        return self._transport

    # asyncio.Protocol ------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected; the worker speaks first."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no subclass
        self._reader = wire.FrameReader()
        self._ready.clear()

    def data_received(self, data: bytes) -> None:
        """Answers."""
        try:
            for body in self._reader.feed(data):
                self._received(orders.decode_answer(body))
        except ValueError as error:
            self._fail(f"the evolution worker said what is no answer: {error}", "is it of another build?")
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The worker has died or closed."""
        del exc
        self._transport = None
        self._ready.set()  # nobody waits for it any more
        self._fail("the evolution worker ended before it answered", _HINT)

    def _fail(self, detail: str, hint: str) -> None:
        for answer in self._open.values():
            if not answer.done():
                answer.set_exception(Unavailable(detail, hint=hint, retry_after=_RETRY_SECONDS))

    def _received(self, message: orders.Answer) -> None:
        if isinstance(message, orders.Ready):
            self._ready.set()
            return
        answer = self._open.get(message.id)
        if answer is None or answer.done():
            return
        if isinstance(message, orders.Done):
            answer.set_result(message.body)
        else:
            answer.set_exception(wire.error_of(message))
