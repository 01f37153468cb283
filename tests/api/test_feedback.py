"""POST /feedback: what is kept, what is refused and the whole body it is refused with."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator

import httpx2
import msgspec
import pytest

from perfuse import plugins
from perfuse.api import feedback as bodies
from perfuse.ids import Minter
from perfuse.queue.inbox import Lease
from perfuse.queue.inbox_sqlite import SqliteInbox
from perfuse.wire import FeedbackItem, Installed, JsonSchema, PythonCase, PythonTests, unpack_feedback

HEADERS = {"x-request-id": "r1", "content-type": "application/json"}
DOCS = "see /docs for the fields"
TESTS = {
    "kind": "python_tests",
    "entry_point": "double",
    "cases": [{"args": [[1, 2.5]], "expected": [2, 5.0]}, {"args": [None], "raises": "TypeError"}],
}
SCHEMA = {"kind": "json_schema", "schema": {"type": "object", "properties": {"a": {"type": ["integer", "null"]}}}}
KEYWORDS = (
    "additionalProperties, const, description, enum, exclusiveMaximum, exclusiveMinimum, items, maxItems, maxLength, "
    "maximum, minItems, minLength, minimum, properties, required, title, type"
)
KEYWORD_HINT = f"the keywords are {KEYWORDS}"
ONE = "expected one of reward, accepted, correction and outcome, or a verifier"


def problem(status: int, code: str, detail: str, **more: object) -> dict[str, object]:
    title = code.replace("_", " ").capitalize()
    body = {"type": f"/problems/{code}", "title": title, "status": status, "detail": detail, "code": code}
    return {**body, **more, "request_id": "r1"}


def invalid(pointer: str, message: str, *others: tuple[str, str], hint: str | None = None) -> dict[str, object]:
    errors = [{"pointer": p, "message": m} for p, m in ((pointer, message), *others)]
    more = {"field": pointer, "errors": errors, **({"hint": hint} if hint else {})}
    return problem(422, "invalid_request", f"{pointer or 'body'}: {message}", **more)


@pytest.fixture(autouse=True)
async def opened(inbox: SqliteInbox) -> AsyncIterator[None]:
    await inbox.open()
    yield
    await inbox.close()


@pytest.fixture
async def generation(client: httpx2.AsyncClient) -> str:
    answer = await client.post("/diffuse", json={"modality": "text", "prefix": "def ", "suffix": ":\n", "n": 2})
    return str(answer.json()["id"])


@pytest.fixture
async def trajectory(client: httpx2.AsyncClient) -> str:
    body = {"domain": "trajectory", "environment": "maze2d-umaze", "state": [1, 1, 0, 0], "goal": {"position": [3, 1]}}
    return str((await client.post("/plan", json=body)).json()["id"])


async def post(client: httpx2.AsyncClient, generation: str, **fields: object) -> httpx2.Response:
    return await client.post("/feedback", json={"generation_id": generation, "source": "agent-7", **fields})


async def kept(inbox: SqliteInbox) -> list[Lease]:
    return await inbox.lease(1000, 60)


# accepted ---------------------------------------------------------------------------------------------------------


async def test_the_item_holds_the_verdict_and_the_whole_generation(client, inbox, ledger, generation) -> None:
    before = time.time()
    answer = await post(client, generation, output=1, correction="def f():\n", verifier=TESTS)
    assert answer.status_code == 202
    (lease,) = await kept(inbox)
    assert answer.json() == {"feedback_id": lease.id}
    item = unpack_feedback(lease.item)
    record = ledger.kept[Minter.inside(generation), "local"]
    assert before <= item.received <= time.time()
    assert item == FeedbackItem(
        received=item.received,
        tenant="local",
        source="agent-7",
        generation=record.id,
        kind="diffuse",
        model="m@1",
        seed=record.seed,
        generated=record.created,
        snapshot=8,
        adaptations=(),
        request=record.request,
        result=record.result,
        output=1,
        correction="def f():\n",
        verifier=PythonTests(
            "double", [PythonCase(args=[[1, 2.5]], expected=[2, 5.0]), PythonCase(args=[None], raises="TypeError")]
        ),
    )
    assert json.loads(bytes(item.request))["prefix"] == "def "
    assert json.loads(bytes(item.result))["outputs"][1]["text"] == "def FILL:\n"


@pytest.mark.parametrize(
    ("fields", "verdict"),
    [
        ({"reward": -0.5}, "reward"),
        ({"reward": 0}, "reward"),
        ({"accepted": False}, "accepted"),
        ({"correction": "def f:\n"}, "correction"),
        ({"outcome": {"arrived": True, "steps": 142, "cost": 1.5, "why": "é"}}, "outcome"),
        ({"verifier": TESTS}, "verifier"),
        ({"verifier": SCHEMA}, "verifier"),
        ({"verifier": SCHEMA, "correction": "def f:\n"}, "verified_correction"),
    ],
)
async def test_every_verdict_is_kept_and_counted(client, inbox, generation, fields, verdict) -> None:
    assert (await post(client, generation, **fields)).status_code == 202
    (lease,) = await kept(inbox)
    item = unpack_feedback(lease.item)
    for name in ("reward", "accepted", "correction", "outcome"):
        assert getattr(item, name) == fields.get(name)
    if fields.get("verifier") == SCHEMA:
        assert item.verifier == JsonSchema(SCHEMA["schema"])
    lines = (await client.get("/metrics")).text.splitlines()
    assert f'perfuse_feedback_total{{verdict="{verdict}"}} 1.0' in lines
    assert "perfuse_inbox_seconds_count 1.0" in lines
    assert 'perfuse_inbox_items{state="leased"} 1.0' in lines
    assert 'perfuse_requests_total{kind="feedback",status="202"} 1.0' in lines


async def test_feedback_on_a_plan_is_kept(client, inbox, trajectory) -> None:
    assert (await post(client, trajectory, outcome={"arrived": False})).status_code == 202
    item = unpack_feedback((await kept(inbox))[0].item)
    assert (item.kind, item.model, item.outcome) == ("plan", "planner@1", {"arrived": False})


async def test_a_second_post_under_the_same_key_is_the_first(client, inbox, generation) -> None:
    first = await post(client, generation, reward=1, idempotency_key="k1")
    body = {"generation_id": generation, "source": "agent-7", "reward": 1}
    again = await client.post("/v1/feedback", json=body, headers={"idempotency-key": "k1"})
    both = await client.post("/feedback", json={**body, "idempotency_key": "k1"}, headers={"idempotency-key": "k1"})
    assert first.status_code == again.status_code == both.status_code == 202
    assert first.json() == again.json() == both.json()
    assert len(await kept(inbox)) == 1
    assert (await post(client, generation, reward=1)).json() != first.json()


async def test_a_key_belongs_to_its_tenant(serve, inbox) -> None:
    ids = []
    async with serve(keys=True) as client:
        for tenant in "ab":
            key = {"authorization": f"Bearer generate-key-of-{tenant}"}
            identity = (await client.post("/diffuse", json={"modality": "text"}, headers=key)).json()["id"]
            said = {"generation_id": identity, "source": "s", "accepted": True, "idempotency_key": "k"}
            key = {"authorization": f"Bearer feedback-key-of-{tenant}"}
            ids.append((await client.post("/feedback", json=said, headers=key)).json()["feedback_id"])
    items = [unpack_feedback(lease.item) for lease in await kept(inbox)]
    assert [item.tenant for item in items] == ["a", "b"]
    assert len(set(ids)) == 2


# refused ----------------------------------------------------------------------------------------------------------


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


def schema(**keywords: object) -> dict[str, object]:
    return {"verifier": {"kind": "json_schema", "schema": keywords}}


def case(**fields: object) -> dict[str, object]:
    return {"verifier": {"kind": "python_tests", "entry_point": "f", "cases": [{"args": [], **fields}]}}


def deep_schema(depth: int) -> dict[str, object]:
    inner: dict[str, object] = {"type": "integer"}
    for _ in range(depth):
        inner = {"items": inner}
    return inner


BODIES = {
    "no verdict": ({}, invalid("", ONE)),
    "two verdicts": ({"reward": 1, "accepted": True}, invalid("", ONE)),
    "a correction and an outcome": ({"correction": "x", "outcome": {"a": 1}}, invalid("", ONE)),
    "verifier and reward": (
        {"reward": 1, "verifier": TESTS},
        invalid("", "a verifier can only come with a correction"),
    ),
    "reward beyond 1": ({"reward": 1.5}, invalid("/reward", "input should be less than or equal to 1, got 1.5")),
    "reward as a text": ({"reward": "1"}, invalid("/reward", "input should be a valid number, got '1'")),
    "accepted as a number": ({"accepted": 1}, invalid("/accepted", "input should be a valid boolean, got 1")),
    "empty correction": (
        {"correction": ""},
        invalid("/correction", "string should have at least 1 character, got ''"),
    ),
    "unknown field": ({"reward": 1, "weight": 9}, invalid("/weight", "unknown field", hint=DOCS)),
    "negative output": (
        {"reward": 1, "output": -1},
        invalid("/output", "input should be greater than or equal to 0, got -1"),
    ),
    "no such output": (
        {"reward": 1, "output": 2},
        invalid("/output", "the generation has 2 outputs, counted from 0, got 2"),
    ),
    "blank in the source": (
        {"reward": 1, "source": "a b"},
        invalid("/source", "string should match pattern '^[\\x21-\\x7e]+$', got 'a b'"),
    ),
    "empty key": (
        {"reward": 1, "idempotency_key": ""},
        invalid("/idempotency_key", "string should match pattern '^[\\x21-\\x7e]+$', got ''"),
    ),
    "correction of another text": (
        {"correction": "class A:\n"},
        invalid("/correction", "a correction begins with the prefix and ends with the suffix of its request"),
    ),
    "correction in which prefix and suffix overlap": (
        {"correction": "def "},
        invalid("/correction", "a correction begins with the prefix and ends with the suffix of its request"),
    ),
    "empty outcome": (
        {"outcome": {}},
        invalid("/outcome", "dictionary should have at least 1 item after validation, not 0"),
    ),
    "outcome with a list": (
        {"outcome": {"a/b": [1]}},
        invalid("/outcome/a~1b", "expected a boolean, a number or a text"),
    ),
    "outcome with a huge integer": (
        {"outcome": {"n": 2**63}},
        invalid("/outcome/n", "expected an integer of at most 64 bits"),
    ),
    "unknown verifier": (
        {"verifier": {"kind": "shell"}},
        invalid(
            "/verifier",
            "input tag 'shell' found using 'kind' does not match any of the expected tags: 'python_tests', "
            "'json_schema', 'installed'",
        ),
    ),
    "verifier without a kind": (
        {"verifier": {"cases": []}},
        invalid("/verifier", "unable to extract tag using discriminator 'kind'"),
    ),
    "tests without cases": (
        {"verifier": {**TESTS, "cases": []}},
        invalid("/verifier/cases", "list should have at least 1 item after validation, not 0"),
    ),
    "65 cases": (
        {"verifier": {**TESTS, "cases": [{"args": [], "expected": 1}] * 65}},
        invalid("/verifier/cases", "list should have at most 64 items after validation, not 65"),
    ),
    "an entry point that is no name": (
        {"verifier": {**TESTS, "entry_point": "os.system"}},
        invalid("/verifier/entry_point", "string should match pattern '^[A-Za-z_][A-Za-z0-9_]*$', got 'os.system'"),
    ),
    "a case that expects nothing": (case(), invalid("/verifier/cases/0", "a case has either `expected` or `raises`")),
    "a case that expects both": (
        case(expected=None, raises="E"),
        invalid("/verifier/cases/0", "a case has either `expected` or `raises`"),
    ),
    "a case with an unknown field": (
        case(expected=1, stdout=""),
        invalid("/verifier/cases/0/stdout", "unknown field", hint=DOCS),
    ),
    "a case with a huge integer": (
        case(expected={"a": [2**64]}),
        invalid("/verifier/cases/0/expected/a/0", "expected an integer of at most 64 bits"),
    ),
    "a case that is nested too deep": (
        case(expected=nested(33)),
        invalid(f"/verifier/cases/0/expected{'/0' * 32}", "values are nested at most 32 deep"),
    ),
    "a verifier of 64 KiB": (
        case(expected="x" * 65_536),
        invalid(
            "/verifier",
            "a verifier has at most 65536 bytes, this one has 65613",
            hint="send fewer or smaller cases",
        ),
    ),
    "a schema that is no object": (
        {"verifier": {"kind": "json_schema", "schema": True}},
        invalid("/verifier/schema", "input should be an object, got True"),
    ),
    "refused keywords": (
        schema(type="object", properties={"a/b": {"pattern": "(a+)+$"}}, **{"$ref": "#"}),
        invalid(
            "/verifier/schema/properties/a~1b/pattern",
            "the keyword 'pattern' is not supported",
            ("/verifier/schema/$ref", "the keyword '$ref' is not supported"),
            hint=KEYWORD_HINT,
        ),
    ),
    "wrong values of keywords": (
        schema(
            type="text",
            enum=[],
            required=[1],
            additionalProperties={},
            properties={"a": 1},
            items=[],
            minItems=-1,
            maximum="9",
            title=1,
        ),
        invalid(
            "/verifier/schema/type",
            "expected one or several of array, boolean, integer, null, number, object, string",
            ("/verifier/schema/enum", "expected a list of values, not empty"),
            ("/verifier/schema/required", "expected a list of names"),
            ("/verifier/schema/additionalProperties", "expected true or false"),
            ("/verifier/schema/properties/a", "expected a schema, which is an object"),
            ("/verifier/schema/items", "expected a schema, which is an object"),
            ("/verifier/schema/minItems", "expected an integer, 0 or more"),
            ("/verifier/schema/maximum", "expected a number"),
            ("/verifier/schema/title", "expected a text"),
            hint=KEYWORD_HINT,
        ),
    ),
    "a schema that is nested too deep": (
        {"verifier": {"kind": "json_schema", "schema": deep_schema(16)}},
        invalid(f"/verifier/schema{'/items' * 16}", "schemas are nested at most 16 deep", hint=KEYWORD_HINT),
    ),
    "a schema with a huge integer": (
        schema(minimum=2**70),
        invalid("/verifier/schema/minimum", "expected an integer of at most 64 bits", hint=KEYWORD_HINT),
    ),
}


@pytest.mark.parametrize("name", BODIES)
async def test_bad_feedback_is_refused_with_the_field_and_the_reason(client, inbox, generation, name) -> None:
    fields, expected = BODIES[name]
    body = {"generation_id": generation, "source": "agent-7", **fields}
    answer = await client.post("/feedback", content=json.dumps(body), headers=HEADERS)
    assert answer.json() == expected
    assert answer.status_code == 422
    assert await kept(inbox) == []


async def test_missing_fields_are_named(client) -> None:
    answer = await client.post("/feedback", content=b'{"reward":1}', headers=HEADERS)
    assert answer.json() == invalid("/generation_id", "this field is required", ("/source", "this field is required"))


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-1e999"])
async def test_numbers_that_are_none_are_refused(client, generation, value) -> None:
    shown = {"NaN": "nan", "Infinity": "inf", "-1e999": "-inf"}[value]
    head = f'{{"generation_id":"{generation}","source":"s",'
    answer = await client.post("/feedback", content=f'{head}"reward":{value}}}', headers=HEADERS)
    assert answer.json() == invalid("/reward", f"input should be a finite number, got {shown}")
    answer = await client.post("/feedback", content=f'{head}"outcome":{{"x":{value}}}}}', headers=HEADERS)
    assert answer.json() == invalid("/outcome/x", "expected a finite number")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"reward": 1, "output": 1}, ("/output", "the generation has 1 output, so 0 is the only one, got 1")),
        ({"correction": "x"}, ("/correction", "a plan is judged by reward, accepted or outcome")),
        ({"verifier": TESTS}, ("/verifier", "a plan is judged by reward, accepted or outcome")),
    ],
)
async def test_what_makes_no_sense_for_a_plan_is_refused(client, trajectory, fields, expected) -> None:
    body = {"generation_id": trajectory, "source": "s", **fields}
    answer = await client.post("/feedback", json=body, headers=HEADERS)
    assert answer.json() == invalid(*expected)


async def test_a_key_used_for_another_body_is_refused(client, inbox, generation) -> None:
    await post(client, generation, reward=1, idempotency_key="k1")
    body = {"generation_id": generation, "source": "agent-7", "reward": -1, "idempotency_key": "k1"}
    answer = await client.post("/feedback", json=body, headers=HEADERS)
    assert answer.json() == problem(
        422,
        "idempotency_key_reused",
        "this idempotency key was used before with another body",
        hint="send the first body again, or use a fresh key",
        field="/idempotency_key",
    )
    assert len(await kept(inbox)) == 1


async def test_two_keys_that_differ_are_refused(client, generation) -> None:
    body = {"generation_id": generation, "source": "s", "reward": 1, "idempotency_key": "a"}
    answer = await client.post("/feedback", json=body, headers={**HEADERS, "idempotency-key": "b"})
    assert answer.json() == problem(
        422,
        "invalid_request",
        "the header Idempotency-Key and the body's idempotency_key differ",
        hint="send one of them",
        field="/idempotency_key",
    )


async def test_an_unusable_key_in_the_header_is_refused(client, generation) -> None:
    body = {"generation_id": generation, "source": "s", "reward": 1}
    answer = await client.post("/feedback", json=body, headers={**HEADERS, "idempotency-key": "x" * 201})
    assert answer.json() == problem(
        422,
        "invalid_request",
        "the header Idempotency-Key has 1 to 200 visible characters",
        hint="use a UUID",
    )


SAME_KEY = "use an id as it was returned, with the key of the same tenant"


@pytest.mark.parametrize("identity", ["gen_", "x", "gen_018f0000-0000-7000-8000-000000000000.AAAA", "{own}A"])
async def test_forged_ids_are_refused_without_a_look_up(client, ledger, generation, identity) -> None:
    ledger.down = True  # a look-up would fail with 503
    body = {"generation_id": identity.format(own=generation), "source": "s", "reward": 1}
    answer = await client.post("/feedback", json=body, headers=HEADERS)
    assert answer.json() == problem(404, "not_found", "no such generation", hint=SAME_KEY)


async def test_an_id_of_another_tenant_is_refused_without_a_look_up(serve, ledger) -> None:
    async with serve(keys=True) as client:
        key = {"authorization": "Bearer generate-key-of-b"}
        identity = (await client.post("/diffuse", json={"modality": "text"}, headers=key)).json()["id"]
        ledger.down = True
        headers = {**HEADERS, "authorization": "Bearer feedback-key-of-a"}
        said = {"generation_id": identity, "source": "s", "reward": 1}
        answer = await client.post("/feedback", json=said, headers=headers)
    assert answer.json() == problem(404, "not_found", "no such generation", hint=SAME_KEY)


async def test_an_unknown_generation_is_refused(client, ledger, generation) -> None:
    ledger.kept.clear()
    answer = await client.post(
        "/feedback", json={"generation_id": generation, "source": "s", "reward": 1}, headers=HEADERS
    )
    hint = "it was not recorded, or is older than --ledger-ttl-seconds"
    assert answer.json() == problem(404, "not_found", "no such generation", hint=hint)


async def test_a_key_without_the_scope_is_refused(serve) -> None:
    async with serve(keys=True) as client:
        headers = {**HEADERS, "authorization": "Bearer generate-key-of-a"}
        answer = await client.post("/feedback", json={}, headers=headers)
    detail = "this needs a key with scope 'feedback'; yours has ['generate']"
    assert answer.json() == problem(403, "forbidden", detail, hint="ask whoever keeps the key file")


async def test_a_ledger_that_is_down_is_said(client, ledger, generation) -> None:
    ledger.down = True
    body = {"generation_id": generation, "source": "s", "reward": 1}
    answer = await client.post("/feedback", json=body, headers=HEADERS)
    assert answer.headers["retry-after"] == "1"
    assert answer.json() == problem(503, "ledger_unavailable", "the ledger is down", retry_after=1.0)


async def test_a_queue_that_is_down_is_said_while_generating_goes_on(client, inbox, generation) -> None:
    await inbox.close()
    body = {"generation_id": generation, "source": "s", "reward": 1}
    answer = await client.post("/feedback", json=body, headers=HEADERS)
    assert answer.headers["retry-after"] == "1"
    assert answer.json() == problem(503, "inbox_unavailable", "the inbox is closed", retry_after=1.0)
    assert (await client.post("/diffuse", json={"modality": "text"})).json()["recorded"] is True
    lines = (await client.get("/metrics")).text.splitlines()
    assert 'perfuse_shed_total{reason="unavailable"} 1.0' in lines
    assert [line for line in lines if line.startswith("perfuse_inbox_items{")] == []


async def test_a_full_inbox_is_said(client, inbox, generation) -> None:
    inbox._most_items = 1
    await post(client, generation, reward=1)
    body = {"generation_id": generation, "source": "s", "reward": 1}
    answer = await client.post("/feedback", json=body, headers=HEADERS)
    assert answer.headers["retry-after"] == "30"
    assert answer.json() == problem(
        429,
        "inbox_full",
        "the inbox is full: it holds at most 1 items and 1073741824 bytes",
        hint="try again later; `perfuse queue stats` says what it holds",
        retry_after=30.0,
    )
    assert 'perfuse_shed_total{reason="overloaded"} 1.0' in (await client.get("/metrics")).text.splitlines()


def test_an_item_of_a_later_version_is_not_misread() -> None:
    with pytest.raises(msgspec.ValidationError, match=r"Invalid enum value 2 - at `\$.version`"):
        unpack_feedback(b'{"version":2}')


def test_the_keywords_are_those_that_are_documented() -> None:
    assert ", ".join(bodies.SCHEMA_KEYWORDS) == KEYWORDS


async def test_a_verifier_that_is_installed(client, inbox, generation, monkeypatch) -> None:
    monkeypatch.setattr(plugins, "verifiers", lambda: ["balanced"])
    said = {"kind": "installed", "name": "balanced", "arguments": {"longest": 9}}
    assert (await post(client, generation, verifier=said)).status_code == 202
    (lease,) = await kept(inbox)
    assert unpack_feedback(lease.item).verifier == Installed("balanced", {"longest": 9})


async def test_a_verifier_that_is_not_installed(client, inbox, generation, monkeypatch) -> None:
    monkeypatch.setattr(plugins, "verifiers", lambda: ["balanced"])
    body = {"generation_id": generation, "source": "a", "verifier": {"kind": "installed", "name": "exec"}}
    answer = await client.post("/feedback", json=body, headers=HEADERS)
    assert answer.json() == invalid(
        "/verifier/name", "no verifier is named 'exec'", hint="installed on this server are balanced"
    )
    body["verifier"] = {"kind": "installed"}
    answer = await client.post("/feedback", json=body, headers=HEADERS)
    assert answer.json() == invalid("/verifier/name", "this field is required")
    assert await kept(inbox) == []
