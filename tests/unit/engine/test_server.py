"""The I/O side of an engine, frame by frame, with a scripted engine behind it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from perfuse import wire
from perfuse.engine import server as serving
from perfuse.engine.loop import Admitted
from perfuse.engine.run import Job, Sink
from perfuse.engine.server import EngineServer
from perfuse.errors import NonFiniteOutput, Overloaded
from perfuse.requests import Preview, TextRequest, TextResult

TOKEN = "a-token-of-the-engine"
HELLO = wire.Hello(protocol=wire.PROTOCOL, build="0", pid=1, models=[], backlog_limit=2.0)


@dataclass
class ScriptedJobs:
    jobs: dict[int, Job] = field(default_factory=dict)
    cancelled: list[int] = field(default_factory=list)
    sink: Sink | None = None
    full: bool = False

    def submit(self, job: Job, sink: Sink) -> Admitted:
        if self.full:
            raise Overloaded("full", retry_after=1.5)
        self.jobs[job.id] = job
        self.sink = sink
        return Admitted(0.25, 7)

    def cancel(self, job: int) -> None:
        self.cancelled.append(job)

    def heartbeat(self, now: float) -> wire.Heartbeat:
        return wire.Heartbeat(last_step_age=0.0, busy=False, backlog=0.5, counters={"rows": 1.0})

    def out(self) -> Sink:
        assert self.sink is not None
        return self.sink


class Front:
    """One connection; heartbeats are skipped."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, message: wire.Message) -> None:
        self.writer.write(wire.frame(message))

    def submit(self, identity: int, *, previews: bool = False, **fields: object) -> None:
        request = wire.pack(TextRequest(prompt="p"))
        self.send(
            wire.Submit(id=identity, modality="text", request=request, previews=previews, **fields)  # type: ignore[arg-type]
        )

    async def hear(self, *, heartbeats: bool = False) -> wire.EngineMessage:
        async with asyncio.timeout(5):
            while True:
                length = int.from_bytes(await self.reader.readexactly(4), "big")
                message = wire.decode_engine(await self.reader.readexactly(length))
                if heartbeats or not isinstance(message, wire.Heartbeat):
                    return message

    async def hung_up(self) -> bool:
        async with asyncio.timeout(5):
            try:
                while await self.reader.read(4096):
                    pass
            except ConnectionResetError:
                pass
        return True


@dataclass
class Bench:
    server: EngineServer
    jobs: ScriptedJobs
    path: Path
    beats: list[float]
    running: asyncio.Task[None]
    fronts: list[Front] = field(default_factory=list)

    async def connected(self) -> Front:
        front = Front(*await asyncio.open_unix_connection(str(self.path)))
        self.fronts.append(front)
        return front

    async def front(self) -> Front:
        front = await self.connected()
        assert await front.hear() == HELLO
        return front


@contextlib.asynccontextmanager
async def running(path: Path, token: str = "") -> AsyncIterator[Bench]:
    jobs = ScriptedJobs()
    beats: list[float] = []
    server = EngineServer(jobs, jobs, HELLO, on_heartbeat=lambda now, beat: beats.append(now), token=token)
    listener = await asyncio.get_running_loop().create_unix_server(server.protocol, str(path))
    bench = Bench(server, jobs, path, beats, asyncio.create_task(server.run()))
    yield bench
    for front in bench.fronts:
        front.writer.close()
        with contextlib.suppress(ConnectionError):
            await front.writer.wait_closed()
    server.stop()
    await bench.running
    listener.close()
    await listener.wait_closed()


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with running(tmp_path / "engine.sock") as made:
        yield made


@pytest_asyncio.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Bench]:
    """An engine that expects a token."""
    async with running(tmp_path / "guarded.sock", TOKEN) as made:
        yield made


async def test_a_front_that_knows_the_token_is_a_front_like_any_other(guarded: Bench) -> None:
    front = await guarded.connected()
    front.send(wire.Greet(token=TOKEN))
    assert await front.hear() == HELLO
    front.submit(3, tenant="x" * 2000)
    assert await front.hear() == wire.Accepted(id=3, backlog=0.25, lsn=7)


@pytest.mark.parametrize(
    "first",
    [
        wire.frame(wire.Greet(token="another")),
        wire.frame(wire.Greet(token="")),
        wire.frame(wire.Cancel(id=1)),
        wire.frame(wire.Greet(token="x" * 2000)),
        b"GET / HTTP/1.1\r\n\r\n",
    ],
    ids=["another", "none", "no greeting", "long", "http"],
)
async def test_who_does_not_know_the_token_hears_nothing(guarded: Bench, first: bytes) -> None:
    front = await guarded.connected()
    front.writer.write(first)
    async with asyncio.timeout(5):
        assert await front.reader.read() == b""
    assert guarded.jobs.jobs == {}


async def test_who_says_nothing_is_disconnected(guarded: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "_GREETING_SECONDS", 0.05)
    front = await guarded.connected()
    assert await front.hung_up()


async def test_an_engine_without_a_token_wants_no_greeting(bench: Bench) -> None:
    front = await bench.front()
    front.send(wire.Greet(token=TOKEN))
    assert await front.hung_up()


async def test_hello_then_the_state_then_answers(bench: Bench) -> None:
    front = await bench.front()
    assert await front.hear(heartbeats=True) == bench.jobs.heartbeat(0.0)
    front.submit(5, priority=2, deadline_seconds=3.0, solo=True, tenant="a")
    assert await front.hear() == wire.Accepted(id=5, backlog=0.25, lsn=7)
    job = bench.jobs.jobs[5]
    assert (job.modality, job.priority, job.solo, job.previews) == ("text", 2, True, False)
    assert job.tenant == "a"
    assert job.request == TextRequest(prompt="p")
    assert job.deadline is not None
    bench.jobs.out().finished(5, TextResult(model="m", outputs=()), 0.1, 0.2)
    finished = await front.hear()
    assert isinstance(finished, wire.Finished)
    assert wire.unpack_result("text", finished.result) == TextResult(model="m", outputs=())
    assert bench.server.open_jobs == 0
    assert bench.beats


async def test_refusals_and_failures_are_problems(bench: Bench) -> None:
    front = await bench.front()
    bench.jobs.full = True
    front.submit(1)
    assert await front.hear() == wire.Problem(id=1, code="overloaded", detail="full", retry_after=1.5)
    bench.jobs.full = False
    front.submit(2)
    await front.hear()
    bench.jobs.out().failed(2, NonFiniteOutput("NaN"))
    assert await front.hear() == wire.Problem(id=2, code="non_finite_output", detail="NaN")
    front.send(wire.Submit(id=3, modality="trajectory", request=msgspec.Raw(msgspec.msgpack.encode({"steps": "x"}))))
    problem = await front.hear()
    assert isinstance(problem, wire.Problem)
    assert problem.code == "invalid_request"
    assert problem.detail.startswith("the request record of modality 'trajectory' does not decode: ")


async def test_one_preview_is_under_way_and_the_latest_wins(bench: Bench) -> None:
    front = await bench.front()
    front.submit(1, previews=True)
    await front.hear()
    sink = bench.jobs.out()
    for step in (1, 2, 3):
        sink.preview(1, Preview(step=step, of=9))
    assert await front.hear() == wire.PreviewFrame(id=1, step=1, of=9, body={})
    front.send(wire.PreviewSeen(id=1))
    assert await front.hear() == wire.PreviewFrame(id=1, step=3, of=9, body={})
    front.send(wire.PreviewSeen(id=1))
    front.send(wire.PreviewSeen(id=99))
    await asyncio.sleep(0.02)
    sink.preview(1, Preview(step=4, of=9))
    assert await front.hear() == wire.PreviewFrame(id=1, step=4, of=9, body={})


async def test_nobody_watching_gets_no_preview(bench: Bench) -> None:
    front = await bench.front()
    front.submit(1)
    await front.hear()
    bench.jobs.out().preview(1, Preview(step=1, of=9))
    bench.jobs.out().finished(1, TextResult(model="m", outputs=()), 0.0, 0.0)
    assert isinstance(await front.hear(), wire.Finished)


async def test_cancel_reaches_the_engine_and_later_events_go_nowhere(bench: Bench) -> None:
    front, other = await bench.front(), await bench.front()
    front.submit(1)
    await front.hear()
    other.send(wire.Cancel(id=1))
    await asyncio.sleep(0.02)
    assert bench.jobs.cancelled == [], "another front's request is not cancelled"
    front.send(wire.Cancel(id=1))
    front.submit(2)
    await front.hear()
    assert bench.jobs.cancelled == [1]
    bench.jobs.out().finished(1, TextResult(model="m", outputs=()), 0.0, 0.0)
    bench.jobs.out().failed(2, NonFiniteOutput("NaN"))
    assert (await front.hear()).id == 2  # type: ignore[union-attr]


async def test_a_front_that_leaves_has_its_jobs_cancelled(bench: Bench) -> None:
    front = await bench.front()
    front.submit(1)
    await front.hear()
    front.writer.close()
    async with asyncio.timeout(5):
        while bench.jobs.cancelled != [1]:
            await asyncio.sleep(0.002)


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(b"\xff\xff\xff\xff", id="too long"),
        pytest.param(b"\x00\x00\x00\x01\xc1", id="not msgpack"),
        pytest.param(wire.frame(HELLO), id="an engine's message"),
        pytest.param(wire.frame(wire.Submit(id=-1, modality="text", request=msgspec.Raw(b"\x80"))), id="negative id"),
    ],
)
async def test_a_malformed_frame_ends_its_connection_only(bench: Bench, frame: bytes) -> None:
    front, other = await bench.front(), await bench.front()
    front.writer.write(frame)
    assert await front.hung_up()
    other.submit(1)
    assert isinstance(await other.hear(), wire.Accepted)


async def test_a_job_id_in_use_ends_the_connection(bench: Bench) -> None:
    front = await bench.front()
    front.submit(1)
    front.submit(1)
    assert await front.hung_up()


@pytest.mark.parametrize("by_frame", [False, True])
async def test_draining_finishes_what_is_open_and_refuses_the_rest(bench: Bench, by_frame: bool) -> None:
    front = await bench.front()
    front.submit(1)
    await front.hear()
    if by_frame:
        front.send(wire.Drain())
    else:
        bench.server.drain()
    front.submit(2)
    problem = await front.hear()
    assert isinstance(problem, wire.Problem)
    assert (problem.code, problem.retry_after) == ("unavailable", 1.0)
    assert not bench.running.done()
    bench.jobs.out().finished(1, TextResult(model="m", outputs=()), 0.0, 0.0)
    assert isinstance(await front.hear(), wire.Finished)
    await asyncio.wait_for(bench.running, 5)


async def test_a_result_that_cannot_be_packed_fails_its_request(bench: Bench) -> None:
    front = await bench.front()
    front.submit(1)
    await front.hear()
    bench.jobs.out().finished(1, TextResult(model=object(), outputs=()), 0.0, 0.0)  # type: ignore[arg-type]
    problem = await front.hear()
    assert isinstance(problem, wire.Problem)
    assert problem.code == "generation_failed"
    assert problem.detail == "the result cannot be sent: Encoding objects of type object is unsupported"
