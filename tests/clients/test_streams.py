"""Streams of a real server: events, leaving early, and parts of the server that are killed meanwhile."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections.abc import Callable

import pytest
from perfuse_client import (
    Accepted,
    AsyncClient,
    Client,
    InvalidRequest,
    Overloaded,
    Preview,
    Restarted,
    Result,
    Retries,
    Step,
    StreamBroken,
    TimedOut,
    UnexpectedAnswer,
)
from perfuse_client.models import DiffuseAnswer

from clients.conftest import Taught
from clients.scripted_http import answer, answering, events, problem

PROMPT = "Given numbers, keep those that are even, double each one and return them sorted."
LONG = {
    "prompt": "Return the sum of a list. " * 12,
    "length": 96,
    "steps": 96,
    "sampler": "low_confidence",
    "temperature": 10.0,  # nonsense does not end early
}


def test_a_text_fills_in_before_the_eyes(taught: Taught) -> None:
    with Client(taught.url) as client:
        told = list(client.diffuse_stream(prompt=PROMPT, seed=7, adaptation="none"))
        plain = client.diffuse(prompt=PROMPT, seed=7, adaptation="none")
    assert isinstance(told[0], Accepted)
    assert isinstance(told[-1], Result)
    assert told[-1].answer.outputs == plain.outputs
    seen = [event for event in told if isinstance(event, Preview)]
    assert [event.step for event in seen] == sorted(event.step for event in seen)
    assert seen[0].canvas is not None
    assert "░" in seen[0].canvas


async def test_a_plan_is_drawn_while_it_is_made(taught: Taught) -> None:
    goal = {"position": [1.0, 1.0]}
    async with AsyncClient(taught.url) as client:
        stream = client.plan_stream(environment="maze2d-umaze", state=[3, 1, 0, 0], goal=goal, seed=1)
        told = [event async for event in stream]
        again = client.diffuse_stream(prompt=PROMPT, seed=7)
        texts = [event async for event in again]
    assert isinstance(told[-1], Result)
    assert told[-1].answer.status == "verified"
    assert any(isinstance(event, Preview) and event.states for event in told)
    assert isinstance(texts[-1], Result)


def test_a_plan_is_drawn_for_those_who_wait_too(taught: Taught) -> None:
    with Client(taught.url) as client:
        *_, last = client.plan_stream(
            environment="maze2d-umaze", state=[3, 1, 0, 0], goal={"position": [1.0, 1.0]}, seed=1
        )
    assert isinstance(last, Result)


def test_a_refused_stream_raises_before_its_first_event(taught: Taught) -> None:
    with Client(taught.url) as client, pytest.raises(InvalidRequest) as caught:
        next(client.diffuse_stream(prompt=PROMPT, steps=0))
    assert caught.value.field == "/steps"
    assert caught.value.request_id in str(caught.value)


# leaving --------------------------------------------------------------------------------------------------------------


async def metric(client: AsyncClient, name: str) -> float:
    found = re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", await client.exposition(), re.MULTILINE)
    return sum(map(float, found))


async def freed(client: AsyncClient, cancelled: float) -> None:
    """Until the engine has dropped one more request than `cancelled`, and works on none."""
    deadline = time.monotonic() + 60
    while await metric(client, "perfuse_engine_cancelled_total") <= cancelled or await metric(
        client, "perfuse_engine_in_flight"
    ):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)


async def test_leaving_the_loop_frees_the_engine(taught: Taught) -> None:
    async with AsyncClient(taught.url) as client:
        before = await metric(client, "perfuse_engine_cancelled_total")
        async for event in client.diffuse_stream(**LONG):
            if isinstance(event, (Step, Preview)):
                break
        await freed(client, before)


async def test_closing_a_stream_frees_the_engine(taught: Taught) -> None:
    async with AsyncClient(taught.url) as client:
        before = await metric(client, "perfuse_engine_cancelled_total")
        with Client(taught.url) as waiting:
            stream = waiting.diffuse_stream(**LONG)
            assert isinstance(next(stream), Accepted)
            stream.close()
            await freed(client, before)


async def test_cancelling_a_task_frees_the_engine(taught: Taught) -> None:
    async with AsyncClient(taught.url) as client:
        before = await metric(client, "perfuse_engine_cancelled_total")
        task = asyncio.create_task(client.diffuse(**LONG))
        while not await metric(client, "perfuse_engine_in_flight"):
            await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await freed(client, before)


async def test_running_out_of_time_frees_the_engine_and_is_not_tried_again(taught: Taught) -> None:
    async with AsyncClient(taught.url) as client:
        before = await metric(client, "perfuse_engine_cancelled_total")
        with pytest.raises(TimedOut, match=r"^POST /diffuse: ReadTimeout \(request [0-9a-f]{32}\)$"):
            await client.diffuse(**LONG, n=4, timeout=0.4)
        await freed(client, before)
        assert await metric(client, "perfuse_engine_cancelled_total") == before + 1


# kills ----------------------------------------------------------------------------------------------------------------


async def kill(taught: Taught, part: str) -> None:
    for pid in taught.server.children()[part]:
        os.kill(pid, signal.SIGKILL)


async def test_a_server_killed_under_a_stream_raises_stream_broken(taught: Taught) -> None:
    async with AsyncClient(taught.url) as client:
        stream = client.diffuse_stream(**LONG)
        assert isinstance(await stream.__anext__(), Accepted)
        await kill(taught, "front")
        with pytest.raises(StreamBroken) as caught:
            async for _ in stream:
                pass
        assert re.fullmatch("[0-9a-f]{32}", caught.value.request_id)
        assert (await client.diffuse(prompt=PROMPT)).outputs  # the front is back; retries bridge the gap


async def test_a_killed_engine_restarts_the_request(taught: Taught) -> None:
    async with AsyncClient(taught.url) as client:
        told = []
        async for event in client.diffuse_stream(**LONG, seed=1):
            told.append(event)
            if len(told) == 2:
                await kill(taught, "engine")
    assert [event.restarts for event in told if isinstance(event, Restarted)] == [1]
    assert isinstance(told[-1], Result)
    assert told[-1].answer.restarts == 1


# what a perfuse server does rarely or never ---------------------------------------------------------------------------

ACCEPTED = b'event: accepted\r\ndata: {"backlog_seconds": 0.5, "snapshot": 3}\r\n\r\n'


async def told_by(url: str) -> list[object]:
    async with AsyncClient(url) as client:
        return [event async for event in client.diffuse_stream(prompt="x")]


def told_to_the_patient(url: str) -> list[object]:
    with Client(url) as client:
        return list(client.diffuse_stream(prompt="x"))


@pytest.fixture(params=["sync", "async"])
def listen(request: pytest.FixtureRequest) -> Callable[[str], list[object]]:
    if request.param == "sync":
        return told_to_the_patient
    return lambda url: asyncio.run(told_by(url))


def test_pings_unknown_events_and_strange_line_ends_are_taken(listen: Callable[[str], list[object]]) -> None:
    result = {
        "id": "gen_1", "model": "m", "outputs": [], "confidence": 1.0, "steps_done": 1, "attribution": [], "seed": 1,
        "snapshot": 3, "restarts": 0, "recorded": True, "timing_ms": {"queue": 0, "compute": 0, "total": 0},
        "from_a_later_server": 1,
    }  # fmt: skip
    body = answer(200, result).partition(b"\r\n\r\n")[2]
    blocks = [
        b": ping\n\n",
        ACCEPTED,
        b"event: novelty\ndata: {}\n\n",
        'event: preview\ndata: {"step": 1, "of": 2,\ndata: "canvas": "a\u2028b", "settled": ["a"]}\n\n'.encode(),
        b"event:step\ndata:" + b'{"step": 2, "of": 2}\n\n',
        b"event: result\ndata: " + body + b"\n\n",
    ]
    with answering(events(*blocks)) as script:
        accepted, preview, step, last = listen(script.url)
    assert accepted == Accepted(backlog_seconds=0.5, snapshot=3)
    assert isinstance(preview, Preview)
    assert (preview.canvas, preview.model_extra) == ("a\u2028b", {"settled": ["a"]})
    assert step == Step(step=2, of=2)
    assert isinstance(last, Result)
    assert isinstance(last.answer, DiffuseAnswer)
    assert script.received[0].headers["accept"] == "text/event-stream"
    assert script.received[0].json() == {"modality": "text", "stream": True, "prompt": "x"}


def test_a_stream_that_ends_early_is_broken(listen: Callable[[str], list[object]]) -> None:
    with answering(events(ACCEPTED)) as script, pytest.raises(StreamBroken) as caught:
        listen(script.url)
    assert caught.value.args[0] == "POST /diffuse: the stream ended before its result"
    assert caught.value.request_id == script.received[0].headers["x-request-id"]


def test_a_stream_that_is_cut_is_broken(listen: Callable[[str], list[object]]) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 999\r\n\r\n"
    with answering(head + ACCEPTED) as script, pytest.raises(StreamBroken, match="POST /diffuse: peer closed"):
        listen(script.url)


def test_a_result_counts_even_if_the_connection_breaks_behind_it(listen: Callable[[str], list[object]]) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 9999\r\n\r\n"
    result = (
        b'event: result\ndata: {"id":"g","model":"m","outputs":[],"confidence":1,"steps_done":1,"attribution":[],'
        b'"seed":1,"snapshot":3,"restarts":0,"recorded":true,"timing_ms":{"queue":0,"compute":0,"total":0}}\n\n'
    )
    with answering(head + result) as script:
        (last,) = listen(script.url)
    assert isinstance(last, Result)


def test_an_error_event_is_raised(listen: Callable[[str], list[object]]) -> None:
    said = answer(200, problem(429, "overloaded", retry_after=2.5)).partition(b"\r\n\r\n")[2]
    stream = events(ACCEPTED, b"event: error\ndata: " + said + b"\n\n")
    with answering(stream) as script, pytest.raises(Overloaded) as caught:
        listen(script.url)
    assert (caught.value.status, caught.value.retry_after) == (429, 2.5)


@pytest.mark.parametrize(
    "stream",
    [events(b"event: accepted\ndata: {}\n\n"), answer(200, {"id": "no stream"})],
    ids=["event", "content"],
)
def test_a_stream_of_something_else_is_unexpected(stream: bytes, listen: Callable[[str], list[object]]) -> None:
    with answering(stream) as script, pytest.raises(UnexpectedAnswer):
        listen(script.url)


def test_a_stream_is_asked_for_again_until_its_first_event(listen: Callable[[str], list[object]]) -> None:
    refused = answer(429, problem(429, "overloaded", retry_after=0.01))
    with answering(refused, events(ACCEPTED)) as script, pytest.raises(StreamBroken):
        listen(script.url)
    assert len(script.received) == 2


def test_a_silent_stream_times_out() -> None:
    with answering(None) as script, Client(script.url, retries=Retries(most=0)) as client, pytest.raises(TimedOut):
        next(client.diffuse_stream(prompt="x", timeout=0.05))
