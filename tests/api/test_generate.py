"""Generating over HTTP: the bodies, streaming, records, and clients that leave."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import fields, replace

import httpx2
import msgspec
import pytest
from pydantic import TypeAdapter

from perfuse.api import generate
from perfuse.api.schemas import DiffuseAnswer, GenerationAnswer, PlanAnswer
from perfuse.dispatch.pool import PreviewEvent, RestartedEvent
from perfuse.errors import NonFiniteOutput
from perfuse.requests import Attribution, Goal, Preview, SamplerOptions, TextRequest, TrajectoryRequest, Uncertainty

TEXT = {"modality": "text", "prompt": "double it", "prefix": "a", "suffix": "b", "seed": 7}
PLAN = {"domain": "trajectory", "environment": "maze2d-umaze", "state": [1, 1, 0, 0], "goal": {"position": [3, 1]}}


def events(answer: httpx2.Response) -> list[tuple[str, dict]]:
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    blocks = [block.split("\n") for block in answer.text.strip().split("\n\n")]
    return [(block[0].removeprefix("event: "), json.loads(block[1].removeprefix("data: "))) for block in blocks]


async def test_filling_text_answers_with_the_documented_body(client: httpx2.AsyncClient, pool) -> None:
    answer = await client.post("/diffuse", json={**TEXT, "deadline_ms": 250, "priority": 2})
    body = answer.json()
    total, identity = body["timing_ms"].pop("total"), body.pop("id")
    assert total > 0
    assert identity.startswith("gen_")
    assert body == {
        "model": "m@1",
        "outputs": [
            {
                "text": "aFILLb",
                "fill": "FILL",
                "finish_reason": "complete",
                "confidence": 0.75,
                "steps_done": 5,
                "forwards": 5,
                "p_correct": None,
                "uncertainty": None,
                "syntax_error": None,
            }
        ],
        "confidence": 0.75,
        "steps_done": 5,
        "attribution": [],
        "seed": 7,
        "snapshot": 8,
        "restarts": 0,
        "recorded": True,
        "timing_ms": {"queue": 0.4, "compute": 21.0},
    }
    asked = pool.asked[0]
    assert (asked.modality, asked.priority, asked.deadline_seconds) == ("text", 2, 0.25)
    assert asked.request == TextRequest(prompt="double it", prefix="a", suffix="b", seed=7)


async def test_how_sure_a_text_is_stands_in_the_answer_the_record_and_the_metrics(
    client: httpx2.AsyncClient, pool
) -> None:
    said = Uncertainty(
        confidence_quantile=0.2, novelty_quantile=0.99, combined=0.99, p_value=0.01, threshold=0.97, novel=True,
        should_evolve=True, calibrated_on="1200 right answers",
    )  # fmt: skip
    pool.uncertainty = said
    body = (await client.post("/diffuse", json={**TEXT, "n": 2})).json()
    expected = [(0.25, msgspec.to_builtins(said))] * 2
    assert [(output["p_correct"], output["uncertainty"]) for output in body["outputs"]] == expected
    kept = (await client.get(f"/generations/{body['id']}")).json()["result"]
    assert kept["outputs"] == body["outputs"]
    for change in ({"novel": False}, {"novel": False, "should_evolve": False}):
        pool.uncertainty = replace(said, **change)
        await client.post("/diffuse", json=TEXT)
    pool.uncertainty = None
    await client.post("/diffuse", json=TEXT)
    found = (await client.get("/metrics")).text
    for trust, count in (("novel", 2), ("unsure", 1), ("usual", 1), ("uncalibrated", 1)):
        assert f'perfuse_text_outputs_total{{trust="{trust}"}} {count}.0' in found


async def test_the_sampler_and_its_options_reach_the_engine(client: httpx2.AsyncClient, pool) -> None:
    said = {"sampler": "remdm_cap", "sampler_options": {"eta": 0.2, "window": 8}, "guidance": 2.0, "guidance_ramp": 0.5}
    assert (await client.post("/diffuse", json={**TEXT, **said})).status_code == 200
    asked = pool.asked[0].request
    assert asked.sampler_options == SamplerOptions(eta=0.2, window=8)
    assert (asked.sampler, asked.guidance, asked.guidance_ramp) == ("remdm_cap", 2.0, 0.5)


async def test_a_structure_reaches_the_engine_in_the_order_it_was_written(client: httpx2.AsyncClient, pool) -> None:
    schema = {"type": "object", "properties": {"z": {"enum": ["é", 1.5]}, "a": {"type": "null"}}}
    assert (await client.post("/diffuse", json={**TEXT, "schema": schema})).status_code == 200
    assert (await client.post("/diffuse", json={**TEXT, "regex": "a+"})).status_code == 200
    first, second = (asked.request for asked in pool.asked)
    assert first.schema == '{"type":"object","properties":{"z":{"enum":["é",1.5]},"a":{"type":"null"}}}'
    assert (first.regex, second.schema, second.regex) == (None, None, "a+")
    refused = await client.post("/diffuse", json={**TEXT, "schema": "{}"})
    assert (refused.status_code, refused.json()["field"]) == (422, "/schema")


async def test_planning_answers_with_the_documented_body(client: httpx2.AsyncClient, pool) -> None:
    answer = await client.post("/v1/plan", json={**PLAN, "seed": 3})
    body = answer.json()
    assert body["status"] == "verified"
    assert body["trajectory"] == {"dt": 0.01, "states": [[0.0, 0.0, 0.0, 0.0], [0.5, 0.5, 1.0, 1.0]]}
    assert body["verification"] == {"collision_free": True, "arrival_step": 1, "violations": []}
    assert body["candidates"] == {"sampled": 16, "valid": 15}
    TypeAdapter(PlanAnswer).validate_json(answer.content, extra="forbid")
    goal = Goal(position=(3.0, 1.0), tolerance=0.5)
    assert pool.asked[0].request == TrajectoryRequest(
        environment="maze2d-umaze", state=(1.0, 1.0, 0.0, 0.0), goal=goal, seed=3
    )


async def test_answers_are_as_openapi_says(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/diffuse", json=TEXT)
    TypeAdapter(DiffuseAnswer).validate_json(answer.content, extra="forbid")
    found = await client.get(f"/generations/{answer.json()['id']}")
    TypeAdapter(GenerationAnswer).validate_json(found.content, extra="forbid")


async def test_an_answer_names_what_was_learned_and_the_ledger_keeps_it(
    client: httpx2.AsyncClient, pool, ledger
) -> None:
    learned = Attribution(
        id="ad_" + "0" * 32, cluster="c_1", state="champion", distance=0.25, weight=1.0, gain=None, dataset="d"
    )
    pool.attribution = (learned,)
    answer = await client.post("/diffuse", json={**TEXT, "adaptation": learned.id})
    assert pool.asked[0].request.adaptation == learned.id
    assert answer.json()["attribution"] == [
        {
            "id": learned.id,
            "cluster": "c_1",
            "state": "champion",
            "distance": 0.25,
            "weight": 1.0,
            "gain": None,
            "dataset": "d",
        }
    ]
    TypeAdapter(DiffuseAnswer).validate_json(answer.content, extra="forbid")
    (kept,) = ledger.kept.values()
    assert kept.adaptations == (learned.id,)
    await client.post("/plan", json=PLAN)
    assert list(ledger.kept.values())[1].adaptations == ()


@pytest.mark.parametrize("asked", ["ad_1", "best", "", "ad_" + "G" * 32, "AUTO", "none\n"])
async def test_what_is_no_adaptation_is_refused(client: httpx2.AsyncClient, pool, asked: str) -> None:
    answer = await client.post("/diffuse", json={**TEXT, "adaptation": asked})
    body = answer.json()
    assert (answer.status_code, body["code"], body["field"]) == (422, "invalid_request", "/adaptation")
    assert body["detail"] == (
        f"/adaptation: string should match pattern '^(auto|none|ad_[0-9a-f]{{32}})$', got {asked!r}"
    )
    assert not pool.asked


async def test_engines_are_told_whose_request_it_is(serve, pool) -> None:
    async with serve(keys=True) as client:
        for tenant in ("a", "b"):
            headers = {"authorization": f"Bearer generate-key-of-{tenant}"}
            assert (await client.post("/diffuse", json=TEXT, headers=headers)).status_code == 200
        assert [asked.tenant for asked in pool.asked] == ["a", "b"]


async def test_a_seed_is_drawn_and_returned_when_none_is_given(client: httpx2.AsyncClient, pool) -> None:
    seeds = [(await client.post("/plan", json=PLAN)).json()["seed"] for _ in range(3)]
    assert [asked.request.seed for asked in pool.asked] == seeds
    assert len(set(seeds)) == 3
    assert all(0 <= seed < 2**53 for seed in seeds)


async def test_a_generation_can_be_read_back(client: httpx2.AsyncClient) -> None:
    answer = (await client.post("/diffuse", json=TEXT)).json()
    found = (await client.get(f"/v1/generations/{answer['id']}")).json()
    assert found.pop("created") > 0
    assert found == {
        "id": answer["id"],
        "kind": "diffuse",
        "model": "m@1",
        "seed": 7,
        "snapshot": 8,
        "request": {
            "prompt": "double it",
            "prefix": "a",
            "suffix": "b",
            "template": None,
            "length": None,
            "language": "python",
            "model": None,
            "sampler": "auto",
            "steps": None,
            "temperature": 0.0,
            "guidance": 1.0,
            "guidance_ramp": 0.0,
            "sampler_options": {field.name: None for field in fields(SamplerOptions)},
            "seed": 7,
            "n": 1,
            "adaptation": "auto",
            "reproducible": False,
            "schema": None,
            "regex": None,
            "syntax": "auto",
            "refine": None,
        },
        "result": {"outputs": answer["outputs"], "confidence": 0.75, "steps_done": 5, "attribution": []},
    }


@pytest.mark.parametrize(
    "spoil", [lambda i: i[:-1] + ("A" if i[-1] != "A" else "B"), lambda i: "gen_x", lambda i: i[4:]]
)
async def test_forged_ids_are_not_looked_up(client: httpx2.AsyncClient, ledger, spoil) -> None:
    identity = (await client.post("/diffuse", json=TEXT)).json()["id"]
    ledger.down = True  # a look-up would be a 503
    answer = await client.get(f"/generations/{spoil(identity)}", headers={"x-request-id": "r1"})
    assert answer.json() == {
        "type": "/problems/not_found",
        "title": "Not found",
        "status": 404,
        "detail": "no such generation",
        "code": "not_found",
        "hint": "use an id as it was returned, with the key of the same tenant",
        "request_id": "r1",
    }


async def test_a_generation_that_is_gone_is_not_found(client: httpx2.AsyncClient, ledger) -> None:
    identity = (await client.post("/diffuse", json=TEXT)).json()["id"]
    ledger.kept.clear()
    answer = await client.get(f"/generations/{identity}")
    assert (answer.status_code, answer.json()["hint"]) == (
        404,
        "it was not recorded, or is older than --ledger-ttl-seconds",
    )


async def test_generating_goes_on_without_the_ledger(client: httpx2.AsyncClient, ledger) -> None:
    ledger.down = True
    answer = await client.post("/diffuse", json=TEXT)
    assert (answer.status_code, answer.json()["recorded"]) == (200, False)
    assert 'perfuse_ledger_records_total{outcome="lost"} 1.0' in (await client.get("/metrics")).text
    answer = await client.get(f"/generations/{answer.json()['id']}")
    assert (answer.status_code, answer.json()["code"]) == (503, "ledger_unavailable")


async def test_a_ledger_that_hangs_delays_the_answer_for_a_bounded_time(client, ledger, monkeypatch) -> None:
    monkeypatch.setattr(generate, "LEDGER_SECONDS", 0.05)
    ledger.slow = True
    answer = await client.post("/diffuse", json=TEXT)
    assert (answer.status_code, answer.json()["recorded"]) == (200, False)


@pytest.mark.parametrize(
    "how", [{"json": {**TEXT, "stream": True}}, {"json": TEXT, "headers": {"accept": "text/event-stream"}}]
)
async def test_a_stream_shows_admission_progress_and_the_answer(client: httpx2.AsyncClient, pool, how) -> None:
    pool.previews = 2
    pool.restarts = 1
    pool.more_events = [RestartedEvent(1), PreviewEvent(Preview(step=1, of=9, body={"canvas": "again"}))]
    seen = events(await client.post("/diffuse", **how))
    names = [name for name, _ in seen]
    assert names[0] == "accepted"
    assert seen[0][1] == {"backlog_seconds": 0.25, "snapshot": 8}
    assert ("restarted", {"restarts": 1}) in seen
    assert ("preview", {"step": 1, "of": 9, "canvas": "again"}) in seen
    assert names[-1] == "result"
    assert seen[-1][1]["outputs"][0]["fill"] == "FILL"
    assert names.index("restarted") < names.index("result")


async def test_a_step_without_a_picture_is_a_step_event(client: httpx2.AsyncClient, pool) -> None:
    pool.previews = 1
    seen = events(await client.post("/diffuse", json={**TEXT, "stream": True}))
    assert [name for name, _ in seen] == ["accepted", "step", "result"]
    assert seen[1][1] == {"step": 1, "of": 1}
    assert 'perfuse_first_preview_seconds_count{kind="diffuse"} 1.0' in (await client.get("/metrics")).text


@pytest.mark.parametrize(
    ("error", "code"), [(NonFiniteOutput("NaN came out"), "non_finite_output"), (ZeroDivisionError(), "internal_error")]
)
async def test_a_failure_after_admission_ends_the_stream_with_a_problem(client, pool, error, code) -> None:
    async def fails(*args, on_event, **kwargs):
        on_event(PreviewEvent(Preview(step=1, of=2)))
        await asyncio.sleep(0.01)
        raise error

    pool.run = fails
    seen = events(await client.post("/diffuse", json={**TEXT, "stream": True}, headers={"x-request-id": "r9"}))
    assert [name for name, _ in seen] == ["step", "error"]
    assert (seen[1][1]["code"], seen[1][1]["status"], seen[1][1]["request_id"]) == (code, 500, "r9")


async def test_an_unexpected_failure_before_admission_is_a_500(client: httpx2.AsyncClient, pool) -> None:
    async def fails(*args, **kwargs):
        raise ZeroDivisionError

    pool.run = fails
    answer = await client.post("/diffuse", json={**TEXT, "stream": True})
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")


async def test_a_quiet_stream_is_kept_alive(client: httpx2.AsyncClient, pool, monkeypatch) -> None:
    monkeypatch.setattr("perfuse.api.events.PING_SECONDS", 0.01)
    pool.gate = asyncio.Event()
    asyncio.get_running_loop().call_later(0.08, pool.gate.set)
    answer = await client.post("/diffuse", json={**TEXT, "stream": True})
    assert ": ping\n\n" in answer.text


def post_of(path: str) -> dict[str, object]:
    """The scope of a post of JSON."""
    return {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")],
        "scheme": "http",
        "server": ("127.0.0.1", 8000),
        "http_version": "1.1",
    }


async def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_failure(client, pool, caplog) -> None:
    inbox: asyncio.Queue = asyncio.Queue()
    inbox.put_nowait({"type": "http.request", "body": b'{"modality": "te', "more_body": True})
    inbox.put_nowait({"type": "http.disconnect"})

    async def send(message):
        raise AssertionError(message)

    await client.app(post_of("/diffuse"), inbox.get, send)
    assert pool.asked == []
    metrics = (await client.get("/metrics")).text
    assert 'perfuse_client_gone_total{kind="diffuse"} 1.0' in metrics
    assert 'perfuse_requests_total{kind="diffuse",status="499"} 1.0' in metrics
    # The client's own library speaks at INFO where an earlier test let it.
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_cancels_its_request(client, pool, stream) -> None:
    pool.gate = asyncio.Event()
    body = json.dumps({**TEXT, "stream": stream}).encode()
    inbox: asyncio.Queue = asyncio.Queue()
    inbox.put_nowait({"type": "http.request", "body": body, "more_body": False})
    sent = []

    async def send(message):
        sent.append(message)

    scope = post_of("/diffuse")
    running = asyncio.create_task(client.app(scope, inbox.get, send))
    while not pool.asked:
        await asyncio.sleep(0)
    inbox.put_nowait({"type": "http.disconnect"})
    await asyncio.wait_for(running, 30)
    assert pool.cancelled == 1
    assert 'perfuse_client_gone_total{kind="diffuse"} 1.0' in (await client.get("/metrics")).text


async def test_a_server_that_stops_cancels_what_runs(client, pool) -> None:
    pool.gate = asyncio.Event()
    running = asyncio.create_task(client.post("/diffuse", json=TEXT))
    while not pool.asked:
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert pool.cancelled == 1
