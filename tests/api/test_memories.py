"""/memories in front of the real orders server and store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx2
import pytest

from ordering import NOW, Scripted, serving
from perfuse.dispatch.evolution import EvolutionLink
from perfuse.evolution.learned import Learned
from unit.evolution.learning import reopen

R1 = {"x-request-id": "r1"}
TEXT = {"prompt": "p", "text": "x"}


def problem(status: int, code: str, detail: str, **more: object) -> dict[str, object]:
    title = code.replace("_", " ").capitalize()
    body = {"type": f"/problems/{code}", "title": title, "status": status, "detail": detail, "code": code}
    return {**body, "request_id": "r1", **more}


@pytest.fixture
def learned(tmp_path: Path) -> Iterator[Learned]:
    with reopen(tmp_path / "store") as opened:
        yield opened


@pytest.fixture
async def link(learned: Learned, tmp_path: Path) -> AsyncIterator[EvolutionLink]:
    async with serving(Scripted(learned), tmp_path / "e.sock") as link:
        yield link


@pytest.fixture
async def client(serve, link: EvolutionLink) -> AsyncIterator[httpx2.AsyncClient]:
    async with serve(evolution=link) as client:
        yield client


@pytest.mark.parametrize("prefix", ["", "/v1"])
async def test_a_memory_is_kept_replaced_and_forgotten(client: httpx2.AsyncClient, prefix: str) -> None:
    made = await client.post(f"{prefix}/memories", json=TEXT)
    kept = made.json()
    whole = {**TEXT, "id": kept["id"], "source": "unnamed", "generation": None, "created": NOW}
    assert (made.status_code, kept) == (201, whole)
    path = f"{prefix}/memories/{kept['id']}"
    assert (await client.get(path)).json() == whole
    replaced = await client.put(path, json={**TEXT, "text": "y", "source": "s"})
    assert (replaced.status_code, replaced.json()) == (200, {**whole, "text": "y", "source": "s"})
    assert (await client.get(f"{prefix}/memories")).json() == {"memories": [replaced.json()], "next": None}
    assert (await client.delete(path)).json() == {"deleted": kept["id"]}
    for answer in (
        await client.get(path, headers=R1),
        await client.put(path, json=TEXT, headers=R1),
        await client.delete(path, headers=R1),
    ):
        assert answer.json() == problem(404, "not_found", f"no memory {kept['id']}")


async def test_a_memory_that_is_sent_again_is_kept_once(client: httpx2.AsyncClient) -> None:
    first = await client.post("/memories", json={**TEXT, "idempotency_key": "k1"})
    second = await client.post("/memories", json=TEXT, headers={"idempotency-key": "k1"})
    assert (first.status_code, second.status_code, second.json()) == (201, 201, first.json())
    other = await client.post("/memories", json={**TEXT, "text": "y"}, headers={**R1, "idempotency-key": "k1"})
    assert other.json() == problem(
        422,
        "idempotency_key_reused",
        "the idempotency key was used before for another memory",
        field="/idempotency_key",
        hint="use a new key, or PUT the memory to replace it",
    )
    both = {**TEXT, "idempotency_key": "k1"}
    differ = await client.post("/memories", json=both, headers={**R1, "idempotency-key": "k2"})
    assert differ.json()["detail"] == "the header Idempotency-Key and the body's idempotency_key differ"


async def test_pages(client: httpx2.AsyncClient) -> None:
    ids = sorted([(await client.post("/memories", json=TEXT)).json()["id"] for _ in range(3)])
    first = (await client.get("/memories?limit=2")).json()
    assert ([each["id"] for each in first["memories"]], first["next"]) == (ids[:2], ids[1])
    second = (await client.get("/memories", params={"limit": 2, "after": first["next"]})).json()
    assert ([each["id"] for each in second["memories"]], second["next"]) == (ids[2:], None)


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "1.5", "", "x", "²", "9" * 30])
async def test_a_limit_that_is_none(client: httpx2.AsyncClient, limit: str) -> None:
    answer = await client.get("/memories", params={"limit": limit}, headers=R1)
    detail = f"limit: expected an integer from 1 to 1000, got {limit!r}"
    assert answer.json() == problem(422, "invalid_request", detail)


async def test_an_unknown_query_parameter(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/memories?before=x", headers=R1)
    detail = "unknown query parameter 'before'"
    assert answer.json() == problem(422, "invalid_request", detail, hint="there are `limit` and `after`")


@pytest.mark.parametrize(
    ("body", "pointer", "message"),
    [
        ({"prompt": "p"}, "/text", "this field is required"),
        ({**TEXT, "text": ""}, "/text", "string should have at least 1 character, got ''"),
        ({**TEXT, "generation": "g"}, "/generation", "unknown field"),
    ],
)
async def test_a_body_that_is_none(
    client: httpx2.AsyncClient, body: dict[str, str], pointer: str, message: str
) -> None:
    for answer in (
        await client.post("/memories", json=body, headers=R1),
        await client.put("/memories/mem_x", json=body, headers=R1),
    ):
        assert (answer.status_code, answer.json()["errors"]) == (422, [{"pointer": pointer, "message": message}])


async def test_keys_need_the_scope_and_reach_their_own_tenant_only(serve, link: EvolutionLink) -> None:
    def bearer(key: str) -> dict[str, str]:
        return {"authorization": f"Bearer {key}", **R1}

    async with serve(keys=True, evolution=link) as client:
        made = await client.post("/memories", json=TEXT, headers=bearer("feedback-key-of-a"))
        path = f"/memories/{made.json()['id']}"
        assert (await client.get(path, headers=bearer("generate-key-of-a"))).json() == made.json()
        foreign = await client.get(path, headers=bearer("generate-key-of-b"))
        assert foreign.json() == problem(404, "not_found", f"no memory {made.json()['id']}")
        assert (await client.get("/memories", headers=bearer("generate-key-of-b"))).json()["memories"] == []
        detail = "this needs a key with scope 'feedback'; yours has ['generate']"
        for refused in (
            await client.post("/memories", json=TEXT, headers=bearer("generate-key-of-a")),
            await client.put(path, json=TEXT, headers=bearer("generate-key-of-a")),
            await client.delete(path, headers=bearer("generate-key-of-a")),
        ):
            assert refused.json() == problem(403, "forbidden", detail, hint="ask whoever keeps the key file")
        assert (await client.delete(path, headers=bearer("feedback-key-of-b"))).status_code == 404
        assert (await client.get("/memories", headers=bearer("feedback-key-of-a"))).status_code == 403
