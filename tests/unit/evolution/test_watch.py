"""Canaries are compared on live rows until the evidence is there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from perfuse.evolution.answers import Answerer
from perfuse.evolution.learned import Learned
from perfuse.evolution.promote import admit, get, start_canary
from perfuse.evolution.watch import Watch
from perfuse.requests import TextRequest
from perfuse.store.aliases import current
from perfuse.store.learning import FEEDBACK
from perfuse.wire import PythonCase, PythonTests
from unit.evolution.learning import candidate, feedback, reopen
from unit.evolution.scripted_pool import ScriptedPool

TESTS = msgspec.json.encode(PythonTests("f", [PythonCase(args=[2], expected=4)])).decode()
RIGHT, WRONG = "def f(x):\n    return x * 2\n", "def f(x):\n    return 7\n"


@pytest.fixture
def learned(tmp_path: Path) -> Iterator[Learned]:
    with reopen(tmp_path) as opened:
        opened.store.commit([FEEDBACK.put(feedback("c-a", "a"))])
        yield opened


def canary(learned: Learned, outcome: str = "unproven") -> str:
    made = admit(learned, candidate("d", "a"), b"bytes")
    return start_canary(learned, made.id, 0.5, json.dumps({"outcome": outcome}), 10.0).id


def come(learned: Learned, count: int, first: int = 0, **changes: object) -> None:
    rows = [
        feedback(f"live-{i}", "tester", verifier=TESTS, received=11.0, prompt=f"p{i}", **changes)
        for i in range(first, first + count)
    ]
    learned.store.commit([FEEDBACK.put(*rows)])


def pool(base: str, adapted: str) -> ScriptedPool:
    def say(request: TextRequest) -> str:
        return base if request.adaptation == "none" else adapted

    return ScriptedPool(say)


async def test_a_better_canary_becomes_champion_when_the_evidence_is_there(learned: Learned, tmp_path: Path) -> None:
    made = canary(learned)
    engines = pool(WRONG, RIGHT)
    watch = Watch(learned, Answerer(engines), tmp_path / "evolution")
    assert await watch.look() == 0
    come(learned, 4)
    assert await watch.look() == 0
    assert len(engines.asked) == 8
    assert get(learned.store.snapshot(), made).state == "canary"
    come(learned, 4, 4)
    assert await watch.look() == 1
    found = get(learned.store.snapshot(), made)
    assert (found.state, found.reason) == ("champion", "8 won and 0 lost of 8 live rows")
    assert len(engines.asked) == 16


async def test_a_worse_canary_leaves_within_a_few_rows(learned: Learned, tmp_path: Path) -> None:
    made = canary(learned, "promote")
    come(learned, 50)
    engines = pool(RIGHT, WRONG)
    assert await Watch(learned, Answerer(engines), tmp_path).look() == 1
    found = get(learned.store.snapshot(), made)
    assert (found.state, found.reason) == ("rejected", "roll back: 0 won and 8 lost of 8 live rows")
    assert current(learned.store.snapshot(), "t", "c").canary is None
    assert len(engines.asked) == 16


async def test_outcomes_survive_a_restart_and_are_counted_once(learned: Learned, tmp_path: Path) -> None:
    canary(learned)
    come(learned, 5)
    first = pool(WRONG, RIGHT)
    await Watch(learned, Answerer(first), tmp_path).look()
    second = pool(WRONG, RIGHT)
    await Watch(learned, Answerer(second), tmp_path).look()
    assert (len(first.asked), len(second.asked)) == (10, 0)


async def test_rows_from_before_the_canary_and_rows_without_tests_say_nothing(learned: Learned, tmp_path: Path) -> None:
    canary(learned)
    come(learned, 3, output_passed=None)
    early = feedback("early", "tester", verifier=TESTS, received=9.0)
    learned.store.commit([FEEDBACK.put(early)])
    engines = pool(WRONG, RIGHT)
    await Watch(learned, Answerer(engines), tmp_path).look()
    assert engines.asked == []


async def test_a_canary_whose_requests_have_moved_ends_undecided(learned: Learned, tmp_path: Path) -> None:
    made = canary(learned)
    engines = pool(WRONG, RIGHT)
    watch = Watch(learned, Answerer(engines), tmp_path / "evolution")
    assert await watch.look() == 0
    learned.store.commit([FEEDBACK.put(feedback("c-a", "a", cluster="wide"))])
    assert await watch.look() == 1
    found = get(learned.store.snapshot(), made)
    reason = "1 of the 1 requests it was taught belong to another cluster now"
    assert (found.state, found.reason) == ("rejected", reason)
    assert current(learned.store.snapshot(), "t", "c").canary is None
    assert engines.asked == []
