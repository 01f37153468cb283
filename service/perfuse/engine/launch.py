"""What the supervisor hands to the processes it starts, and what their exit codes tell it.

The handshake, for whoever writes a child:

1. The supervisor binds every listening socket and keeps it. A child inherits its own as a file descriptor, so
   connections queue up in the kernel while the child is being restarted, and no dead child leaves a socket file.
2. The launch record (`FrontLaunch` or `EngineLaunch`) is JSON in the environment variable `PERFUSE_LAUNCH`; nothing is
   on the command line, where other users could read it. Each is started as `python -m perfuse.api.front` or
   `python -m perfuse.engine.worker` and begins with `launch.receive(FrontLaunch)`, which also ties the child's life to
   the supervisor's: it is killed when the supervisor dies, however that dies.
3. SIGTERM asks a child to drain: take nothing new, finish what is running, exit with 0. SIGINT never reaches a child
   (own process group); the supervisor translates it.
4. A child that cannot work, and would not after a restart either, calls `launch.refuse(error)`: message and hint on
   stderr, no traceback, and an exit code (`exit_code`) on which the supervisor stops everything and exits with the same
   code. Any other death is followed by a restart.

The front listens on `launch.listening_socket()` and reaches the engines at `launch.engines` (unix socket paths).
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NoReturn, Required, TypedDict, TypeVar, Unpack

import msgspec

from perfuse.errors import CheckpointError, ConfigError, PerfuseError, StoreLocked
from perfuse.logging import Level

if TYPE_CHECKING:
    from perfuse.config import ServeConfig

VARIABLE = "PERFUSE_LAUNCH"

EXIT_FAILED = 1
EXIT_CONFIG = 2
EXIT_CHECKPOINT = 3
EXIT_LOCKED = 4
HOPELESS = frozenset({EXIT_CONFIG, EXIT_CHECKPOINT, EXIT_LOCKED})
"""Exit codes after which a restart is pointless."""

_TOKEN = re.compile(r"[\x21-\x7e]{16,512}")
_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36

LaunchT = TypeVar("LaunchT", bound="Launch")


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """What every child gets.

    Attributes:
        parent: process id of the supervisor, 0 if it was started by somebody else.
        listen_fd: the inherited listening socket.
        ready_fd: a pipe on which the supervisor learns that the child is up, -1 if nobody wants to know.
    """

    parent: int
    listen_fd: int
    ready_fd: int = -1
    part: ClassVar[str] = "part"

    def listening_socket(self) -> socket.socket:
        """The inherited socket, not blocking. Taking it tells the supervisor that the child is up."""
        if self.ready_fd >= 0:
            os.write(self.ready_fd, b"\0")
            os.close(self.ready_fd)
        inherited = socket.socket(fileno=self.listen_fd)
        inherited.settimeout(0)
        return inherited


class FrontLaunch(Launch, frozen=True, kw_only=True):
    """What the front gets.

    Attributes:
        engines: unix socket paths, one per engine, and `tcp://host:port` of those on other hosts.
        config: the fields of `ServeConfig` as JSON values; `port` is the one really bound.
        evolution: unix socket of the evolution worker, "" if there is none.
    """

    part: ClassVar[str] = "front"
    engines: list[str]
    config: dict[str, object]
    evolution: str = ""

    def settings(self) -> ServeConfig:
        """The configuration the server was started with."""
        from perfuse.config import ServeConfig

        return ServeConfig.model_validate(self.config)


class EvolutionLaunch(Launch, frozen=True, kw_only=True):
    """What the evolution worker gets; it listens for orders.

    Attributes:
        engines: unix socket paths, one per engine.
        config: the fields of `ServeConfig` as JSON values.
    """

    part: ClassVar[str] = "learner"  # the kernel keeps 15 characters of a process's name
    engines: list[str]
    config: dict[str, object]


class NurseryLaunch(Launch, frozen=True, kw_only=True):
    """What the nursery gets: `listen_fd` is its control socket."""

    part: ClassVar[str] = "nursery"


class EngineLaunch(Launch, frozen=True, kw_only=True):
    """What an engine gets. See `ServeConfig` for the settings.

    Attributes:
        index: number of this engine, from 0.
        flight: path of the flight record to write (see `perfuse.engine.flight`).
        data_dir: where logs go, "" for nowhere.
        store: folder of the store, "" if there is none.
        token: what fronts on other hosts must know, "" where only this host's can connect.
    """

    part: ClassVar[str] = "engine"
    index: int
    flight: str
    data_dir: str = ""
    store: str = ""
    token: str = ""
    models: list[str] = msgspec.field(default_factory=list)
    device: str = "auto"
    dtype: str = "auto"
    threads: int = 1
    backlog_limit: float = 10.0
    reproducible: bool = False
    wedge_seconds: float = 30.0
    drain_seconds: float = 20.0
    log_level: Level = "info"
    log_json: bool = False


class _OfOneEngine(TypedDict, total=False):
    """The fields of an `EngineLaunch` that no setting decides."""

    listen_fd: Required[int]
    index: Required[int]
    flight: Required[str]
    threads: Required[int]
    data_dir: str
    store: str


def environment(launch: Launch) -> dict[str, str]:
    """The environment of a child: this process's own and the launch record."""
    return {**os.environ, VARIABLE: msgspec.json.encode(launch).decode()}


def receive(kind: type[LaunchT], environ: MutableMapping[str, str] = os.environ) -> LaunchT:
    """The record this process was launched with; from here on it dies with the supervisor.

    Raises:
        ConfigError: the process was not started by the supervisor.
    """
    try:
        launch = msgspec.json.decode(environ.pop(VARIABLE, ""), type=kind)
    except msgspec.DecodeError as error:
        raise ConfigError(
            f"expected a launch record of this build in {VARIABLE}: {error}",
            hint="start the server with `perfuse serve`",
        ) from None
    name_process(kind.part)
    if launch.parent:
        die_with(launch.parent)
    return launch


def name_process(part: str) -> None:
    """Be shown as `perfuse-<part>` by ps, top and /proc/<pid>/comm."""
    _prctl(_PR_SET_NAME, f"perfuse-{part}".encode())


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent dies; exit now if it already has.

    The parent must have started this process from its main thread, as the death signal follows the starting thread.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(EXIT_FAILED)


def adopt_orphans() -> None:
    """Become the parent of descendants whose parents have ended (a subreaper)."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int | bytes) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    argument = ctypes.c_char_p(value) if isinstance(value, bytes) else ctypes.c_ulong(value)
    if libc.prctl(option, argument, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}) failed: {os.strerror(number)}")


def spawn(command: Sequence[str], record: Launch, inherited: Sequence[int]) -> subprocess.Popen[bytes]:
    """Start a child in its own process group, so that a terminal's interrupt reaches the supervisor alone."""
    return subprocess.Popen(  # noqa: S603 (the command line is ours)
        command, env=environment(record), pass_fds=inherited, stdin=subprocess.DEVNULL, process_group=0
    )


def load_token(path: Path) -> str:
    """The token in a file.

    Raises:
        ConfigError: there is no such file, or what it holds can be guessed.
    """
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the engine token {path}: {error}", hint="see --engine-token") from None
    if not _TOKEN.fullmatch(token):
        raise ConfigError(
            f"expected 16 to 512 visible characters in the engine token {path}; it has {len(token)} characters",
            hint="make one, for example with `openssl rand -hex 32`",
        )
    return token


def exit_code(error: PerfuseError) -> int:
    """The exit code that stands for an error."""
    if isinstance(error, CheckpointError):
        return EXIT_CHECKPOINT
    if isinstance(error, StoreLocked):
        return EXIT_LOCKED
    if isinstance(error, ConfigError):
        return EXIT_CONFIG
    return EXIT_FAILED


def refuse(error: PerfuseError) -> NoReturn:
    """Say on stderr why this process cannot work and exit with the code of the error."""
    hint = f"  hint: {error.hint}\n" if error.hint else ""
    sys.stderr.write(f"perfuse: {error.detail}\n{hint}")
    sys.stderr.flush()
    raise SystemExit(exit_code(error))


def engine_of(config: ServeConfig, **more: Unpack[_OfOneEngine]) -> EngineLaunch:
    """What an engine gets of the configuration, and what is its own."""
    return EngineLaunch(
        parent=os.getpid(),
        models=[str(path.resolve()) for path in config.model],
        device=config.device,
        dtype=config.dtype,
        backlog_limit=config.max_backlog_seconds,
        reproducible=config.reproducible,
        wedge_seconds=config.wedge_seconds,
        drain_seconds=config.drain_seconds,
        log_level=config.log_level,
        log_json=config.log_json,
        **more,
    )


def settings_of(config: ServeConfig, port: int) -> dict[str, object]:
    """The configuration as JSON values for a `FrontLaunch`, with the port that was really bound."""
    fields: dict[str, object] = config.model_dump(mode="json")
    return {**fields, "port": port, "data_dir": str(Path(config.data_dir).resolve())}
