"""The engine process: `python -m perfuse.engine.worker`, started by the supervisor (see `perfuse.engine.launch`).

`perfuse engine` is the same process, started by hand for fronts on other hosts.

The main thread does I/O, a second one computes. A connection's first frame, `Hello`, comes only after a warm-up request
of every pipeline was answered: who hears from an engine can use it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import os
import signal
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from perfuse import __version__, logging, wire
from perfuse.engine import launch as launching
from perfuse.engine.flight import FlightRecorder
from perfuse.engine.loop import AnyPipeline, Engine
from perfuse.engine.run import Answers, Job
from perfuse.engine.server import EngineServer
from perfuse.errors import CheckpointError, InvalidRequest, PerfuseError
from perfuse.pipelines import shipped
from perfuse.pipelines.alone import EmptySnapshot
from perfuse.requests import Request
from perfuse.store import StoreReader

_log = logging.get(__name__)

_EXIT_BROKEN = 70
"""The compute thread ended without being asked to (EX_SOFTWARE)."""
_EXIT_WEDGED = 75
"""A step took too long. Not SIGKILL, which would look as if somebody else had decided it (EX_TEMPFAIL)."""
_SWITCH_SECONDS = 0.0005
"""How long the compute thread may keep the interpreter lock while the I/O thread wants it."""


class Model(Protocol):
    """What is told of a loaded model; see `wire.ModelInfo`."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def modality(self) -> wire.Served: ...  # noqa: D102
    @property
    def parameters(self) -> int: ...  # noqa: D102
    @property
    def dtype(self) -> str: ...  # noqa: D102
    @property
    def limit(self) -> int: ...  # noqa: D102


class Loaded(Protocol):
    """What was loaded (`perfuse.pipelines.shipped.Loaded`)."""

    @property
    def pipelines(self) -> Mapping[str, AnyPipeline]:
        """One per modality."""
        ...

    @property
    def models(self) -> Sequence[Model]:
        """All loaded models."""
        ...

    @property
    def warm_ups(self) -> Mapping[str, Request]:
        """A small request per modality that touches every network."""
        ...


class Load(Protocol):
    """Loads model folders (none: the shipped ones) for a device and a dtype, with what a store holds of learning.

    Raises CheckpointError.
    """

    def __call__(  # noqa: D102
        self, folders: Sequence[Path] = (), *, device: str = "auto", dtype: str = "auto", store: Path | None = None
    ) -> Loaded: ...


def main(load: Load = shipped.load) -> int:
    """Serve until SIGTERM; gives the exit code.

    Args:
        load: where pipelines come from.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        launch = launching.receive(launching.EngineLaunch)
        logging.configure(
            f"engine-{launch.index}",
            level=launch.log_level,
            as_json=launch.log_json,
            log_dir=Path(launch.data_dir) / "logs" if launch.data_dir else None,
        )
        store = Path(launch.store) if launch.store else None
        loaded = load([Path(path) for path in launch.models], device=launch.device, dtype=launch.dtype, store=store)
        recorder = FlightRecorder(Path(launch.flight))
        engine = Engine(
            loaded.pipelines,
            threads=launch.threads,
            backlog_limit=launch.backlog_limit,
            reproducible=launch.reproducible,
            on_batch=recorder.batch,
            snapshots=StoreReader(store).snapshot if store is not None else EmptySnapshot,
        )
        warm_up(engine, loaded.warm_ups)
    except PerfuseError as error:
        launching.refuse(error)
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(_SWITCH_SECONDS)
    _log.info("engine_ready", index=launch.index, models=[model.name for model in loaded.models])
    asyncio.run(_serve(launch, engine, [model_info(model) for model in loaded.models], recorder))
    recorder.batch(())
    return 0


def model_info(model: Model) -> wire.ModelInfo:
    """The model as `Hello` tells of it."""
    return wire.ModelInfo(
        name=model.name,
        modality=model.modality,
        parameters=model.parameters,
        dtype=model.dtype,
        limit=model.limit,
    )


def warm_up(engine: Engine, requests: Mapping[str, Request]) -> None:
    """Answer one request per pipeline, so that the first real one meets compiled kernels and a fitted cost model.

    Raises:
        CheckpointError: a model cannot answer, for example because its weights give NaN.
    """
    answers = Answers()
    for index, (modality, request) in enumerate(requests.items()):
        try:
            engine.submit(Job(id=index, modality=modality, request=request), answers)
        except InvalidRequest as error:
            raise CheckpointError(
                f"the {modality} pipeline refused its warm-up request: {error.detail}",
                hint="the model folder does not fit this build; check its configuration",
            ) from None
        engine.run_until_idle()
        if (failure := answers.errors.get(index)) is not None:
            raise CheckpointError(
                f"the {modality} model failed its warm-up request: {failure.detail}",
                hint="the model file is damaged or was trained to nonsense; load another one with --model",
            )
    engine.counters = type(engine.counters)()


class EnginePulse:
    """Reads the state of an engine for heartbeats."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def heartbeat(self, now: float) -> wire.Heartbeat:
        """See `perfuse.engine.server.Pulse`."""
        engine = self._engine
        counters = {name: float(value) for name, value in dataclasses.asdict(engine.counters).items()}
        return wire.Heartbeat(
            last_step_age=max(0.0, now - engine.last_step_at),
            busy=engine.busy,
            backlog=engine.backlog.ahead(),
            counters=counters,
        )


async def _serve(
    launch: launching.EngineLaunch, engine: Engine, models: list[wire.ModelInfo], recorder: FlightRecorder
) -> None:
    hello = wire.Hello(
        protocol=wire.PROTOCOL,
        build=__version__,
        pid=os.getpid(),
        models=models,
        backlog_limit=launch.backlog_limit,
        flight="" if launch.token else launch.flight,  # another host cannot read it
    )

    def on_heartbeat(now: float, beat: wire.Heartbeat) -> None:
        recorder.alive(now)
        if beat.busy and beat.last_step_age > launch.wedge_seconds:
            _log.critical("engine_wedged", index=launch.index, seconds=beat.last_step_age)
            os._exit(_EXIT_WEDGED)

    server = EngineServer(engine, EnginePulse(engine), hello, on_heartbeat=on_heartbeat, token=launch.token)
    compute = threading.Thread(target=_compute, args=(engine,), name="compute", daemon=True)
    compute.start()
    loop = asyncio.get_running_loop()
    listener = await _listen(server, launch)

    def drain() -> None:
        listener.close()
        server.drain()
        loop.call_later(launch.drain_seconds, server.stop)

    loop.add_signal_handler(signal.SIGTERM, drain)
    await server.run()
    listener.close()
    engine.stop()
    await loop.run_in_executor(None, compute.join, 5.0)


async def _listen(server: EngineServer, launch: launching.EngineLaunch) -> asyncio.AbstractServer:
    """Accept fronts. The socket file is the supervisor's; newer interpreters would remove it on close."""
    loop = asyncio.get_running_loop()
    listening = launch.listening_socket()
    if listening.family != socket.AF_UNIX:
        return await loop.create_server(server.protocol, sock=listening)
    if sys.version_info >= (3, 13):
        return await loop.create_unix_server(server.protocol, sock=listening, cleanup_socket=False)
    return await loop.create_unix_server(server.protocol, sock=listening)


def _compute(engine: Engine) -> None:
    """Run the engine; if it ever raises, the process dies, as its jobs would otherwise wait for ever."""
    try:
        engine.run_forever()
    except BaseException:  # noqa: BLE001 (the process boundary of the compute thread)
        _log.critical("compute_thread_raised", exc_info=True)
        os._exit(_EXIT_BROKEN)


if __name__ == "__main__":
    sys.exit(main())
