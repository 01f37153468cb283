"""One jailed Python process, seen from outside: start it, ask it, end it."""

from __future__ import annotations

import json
import os
import secrets
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Literal, Self

from perfuse.errors import SandboxUnavailable
from perfuse.sandbox import child, reach

START_SECONDS = 60.0
"""A start takes 20 ms; a machine that needs longer than this is not one to measure programs on."""

LONGEST_ANSWER = 1 << 20
"""Bytes of one answer."""

FILE_BYTES = 16 << 20
OPEN_FILES = 32
THREADS = 8
_CHUNK = 1 << 16
_PAUSE = 0.002

Ending = Literal["timeout", "crashed", "output", "forged"]


class NoAnswer(Exception):
    """The process gave no usable answer."""

    def __init__(self, reason: Ending, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Limits:
    """What a task may use.

    Args:
        seconds: wall time from the moment the code is handed over; processor time is limited one second above.
        memory_mb: address space in MiB, of which the interpreter takes about 20.
        scratch: an own empty directory to read and write, or None: then no file can be written at all.
    """

    seconds: float = 2.0
    memory_mb: int = 512
    scratch: Path | None = None


@dataclass(frozen=True, slots=True)
class Command:
    """A program for the jailed process to become.

    Args:
        words: its real path and its arguments.
        readable: what it may read beside the C library.
        programs: what it may execute beside itself and the dynamic loader.
        processes: how many it may start.
    """

    words: Sequence[str]
    readable: Sequence[Path] = ()
    programs: Sequence[Path] = ()
    processes: int = 0


class JailedProcess:
    """A fresh interpreter that has confined itself and waits for one task, or became the program of a command.

    Raises:
        SandboxUnavailable: the kernel refused a layer, or the interpreter could not be started.
    """

    def __init__(self, limits: Limits, command: Command | None = None) -> None:
        self._process = _spawn()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._to, False)
        os.set_blocking(self._from, False)
        self._pending = bytearray()
        try:
            self.facts = self._confine(limits, command)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def close(self) -> None:
        """Ends the process and those that it started, which cannot leave its group, whatever they are doing."""
        if self._process.returncode is None:  # not waited for yet, so its number cannot be another's
            self._process.kill()
            with suppress(ProcessLookupError):  # it died before it had a group of its own
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()

    def ask(self, question: Mapping[str, str], deadline: float) -> tuple[str, object]:
        """Sends one message and returns the kind and the value of its answer.

        Args:
            question: field name → JSON text of its value.
            deadline: `time.monotonic()` at which the process is given up.

        Raises:
            NoAnswer: none came in time, the process died, or what came does not answer this question.
        """
        if self._pending:
            raise NoAnswer("forged", "an answer came before its question")
        nonce = secrets.token_hex(16)
        fields = ", ".join(f'"{name}": {value}' for name, value in {"nonce": f'"{nonce}"', **question}.items())
        line = self._exchange(f"{{{fields}}}\n".encode("ascii"), deadline)
        return _read_answer(line, nonce)

    def output(self, deadline: float) -> tuple[bytes, NoAnswer | None]:
        """All that the program of a command writes until it ends, and why that is not all, if so."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._from, selectors.EVENT_READ)
            while len(self._pending) <= LONGEST_ANSWER:
                if (seconds := deadline - time.monotonic()) <= 0:
                    return bytes(self._pending), NoAnswer("timeout", "no answer in time")
                if not selector.select(seconds):
                    continue
                if not (chunk := os.read(self._from, _CHUNK)):
                    return bytes(self._pending), self._ending(deadline)
                self._pending += chunk
        return bytes(self._pending), NoAnswer("output", f"the answer is longer than {LONGEST_ANSWER} bytes")

    def _ending(self, deadline: float) -> NoAnswer | None:
        """How a program ended that has closed its output; None: well. What it left running is killed with it."""
        ended = os.WEXITED | os.WNOWAIT | os.WNOHANG
        while os.waitid(os.P_PID, self._process.pid, ended) is None:
            if time.monotonic() > deadline:
                return NoAnswer("timeout", "it closed its output and did not end in time")
            time.sleep(_PAUSE)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        ending = self._death()
        return None if self._process.returncode == 0 else ending

    def _confine(self, limits: Limits, command: Command | None) -> Mapping[str, object]:
        policy = {
            **_reachable(command),
            "writable": None if limits.scratch is None else str(limits.scratch),
            "memory_bytes": limits.memory_mb << 20,
            "cpu_seconds": int(limits.seconds) + 2,
            "file_bytes": 0 if limits.scratch is None else FILE_BYTES,
            "open_files": OPEN_FILES,
            "threads": THREADS + (0 if command is None else tasks_of_this_user()),
            "parent": os.getpid(),
            "command": None if command is None else list(command.words),
        }
        question = {name: json.dumps(value) for name, value in policy.items()}
        try:
            kind, value = self.ask(question, time.monotonic() + START_SECONDS)
        except NoAnswer as failure:
            raise SandboxUnavailable(
                f"expected a jailed interpreter, but it did not start: {self._last_words() or failure.detail}",
                hint="`perfuse doctor --sandbox` shows what is missing; generated code is not run without it",
            ) from failure
        if kind != "ready" or not isinstance(value, dict):
            raise SandboxUnavailable(
                f"expected a kernel that confines generated code; it refused: {value}",
                hint="Linux ≥ 5.13 with Landlock and seccomp is needed; generated code is not run without it",
            )
        return value

    def _last_words(self) -> str:
        """The last line that the interpreter wrote to stderr before it died."""
        assert self._process.stderr is not None
        self._process.kill()
        self._process.wait()
        return self._process.stderr.read(_CHUNK).decode(errors="replace").strip().rpartition("\n")[2]

    def _exchange(self, message: bytes, deadline: float) -> bytes:
        """Writes `message` and reads one line, neither waiting for the other nor past the deadline."""
        left = memoryview(message)
        with selectors.DefaultSelector() as selector:
            selector.register(self._from, selectors.EVENT_READ)
            selector.register(self._to, selectors.EVENT_WRITE)
            while (end := self._pending.find(b"\n")) < 0:
                if len(self._pending) > LONGEST_ANSWER:
                    raise NoAnswer("output", f"the answer is longer than {LONGEST_ANSWER} bytes")
                if (seconds := deadline - time.monotonic()) <= 0:
                    raise NoAnswer("timeout", "no answer in time")
                for key, _ in selector.select(seconds):
                    if key.fd == self._from:
                        self._receive()
                    else:
                        left = left[self._send(left) :]
                        if not left:
                            selector.unregister(self._to)
        line = bytes(self._pending[:end])
        del self._pending[: end + 1]
        return line

    def _receive(self) -> None:
        chunk = os.read(self._from, _CHUNK)
        if not chunk:
            raise self._death()
        self._pending += chunk

    def _send(self, left: memoryview) -> int:
        try:
            return os.write(self._to, left[:_CHUNK])
        except BlockingIOError:
            return 0
        except BrokenPipeError:
            raise self._death() from None

    def _death(self) -> NoAnswer:
        """Why the pipe closed. A process that only closed its end is killed, too."""
        try:
            status = self._process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            return NoAnswer("crashed", "it closed the pipe of its answers")
        if status == -signal.SIGXCPU:
            return NoAnswer("timeout", "its processor seconds were used up")
        if status < 0:
            return NoAnswer("crashed", f"killed by {_signal_name(-status)}")
        return NoAnswer("crashed", f"exited with status {status} before it had answered")


def tasks_of_this_user() -> int:
    """Threads that count against the limit of an ordinary user already; 0 for root, who gets a fresh user."""
    return 0 if os.geteuid() == 0 else tasks_of(os.geteuid())


def tasks_of(user: int) -> int:
    """Threads of all processes of a user."""
    found = 0
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended, or is another's
            if process.stat().st_uid == user:
                found += sum(1 for _ in (process / "task").iterdir())
    return found


def _reachable(command: Command | None) -> dict[str, object]:
    """The part of the policy that says which files and programs are within reach."""
    readable, hidden = reach.readable(), reach.hidden()
    programs: tuple[Path, ...] = ()
    if command is not None:
        readable, hidden = (*reach.libraries(), *command.readable), ()
        programs = (Path(command.words[0]), *command.programs, *reach.loaders())
    return {
        "readable": [str(path) for path in readable],
        "hidden": [str(path) for path in hidden],
        "programs": [str(path) for path in programs],
        "processes": 0 if command is None else command.processes,
    }


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal has no name
        return f"signal {number}"


def _read_answer(line: bytes, nonce: str) -> tuple[str, object]:
    try:
        answer = json.loads(line)
        sent, (kind, value) = answer.pop("nonce"), answer.popitem()
        if sent != nonce or answer:
            raise ValueError("the nonce differs")  # noqa: TRY301 (one way out for all that is malformed)
        return kind, child.from_wire(value)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise NoAnswer("forged", "what came is no answer to this question") from None


def _spawn() -> subprocess.Popen[bytes]:
    """An interpreter without environment, site packages or descriptors of ours; its hashes are not random."""
    environment = {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"}
    if (libraries := os.environ.get("LD_LIBRARY_PATH")) is not None:
        environment["LD_LIBRARY_PATH"] = libraries
    try:
        return subprocess.Popen(  # noqa: S603 (our interpreter, our program)
            [sys.executable, "-s", "-S", "-P", "-B", child.__file__, native_module()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            bufsize=0,
            start_new_session=True,
        )
    except OSError as error:
        raise SandboxUnavailable(f"expected to start {sys.executable!r}, but: {error}") from error


@cache
def native_module() -> str:
    """Path of the compiled module that knows how to confine a process."""
    if (path := import_module("perfuse._native").__file__) is None:
        raise SandboxUnavailable("expected perfuse._native to be a file, but it was loaded from elsewhere")
    return path
