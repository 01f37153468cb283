"""Real child processes for tests: one scripted engine, or a whole scripted server."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from perfuse.engine import launch as launching

HERE = Path(__file__).parent
ENGINE = (sys.executable, str(HERE / "scripted_engine.py"))
NURSERY = (*ENGINE, "nursery")
FRONT = (sys.executable, str(HERE / "scripted_front.py"))


class EngineProcess:
    """A scripted engine on its own socket, which stays when the process is started again."""

    def __init__(self, folder: Path, index: int = 0, **options: object) -> None:
        self.path = folder / f"e{index}.sock"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.bind(str(self.path))
        self.socket.listen(16)
        self.starts = 0
        self._folder = folder
        self._index = index
        self._options = options
        self.process = self.start()

    @property
    def flight(self) -> Path:
        return self._folder / f"e{self._index}.{self.starts - 1}.flight"

    def start(self) -> subprocess.Popen[bytes]:
        self.starts += 1
        record = launching.EngineLaunch(
            parent=os.getpid(),
            listen_fd=self.socket.fileno(),
            index=self._index,
            flight=str(self.flight),
            **self._options,  # type: ignore[arg-type]
        )
        self.process = subprocess.Popen(
            ENGINE, env=launching.environment(record), pass_fds=[record.listen_fd], stderr=subprocess.PIPE
        )
        return self.process

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stderr is not None:
            self.process.stderr.close()
        self.socket.close()


class ScriptedServer:
    """`perfuse.engine.supervisor.serve` with scripted front and engines, in a process of its own."""

    def __init__(self, data_dir: Path, *, evolution: Sequence[str] = (), **settings: object) -> None:
        self.data_dir = data_dir
        commands = {"front": FRONT, "engine": NURSERY, "evolution": evolution}
        program = (
            "import json, sys; from perfuse.config import load; from perfuse.engine import launch, supervisor\n"
            "from perfuse.errors import PerfuseError\n"
            "settings, commands = json.loads(sys.argv[1])\n"
            "try:\n"
            "    sys.exit(supervisor.serve(load(settings), supervisor.Commands(**commands)))\n"
            "except PerfuseError as error:\n"
            "    launch.refuse(error)\n"
        )
        fields = {"port": 0, "data_dir": str(data_dir), "evolution": "embedded" if evolution else "off", **settings}
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, json.dumps([fields, commands])],
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def lock(self) -> dict[str, object]:
        content: dict[str, object] = json.loads((self.data_dir / "server.lock").read_text())
        return content

    @property
    def port(self) -> int:
        found: list[object] = []

        def published() -> bool:
            found[:] = [self.lock_or_nothing().get("address")]
            return found != [None]

        wait_for(published)
        return int(str(found[0]).rpartition(":")[2])

    def lock_or_nothing(self) -> dict[str, object]:
        try:
            return self.lock()
        except (OSError, ValueError):
            return {}

    def get(self, path: str, seconds: float = 30.0) -> tuple[int, str]:
        """One request over one connection. Raises OSError when it is refused or broken."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=seconds) as connection:
            connection.sendall(f"GET /{path} HTTP/1.1\r\n\r\n".encode())
            received = b""
            while chunk := connection.recv(4096):
                received += chunk
        if not received:
            raise ConnectionResetError("the server closed the connection without an answer")
        head, _, body = received.partition(b"\r\n\r\n")
        return int(head.split()[1]), body.decode()

    def wait_ready(self, seconds: float = 30.0) -> int:
        """Until an engine is ready; gives the front's process id."""

        def ready() -> bool:
            try:
                return self.get("ready", 1.0)[0] == 200
            except OSError:
                return False

        wait_for(ready, seconds)
        return int(self.get("ready")[1])

    def end(self) -> tuple[int, str]:
        """SIGTERM; gives the exit code and what was written to stderr."""
        self.process.send_signal(signal.SIGTERM)
        _, errors = self.process.communicate(timeout=30)
        return self.process.returncode, errors.decode()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


PATIENCE = 60.0
"""Seconds after which something will not happen any more, on the slowest of machines."""


def wait_for(condition: Callable[[], bool], seconds: float = PATIENCE) -> float:
    """Until it holds; gives the seconds it took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, f"not within {seconds} s"
        time.sleep(0.01)
    return time.monotonic() - started
