"""A server under load: starts `perfuse serve` as a user would, speaks plain HTTP/1.1, reads /proc for CPU time."""

from __future__ import annotations

import asyncio
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from perfuse.errors import Unavailable

_HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer. `seconds` runs from the first byte sent to the last byte read."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float

    def json(self) -> dict[str, object]:
        """The body as an object."""
        parsed: dict[str, object] = json.loads(self.body)
        return parsed


class Connection:
    """One keep-alive connection."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._host, self._port = host, port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self.sent_from = 0
        """The port from which the last request was sent; 0 before the first was."""

    async def request(self, method: str, path: str, body: object = None) -> Answer:
        """Send one request and read its answer.

        Raises:
            OSError: the connection was refused or broke.
        """
        if self._reader is not None and self._reader.at_eof():  # closed by the server between two requests
            self.close()
        if self._writer is None or self._reader is None:
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        message = _message(method, path, f"{self._host}:{self._port}", body)
        started = time.perf_counter()
        try:
            self._writer.write(message)
            self.sent_from = self._writer.get_extra_info("sockname")[1]
            raw = await self._reader.readuntil(_HEAD_END)
            status, headers = _parse_head(raw)
            content = await self._reader.readexactly(int(headers.get("content-length", "0")))
            if headers.get("connection") == "close":
                self.close()
        except (asyncio.IncompleteReadError, OSError) as error:
            self.close()
            raise ConnectionResetError(str(error)) from error
        return Answer(status, headers, content, time.perf_counter() - started)

    def close(self) -> None:
        """Drop the connection, as a client does that goes away."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


async def ask(port: int, method: str, path: str, body: object = None) -> Answer:
    """One request on a connection of its own.

    Raises:
        OSError: the connection was refused or broke.
    """
    with closing(Connection(port)) as connection:
        return await connection.request(method, path, body)


def _message(method: str, path: str, host: str, body: object) -> bytes:
    data = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(data)}\r\n"
    return f"{head}Content-Type: application/json\r\n\r\n".encode() + data


def _parse_head(raw: bytes) -> tuple[int, dict[str, str]]:
    lines = raw.decode("latin-1").split("\r\n")
    pairs = (line.split(":", 1) for line in lines[1:] if ":" in line)
    return int(lines[0].split(" ", 2)[1]), {name.strip().lower(): value.strip() for name, value in pairs}


def unread_bytes(port: int, clients: Collection[int]) -> int:
    """What those behind a TCP port of this host (IPv4) have still to read of what came from the ports `clients`."""
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    ends = ((_port_of(row[1]), _port_of(row[2]), int(row[4].split(":")[1], 16)) for row in rows)
    return sum(waiting for mine, theirs, waiting in ends if mine == port and theirs in clients)


def _port_of(address: str) -> int:
    return int(address.rpartition(":")[2], 16)


@dataclass(slots=True)
class Server:
    """A running `perfuse serve`."""

    process: subprocess.Popen[bytes]
    port: int
    data_dir: Path
    started: float = field(default_factory=time.monotonic)

    def children(self) -> dict[str, list[int]]:
        """Process ids by part: "front", "engine", "learner", "nursery", "other"."""
        parts: dict[str, list[int]] = {"front": [], "engine": [], "learner": [], "nursery": [], "other": []}
        for pid in children_of(self.process.pid):
            part = part_of(pid)
            parts[part].append(pid)
        return parts

    async def ready(self, seconds: float = 60.0) -> float:
        """Wait for /readyz; gives the seconds since start.

        Raises:
            Unavailable: it ended or did not become ready in time.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise Unavailable(f"the server ended with exit code {self.process.returncode}")
            try:
                if (await ask(self.port, "GET", "/readyz")).status == 200:
                    return time.monotonic() - self.started
            except OSError:
                pass
            await asyncio.sleep(0.02)
        raise Unavailable(f"the server was not ready after {seconds:g} s")

    def stop(self, seconds: float = 30.0) -> int:
        """SIGTERM and wait; gives the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)


@contextmanager
def serving(data_dir: Path, *flags: str, environment: Mapping[str, str] | None = None) -> Iterator[Server]:
    """`perfuse serve` on a free loopback port with its own data directory, stopped at the end."""
    port = free_port()
    command = [sys.executable, "-m", "perfuse", "serve", "--port", str(port), "--data-dir", str(data_dir), *flags]
    with (data_dir.parent / f"{data_dir.name}.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 (our own interpreter and module)
            command, stdout=log, stderr=log, env={**os.environ, **(environment or {})}
        )
        server = Server(process, port, data_dir)
        try:
            yield server
        finally:
            try:
                server.stop()
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def free_port() -> int:
    """A TCP port nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def children_of(pid: int) -> list[int]:
    """All living descendants of a process."""
    found: list[int] = []
    pending = [pid]
    parents = dict(_parents())
    while pending:
        parent = pending.pop()
        mine = [child for child, of in parents.items() if of == parent]
        found.extend(mine)
        pending.extend(mine)
    return found


def _parents() -> Iterator[tuple[int, int]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if fields[0] != "Z":
                yield int(entry.name), int(fields[1])


def part_of(pid: int) -> str:
    """Which part of a server a process is, by the name it gave itself; "other" if none."""
    try:
        name = Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return "other"
    prefix, _, part = name.partition("-")
    return part if prefix == "perfuse" and part in ("front", "engine", "learner", "nursery") else "other"


def command_of(pid: int) -> str:
    """The command line of a process, "" if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def cpu_seconds(pid: int) -> float:
    """CPU time that the living threads of a process have used, to the nanosecond."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir()) / 1e9


def resident_bytes(pid: int) -> int:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def storm(port: int, path: str, bodies: Sequence[object], clients: int) -> list[Answer]:
    """Send the bodies over `clients` keep-alive connections, each one request at a time; answers in order of bodies."""
    answers: list[Answer | None] = [None] * len(bodies)
    queue = iter(range(len(bodies)))

    async def client() -> None:
        with closing(Connection(port)) as connection:
            for i in queue:
                answers[i] = await connection.request("POST", path, bodies[i])

    await asyncio.gather(*(client() for _ in range(clients)))
    return [answer for answer in answers if answer is not None]


@dataclass(slots=True)
class _Sent:
    started: float
    unsent: bytes
    received: bytes = b""
    whole: int = 0

    def read(self, data: bytes) -> bool:
        """Take in what has arrived; whether that is all."""
        if not data:
            raise ConnectionResetError(f"the connection was closed after {len(self.received)} bytes of an answer")
        self.received += data
        if not self.whole and _HEAD_END in self.received:
            head = self.received[: self.received.index(_HEAD_END) + len(_HEAD_END)]
            self.whole = len(head) + int(_parse_head(head)[1].get("content-length", "0"))
        return bool(self.whole) and len(self.received) >= self.whole

    def answer(self, ended: float) -> Answer:
        head, _, body = self.received.partition(_HEAD_END)
        return Answer(*_parse_head(head), body, ended - self.started)


def burst(port: int, path: str, body: object, count: int, host: str = "127.0.0.1") -> list[Answer]:
    """Post the same body `count` times at once, each on a new connection; answers in the order in which they came.

    `seconds` runs from the opening of the connection. Plain sockets in this thread, because the work of an asyncio
    client would delay the answers more than the server does.

    Raises:
        OSError: a connection was refused or broke.
    """
    message = _message("POST", path, f"{host}:{port}", body)
    ended: list[tuple[_Sent, float]] = []
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        for _ in range(count):
            connection = stack.enter_context(socket.socket())
            connection.settimeout(0)
            selector.register(connection, selectors.EVENT_WRITE, _Sent(time.perf_counter(), message))
            connection.connect_ex((host, port))
        while len(ended) < count:
            for key, events in selector.select():
                assert isinstance(key.fileobj, socket.socket)
                if events & selectors.EVENT_WRITE:
                    key.data.unsent = key.data.unsent[key.fileobj.send(key.data.unsent) :]
                    if not key.data.unsent:
                        selector.modify(key.fileobj, selectors.EVENT_READ, key.data)
                elif key.data.read(key.fileobj.recv(1 << 16)):
                    ended.append((key.data, time.perf_counter()))
                    selector.unregister(key.fileobj)
    return [sent.answer(at) for sent, at in ended]
