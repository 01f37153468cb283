"""A job from feedback to canary: the store, the jail and the gate are real; engines and trainer are scripted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from perfuse.errors import GenerationFailed, InvalidRequest, Unavailable
from perfuse.evolution import training
from perfuse.evolution.answers import Answerer
from perfuse.evolution.curate import Rules
from perfuse.evolution.gate import Decision, Measured, Pairs, Thresholds
from perfuse.evolution.job import Plan, Workshop, resident_bytes, without_gain
from perfuse.evolution.learned import Learned
from perfuse.evolution.promote import get
from perfuse.evolution.reference import Reference
from perfuse.evolution.trigger import job_of
from perfuse.requests import ScoreRequest, TextRequest
from perfuse.store.aliases import current
from perfuse.store.kit import Anchor, Kit
from perfuse.store.learning import FEEDBACK, JOBS, Embedder, Feedback, Job
from perfuse.wire import PythonCase, PythonTests
from unit.evolution.learning import feedback, reopen
from unit.evolution.scripted_pool import ScriptedPool

KIT = Kit(Path("model"), "base", Embedder(hash="e", width=2), reach=0.2)
TESTS = msgspec.json.encode(PythonTests("f", [PythonCase(args=[2], expected=4)])).decode()
RIGHT, WRONG = "def f(x):\n    return x * 2\n", "def f(x):\n    return 7\n"
HERE = np.array([1.0, 0.0], "<f4").tobytes()


def anchors(count: int) -> tuple[Anchor, ...]:
    return tuple(Anchor(f"anchor {i}", RIGHT, "f", ({"args": [2], "expected": 4},)) for i in range(count))


def reference(near: int = 0, measured: int = 500) -> Reference:
    """Anchors far from the cluster, but for the last `near` of those that are measured."""
    far = np.tile(np.array([[-1.0, 0.0]], np.float32), (measured, 1))
    vectors = far.copy()
    if near:
        vectors[-near:] = [1.0, 0.0]
    return Reference(anchors(measured), anchors(measured), vectors, far, tokens=10.0)


@pytest.fixture
def learned(tmp_path: Path) -> Iterator[Learned]:
    with reopen(tmp_path / "store") as opened:
        yield opened


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the trainer was given, by call; it gives `b"weights"`."""
    calls: list[dict[str, Any]] = []

    async def train(folder: Path, base: Path, config: Mapping[str, object], seconds: float) -> bytes:
        lines = {name: (folder / name).read_text().splitlines() for name in ("lessons.jsonl", "replay.jsonl")}
        calls.append({"base": base, "config": config, "seconds": seconds, **lines})
        return b"weights"

    monkeypatch.setattr(training, "train", train)
    return calls


def workshop(learned: Learned, pool: ScriptedPool, folder: Path, near: int = 0, resident: int = 1000) -> Workshop:
    plan = Plan({"steps": 5, "seed": 3}, 60.0, 0.25, Thresholds(latency_ratio=2.0), Rules())
    return Workshop(
        learned,
        Answerer(pool),
        KIT,
        folder,
        plan,
        reference(near),
        resident_bytes=lambda: resident,
        turn=asyncio.Lock(),
    )


def row(number: int, **changes: object) -> Feedback:
    fields: dict[str, object] = {
        "verifier": TESTS, "correction": RIGHT, "output": WRONG, "embedding": HERE, "prompt": f"double {number}"
    }  # fmt: skip
    return feedback(f"fb-{number:03}", f"s{number % 2}", **(fields | changes))


def queued(learned: Learned, count: int = 60, **changes: object) -> Job:
    rows = [row(number, **changes) for number in range(count)]
    job = job_of("t", "c", "base", rows, "60 new items", 5.0)
    learned.store.commit([FEEDBACK.put(*rows), JOBS.put(job)])
    return job


def says(base: str, adapted: str) -> ScriptedPool:
    return ScriptedPool(lambda request: base if request.adaptation == "none" else adapted)


async def test_a_gain_on_what_was_kept_back_makes_a_canary(
    learned: Learned, trained: list[dict[str, Any]], tmp_path: Path
) -> None:
    job = queued(learned)
    shop = workshop(learned, says(WRONG, RIGHT), tmp_path / "jobs")
    assert shop.next() == job
    assert await shop.run(job) == "done"
    (call,) = trained
    assert (call["config"], call["seconds"], call["base"]) == ({"steps": 5, "seed": 3}, 60.0, Path("model"))
    taught = {json.loads(line)["prompt"] for line in call["lessons.jsonl"]}
    assert len(call["lessons.jsonl"]) == len(call["replay.jsonl"]) == len(taught)
    assert json.loads(call["replay.jsonl"][0])["middle"] == WRONG
    done = JOBS.get(learned.store.snapshot(), job.id)
    assert done is not None
    assert done.adaptation is not None
    made = get(learned.store.snapshot(), done.adaptation)
    kept = 60 - len(taught)
    report = json.loads(made.report)
    assert (made.state, made.base, made.seed, made.sources) == ("canary", "base", 3, ("s0", "s1"))
    assert (report["outcome"], report["gain"], report["pairs"]) == (
        "unproven", 1.0, {"n": kept, "gained": kept, "lost": 0}
    )  # fmt: skip
    assert report["reasons"] == [f"{kept} pairs; at least 200 are needed to show a gain"]
    assert report["anchors"]["base"]["n"] == 500
    assert report["memory_ratio"] == 1.007
    assert report["calibration"] is None  # too few answers
    alias = current(learned.store.snapshot(), "t", "c")
    assert (alias.canary, alias.share) == (made.id, 0.25)
    assert (shop.next(), shop.stage, list((tmp_path / "jobs").iterdir())) == (None, "", [])


async def test_where_no_engine_says_what_it_takes_memory_rejects_nobody(
    learned: Learned, trained: list[dict[str, Any]], tmp_path: Path
) -> None:
    job = queued(learned)
    assert await workshop(learned, says(WRONG, RIGHT), tmp_path, resident=0).run(job) == "done"
    canary = current(learned.store.snapshot(), "t", "c").canary
    assert canary is not None
    assert json.loads(get(learned.store.snapshot(), canary).report)["memory_ratio"] == 1.0


async def test_no_gain_is_rejected_with_the_figures(
    learned: Learned, trained: list[dict[str, Any]], tmp_path: Path
) -> None:
    job = queued(learned)
    assert await workshop(learned, says(WRONG, WRONG), tmp_path).run(job) == "done"
    done = JOBS.get(learned.store.snapshot(), job.id)
    assert done is not None
    kept = 60 - len(trained[0]["lessons.jsonl"])
    seen = f"no gain is seen: 0 won and 0 lost of {kept} pairs; {kept} pairs; at least 200 are needed to show a gain"
    assert done.reason == f"{done.adaptation} was rejected: {seen}"
    assert current(learned.store.snapshot(), "t", "c").canary is None


async def test_harm_to_what_the_base_model_can_is_rejected(
    learned: Learned, trained: list[dict[str, Any]], tmp_path: Path
) -> None:
    def say(request: TextRequest) -> str:
        anchor = request.prompt.startswith("anchor")
        return RIGHT if anchor == (request.adaptation == "none") else WRONG

    job = queued(learned)
    pool = ScriptedPool(say)
    assert await workshop(learned, pool, tmp_path, near=20).run(job) == "done"
    done = JOBS.get(learned.store.snapshot(), job.id)
    assert done is not None
    assert f"{done.adaptation} was rejected: anchors 'base' fell by 4.00 points; below 1 is allowed" in done.reason
    assert sum(isinstance(asked, ScoreRequest) for asked in pool.asked) == 40


async def test_without_verifiers_the_text_agreed_on_is_right(
    learned: Learned, trained: list[dict[str, Any]], tmp_path: Path
) -> None:
    agreed = [
        row(number * 3 + voice, prompt=f"double {number}", verifier="", output_passed=None, correction_passed=None)
        for number in range(40)
        for voice in range(3)
    ]
    agreed = [replace(each, source=f"s{i % 3}") for i, each in enumerate(agreed)]
    job = job_of("t", "c", "base", agreed, "", 5.0)
    learned.store.commit([FEEDBACK.put(*agreed), JOBS.put(job)])
    assert await workshop(learned, says(WRONG, RIGHT), tmp_path).run(job) == "done"
    assert current(learned.store.snapshot(), "t", "c").canary is not None


async def test_a_failing_trainer_is_tried_three_times(
    learned: Learned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def train(*_: object) -> bytes:
        raise GenerationFailed("the trainer ended with -9: it said nothing")

    monkeypatch.setattr(training, "train", train)
    shop = workshop(learned, says(WRONG, RIGHT), tmp_path)
    job: Job | None = queued(learned)
    states = []
    while job is not None:
        states.append(await shop.run(job))
        job = shop.next()
    assert states == ["queued", "queued", "queued", "failed"]  # the first has made the replay
    (ended,) = JOBS.scan(learned.store.snapshot())
    assert (ended.attempt, ended.reason) == (3, "the trainer ended with -9: it said nothing")


async def test_a_worker_that_dies_each_time_ends_the_job(learned: Learned, tmp_path: Path) -> None:
    job = replace(queued(learned), state="running", attempt=3, reason="60 new items")
    (tmp_path / job.id).mkdir()
    (tmp_path / job.id / "reached.json").write_text("[0, 0, 0, 0]")
    assert await workshop(learned, says(WRONG, RIGHT), tmp_path).run(job) == "failed"
    (ended,) = JOBS.scan(learned.store.snapshot())
    assert ended.reason == "3 attempts were begun and none ended: 60 new items"


async def test_attempts_that_get_a_training_further_do_not_count(
    learned: Learned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = iter([10, 20, 30, 40, 50, 50, 50, 50])

    async def train(folder: Path, *_: object) -> bytes:
        (folder / "progress.json").write_text(json.dumps({"step": next(steps)}))
        raise GenerationFailed("the trainer ended with -9: it said nothing")

    monkeypatch.setattr(training, "train", train)
    shop = workshop(learned, says(WRONG, RIGHT), tmp_path)
    job: Job | None = queued(learned)
    states = []
    while job is not None:
        states.append(await shop.run(job))
        job = shop.next()
    assert states == ["queued"] * 7 + ["failed"]


async def test_the_candidate_of_a_job_that_fails_at_the_gate_is_rejected(
    learned: Learned, trained: list[dict[str, Any]], tmp_path: Path
) -> None:
    job: Job | None = queued(learned)
    pool = says(WRONG, RIGHT)
    shop = workshop(learned, pool, tmp_path)

    def broken(request: TextRequest) -> str:
        if request.adaptation != "none":
            raise GenerationFailed("its forward failed")
        return WRONG

    pool.say = broken
    while job is not None:
        state = await shop.run(job)
        job = shop.next()
    assert state == "failed"
    (ended,) = JOBS.scan(learned.store.snapshot())
    assert ended.adaptation is not None
    left = get(learned.store.snapshot(), ended.adaptation)
    assert (left.state, left.reason) == ("rejected", "its job ended as failed: its forward failed")


async def test_feedback_revoked_during_training_cancels_the_job(
    learned: Learned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def train(*_: object) -> bytes:
        learned.store.commit([FEEDBACK.drop([f"fb-{n:03}" for n in range(60)])])
        return b"weights"

    monkeypatch.setattr(training, "train", train)
    job = queued(learned)
    assert await workshop(learned, says(WRONG, RIGHT), tmp_path).run(job) == "cancelled"


async def test_nothing_to_teach_fails_at_once(learned: Learned, tmp_path: Path) -> None:
    job = queued(learned, 5, correction="elsewhere", prefix="def ")
    assert await workshop(learned, says(WRONG, RIGHT), tmp_path).run(job) == "failed"
    (ended,) = JOBS.scan(learned.store.snapshot())
    assert ended.reason == "nothing of its feedback can be taught"


async def test_replay_is_made_once(learned: Learned, trained: list[dict[str, Any]], tmp_path: Path) -> None:
    job = queued(learned)
    (tmp_path / job.id).mkdir()
    (tmp_path / job.id / "replay.jsonl").write_text("kept\n")
    await workshop(learned, says(WRONG, RIGHT), tmp_path).run(job)
    assert trained[0]["replay.jsonl"] == ["kept"]


async def test_a_busy_engine_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perfuse.evolution.answers.LONGEST_PAUSE", 0.0)
    pool = says(WRONG, RIGHT)
    pool.refusals = [Unavailable("no engine"), Unavailable("no engine")]
    assert len(await Answerer(pool).embed(["a", "b"])) == 2


async def test_a_refused_request_ends_those_asked_with_it() -> None:
    pool = says(WRONG, RIGHT)
    pool.refusals = [InvalidRequest("modality 'embedding' is not served")]
    with pytest.raises(InvalidRequest, match="modality 'embedding' is not served"):
        await Answerer(pool).embed([f"prompt {i}" for i in range(40)])


def test_too_few_pairs_neither_prove_nor_refute() -> None:
    unproven = Decision("unproven", ("few",), 0.1, {})
    few = Measured(Pairs(7, 0, 0), {}, 0.0, 1.0, 1.0)
    enough = Measured(Pairs(8, 1, 1), {}, 0.0, 1.0, 1.0)
    assert without_gain(few, unproven) == unproven
    assert without_gain(enough, unproven).outcome == "reject"
    promoted = Decision("promote", (), 0.0, {})
    assert without_gain(enough, promoted) == promoted


def test_memory_of_no_process_is_nothing() -> None:
    assert resident_bytes(None) == 0


async def test_a_job_follows_its_requests_into_the_clusters_of_a_new_base_model(
    learned: Learned, trained: list[dict[str, Any]], tmp_path: Path
) -> None:
    rows = [row(number, cluster="new" if number < 40 else "other") for number in range(60)]
    job = job_of("t", "old", "base before", rows, "rebuild", 5.0)
    learned.store.commit([FEEDBACK.put(*rows), JOBS.put(job)])
    (tmp_path / job.id).mkdir()
    (tmp_path / job.id / "replay.jsonl").write_text("what the model before said")
    assert await workshop(learned, says(WRONG, RIGHT), tmp_path).run(job) == "done"
    done = JOBS.get(learned.store.snapshot(), job.id)
    assert done is not None
    assert (done.base, done.cluster, len(done.feedback)) == ("base", "new", 40)
    assert "before" not in "".join(trained[0]["replay.jsonl"])
    alias = current(learned.store.snapshot(), "t", "new")
    assert alias.canary == done.adaptation
    assert get(learned.store.snapshot(), alias.canary).cluster == "new"
