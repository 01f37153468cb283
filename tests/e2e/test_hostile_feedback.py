"""Feedback that means harm, over HTTP: it fails within seconds, alone, and the server goes on answering."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from perfuse.engine.housing import STORE
from perfuse.errors import NotFound
from perfuse.evaluation.load import Server, ask, children_of, command_of, serving
from perfuse.store import StoreReader
from perfuse.store.learning import FEEDBACK, Feedback
from plugged import installed

PROMPT = {"modality": "text", "prompt": "Return the sum of a list.", "length": 4, "steps": 1}
TESTS = {"kind": "python_tests", "entry_point": "total", "cases": [{"args": [[1, 2]], "expected": 3}]}
HONEST = "def total(values):\n    return sum(values)\n"
HOSTILE = {
    "never ends": "def total(values):\n    while True:\n        pass\n",
    "sleeps": "import time\ndef total(values):\n    time.sleep(3600)\n",
    "forks": "import os\ndef total(values):\n    while True:\n        os.fork()\n",
    "prints a gigabyte": "def total(values):\n    print('x' * 2**30)\n    return 3\n",
    "returns a gigabyte": "def total(values):\n    return 'x' * 2**30\n",
    "kills its judge": "import os\ndef total(values):\n    os.kill(os.getppid(), 9)\n    os._exit(0)\n",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("hostile") / "data") as started:
        asyncio.run(started.ready())
        yield started


async def correct(server: Server, corrections: dict[str, str]) -> None:
    for source, code in corrections.items():
        identity = (await ask(server.port, "POST", "/diffuse", PROMPT)).json()["id"]
        body = {"generation_id": identity, "source": source.replace(" ", "-"), "correction": code, "verifier": TESTS}
        assert (await ask(server.port, "POST", "/feedback", body)).status == 202


async def judged(server: Server, source: str, seconds: float) -> dict[str, Feedback]:
    """Rows by source, once there is one of `source`."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            with StoreReader(server.data_dir / STORE) as reader:
                found = {row.source: row for row in FEEDBACK.scan(reader.snapshot())}
        except NotFound:
            found = {}
        if source in found:
            return found
        assert time.monotonic() < deadline, f"{source} not within {seconds:g} s; there are {sorted(found)}"
        assert (await ask(server.port, "POST", "/diffuse", PROMPT)).status == 200
        await asyncio.sleep(0.2)


def test_hostile_corrections_fail_within_seconds_and_harm_nobody(server: Server) -> None:
    asyncio.run(correct(server, {**HOSTILE, "honest": HONEST}))
    found = asyncio.run(judged(server, "honest", 60))
    assert {source: row.correction_passed for source, row in found.items()} == {
        **{source.replace(" ", "-"): False for source in HOSTILE},
        "honest": True,
    }
    left = [command_of(pid) for pid in children_of(server.process.pid)]
    assert [command for command in left if "sandbox/child.py" in command] == []
    log = (server.data_dir.parent / f"{server.data_dir.name}.log").read_text()
    assert "child_died" not in log
    assert "Traceback" not in log


def test_a_verifier_of_another_package_judges(tmp_path: Path) -> None:
    """Over HTTP to the learning worker, which imports the package that the front only knows by name."""
    path = {"PYTHONPATH": str(installed(tmp_path / "packages", "perfuse-balanced"))}
    with serving(tmp_path / "data", environment=path) as server:
        rows = asyncio.run(_judged_by(server, {"right": "f(x)", "wrong": "f(x"}))
    assert (rows["right"].correction_passed, rows["right"].state) == (True, "curated")
    assert (rows["wrong"].correction_passed, rows["wrong"].reason) == (False, "its correction fails its own verifier")


async def _judged_by(server: Server, corrections: dict[str, str]) -> dict[str, Feedback]:
    await server.ready()
    for source, text in corrections.items():
        identity = (await ask(server.port, "POST", "/diffuse", PROMPT)).json()["id"]
        verifier = {"kind": "installed", "name": "balanced"}
        body = {"generation_id": identity, "source": source, "correction": text, "verifier": verifier}
        assert (await ask(server.port, "POST", "/feedback", body)).status == 202
    deadline = time.monotonic() + 60
    while True:
        rows = await judged(server, source, 60)
        if all(rows[source].state != "new" for source in corrections):
            return rows
        assert time.monotonic() < deadline
        await asyncio.sleep(0.2)
