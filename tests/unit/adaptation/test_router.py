"""Who answers: exact, inside the tenant, within the radius, and beside a canary by the request's own draw."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from adapting import World, by, phrases
from perfuse.adaptation.router import Found, Router
from perfuse.errors import InvalidRequest
from perfuse.store.learning import ADAPTATIONS, domains
from perfuse.store.store import Snapshot

PROMPT, OTHER, FAR = phrases(3, seed=1)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "store")
    made.open_tables()
    yield made
    made.close()


def found(world: World, prompt: str, *, tenant: str = "t", draw: float = 0.0) -> Found | None:
    return world.router.nearest(world.snapshot(), tenant, world.vector(prompt), lambda _: draw)


def named_id(answer: Found | None) -> str | None:
    return None if answer is None else answer.record.id


def test_the_nearest_champion_within_its_radius_answers(world: World) -> None:
    near = world.teach(PROMPT)
    world.teach(OTHER)
    answer = found(world, PROMPT)
    assert answer is not None
    assert answer.attribution == by(near, answer.distance)
    assert answer.distance == pytest.approx(0.0, abs=1e-6)
    assert found(world, FAR) is None


def test_a_small_near_cluster_does_not_hide_a_wide_one_around_it(world: World) -> None:
    world.teach(OTHER, radius=1e-9)
    wide = world.teach(FAR, radius=2.0)
    assert named_id(found(world, PROMPT)) == wide.id


def test_what_was_learned_elsewhere_is_never_found(world: World) -> None:
    world.teach(PROMPT, tenant="other")
    world.teach(PROMPT, embedder="older")
    world.teach(PROMPT, base="older")
    assert found(world, PROMPT) is None
    assert not world.router.concerns(world.snapshot(), "t")
    assert world.router.concerns(world.snapshot(), "other")


def test_who_is_concerned_is_looked_up_once_per_commit(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0
    scan = Snapshot.scan

    def counted(self: Snapshot, *args: object) -> object:
        nonlocal looks
        looks += 1
        return scan(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Snapshot, "scan", counted)
    assert [world.router.concerns(world.snapshot(), tenant) for tenant in "abt"] == [False] * 3
    assert looks == 1
    world.teach(PROMPT)
    assert [world.router.concerns(world.snapshot(), tenant) for tenant in "abt"] == [False, False, True]
    assert looks == 2


def test_a_store_without_tables_has_learned_nothing_until_they_come(tmp_path: Path) -> None:
    world = World(tmp_path / "store")
    assert not world.router.concerns(world.snapshot(), "t")
    with pytest.raises(InvalidRequest):
        world.router.named(world.snapshot(), "t", "ad_0")
    world.open_tables()
    record = world.teach(PROMPT)
    assert world.router.concerns(world.snapshot(), "t")
    assert named_id(found(world, PROMPT)) == record.id
    world.close()


def test_a_canary_takes_its_share_of_what_its_champion_answered(world: World) -> None:
    champion = world.teach(PROMPT, cluster="c")
    canary = world.teach(PROMPT, cluster="c", state="canary", share=0.25)
    assert named_id(found(world, PROMPT, draw=0.249)) == canary.id
    assert named_id(found(world, PROMPT, draw=0.25)) == champion.id
    answer = found(world, PROMPT)
    assert answer is not None
    assert answer.attribution.state == "canary"


def test_a_canary_of_a_first_adaptation_stands_beside_the_base_model(world: World) -> None:
    canary = world.teach(PROMPT, state="canary", share=0.25)
    assert named_id(found(world, PROMPT, draw=0.0)) == canary.id
    assert found(world, PROMPT, draw=0.5) is None
    assert found(world, FAR, draw=0.0) is None


def test_a_canary_does_not_reach_into_another_cluster_that_is_nearer(world: World) -> None:
    champion = world.teach(PROMPT)
    canary = world.teach(OTHER, state="canary", share=1.0, radius=2.0)
    assert named_id(found(world, PROMPT)) == champion.id
    assert named_id(found(world, OTHER)) == canary.id


def test_each_canary_has_a_draw_of_its_own(world: World) -> None:
    canary = world.teach(PROMPT, state="canary", share=1.0)
    purposes: list[str] = []
    world.router.nearest(world.snapshot(), "t", world.vector(PROMPT), lambda purpose: purposes.append(purpose) or 0.5)
    assert purposes == [f"canary/{canary.id}"]


def test_a_domain_whose_record_is_gone_is_passed_over(world: World) -> None:
    record = world.teach(PROMPT)
    world.owner.commit([ADAPTATIONS.drop([record.id])])
    assert found(world, PROMPT) is None


def test_the_gain_is_the_reports_where_it_has_one(world: World) -> None:
    gains = []
    for report in ("", "{}", '{"gain": null}', '{"gain": 0.5}'):
        record = world.teach(PROMPT, report=report)
        gains.append(Found(record).attribution.gain)
    assert gains == [None, None, None, 0.5]


@pytest.mark.parametrize("state", ["candidate", "canary", "champion"])
def test_an_adaptation_asked_for_by_id_may_be_in_any_live_state(world: World, state) -> None:
    record = world.teach(PROMPT, state=state)
    assert world.router.named(world.snapshot(), "t", record.id) == Found(record)
    assert Found(record).attribution == by(record, None)


@pytest.mark.parametrize(
    "changes", [{"tenant": "other"}, {"base": "older"}, {"state": "rejected"}, {"state": "retired"}]
)
def test_what_may_not_serve_is_refused_like_what_does_not_exist(world: World, changes: dict) -> None:
    record = world.teach(PROMPT, **changes)
    for identity in (record.id, "ad_0"):
        with pytest.raises(InvalidRequest) as caught:
            world.router.named(world.snapshot(), "t", identity)
        assert caught.value.detail == f"no adaptation {identity!r} serves this tenant and model"
        assert caught.value.field == "/adaptation"
        assert caught.value.hint == 'leave out `adaptation` for what was learned, or say "none" for the base model'


def test_among_ten_thousand_domains_the_one_of_brute_force_is_found(world: World) -> None:
    rng = np.random.default_rng(0)
    record = world.teach(PROMPT, radius=2.0)
    vectors = rng.normal(size=(10_000, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = [
        domains(16).make(
            id=f"x{i}", tenant="t", cluster=f"x{i}", embedder="e", base="base", state="champion", radius=0.0,
            centroid=tuple(map(float, vector)),
        )
        for i, vector in enumerate(vectors)
    ]  # fmt: skip
    world.owner.commit([domains(16).put(*rows)])
    router = Router("base", world.encoder, world.residency)
    answer = router.nearest(world.snapshot(), "t", world.vector(PROMPT), lambda _: 0.0)
    assert named_id(answer) == record.id
