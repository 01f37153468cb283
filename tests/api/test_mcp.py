"""The tools at /mcp, asked by the official client in both generations of the protocol."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import pytest
from mcp import MCPError
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client

from perfuse.dispatch.pool import PreviewEvent, RestartedEvent
from perfuse.errors import NonFiniteOutput, Overloaded
from perfuse.requests import Goal, Preview, Refinement, TextRequest, TrajectoryRequest

MODES = pytest.mark.parametrize("mode", ["2026-07-28", "legacy"])
PLAN = {"environment": "maze2d-umaze", "state": [1, 1, 0, 0], "goal": {"position": [3, 1]}}
BROKEN = {"code": "const x = (1;", "error": "SyntaxError: missing )"}
CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "generate", "arguments": {"prompt": "p"}}}

META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
LEGACY = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
MODERN = {**LEGACY, "mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call", "mcp-name": "generate"}


@asynccontextmanager
async def connected(http: httpx2.AsyncClient, mode: str = "2026-07-28") -> AsyncIterator[Client]:
    http.follow_redirects = True
    url = "http://127.0.0.1:8000/mcp"
    async with Client(streamable_http_client(url, http_client=http), mode=mode) as agent:
        yield agent


def problem(result) -> dict[str, object]:
    """What a refused call says."""
    assert result.is_error
    assert result.structured_content is None
    said = json.loads(result.content[0].text)
    assert said.pop("request_id")
    return said


@MODES
async def test_the_tools_are_offered_with_schemas_and_annotations(client: httpx2.AsyncClient, mode: str) -> None:
    async with connected(client, mode) as agent:
        tools = {tool.name: tool for tool in (await agent.list_tools()).tools}
    assert list(tools) == ["fill", "generate", "refine", "plan", "feedback"]
    for tool in tools.values():
        assert tool.input_schema["type"] == tool.output_schema["type"] == "object"
        assert tool.input_schema["additionalProperties"] is False
        assert tool.annotations.open_world_hint is False
        assert tool.title
        assert tool.description
    assert [name for name, tool in tools.items() if tool.annotations.read_only_hint] == [
        "fill",
        "generate",
        "refine",
        "plan",
    ]
    assert tools["fill"].input_schema["required"] == ["prefix", "suffix"]
    assert tools["generate"].input_schema["required"] == ["prompt"]
    assert {"language", "schema", "regex"} <= set(tools["generate"].input_schema["properties"])
    assert tools["refine"].input_schema["required"] == ["refine"]
    assert set(tools["refine"].input_schema["$defs"]) == {"CodeToRefine"}
    assert set(tools["plan"].input_schema["properties"]) == {
        "model",
        "seed",
        "deadline_ms",
        "environment",
        "state",
        "goal",
        "candidates",
        "steps",
    }
    assert tools["feedback"].output_schema["required"] == ["feedback_id"]


@MODES
async def test_a_tool_answers_as_its_route_does(client: httpx2.AsyncClient, pool, ledger, mode: str) -> None:
    async with connected(client, mode) as agent:
        filled = await agent.call_tool("fill", {"prefix": "a", "suffix": "b", "prompt": "p", "seed": 7, "length": 9})
        written = await agent.call_tool("generate", {"prompt": "p", "n": 2, "deadline_ms": 250})
        planned = await agent.call_tool("plan", {**PLAN, "seed": 3})
        mended = await agent.call_tool("refine", {"refine": BROKEN, "language": "javascript", "seed": 4})
    assert [result.is_error for result in (filled, written, planned, mended)] == [False] * 4
    assert filled.structured_content["outputs"][0]["text"] == "aFILLb"
    assert json.loads(filled.content[0].text) == filled.structured_content
    assert len(written.structured_content["outputs"]) == 2
    assert planned.structured_content["status"] == "verified"
    assert len(ledger.kept) == 4
    first, second, third, fourth = pool.asked
    assert first.request == TextRequest(prompt="p", prefix="a", suffix="b", length=9, seed=7)
    assert (second.request.prompt, second.deadline_seconds) == ("p", 0.25)
    goal = Goal(position=(3.0, 1.0), tolerance=0.5)
    assert third.request == TrajectoryRequest(environment="maze2d-umaze", state=(1.0, 1.0, 0.0, 0.0), goal=goal, seed=3)
    assert fourth.request == TextRequest(language="javascript", refine=Refinement(**BROKEN), seed=4)


async def test_feedback_is_kept_once_per_key(client: httpx2.AsyncClient, inbox) -> None:
    await inbox.open()
    async with connected(client) as agent:
        made = await agent.call_tool("generate", {"prompt": "p"})
        said = {
            "generation_id": made.structured_content["id"],
            "source": "agent-7",
            "accepted": True,
            "idempotency_key": "k1",
        }
        first, second = [await agent.call_tool("feedback", said) for _ in range(2)]
    assert first.structured_content == second.structured_content
    assert first.structured_content["feedback_id"].startswith("fb_")
    assert (await inbox.stats()).waiting == 1
    await inbox.close()


@MODES
async def test_steps_are_told_as_progress(client: httpx2.AsyncClient, pool, mode: str) -> None:
    def step(number: int, **body: object) -> PreviewEvent:
        return PreviewEvent(Preview(step=number, of=9, body=body))

    pool.more_events = [step(1), step(2, canvas="def ░"), RestartedEvent(1), step(1), step(3)]
    pool.gate = asyncio.Event()
    told = []

    async def progress(done: float, of: float | None, message: str | None) -> None:
        told.append((done, of, message))

    async with connected(client, mode) as agent:
        asyncio.get_running_loop().call_later(0.2, pool.gate.set)
        await agent.call_tool("generate", {"prompt": "p"}, progress_callback=progress)
    assert told[-1] == (3, 9, None)
    assert told == sorted(told)  # a step that goes back is not told, one that nobody looked at is left out
    assert set(told) <= {(1, 9, None), (2, 9, "def ░"), (3, 9, None)}


REFUSED = {
    "unknown argument": (
        "generate",
        {"prompt": "p", "stream": True},
        {
            "type": "/problems/invalid_request",
            "title": "Invalid request",
            "status": 422,
            "detail": "/stream: unknown argument",
            "code": "invalid_request",
            "field": "/stream",
            "errors": [{"pointer": "/stream", "message": "unknown argument"}],
        },
    ),
    "missing argument": (
        "fill",
        {"prefix": "a"},
        {
            "type": "/problems/invalid_request",
            "title": "Invalid request",
            "status": 422,
            "detail": "/suffix: this argument is required",
            "code": "invalid_request",
            "field": "/suffix",
            "errors": [{"pointer": "/suffix", "message": "this argument is required"}],
        },
    ),
    "bad value": (
        "plan",
        {**PLAN, "state": [1]},
        {
            "type": "/problems/invalid_request",
            "title": "Invalid request",
            "status": 422,
            "detail": "/state: list should have at least 4 items after validation, not 1",
            "code": "invalid_request",
            "field": "/state",
            "errors": [{"pointer": "/state", "message": "list should have at least 4 items after validation, not 1"}],
        },
    ),
    "no such generation": (
        "feedback",
        {"generation_id": "gen_x", "source": "a", "accepted": True},
        {
            "type": "/problems/not_found",
            "title": "Not found",
            "status": 404,
            "detail": "no such generation",
            "code": "not_found",
            "hint": "use an id as it was returned, with the key of the same tenant",
        },
    ),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_a_refusal_is_for_the_agent_to_read(client: httpx2.AsyncClient, pool, case: str) -> None:
    tool, arguments, expected = REFUSED[case]
    async with connected(client) as agent:
        assert problem(await agent.call_tool(tool, arguments)) == expected
    assert not pool.asked


async def test_what_an_engine_refuses_is_for_the_agent_to_read(client: httpx2.AsyncClient, pool) -> None:
    async with connected(client) as agent:
        pool.refused = Overloaded("2.3 s are queued", retry_after=2.3)
        said = problem(await agent.call_tool("generate", {"prompt": "p"}))
        assert (said["code"], said["retry_after"]) == ("overloaded", 2.3)
        pool.refused, pool.error = None, NonFiniteOutput("NaN came out")
        assert problem(await agent.call_tool("plan", PLAN))["code"] == "non_finite_output"
        pool.error = ZeroDivisionError("secret prompt")
        said = problem(await agent.call_tool("generate", {"prompt": "p"}))
        assert (said["code"], said["detail"]) == ("internal_error", "something failed that should not have")


@pytest.mark.parametrize(
    ("arguments", "detail"),
    [
        ('{"prompt": "\\ud800"}', "the body is not JSON: unexpected end of hex escape at line 1 column 39"),
        ('{"prompt": "p", "seed": 1' + "0" * 30 + "}", None),
        ('{"prompt": "p", "temperature": NaN}', "/temperature: input should be a finite number, got nan"),
        ('{"prompt": "p", "length": ' + "[" * 100 + "]" * 100 + "}", "/length: input should be a valid integer"),
    ],
)
async def test_arguments_that_only_json_can_hold_are_refused(client, pool, arguments: str, detail: str | None) -> None:
    message = json.dumps({**CALL, "params": {"name": "generate", "arguments": 0, "_meta": META}})
    content = message.replace('"arguments": 0', f'"arguments": {arguments}')
    answer = await client.post("/mcp", content=content, headers=MODERN)
    said = json.loads(answer.json()["result"]["content"][0]["text"])
    assert said["code"] in ("invalid_request", "malformed_body")
    assert detail is None or said["detail"] == detail
    assert not pool.asked


@MODES
async def test_an_unknown_tool_is_an_error_of_the_protocol(client: httpx2.AsyncClient, mode: str) -> None:
    async with connected(client, mode) as agent:
        with pytest.raises(MCPError) as raised:
            await agent.call_tool("paint", {})
    assert str(raised.value) == "there is no tool 'paint'; there are fill, generate, refine, plan, feedback"


async def test_keys_scopes_and_tenants_are_those_of_other_routes(serve, pool) -> None:
    async with serve(keys=True) as client:
        answer = await client.post("/mcp", json=CALL)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
        client.headers["authorization"] = "Bearer feedback-key-of-a"
        async with connected(client) as agent:
            said = problem(await agent.call_tool("generate", {"prompt": "p"}))
        assert said["detail"] == "this needs a key with scope 'generate'; yours has ['feedback']"
        client.headers["authorization"] = "Bearer generate-key-of-b"
        async with connected(client) as agent:
            assert not (await agent.call_tool("generate", {"prompt": "p"})).is_error
            said = problem(await agent.call_tool("feedback", {"generation_id": "gen_x", "source": "a"}))
        assert said["code"] == "forbidden"
    assert [asked.tenant for asked in pool.asked] == ["b"]


async def test_the_layers_in_front_refuse_as_for_other_routes(client: httpx2.AsyncClient, pool) -> None:
    answer = await client.post("/mcp", json=CALL, headers={"host": "evil.example"})
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    answer = await client.post("/mcp", content=b"{}", headers={"content-type": "text/plain"})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")
    answer = await client.post("/mcp", content=b" " * 1_000_001, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (413, "payload_too_large")

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b" " * 50_000

    for headers in (MODERN, LEGACY):
        answer = await client.post("/mcp", content=pieces(), headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (413, "payload_too_large")
    answer = await client.get("/mcp")
    assert (answer.status_code, answer.headers["allow"], answer.json()["code"]) == (405, "POST", "method_not_allowed")
    assert not pool.asked


async def test_without_the_extra_the_answer_says_what_to_install(client: httpx2.AsyncClient, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "mcp", None)
    answer = await client.post("/mcp", json=CALL, headers={"x-request-id": "r1"})
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "type": "/problems/not_installed",
        "title": "Not installed",
        "status": 501,
        "detail": "MCP is not installed on this server",
        "code": "not_installed",
        "hint": "pip install 'perfuse[mcp]' and restart",
        "request_id": "r1",
    }


async def test_an_sdk_that_cannot_be_loaded_is_said_and_tried_again(client: httpx2.AsyncClient, monkeypatch) -> None:
    monkeypatch.setattr("perfuse.api.mcp.endpoint._SERVING", "perfuse.api.mcp.absent")
    for _ in range(2):
        answer = await client.post("/mcp", json=CALL)
        assert (answer.status_code, answer.json()["detail"]) == (503, "MCP could not be loaded")
    monkeypatch.undo()
    async with connected(client) as agent:
        assert len((await agent.list_tools()).tools) == 5


@MODES
async def test_a_client_that_leaves_cancels_its_call(client: httpx2.AsyncClient, pool, mode: str) -> None:
    pool.gate = asyncio.Event()
    headers = {"host": "127.0.0.1", **(LEGACY if mode == "legacy" else MODERN)}
    message = {**CALL, "params": {**CALL["params"], "_meta": {} if mode == "legacy" else META}}
    inbox: asyncio.Queue = asyncio.Queue()
    inbox.put_nowait({"type": "http.request", "body": json.dumps(message).encode(), "more_body": False})
    sent = []

    async def send(message: dict) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/mcp",
        "raw_path": b"/mcp",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "scheme": "http",
        "server": ("127.0.0.1", 8000),
        "http_version": "1.1",
    }
    running = asyncio.create_task(client.app(scope, inbox.get, send))
    while not pool.asked:
        assert not running.done(), sent
        await asyncio.sleep(0.01)
    inbox.put_nowait({"type": "http.disconnect"})
    await asyncio.wait_for(running, 30)
    while not pool.cancelled:
        await asyncio.sleep(0.01)
    assert 'perfuse_client_gone_total{kind="mcp"} 1.0' in (await client.get("/metrics")).text
