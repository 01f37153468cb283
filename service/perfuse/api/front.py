"""The front process: `python -m perfuse.api.front`, started by the supervisor with a listening socket."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterator

import uvicorn
import uvloop

from perfuse import logging
from perfuse.api.app import create_app
from perfuse.api.auth import Keyring, check_exposure, load_keys
from perfuse.api.engines import EnginePool
from perfuse.config import ServeConfig
from perfuse.engine import launch
from perfuse.errors import PerfuseError
from perfuse.ids import load_secret
from perfuse.queue.ledger import Ledger, LedgerUnavailable, connect

_log = logging.get(__name__)

_KEEP_ALIVE_SECONDS = 75


class _Server(uvicorn.Server):
    """Uvicorn that leaves signals to `run`: a drained front exits with 0, not by the signal that asked for it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def stop(self) -> None:
        """Finish what runs; at the second call drop it."""
        self.force_exit = self.should_exit
        self.should_exit = True


async def run(record: launch.FrontLaunch, config: ServeConfig, keyring: Keyring) -> None:
    """Serve until asked to stop.

    Raises:
        ConfigError: the ledger cannot keep its promises.
    """
    ledger = connect(config.queue, config.data_dir, config.ledger_ttl_seconds)
    await _open(ledger)
    pool = EnginePool(record.engines)
    await pool.start()
    app = create_app(
        pool=pool,
        ledger=ledger,
        secret=load_secret(config.data_dir),
        keyring=keyring,
        max_body_bytes=config.max_body_bytes,
    )
    server = _Server(
        uvicorn.Config(
            app,
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=max(1, round(config.drain_seconds)),
        )
    )
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, server.stop)
    try:
        await server.serve(sockets=[record.listening_socket()])
    finally:
        await pool.close()
        await ledger.close()


async def _open(ledger: Ledger) -> None:
    try:
        await ledger.open()
    except LedgerUnavailable as error:  # generating goes on without; `record` tries again
        _log.warning("ledger_unavailable", reason=error.detail)


def main() -> None:
    """Entry point of the process."""
    try:
        record = launch.receive(launch.FrontLaunch)
        config = record.settings()
        logging.configure("front", level=config.log_level, as_json=config.log_json, log_dir=config.data_dir / "logs")
        keyring = load_keys(config.keys)
        check_exposure(config.host, keyring)
        uvloop.run(run(record, config, keyring))
    except PerfuseError as error:
        launch.refuse(error)


if __name__ == "__main__":
    main()
