"""Rows are embedded, labelled and put where they belong."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from perfuse.evolution.answers import Answerer
from perfuse.evolution.learned import Learned
from perfuse.evolution.sorting import Sorting
from perfuse.requests import EmbedRequest
from perfuse.store.kit import Kit
from perfuse.store.learning import FEEDBACK, Embedder, Feedback
from unit.evolution.learning import feedback, reopen
from unit.evolution.scripted_pool import WIDTH, ScriptedPool, vector_of

KIT = Kit(Path("m"), "base", Embedder(hash="here", width=WIDTH), reach=0.2)


def new(identity: str, prompt: str, **changes: object) -> Feedback:
    fields: dict[str, object] = {"cluster": "", "embedder": "", "state": "new", "reason": "", "prompt": prompt}
    return feedback(identity, "a", **(fields | changes))


@pytest.fixture
def learned(tmp_path: Path) -> Iterator[Learned]:
    with reopen(tmp_path) as opened:
        yield opened


def rows(learned: Learned) -> dict[str, Feedback]:
    return {row.id: row for row in FEEDBACK.scan(learned.store.snapshot())}


def sorting(learned: Learned, pool: ScriptedPool | None = None) -> Sorting:
    return Sorting(learned, Answerer(pool or ScriptedPool()), KIT)


async def test_requests_of_one_kind_come_into_one_cluster_and_stay_there(learned: Learned) -> None:
    learned.store.commit(
        [FEEDBACK.put(*(new(f"{w}{i}", f"{w} number {i}") for w in ("near", "far") for i in range(5)))]
    )
    assert await sorting(learned).sort() == 10
    found = rows(learned)
    clusters = {w: {found[f"{w}{i}"].cluster for i in range(5)} for w in ("near", "far")}
    assert [len(names) for names in clusters.values()] == [1, 1]
    assert clusters["near"] != clusters["far"]
    assert found["near0"].embedding == vector_of("near number 0")
    assert {(row.state, row.reason, row.embedder) for row in found.values()} == {("curated", "verifier", "here")}
    learned.store.commit([FEEDBACK.put(new("late", "near again"))])
    pool = ScriptedPool()
    assert await sorting(learned, pool).sort() == 1
    assert {rows(learned)["late"].cluster} == clusters["near"]
    assert len(pool.asked) == 1
    assert await sorting(learned).sort() == 0


async def test_scattered_requests_are_gathered_when_they_are_enough_to_train(learned: Learned) -> None:
    narrow = replace(KIT, reach=1e-7)
    learned.store.commit([FEEDBACK.put(*(new(f"a{i}", f"near number {i}") for i in range(5)))])
    await Sorting(learned, Answerer(ScriptedPool()), narrow, least=6).sort()
    assert len({row.cluster for row in rows(learned).values()}) == 5
    learned.store.commit([FEEDBACK.put(new("b", "near at last"), new("c", "elsewhere now"))])
    await Sorting(learned, Answerer(ScriptedPool()), narrow, least=6).sort()
    found = rows(learned)
    assert len({row.cluster for row in found.values()}) == 2
    assert found["c"].cluster != found["b"].cluster == found["a0"].cluster
    assert await Sorting(learned, Answerer(ScriptedPool()), narrow, least=6).sort() == 0


async def test_tenants_have_clusters_of_their_own(learned: Learned) -> None:
    learned.store.commit([FEEDBACK.put(new("a", "near one"), new("b", "near two", tenant="other"))])
    await sorting(learned).sort()
    found = rows(learned)
    assert found["a"].cluster != found["b"].cluster


async def test_vectors_of_another_embedder_are_made_anew(learned: Learned) -> None:
    old = new("a", "near one", embedder="gone", embedding=b"1234", cluster="c_old")
    learned.store.commit([FEEDBACK.put(old)])
    await sorting(learned).sort()
    found = rows(learned)["a"]
    assert (found.embedder, found.embedding) == ("here", vector_of("near one"))
    assert found.cluster != "c_old"


async def test_a_row_that_was_revoked_meanwhile_stays_away(learned: Learned) -> None:
    learned.store.commit([FEEDBACK.put(new("a", "near one"), new("b", "near two"))])
    pool = ScriptedPool()
    plain = pool.run

    async def revoking(*args: object, **kwargs: object) -> object:
        learned.store.commit([FEEDBACK.drop(["a"])])
        return await plain(*args, **kwargs)  # type: ignore[arg-type]

    pool.run = revoking  # type: ignore[assignment,method-assign]
    await sorting(learned, pool).sort()
    assert set(rows(learned)) == {"b"}


async def test_what_curation_doubts_is_put_aside_with_the_reason(learned: Learned) -> None:
    doubted = replace(new("a", "near one"), verifier="", output_passed=None, correction_passed=None)
    learned.store.commit([FEEDBACK.put(doubted)])
    await sorting(learned).sort()
    found = rows(learned)["a"]
    assert (found.state, found.reason) == (
        "quarantined",
        "1 of its sources agree; 3 more than contradict are needed",
    )


async def test_ten_thousand_items_of_one_source_are_sorted_within_seconds_up_to_its_quota(learned: Learned) -> None:
    every = [new(f"fb_{i:05}", f"{i} of many", received=float(i)) for i in range(10_000)]
    for start in range(0, len(every), 1000):
        learned.store.commit([FEEDBACK.put(*every[start : start + 1000])])
    pool = ScriptedPool()
    began = time.monotonic()
    assert await sorting(learned, pool).sort() == 10_000
    assert time.monotonic() - began < 30
    found = rows(learned).values()
    assert Counter((row.state, bool(row.cluster), bool(row.embedder)) for row in found) == {
        ("curated", True, True): 500,
        ("superseded", False, False): 9_500,
    }
    assert {row.reason for row in found if row.state == "superseded"} == {"the newest 500 items of its source count"}
    assert sum(len(request.prompts) for request in pool.asked if isinstance(request, EmbedRequest)) == 500
    assert await sorting(learned).sort() == 0


async def test_what_is_put_aside_is_embedded_once_it_counts(learned: Learned) -> None:
    doubted = {"verifier": "", "output_passed": None, "correction_passed": None, "prompt": "near one"}
    said = [replace(new(f"fb_{s}", **doubted), source=s) for s in "abc"]
    learned.store.commit([FEEDBACK.put(*said[:2])])
    pool = ScriptedPool()
    await sorting(learned, pool).sort()
    assert (pool.asked, {row.state for row in rows(learned).values()}) == ([], {"quarantined"})
    learned.store.commit([FEEDBACK.put(said[2])])
    await sorting(learned, pool).sort()
    assert len({row.cluster for row in rows(learned).values()}) == len(pool.asked) == 1
    assert {row.state for row in rows(learned).values()} == {"curated"}
