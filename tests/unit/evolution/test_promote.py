"""From candidate to champion and back: each step is one commit, and repeating it after a crash does no harm."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from perfuse.errors import ConfigError, InvalidRequest, NotFound, StoreCorrupt, WrongState
from perfuse.evolution.learned import Learned
from perfuse.evolution.promote import admit, get, promote, reject, roll_back, start_canary, withdraw
from perfuse.store.aliases import current
from perfuse.store.learning import ADAPTATIONS, FEEDBACK, Adaptation, Alias, Domain, Embedder, domains
from unit.evolution.learning import WIDTH, Crash, CrashingStore, candidate, feedback, reopen


@pytest.fixture
def learned(tmp_path: Path) -> Iterator[Learned]:
    with reopen(tmp_path) as opened:
        opened.store.commit([FEEDBACK.put(*(feedback(f"c-{s}", s) for s in "abc"))])
        yield opened


def alias(learned: Learned) -> Alias:
    return current(learned.store.snapshot(), "t", "c")


def serving(learned: Learned) -> list[Domain]:
    return domains(WIDTH).scan(learned.store.snapshot())


def champion(learned: Learned, dataset: str, at: float = 2.0) -> Adaptation:
    made = admit(learned, candidate(dataset, "a"), dataset.encode())
    start_canary(learned, made.id, 0.25, '{"p": 0.01}', at)
    return promote(learned, made.id, "50 rows", at + 1)


def test_a_candidate_is_kept_with_its_bytes_and_serves_nobody(learned: Learned) -> None:
    made = admit(learned, candidate("d1", "a", "b"), b"weights")
    assert (made.state, made.reason) == ("candidate", "trained")
    assert get(learned.store.snapshot(), made.id) == made
    assert learned.blobs.read(made.blob) == b"weights"
    assert (alias(learned).champion, alias(learned).canary, serving(learned)) == (None, None, [])
    assert admit(learned, candidate("d1", "a", "b", created=9.0), b"weights") == made


def test_a_canary_serves_a_share_and_the_champion_the_rest(learned: Learned) -> None:
    first = champion(learned, "d1")
    second = admit(learned, candidate("d2", "b"), b"2")
    canary = start_canary(learned, second.id, 0.25, '{"p": 0.01}', 5.0)
    assert (canary.state, canary.reason, canary.report, canary.changed) == (
        "canary",
        "passed the gate",
        '{"p": 0.01}',
        5.0,
    )
    assert alias(learned) == Alias(
        key='["t", "c"]', tenant="t", cluster="c", champion=first.id, canary=second.id, share=0.25, changed=5.0
    )
    assert {(d.id, d.state) for d in serving(learned)} == {(first.id, "champion"), (second.id, "canary")}
    assert start_canary(learned, second.id, 0.25, "", 6.0) == canary


def test_a_promotion_keeps_the_champion_before_and_a_roll_back_brings_it_back(learned: Learned) -> None:
    first, second = champion(learned, "d1"), champion(learned, "d2", 5.0)
    assert (alias(learned).champion, alias(learned).previous, alias(learned).canary) == (second.id, first.id, None)
    assert get(learned.store.snapshot(), first.id).reason == f"replaced by {second.id}"
    assert [d.id for d in serving(learned)] == [second.id]
    moved = roll_back(learned, second.id, "canary of 50 rows lost", 7.0)
    assert (moved.champion, moved.previous, moved.changed) == (first.id, None, 7.0)
    assert alias(learned) == moved == roll_back(learned, second.id, "canary of 50 rows lost", 8.0)
    assert [(d.id, d.state) for d in serving(learned)] == [(first.id, "champion")]
    states = {a.id: (a.state, a.reason) for a in ADAPTATIONS.scan(learned.store.snapshot())}
    assert states == {
        first.id: ("champion", f"rolled back from {second.id}"),
        second.id: ("retired", "canary of 50 rows lost"),
    }


def test_the_first_champion_is_rolled_back_to_the_base_model(learned: Learned) -> None:
    first = champion(learned, "d1")
    assert roll_back(learned, first.id, "worse", 4.0).champion is None
    assert serving(learned) == []


def test_a_champion_before_whose_bytes_are_damaged_does_not_come_back(learned: Learned) -> None:
    first, second = champion(learned, "d1"), champion(learned, "d2", 5.0)
    learned.blobs.path(first.blob).write_bytes(b"")
    assert roll_back(learned, second.id, "worse", 7.0).champion is None
    assert (serving(learned), get(learned.store.snapshot(), first.id).state) == ([], "retired")


def test_what_ends_early_leaves_with_its_reason(learned: Learned) -> None:
    refused = admit(learned, candidate("d1", "a"), b"1")
    ended = reject(learned, refused.id, "no gain is shown", '{"p": 0.4}', 3.0)
    assert (ended.state, ended.reason, ended.report, ended.changed) == (
        "rejected",
        "no gain is shown",
        '{"p": 0.4}',
        3.0,
    )
    assert reject(learned, refused.id, "again", "", 4.0) == ended
    tried = admit(learned, candidate("d2", "a"), b"2")
    start_canary(learned, tried.id, 1.0, "", 3.0)
    withdrawn = withdraw(learned, tried.id, "lost 7 of 9 rows", 4.0)
    assert (withdrawn.state, withdrawn.reason) == ("rejected", "lost 7 of 9 rows")
    assert withdraw(learned, tried.id, "again", 5.0) == withdrawn
    assert (alias(learned).canary, alias(learned).share, serving(learned)) == (None, 0.0, [])


def test_a_promotion_done_twice_is_done_once(learned: Learned) -> None:
    first = champion(learned, "d1")
    assert promote(learned, first.id, "again", 9.0) == first
    assert alias(learned).previous is None


def test_steps_start_from_their_states_only(learned: Learned) -> None:
    made = admit(learned, candidate("d1", "a"), b"1")
    with pytest.raises(WrongState) as refused:
        promote(learned, made.id, "", 2.0)
    assert refused.value.detail == f"expected {made.id} to be canary; it is candidate: trained"
    assert (refused.value.code, refused.value.status) == ("wrong_state", 409)
    with pytest.raises(WrongState) as refused:
        roll_back(learned, made.id, "", 2.0)
    assert refused.value.detail == f"expected {made.id} to be champion; it is candidate: trained"
    start_canary(learned, made.id, 0.5, "", 2.0)
    other = admit(learned, candidate("d2", "a"), b"2")
    with pytest.raises(WrongState) as refused:
        start_canary(learned, other.id, 0.5, "", 2.0)
    assert refused.value.detail == f"{made.id} is the canary of cluster 'c'; there is one at a time"
    with pytest.raises(InvalidRequest) as wrong:
        start_canary(learned, other.id, 0.0, "", 2.0)
    assert wrong.value.detail == "expected a share above 0 and at most 1; got 0.0"
    with pytest.raises(NotFound) as missing:
        promote(learned, "ad_none", "", 2.0)
    assert missing.value.detail == "no adaptation ad_none"


def test_a_replaced_champion_cannot_be_rolled_back(learned: Learned) -> None:
    first, second = champion(learned, "d1"), champion(learned, "d2", 5.0)
    with pytest.raises(WrongState) as refused:
        roll_back(learned, first.id, "worse", 9.0)
    assert refused.value.detail == f"expected {first.id} to be champion; it is retired: replaced by {second.id}"


def test_nothing_becomes_champion_without_its_bytes(learned: Learned) -> None:
    made = admit(learned, candidate("d1", "a"), b"1")
    start_canary(learned, made.id, 0.5, "", 2.0)
    learned.blobs.path(made.blob).write_bytes(b"2")
    with pytest.raises(StoreCorrupt):
        promote(learned, made.id, "", 3.0)
    learned.blobs.path(made.blob).unlink()
    with pytest.raises(NotFound):
        promote(learned, made.id, "", 3.0)
    assert alias(learned).champion is None


def test_a_candidate_of_revoked_feedback_is_not_taken(learned: Learned) -> None:
    learned.store.delete(FEEDBACK.spec, ["c-b"])
    with pytest.raises(WrongState) as refused:
        admit(learned, candidate("d1", "a", "b"), b"1")
    assert refused.value.detail == "1 of 2 items that it was trained on have been revoked"
    assert refused.value.hint == "train again on the feedback that is left"
    assert ADAPTATIONS.scan(learned.store.snapshot()) == []


@pytest.mark.parametrize("crash", ["before", "after"])
def test_a_promotion_that_a_crash_cuts_is_finished_by_repeating_it(tmp_path: Path, crash: str) -> None:
    with reopen(tmp_path) as learned:
        learned.store.commit([FEEDBACK.put(feedback("c-a", "a"))])
        made = admit(learned, candidate("d1", "a"), b"1")
        start_canary(learned, made.id, 0.5, "", 2.0)
        assert isinstance(learned.store, CrashingStore)
        learned.store.crash = crash
        with pytest.raises(Crash):
            promote(learned, made.id, "50 rows", 3.0)
    with reopen(tmp_path) as learned:
        assert (alias(learned).champion == made.id) == (crash == "after")
        assert promote(learned, made.id, "50 rows", 3.0) == get(learned.store.snapshot(), made.id)
        assert alias(learned).champion == made.id


def test_a_store_takes_vectors_of_a_new_width_beside_the_old_ones(tmp_path: Path) -> None:
    with reopen(tmp_path) as learned:
        learned.store.commit([FEEDBACK.put(feedback("c-a", "a"))])
        champion(learned, "d1")
    with Learned.open(tmp_path, Embedder(hash="wide", width=3)) as learned:
        assert [d.cluster for d in domains(WIDTH).scan(learned.store.snapshot())] == ["c"]
        made = admit(learned, replace(candidate("d2", "a", cluster="x"), centroid=(0.0, 0.0, 1.0), feedback=()), b"2")
        start_canary(learned, made.id, 0.5, "", 2.0)
        assert [d.cluster for d in domains(3).scan(learned.store.snapshot())] == ["x"]
    with pytest.raises(ConfigError) as refused:
        Learned.open(tmp_path, Embedder(hash="wide", width=4))
    assert refused.value.detail == "embedder wide made vectors of width 3; now 4 came"
