"""Engine processes in milliseconds: a process that has imported torch forks them.

Importing torch takes 3 to 8 seconds on a busy two-core machine, most of an engine's time to be ready. The nursery does
it once, computes nothing and starts no thread, and waits on a socket for launch records. For each it forks twice; the
engine is thereby orphaned and adopted by the supervisor, which is a subreaper and so sees its exit status and may kill
it. Neither ends with the other: a dead nursery is started again while its engines go on. Imported memory is shared.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import msgspec

from perfuse import logging
from perfuse.engine import launch as launching
from perfuse.engine.launch import EngineLaunch, NurseryLaunch

_log = logging.get(__name__)

_READY = b"ready"
_LARGEST_RECORD = 1 << 16
_FORK_SECONDS = 5.0
_REPARENT_SECONDS = 0.001

Run = Callable[[EngineLaunch], int]
"""The life of an engine; gives its exit code."""


class Adopted:
    """An engine process of which this process became the parent. The part of `subprocess.Popen` that is needed."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._status: int | None = None

    def poll(self) -> int | None:
        """The exit status (negative: the signal), None while it runs."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid == self.pid:
                self._status = os.waitstatus_to_exitcode(status)
        return self._status

    def wait(self, timeout: float) -> int:
        """The exit status. Raises subprocess.TimeoutExpired."""
        deadline = time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() >= deadline:
                raise subprocess.TimeoutExpired("engine", timeout)
            time.sleep(0.01)
        return status

    def send_signal(self, number: int) -> None:
        """Send a signal if it runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL if it runs."""
        self.send_signal(signal.SIGKILL)


class Nursery:
    """The supervisor's side.

    Args:
        command: starts the nursery process.
        sockets: the engines' listening sockets, all inherited.
    """

    def __init__(self, command: Sequence[str], sockets: Sequence[socket.socket]) -> None:
        self._command = command
        self._sockets = sockets
        self._control: socket.socket | None = None
        self._ready = False

    def start(self, incarnation: int) -> subprocess.Popen[bytes]:
        """Start the nursery process (see `perfuse.engine.children.Spawn`)."""
        del incarnation
        self.close()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            ours.settimeout(0)
            self._control = ours
            record = NurseryLaunch(parent=os.getpid(), listen_fd=theirs.fileno())
            inherited = [theirs.fileno(), *(bound.fileno() for bound in self._sockets)]
            return launching.spawn(self._command, record, inherited)

    @property
    def ready(self) -> bool:
        """Whether it has imported everything."""
        if not self._ready and self._control is not None:
            try:
                self._ready = self._control.recv(len(_READY)) == _READY
            except OSError:
                return False
        return self._ready

    def bear(self, record: EngineLaunch) -> Adopted | None:
        """A new engine process. None: the nursery is not ready, or has just died."""
        if not self.ready or self._control is None:
            return None
        self._control.settimeout(_FORK_SECONDS)
        try:
            self._control.send(msgspec.json.encode(record))
            pid = self._control.recv(16)
            self._control.settimeout(0)
        except OSError as error:
            _log.warning("nursery_failed", reason=str(error))
            pid = b""
        if not pid:
            self._ready = False
            return None
        return Adopted(int(pid))

    def close(self) -> None:
        """Drop the control socket, on which an idle nursery ends."""
        self._ready = False
        if self._control is not None:
            self._control.close()
            self._control = None


def main(run: Run | None = None) -> int:
    """The nursery process; gives the exit code (of the engine, in a forked engine)."""
    launch = launching.receive(NurseryLaunch)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if run is None:
        from perfuse.engine import worker

        run = worker.run
    gc.collect()
    gc.freeze()  # the collector would otherwise touch, and so copy, the shared pages in every engine
    control = launch.listening_socket()
    control.settimeout(None)
    control.send(_READY)
    while order := control.recv(_LARGEST_RECORD):
        if not _fork(control):
            record = msgspec.json.decode(order, type=EngineLaunch)
            _be_adopted(record.parent)
            return run(record)
    return 0


def _fork(control: socket.socket) -> bool:
    """Fork an engine and report its process id. True in the nursery, False in the engine."""
    between = os.fork()
    if between:
        os.waitpid(between, 0)
        return True
    pid = os.fork()
    if pid:
        control.send(str(pid).encode())
        os._exit(0)
    control.close()
    return False


def _be_adopted(parent: int) -> None:
    """Wait until the process between has ended and the supervisor is the parent, then live and die with that."""
    between = os.getppid()
    while between != parent and os.getppid() == between:
        time.sleep(_REPARENT_SECONDS)
    os.setpgid(0, 0)
    launching.name_process("engine")
    launching.die_with(parent)


if __name__ == "__main__":
    sys.exit(main())
