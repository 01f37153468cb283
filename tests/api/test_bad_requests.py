"""What the server refuses, and the whole body it says so with."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import httpx2
import pytest

from perfuse import wire
from perfuse.errors import CanvasTooLong, GenerationFailed, InvalidRequest, NothingToFill, Overloaded, UnknownModel

ID = {"x-request-id": "r1"}
HEADERS = {**ID, "content-type": "application/json"}
DOCS = "see /docs for the fields"


def problem(status: int, code: str, title: str, detail: str, **more: object) -> dict[str, object]:
    body = {"type": f"/problems/{code}", "title": title, "status": status, "detail": detail, "code": code}
    return {**body, **more, "request_id": "r1"}


def invalid(pointer: str, message: str, *others: tuple[str, str], hint: str | None = None) -> dict[str, object]:
    more: dict[str, object] = {
        "field": pointer,
        "errors": [{"pointer": p, "message": m} for p, m in ((pointer, message), *others)],
    }
    if hint:
        more["hint"] = hint
    return problem(422, "invalid_request", "Invalid request", f"{pointer or 'body'}: {message}", **more)


def malformed(reason: str) -> dict[str, object]:
    return problem(400, "malformed_body", "Malformed body", reason, hint="send one JSON object in UTF-8")


def text(**fields: object) -> bytes:
    return json.dumps({"modality": "text", **fields}).encode()


def plan(**fields: object) -> bytes:
    body = {"domain": "trajectory", "environment": "maze2d-umaze", "state": [1, 1, 0, 0], "goal": {"position": [3, 1]}}
    return json.dumps({**body, **fields}).encode()


BODIES = {
    "unknown field": ("/diffuse", text(step=3), invalid("/step", "unknown field", hint=DOCS)),
    "wrong type": ("/diffuse", text(steps="8"), invalid("/steps", "input should be a valid integer, got '8'")),
    "bool for a number": ("/diffuse", text(n=True), invalid("/n", "input should be a valid integer, got True")),
    "no steps": ("/diffuse", text(steps=0), invalid("/steps", "input should be greater than or equal to 1, got 0")),
    "a million steps": (
        "/diffuse",
        text(steps=10**6),
        invalid("/steps", "input should be less than or equal to 4096, got 1000000"),
    ),
    "unknown option of a sampler": (
        "/diffuse",
        text(sampler_options={"levels": 0.5}),
        invalid("/sampler_options/levels", "unknown field", hint=DOCS),
    ),
    "option of a sampler out of range": (
        "/diffuse",
        text(sampler_options={"level": 1.5}),
        invalid("/sampler_options/level", "input should be less than or equal to 1, got 1.5"),
    ),
    "ramp out of range": (
        "/diffuse",
        text(guidance_ramp=-1.0),
        invalid("/guidance_ramp", "input should be greater than or equal to 0, got -1.0"),
    ),
    "unknown modality": (
        "/diffuse",
        b'{"modality":"smell"}',
        invalid("/modality", "input should be 'text', got 'smell'"),
    ),
    "no modality": ("/diffuse", b"{}", invalid("/modality", "this field is required")),
    "unknown domain": ("/plan", plan(domain="tools"), invalid("/domain", "input should be 'trajectory', got 'tools'")),
    "not an object": ("/diffuse", b"[1]", invalid("", "input should be an object")),
    "NaN": (
        "/diffuse",
        b'{"modality":"text","temperature":NaN}',
        invalid("/temperature", "input should be a finite number, got nan"),
    ),
    "NaN state": (
        "/plan",
        plan().replace(b"[1, 1, 0, 0]", b"[NaN, 1, 0, 0]"),
        invalid("/state/0", "input should be a finite number, got nan"),
    ),
    "infinite state": (
        "/plan",
        plan().replace(b"[1, 1, 0, 0]", b"[1, 1, -Infinity, 0]"),
        invalid("/state/2", "input should be a finite number, got -inf"),
    ),
    "number that overflows": (
        "/plan",
        plan().replace(b"[1, 1, 0, 0]", b"[1, 1e999, 0, 0]"),
        invalid("/state/1", "input should be a finite number, got inf"),
    ),
    "short state": (
        "/plan",
        plan(state=[1.0]),
        invalid("/state", "list should have at least 4 items after validation, not 1"),
    ),
    "seed too large": (
        "/diffuse",
        text(seed=2**63),
        invalid("/seed", "input should be less than or equal to 9223372036854775807, got 9223372036854775808"),
    ),
    "long values are cut": (
        "/diffuse",
        text(sampler="x" * 200),
        invalid(
            "/sampler",
            f"string should match pattern '^[a-z][a-z0-9_.-]{{0,63}}$', got '{'x' * 79}… (202 characters)",
        ),
    ),
    "several at once": (
        "/plan",
        plan(steps=0, goal={"position": [1, 2], "radius": 1}, **{"a/b": 1}),
        invalid(
            "/goal/radius",
            "unknown field",
            ("/steps", "input should be greater than or equal to 1, got 0"),
            ("/a~1b", "unknown field"),
            hint=DOCS,
        ),
    ),
    "invalid UTF-8": ("/diffuse", b'{"prompt":"\xff"}', malformed("the body is not UTF-8: byte 11 is 0xff")),
    "no JSON": ("/diffuse", b"{", malformed("the body is not JSON: EOF while parsing an object at line 1 column 1")),
    "half a surrogate pair": (
        "/diffuse",
        b'{"prompt":"\\ud800"}',
        malformed("the body is not JSON: unexpected end of hex escape at line 1 column 18"),
    ),
    "deep nesting": (
        "/plan",
        b"[" * 9999,
        malformed("the body is not JSON: recursion limit exceeded at line 1 column 202"),
    ),
    "a prompt of 2 MB": (
        "/diffuse",
        text(prompt="x" * 2_000_000),
        problem(
            413,
            "payload_too_large",
            "Payload too large",
            "the body may have 1000000 bytes, 2000034 bytes came",
            hint="send less, or raise --max-body-bytes on the server",
        ),
    ),
}


@pytest.mark.parametrize("case", BODIES)
async def test_a_bad_body_is_refused(client: httpx2.AsyncClient, pool, case: str) -> None:
    path, body, expected = BODIES[case]
    for prefix in ("", "/v1"):
        answer = await client.post(prefix + path, content=body, headers=HEADERS)
        assert (answer.status_code, answer.json()) == (expected["status"], expected)
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["x-request-id"] == "r1"
    assert pool.asked == []


async def test_a_chunked_body_over_the_limit_is_refused(client: httpx2.AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"x" * 50_000

    answer = await client.post("/diffuse", content=chunks(), headers=HEADERS)
    assert answer.status_code == 413
    assert answer.json() == problem(
        413,
        "payload_too_large",
        "Payload too large",
        "the body may have 1000000 bytes, more came",
        hint="send less, or raise --max-body-bytes on the server",
    )


REFUSALS = {
    "canvas without a mask": NothingToFill("the template has no <mask>", field="/template", hint="mark the gap"),
    "canvas too long": CanvasTooLong("the canvas has 300 tokens; model 'm@1' takes at most 256", field="/length"),
    "unknown model": UnknownModel("no text model 'x' is loaded", field="/model", hint="see GET /models"),
    "its forward failed": GenerationFailed("the forward failed"),
}


@pytest.mark.parametrize("case", REFUSALS)
async def test_what_an_engine_refuses_reaches_the_client(client: httpx2.AsyncClient, pool, case: str) -> None:
    pool.error = error = REFUSALS[case]
    more = {name: value for name, value in (("hint", error.hint), ("field", error.field)) if value}
    title = error.code.replace("_", " ").capitalize()
    for headers in (HEADERS, {**HEADERS, "accept": "text/event-stream"}):
        answer = await client.post("/diffuse", content=text(), headers=headers)
        assert answer.status_code == error.status
        assert answer.json() == problem(error.status, error.code, title, error.detail, **more)


@pytest.mark.parametrize("early", [True, False])
async def test_overload_says_when_to_try_again(client: httpx2.AsyncClient, pool, early: bool) -> None:
    error = Overloaded("2.3 s of work are queued", retry_after=2.3)
    if early:
        pool.refused = error
    else:
        pool.error = error
    answer = await client.post("/diffuse", content=text(), headers=HEADERS)
    assert answer.headers["retry-after"] == "3"
    assert answer.json() == problem(429, "overloaded", "Overloaded", "2.3 s of work are queued", retry_after=2.3)
    assert 'perfuse_shed_total{reason="overloaded"} 1.0' in (await client.get("/metrics")).text


async def test_an_early_refusal_does_not_read_the_body(client: httpx2.AsyncClient, pool) -> None:
    pool.refused = Overloaded("full", retry_after=0.1)
    answer = await client.post("/diffuse", content=b"{", headers=HEADERS)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")


async def test_unknown_paths_and_methods_are_problems(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/nothing", headers=ID)
    assert answer.json() == problem(404, "not_found", "Not found", "there is nothing at /nothing", hint="see /docs")
    answer = await client.get("/diffuse", headers=ID)
    assert answer.headers["allow"] == "POST"
    assert answer.json() == problem(
        405, "method_not_allowed", "Method not allowed", "GET is not possible on /diffuse", hint="it takes POST"
    )
    for path in ("/memories/mem_1", "/v1/memories/mem_1"):
        answer = await client.patch(path, headers=ID)
        assert (answer.status_code, answer.headers["allow"]) == (405, "DELETE, GET, PUT")


async def test_what_nobody_caught_is_a_problem_without_details(client: httpx2.AsyncClient, pool, caplog) -> None:
    pool.error = ZeroDivisionError("secret prompt")
    answer = await client.post("/diffuse", content=text(), headers=HEADERS)
    assert answer.json() == problem(
        500, "internal_error", "Internal error", "something failed that should not have", hint="see the server's log"
    )


async def test_what_nobody_caught_on_a_route_of_fastapi_is_the_same_problem(client: httpx2.AsyncClient, ledger) -> None:
    async def fails(identity: str, tenant: str) -> None:
        raise ZeroDivisionError(identity + tenant)

    ledger.find = fails
    identity = (await client.post("/diffuse", content=text(), headers=HEADERS)).json()["id"]
    answer = await client.get(f"/generations/{identity}", headers=ID)
    assert answer.json() == problem(
        500, "internal_error", "Internal error", "something failed that should not have", hint="see the server's log"
    )


async def test_problem_types_can_be_looked_up(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/problems/canvas_too_long")
    assert answer.json() == {
        "code": "canvas_too_long",
        "title": "Canvas too long",
        "status": 422,
        "meaning": "The canvas has more tokens than the model takes.",
    }
    answer = await client.get("/problems/nonsense", headers=ID)
    assert answer.json() == problem(404, "not_found", "Not found", "no problem has the code 'nonsense'")


def test_an_engines_invalid_request_crosses_the_wire_as_itself() -> None:
    sent = wire.problem_of(1, InvalidRequest("steps must be less", field="/steps"))
    assert type(wire.error_of(sent)) is InvalidRequest
