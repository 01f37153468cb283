"""The evolution worker under the real supervisor, with the shipped model: what it takes in, and what it survives."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from perfuse.engine.housing import STORE
from perfuse.evaluation.load import Server, ask, children_of, command_of, serving
from perfuse.evolution.learned import Learned
from perfuse.evolution.promote import admit, promote, start_canary
from perfuse.evolution.trigger import job_of
from perfuse.models.lora import fresh, to_bytes
from perfuse.models.text import read_config
from perfuse.pipelines.shipped import SHIPPED
from perfuse.store.kit import EMBEDDER_FILE, Kit, read_kit
from perfuse.store.learning import FEEDBACK, JOBS, Adaptation, Feedback

MODEL = SHIPPED / "code-small"
TENANT = "local"
PROMPT = "Return the sum of a list."
CODE = "def total(values):\n    return sum(values)\n"
TESTS = {"kind": "python_tests", "entry_point": "total", "cases": [{"args": [[1, 2]], "expected": 3}]}
ENDLESS = ("--train-steps", "100000")


def kit_of(model: Path = MODEL) -> Kit:
    found = read_kit(model)
    assert found is not None
    return found


def learner(server: Server) -> list[int]:
    """The worker; a child of its own has its name until it is another program."""
    return server.children()["learner"][:1]


def started_learner(server: Server) -> int:
    """The worker, once it is there: it is started after the engines."""
    found = asyncio.run(until(lambda: learner(server)))
    assert isinstance(found, list)
    return int(found[0])


def kill_learner(server: Server) -> None:
    """kill -9, once it is there."""
    os.kill(started_learner(server), signal.SIGKILL)


def trainers(server: Server) -> list[int]:
    return [pid for pid in children_of(server.process.pid) if "perfuse.training.adapt" in command_of(pid)]


def log_of(server: Server) -> str:
    return (server.data_dir.parent / f"{server.data_dir.name}.log").read_text()


async def until(found: Callable[[], Awaitable[object]] | Callable[[], object], seconds: float = 60.0) -> object:
    """What is found once it is truthy."""
    deadline = time.monotonic() + seconds
    while True:
        result = found()
        if isinstance(result, Awaitable):
            result = await result
        if result:
            return result
        assert time.monotonic() < deadline, f"not within {seconds:g} s"
        await asyncio.sleep(0.1)


async def status(server: Server) -> dict[str, object]:
    answer = await ask(server.port, "GET", "/evolution")
    return answer.json() if answer.status == 200 else {}


async def adapters(server: Server) -> list[dict[str, object]]:
    answer = await ask(server.port, "GET", "/adapters")
    return answer.json()["adapters"] if answer.status == 200 else []


async def asked(server: Server, **more: object) -> dict[str, object]:
    body = {"modality": "text", "prompt": PROMPT, "length": 8, "reproducible": True, **more}
    answer = await ask(server.port, "POST", "/diffuse", body)
    assert answer.status == 200, answer.body
    return answer.json()


async def corrected(server: Server) -> None:
    """One correction with tests over HTTP."""
    identity = (await asked(server))["id"]
    body = {"generation_id": identity, "source": "a", "correction": CODE, "verifier": TESTS}
    assert (await ask(server.port, "POST", "/feedback", body)).status == 202


# what a server finds when it starts -----------------------------------------------------------------------------------


def row(number: int, kit: Kit, vector: np.ndarray) -> Feedback:
    return Feedback(
        id=f"fb_{number}", tenant=TENANT, generation=f"g{number}", source="a", received=float(number), model="m@1",
        prompt=f"{PROMPT} {number}", prefix="", suffix="", output="pass\n", adaptations=(), correction=CODE,
        reward=None, verifier=json.dumps(TESTS), output_passed=False, correction_passed=True, state="curated",
        reason="verifier", cluster="c", embedder=kit.embedder.hash, embedding=vector.tobytes(),
    )  # fmt: skip


def direction(kit: Kit) -> np.ndarray:
    vector = np.zeros(kit.embedder.width, np.float32)
    vector[0] = 1
    return vector


def seed_job(data_dir: Path, kit: Kit) -> str:
    """A queued job on eight corrections, whose replay is there already; gives its id."""
    rows = [row(number, kit, direction(kit)) for number in range(8)]
    job = job_of(TENANT, "c", kit.base, rows, "8 new items", 1.0)
    with Learned.open(data_dir / STORE, kit.embedder) as learned:
        learned.store.commit([FEEDBACK.put(*rows), JOBS.put(job)])
    folder = data_dir / "evolution" / job.id
    folder.mkdir(parents=True)
    lesson = {"prompt": PROMPT, "prefix": "", "middle": CODE, "suffix": "", "weight": 1.0}
    (folder / "replay.jsonl").write_text(json.dumps(lesson))
    seed_reference(data_dir, kit)
    return job.id


def seed_reference(data_dir: Path, kit: Kit) -> None:
    """What takes a while to measure: here no anchor is like any request."""
    far = -direction(kit)
    known = {"vectors": [far.tobytes().hex()] * len(kit.anchors()), "tokens": 40.0}
    path = data_dir / "evolution" / f"reference-{kit.embedder.hash[:16]}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(known))


def seed_champion(data_dir: Path, kit: Kit) -> str:
    """A champion for every request, which changes no answer; gives its id."""
    rows = [row(number, kit, direction(kit)) for number in range(8)]
    data = to_bytes(fresh(read_config(MODEL).network, 4, 4.0, torch.Generator().manual_seed(0)))
    made = Adaptation(
        id="", tenant=TENANT, cluster="c", kind="lora", blob="", parent=None, base=kit.base,
        embedder=kit.embedder.hash, dataset="d", feedback=tuple(r.id for r in rows), sources=("a",), seed=0,
        config="{}", report="", state="candidate", reason="", centroid=tuple(direction(kit).tolist()), radius=2.0,
        created=1.0, changed=1.0,
    )  # fmt: skip
    with Learned.open(data_dir / STORE, kit.embedder) as learned:
        learned.store.commit([FEEDBACK.put(*rows)])
        identity = admit(learned, made, data).id
        start_canary(learned, identity, 0.5, "{}", 2.0)
        promote(learned, identity, "50 rows", 3.0)
    return identity


@contextmanager
def ready(data_dir: Path, *flags: str) -> Iterator[Server]:
    with serving(data_dir, *flags) as server:
        asyncio.run(server.ready())
        yield server


def stopped(server: Server) -> None:
    """SIGTERM ends everything, with exit code 0."""
    family = children_of(server.process.pid)
    assert server.stop() == 0
    assert [pid for pid in family if command_of(pid)] == []


# taking in ------------------------------------------------------------------------------------------------------------


def test_a_correction_with_tests_is_curated_within_seconds(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    seed_reference(data_dir, kit_of())

    async def taught(server: Server) -> float:
        await corrected(server)
        began = time.monotonic()
        await until(lambda: curated(server))
        return time.monotonic() - began

    async def curated(server: Server) -> bool:
        return (await status(server)).get("feedback") == {"curated": 1}

    with ready(data_dir) as server:
        assert asyncio.run(taught(server)) < 20
        stopped(server)
    with Learned.open(data_dir / STORE, kit_of().embedder) as learned:
        (found,) = FEEDBACK.scan(learned.store.snapshot())
    assert (found.prompt, found.correction, found.reason) == (PROMPT, CODE, "verifier")
    assert found.correction_passed is True
    assert found.embedder == kit_of().embedder.hash
    assert found.cluster.startswith("c_")


def test_feedback_is_sorted_although_engines_die_meanwhile(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    seed_reference(data_dir, kit_of())

    async def taught(server: Server) -> None:
        await corrected(server)
        for _ in range(3):
            for engine in server.children()["engine"]:
                os.kill(engine, signal.SIGKILL)
            await asyncio.sleep(0.4)
        await until(lambda: curated(server), 90)

    async def curated(server: Server) -> bool:
        return (await status(server)).get("feedback") == {"curated": 1}

    with ready(data_dir) as server:
        asyncio.run(taught(server))
        assert "child=evolution" not in log_of(server)
        stopped(server)


def test_a_model_without_a_kit_is_served_and_feedback_waits_for_one(tmp_path: Path) -> None:
    model, data_dir = tmp_path / "code-small", tmp_path / "data"
    shutil.copytree(MODEL, model)
    (model / EMBEDDER_FILE).rename(tmp_path / EMBEDDER_FILE)

    async def waiting(server: Server) -> bool:
        lines = (await ask(server.port, "GET", "/metrics")).body.decode().splitlines()
        return 'perfuse_inbox_items{state="waiting"} 1.0' in lines

    async def curated(server: Server) -> bool:
        return (await status(server)).get("feedback") == {"curated": 1}

    with ready(data_dir, "--model", str(model)) as server:
        asyncio.run(corrected(server))
        assert asyncio.run(waiting(server))
        worker = started_learner(server)
        asyncio.run(until(lambda: "no_learning_kit" in log_of(server)))
        refused = asyncio.run(ask(server.port, "GET", "/evolution"))
        assert (refused.status, refused.json()["detail"], refused.json()["hint"]) == (
            503,
            "this server cannot learn: its base model has no learning kit",
            "make one with `perfuse train kit`; feedback waits in the inbox until then",
        )
        os.kill(worker, signal.SIGTERM)
        asyncio.run(until(lambda: "child=evolution" in log_of(server) and "status='exit 0'" in log_of(server)))
        stopped(server)
    (tmp_path / EMBEDDER_FILE).rename(model / EMBEDDER_FILE)
    seed_reference(data_dir, kit_of(model))
    with ready(data_dir, "--model", str(model)) as server:
        asyncio.run(until(lambda: curated(server)))
        stopped(server)


# training -------------------------------------------------------------------------------------------------------------


def test_a_worker_ends_cleanly_in_the_middle_of_a_training(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    seed_job(data_dir, kit_of())
    with ready(data_dir, *ENDLESS) as server:
        asyncio.run(until(lambda: trainers(server)))
        (worker,), (trainer,) = learner(server), trainers(server)
        os.kill(worker, signal.SIGTERM)
        asyncio.run(until(lambda: learner(server) not in ([worker], []), 30))
        assert command_of(trainer) == ""
        assert "child=evolution restart_in_seconds=0.0 status='exit 0'" in log_of(server)
        asyncio.run(until(lambda: trainers(server)))
        stopped(server)
        assert "Traceback" not in log_of(server)


def test_a_worker_killed_in_a_training_goes_on_from_the_trainers_state(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    folder = data_dir / "evolution" / seed_job(data_dir, kit_of())
    progress = folder / "progress.json"

    def steps() -> int:
        return int(json.loads(progress.read_text())["step"])

    with ready(data_dir, *ENDLESS) as server:
        asyncio.run(until((folder / "state" / "state.pt").exists, 90))
        (trainer,) = trainers(server)
        kill_learner(server)
        asyncio.run(until(lambda: command_of(trainer) == ""))
        reached, written = steps(), progress.stat().st_mtime_ns
        asyncio.run(until(lambda: progress.stat().st_mtime_ns > written, 90))
        assert 1 < steps() <= reached + 100
        assert len(trainers(server)) == 1
        (job,) = asyncio.run(status(server))["jobs"]  # type: ignore[misc]
        assert (job["state"], job["attempt"]) == ("running", 1)  # it had got further
        stopped(server)


# what serves ----------------------------------------------------------------------------------------------------------


def test_where_bytes_are_damaged_the_base_model_answers_and_the_status_says_so(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    identity = seed_champion(data_dir, kit_of())
    seed_reference(data_dir, kit_of())
    (blob,) = (data_dir / STORE / "blobs").iterdir()

    async def served_by(server: Server) -> list[object]:
        return [each["id"] for each in (await asked(server))["attribution"]]  # type: ignore[union-attr]

    with ready(data_dir) as server:
        plain = asyncio.run(asked(server, adaptation="none"))
        assert asyncio.run(served_by(server)) == [identity]
        asyncio.run(until(lambda: status(server)))  # a worker that starts later finds the damage first
        blob.write_bytes(blob.read_bytes()[:-1] + b"?")
        (engine,) = server.children()["engine"]
        os.kill(engine, signal.SIGKILL)
        again = asyncio.run(asked(server))
        assert (again["outputs"], again["attribution"]) == (plain["outputs"], [])
        assert "adaptation_broken" in log_of(server)
        kill_learner(server)
        asyncio.run(until(lambda: "adaptation_damaged" in log_of(server)))
        (found,) = asyncio.run(until(lambda: adapters(server)))  # type: ignore[misc]
        assert found["state"] == "retired"
        assert found["reason"].startswith(f"its bytes cannot be read: blob {blob.name} holds ")
        (cluster,) = asyncio.run(status(server))["clusters"]  # type: ignore[misc]
        assert (cluster["champion"], cluster["canary"]) == (None, None)
        stopped(server)


def test_another_base_model_retires_what_was_learned_and_learns_it_again(tmp_path: Path) -> None:
    data_dir, model = tmp_path / "data", tmp_path / "code-small"
    identity = seed_champion(data_dir, kit_of())
    shutil.copytree(MODEL, model)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"version": config["version"] + 1}))
    kit = kit_of(model)
    assert kit.base != kit_of().base
    seed_reference(data_dir, kit)
    with ready(data_dir, "--model", str(model), "--train-steps", "1") as server:
        (found,) = asyncio.run(until(lambda: adapters(server)))  # type: ignore[misc]
        assert (found["id"], found["state"]) == (identity, "retired")
        assert found["reason"] == f"trained on another base model; the present one is {kit.base}"
        assert asyncio.run(asked(server))["attribution"] == []
        (job,) = asyncio.run(status(server))["jobs"]  # type: ignore[misc]
        assert job["state"] in ("queued", "running")
        assert job["reason"] == f"rebuild on {kit.base}"
        assert "base_model_changed" in log_of(server)
        asyncio.run(until(lambda: rebuilt(server), 100))
        stopped(server)
    with Learned.open(data_dir / STORE, kit.embedder) as learned:
        snapshot = learned.store.snapshot()
        rows, jobs = FEEDBACK.scan(snapshot), JOBS.scan(snapshot)
    assert {r.embedder for r in rows} == {kit.embedder.hash}
    assert [job.cluster for job in jobs] == [rows[0].cluster]


async def rebuilt(server: Server) -> bool:
    jobs = (await status(server)).get("jobs")
    return isinstance(jobs, list) and [job["state"] for job in jobs] == ["done"]
