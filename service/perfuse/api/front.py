"""The front process: `python -m perfuse.api.front`, started by the supervisor with a listening socket."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import uvicorn
import uvloop
from starlette.types import ASGIApp

from perfuse import logging
from perfuse.api.app import create_app
from perfuse.api.auth import Keyring, check_exposure, load_keys
from perfuse.api.connection import Connection
from perfuse.api.tracing import Tracing
from perfuse.dispatch.engines import EnginePool
from perfuse.dispatch.evolution import EvolutionLink
from perfuse.engine import launch
from perfuse.engine.launch import load_token
from perfuse.errors import PerfuseError
from perfuse.ids import SECRET_FILE, load_secret
from perfuse.queue import inbox as inboxes
from perfuse.queue import ledger as ledgers

_log = logging.get(__name__)

_KEEP_ALIVE_SECONDS = 75
_LEAVING_LOOKS = 20
_LOOK_SECONDS = 0.05
"""A leaving front keeps connections for a second: their next answer tells the client to connect anew."""
_CLOSE = (b"connection", b"close")
_DATE_SECONDS = 1.0
_TICKS_PER_DATE = 10
_GARBAGE_THRESHOLD = 200_000
"""Objects between two looks for cycles. Requests leave none, and each look goes through all that are under way: at 700
the looks took a tenth of the time under load, at 20,000 an eighth of the time for which 500 requests at once wait."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of `ServeConfig` that the front reads, already checked by the supervisor.

    Not `ServeConfig` itself: reading settings from files and environment costs the front 80 ms of its start.
    """

    host: str
    data_dir: Path
    follow: Path | None
    secret: Path | None
    engine_token: Path | None
    queue: str
    keys: Path | None
    console: bool
    otlp: str | None
    max_body_bytes: int
    ledger_ttl_seconds: float
    max_inbox_items: int
    drain_seconds: float
    log_level: logging.Level
    log_json: bool

    @classmethod
    def of(cls, config: Mapping[str, object]) -> Settings:
        """The fields of a `ServeConfig` as JSON values (`launch.settings_of`)."""
        return msgspec.convert(config, cls, dec_hook=lambda kind, value: kind(value))


class _Server(uvicorn.Server):
    """Uvicorn that leaves signals to `run`: a drained front exits with 0, not by the signal that asked for it.

    It wakes once a second, for the date header, instead of ten times. It closes no connection on which a request may
    just be coming: before it ends it accepts no more and answers with `Connection: close` for a while.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._stopping = asyncio.Event()
        self._leaving: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def stop(self) -> None:
        """Finish what runs; at the second call drop it."""
        if self._leaving is None:
            self._leaving = asyncio.get_running_loop().create_task(self._leave())
        else:
            self.force_exit = True
            self._end()

    async def _leave(self) -> None:
        for server in self.servers:
            server.close()
        self.config.encoded_headers.append(_CLOSE)
        self.server_state.default_headers = [*self.server_state.default_headers, _CLOSE]
        for _ in range(_LEAVING_LOOKS):
            if not self.server_state.connections:
                break
            await asyncio.sleep(_LOOK_SECONDS)
        self._end()

    def _end(self) -> None:
        self.should_exit = True
        self._stopping.set()

    async def main_loop(self) -> None:
        """Keep the date header until asked to stop."""
        while not await self.on_tick(counter=_TICKS_PER_DATE):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_DATE_SECONDS):
                    await self._stopping.wait()


@contextlib.asynccontextmanager
async def application(
    settings: Settings, keyring: Keyring, engines: Sequence[str], orders: str = ""
) -> AsyncIterator[tuple[ASGIApp, EnginePool]]:
    """The application and the pool behind it, with all they need; closed when left.

    Args:
        settings: of the server.
        keyring: the keys.
        engines: addresses, see `EnginePool`.
        orders: unix socket of the evolution worker, "" if the server does not learn.

    Raises:
        ConfigError: ledger or inbox cannot keep their promises.
    """
    shared = settings.follow or settings.data_dir
    ledger = ledgers.connect(settings.queue, shared, settings.ledger_ttl_seconds)
    inbox = inboxes.connect(
        settings.queue,
        shared,
        key_seconds=settings.ledger_ttl_seconds,
        most_items=settings.max_inbox_items,
    )
    await _open(ledger, inbox)
    pool = EnginePool(engines, token="" if settings.engine_token is None else load_token(settings.engine_token))
    await pool.start()
    evolution = EvolutionLink(orders) if orders else None
    tracing = None if settings.otlp is None else Tracing.to(settings.otlp)
    app = create_app(
        pool=pool,
        ledger=ledger,
        inbox=inbox,
        secret=load_secret(shared / SECRET_FILE if settings.secret is None else settings.secret),
        keyring=keyring,
        max_body_bytes=settings.max_body_bytes,
        evolution=evolution,
        console=settings.console,
        tracing=tracing,
    )
    try:
        yield app, pool
    finally:
        if evolution is not None:
            evolution.close()
        await pool.close()
        await inbox.close()
        await ledger.close()
        if tracing is not None:
            tracing.close()


async def run(record: launch.FrontLaunch, settings: Settings, keyring: Keyring) -> None:
    """Serve until asked to stop. Raises ConfigError, see `application`."""
    async with application(settings, keyring, record.engines, record.evolution) as (app, _):
        await _served(app, record, settings)


async def _served(app: ASGIApp, record: launch.FrontLaunch, settings: Settings) -> None:
    server = _Server(
        uvicorn.Config(
            app,
            http=Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=max(1, round(settings.drain_seconds)),
        )
    )
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, server.stop)
    gc.freeze()
    gc.set_threshold(_GARBAGE_THRESHOLD)
    await server.serve(sockets=[record.listening_socket()])


async def _open(ledger: ledgers.Ledger, inbox: inboxes.Inbox) -> None:
    """Generating goes on without them; each tries again when it is used."""
    try:
        await ledger.open()
    except ledgers.LedgerUnavailable as error:
        _log.warning("ledger_unavailable", reason=error.detail)
    try:
        await inbox.open()
    except inboxes.InboxUnavailable as error:
        _log.warning("inbox_unavailable", reason=error.detail)


def main() -> None:
    """Entry point of the process."""
    try:
        record = launch.receive(launch.FrontLaunch)
        settings = Settings.of(record.config)
        logging.configure(
            "front", level=settings.log_level, as_json=settings.log_json, log_dir=settings.data_dir / "logs"
        )
        keyring = load_keys(settings.keys)
        check_exposure(settings.host, keyring)
        uvloop.run(run(record, settings, keyring))
    except PerfuseError as error:
        launch.refuse(error)


if __name__ == "__main__":
    main()
