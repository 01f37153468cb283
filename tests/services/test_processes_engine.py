"""Engine processes behind a pool: answers, isolation of culprits, drain, refusals at start."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from perfuse.dispatch.engines import EnginePool
from perfuse.dispatch.pool import Completed, Event, RestartedEvent
from perfuse.engine import flight
from perfuse.engine.launch import EXIT_CHECKPOINT
from perfuse.errors import GenerationFailed, NonFiniteOutput, PerfuseError, WorkerKilled
from perfuse.requests import TextRequest
from processes import EngineProcess

Start = Callable[..., EngineProcess]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    engines: list[EngineProcess] = []

    def begin(**options: object) -> EngineProcess:
        engines.append(EngineProcess(tmp_path, len(engines), **options))
        return engines[-1]

    yield begin
    for engine in engines:
        engine.stop()


@asynccontextmanager
async def pool_of(*engines: EngineProcess) -> AsyncIterator[EnginePool]:
    """A pool whose engines are started again when they die, as a supervisor would."""
    pool = EnginePool([str(engine.path) for engine in engines])
    await pool.start()
    living = True

    async def keep_running() -> None:
        while living:
            for engine in engines:
                if engine.process.poll() is not None and engine.process.stderr is not None:
                    engine.process.stderr.close()
                    engine.start()
            await asyncio.sleep(0.02)

    keeper = asyncio.create_task(keep_running())
    try:
        yield pool
    finally:
        living = False
        await keeper
        await pool.close()


async def answers(pool: EnginePool, *prompts: str, steps: int = 4) -> list[Completed | PerfuseError]:
    requests = (pool.run("text", TextRequest(prompt=prompt, steps=steps)) for prompt in prompts)
    found = await asyncio.gather(*requests, return_exceptions=True)
    assert all(isinstance(answer, (Completed, PerfuseError)) for answer in found), found
    return found  # type: ignore[return-value]


def text(answer: Completed | PerfuseError) -> str:
    assert isinstance(answer, Completed), repr(answer)
    return answer.result.outputs[0].text  # type: ignore[union-attr]


async def test_requests_sent_before_the_engine_is_up_are_answered(start: Start) -> None:
    async with pool_of(start()) as pool:
        assert not pool.ready
        found = await answers(pool, *"abcdefgh")
        assert [text(answer) for answer in found] == list("abcdefgh")
        assert pool.ready
        assert [model.name for model in pool.models] == ["scripted@1"]
        await asyncio.sleep(0.3)
        counters = pool.counters()
        assert counters["finished"] == 8
        assert counters["rows"] == 32
        assert counters["engine_deaths"] == 0
        assert counters["in_flight"] == 0


@pytest.mark.parametrize(
    ("prompt", "kind", "message"),
    [
        ("raise", GenerationFailed, "the forward of scripted@1 raised RuntimeError: scripted"),
        ("nan", NonFiniteOutput, "the forward of scripted@1 gave NaN or infinity"),
    ],
)
async def test_a_failing_request_among_8_fails_alone(
    start: Start, prompt: str, kind: type[PerfuseError], message: str
) -> None:
    async with pool_of(start()) as pool:
        *good, bad = await answers(pool, *"abcdefg", prompt)
        assert [text(answer) for answer in good] == list("abcdefg")
        assert type(bad) is kind
        assert bad.detail == message


@pytest.mark.parametrize("prompt", ["kill", "kill-host"])
async def test_a_request_that_kills_the_engine_among_8_is_refused_alone(start: Start, prompt: str) -> None:
    engine = start()
    async with pool_of(engine) as pool:
        await answers(pool, "first")
        *good, bad = await asyncio.wait_for(answers(pool, *"abcdefg", prompt), 60)
        assert [text(answer) for answer in good] == list("abcdefg")
        assert isinstance(bad, WorkerKilled)
        assert bad.status == 500
        assert pool.counters()["engine_deaths"] <= (2 if prompt == "kill" else 5)
        assert text((await answers(pool, "after"))[0]) == "after"
        assert pool.counters()["killers"] == 1


async def test_a_wedged_engine_is_killed_and_its_culprit_refused(start: Start) -> None:
    engine = start(wedge_seconds=0.6)
    async with pool_of(engine) as pool:
        good, bad = await asyncio.wait_for(answers(pool, "a", "wedge"), 60)
        assert text(good) == "a"
        assert isinstance(bad, WorkerKilled)
        assert pool.counters()["engine_deaths"] == 2


async def test_requests_on_a_killed_engine_start_again_on_another(start: Start) -> None:
    first, second = start(), start()
    async with pool_of(first, second) as pool:
        await until(lambda: sum(engine.ready for engine in pool.engines) == 2, 90)
        events: list[Event] = []
        running = [
            asyncio.create_task(
                pool.run("text", TextRequest(prompt=str(i), steps=60), on_event=events.append if i == 0 else None)
            )
            for i in range(8)
        ]
        await until(lambda: min(engine.in_flight for engine in pool.engines) == 4)
        await asyncio.sleep(0.1)
        first.process.kill()
        second_pid = str(second.process.pid)
        found = await asyncio.gather(*running)
        assert [text(answer) for answer in found] == [str(i) for i in range(8)]
        assert sorted(answer.restarts for answer in found) == [0] * 4 + [1] * 4
        assert sum(answer.result.outputs[0].fill == second_pid for answer in found) >= 5  # type: ignore[union-attr]
        assert RestartedEvent(1) in events or found[0].restarts == 0


async def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def test_an_engine_told_to_end_finishes_what_runs_and_leaves_no_suspects(start: Start) -> None:
    engine = start()
    async with pool_of(engine) as pool:
        await answers(pool, "warm")
        flight_path = engine.flight
        running = asyncio.create_task(pool.run("text", TextRequest(prompt="long", steps=60)))
        await asyncio.sleep(0.1)
        engine.process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.02)
        late = asyncio.create_task(pool.run("text", TextRequest(prompt="late", steps=1)))
        done = await running
        assert text(done) == "long"
        assert done.restarts == 0
        assert text(await late) == "late"
        assert engine.starts == 2
        assert flight.batch_of(flight_path) == frozenset()


async def test_cancelling_frees_a_running_request(start: Start) -> None:
    async with pool_of(start()) as pool:
        await answers(pool, "warm")
        running = asyncio.create_task(pool.run("text", TextRequest(prompt="long", steps=100_000)))
        await asyncio.sleep(0.2)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await until(lambda: pool.counters().get("cancelled") == 1.0)
        rows = pool.counters()["rows"]
        await asyncio.sleep(0.6)
        assert pool.counters()["rows"] <= rows + 1
        assert pool.counters()["backlog_seconds"] == 0.0


async def test_a_disconnected_front_frees_its_requests(start: Start) -> None:
    engine = start()
    async with pool_of(engine) as pool:
        await answers(pool, "warm")
        other = EnginePool([str(engine.path)])
        await other.start()
        running = asyncio.create_task(other.run("text", TextRequest(prompt="long", steps=100_000)))
        await asyncio.sleep(0.3)
        await other.close()
        with pytest.raises(PerfuseError, match="the server is stopping"):
            await running
        await until(lambda: pool.counters().get("cancelled") == 1.0)


async def test_previews_come_while_the_request_runs(start: Start) -> None:
    async with pool_of(start()) as pool:
        events: list[Event] = []
        await pool.run("text", TextRequest(prompt="seen", steps=20), on_event=events.append)
        names = [type(event).__name__ for event in events]
        assert names[0] == "AcceptedEvent"
        assert names.count("PreviewEvent") >= 5


def test_a_corrupt_model_ends_the_engine_with_a_clear_error(start: Start) -> None:
    engine = start(models=["corrupt"])
    _, errors = engine.process.communicate(timeout=30)
    assert errors.decode() == (
        "perfuse: the model file is cut short: expected 10 bytes, got 9\n  hint: download it again\n"
    )
    assert engine.process.returncode == EXIT_CHECKPOINT


def test_a_model_that_fails_its_warm_up_ends_the_engine(start: Start) -> None:
    engine = start(models=["poisoned"])
    _, errors = engine.process.communicate(timeout=30)
    assert errors.decode() == (
        "perfuse: the text model failed its warm-up request: the forward of scripted@1 gave NaN or infinity\n"
        "  hint: the model file is damaged or was trained to nonsense; load another one with --model\n"
    )
    assert engine.process.returncode == EXIT_CHECKPOINT


async def test_a_lone_request_is_answered_within_a_few_milliseconds(start: Start) -> None:
    async with pool_of(start()) as pool:
        await answers(pool, "warm")
        times = []
        for _ in range(30):
            began = time.perf_counter()
            await pool.run("text", TextRequest(prompt="a", steps=1))
            times.append(time.perf_counter() - began)
        assert min(times) < 0.008, "5 ms of forward and less than 3 ms of everything else"
