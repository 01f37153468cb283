"""SIGHUP starts every process anew, on what is on the disk by then, while all requests are answered."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from contextlib import closing
from pathlib import Path

import pytest

from perfuse.evaluation.load import Connection, Server, serving

BODY = {"modality": "text", "prompt": "Return the sum of a list.", "length": 4, "steps": 2, "seed": 0}
CLIENTS = 6
SECONDS = 120.0


async def renewed(server: Server, before: dict[str, list[int]]) -> None:
    """Wait until no process of before is left and all parts are there again."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        now = server.children()
        parts = ("front", "engine", "learner", "nursery")
        if not any(set(before[part]) & set(now[part]) for part in parts) and all(
            len(now[part]) == len(before[part]) for part in parts
        ):
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"{before} became {server.children()}")


@pytest.mark.proof
async def test_no_request_fails_while_every_process_is_started_anew(tmp_path: Path) -> None:
    answered: list[int] = []
    stop = asyncio.Event()

    async def client(server: Server) -> None:
        with closing(Connection(server.port)) as connection:
            while not stop.is_set():
                answered.append((await connection.request("POST", "/diffuse", BODY)).status)

    with serving(tmp_path / "data", "--workers", "2", "--threads", "1") as server:
        await server.ready(SECONDS)
        while len(server.children()["learner"]) != 1:
            await asyncio.sleep(0.1)
        before = server.children()
        clients = [asyncio.create_task(client(server)) for _ in range(CLIENTS)]
        os.kill(server.process.pid, signal.SIGHUP)
        await renewed(server, before)
        there = len(answered)
        while len(answered) < there + 2 * CLIENTS:
            await asyncio.sleep(0.05)
        stop.set()
        await asyncio.gather(*clients)
        assert set(answered) == {200}
        assert server.stop() == 0
    lines = (tmp_path / "data" / "logs" / "supervisor.jsonl").read_text().splitlines()
    events = [json.loads(line)["event"] for line in lines]
    assert [event for event in events if event.startswith("restart_")] == ["restart_begins", "restart_ends"]
