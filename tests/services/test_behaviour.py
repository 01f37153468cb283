"""A real server with the shipped models: clients that leave, and more work than it takes on."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator

import pytest

from perfuse.evaluation.load import Answer, Connection, Server, ask, serving
from processes import PATIENCE

LONG = {
    "modality": "text",
    "prompt": "Return the sum of a list. " * 12,  # longer than the short ones, which so never ride in its batches
    "length": 96,
    "steps": 96,
    "sampler": "low_confidence",
    "temperature": 10.0,  # nonsense does not end early
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data_dir = tmp_path_factory.mktemp("behaviour") / "data"
    with serving(data_dir, "--max-backlog-seconds", "2", "--evolution", "off") as started:
        asyncio.run(started.ready())
        yield started


async def counter(server: Server, name: str) -> float:
    text = (await ask(server.port, "GET", "/metrics")).body.decode()
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE))


async def settled(server: Server, name: str) -> float:
    """The counter once it has not moved for longer than two heartbeats."""
    value = -1.0
    while (now := await counter(server, name)) != value:
        value = now
        await asyncio.sleep(0.8)
    return value


def forwards(answer: Answer) -> int:
    return sum(output["forwards"] for output in answer.json()["outputs"])  # type: ignore[attr-defined]


async def test_requests_whose_clients_leave_before_their_turn_cost_no_step(server: Server) -> None:
    await ask(server.port, "POST", "/diffuse", {**LONG, "length": 8})
    before = await settled(server, "perfuse_engine_rows_total")
    stay = asyncio.create_task(ask(server.port, "POST", "/diffuse", {**LONG, "priority": 10}))
    await asyncio.sleep(0.05)
    leaving = [Connection(server.port) for _ in range(20)]
    short = {"modality": "text", "prompt": "a", "length": 8, "priority": -10}
    waiting = [asyncio.create_task(connection.request("POST", "/diffuse", short)) for connection in leaving]
    await asyncio.sleep(0.1)
    for connection, task in zip(leaving, waiting, strict=True):
        task.cancel()
        connection.close()
    await asyncio.gather(*waiting, return_exceptions=True)
    answer = await stay
    assert answer.status == 200
    computed = await settled(server, "perfuse_engine_rows_total") - before
    assert computed == forwards(answer) >= 16


async def test_a_running_request_is_freed_when_its_client_leaves(server: Server) -> None:
    before = await settled(server, "perfuse_engine_rows_total")
    connection = Connection(server.port)
    task = asyncio.create_task(connection.request("POST", "/diffuse", {**LONG, "n": 4}))
    await asyncio.sleep(0.15)
    task.cancel()
    connection.close()
    computed = await settled(server, "perfuse_engine_rows_total") - before
    assert 0 < computed < 4 * 96 / 2


async def test_more_work_than_the_backlog_takes_is_refused_at_once_with_a_retry_after_that_leads_in(
    server: Server,
) -> None:
    body = {"modality": "text", "prompt": "Return the sum of a list.", "length": 64}
    await asyncio.gather(*(ask(server.port, "POST", "/diffuse", body) for _ in range(8)))
    answers = await asyncio.gather(*(ask(server.port, "POST", "/diffuse", {**body, "seed": i}) for i in range(500)))
    refused = [answer for answer in answers if answer.status == 429]
    assert {answer.status for answer in answers} == {200, 429}
    assert len(refused) >= 300
    hints = {int(answer.headers["retry-after"]) for answer in refused}
    assert hints <= {1, 2}  # the most it takes on is two seconds of work
    waits = [float(str(answer.json()["retry_after"])) for answer in refused]
    assert all(0 < wait <= 2 for wait in waits)
    async with asyncio.timeout(PATIENCE):
        while (again := await ask(server.port, "POST", "/diffuse", body)).status == 429:
            await asyncio.sleep(int(again.headers["retry-after"]))
    assert again.status == 200
    assert all(answer.headers["content-type"] == "application/problem+json" for answer in refused)
    assert all(answer.json()["code"] == "overloaded" for answer in refused)
