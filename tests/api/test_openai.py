"""OpenAI's completions and chat completions: what they become, what they answer, and every error in OpenAI's body."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator

import httpx2
import openai
import pytest
from pydantic import TypeAdapter

from perfuse.api.openai.answers import ChatAnswer, CompletionAnswer
from perfuse.api.openai.errors import ErrorAnswer
from perfuse.dispatch.pool import PreviewEvent, RestartedEvent
from perfuse.errors import (
    CanvasTooLong,
    DeadlineExceeded,
    GenerationFailed,
    InvalidRequest,
    Overloaded,
    Unavailable,
    UnknownModel,
)
from perfuse.requests import Preview, TextRequest

COMPLETION = {"model": "m", "prompt": "a", "suffix": "b", "seed": 7}
CHAT = {"model": "m", "messages": [{"role": "user", "content": "double it"}], "seed": 7}
BOTH = pytest.mark.parametrize(("path", "body"), [("/v1/completions", COMPLETION), ("/v1/chat/completions", CHAT)])
JSON = {"content-type": "application/json"}


def error(message: str, param: str | None, code: str, kind: str = "invalid_request_error") -> dict[str, object]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def chunks(answer: httpx2.Response) -> list[dict]:
    """The chunks of a stream, without what all of them have."""
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    blocks = answer.text.split("\n\n")
    assert blocks[0] == ": accepted"
    assert blocks[-2:] == ["data: [DONE]", ""]
    found = [json.loads(block.removeprefix("data: ")) for block in blocks[1:-2]]
    assert len({chunk.pop("id") for chunk in found}) == 1
    assert all(chunk.pop("created") > 1.7e9 for chunk in found)
    assert {chunk.pop("model") for chunk in found} == {"m@1"}
    assert {chunk.pop("system_fingerprint").rpartition("-")[2] for chunk in found} == {"8"}
    return found


def settled(*texts: str) -> PreviewEvent:
    return PreviewEvent(Preview(step=1, of=9, body={"canvas": "░", "settled": list(texts)}))


async def test_a_completion_fills_between_prompt_and_suffix(client: httpx2.AsyncClient, pool) -> None:
    asked = {**COMPLETION, "instruction": "double it", "max_tokens": 9, "temperature": 0.5, "adaptation": "none"}
    answer = await client.post("/v1/completions", json=asked)
    body = answer.json()
    TypeAdapter(CompletionAnswer).validate_json(answer.content, extra="forbid")
    assert body.pop("id").startswith("gen_")
    assert body.pop("created") > 1.7e9
    assert body["perfuse"].pop("timing_ms")["compute"] == 21.0
    assert body == {
        "object": "text_completion",
        "model": "m@1",
        "system_fingerprint": "perfuse-0.1.0-8",
        "choices": [{"index": 0, "text": "FILL", "finish_reason": "stop", "logprobs": None}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
        "perfuse": {
            "seed": 7,
            "snapshot": 8,
            "restarts": 0,
            "recorded": True,
            "confidence": 0.75,
            "attribution": [],
        },
    }
    assert pool.asked[0].request == TextRequest(
        prompt="double it", prefix="a", suffix="b", length=9, temperature=0.5, seed=7, model="m", adaptation="none"
    )


async def test_a_chat_completion_writes_what_the_message_says(client: httpx2.AsyncClient, pool) -> None:
    answer = await client.post("/v1/chat/completions", json={**CHAT, "n": 2, "max_completion_tokens": 9})
    TypeAdapter(ChatAnswer).validate_json(answer.content, extra="forbid")
    body = answer.json()
    assert (body["object"], body["model"]) == ("chat.completion", "m@1")
    message = {"role": "assistant", "content": "FILL", "refusal": None}
    assert body["choices"] == [
        {"index": index, "message": message, "finish_reason": "stop", "logprobs": None} for index in (0, 1)
    ]
    assert body["usage"] == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    assert pool.asked[0].request == TextRequest(prompt="double it", length=9, seed=7, n=2, model="m")


async def test_the_texts_of_a_conversation_are_its_prompt(client: httpx2.AsyncClient, pool) -> None:
    messages = [
        {"role": "system", "content": "Use no loops."},
        {"role": "user", "content": [{"type": "text", "text": "Double "}, {"type": "text", "text": "it."}]},
        {"role": "assistant", "content": "x * 2", "refusal": None, "tool_calls": None},
        {"role": "user", "content": "Shorter."},
    ]
    assert (await client.post("/chat/completions", json={**CHAT, "messages": messages})).status_code == 200
    assert pool.asked[0].request.prompt == "Use no loops.\n\nDouble it.\n\nx * 2\n\nShorter."


async def test_a_prompt_may_be_a_list_of_one_and_be_echoed(client: httpx2.AsyncClient, pool) -> None:
    answer = await client.post("/v1/completions", json={"model": "m", "prompt": ["a"], "echo": True})
    assert answer.json()["choices"][0]["text"] == "aFILL"
    assert pool.asked[0].request.prefix == "a"


@BOTH
async def test_feedback_takes_the_id(client: httpx2.AsyncClient, ledger, inbox, path: str, body: dict) -> None:
    await inbox.open()
    identity = (await client.post(path, json=body)).json()["id"]
    (kept,) = ledger.kept.values()
    assert (kept.kind, kept.seed, kept.snapshot) == ("diffuse", 7, 8)
    said = {"generation_id": identity, "source": "agent-7", "accepted": True}
    assert (await client.post("/feedback", json=said)).status_code == 202
    await inbox.close()


async def test_it_counts_as_generating(client: httpx2.AsyncClient) -> None:
    await client.post("/v1/chat/completions", json=CHAT)
    await client.post("/v1/completions", json={})
    lines = (await client.get("/metrics")).text.splitlines()
    assert 'perfuse_requests_total{kind="chat",status="200"} 1.0' in lines
    assert 'perfuse_requests_total{kind="completions",status="400"} 1.0' in lines
    assert 'perfuse_queue_seconds_count{kind="diffuse"} 1.0' in lines


NEUTRAL = {
    "top_p": 1,
    "frequency_penalty": 0,
    "presence_penalty": 0.0,
    "logit_bias": {},
    "stop": [],
    "user": None,
    "metadata": None,
    "n": 1,
    "stream": False,
    "stream_options": None,
}
NEUTRAL_CHAT = {
    "logprobs": False,
    "top_logprobs": 0,
    "response_format": {"type": "text"},
    "modalities": ["text"],
    "tools": [],
    "tool_choice": "none",
    "parallel_tool_calls": True,
    "functions": [],
    "function_call": "none",
    "reasoning_effort": "none",
    "service_tier": "auto",
    "verbosity": "medium",
}


async def test_a_field_that_asks_for_nothing_is_accepted(client: httpx2.AsyncClient, pool) -> None:
    answer = await client.post("/v1/completions", json={**COMPLETION, **NEUTRAL, "best_of": 1, "logprobs": None})
    assert answer.status_code == 200, answer.text
    answer = await client.post("/v1/chat/completions", json={**CHAT, **NEUTRAL, **NEUTRAL_CHAT})
    assert answer.status_code == 200, answer.text
    assert pool.asked[0].request == TextRequest(prefix="a", suffix="b", seed=7, model="m")
    assert pool.asked[1].request == TextRequest(prompt="double it", seed=7, model="m")


UNSUPPORTED = [
    ("top_p", 0.5, "1"),
    ("top_p", True, "1"),
    ("frequency_penalty", 1, "0"),
    ("presence_penalty", -1, "0"),
    ("logit_bias", {"50256": -100}, "{}"),
    ("stop", ["\n"], "[]"),
    ("stop", "\n", "[]"),
    ("user", "agent-7", None),
    ("metadata", {"a": "b"}, None),
    ("stepz", 3, None),
    ("a/b~c", 3, None),
]
UNSUPPORTED_COMPLETION = [("best_of", 2, "1"), ("logprobs", 3, None), ("messages", [], None)]
UNSUPPORTED_CHAT = [
    ("logprobs", True, "false"),
    ("top_logprobs", 3, "0"),
    ("response_format", {"type": "json_object"}, '{"type":"text"}'),
    ("modalities", ["text", "audio"], '["text"]'),
    ("tools", [{"type": "function", "function": {"name": "f"}}], "[]"),
    ("tool_choice", "auto", '"none"'),
    ("parallel_tool_calls", False, "true"),
    ("functions", [{"name": "f"}], "[]"),
    ("function_call", "auto", '"none"'),
    ("reasoning_effort", "high", '"none"'),
    ("service_tier", "flex", '"auto" or "default"'),
    ("verbosity", "low", '"medium"'),
    ("audio", {"voice": "alloy"}, None),
    ("prediction", {"type": "content", "content": "x"}, None),
    ("store", True, None),
    ("web_search_options", {}, None),
    ("suffix", "b", None),
]


@pytest.mark.parametrize(
    ("path", "body", "field", "value", "only"),
    [
        *(("/v1/completions", COMPLETION, *case) for case in [*UNSUPPORTED, *UNSUPPORTED_COMPLETION]),
        *(("/v1/chat/completions", CHAT, *case) for case in [*UNSUPPORTED, *UNSUPPORTED_CHAT]),
    ],
)
async def test_a_field_that_is_not_served_is_refused_by_name(client, pool, path, body, field, value, only) -> None:
    answer = await client.post(path, json={**body, field: value})
    said = f"{field} is not supported here" if only is None else f"{field} is supported only as {only}"
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/json")
    assert answer.json() == error(f"{said} (leave it out)", field, "unsupported_parameter")
    assert not pool.asked


INVALID = {
    "no model": (COMPLETION, {"model": None}, "model: this field is required", "model"),
    "no length": (
        COMPLETION,
        {"max_tokens": 0},
        "max_tokens: input should be greater than or equal to 1, got 0",
        "max_tokens",
    ),
    "hot": (CHAT, {"temperature": 3}, "temperature: input should be less than or equal to 2, got 3", "temperature"),
    "tokens": (
        COMPLETION,
        {"prompt": [1, 2]},
        "prompt: expected a text, or a list of one text; lists of tokens or of several are not served",
        "prompt",
    ),
    "two prompts": (
        COMPLETION,
        {"prompt": ["a", "b"]},
        "prompt: expected a text, or a list of one text; lists of tokens or of several are not served",
        "prompt",
    ),
    "two lengths": (
        CHAT,
        {"max_tokens": 3, "max_completion_tokens": 4},
        "max_tokens and max_completion_tokens differ: send one of them",
        None,
    ),
    "no stream": (
        CHAT,
        {"stream_options": {"include_usage": True}},
        "stream_options are for streams: `stream` is false",
        None,
    ),
    "no messages": (
        CHAT,
        {"messages": []},
        "messages: list should have at least 1 item after validation, not 0",
        "messages",
    ),
    "tool": (
        CHAT,
        {"messages": [{"role": "tool", "content": "x"}]},
        "messages[0].role: input should be 'developer', 'system', 'user' or 'assistant', got 'tool'",
        "messages[0].role",
    ),
    "picture": (
        CHAT,
        {"messages": [{"role": "user", "content": [{"type": "image_url", "text": "x"}]}]},
        "messages[0].content[0].type: input should be 'text', got 'image_url'",
        "messages[0].content[0].type",
    ),
    "assistant last": (
        CHAT,
        {"messages": [*CHAT["messages"], {"role": "assistant", "content": "x"}]},
        "the last message must not be the assistant's",
        None,
    ),
    "no object": (
        CHAT,
        {"messages": ["x"]},
        "messages[0]: input should be a valid dictionary or instance of Message, got 'x'",
        "messages[0]",
    ),
}


@pytest.mark.parametrize("case", INVALID)
async def test_a_bad_value_is_refused_by_name(client: httpx2.AsyncClient, pool, case: str) -> None:
    body, fields, message, param = INVALID[case]
    path = "/v1/completions" if body is COMPLETION else "/v1/chat/completions"
    answer = await client.post(path, json={**body, **fields})
    assert (answer.status_code, answer.json()) == (400, error(message, param, "invalid_request"))
    assert not pool.asked


@BOTH
@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"{", "the body is not JSON: EOF while parsing an object at line 1 column 1"),
        (b'{"a":' + b"[" * 5000, "the body is not JSON: recursion limit exceeded at line 1 column 206"),
        (b'{"n":NaN}', "the body is not JSON: expected value at line 1 column 6"),
        (b"[]", "the body is not a JSON object"),
        (b'{"a":"\xff"}', "the body is not UTF-8: byte 6 is 0xff"),
    ],
)
async def test_a_body_that_is_no_object_is_refused(client, path: str, body: dict, raw: bytes, message: str) -> None:
    answer = await client.post(path, content=raw, headers=JSON)
    assert answer.status_code == 400
    assert answer.json() == error(f"{message} (send one JSON object in UTF-8)", None, "malformed_body")


REFUSALS = {
    "model": (UnknownModel("no such model", field="/model", hint="see GET /models"), 404, "model", "model_not_found"),
    "canvas": (
        CanvasTooLong("300 tokens", field="/length", hint="fewer"),
        400,
        "max_tokens",
        "context_length_exceeded",
    ),
    "n": (InvalidRequest("n is 17", field="/n", hint="fewer"), 400, "n", "invalid_request"),
    "failed": (GenerationFailed("it failed", hint="report it"), 500, None, "generation_failed"),
    "down": (Unavailable("starting", hint="wait", retry_after=0.4), 503, None, "unavailable"),
    "late": (DeadlineExceeded("late", hint="wait"), 504, None, "deadline_exceeded"),
    "full": (Overloaded("2.3 s are queued", hint="wait", retry_after=2.3), 429, None, "rate_limit_exceeded"),
}


@BOTH
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("case", REFUSALS)
async def test_what_an_engine_refuses_has_openais_body(client, pool, path, body, stream, case: str) -> None:
    pool.error, status, param, code = REFUSALS[case]
    answer = await client.post(path, json={**body, "stream": stream})
    kind = "server_error" if status >= 500 else "rate_limit_error" if status == 429 else "invalid_request_error"
    assert answer.status_code == status
    assert answer.json() == error(f"{pool.error.detail} ({pool.error.hint})", param, code, kind)
    assert answer.headers.get("retry-after") == {"full": "3", "down": "1"}.get(case)
    TypeAdapter(ErrorAnswer).validate_json(answer.content, extra="forbid")


@BOTH
async def test_too_long_a_prompt_is_named_as_openai_names_it(client, pool, path: str, body: dict) -> None:
    pool.error = CanvasTooLong("300 tokens", field="/prompt")
    answer = await client.post(path, json=body)
    assert answer.json()["error"]["param"] == ("messages" if "messages" in body else "prompt")


@BOTH
async def test_an_early_refusal_does_not_read_the_body(client, pool, path: str, body: dict) -> None:
    pool.refused = Overloaded("full", retry_after=0.1)
    answer = await client.post(path, content=b"{", headers=JSON)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    assert answer.json() == error("full", None, "rate_limit_exceeded", "rate_limit_error")


@BOTH
async def test_what_the_layers_in_front_refuse_has_openais_body(serve, pool, path: str, body: dict) -> None:
    async with serve() as client:
        answer = await client.post(path, json=body, headers={"host": "evil.example"})
        hint = "use http://127.0.0.1:PORT, or start the server with --keys"
        assert answer.status_code == 403
        assert answer.json() == error(
            f"without keys the Host header must be this machine, got 'evil.example' ({hint})",
            None,
            "forbidden",
            "permission_error",
        )
        answer = await client.post(path, content=b"{}", headers={"content-type": "text/plain"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_media_type")
        answer = await client.post(path, content=b"x" * 1_000_001, headers=JSON)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "payload_too_large")

        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(40):
                yield b"x" * 50_000

        answer = await client.post(path, content=pieces(), headers=JSON)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "payload_too_large")
        answer = await client.get(path)
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
        assert answer.json() == error(f"GET is not possible on {path} (it takes POST)", None, "method_not_allowed")
        answer = await client.get(f"{path}/{'x' * 8}")
        assert answer.json() == error(f"there is nothing at {path}/xxxxxxxx (see /docs)", None, "not_found")
    assert not pool.asked


@BOTH
async def test_keys_and_scopes_are_asked_for(serve, pool, path: str, body: dict) -> None:
    async with serve(keys=True) as client:
        answer = await client.post(path, json=body, headers={"authorization": "Bearer wrong"})
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer realm="perfuse"')
        assert answer.json() == error(
            "the key is not known here (send `Authorization: Bearer KEY`)",
            None,
            "invalid_api_key",
            "authentication_error",
        )
        answer = await client.post(path, json=body, headers={"authorization": "Bearer feedback-key-of-a"})
        assert (answer.status_code, answer.json()["error"]["type"]) == (403, "permission_error")
        answer = await client.post(path, json=body, headers={"authorization": "Bearer generate-key-of-b"})
        assert answer.status_code == 200
    assert [asked.tenant for asked in pool.asked] == ["b"]


@BOTH
async def test_what_nobody_caught_is_told_without_details(client, pool, path: str, body: dict) -> None:
    pool.error = ZeroDivisionError("secret prompt")
    answer = await client.post(path, json=body)
    assert answer.status_code == 500
    assert answer.json() == error(
        "something failed that should not have (see the server's log)", None, "internal_error", "server_error"
    )


async def test_a_chat_stream_brings_settled_text_only(client: httpx2.AsyncClient, pool) -> None:
    pool.more_events = [settled("F"), settled("F"), settled("FIL")]  # what was sent cannot be written anew
    body = {**CHAT, "stream": True, "stream_options": {"include_usage": True, "include_obfuscation": False}}
    seen = chunks(await client.post("/v1/chat/completions", json=body))
    assert {chunk.pop("object") for chunk in seen} == {"chat.completion.chunk"}
    provenance = seen[-2].pop("perfuse")
    assert (provenance["seed"], provenance["recorded"]) == (7, True)
    none = {"finish_reason": None, "logprobs": None}

    def piece(delta: dict, **more: object) -> dict:
        return {"choices": [{"index": 0, "delta": delta, **none, **more}], "usage": None}

    assert seen == [
        piece({"role": "assistant", "content": ""}),
        piece({"content": "F"}),
        piece({"content": "IL"}),
        piece({"content": "L"}),
        piece({}, finish_reason="stop"),
        {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}},
    ]
    assert pool.asked[0].request.syntax == "check"


async def test_a_completion_stream_brings_each_output_by_its_index(client: httpx2.AsyncClient, pool) -> None:
    pool.more_events = [settled("", "FI")]
    seen = chunks(await client.post("/v1/completions", json={**COMPLETION, "stream": True, "n": 2, "echo": True}))
    assert {chunk.pop("object") for chunk in seen} == {"text_completion"}
    assert "perfuse" in seen[-1]
    shown = [
        (choice["index"], choice["text"], choice["finish_reason"]) for chunk in seen for choice in chunk["choices"]
    ]
    assert shown == [
        (0, "a", None),
        (1, "aFI", None),
        (0, "FILL", None),
        (0, "", "stop"),
        (1, "LL", None),
        (1, "", "stop"),
    ]


async def test_a_restarted_generation_that_says_the_same_goes_on(client: httpx2.AsyncClient, pool) -> None:
    pool.more_events = [settled("FI"), RestartedEvent(1), settled("F"), settled("FIL")]
    seen = chunks(await client.post("/v1/completions", json={**COMPLETION, "stream": True}))
    assert [chunk["choices"][0]["text"] for chunk in seen] == ["FI", "L", "L", ""]


async def test_a_restarted_generation_that_says_something_else_is_an_error(client: httpx2.AsyncClient, pool) -> None:
    pool.more_events = [settled("WRONG"), RestartedEvent(1), settled("FI")]
    answer = await client.post("/v1/completions", json={**COMPLETION, "stream": True})
    last = answer.text.split("\n\n")[-2]
    assert json.loads(last.removeprefix("data: ")) == error(
        "the engine died, and the request that ran again wrote something else (send it again)",
        None,
        "generation_failed",
        "server_error",
    )


@BOTH
async def test_openais_client_waits_as_long_as_it_is_told(client, pool, path: str, body: dict) -> None:
    full = Overloaded("full", retry_after=0.4)
    refusals = iter([full, full, None])

    async def admit() -> None:
        if (refusal := next(refusals)) is not None:
            raise refusal

    pool.admit = admit
    official = openai.AsyncOpenAI(base_url="http://127.0.0.1:8000/v1", api_key="none", http_client=client)
    resource = official.completions if path == "/v1/completions" else official.chat.completions
    with pytest.raises(openai.RateLimitError) as raised:
        await official.with_options(max_retries=0).post(path.removeprefix("/v1"), body=body, cast_to=object)
    assert (raised.value.code, raised.value.response.headers["retry-after"]) == ("rate_limit_exceeded", "1")
    began = time.monotonic()
    answer = await resource.create(**body)
    assert time.monotonic() - began >= 1.0
    assert answer.usage.total_tokens == 5


@BOTH
async def test_a_failure_after_admission_ends_the_stream_with_an_error(client, pool, path: str, body: dict) -> None:
    pool.previews, pool.error = 1, ZeroDivisionError("secret prompt")
    answer = await client.post(path, json={**body, "stream": True})
    last = answer.text.split("\n\n")[-2]
    assert json.loads(last.removeprefix("data: ")) == error(
        "something failed that should not have (see the server's log)", None, "internal_error", "server_error"
    )
    assert "[DONE]" not in answer.text


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_cancels_its_request(client, pool, stream: bool) -> None:
    pool.gate = asyncio.Event()
    inbox: asyncio.Queue = asyncio.Queue()
    body = json.dumps({**CHAT, "stream": stream}).encode()
    inbox.put_nowait({"type": "http.request", "body": body, "more_body": False})

    async def send(message: dict) -> None:
        assert message["type"].startswith("http.response")

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/chat/completions",
        "raw_path": b"/v1/chat/completions",
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")],
        "scheme": "http",
        "server": ("127.0.0.1", 8000),
        "http_version": "1.1",
    }
    running = asyncio.create_task(client.app(scope, inbox.get, send))
    while not pool.asked:
        await asyncio.sleep(0)
    inbox.put_nowait({"type": "http.disconnect"})
    await asyncio.wait_for(running, 30)
    assert pool.cancelled == 1
    assert 'perfuse_client_gone_total{kind="diffuse"} 1.0' in (await client.get("/metrics")).text
