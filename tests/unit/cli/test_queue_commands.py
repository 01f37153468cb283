"""`perfuse queue` on a real inbox: what it prints and what it refuses."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from perfuse.cli.app import main
from perfuse.queue.inbox import Put, connect

Perfuse = Callable[..., tuple[int, str, str]]


@pytest.fixture
def perfuse(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Perfuse:
    """Runs the command line; gives exit code, stdout and stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["perfuse", "queue", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return (int(ended.value.code or 0), *capsys.readouterr())

    return run


@pytest.fixture
def filled(tmp_path: Path) -> list[str]:
    """A data directory whose inbox holds one waiting and two dead items; their ids."""

    async def fill() -> list[str]:
        inbox = connect("sqlite", tmp_path)
        await inbox.open()
        ids = [await inbox.put(Put(b"x" * n)) for n in (1, 2, 3)]
        first, second, third = await inbox.lease(3, 60)
        await inbox.extend(first, 0)
        await inbox.begin(second)
        await inbox.dead(second, "not feedback")
        await inbox.dead(third, "?")
        await inbox.close()
        return ids

    return asyncio.run(fill())


def test_stats_are_lines_or_json(perfuse: Perfuse, tmp_path: Path, filled: list[str]) -> None:
    code, out, err = perfuse("stats", "--data-dir", str(tmp_path))
    assert (code, err) == (0, "")
    assert out.splitlines()[:4] == ["waiting 1", "leased 0", "dead 2", "bytes 6"]
    found = json.loads(perfuse("stats", "--data-dir", str(tmp_path), "--json")[1])
    assert found.pop("oldest_seconds") >= 0
    assert found == {"waiting": 1, "leased": 0, "dead": 2, "bytes": 6}


def test_an_empty_queue_has_no_oldest_item(perfuse: Perfuse, tmp_path: Path) -> None:
    (tmp_path / "inbox.sqlite3").touch()
    assert perfuse("stats", "--data-dir", str(tmp_path))[1].splitlines()[-1] == "oldest_seconds -"


def test_the_dead_are_listed_with_the_reason(perfuse: Perfuse, tmp_path: Path, filled: list[str]) -> None:
    code, out, err = perfuse("dead", "ls", "--data-dir", str(tmp_path))
    rows = [line.split("\t") for line in out.splitlines()]
    assert [(row[0], row[1], row[2], row[4]) for row in rows] == [
        (filled[1], "1", "2", "not feedback"),
        (filled[2], "0", "3", "?"),
    ]
    assert (code, err) == (0, "2 dead; `perfuse queue dead retry ID` tries one again, `dead drop ID` forgets it\n")
    listed = json.loads(perfuse("dead", "ls", "--data-dir", str(tmp_path), "--json")[1])
    assert [item["id"] for item in listed] == filled[1:]


def test_the_dead_are_retried_and_dropped(perfuse: Perfuse, tmp_path: Path, filled: list[str]) -> None:
    assert perfuse("dead", "retry", filled[1], "--data-dir", str(tmp_path)) == (0, "", f"retried {filled[1]}\n")
    code, out, err = perfuse("dead", "drop", filled[2], "--data-dir", str(tmp_path), "--json")
    assert (code, json.loads(out), err) == (0, {"dropped": filled[2]}, "")
    found = json.loads(perfuse("stats", "--data-dir", str(tmp_path), "--json")[1])
    assert (found["waiting"], found["dead"], found["bytes"]) == (2, 0, 3)


def test_what_is_not_there_is_said(perfuse: Perfuse, tmp_path: Path, filled: list[str]) -> None:
    assert perfuse("dead", "drop", filled[0], "--data-dir", str(tmp_path)) == (
        1,
        "",
        f"error: no dead item has the id {filled[0]}\nhint:  `perfuse queue dead ls` lists them\n",
    )
    empty = tmp_path / "empty"
    assert perfuse("stats", "--data-dir", str(empty)) == (
        2,
        "",
        f"error: there is no queue in {empty}\nhint:  give the server's --data-dir or --queue\n",
    )


def test_a_redis_that_is_not_there_is_said(perfuse: Perfuse, tmp_path: Path) -> None:
    code, out, err = perfuse("stats", "--queue", f"unix://{tmp_path}/nobody")
    assert (code, out) == (1, "")
    assert err.startswith("error: Redis cannot be reached: ")
