"""A cluster is trained when enough has come in that the server cannot do yet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from perfuse.evolution.learned import Learned
from perfuse.evolution.promote import admit, promote, start_canary
from perfuse.evolution.trigger import Rules, due
from perfuse.store.learning import FEEDBACK, JOBS, Feedback
from unit.evolution.learning import candidate, feedback, reopen


@pytest.fixture
def learned(tmp_path: Path) -> Iterator[Learned]:
    with reopen(tmp_path) as opened:
        yield opened


def rows(count: int, cluster: str = "c", **changes: object) -> list[Feedback]:
    return [feedback(f"{cluster}-{i:03}", "a", cluster, **changes) for i in range(count)]


def test_enough_new_items_make_a_job_once(learned: Learned) -> None:
    learned.store.commit([FEEDBACK.put(*rows(5), *rows(3, "small"), *rows(9, "unsorted", state="quarantined"))])
    (job,) = due(learned.store.snapshot(), "base", 7.0, 9.0, Rules(items=5))
    assert (job.tenant, job.cluster, job.base, job.state, job.reason) == ("t", "c", "base", "queued", "5 new items")
    assert job.feedback == tuple(row.id for row in rows(5))
    learned.store.commit([JOBS.put(job)])
    assert due(learned.store.snapshot(), "base", 8.0, 9.0, Rules(items=5)) == []
    learned.store.commit([JOBS.put(replace(job, state="done")), FEEDBACK.put(*rows(9))])
    assert due(learned.store.snapshot(), "base", 8.0, 9.0, Rules(items=5)) == []
    learned.store.commit([FEEDBACK.put(*rows(10))])
    (second,) = due(learned.store.snapshot(), "base", 8.0, 9.0, Rules(items=5))
    assert len(second.feedback) == 10
    assert second.id != job.id


def test_a_stream_is_waited_for_until_it_is_calm_or_long(learned: Learned) -> None:
    rules = Rules(items=5, calm=5.0, patience=2)
    learned.store.commit([FEEDBACK.put(*rows(6))])
    assert [len(due(learned.store.snapshot(), "base", 7.0, quiet, rules)) for quiet in (0.0, 4.9, 5.0)] == [0, 0, 1]
    learned.store.commit([FEEDBACK.put(*rows(10))])
    assert len(due(learned.store.snapshot(), "base", 7.0, 0.0, rules)) == 1


@pytest.mark.parametrize(
    ("said", "trained"),
    [
        ({"output_passed": True}, False),
        ({"output_passed": None, "correction": None}, False),
        ({"output_passed": None, "correction": "wrong"}, False),
        ({"output_passed": None, "correction": "right"}, True),
        ({"output_passed": False}, True),
    ],
)
def test_what_the_server_can_do_already_is_not_trained(
    said: dict[str, object], trained: bool, learned: Learned
) -> None:
    learned.store.commit([FEEDBACK.put(*rows(6, **said))])
    assert bool(due(learned.store.snapshot(), "base", 7.0, 9.0, Rules(items=5))) == trained


def test_a_canary_is_waited_for(learned: Learned) -> None:
    learned.store.commit([FEEDBACK.put(*rows(6))])
    made = admit(learned, candidate("d", feedback=("c-000",)), b"bytes")
    start_canary(learned, made.id, 0.5, "{}", 2.0)
    assert due(learned.store.snapshot(), "base", 7.0, 9.0, Rules(items=5)) == []


def test_verdicts_on_what_served_before_the_champion_train_nothing(learned: Learned) -> None:
    learned.store.commit([FEEDBACK.put(*rows(6))])
    made = admit(learned, candidate("d", feedback=("c-000",)), b"bytes")
    start_canary(learned, made.id, 0.5, "{}", 2.0)
    promote(learned, made.id, "won", 3.0)
    learned.store.commit([FEEDBACK.put(*rows(30))])
    assert due(learned.store.snapshot(), "base", 7.0, 9.0, Rules(items=5)) == []
    learned.store.commit([FEEDBACK.put(*rows(5, received=4.0))])
    assert len(due(learned.store.snapshot(), "base", 7.0, 9.0, Rules(items=5))) == 1


def test_the_largest_cluster_comes_first(learned: Learned) -> None:
    learned.store.commit([FEEDBACK.put(*rows(5, "a"), *rows(8, "b"))])
    assert [job.cluster for job in due(learned.store.snapshot(), "base", 7.0, 9.0, Rules(items=5))] == ["b", "a"]
