"""`perfuse bench peers` and `ray`: the same model function behind other servers, and behind this one.

The servers are the scripts of `benchmarks/peers`, run by an interpreter that has them installed. Each is started alone,
asked by one client and by 64, and then for what becomes of requests whose clients leave, and of those that share a
batch with one that cannot be answered. CPU time is that of all its processes, the model's included; the baseline is the
same function called directly with full batches, in the same run.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from types import MappingProxyType

import perfuse
from perfuse.errors import InvalidRequest, Unavailable
from perfuse.evaluation.load import (
    Answer,
    Connection,
    ask,
    children_of,
    cpu_seconds,
    free_port,
    serving,
    storm,
    unread_bytes,
)
from perfuse.ids import load_secret

SUFFIX = "_server.py"
BODY = {"prompt": "Double every number.", "length": 4, "steps": 1, "sampler": "low_confidence"}
"""One forward."""
LONG = {"prompt": "Double every number.", "length": 32, "steps": 32, "sampler": "low_confidence"}
BAD = {**BODY, "length": 100_000}
"""Only the model's tokenizer can tell that it does not fit."""
CLIENTS = 64
LEAVING = 20
TOGETHER = 8
START_SECONDS = 90.0
STILL_SECONDS = 2.0
_ANSWER_SECONDS = 10.0
_READ_SECONDS = 30.0
_OURS = "perfuse"
_ROWS = "perfuse_engine_rows_total"


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerBench:
    """One server.

    Attributes:
        p50_ms_1: milliseconds of a request of one client.
        p50_ms_64: of one of 64.
        requests_per_second_64: that 64 clients get answered.
        cpu_us_64: of all its processes per request, at 64 clients.
        overhead_us_64: the same less what the direct call takes.
        cancelled_computed: of 20 long requests behind as many others, whose clients left, so many were computed; None
            where nobody can say.
        innocents_failed: of 7 requests that came together with one that cannot be answered.
        processes: that it consists of.
        ready_seconds: from its start to its first answer.
    """

    name: str
    p50_ms_1: float
    p50_ms_64: float
    requests_per_second_64: float
    cpu_us_64: float
    overhead_us_64: float
    cancelled_computed: float | None
    innocents_failed: int
    processes: int
    ready_seconds: float

    def as_dict(self) -> dict[str, object]:
        """The figures by name."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Target:
    """A started server: how a body is put, and how many rows it has computed."""

    port: int
    pid: int
    path: str
    wrap: Callable[[dict[str, object]], object]
    rows: Callable[[], Awaitable[int]] | None

    async def answers(self, bodies: Sequence[dict[str, object]], clients: int) -> list[Answer]:
        return await storm(self.port, self.path, [self.wrap(body) for body in bodies], clients)

    def cpu(self) -> float:
        return sum(cpu_seconds(pid) for pid in (self.pid, *children_of(self.pid)))


def run_engines(servers: Path, python: Path, *, requests: int = 200) -> list[PeerBench]:
    """Our server with one engine of one thread, one of two, and two engines of one.

    Raises:
        Unavailable: one did not start.
    """
    direct = _direct(servers, python)
    layouts = {"1 engine": (1, 1), "1 engine, 2 threads": (1, 2), "2 engines": (2, 1)}
    return [
        _measured(name, partial(_ours, flags=("--workers", str(workers), "--threads", str(threads))), direct, requests)
        for name, (workers, threads) in layouts.items()
    ]


def run_on_ray(app: Path, queue: str, servers: Path, python: Path, *, requests: int = 200) -> list[PeerBench]:
    """Our server with two engines beside our application on Ray Serve with two replicas, both on one Redis.

    Args:
        app: `deploy/ray/app.py`.
        queue: address of the Redis.
        servers: holds `model.py`.
        python: an interpreter that has `ray[serve]` and what perfuse needs.
        requests: of one client; 64 send four times as many.

    Raises:
        Unavailable: one did not start.
    """
    direct = _direct(servers, python)
    starts: dict[str, _Start] = {
        "perfuse": partial(_ours, flags=("--workers", "2", "--threads", "1", "--queue", queue)),
        "perfuse on ray": partial(_on_ray, app, python, queue),
    }
    return [_measured(name, start, direct, requests) for name, start in starts.items()]


_Start = Callable[[Path], AbstractContextManager[_Target]]


def run(servers: Path, python: Path, names: Sequence[str] = (), *, requests: int = 200) -> list[PeerBench]:
    """Measure the servers of a folder, and ours first.

    Args:
        servers: holds `<name>_server.py` and `model.py`.
        python: an interpreter with what they import.
        names: which of them; all of them if empty.
        requests: of one client; 64 send four times as many.

    Raises:
        InvalidRequest: there is no such server.
        Unavailable: one did not start.
    """
    there = sorted(path.name.removesuffix(SUFFIX) for path in servers.glob(f"*{SUFFIX}"))
    if not there:
        raise InvalidRequest(f"there is no *{SUFFIX} in {servers}", hint="see benchmarks/peers")
    if unknown := sorted(set(names) - set(there)):
        raise InvalidRequest(f"no server is named {', '.join(unknown)}", hint=f"there are {', '.join(there)}")
    direct = _direct(servers, python)
    starts: dict[str, _Start] = {_OURS: _ours}
    starts |= {name: partial(_peer, servers / f"{name}{SUFFIX}", python) for name in names or there}
    return [_measured(name, start, direct, requests) for name, start in starts.items()]


def _measured(name: str, start: _Start, direct: float, requests: int) -> PeerBench:
    with tempfile.TemporaryDirectory(prefix="perfuse-peers-") as folder:
        began = time.monotonic()
        with start(Path(folder)) as target:
            return asyncio.run(_measure(name, target, direct, requests, began))


async def _measure(name: str, target: _Target, direct: float, requests: int, began: float) -> PeerBench:
    await _ready(name, target)
    ready = time.monotonic() - began
    await target.answers([dict(BODY)] * CLIENTS, CLIENTS)
    lone = await target.answers([{**BODY, "seed": i} for i in range(requests)], 1)
    rates, costs, many = [], [], []
    for _ in range(3):
        before, started = target.cpu(), time.perf_counter()
        answers = await target.answers([{**BODY, "seed": i} for i in range(4 * requests)], CLIENTS)
        many += answers
        rates.append(len(answers) / (time.perf_counter() - started))
        costs.append((target.cpu() - before) / len(answers) * 1e6)
    _check(name, [*lone, *many])
    return PeerBench(
        name=name,
        p50_ms_1=round(median(each.seconds for each in lone) * 1e3, 2),
        p50_ms_64=round(median(each.seconds for each in many) * 1e3, 2),
        requests_per_second_64=round(median(rates), 1),
        cpu_us_64=round(median(costs)),
        overhead_us_64=round(median(costs) - direct * 1e6),
        cancelled_computed=await _cancelled(target),
        innocents_failed=await _innocents(target),
        processes=1 + len(children_of(target.pid)),
        ready_seconds=round(ready, 1),
    )


def _check(name: str, answers: Sequence[Answer]) -> None:
    if wrong := [answer for answer in answers if answer.status != 200]:
        raise Unavailable(f"{name} answered {wrong[0].status}: {wrong[0].body[:300].decode(errors='replace')}")


async def _ready(name: str, target: _Target) -> None:
    deadline = time.monotonic() + START_SECONDS
    last = "nothing"
    while time.monotonic() < deadline:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                answer = await ask(target.port, "POST", target.path, target.wrap(dict(BODY)))
        except (OSError, TimeoutError) as error:
            last = str(error) or "no answer"
        else:
            if answer.status == 200:
                return
            last = f"{answer.status} {answer.body[:300].decode(errors='replace')}"
        await asyncio.sleep(0.1)
    raise Unavailable(f"{name} was not ready within {START_SECONDS:g} s; last came {last}")


async def _cancelled(target: _Target) -> float | None:
    """20 long requests stay; 20 more come and leave once they were read: how many of those are computed."""
    if target.rows is None:
        return None
    steps = int(str(LONG["steps"]))
    before = await target.rows()
    async with _read(target, [{**LONG, "seed": i} for i in range(LEAVING)]) as staying:
        async with _read(target, [{**LONG, "seed": LEAVING + i} for i in range(LEAVING)]):
            pass
        await asyncio.gather(*staying)
    await _still(target.rows)
    return round((await target.rows() - before) / steps - LEAVING, 1)


@asynccontextmanager
async def _read(target: _Target, bodies: Sequence[dict[str, object]]) -> AsyncIterator[list[asyncio.Task[Answer]]]:
    """Requests that the server has read, so that it knows of them however busy it is; who asked leaves at the end.

    Raises:
        Unavailable: it does not read them.
    """
    connections = [Connection(target.port) for _ in bodies]
    asked = [
        asyncio.create_task(connection.request("POST", target.path, target.wrap(body)))
        for connection, body in zip(connections, bodies, strict=True)
    ]
    deadline = time.monotonic() + _READ_SECONDS
    try:
        while not all(ports := {each.sent_from for each in connections}) or unread_bytes(target.port, ports):
            if time.monotonic() > deadline:
                raise Unavailable(f"a server has not read {len(bodies)} requests within {_READ_SECONDS:g} s")
            await asyncio.sleep(0.01)
        yield asked
    finally:
        for connection in connections:
            connection.close()
        await asyncio.gather(*asked, return_exceptions=True)


async def _still(rows: Callable[[], Awaitable[int]]) -> None:
    """Until nothing is computed any more."""
    last, since = await rows(), time.monotonic()
    while time.monotonic() - since < STILL_SECONDS:
        await asyncio.sleep(0.25)
        if (now := await rows()) != last:
            last, since = now, time.monotonic()


async def _innocents(target: _Target) -> int:
    """How many of 7 good requests fail that come together with a bad one."""
    bodies = [{**BODY, "seed": i} for i in range(TOGETHER - 1)]
    connections = [Connection(target.port) for _ in range(TOGETHER)]
    try:
        answers = await asyncio.gather(
            *(
                connection.request("POST", target.path, target.wrap(body))
                for connection, body in zip(connections, [BAD, *bodies], strict=True)
            ),
            return_exceptions=True,
        )
    finally:
        for connection in connections:
            connection.close()
    return sum(isinstance(answer, BaseException) or answer.status != 200 for answer in answers[1:])


# starting ----------------------------------------------------------------------------------------------------------


_FLAGS = ("--evolution", "off", "--max-backlog-seconds", "600")


@contextmanager
def _ours(folder: Path, flags: Sequence[str] = ("--threads", "1")) -> Iterator[_Target]:
    with serving(folder / "data", *_FLAGS, *flags) as server:

        async def rows() -> int:
            text = (await ask(server.port, "GET", "/metrics")).body.decode()
            return int(next(float(line.split()[-1]) for line in text.splitlines() if line.startswith(_ROWS)))

        yield _Target(server.port, server.process.pid, "/diffuse", _ours_takes, rows)


@contextmanager
def _on_ray(app: Path, python: Path, queue: str, folder: Path) -> Iterator[_Target]:
    """Our application on Ray Serve. Metrics are those of whichever replica answers, so nobody counts rows."""
    port, secret = free_port(), folder / "secret"
    load_secret(secret)
    settings = {"PERFUSE_QUEUE": queue, "PERFUSE_SECRET": str(secret), "PERFUSE_MAX_BACKLOG_SECONDS": "600"}
    with _started([str(python), app.name, str(port)], app.parent, folder, settings) as process:
        yield _Target(port, process.pid, "/diffuse", _ours_takes, None)


def _ours_takes(body: dict[str, object]) -> object:
    return {"modality": "text", **body}


@contextmanager
def _peer(script: Path, python: Path, folder: Path) -> Iterator[_Target]:
    port, counted = free_port(), folder / "rows"

    async def rows() -> int:
        return int(counted.read_text() or 0) if counted.exists() else 0

    wrap = _listed if script.name.startswith("bentoml") else _plain
    with _started([str(python), script.name, str(port)], script.parent, folder) as process:
        yield _Target(port, process.pid, "/fill", wrap, rows)


@contextmanager
def _started(
    command: Sequence[str], where: Path, folder: Path, settings: Mapping[str, str] = MappingProxyType({})
) -> Iterator[subprocess.Popen[bytes]]:
    """A server, ended with all it has started."""
    environment = {**_environment(folder), **settings}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 (the script is named by whoever measures)
            command, cwd=where, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            yield process
        finally:
            left = children_of(process.pid)
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def _plain(body: dict[str, object]) -> object:
    return body


def _listed(body: dict[str, object]) -> object:
    """BentoML batches lists."""
    return {"bodies": [body]}


def _environment(folder: Path) -> dict[str, str]:
    """Our package on the path of an interpreter that has not got it."""
    here = str(Path(perfuse.__file__).parent.parent)
    return {**os.environ, "PYTHONPATH": here, "PEER_ROWS": str(folder / "rows"), "OMP_NUM_THREADS": "1"}


def _direct(servers: Path, python: Path) -> float:
    """CPU seconds per request of the function itself, called with full batches."""
    code = (
        "import time; from model import BATCH, Model\n"
        f"model, bodies = Model(), [dict({BODY!r}, seed=i) for i in range(BATCH)]\n"
        "model(bodies); began = time.process_time()\n"
        "for _ in range(20): model(bodies)\n"
        "print((time.process_time() - began) / 20 / BATCH)"
    )
    with tempfile.TemporaryDirectory(prefix="perfuse-peers-") as folder:
        command, where = [str(python), "-c", code], _environment(Path(folder))
        done = subprocess.run(command, cwd=servers, env=where, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise Unavailable(
            f"the model function failed: {done.stderr.strip().splitlines()[-1]}", hint="see requirements/peers.txt"
        )
    return float(done.stdout)
