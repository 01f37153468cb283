"""/adapters and /evolution in front of the real orders server and store."""

from __future__ import annotations

import statistics
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx2
import msgspec
import pytest

from ordering import NOW, Scripted, canary, champion, serving, teach, trained
from perfuse.api.learned import AdapterAnswer, AdaptersAnswer, EvolutionAnswer, RevokeAnswer, RollBackAnswer
from perfuse.dispatch.evolution import EvolutionLink
from perfuse.evolution.learned import Learned
from perfuse.store.aliases import current
from perfuse.store.learning import JOBS
from unit.evolution.learning import reopen


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}", "x-request-id": "r1"}


ADMIN = bearer("generate-key-of-b")
NO_ADMIN = bearer("generate-key-of-a")
R1 = {"x-request-id": "r1"}


def problem(status: int, code: str, detail: str, **more: object) -> dict[str, object]:
    title = code.replace("_", " ").capitalize()
    body = {"type": f"/problems/{code}", "title": title, "status": status, "detail": detail, "code": code}
    return {**body, "request_id": "r1", **more}


@pytest.fixture
def learned(tmp_path: Path) -> Iterator[Learned]:
    with reopen(tmp_path / "store") as opened:
        teach(opened, tenant="local")
        yield opened


@pytest.fixture
async def link(learned: Learned, tmp_path: Path) -> AsyncIterator[EvolutionLink]:
    async with serving(Scripted(learned), tmp_path / "e.sock") as link:
        yield link


@pytest.fixture
async def client(serve, link: EvolutionLink) -> AsyncIterator[httpx2.AsyncClient]:
    async with serve(evolution=link) as client:
        yield client


def as_described(answer: httpx2.Response, kind: type) -> dict[str, object]:
    """The answer, if it is what openapi.yaml says of it."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    found: dict[str, object] = answer.json()
    assert msgspec.json.decode(msgspec.json.encode(msgspec.convert(found, kind))) == found
    return found


@pytest.mark.parametrize("prefix", ["", "/v1"])
async def test_adaptations_are_listed_and_shown(client: httpx2.AsyncClient, learned: Learned, prefix: str) -> None:
    made = canary(learned, tenant="local")
    listed = as_described(await client.get(f"{prefix}/adapters"), AdaptersAnswer)
    assert [(each["id"], each["state"], each["outcome"]) for each in listed["adapters"]] == [
        (made.id, "canary", "promote")
    ]
    shown = as_described(await client.get(f"{prefix}/adapters/{made.id}"), AdapterAnswer)
    assert (shown["sources"], shown["report"]["gain"], shown["blob"]) == (["a"], 0.3, made.blob)


async def test_promoting_and_rolling_back(client: httpx2.AsyncClient, learned: Learned) -> None:
    first, second = champion(learned, "d1", tenant="local"), canary(learned, "d2", tenant="local")
    shown = as_described(await client.post(f"/adapters/{second.id}/promote", json={}), AdapterAnswer)
    assert (shown["state"], shown["reason"], shown["changed"]) == ("champion", "promoted by an administrator", NOW)
    back = as_described(await client.post(f"/adapters/{second.id}/rollback", json={}), RollBackAnswer)
    assert back == {"cluster": "c", "champion": first.id, "previous": None, "canary": None, "share": 0.0}
    assert current(learned.store.snapshot(), "local", "c").champion == first.id


async def test_both_answer_within_100_milliseconds(client: httpx2.AsyncClient, learned: Learned) -> None:
    seconds: dict[str, list[float]] = {"promote": [], "rollback": []}
    for number in range(8):
        made = canary(learned, f"d{number}", tenant="local")
        for step, taken in seconds.items():
            began = time.perf_counter()
            answer = await client.post(f"/adapters/{made.id}/{step}", json={})
            taken.append(time.perf_counter() - began)
            assert answer.status_code == 200
    assert all(statistics.median(taken) < 0.1 for taken in seconds.values()), seconds


async def test_an_unknown_adaptation(client: httpx2.AsyncClient) -> None:
    for answer in (
        await client.get("/adapters/ad_x", headers=R1),
        await client.post("/adapters/ad_x/promote", json={}, headers=R1),
        await client.post("/adapters/ad_x/rollback", json={}, headers=R1),
    ):
        assert answer.json() == problem(404, "not_found", "no adaptation ad_x")


async def test_what_the_gate_has_not_seen_is_promoted_only_by_force(
    client: httpx2.AsyncClient, learned: Learned
) -> None:
    made = trained(learned, tenant="local")
    refused = await client.post(f"/adapters/{made.id}/promote", json={}, headers=R1)
    detail = f"{made.id} has not passed the gate: it has no report yet"
    assert refused.json() == problem(409, "wrong_state", detail, hint="wait for the gate, or force it")
    forced = await client.post(f"/adapters/{made.id}/promote", json={"force": True})
    assert forced.json()["state"] == "champion"


async def test_bodies_are_checked(client: httpx2.AsyncClient) -> None:
    for path in ("/adapters/ad_x/promote", "/adapters/ad_x/rollback", "/evolution/rebuild"):
        answer = await client.post(path, json={"now": True}, headers=R1)
        errors = [{"pointer": "/now", "message": "unknown field"}]
        assert answer.json() == problem(
            422, "invalid_request", "/now: unknown field", field="/now", hint="see /docs for the fields", errors=errors
        )


async def test_without_admin_nothing_is_steered(serve, link: EvolutionLink) -> None:
    detail = "this needs a key with scope 'admin'; yours has ['generate']"
    async with serve(keys=True, evolution=link) as client:
        for path in ("/adapters/ad_x/promote", "/adapters/ad_x/rollback", "/evolution/revoke", "/evolution/rebuild"):
            answer = await client.post(path, json={}, headers=NO_ADMIN)
            assert answer.json() == problem(403, "forbidden", detail, hint="ask whoever keeps the key file")
        assert (await client.get("/adapters", headers=NO_ADMIN)).status_code == 200
        assert (await client.get("/evolution", headers=NO_ADMIN)).status_code == 200
        assert (await client.get("/adapters", headers=bearer("feedback-key-of-a"))).status_code == 403
        assert (await client.get("/adapters")).status_code == 401


async def test_a_tenant_sees_and_steers_only_its_own(serve, link: EvolutionLink, learned: Learned) -> None:
    teach(learned, clusters=["own"], tenant="b")
    own, foreign = canary(learned, cluster="own", tenant="b"), canary(learned, tenant="local")
    async with serve(keys=True, evolution=link) as client:
        listed = (await client.get("/adapters", headers=ADMIN)).json()["adapters"]
        assert [each["id"] for each in listed] == [own.id]
        refused = await client.post(f"/adapters/{foreign.id}/promote", headers=ADMIN)
        assert refused.json() == problem(404, "not_found", f"no adaptation {foreign.id}")
        without_body = await client.post(f"/adapters/{own.id}/promote", headers=ADMIN)
        assert without_body.json()["state"] == "champion"
        assert (await client.post("/evolution/rebuild", headers=ADMIN)).json().keys() == {"jobs"}
    assert {job.tenant for job in JOBS.scan(learned.store.snapshot())} == {"b"}


async def test_status(client: httpx2.AsyncClient, learned: Learned) -> None:
    made = champion(learned, tenant="local")
    await client.post("/evolution/rebuild", json={"cluster": "k"})
    status = as_described(await client.get("/evolution"), EvolutionAnswer)
    assert (status["inbox"], status["feedback"], status["stage"]) == ({"waiting": 3}, {"curated": 6}, "train")
    assert [(each["cluster"], each["champion"]) for each in status["clusters"]] == [("c", made.id), ("k", None)]
    assert [(job["cluster"], job["state"], job["feedback"]) for job in status["jobs"]] == [("k", "queued", 3)]


async def test_revoking_a_source(client: httpx2.AsyncClient, learned: Learned) -> None:
    made = champion(learned, "d1", "a", "b", tenant="local")
    taken = as_described(await client.post("/v1/evolution/revoke", json={"source": "a"}), RevokeAnswer)
    assert (taken["retired"], taken["feedback"], len(taken["jobs"])) == ([made.id], 2, 1)
    missing = await client.post("/evolution/revoke", json={}, headers=R1)
    errors = [{"pointer": "/source", "message": "this field is required"}]
    detail = "/source: this field is required"
    assert missing.json() == problem(422, "invalid_request", detail, field="/source", errors=errors)


async def test_rebuilding_a_cluster_that_is_not_there(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/evolution/rebuild", json={"cluster": "x"}, headers=R1)
    detail = "no curated feedback in cluster 'x'"
    assert answer.json() == problem(404, "not_found", detail, hint="there are clusters c, k")


async def test_while_the_worker_is_not_there(serve, tmp_path: Path) -> None:
    async with serve(evolution=EvolutionLink(str(tmp_path / "nobody.sock"))) as client:
        answer = await client.get("/adapters", headers=R1)
    assert answer.headers["retry-after"] == "2"
    assert answer.json() == problem(
        503,
        "unavailable",
        "the evolution worker is not running",
        hint="it is starting again; try again",
        retry_after=2.0,
    )


async def test_a_server_that_does_not_learn(serve) -> None:
    async with serve() as client:
        answer = await client.get("/memories", headers=R1)
    detail = "this server does not learn"
    assert answer.json() == problem(
        503, "unavailable", detail, hint="ask one that does, or start it with --evolution embedded"
    )


async def test_requests_about_what_is_learned_have_a_label_of_their_own(client: httpx2.AsyncClient) -> None:
    for path in ("/adapters", "/v1/evolution", "/memories"):
        await client.get(path)
    metrics = (await client.get("/metrics")).text.splitlines()
    assert 'perfuse_requests_total{kind="learned",status="200"} 3.0' in metrics
