"""The server's application on Ray Serve: two replicas behind one port, one Redis."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from perfuse.evaluation.load import ask, children_of, free_port, part_of

APP = Path(__file__).parents[2] / "deploy" / "ray" / "app.py"
BODY = {"modality": "text", "prompt": "Double every number.", "length": 4, "steps": 1, "seed": 1, "reproducible": True}
SECONDS = 150.0
REPLICAS = 2


@dataclass(frozen=True)
class OnRay:
    port: int
    pid: int

    def engines(self) -> list[int]:
        return [pid for pid in children_of(self.pid) if part_of(pid) == "engine"]


@pytest.fixture
def ray(tmp_path: Path, start_redis) -> Iterator[OnRay]:
    secret = tmp_path / "secret"
    secret.write_bytes(os.urandom(32))
    environment = {
        **os.environ,
        "PERFUSE_QUEUE": start_redis(),
        "PERFUSE_SECRET": str(secret),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    port = free_port()
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, APP, str(port)], env=environment, stdout=log, stderr=log)
        deadline = time.monotonic() + SECONDS
        served = OnRay(port, process.pid)
        while not (_ready(port) and len(served.engines()) == REPLICAS):  # Ray answers as soon as one replica is there
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.5)
        yield served
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _ready(port: int) -> bool:
    try:
        return asyncio.run(ask(port, "GET", "/readyz")).status == 200
    except OSError:
        return False


@pytest.mark.proof
@pytest.mark.redis
@pytest.mark.timeout(300)
async def test_any_replica_knows_what_another_one_generated(ray: OnRay) -> None:
    answers = await asyncio.gather(*(ask(ray.port, "POST", "/diffuse", BODY) for _ in range(12)))
    assert {answer.status for answer in answers} == {200}
    assert len({answer.json()["outputs"][0]["text"] for answer in answers}) == 1
    for answer in answers:
        found = await ask(ray.port, "GET", f"/generations/{answer.json()['id']}")
        assert (found.status, found.json()["seed"]) == (200, 1)
        said = {"generation_id": answer.json()["id"], "source": "test", "accepted": True}
        assert (await ask(ray.port, "POST", "/feedback", said)).status == 202
    refused = await ask(ray.port, "POST", "/diffuse", {**BODY, "steps": 0})
    assert (refused.status, refused.headers["content-type"]) == (422, "application/problem+json")
    os.kill(ray.engines()[0], signal.SIGKILL)
    answers = await asyncio.gather(*(ask(ray.port, "POST", "/diffuse", BODY) for _ in range(12)))
    assert {answer.status for answer in answers} == {200}
