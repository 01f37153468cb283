"""perfuse on Ray Serve: each replica is the server's ASGI application with an engine process of its own.

    PERFUSE_QUEUE=redis://redis:6379/0 PERFUSE_SECRET=ids.secret serve run app:application     # on a cluster
    PERFUSE_QUEUE=redis://127.0.0.1:6379/0 PERFUSE_SECRET=ids.secret python app.py 8000        # two replicas here

The settings of `perfuse serve` come from the environment. Generations and feedback go to one Redis, so any replica may
be asked about any of them. Replicas answer with the base models: a `perfuse serve` on the same Redis does the learning.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path

import ray
from ray import serve
from starlette.types import ASGIApp, Receive, Scope, Send

from perfuse import logging
from perfuse.api.auth import load_keys
from perfuse.api.front import Settings
from perfuse.api.front import application as application_of
from perfuse.config import ServeConfig, load
from perfuse.engine import launch
from perfuse.errors import ConfigError

REPLICAS = 2
START_SECONDS = 120.0
AGAIN_SECONDS = 0.5
ENGINE = (sys.executable, "-m", "perfuse.engine.worker")

_log = logging.get(__name__)


class Replica:
    """The application of one replica; lives from the startup to the shutdown of ASGI's lifespan.

    Args:
        config: settings; what they say of address, workers and learning is Ray's business or left out.

    Raises:
        ConfigError: the replicas would not know each other's generations.
    """

    def __init__(self, config: ServeConfig) -> None:
        if config.queue == "sqlite" or config.secret is None:
            raise ConfigError(
                "replicas need one Redis and one secret: PERFUSE_QUEUE and PERFUSE_SECRET",
                hint="for example PERFUSE_QUEUE=redis://127.0.0.1:6379/0 PERFUSE_SECRET=ids.secret",
            )
        self._config = config
        self._app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        assert self._app is not None, "requests come after the startup"
        await self._app(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        async with contextlib.AsyncExitStack() as held:
            self._app = await self._built(held)
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def _built(self, held: contextlib.AsyncExitStack) -> ASGIApp:
        config = self._config
        folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="perfuse-ray-")))
        logging.configure("ray", level=config.log_level, as_json=config.log_json, log_dir=None)
        path = folder / "engine.sock"
        listening = held.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        listening.bind(str(path))
        listening.listen(128)
        running = asyncio.create_task(self._engine(folder, listening))
        held.push_async_callback(_ended, running)
        settings = Settings.of(launch.settings_of(config, config.port))
        app, pool = await held.enter_async_context(application_of(settings, load_keys(config.keys), [str(path)]))
        async with asyncio.timeout(START_SECONDS):
            while not pool.ready:  # noqa: ASYNC110 (a pool tells nobody)
                await asyncio.sleep(0.05)
        return app

    async def _engine(self, folder: Path, listening: socket.socket) -> None:
        """Keep an engine running; the socket outlives it, so that nothing is refused meanwhile."""
        flight, threads = str(folder / "flight"), self._config.threads or 1
        record = launch.engine_of(self._config, listen_fd=listening.fileno(), index=0, flight=flight, threads=threads)
        while True:
            process = launch.spawn(ENGINE, record, [listening.fileno()])
            try:
                status = await asyncio.to_thread(process.wait)
            except asyncio.CancelledError:
                process.send_signal(signal.SIGTERM)
                raise
            _log.warning("engine_ended", status=status)
            await asyncio.sleep(AGAIN_SECONDS)


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def build() -> ASGIApp:
    """The application of a replica, from the environment."""
    return Replica(load({}))


deployment = serve.deployment(serve.ingress(build)(), name="perfuse", max_ongoing_requests=256)
application = deployment.bind()


def main() -> None:
    """Two replicas on this machine, until interrupted."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    ray.init(num_cpus=REPLICAS, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(deployment.options(num_replicas=REPLICAS).bind(), name="perfuse")
    try:
        while True:
            time.sleep(60)
    except KeyboardInterrupt:
        serve.shutdown()
        ray.shutdown()


if __name__ == "__main__":
    main()
