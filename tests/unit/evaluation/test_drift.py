"""Generations of feedback, the bad canary and rollbacks, on a scripted server and a real store."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from ordering import KIT, champion, teach
from perfuse import sandbox
from perfuse.errors import PerfuseError
from perfuse.evaluation import drift, learning
from perfuse.evaluation.drift import Fall, chosen, fallen, rows_compared, scheduled
from perfuse.evolution.learned import Learned
from perfuse.store.aliases import current
from perfuse.store.learning import FEEDBACK
from perfuse.training.corpus import families
from scripted_learner import ScriptedLearner, listening
from unit.evolution.learning import feedback, reopen

MIRROR, DIGITS = families.POOL[:2]
EVERY = {family.name: family for family in (MIRROR, DIGITS)}


@pytest.fixture
def learned(tmp_path: Path) -> Iterator[Learned]:
    with reopen(tmp_path / "data" / "store") as opened:
        yield opened


@pytest.fixture
async def learner(tmp_path: Path, monkeypatch) -> AsyncIterator[ScriptedLearner]:
    monkeypatch.setattr(learning, "POLL_SECONDS", 0.0)
    right = {
        drawn.task.prompt: drawn.task.code
        for family in (MIRROR, DIGITS)
        for drawn in families.tasks(family, "evaluation", drift.CLIENTS)
    }
    async with listening(ScriptedLearner(right, tmp_path / "data")) as learner:
        yield learner


def test_the_families_of_the_pool_come_in_turn_and_then_with_other_feedback() -> None:
    plan = scheduled(7)
    assert [family.name for family, _ in plan[:5]] == [family.name for family in families.POOL]
    assert [(family.name, seed) for family, seed in plan[5:]] == [("mirror", 1), ("digit-sum", 1)]


def test_a_fall_is_more_than_a_point_in_a_family_taught_before() -> None:
    before = {"a": 0.5, "b": 0.5, "c": 0.5}
    assert fallen(3, before, {"a": 0.49, "b": 0.48, "c": 0.9, "new": 0.0}) == [Fall(3, "b", 0.5, 0.48)]


class TestChoosing:
    def test_the_champion_of_the_family_that_is_served_best_is_chosen(self, learned: Learned) -> None:
        teach(learned)
        of_mirror, _ = champion(learned, "d1", "a"), champion(learned, "d2", "a", cluster="k")
        prompts = {"p-c-a": "mirror", "p-k-a": "digit-sum"}
        found = chosen(learned.store.snapshot(), prompts, EVERY, {"mirror": 0.9, "digit-sum": 0.4})
        assert (found.adaptation, found.family) == (of_mirror.id, MIRROR)

    def test_without_a_champion_there_is_nothing_to_put_it_beside(self, learned: Learned) -> None:
        with pytest.raises(PerfuseError, match=r"^no generation made a champion$"):
            chosen(learned.store.snapshot(), {}, EVERY, {})


def test_live_rows_are_counted_in_the_file_of_the_canary(tmp_path: Path) -> None:
    assert rows_compared(tmp_path, "ad_1") == 0
    (tmp_path / "evolution").mkdir()
    (tmp_path / "evolution" / "canary-ad_1.json").write_text(json.dumps({"f1": [True, False], "f2": [True, True]}))
    assert rows_compared(tmp_path, "ad_1") == 2


async def test_failed_requests_under_load_are_counted(learner: ScriptedLearner) -> None:
    tasks = [drawn.task for drawn in families.tasks(MIRROR, "evaluation", 2)]
    async with drift.under_load(learner, tasks, 2) as load:
        while load.answered < 4:
            await learner.ready()
            await learning.status(learner)
    assert load.failed == 0
    with socket.socket() as taken:  # nobody listens there, and nobody can be given the port to call from
        taken.bind(("127.0.0.1", 0))
        learner.port = taken.getsockname()[1]
        async with drift.under_load(learner, tasks, 2) as load:
            while load.failed < 2:
                await drift.asyncio.sleep(0.01)
    assert load.answered == 0


@pytest.mark.skipif(sandbox.availability().tier == "none", reason="this kernel cannot confine generated code")
async def test_a_bad_canary_is_injected_into_the_stopped_server_and_champions_are_rolled_back(
    learner: ScriptedLearner, learned: Learned, tmp_path: Path, monkeypatch
) -> None:
    """The scripted server keeps to itself what it serves; its store holds a champion made of the feedback sent."""
    shown = families.tasks(MIRROR, "feedback", 2)
    learned.store.commit([FEEDBACK.put(*(feedback(f"c-{i}", "a", prompt=d.task.prompt) for i, d in enumerate(shown)))])
    good = champion(learned, "d1", "0", "1")
    learned.store.close()
    trained: list[tuple[Path, dict[str, object]]] = []

    async def train(folder: Path, base: Path, config: dict[str, object], seconds: float) -> bytes:
        trained.append((folder, config))
        return b"bad"

    starts = iter((True, False))

    @contextmanager
    def started(_: Path) -> Iterator[ScriptedLearner]:
        if next(starts):
            learner.reset()
        else:
            learner.canary, learner.champion = bad(), "ad_1"
            learner.states[learner.canary] = "canary"
        yield learner

    def bad() -> str:
        with Learned.open(tmp_path / "data" / "store", KIT.embedder) as opened:
            alias = current(opened.store.snapshot(), "t", "c")
        assert alias.champion == good.id
        assert alias.canary is not None
        return alias.canary

    def withdrawn(_: ScriptedLearner, identity: str) -> None:
        learner.states[identity], learner.canary = "rejected", None

    monkeypatch.setattr(drift, "learning", started)
    monkeypatch.setattr(drift, "find_kit", lambda: replace(KIT, folder=tmp_path))
    monkeypatch.setattr(drift, "train", train)
    monkeypatch.setattr(drift, "_CALM_SECONDS", 0.0)
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        if text.startswith("generation 2"):  # from now on live requests withdraw canaries
            monkeypatch.setattr(ScriptedLearner, "_promote", withdrawn)

    found = await drift.drift(tmp_path, generations=2, items=2, evaluated=2, injected_steps=7, say=say)
    first, second = found["generations"]
    assert (first["family"], first["before"], first["after"], first["champions"]) == ("mirror", 0.0, 1.0, 1)
    assert (second["family"], sorted(second["scores"])) == ("digit-sum", ["digit-sum", "mirror"])
    assert found["never_below_predecessor"] is True
    assert found["falls"] == []
    (folder, config) = trained[0]
    assert config["steps"] == 7
    lines = [json.loads(line) for line in (folder / "lessons.jsonl").read_text().splitlines()]
    tasks = [drawn.task for drawn in families.tasks(MIRROR, "feedback", 48)]
    assert [(line["prompt"], line["middle"]) for line in lines[:2]] == [
        (tasks[0].prompt, tasks[1].code), (tasks[1].prompt, tasks[2].code),
    ]  # fmt: skip
    injected = found["injected"]
    assert (injected["family"], injected["state"], injected["withdrawn"]) == ("mirror", "rejected", True)
    assert injected["live_requests"] == learning.LIVE_AT_ONCE
    rollback = found["rollback"]
    assert (rollback["rollbacks"], rollback["failed"], rollback["gone_with_the_next_request"]) == (1, 0, True)
    assert said[-2] == "the bad canary of mirror is rejected after 0 live rows"
