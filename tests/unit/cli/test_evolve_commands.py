"""`perfuse evolve` beside a worker on the real socket, and without a server on the store itself."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ordering import KIT, REFUSED, Scripted, bound, canary, champion, serving, teach, trained
from perfuse import orders
from perfuse.cli import ordering
from perfuse.cli.app import main
from perfuse.errors import Unavailable
from perfuse.evolution.learned import Learned
from perfuse.evolution.promote import reject
from perfuse.queue.inbox import Put, connect
from perfuse.store.aliases import current
from perfuse.store.kit import find_kit
from perfuse.store.learning import JOBS
from unit.evolution.learning import reopen

Perfuse = Callable[..., tuple[int, str, str]]
Evolve = Callable[..., tuple[int, str, str]]


@pytest.fixture
def perfuse(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Perfuse:
    """Runs the command line; gives exit code, stdout and stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["perfuse", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return (int(ended.value.code or 0), *capsys.readouterr())

    return run


@pytest.fixture
def learned(tmp_path: Path) -> Iterator[Learned]:
    """The store of a server, to be prepared before a command is run."""
    with reopen(tmp_path / "store") as opened:
        teach(opened, tenant="local")
        yield opened


@pytest.fixture(params=["beside a server", "alone"])
def evolve(request: pytest.FixtureRequest, perfuse: Perfuse, learned: Learned, tmp_path: Path) -> Iterator[Evolve]:
    """Runs `perfuse evolve`, once with a worker and once without."""
    data = str(tmp_path)
    if request.param == "beside a server":
        with running(learned, tmp_path):
            yield lambda *arguments: perfuse("evolve", *arguments, "--data-dir", data)
        return

    def alone(*arguments: str) -> tuple[int, str, str]:
        learned.store.close()
        return perfuse("evolve", *arguments, "--data-dir", data)

    yield alone


class running:  # noqa: N801  # used like a function
    """A worker that takes orders in a thread, as the lock file of its server says."""

    def __init__(self, learned: Learned, data_dir: Path) -> None:
        self._scripted = Scripted(learned)
        self._run = data_dir / "run"
        self._lock = data_dir / "server.lock"
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        async with serving(self._scripted, self._run / "evolution.sock"):
            self._ready.set()
            await self._end.wait()

    def __enter__(self) -> None:
        self._run.mkdir()
        self._lock.write_text(json.dumps({"pid": 1, "run": str(self._run)}))
        self._thread.start()
        assert self._ready.wait(10)

    def __exit__(self, *error: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()


def seen(tmp_path: Path, learned: Learned) -> Learned:
    """The store as the command has left it."""
    return learned if (tmp_path / "server.lock").exists() else reopen(tmp_path / "store")


def test_status_at_a_glance(evolve: Evolve, learned: Learned, tmp_path: Path) -> None:
    made, tried = champion(learned, tenant="local"), canary(learned, "k1", cluster="k", tenant="local")
    beside = (tmp_path / "server.lock").exists()
    code, out, err = evolve("status")
    assert (code, err) == (0, "")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[:3] == (
        ["stage train", "inbox 3 waiting", "feedback 6 curated"]
        if beside
        else ["stage no server is running", "inbox none", "feedback 6 curated"]
    )
    assert lines[4:] == [
        "cluster feedback champion canary last gate",
        f"c 3 {made.id} - promote, +30.0 points, p = 0.001",
        f"k 3 base model {tried.id} at 50% promote, +30.0 points, p = 0.001",
    ]


def test_status_shows_jobs_and_all_of_it_as_json(evolve: Evolve, learned: Learned) -> None:
    rejected = trained(learned, tenant="local")
    reject(learned, rejected.id, "no gain", REFUSED, 5.0)
    assert evolve("rebuild", "--cluster", "c")[::2] == (0, "1 jobs are queued or under way\n")
    lines = [line.split() for line in evolve("status")[1].splitlines()]
    assert ["job", "cluster", "state", "stage", "feedback", "changed", "reason"] in lines
    assert lines[-1][1:5] == ["c", "queued", "-", "3"]
    found = json.loads(evolve("status", "--json")[1])
    assert (found["feedback"], found["jobs"][0]["state"]) == ({"curated": 6}, "queued")
    assert found["clusters"][0]["last_gate"]["reasons"] == ["no gain"]


def test_adaptations_are_listed_and_shown(evolve: Evolve, learned: Learned) -> None:
    made = canary(learned, "d1", "a", "b", tenant="local")
    lines = [" ".join(line.split()) for line in evolve("list")[1].splitlines()]
    assert lines == [
        "adaptation cluster state gate feedback created reason",
        f"{made.id} c canary promote 2 1970-01-01T00:00:01Z passed the gate",
    ]
    assert [each["id"] for each in json.loads(evolve("list", "--json")[1])["adapters"]] == [made.id]
    code, out, err = evolve("show", made.id)
    assert (code, err) == (0, "")
    assert out.splitlines()[:5] == [
        f"adaptation  {made.id}",
        "state       canary: passed the gate",
        "cluster     c, radius 0.200",
        "gate        promote",
        "feedback    2 items from a, b",
    ]
    assert out.splitlines()[-2:] == ["report.gain 0.3", "report.p_value 0.001"]
    assert json.loads(evolve("show", made.id, "--json")[1])["sources"] == ["a", "b"]
    assert evolve("list", "--tenant", "u")[1].split() == lines[0].split()


def test_promoting_and_rolling_back(evolve: Evolve, learned: Learned, request: pytest.FixtureRequest) -> None:
    shipped = find_kit()
    assert shipped is not None
    served = shipped if "alone" in request.node.name else KIT
    made = trained(learned, tenant="local", base=served.base)
    assert evolve("promote", made.id) == (
        1,
        "",
        f"error: {made.id} has not passed the gate: it has no report yet\nhint:  wait for the gate, or force it\n",
    )
    assert evolve("promote", made.id, "--force") == (0, "", f"{made.id} is the champion of cluster c\n")
    assert evolve("rollback") == (0, "", "the base model serves cluster c\n")
    assert json.loads(evolve("rollback", made.id, "--json")[1])["champion"] is None
    assert evolve("rollback", "--cluster", "c") == (
        1,
        "",
        "error: no champion in cluster 'c'; the base model serves it\n",
    )


def test_revoking_and_purging(evolve: Evolve, perfuse: Perfuse, learned: Learned, tmp_path: Path) -> None:
    first, second = champion(learned, "d1", "b", tenant="local"), champion(learned, "d2", "a", tenant="local")
    said = "removed 2 items of feedback and 0 memories; retired 1 adaptations, cancelled 0 jobs, queued 1\n"
    assert evolve("revoke", "--source", "a") == (0, "", said)
    code, out, said = evolve("purge")
    assert (code, out) == (0, f"{second.blob}\n")
    assert re.fullmatch(r"removed 1 blobs and 0 recorded answers, freed \d+ bytes of the store\n", said)
    assert json.loads(evolve("purge", "--json")[1])["blobs"] == []
    code, out, said = perfuse("store", "purge", "--data-dir", str(tmp_path))
    assert (code, out) == (0, "")
    assert re.fullmatch(r"removed 0 blobs and 0 recorded answers, freed \d+ bytes of the store\n", said)
    with seen(tmp_path, learned) as after:
        assert current(after.store.snapshot(), "local", "c").champion == first.id


def test_without_a_server_the_inbox_is_counted_where_it_lies(
    perfuse: Perfuse, learned: Learned, tmp_path: Path
) -> None:
    learned.store.close()

    async def fill() -> None:
        inbox = connect("sqlite", tmp_path)
        await inbox.open()
        await inbox.put(Put(b"x"))
        await inbox.close()

    asyncio.run(fill())
    out = perfuse("evolve", "status", "--data-dir", str(tmp_path))[1]
    assert out.splitlines()[1] == "inbox     1 waiting, 0 leased, 0 dead"


def test_jobs_queued_without_a_server_are_for_the_served_model(
    perfuse: Perfuse, learned: Learned, tmp_path: Path
) -> None:
    learned.store.close()
    assert perfuse("evolve", "rebuild", "--data-dir", str(tmp_path))[0] == 0
    kit = find_kit()
    assert kit is not None
    with Learned.open(tmp_path / "store", kit.embedder) as after:
        assert {job.base for job in JOBS.scan(after.store.snapshot())} == {kit.base}


def test_a_store_that_another_process_owns(perfuse: Perfuse, learned: Learned, tmp_path: Path) -> None:
    owned = f"the store in {tmp_path / 'store'} is owned by process {os.getpid()}"
    hint = "stop the other process or use another directory"
    code, out, err = perfuse("evolve", "status", "--data-dir", str(tmp_path))
    assert (code, out, err) == (4, "", f"error: {owned}\nhint:  {hint}\n")


def test_while_the_worker_starts_the_store_is_left_to_it(perfuse: Perfuse, tmp_path: Path) -> None:
    with reopen(tmp_path / "store"):
        pass
    (tmp_path / "run").mkdir()
    (tmp_path / "server.lock").write_text(json.dumps({"run": str(tmp_path / "run")}))
    listening = bound(tmp_path / "run" / "evolution.sock")
    assert perfuse("evolve", "status", "--data-dir", str(tmp_path)) == (
        1,
        "",
        "error: the evolution worker is not running\nhint:  it is starting again; try again\n",
    )
    listening.close()


@pytest.mark.parametrize("lock", ["", "{}", "[]", '{"run": 7}', '{"run": "/nowhere"}'])
def test_what_a_killed_server_left_is_no_server(perfuse: Perfuse, learned: Learned, tmp_path: Path, lock: str) -> None:
    learned.store.close()
    (tmp_path / "server.lock").write_text(lock)
    assert perfuse("evolve", "status", "--data-dir", str(tmp_path))[0] == 0


def test_a_directory_without_a_store(perfuse: Perfuse, tmp_path: Path) -> None:
    assert perfuse("evolve", "list", "--data-dir", str(tmp_path)) == (
        2,
        "",
        f"error: there is no store at {tmp_path / 'store'}\nhint:  give the --data-dir of a server\n",
    )


def test_a_model_that_cannot_learn(perfuse: Perfuse, learned: Learned, tmp_path: Path) -> None:
    learned.store.close()
    (tmp_path / "model").mkdir()
    assert perfuse("evolve", "list", "--data-dir", str(tmp_path), "--model", str(tmp_path / "model")) == (
        2,
        "",
        "error: none of the models has a learning kit\nhint:  give the server's --model\n",
    )


def test_nothing_is_embedded_without_a_server(learned: Learned, tmp_path: Path) -> None:
    learned.store.close()
    order = orders.PutMemory(tenant="local", prompt="p", text="x", source="s")
    with pytest.raises(Unavailable, match="^1 prompts cannot be embedded: no server is running$"):
        ordering.carried_out(order, tmp_path)
