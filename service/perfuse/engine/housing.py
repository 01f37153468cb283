"""What a server keeps in its data directory besides data: the lock, the private socket directory, flight records."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import socket
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from perfuse import logging
from perfuse._native import ArrowStorage
from perfuse.errors import ConfigError, StoreLocked

_log = logging.get(__name__)

STORE = "store"
"""The store's directory inside the data directory."""
_LONGEST_SOCKET_PATH = 107
"""Bytes of a unix socket address on Linux, less the final zero."""
_LONGEST_NAME = len("/engine-63.sock")


class DataDirectory:
    """The data directory, held by this process alone. A context manager.

    Holds a `flock` on `server.lock` (its content names the process, the address and the socket directory), and a
    directory of mode 0700 for sockets and flight records: `run` inside the data directory, or a private temporary one
    where that path would be too long for a unix socket. The directory is gone after a clean end; what a killed server
    left is removed by the next one.

    Raises:
        StoreLocked: another server holds it.
        ConfigError: it cannot be created or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self._lock_path = self.path / "server.lock"
        self._run: Path | None = None
        self._lock = -1

    def __enter__(self) -> Self:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(
                f"cannot use the data directory {self.path}: {error.strerror}", hint="choose another --data-dir"
            ) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            holder = _read(self._lock_path).get("pid", "unknown")
            raise StoreLocked(
                f"the data directory {self.path} is held by another server (process {holder})",
                hint="stop that server, or choose another --data-dir",
            ) from None
        self._remove_leftovers()
        self._run = self._make_run_directory()
        self._write({"pid": os.getpid(), "run": str(self._run)})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        shutil.rmtree(self.run, ignore_errors=True)
        os.ftruncate(self._lock, 0)
        os.close(self._lock)

    @property
    def run(self) -> Path:
        """The private directory of sockets and flight records."""
        assert self._run is not None, "the data directory is not open"
        return self._run

    def bind(self, name: str) -> socket.socket:
        """A listening unix socket of mode 0600 in the private directory."""
        bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        path = self.run / name
        bound.bind(str(path))
        path.chmod(0o600)
        bound.listen(128)
        return bound

    def flight(self, engine: int, incarnation: int) -> Path:
        """Where this incarnation of this engine keeps its flight record."""
        return self.run / f"engine-{engine}.{incarnation}.flight"

    def forget(self, path: Path) -> None:
        """Remove an old flight record, if there is one."""
        path.unlink(missing_ok=True)

    def publish(self, address: str) -> None:
        """Write the address into the lock file, for people and commands that look for a running server."""
        self._write({"pid": os.getpid(), "run": str(self.run), "address": address})
        _log.info("listening", address=address)

    def _write(self, content: dict[str, object]) -> None:
        text = json.dumps(content).encode()
        # In one write and never shorter than before: who reads it meanwhile must not find half of it, or nothing.
        os.pwrite(self._lock, text.ljust(os.fstat(self._lock).st_size - 1) + b"\n", 0)

    def _remove_leftovers(self) -> None:
        left = _read(self._lock_path).get("run")
        if isinstance(left, str) and _is_ours(Path(left)):
            shutil.rmtree(left, ignore_errors=True)

    def _make_run_directory(self) -> Path:
        inside = self.path / "run"
        if len(os.fsencode(inside)) + _LONGEST_NAME > _LONGEST_SOCKET_PATH:
            return Path(tempfile.mkdtemp(prefix="perfuse-run-"))
        if inside.exists():
            shutil.rmtree(inside)
        inside.mkdir(mode=0o700)
        return inside


def _is_ours(path: Path) -> bool:
    """Whether a directory named by an old lock file is one this module made, and this user's."""
    with contextlib.suppress(OSError):
        status = path.lstat()
        named = path.name == "run" or path.name.startswith("perfuse-run-")
        return named and path.is_dir() and not path.is_symlink() and status.st_uid == os.geteuid()
    return False


def _read(path: Path) -> dict[str, object]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def recover_store(data_dir: Path) -> int:
    """Create the store, or bring it to its last commit, so that engines can follow it; gives that commit's number.

    Raises:
        StoreCorrupt: what is on disk contradicts its checksums.
        StoreFull: there is no room for an empty store.
    """
    store = ArrowStorage.open(data_dir / STORE, "owner")
    try:
        return store.snapshot().lsn
    finally:
        store.close()
