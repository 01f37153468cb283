"""The pool against engines that are scripted frame by frame."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from perfuse import wire
from perfuse.dispatch import engines as pools
from perfuse.dispatch import link as links
from perfuse.dispatch.engines import EnginePool
from perfuse.dispatch.pool import AcceptedEvent, Completed, Event, PreviewEvent, RestartedEvent
from perfuse.engine.flight import FlightRecorder, note_end
from perfuse.errors import DeadlineExceeded, InvalidRequest, Overloaded, PerfuseError, Unavailable, WorkerKilled
from perfuse.requests import Preview, TextOutput, TextRequest, TextResult


class FakeEngine:
    """Listens, says hello, remembers what came, and answers when told to."""

    def __init__(self, path: Path, flight: str = "", port: int | None = None) -> None:
        self.path = path
        self.port = port
        self.refuses = False
        self.got: list[wire.FrontMessage] = []
        self.hello: wire.Message | None = wire.Hello(
            protocol=wire.PROTOCOL, build="0", pid=1, models=[], backlog_limit=2.0, flight=flight
        )
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        if self.port is None:
            self._server = await asyncio.start_unix_server(self._serve, str(self.path))
        else:
            self._server = await asyncio.start_server(self._serve, "localhost", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        if self.refuses:
            self.got.extend(wire.decode_front(body) for body in wire.FrameReader().feed(await reader.read(65536)))
            writer.close()
            return
        if self.hello is not None:
            self.say(self.hello)
        frames = wire.FrameReader()
        while data := await reader.read(65536):
            self.got.extend(wire.decode_front(body) for body in frames.feed(data))
        writer.close()

    def say(self, message: wire.Message) -> None:
        self._writers[-1].write(wire.frame(message))

    def write(self, data: bytes) -> None:
        self._writers[-1].write(data)

    def die(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def close(self) -> None:
        self.die()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def submitted(self, count: int = 1) -> list[wire.Submit]:
        await until(lambda: len(self.submits) >= count)
        return self.submits

    @property
    def submits(self) -> list[wire.Submit]:
        return [message for message in self.got if isinstance(message, wire.Submit)]

    def finish(self, submit: wire.Submit) -> None:
        request = wire.unpack_request("text", submit.request)
        assert isinstance(request, TextRequest)
        output = TextOutput(
            text=request.prompt, fill="", finish_reason="complete", confidence=1.0, steps_done=1, forwards=1
        )
        self.say(
            wire.Finished(
                id=submit.id,
                modality="text",
                result=wire.pack(TextResult(model="m@1", outputs=(output,))),
                queue_seconds=0.1,
                compute_seconds=0.2,
            )
        )


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.002)


@pytest_asyncio.fixture
async def engines(tmp_path: Path) -> AsyncIterator[list[FakeEngine]]:
    made = [FakeEngine(tmp_path / f"{index}.sock") for index in range(2)]
    for engine in made:
        await engine.open()
    yield made
    for engine in made:
        await engine.close()


@pytest_asyncio.fixture
async def pool(engines: list[FakeEngine]) -> AsyncIterator[EnginePool]:
    made = EnginePool([str(engines[0].path)], hold_seconds=0.3)
    await made.start()
    await until(lambda: made.ready)
    yield made
    await made.close()


def ask(pool: EnginePool, prompt: str = "a", **options: object) -> asyncio.Task[Completed]:
    return asyncio.create_task(pool.run("text", TextRequest(prompt=prompt), **options))  # type: ignore[arg-type]


def text_of(done: Completed) -> str:
    assert isinstance(done.result, TextResult)
    return done.result.outputs[0].text


async def error_of(task: asyncio.Task[Completed]) -> PerfuseError:
    with pytest.raises(PerfuseError) as caught:
        async with asyncio.timeout(5):
            await task
    return caught.value


async def test_events_and_result_of_a_request(pool: EnginePool, engines: list[FakeEngine]) -> None:
    events: list[Event] = []
    task = ask(pool, "hello", tenant="a", priority=3, deadline_seconds=9.0, on_event=events.append)
    (submit,) = await engines[0].submitted()
    assert (submit.modality, submit.priority, submit.previews, submit.solo) == ("text", 3, True, False)
    assert submit.tenant == "a"
    assert submit.deadline_seconds == pytest.approx(9.0, abs=0.5)
    engines[0].say(wire.Accepted(id=submit.id, backlog=0.5, lsn=812))
    engines[0].say(wire.PreviewFrame(id=submit.id, step=1, of=4, body={"canvas": "h"}))
    engines[0].finish(submit)
    done = await task
    assert isinstance(done.result, TextResult)
    assert done.result.outputs[0].text == "hello"
    assert (done.queue_seconds, done.compute_seconds, done.lsn, done.restarts) == (0.1, 0.2, 812, 0)
    assert events == [AcceptedEvent(0.5, 812), PreviewEvent(Preview(step=1, of=4, body={"canvas": "h"}))]
    await until(lambda: wire.PreviewSeen(id=submit.id) in engines[0].got)


async def test_a_problem_is_raised_as_the_error_it_was(pool: EnginePool, engines: list[FakeEngine]) -> None:
    task = ask(pool)
    (submit,) = await engines[0].submitted()
    engines[0].say(wire.problem_of(submit.id, InvalidRequest("no", field="/steps", hint="less")))
    error = await error_of(task)
    assert (type(error), error.detail, error.field, error.hint) == (InvalidRequest, "no", "/steps", "less")


async def test_cancelling_tells_the_engine(pool: EnginePool, engines: list[FakeEngine]) -> None:
    task = ask(pool)
    (submit,) = await engines[0].submitted()
    task.cancel()
    await until(lambda: wire.Cancel(id=submit.id) in engines[0].got)
    assert pool.engines[0].in_flight == 0
    engines[0].finish(submit)
    second = ask(pool, "b")
    engines[0].finish((await engines[0].submitted(2))[1])
    assert (await second).restarts == 0


async def test_a_full_backlog_is_refused_before_anything_is_sent(pool: EnginePool, engines: list[FakeEngine]) -> None:
    engines[0].say(wire.Heartbeat(last_step_age=0.0, busy=True, backlog=3.0, counters={"rows": 7.0}))
    await until(lambda: pool.counters().get("rows") == 7.0)
    error = await error_of(ask(pool))
    assert isinstance(error, Overloaded)
    assert error.detail.endswith("s of work are queued; at most 2 s are taken on")
    assert error.retry_after == pytest.approx(3.0, abs=0.5)
    assert engines[0].submits == []
    (state,) = pool.engines
    assert (state.ready, state.busy, state.counters) == (True, True, {"rows": 7.0})


async def test_an_engines_own_refusal_is_believed_until_the_next_heartbeat(
    pool: EnginePool, engines: list[FakeEngine]
) -> None:
    task = ask(pool)
    (submit,) = await engines[0].submitted()
    engines[0].say(wire.problem_of(submit.id, Overloaded("full", retry_after=2.5)))
    assert (await error_of(task)).retry_after == 2.5
    with pytest.raises(Overloaded):
        await pool.admit()
    engines[0].say(wire.Heartbeat(last_step_age=0.0, busy=False, backlog=0.0, counters={"rows": 8.0}))
    await until(lambda: bool(pool.engines[0].counters))
    await pool.admit()


async def test_idle_work_that_is_refused_closes_the_door_to_nobody(pool: EnginePool, engines: list[FakeEngine]) -> None:
    task = asyncio.create_task(pool.run("text", TextRequest(prompt="a"), priority=-20))
    (submit,) = await engines[0].submitted()
    engines[0].say(wire.problem_of(submit.id, Overloaded("full", retry_after=2.5)))
    assert (await error_of(task)).retry_after == 2.5
    await pool.admit()


async def test_the_least_loaded_engine_is_chosen(engines: list[FakeEngine]) -> None:
    pool = EnginePool([str(engine.path) for engine in engines])
    await pool.start()
    await until(lambda: all(state.ready for state in pool.engines))
    engines[0].say(wire.Heartbeat(last_step_age=0.0, busy=True, backlog=1.0, counters={}))
    await until(lambda: pool.engines[0].busy)
    tasks = [ask(pool, str(i)) for i in range(4)]
    assert len(await engines[1].submitted(4)) == 4
    assert engines[0].submits == []
    await pool.close()
    assert [(await error_of(task)).detail for task in tasks] == ["the server is stopping"] * 4


async def test_equal_engines_share_the_work(engines: list[FakeEngine]) -> None:
    pool = EnginePool([str(engine.path) for engine in engines])
    await pool.start()
    await until(lambda: all(state.ready for state in pool.engines))
    tasks = [ask(pool, str(i)) for i in range(6)]
    await engines[0].submitted(3)
    await engines[1].submitted(3)
    await pool.close()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_draining_engine_hands_its_requests_on(pool: EnginePool, engines: list[FakeEngine]) -> None:
    task = ask(pool)
    (submit,) = await engines[0].submitted()
    engines[0].say(wire.problem_of(submit.id, Unavailable("draining")))
    await until(lambda: pool.counters()["held"] == 1.0)
    engines[0].die()
    (_, again) = await engines[0].submitted(2)
    engines[0].finish(again)
    assert (await task).restarts == 0


async def test_after_a_crash_the_culprit_is_found_and_the_others_are_answered(
    pool: EnginePool, engines: list[FakeEngine]
) -> None:
    """Without a flight record everybody is a suspect, and suspects come one at a time."""
    events: list[Event] = []
    tasks = {name: ask(pool, name, on_event=events.append if name == "a" else None) for name in ("a", "b")}
    await engines[0].submitted(2)
    engines[0].die()
    first = (await engines[0].submitted(3))[2]
    assert first.solo
    await asyncio.sleep(0.05)
    assert len(engines[0].submits) == 3
    engines[0].die()
    assert isinstance(await error_of(tasks["a"]), WorkerKilled)
    second = (await engines[0].submitted(4))[3]
    assert second.solo
    engines[0].finish(second)
    assert (await tasks["b"]).restarts == 1
    assert RestartedEvent(1) in events
    assert pool.counters()["killers"] == 1.0
    assert pool.counters()["engine_deaths"] == 2.0


@pytest.mark.parametrize("from_outside", [True, False])
async def test_a_suspect_is_refused_only_for_an_engine_that_died_by_itself(tmp_path: Path, from_outside: bool) -> None:
    """The supervisor's note comes after the connection's end."""
    engine = FakeEngine(tmp_path / "engine.sock", str(tmp_path / "flight"))
    recorder = FlightRecorder(tmp_path / "flight")
    await engine.open()
    pool = EnginePool([str(engine.path)])
    await pool.start()
    task = ask(pool)
    recorder.batch([(await engine.submitted())[0].id])
    engine.die()
    note_end(tmp_path / "flight", from_outside=False)
    suspect = (await engine.submitted(2))[1]
    assert suspect.solo
    FlightRecorder(tmp_path / "flight").batch([suspect.id])
    engine.die()
    await until(lambda: not pool.ready)
    await asyncio.sleep(0.03)
    assert not task.done()
    note_end(tmp_path / "flight", from_outside=from_outside)
    if from_outside:
        again = (await engine.submitted(3))[2]
        assert again.solo
        engine.finish(again)
        assert (await task).restarts == 2
    else:
        assert isinstance(await error_of(task), WorkerKilled)
    recorder.close()
    await pool.close()
    await engine.close()


async def test_the_wait_for_an_engine_counts_from_its_death_while_its_end_is_not_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "WINDOW", 1)
    engine = FakeEngine(tmp_path / "engine.sock", str(tmp_path / "flight"))
    await engine.open()
    now = 0.0
    pool = EnginePool([str(engine.path)], hold_seconds=30.0, clock=lambda: now)
    await pool.start()
    tasks = [ask(pool, "taken"), ask(pool, "held")]
    await engine.submitted()
    now = 60.0
    engine.die()
    for count in (2, 3):
        engine.finish((await engine.submitted(count))[-1])
    assert [(await task).restarts for task in tasks] == [1, 0]
    await pool.close()
    await engine.close()


async def test_a_restarted_request_is_not_refused_for_load(
    pool: EnginePool, engines: list[FakeEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "_RETRY_SECONDS", 0.02)
    task = ask(pool)
    await engines[0].submitted()
    engines[0].die()
    again = (await engines[0].submitted(2))[1]
    engines[0].say(wire.problem_of(again.id, Overloaded("full", retry_after=60.0)))
    engines[0].finish((await engines[0].submitted(3))[2])
    assert (await task).restarts == 1


async def test_no_engine_in_time_is_unavailable(tmp_path: Path) -> None:
    pool = EnginePool([str(tmp_path / "nobody.sock")], hold_seconds=0.1)
    await pool.start()
    late = ask(pool)
    hurried = ask(pool, deadline_seconds=0.01)
    error = await error_of(late)
    assert isinstance(error, Unavailable)
    assert error.detail == "no engine became ready within 0.1 s"
    assert error.hint == "see the server's log; /readyz says when it works again"
    assert error.retry_after == 5.0
    assert isinstance(await error_of(hurried), DeadlineExceeded)
    assert pool.models == []
    await pool.close()


@pytest_asyncio.fixture
async def remote(tmp_path: Path) -> AsyncIterator[FakeEngine]:
    """An engine on another host."""
    made = FakeEngine(tmp_path / "unused", port=0)
    await made.open()
    yield made
    await made.close()


async def test_an_engine_on_another_host_hears_the_token_first(remote: FakeEngine) -> None:
    pool = EnginePool([f"tcp://localhost:{remote.port}"], token="secret")
    await pool.start()
    await until(lambda: pool.ready)
    task = ask(pool)
    (submit,) = await remote.submitted()
    assert remote.got[0] == wire.Greet(token="secret")
    remote.finish(submit)
    assert text_of(await task) == "a"
    await pool.close()


async def test_a_host_that_falls_silent_is_lost_and_its_requests_go_elsewhere(
    remote: FakeEngine, engines: list[FakeEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "_SILENT_SECONDS", 0.2)
    pool = EnginePool([f"tcp://localhost:{remote.port}", str(engines[0].path)])
    await pool.start()
    await until(lambda: all(state.ready for state in pool.engines))
    engines[0].say(wire.Heartbeat(last_step_age=0.0, busy=True, backlog=1.0, counters={}))
    await until(lambda: pool.engines[1].busy)
    task = ask(pool)
    await remote.submitted()
    remote.hello = None
    (again,) = await engines[0].submitted()
    assert not again.solo, "the network is suspected, not the request"
    engines[0].finish(again)
    assert (await task).restarts == 1
    assert pool.engines[0].deaths == 1
    await pool.close()


async def test_an_engine_that_hangs_up_is_not_asked_all_the_time(
    remote: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "_REFUSED_SECONDS", 60.0)
    remote.refuses = True
    pool = EnginePool([f"tcp://localhost:{remote.port}"])
    await pool.start()
    await until(lambda: bool(remote.got))
    await asyncio.sleep(0.05)
    assert remote.got == [wire.Greet(token="")]
    assert not pool.ready
    await pool.close()


async def test_held_requests_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "MOST_HELD", 2)
    pool = EnginePool([str(tmp_path / "nobody.sock")])
    await pool.start()
    tasks = [ask(pool), ask(pool)]
    await asyncio.sleep(0.01)
    error = await error_of(ask(pool))
    assert isinstance(error, Overloaded)
    assert error.detail == "no engine is ready and 2 requests wait for one"
    await pool.close()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_nobody_is_let_in_before_an_engine_can_be_asked(
    pool: EnginePool, engines: list[FakeEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "WINDOW", 2)
    tasks = [ask(pool), ask(pool)]
    first, second = await engines[0].submitted(2)
    coming = [asyncio.create_task(pool.admit()) for _ in range(3)]
    gone = asyncio.create_task(pool.admit())
    coming.append(asyncio.create_task(pool.admit()))
    await asyncio.sleep(0.01)
    gone.cancel()
    engines[0].say(wire.Accepted(id=first.id, backlog=0.1, lsn=0))
    await coming[0]
    assert [task.done() for task in coming] == [True, False, False, False]
    engines[0].say(wire.problem_of(second.id, Overloaded("full", retry_after=2.5)))
    for task in coming[1:]:
        error = await error_of(task)
        assert isinstance(error, Overloaded)
        assert error.retry_after == pytest.approx(2.5, abs=0.5)
    engines[0].finish(first)
    assert text_of(await tasks[0]) == "a"
    assert isinstance(await error_of(tasks[1]), Overloaded)


async def test_who_waits_to_be_let_in_goes_on_waiting_as_a_request_when_the_engine_dies(
    pool: EnginePool, engines: list[FakeEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "WINDOW", 1)
    task = ask(pool)
    await engines[0].submitted(1)
    coming = asyncio.create_task(pool.admit())
    await asyncio.sleep(0.01)
    assert not coming.done()
    engines[0].die()
    await coming
    task.cancel()


async def test_an_engine_is_asked_about_few_requests_at_a_time(
    pool: EnginePool, engines: list[FakeEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "WINDOW", 2)
    tasks = [ask(pool, str(i)) for i in range(5)]
    await engines[0].submitted(2)
    assert pool.counters()["held"] == 3.0
    first, second = engines[0].submits
    engines[0].say(wire.Accepted(id=first.id, backlog=0.1, lsn=0))
    await engines[0].submitted(3)
    assert pool.counters()["held"] == 2.0
    engines[0].finish(second)
    await engines[0].submitted(4)
    tasks[2].cancel()
    await engines[0].submitted(5)
    for submit in (first, *engines[0].submits[3:]):
        engines[0].finish(submit)
    done = [await task for i, task in enumerate(tasks) if i != 2]
    assert [text_of(one) for one in done] == ["0", "1", "3", "4"]


async def test_those_that_wait_for_an_engines_answer_are_bounded(
    pool: EnginePool, engines: list[FakeEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "WINDOW", 1)
    monkeypatch.setattr(pools, "MOST_HELD", 1)
    tasks = [ask(pool), ask(pool)]
    await engines[0].submitted()
    error = await error_of(ask(pool))
    assert error.detail == "no engine has answered and 1 requests wait for one"
    engines[0].finish(engines[0].submits[0])
    engines[0].finish((await engines[0].submitted(2))[1])
    await asyncio.gather(*tasks)


async def test_when_an_engine_is_full_those_that_wait_behind_are_refused_unasked(
    pool: EnginePool, engines: list[FakeEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "WINDOW", 1)
    tasks = [ask(pool, str(i)) for i in range(4)]
    (first,) = await engines[0].submitted()
    engines[0].say(wire.Accepted(id=first.id, backlog=1.8, lsn=0))
    (_, second) = await engines[0].submitted(2)
    engines[0].say(wire.problem_of(second.id, Overloaded("1.8 s are queued", retry_after=1.8)))
    error = await error_of(tasks[1])
    assert isinstance(error, Overloaded)
    assert error.detail == "1.8 s are queued"
    for task in tasks[2:]:
        error = await error_of(task)
        assert isinstance(error, Overloaded)
        assert error.detail == "1.8 s of work are queued; at most 2 s are taken on"
        assert error.retry_after == pytest.approx(1.8, abs=0.5)
    assert len(engines[0].submits) == 2
    engines[0].finish(first)
    await tasks[0]
    following = ask(pool, "next")
    engines[0].finish((await engines[0].submitted(3))[2])
    assert text_of(await following) == "next"


async def test_while_one_engine_is_full_another_is_asked(engines: list[FakeEngine], monkeypatch) -> None:
    monkeypatch.setattr(pools, "WINDOW", 1)
    pool = EnginePool([str(engine.path) for engine in engines])
    await pool.start()
    await until(lambda: all(state.ready for state in pool.engines))
    tasks = [ask(pool, str(i)) for i in range(3)]
    await until(lambda: all(engine.submits for engine in engines))
    refused, other = engines[0].submits[0], engines[1].submits[0]
    engines[0].say(wire.problem_of(refused.id, Overloaded("full", retry_after=1.0)))
    (_, third) = await engines[0].submitted(2)
    engines[0].finish(third)
    engines[1].finish(other)
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(one) for one in found].count(Overloaded) == 1
    assert [type(one) for one in found].count(Completed) == 2
    await pool.close()


async def test_a_cancelled_held_request_is_not_sent_later(tmp_path: Path) -> None:
    engine = FakeEngine(tmp_path / "late.sock")
    pool = EnginePool([str(engine.path)])
    await pool.start()
    gone, stays = ask(pool, "gone"), ask(pool, "stays")
    await asyncio.sleep(0.01)
    gone.cancel()
    await engine.open()
    (submit,) = await engine.submitted()
    engine.finish(submit)
    done = await stays
    assert isinstance(done.result, TextResult)
    assert done.result.outputs[0].text == "stays"
    assert len(engine.submits) == 1
    await pool.close()
    await engine.close()


@pytest.mark.parametrize("nonsense", [b"\xff\xff\xff\xff", b"\x00\x00\x00\x01\xc1"])
async def test_nonsense_from_an_engine_ends_the_connection(
    pool: EnginePool, engines: list[FakeEngine], nonsense: bytes
) -> None:
    engines[0].write(nonsense)
    await until(lambda: pool.engines[0].deaths == 1)
    await until(lambda: pool.ready)


async def test_an_engine_of_another_protocol_is_never_ready(engines: list[FakeEngine]) -> None:
    engines[1].hello = wire.Hello(protocol=99, build="9", pid=1, models=[], backlog_limit=1.0)
    pool = EnginePool([str(engines[1].path)])
    await pool.start()
    await asyncio.sleep(0.1)
    assert not pool.ready
    await pool.close()
