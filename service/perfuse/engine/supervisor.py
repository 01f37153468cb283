"""`perfuse serve`: one process that owns the sockets and the data directory's lock and keeps the others running.

It loads no model and no web framework, so that nothing but a signal ends it. What it starts, and how, is in
`perfuse.engine.launch`. Restart and kill decisions are in `perfuse.engine.children`; this file is the loop around them.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from perfuse import logging
from perfuse.config import ServeConfig
from perfuse.engine import flight, launch
from perfuse.engine.children import Child, Process, status_name
from perfuse.engine.endings import Endings
from perfuse.engine.housing import STORE, DataDirectory, recover_store
from perfuse.engine.nursery import Nursery
from perfuse.errors import ConfigError

_log = logging.get(__name__)

POLL_SECONDS = 0.5
_ROLLING_POLL_SECONDS = 0.05
_OVER = object()
ORDERS = "evolution.sock"
"""Where the evolution worker takes orders, beside the engines' sockets."""
_KILL_GRACE_SECONDS = 5.0
_STOPPING = (signal.SIGTERM, signal.SIGINT)
_HEEDED = (*_STOPPING, signal.SIGHUP, signal.SIGCHLD)


@dataclass(frozen=True, slots=True)
class Commands:
    """The command lines of the two nurseries and the evolution worker (tests put scripted ones here)."""

    front: Sequence[str] = (sys.executable, "-m", "perfuse.engine.nursery", "perfuse.api.front")
    engine: Sequence[str] = (sys.executable, "-m", "perfuse.engine.nursery", "perfuse.engine.worker")
    evolution: Sequence[str] = (sys.executable, "-m", "perfuse.evolution.worker")


def serve(config: ServeConfig, commands: Commands | None = None) -> int:
    """Run the server until SIGTERM or SIGINT; gives the exit code.

    Raises:
        StoreLocked: another server holds the data directory.
        StoreError: the store in it is damaged or the disk is full.
        ConfigError: the address cannot be bound, the data directory cannot be used, or nobody is there to follow.
    """
    if config.follow is not None and not (config.follow / STORE).is_dir():
        raise ConfigError(
            f"expected the data directory of a server in {config.follow}; it holds no {STORE}",
            hint="start the server that is followed first",
        )
    _check_engines(config)
    with DataDirectory(Path(config.data_dir)) as home:
        logging.configure("supervisor", level=config.log_level, as_json=config.log_json, log_dir=home.path / "logs")
        if config.follow is None:
            recover_store(home.path)
        listener = bind(config.host, config.port)
        engine_sockets = [home.bind(f"engine-{index}.sock") for index in range(config.workers)]
        orders = home.bind(ORDERS) if config.evolution == "embedded" and config.follow is None else None
        try:
            home.publish(address_of(listener))
            supervisor = Supervisor(config, commands or Commands(), home, listener, engine_sockets, orders)
            return supervisor.run()
        finally:
            for bound in [listener, *engine_sockets, *([orders] if orders else [])]:
                bound.close()


def _check_engines(config: ServeConfig) -> None:
    """Raises ConfigError: there would be no engine, or some that answer otherwise than others."""
    if not config.workers and not config.engine:
        raise ConfigError(
            "expected an engine: --workers is 0 and no --engine is named", hint="name one, or take a worker"
        )
    if config.engine and (config.evolution != "off" or config.follow is not None):
        raise ConfigError(
            "engines on other hosts have the base models only, and this server learns or follows one that does",
            hint="add --evolution off, or leave out --engine",
        )
    if config.engine and config.engine_token is None:
        raise ConfigError("--engine needs --engine-token", hint="the file with which `perfuse engine` was started")
    if config.engine_token is not None:
        launch.load_token(config.engine_token)


def shared_folder(config: ServeConfig) -> Path:
    """Whose store is read, whose SQLite ledger and inbox and whose secret are used: the followed server's, or its own.

    An absolute path.
    """
    return Path(config.follow or config.data_dir).resolve()


def bind(host: str, port: int) -> socket.socket:
    """A TCP socket that listens at this address.

    Raises:
        ConfigError: the address is taken, not ours, or needs privileges.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        reason = "another program listens there" if error.errno == errno.EADDRINUSE else (error.strerror or str(error))
        raise ConfigError(
            f"cannot listen on {host}:{port}: {reason}", hint="choose another --port (0 picks a free one) or --host"
        ) from None
    return listener


def address_of(listener: socket.socket) -> str:
    """The URL a listening TCP socket answers at."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Supervisor:
    """Starts, watches and stops front and engines. Must run in the main thread (signals, parent-death signal).

    SIGTERM and SIGINT stop everything. SIGHUP starts everything anew, on the code and the models that are on the disk
    by then, one after the other so that no request fails; settings stay.
    """

    def __init__(
        self,
        config: ServeConfig,
        commands: Commands,
        home: DataDirectory,
        listener: socket.socket,
        engine_sockets: Sequence[socket.socket],
        orders: socket.socket | None = None,
    ) -> None:
        self._config = config
        self._commands = commands
        self._home = home
        self._listener = listener
        self._engine_sockets = engine_sockets
        self._orders = orders
        self._stop_signals = 0
        self._restart_asked = False
        self._restart: Iterator[None] | None = None
        self._endings = Endings()
        self._front_ready, ready = os.pipe()
        self._ready = ready
        self._evolution_ready, self._evolving = os.pipe()
        os.set_blocking(self._front_ready, False)
        os.set_blocking(self._evolution_ready, False)
        self._front_nursery = Nursery(commands.front, [listener.fileno(), ready])
        self._engine_nursery = Nursery(commands.engine, [bound.fileno() for bound in engine_sockets])
        self._nurseries = [
            Child("front-nursery", self._front_nursery.start, settled=lambda: self._front_nursery.ready),
            *(
                [Child("engine-nursery", self._engine_nursery.start, settled=lambda: self._engine_nursery.ready)]
                if config.workers
                else []
            ),
        ]
        self._engines = [self._engine(index) for index in range(config.workers)]
        self._front = Child("front", self._spawn_front, settled=lambda: _has_said(self._front_ready))
        self._evolution = (
            None
            if orders is None
            else Child("evolution", self._spawn_evolution, settled=lambda: _has_said(self._evolution_ready))
        )

    def run(self) -> int:
        """Serve until told to stop, or until a child says that there is no hope."""
        launch.adopt_orphans()
        waker, wakened = socket.socketpair()
        waker.settimeout(0)
        wakened.settimeout(0)
        previous = {number: signal.signal(number, self._on_signal) for number in _HEEDED}
        previous_waker = signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        try:
            code = self._watch(wakened)
            return self._end(wakened, code)
        finally:
            self._front_nursery.close()
            self._engine_nursery.close()
            for pipe in (self._front_ready, self._ready, self._evolution_ready, self._evolving):
                os.close(pipe)
            signal.set_wakeup_fd(previous_waker)
            for number, handler in previous.items():
                signal.signal(number, handler)
            waker.close()
            wakened.close()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del frame
        if number in _STOPPING:
            self._stop_signals += 1
        elif number == signal.SIGHUP:
            self._restart_asked = True

    @property
    def _children(self) -> list[Child]:
        return [*self._nurseries, self._front, *self._engines, *self._learners]

    @property
    def _learners(self) -> list[Child]:
        return [] if self._evolution is None else [self._evolution]

    def _watch(self, wakened: socket.socket) -> int:
        """Keep all children running; gives the exit code once there is a reason to stop."""
        while self._stop_signals == 0:
            now = time.monotonic()
            for child in self._children:
                child.start_if_due(now)
            self._roll()
            _sleep(wakened, self._pause(now))
            now = time.monotonic()
            self._endings.look(now)
            for child in self._children:
                child.kill_if_stuck(now, self._config.wedge_seconds)
                status = child.reap(now)
                if status is not None and child is self._evolution:
                    self._consider_evolution(child, status)
                    continue
                if status is not None and status in launch.HOPELESS:
                    return status
                if status is not None and child.cannot_start:
                    _log.critical("child_cannot_start", child=child.name, status=status_name(status))
                    return launch.EXIT_FAILED
            _bury(set().union(*(child.pids for child in self._children)))
        return 0

    def _consider_evolution(self, child: Child, status: int) -> None:
        """A server that cannot learn goes on answering."""
        if status in launch.HOPELESS or child.cannot_start:
            _log.critical("learning_is_off", status=status_name(status), hint="the log says why; restart to try again")
            self._evolution = None

    def _pause(self, now: float) -> float:
        waits = (child.seconds_until_due(now) for child in self._children)
        longest = POLL_SECONDS if self._restart is None else _ROLLING_POLL_SECONDS
        return min((wait for wait in waits if wait is not None), default=longest)

    def _roll(self) -> None:
        """The next move of a rolling restart, if one is under way or was asked for."""
        if self._restart is None and self._restart_asked:
            self._restart_asked = False
            self._restart = self._restarting()
        if self._restart is not None and next(self._restart, _OVER) is _OVER:
            self._restart = None

    def _restarting(self) -> Iterator[None]:
        """Everything anew, one after the other; yields where there is something to wait for.

        New nurseries first, as they hold the code. Then a second front on the same socket, after which the first one
        finishes its requests. Engines drain one by one; what comes meanwhile goes to the others, or waits.
        """
        began = time.monotonic()
        _log.info("restart_begins")
        yield from self._renewed(*self._nurseries)
        while not self._front.start_beside():
            yield None
        while not self._front.up:
            yield None
        self._front.let_go()
        for child in (*self._engines, *self._learners):
            yield from self._renewed(child)
        _log.info("restart_ends", seconds=round(time.monotonic() - began, 1))

    def _renewed(self, *children: Child) -> Iterator[None]:
        """Ask them to leave, end those that do not, and wait until their successors are up."""
        before = {child: child.incarnations for child in children}
        for child in children:
            child.signal(signal.SIGTERM)
        patience = time.monotonic() + self._config.drain_seconds + _KILL_GRACE_SECONDS
        while not all(child.incarnations > was and child.up for child, was in before.items()):
            if time.monotonic() > patience:
                patience = math.inf
                for child in (each for each, was in before.items() if each.incarnations == was):
                    _log.warning("child_does_not_leave", child=child.name)
                    child.signal(signal.SIGKILL)
            yield None

    def _end(self, wakened: socket.socket, code: int) -> int:
        """Let the front finish its requests, then the engines; kill what takes too long. A second signal hurries."""
        self._listener.close()
        patience = self._config.drain_seconds if code == 0 else 0.0
        for group in ([self._front], [*self._learners, *self._engines, *self._nurseries]):
            deadline = time.monotonic() + patience + _KILL_GRACE_SECONDS
            for child in group:
                child.signal(signal.SIGTERM)
            while not all(child.wait(-1.0) for child in group):
                if time.monotonic() >= deadline or self._stop_signals > 1:
                    for child in group:
                        child.signal(signal.SIGKILL)
                        child.wait(_KILL_GRACE_SECONDS)
                    break
                _sleep(wakened, POLL_SECONDS)
        return code

    # starting ------------------------------------------------------------------------------------------------------

    def _spawn_front(self, incarnation: int) -> Process | None:
        del incarnation
        return self._front_nursery.bear(
            launch.FrontLaunch(
                parent=os.getpid(),
                listen_fd=self._listener.fileno(),
                ready_fd=self._ready,
                engines=[
                    *(bound.getsockname() for bound in self._engine_sockets),
                    *(f"tcp://{address}" for address in self._config.engine),
                ],
                evolution="" if self._orders is None else self._orders.getsockname(),
                config=launch.settings_of(self._config, self._listener.getsockname()[1]),
            )
        )

    def _spawn_evolution(self, incarnation: int) -> Process | None:
        """Started once the engine nursery has imported torch: two imports at once delay the first answer."""
        del incarnation
        if self._orders is None or not self._engine_nursery.ready:
            return None
        record = launch.EvolutionLaunch(
            parent=os.getpid(),
            listen_fd=self._orders.fileno(),
            ready_fd=self._evolving,
            engines=[bound.getsockname() for bound in self._engine_sockets],
            config=launch.settings_of(self._config, self._listener.getsockname()[1]),
        )
        return launch.spawn(self._commands.evolution, record, [self._orders.fileno(), self._evolving])

    def _engine(self, index: int) -> Child:
        config = self._config
        threads = config.threads or max(1, (os.cpu_count() or 1) // config.workers)

        def spawn(incarnation: int) -> Process | None:
            self._home.forget(self._home.flight(index, incarnation - 2))
            record = launch.engine_of(
                config,
                listen_fd=self._engine_sockets[index].fileno(),
                index=index,
                flight=str(self._home.flight(index, incarnation)),
                data_dir=str(self._home.path),
                store="" if config.engine else str(shared_folder(config) / STORE),
                threads=threads,
            )
            return self._engine_nursery.bear(record)

        def sign_of_life() -> float | None:
            return flight.alive_at(self._home.flight(index, child.incarnations - 1))

        def stuck(now: float) -> float:
            alive = sign_of_life()
            return 0.0 if alive is None else now - alive

        def died(status: int, now: float, killed_as_stuck: bool) -> None:
            outside = self._endings.from_outside(status, now, stuck=killed_as_stuck)
            flight.note_end(self._home.flight(index, child.incarnations - 1), from_outside=outside)

        child = Child(f"engine-{index}", spawn, settled=lambda: sign_of_life() is not None, stuck=stuck, died=died)
        return child


def _bury(ours: set[int]) -> None:
    """Take note of the deaths of adopted orphans, as of a trainer whose worker was killed: no zombie stays."""
    with contextlib.suppress(ChildProcessError):
        while (dead := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and dead.si_pid not in ours:
            os.waitpid(dead.si_pid, 0)


def _has_said(pipe: int) -> bool:
    """Whether a child has written to its pipe since the last look."""
    try:
        return bool(os.read(pipe, 64))
    except BlockingIOError:
        return False


def _sleep(wakened: socket.socket, seconds: float) -> None:
    """Until a signal arrives or the time has passed."""
    readable, _, _ = select.select([wakened], [], [], seconds)
    if readable:
        wakened.recv(4096)
