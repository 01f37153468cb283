"""Learned answers beside base answers: who gets which, and that nobody else notices."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from adapting import World, by, phrases
from perfuse.adaptation.isotonic import fit_falling
from perfuse.engine.cost import CostModel
from perfuse.engine.loop import Engine
from perfuse.engine.run import Job
from perfuse.errors import InvalidRequest, StoreCorrupt
from perfuse.pipelines.adapted import calls, check
from perfuse.pipelines.alone import AloneRun, run_alone
from perfuse.requests import TextRequest, TextResult
from perfuse.store.blobs import Blobs
from scripted import Recorder

PROMPT, OTHER = phrases(2, seed=1)
NO_SUCH = "ad_" + "0" * 32


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "store")
    made.open_tables()
    yield made
    made.close()


def request(prompt: str = PROMPT, **fields: object) -> TextRequest:
    return TextRequest(prompt=prompt, **{"seed": 3, "reproducible": True, "syntax": "off", **fields})  # type: ignore[arg-type]


def test_a_request_like_those_learned_from_is_answered_by_what_was_learned(world: World) -> None:
    record = world.teach(PROMPT)
    answer = world.ask(request())
    assert answer.outputs != world.ask(request(), learns=False).outputs
    (attribution,) = answer.attribution
    assert attribution == by(record, attribution.distance)
    assert attribution.distance == pytest.approx(0.0, abs=1e-6)


def test_what_was_learned_says_by_its_own_gate_how_sure_it_is(world: World) -> None:
    chance = fit_falling([0.0, 1e6], [True, False])
    record = world.teach(PROMPT, report=json.dumps({"outcome": "promote", "calibration": chance.as_json()}))
    (output,) = world.ask(request()).outputs
    assert output.doubt > 0.0
    assert (output.p_correct, output.uncertainty) == (chance.at(output.doubt), None)
    (within_a_gap,) = world.ask(request(prefix="def f():")).outputs
    assert within_a_gap.p_correct is None
    assert world.ask(request(OTHER, adaptation=record.id)).outputs[0].p_correct is not None
    (silent,) = world.ask(request(OTHER, adaptation=world.teach(OTHER).id)).outputs
    assert silent.p_correct is None


def test_none_is_the_base_model_and_computes_nothing_else(world: World) -> None:
    record = world.teach(PROMPT)
    base, run = world.run(world.pipeline(), request(adaptation="none"))
    assert base == world.ask(request(), learns=False)
    _, plain = world.run(world.pipeline(learns=False), request())
    assert run.forwards == plain.forwards
    assert world.ask(request()).attribution[0].id == record.id


def test_an_adaptation_can_be_asked_for_by_id_wherever_the_request_lies(world: World) -> None:
    candidate = world.teach(PROMPT, state="candidate")
    answer = world.ask(request(OTHER, adaptation=candidate.id))
    assert answer.attribution == (by(candidate, None),)
    assert answer.outputs != world.ask(request(OTHER, adaptation="none")).outputs


def test_guidance_subtracts_the_bare_answer_of_the_same_adaptation(world: World) -> None:
    record = world.teach(PROMPT)
    seen = []
    network = world.read.network

    class Seeing(AloneRun):
        async def forward(self, *rows):
            seen.extend(row.adaptation for row in rows if row.network is network and "logits" in row.want)
            return await super().forward(*rows)

    run = Seeing(3, tenant="t", snapshot=world.snapshot())
    run_alone(world.pipeline(), request(guidance=1.7, steps=2), run=run)
    assert {one.id if one else None for one in seen} == {record.id}


def test_two_hundred_requests_elsewhere_get_the_bytes_of_a_server_without_adaptations(world: World) -> None:
    for i, prompt in enumerate(phrases(5, seed=2)):
        world.teach(prompt, tenant=("t", "other")[i % 2])
    learned = world.taught
    elsewhere = [prompt for prompt in phrases(230, seed=3) if not within(world, prompt)][:200]
    assert (len(elsewhere), learned) == (200, 5)
    asked = [
        request(prompt, seed=i, temperature=(0.0, 0.8)[i % 2], guidance=(1.0, 1.5)[i % 3 == 0])
        for i, prompt in enumerate(elsewhere)
    ]
    without = [world.ask(one, learns=False) for one in asked]
    engine = Engine({"text": world.pipeline()}, cost=CostModel(max_rows=8), backlog_limit=1e9, snapshots=world.snapshot)
    sink = Recorder()
    for i, one in enumerate(asked):
        engine.submit(Job(id=i, modality="text", request=one, tenant="t"), sink)
        engine.submit(Job(id=1000 + i, modality="text", request=request(seed=i), tenant="t"), sink)
    engine.run_until_idle()
    engine.stop()
    engine.run_forever()
    assert not sink.errors
    assert [sink.results[i] for i in range(200)] == without


def within(world: World, prompt: str) -> bool:
    found = world.router.nearest(world.snapshot(), "t", world.vector(prompt), lambda _: 0.0)
    return found is not None


def test_a_reproducible_learned_answer_is_the_same_alone_and_in_company(world: World) -> None:
    world.teach(PROMPT)
    world.teach(OTHER)
    asked = [request(prompt, seed=i, temperature=0.7) for i in range(4) for prompt in (PROMPT, OTHER)]
    alone = [world.ask(one) for one in asked]
    assert all(answer.attribution for answer in alone)
    engine = Engine({"text": world.pipeline()}, cost=CostModel(max_rows=8), backlog_limit=1e9, snapshots=world.snapshot)
    sink = Recorder()
    for i, one in enumerate(asked):
        engine.submit(Job(id=i, modality="text", request=one, tenant="t"), sink)
        engine.submit(Job(id=100 + i, modality="text", request=replace(one, reproducible=False), tenant="t"), sink)
    engine.run_until_idle()
    engine.stop()
    engine.run_forever()
    assert not sink.errors
    assert [sink.results[i] for i in range(len(asked))] == alone


def test_a_tenant_without_domains_pays_no_forward(world: World) -> None:
    world.teach(PROMPT, tenant="other")
    _, plain = world.run(world.pipeline(learns=False), request())
    _, run = world.run(world.pipeline(), request())
    assert run.forwards == plain.forwards


def test_a_tenant_never_gets_what_was_learned_from_another(world: World) -> None:
    record = world.teach(PROMPT, tenant="other")
    assert world.ask(request()) == world.ask(request(), learns=False)
    with pytest.raises(InvalidRequest) as caught:
        world.ask(request(adaptation=record.id))
    assert caught.value.detail == f"no adaptation {record.id!r} serves this tenant and model"
    assert world.ask(request(adaptation=record.id), tenant="other").attribution == (by(record, None),)


def test_the_seed_decides_who_gets_the_canary(world: World) -> None:
    champion = world.teach(PROMPT, cluster="c")
    canary = world.teach(PROMPT, cluster="c", state="canary", share=0.3)

    def who(seed: int) -> str:
        return world.ask(request(seed=seed, length=2)).attribution[0].id

    first = [who(seed) for seed in range(100)]
    assert first == [who(seed) for seed in range(100)]
    assert set(first) == {champion.id, canary.id}
    assert 15 <= first.count(canary.id) <= 45


def test_a_client_of_one_seed_gets_the_canary_for_a_share_of_its_prompts(world: World) -> None:
    canary = world.teach(PROMPT, cluster="c", state="canary", share=0.3, radius=2.0)
    asked = phrases(60, seed=9)
    adapted = [bool(world.ask(request(prompt, length=2)).attribution) for prompt in asked]
    assert adapted == [bool(world.ask(request(prompt, length=2)).attribution) for prompt in asked]
    assert 8 <= sum(adapted) <= 30, canary.id


def test_bytes_that_cannot_be_used_leave_the_base_model(world: World) -> None:
    record = world.teach(PROMPT, blob=b"damaged")
    assert world.ask(request()) == world.ask(request(), learns=False)
    with pytest.raises(StoreCorrupt) as caught:
        world.ask(request(adaptation=record.id))
    assert caught.value.detail.startswith(f"adaptation {record.id} cannot be used: ")
    intact = world.teach(OTHER)
    blobs = Blobs(world.folder / "blobs")
    blobs.path(intact.blob).write_bytes(b"")
    assert world.ask(request(OTHER)) == world.ask(request(OTHER), learns=False)


@pytest.mark.parametrize("learns", [True, False])
def test_without_a_store_there_is_only_the_base_model(world: World, learns: bool) -> None:
    pipeline = world.pipeline(learns=learns)
    answer = run_alone(pipeline, request(), run=AloneRun(3, reproducible=True))
    assert isinstance(answer, TextResult)
    assert answer == world.ask(request(), learns=False)
    with pytest.raises(InvalidRequest) as caught:
        run_alone(pipeline, request(adaptation=NO_SUCH), run=AloneRun(3))
    assert caught.value.detail == f"no adaptation {NO_SUCH!r} serves this tenant and model"


@pytest.mark.parametrize("asked", ["", "best", "ad_1", "ad_" + "A" * 32, "none ", "auto\n"])
def test_what_names_no_adaptation_is_refused_before_anything_is_computed(world: World, asked: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        world.pipeline().estimate(request(adaptation=asked))
    assert caught.value.detail == (
        f"adaptation is {asked!r}; expected 'auto', 'none' or an id like 'ad_' and 32 hexadecimal digits"
    )
    assert (caught.value.field, caught.value.hint) == ("/adaptation", "leave out `adaptation` for what was learned")


def test_only_a_request_that_may_be_routed_is_estimated_to_cost_a_row_more(world: World) -> None:
    for asked in ("auto", "none", NO_SUCH):
        check(asked)
    assert [calls(world.router, asked) for asked in ("auto", "none", NO_SUCH)] == [1, 0, 0]
    assert calls(None, "auto") == 0
    with_router = world.pipeline().estimate(request())
    assert with_router[0].calls == world.pipeline(learns=False).estimate(request())[0].calls + 1
