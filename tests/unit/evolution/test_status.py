"""What the store knows of how far learning has come."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ordering import PASSED, REFUSED, canary, champion, teach, trained
from perfuse.evolution.learned import Learned
from perfuse.evolution.promote import reject
from perfuse.evolution.rebuild import jobs_of
from perfuse.evolution.status import ENDED_JOBS, report
from perfuse.store.learning import FEEDBACK, JOBS
from unit.evolution.learning import feedback, reopen


@pytest.fixture
def learned(tmp_path: Path) -> Iterator[Learned]:
    with reopen(tmp_path) as opened:
        yield opened


def test_an_empty_store(learned: Learned) -> None:
    assert report(learned, "t") == {"feedback": {}, "clusters": [], "jobs": []}


def test_feedback_is_counted_by_state_within_the_tenant(learned: Learned) -> None:
    states = ["curated", "new", "quarantined", "curated", "superseded", "curated"]
    rows = [feedback(str(number), "a", state=state) for number, state in enumerate(states)]
    learned.store.commit([FEEDBACK.put(*rows, feedback("u", "a", tenant="u"))])
    assert report(learned, "t")["feedback"] == {"curated": 3, "new": 1, "quarantined": 1, "superseded": 1}


def test_clusters_come_by_size_with_the_last_word_of_the_gate(learned: Learned) -> None:
    teach(learned, clusters=["c"], sources="ab")
    teach(learned, clusters=["k"])
    champion_ = champion(learned, "d1")
    rejected = trained(learned, "d2", "b")
    reject(learned, rejected.id, "no gain", REFUSED, 9.0)
    trained(learned, "d3", "b")
    large, small = report(learned, "t")["clusters"]
    nothing = {"champion": None, "canary": None, "share": 0.0, "last_gate": None}
    assert large == {**nothing, "cluster": "k", "size": 3}
    gate = {
        "adaptation": rejected.id, "state": "rejected", "outcome": "reject", "gain": 0.0, "p_value": 0.5,
        "reasons": ["no gain"],
    }  # fmt: skip
    assert small == {**nothing, "cluster": "c", "size": 2, "champion": champion_.id, "last_gate": gate}


def test_a_cluster_whose_feedback_was_taken_back_is_shown_while_something_serves_it(learned: Learned) -> None:
    teach(learned, clusters=["c"], sources="a")
    made = canary(learned, gate=PASSED)
    learned.store.commit([FEEDBACK.drop(["c-a"])])
    (cluster,) = report(learned, "t")["clusters"]
    assert (cluster["size"], cluster["canary"], cluster["share"]) == (0, made.id, 0.5)


def test_jobs_under_way_come_before_the_latest_that_ended(learned: Learned) -> None:
    (job,) = jobs_of("t", {"c": "base"}, {"c": ["f1", "f2"]}, "enough feedback", 1.0)
    ended = [replace(job, id=f"j{number:02}", state="done", changed=float(number)) for number in range(ENDED_JOBS + 2)]
    learned.store.commit([JOBS.put(job, *ended)])
    first, *rest = report(learned, "t")["jobs"]
    assert first == {
        "id": job.id, "cluster": "c", "state": "queued", "stage": "", "reason": "enough feedback", "feedback": 2,
        "attempt": 0, "adaptation": None, "created": 1.0, "changed": 1.0,
    }  # fmt: skip
    assert [each["id"] for each in rest] == [f"j{number:02}" for number in range(ENDED_JOBS + 1, 1, -1)]
