"""Processes in milliseconds: a process that has imported what they need forks them.

Importing torch takes 3 to 8 seconds on a busy two-core machine, the web framework 1 to 3: most of the time until a
killed process is back. A nursery imports once, computes nothing, starts no thread, and waits on a socket for records.
For each it forks twice; the child is thereby orphaned and adopted by the supervisor, a subreaper, which so sees its
exit status and can signal it. Neither ends with the other: a dead nursery is started again while its children go on.
Imported memory is shared. There is one nursery for engines and one for the front, which imports no torch.

    python -m perfuse.engine.nursery perfuse.engine.worker

imports the module and calls its `main()` in every child, with the launch record in the environment as if started anew.
"""

from __future__ import annotations

import gc
import importlib
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
from perfuse.engine.launch import Launch, NurseryLaunch

_log = logging.get(__name__)

_READY = b"ready"
_LARGEST_RECORD = 1 << 16
_FORK_SECONDS = 5.0
_REPARENT_SECONDS = 0.001

Main = Callable[[], int | None]
"""The life of a child; gives its exit code, None for 0."""


class Adopted:
    """A process of which this process became the parent. The part of `subprocess.Popen` that is needed."""

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
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
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
        inherited: file descriptors its children need.
    """

    def __init__(self, command: Sequence[str], inherited: Sequence[int]) -> None:
        self._command = command
        self._inherited = inherited
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
            return launching.spawn(self._command, record, [theirs.fileno(), *self._inherited])

    @property
    def ready(self) -> bool:
        """Whether it has imported everything."""
        if not self._ready and self._control is not None:
            try:
                self._ready = self._control.recv(len(_READY)) == _READY
            except OSError:
                return False
        return self._ready

    def bear(self, record: Launch) -> Adopted | None:
        """A new process with this launch record. None: the nursery is not ready, or has just died."""
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


def main(child: Main | None = None) -> int | None:
    """The nursery process; gives its exit code, or that of the child in a forked one.

    Args:
        child: what a child does; if None, the `main` of the module named by the first argument.
    """
    launch = launching.receive(NurseryLaunch)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if child is None:
        child = importlib.import_module(sys.argv[1]).main
    gc.collect()
    gc.freeze()  # the collector would otherwise touch, and so copy, the shared pages in every child
    control = launch.listening_socket()
    control.settimeout(None)
    control.send(_READY)
    while order := control.recv(_LARGEST_RECORD):
        if not _fork():
            _be_adopted(launch.parent)
            control.send(str(os.getpid()).encode())  # only now: the supervisor may wait for none but its children
            control.close()
            os.environ[launching.VARIABLE] = order.decode()
            return child()
    return 0


def _fork() -> bool:
    """Fork a child through a process between that ends at once. True in the nursery, False in the child."""
    between = os.fork()
    if between:
        os.waitpid(between, 0)
        return True
    if os.fork():
        os._exit(0)
    return False


def _be_adopted(parent: int) -> None:
    """Wait until the process between has ended and the supervisor is the parent."""
    between = os.getppid()
    while between != parent and os.getppid() == between:
        time.sleep(_REPARENT_SECONDS)
    os.setpgid(0, 0)


if __name__ == "__main__":
    sys.exit(main())
