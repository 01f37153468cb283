"""Revocation reaches all that was made of a source; no steps and crashes in any order leave a cluster half served."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfuse.errors import NotFound, WrongState
from perfuse.evolution.curate import Rules
from perfuse.evolution.learned import Learned
from perfuse.evolution.promote import admit, get, promote, reject, roll_back, start_canary, withdraw
from perfuse.evolution.revoke import Taken, made_of, purge, retire_foreign, revoke, withdrawn
from perfuse.store.aliases import current
from perfuse.store.learning import (
    ADAPTATIONS,
    ALIASES,
    FEEDBACK,
    JOBS,
    LIVE,
    REVOCATIONS,
    Adaptation,
    Job,
    Memory,
    Revocation,
    domains,
    memories,
)
from unit.evolution.learning import WIDTH, Crash, CrashingStore, candidate, feedback, reopen

SOURCES = "abc"
CLUSTERS = ("c", "k")


@pytest.fixture
def learned(tmp_path: Path) -> Iterator[Learned]:
    with reopen(tmp_path) as opened:
        opened.store.commit([FEEDBACK.put(*(feedback(f"{c}-{s}", s, c) for c in CLUSTERS for s in SOURCES))])
        yield opened


def champion(learned: Learned, made: Adaptation) -> Adaptation:
    made = admit(learned, made, made.dataset.encode())
    start_canary(learned, made.id, 0.5, "", 2.0)
    return promote(learned, made.id, "50 rows", 3.0)


def states(learned: Learned) -> dict[str, str]:
    return {a.dataset: a.state for a in ADAPTATIONS.scan(learned.store.snapshot())}


def test_all_that_was_made_of_a_source_leaves_and_is_queued_to_be_made_again(learned: Learned) -> None:
    first = champion(learned, candidate("d1", "b"))
    second = champion(learned, candidate("d2", "a", "b", parent=first.id))
    other = champion(learned, candidate("k1", "c", cluster="k"))
    note = Memory(
        id="m", tenant="t", source="a", generation="", prompt="p", text="x", created=1.0, embedder="e",
        embedding=(1.0, 0.0),
    )  # fmt: skip
    learned.store.commit([memories(WIDTH).put(note, replace(note, id="n", source="b"))])
    taken = revoke(learned, "t", "a", 9.0)
    snapshot = learned.store.snapshot()
    assert (taken.retired, taken.cancelled, taken.feedback, taken.memories) == ((second.id,), (), 2, 1)
    assert [(j.cluster, j.feedback, j.state, j.reason) for j in taken.rebuild] == [
        ("c", ("c-b", "c-c"), "queued", "rebuild without 'a'")
    ]
    assert JOBS.scan(snapshot) == list(taken.rebuild)
    assert get(snapshot, second.id).reason == "source 'a' was revoked"
    assert get(snapshot, first.id).reason == "its successor left: source 'a' was revoked"
    assert (current(snapshot, "t", "c").champion, current(snapshot, "t", "c").previous) == (first.id, None)
    assert current(snapshot, "t", "k").champion == other.id
    assert {d.id for d in domains(WIDTH).scan(snapshot)} == {first.id, other.id}
    assert {row.source for row in FEEDBACK.scan(snapshot)} == {"b", "c"}
    assert [memory.id for memory in memories(WIDTH).scan(snapshot)] == ["n"]
    assert REVOCATIONS.scan(snapshot) == [Revocation(key='["t", "a"]', tenant="t", source="a", at=9.0)]


def test_a_second_revocation_finds_nothing(learned: Learned) -> None:
    champion(learned, candidate("d1", "a"))
    revoke(learned, "t", "a", 9.0)
    assert revoke(learned, "t", "a", 10.0) == Taken((), ())


def test_descendants_of_what_a_source_taught_leave_too(learned: Learned) -> None:
    first = champion(learned, candidate("d1", "a"))
    second = champion(learned, candidate("d2", "b", parent=first.id))
    third = admit(learned, candidate("d3", "c", parent=second.id), b"3")
    assert made_of([first, second, third], "a") == {first.id, second.id, third.id}
    revoke(learned, "t", "a", 9.0)
    assert states(learned) == {"d1": "retired", "d2": "retired", "d3": "retired"}
    assert current(learned.store.snapshot(), "t", "c").champion is None


def test_a_canary_and_the_one_to_roll_back_to_leave_while_a_clean_champion_stays(learned: Learned) -> None:
    champion(learned, candidate("d1", "a"))
    clean = champion(learned, candidate("d2", "b"))
    canary = admit(learned, candidate("d3", "a"), b"3")
    start_canary(learned, canary.id, 0.5, "", 5.0)
    revoke(learned, "t", "a", 9.0)
    alias = current(learned.store.snapshot(), "t", "c")
    assert (alias.champion, alias.previous, alias.canary, alias.share) == (clean.id, None, None, 0.0)


def test_a_quorum_that_loses_a_voice_is_none_any_more(learned: Learned) -> None:
    votes = [feedback(f"v-{s}", s, verifier="", prompt="q", correction_passed=None, reason="quorum") for s in SOURCES]
    learned.store.commit([FEEDBACK.put(*votes)])
    champion(learned, candidate("d1", "a"))
    taken = revoke(learned, "t", "a", 9.0, Rules(quorum=3))
    assert taken.rebuild[0].feedback == ("c-b", "c-c")
    left = FEEDBACK.get(learned.store.snapshot(), "v-b")
    assert left is not None
    assert (left.state, left.reason) == (
        "quarantined",
        "2 of its sources agree; 3 more than contradict are needed",
    )


def test_answers_that_repeat_the_source_leave_the_feedback_of_others_and_their_corrections_stay(
    learned: Learned,
) -> None:
    made = champion(learned, candidate("d1", "a"))
    clean = champion(learned, candidate("k1", "b", cluster="k"))
    about = {"adaptations": (made.id,), "output": "as a says", "output_passed": True}
    corrected = feedback("o1", "b", **about)
    praised = feedback("o2", "b", **about, verifier="", correction=None, correction_passed=None, reward=1.0)
    replaced = feedback("o3", "b", **about, state="superseded", reason="o1 is a later word of the same source")
    voted = feedback("o4", "b", **about, verifier="", correction_passed=None)
    apart = feedback("o5", "b", adaptations=(clean.id,), output="as b says")
    learned.store.commit([FEEDBACK.put(corrected, praised, replaced, voted, apart)])
    assert withdrawn(learned.store.snapshot(), "t") == set()
    taken = revoke(learned, "t", "a", 9.0)
    assert taken.feedback == 2
    there = {row.id: row for row in FEEDBACK.scan(learned.store.snapshot())}
    without = {"output": "", "output_passed": None}
    assert there["o1"] == replace(corrected, **without)
    lost = {"state": "quarantined", "reason": "the answer it is about is empty or was withdrawn"}
    assert there["o2"] == replace(praised, **without, **lost)
    assert there["o3"] == replace(replaced, **without)
    few = "1 of its sources agree; 3 more than contradict are needed"
    assert there["o4"] == replace(voted, **without, state="quarantined", reason=few)
    assert there["o5"] == apart
    assert "o1" in taken.rebuild[0].feedback
    assert "o2" not in taken.rebuild[0].feedback
    assert withdrawn(learned.store.snapshot()) == withdrawn(learned.store.snapshot(), "t") == {made.id}
    assert withdrawn(learned.store.snapshot(), "u") == set()


def test_what_a_source_teaches_after_it_was_revoked_is_not_withdrawn(learned: Learned) -> None:
    revoke(learned, "t", "a", 0.5)
    learned.store.commit([FEEDBACK.put(feedback("c-a", "a"))])
    champion(learned, candidate("d1", "a"))
    assert withdrawn(learned.store.snapshot(), "t") == set()


def test_training_under_way_on_a_revoked_source_is_cancelled_and_queued_without_it(learned: Learned) -> None:
    job = Job(
        id="j", tenant="t", cluster="c", base="base", feedback=("c-a", "c-b"), state="running", attempt=1,
        adaptation=None, reason="", created=1.0, changed=1.0,
    )  # fmt: skip
    learned.store.commit([JOBS.put(job, replace(job, id="apart", feedback=("c-b",)))])
    taken = revoke(learned, "t", "a", 9.0)
    found = {j.id: j.state for j in JOBS.scan(learned.store.snapshot())}
    assert (taken.cancelled, taken.retired) == (("j",), ())
    assert found == {"j": "cancelled", "apart": "running", taken.rebuild[0].id: "queued"}
    with pytest.raises(WrongState):
        admit(learned, candidate("late", "a", "b"), b"late")


def test_nothing_is_rebuilt_where_no_feedback_is_left(learned: Learned) -> None:
    learned.store.delete(FEEDBACK.spec, ["c-b", "c-c"])
    champion(learned, candidate("d1", "a"))
    assert revoke(learned, "t", "a", 9.0).rebuild == ()


def test_other_tenants_keep_what_a_source_of_the_same_name_taught_them(learned: Learned) -> None:
    learned.store.commit([FEEDBACK.put(replace(feedback("c-a", "a"), id="u-a", tenant="u"))])
    theirs = champion(learned, replace(candidate("d1", "a"), tenant="u", feedback=("u-a",)))
    revoke(learned, "t", "a", 9.0)
    assert get(learned.store.snapshot(), theirs.id).state == "champion"
    assert FEEDBACK.get(learned.store.snapshot(), "u-a") is not None


def test_a_new_base_model_retires_all_and_queues_their_rebuild(learned: Learned) -> None:
    champion(learned, candidate("d1", "a"))
    newer = champion(learned, candidate("k1", "b", cluster="k", base="new"))
    taken = retire_foreign(learned, "t", "new", 9.0)
    assert states(learned) == {"d1": "retired", "k1": "champion"}
    assert current(learned.store.snapshot(), "t", "k").champion == newer.id
    assert [(j.cluster, j.base, j.feedback, j.reason) for j in taken.rebuild] == [
        ("c", "new", ("c-a", "c-b", "c-c"), "rebuild on new")
    ]
    assert ADAPTATIONS.scan(learned.store.snapshot(), {"dataset": "d1"})[0].reason == (
        "trained on another base model; the present one is new"
    )
    assert retire_foreign(learned, "t", "new", 10.0) == Taken((), ())


def test_purging_removes_the_bytes_of_what_will_never_serve_again(learned: Learned) -> None:
    first, second = champion(learned, candidate("d1", "a")), champion(learned, candidate("d2", "b"))
    stray = learned.blobs.put(b"of a process that died before it named this")
    assert purge(learned) == [stray]
    revoke(learned, "t", "a", 9.0)
    assert purge(learned) == [first.blob]
    assert learned.blobs.holds(second.blob)
    assert purge(learned) == []


class Op(NamedTuple):
    """A step, what it is done to, and whether the process ends around its commit."""

    name: str
    number: int
    crash: str | None = None
    spared: int = 0


STEPS = ["admit", "canary", "promote", "roll_back", "reject", "withdraw", "revoke", "purge", "foreign"]
OPS = st.builds(
    Op,
    st.sampled_from([*STEPS, *["learn"] * 9, "revoke"]),
    st.integers(0, 15),
    st.sampled_from([None, None, "before", "after"]),
    st.integers(0, 2),
)


class World:
    """A store whose owner is replaced after each crash, and what must hold of it after every step."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.learned = reopen(path)
        self.revoked: set[str] = set()
        self.made = 0
        rows = [feedback(f"{c}-{s}", s, c) for c in CLUSTERS for s in SOURCES]
        self.learned.store.commit([FEEDBACK.put(*rows)])

    def run(self, op: Op) -> None:
        """The step, until it is done or refused; a crash reopens the store and the step is tried again."""
        assert isinstance(self.learned.store, CrashingStore)
        self.learned.store.crash, self.learned.store.spared = op.crash, op.spared
        try:
            self._do(op.name, op.number)
        except (WrongState, NotFound):
            pass
        except Crash:
            self.learned.store.close()
            self.learned = reopen(self.path)
            self.check()
            self.run(Op(op.name, op.number))
        else:
            self.learned.store.crash = None

    def _do(self, name: str, number: int) -> None:
        if name == "learn":
            identity = self._admit(number)
            start_canary(self.learned, identity, 0.5, "", 2.0)
            promote(self.learned, identity, "rows", 4.0)
        elif name == "admit":
            self._admit(number)
        elif name == "revoke":
            revoke(self.learned, "t", SOURCES[number % 3], 6.0)
            self.revoked.add(SOURCES[number % 3])
        elif name == "purge":
            purge(self.learned)
        elif name == "foreign":
            retire_foreign(self.learned, "t", "base", 7.0)
        else:
            self._move(name, number)

    def _move(self, name: str, number: int) -> None:
        starts = {"canary": "candidate", "reject": "candidate", "promote": "canary", "withdraw": "canary"}
        every = ADAPTATIONS.scan(self.learned.store.snapshot(), {"state": starts.get(name, "champion")})
        if not every:
            return
        identity = sorted(every, key=lambda a: a.dataset)[number % len(every)].id
        match name:
            case "reject":
                reject(self.learned, identity, "no gain", "", 1.0)
            case "canary":
                start_canary(self.learned, identity, 0.5, "", 2.0)
            case "withdraw":
                withdraw(self.learned, identity, "lost", 3.0)
            case "promote":
                promote(self.learned, identity, "rows", 4.0)
            case _:
                roll_back(self.learned, identity, f"worse {number}", 5.0)

    def _admit(self, number: int) -> str:
        cluster, sources = CLUSTERS[number // 8], [s for k, s in enumerate(SOURCES) if number >> k & 1]
        parent = current(self.learned.store.snapshot(), "t", cluster).champion
        self.made += 1
        dataset = f"d{self.made:03}"
        base = "foreign" if number == 8 else "base"
        made = candidate(dataset, *sources, cluster=cluster, parent=parent, base=base)
        return admit(self.learned, made, dataset.encode()).id

    def check(self) -> None:
        snapshot = self.learned.store.snapshot()
        every = {a.id: a for a in ADAPTATIONS.scan(snapshot)}
        aliases = {(alias.tenant, alias.cluster): alias for alias in ALIASES.scan(snapshot)}
        named: dict[str, str] = {}
        for alias in aliases.values():
            for state, identity in (("champion", alias.champion), ("canary", alias.canary), ("", alias.previous)):
                if identity is not None:
                    assert self.learned.blobs.holds(every[identity].blob)
                    named |= {identity: state} if state else {}
            assert (alias.canary is None) == (alias.share == 0.0)
            assert alias.previous is None or every[alias.previous].state == "retired"
        assert named == {a.id: a.state for a in every.values() if a.state in {"champion", "canary"}}
        assert named == {d.id: d.state for d in domains(WIDTH).scan(snapshot)}
        assert all(self.learned.blobs.holds(a.blob) for a in every.values() if a.state in LIVE)
        tainted = {identity for source in self.revoked for identity in made_of(every.values(), source)}
        assert not {identity for identity in tainted if every[identity].state in LIVE}
        assert not {alias.previous for alias in aliases.values()} & tainted


@given(st.lists(OPS, max_size=24))
def test_whatever_happens_in_whatever_order_each_alias_has_one_champion_with_its_bytes_or_none(ops: list[Op]) -> None:
    with TemporaryDirectory() as folder:
        world = World(Path(folder))
        try:
            for op in ops:
                world.run(op)
                world.check()
        finally:
            world.learned.store.close()
