"""Keys, scopes, tenants, and the gate of servers without keys."""

from __future__ import annotations

import httpx2
import pytest

TEXT = {"modality": "text"}
HINT = "use http://127.0.0.1:PORT, or start the server with --keys"


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}", "x-request-id": "r1"}


def problem(status: int, code: str, detail: str, hint: str) -> dict[str, object]:
    title = code.replace("_", " ").capitalize()
    body = {"type": f"/problems/{code}", "title": title, "status": status, "detail": detail, "code": code}
    return {**body, "hint": hint, "request_id": "r1"}


@pytest.mark.parametrize(
    ("header", "detail"),
    [
        ({}, "this server needs a key"),
        ({"authorization": "Bearer wrong-key-of-nobody"}, "the key is not known here"),
        ({"authorization": "Basic generate-key-of-a"}, "the key is not known here"),
        ({"authorization": "Bearer "}, "the key is not known here"),
        ({"authorization": "Bearer \xe4"}, "the key is not known here"),
    ],
)
async def test_missing_and_wrong_keys_are_refused(serve, pool, header, detail) -> None:
    async with serve(keys=True) as client:
        headers = {**{k: v.encode("latin-1") for k, v in header.items()}, "x-request-id": "r1"}
        answer = await client.post("/diffuse", json=TEXT, headers=headers)
    assert answer.headers["www-authenticate"] == 'Bearer realm="perfuse"'
    assert answer.json() == problem(401, "unauthenticated", detail, "send `Authorization: Bearer KEY`")
    assert pool.asked == []


async def test_a_key_without_the_scope_is_refused(serve) -> None:
    async with serve(keys=True) as client:
        answer = await client.post("/diffuse", json=TEXT, headers=bearer("feedback-key-of-a"))
    detail = "this needs a key with scope 'generate'; yours has ['feedback']"
    assert answer.json() == problem(403, "forbidden", detail, "ask whoever keeps the key file")


async def test_a_key_opens_from_any_host_and_content_type(serve) -> None:
    async with serve(keys=True, base_url="http://perfuse.example") as client:
        headers = {**bearer("generate-key-of-a"), "origin": "http://app.example"}
        answer = await client.post("/diffuse", content=b'{"modality":"text"}', headers=headers)
        assert answer.status_code == 200
        assert (await client.get("/models", headers=headers)).json()["models"][0]["name"] == "m@1"


async def test_another_tenants_generation_does_not_exist(serve) -> None:
    async with serve(keys=True) as client:
        identity = (await client.post("/diffuse", json=TEXT, headers=bearer("generate-key-of-a"))).json()["id"]
        own = await client.get(f"/generations/{identity}", headers=bearer("generate-key-of-a"))
        foreign = await client.get(f"/generations/{identity}", headers=bearer("generate-key-of-b"))
    assert own.status_code == 200
    assert foreign.json() == problem(
        404, "not_found", "no such generation", "use an id as it was returned, with the key of the same tenant"
    )


async def test_health_needs_no_key(serve) -> None:
    async with serve(keys=True) as client:
        for path in ("/livez", "/readyz", "/version", "/metrics", "/docs", "/openapi.json"):
            assert (await client.get(path)).status_code == 200
        assert (await client.get("/models")).status_code == 401


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "10.0.0.1", "", "a@b"])
async def test_without_keys_a_foreign_host_is_refused(client: httpx2.AsyncClient, host: str) -> None:
    answer = await client.get("/livez", headers={"host": host, "x-request-id": "r1"})
    detail = f"without keys the Host header must be this machine, got {host!r}"
    assert answer.json() == problem(403, "forbidden", detail, HINT)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:8000", "[::1]", "127.3.2.1"])
async def test_without_keys_this_machine_is_served(client: httpx2.AsyncClient, host: str) -> None:
    assert (await client.get("/livez", headers={"host": host})).json() == {"status": "alive"}


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "file://localhost", "https://localhost.evil:1"])
async def test_without_keys_a_foreign_origin_is_refused(client: httpx2.AsyncClient, pool, origin: str) -> None:
    answer = await client.post("/diffuse", json=TEXT, headers={"origin": origin, "x-request-id": "r1"})
    detail = f"without keys the Origin must be this machine, got {origin!r}"
    assert answer.json() == problem(403, "forbidden", detail, HINT)
    assert pool.asked == []


async def test_without_keys_a_page_of_this_machine_is_served(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/diffuse", json=TEXT, headers={"origin": "http://localhost:3000"})
    assert answer.status_code == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", None])
async def test_without_keys_a_post_must_say_json(client: httpx2.AsyncClient, kind: str | None) -> None:
    headers = {"x-request-id": "r1", **({"content-type": kind} if kind else {})}
    answer = await client.post("/diffuse", content=b'{"modality":"text"}', headers=headers)
    detail = f"expected content-type application/json, got {kind or ''!r}"
    assert answer.json() == problem(
        415, "unsupported_media_type", detail, "add the header `Content-Type: application/json`"
    )


@pytest.mark.parametrize("given", ["", "with space", "x" * 129, "\x7f"])
async def test_unusable_request_ids_are_replaced(client: httpx2.AsyncClient, given: str) -> None:
    answer = await client.get("/livez", headers={"x-request-id": given})
    assert len(answer.headers["x-request-id"]) == 16
