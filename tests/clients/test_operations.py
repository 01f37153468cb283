"""Every operation of openapi.yaml against a real server, with both clients."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from perfuse_client import AsyncClient, Client, Conflict, InvalidRequest, NotFound, Retries
from perfuse_client.models import CaseBody, JsonSchemaBody, PlanGoal, PythonTestsBody

import shipped
from clients.conftest import Taught
from documents import REPOSITORY

PROMPT = "Given numbers, keep those that are even, double each one and return them sorted."
PATIENT = Retries(most=30)


class Waiting:
    """An `AsyncClient` whose operations are waited for, so that one test serves both clients."""

    def __init__(self, url: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._client = AsyncClient(url, retries=PATIENT)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        operation = getattr(self._client, name)
        return lambda *args, **named: self._loop.run_until_complete(operation(*args, **named))

    def close(self) -> None:
        self._loop.run_until_complete(self._client.close())
        self._loop.close()


def patient(url: str) -> Client:
    return Client(url, retries=PATIENT)


@pytest.fixture(params=[patient, Waiting], ids=["sync", "async"])
def client(taught: Taught, request: pytest.FixtureRequest) -> Iterator[Client]:
    made = request.param(taught.url)
    yield made
    made.close()


def test_a_text_is_filled_in_looked_up_and_judged(client: Client) -> None:
    answer = client.diffuse(prompt=PROMPT, seed=7, adaptation="none")
    (output,) = answer.outputs
    assert output.text.startswith("def ")
    assert (answer.seed, answer.recorded, answer.attribution) == (7, True, [])
    found = client.generation(answer.id)
    assert (found.id, found.kind, found.request["prompt"]) == (answer.id, "diffuse", PROMPT)
    cases = [CaseBody(args=[[2]], expected=[4]), CaseBody(args=[None], raises="TypeError")]
    tests = PythonTestsBody(entry_point="f", cases=cases)
    kept = client.feedback(generation_id=answer.id, source="me", correction=output.text, verifier=tests)
    assert kept.feedback_id.startswith("fb_")
    shape = JsonSchemaBody(schema_={"type": "object"})
    other = client.feedback(generation_id=answer.id, source="me", verifier=shape, idempotency_key=answer.id)
    again = client.feedback(generation_id=answer.id, source="me", verifier=shape, idempotency_key=answer.id)
    assert other == again != kept


def test_a_path_is_planned(client: Client) -> None:
    goal = PlanGoal(position=[1.0, 1.0])
    answer = client.plan(environment="maze2d-umaze", state=(3.0, 1.0, 0.0, 0.0), goal=goal, seed=1)
    assert answer.status == "verified"
    assert answer.trajectory is not None
    assert len(answer.trajectory.states[0]) == 4
    same = client.plan(environment="maze2d-umaze", state=[3, 1, 0, 0], goal={"position": [1, 1]}, seed=1)
    assert same.trajectory == answer.trajectory
    assert client.feedback(generation_id=answer.id, source="me", outcome={"arrived": True}).feedback_id


def test_memories_are_kept_listed_replaced_and_forgotten(client: Client) -> None:
    kept = client.remember(prompt="Parse an ISO date.", text="def parse(text): ...", source="me")
    assert client.memory(kept.id) == kept
    assert kept in client.memories().memories
    page = client.memories(limit=1, after="")
    assert len(page.memories) == 1
    changed = client.replace_memory(kept.id, prompt=kept.prompt, text="pass", source="me")
    assert (changed.id, changed.text) == (kept.id, "pass")
    assert client.forget(kept.id).deleted == kept.id
    with pytest.raises(NotFound):
        client.memory(kept.id)


def test_the_server_says_what_it_is(client: Client) -> None:
    assert client.livez().status == "alive"
    assert client.readyz().status == "ready"
    listed = client.models()
    assert [each.modality for each in listed.models] == ["text", "trajectory"]
    assert client.retrieve_model("code-small").id == listed.data[0].id == shipped.CODE
    assert "perfuse_requests_running" in client.exposition()
    assert client.version().protocol >= 1
    assert (client.problem("overloaded").status, client.problem("not_found").status) == (429, 404)


def test_what_is_learned_is_listed_promoted_rolled_back_rebuilt_and_revoked(client: Client, taught: Taught) -> None:
    before = taught.adaptations
    assert {each.id for each in client.adapters().adapters} == set(before.values())
    assert client.adapter(before["candidate"]).state in ("candidate", "retired", "rejected")
    assert {each.cluster for each in client.evolution().clusters} or client.evolution().feedback
    with pytest.raises(NotFound, match=r"^404 not_found: there is nothing at /adapters/ad_/\.\./x; "):
        client.adapter("ad_/../x")
    if client.adapter(before["canary"]).state == "canary":
        assert client.promote(before["canary"], force=True).state == "champion"
        assert client.rollback(before["canary"]).champion == before["champion"]
        assert len(client.rebuild().jobs) >= 1
        gone = client.revoke(source="agent-7")
        assert before["champion"] in gone.retired
        assert gone.feedback == 24
    else:
        with pytest.raises((Conflict, InvalidRequest, NotFound)):
            client.promote(before["rejected"])
        client.rollback(before["canary"])
        with pytest.raises(NotFound):
            client.rebuild(cluster="cl_none")
        assert client.revoke(source="agent-7").feedback == 0


def test_no_operation_of_the_document_is_missing() -> None:
    paths = yaml.safe_load((REPOSITORY / "openapi.yaml").read_text())["paths"].values()
    named = {said["operationId"] for item in paths for said in item.values() if "openai" not in said["tags"]}
    for kind in (Client, AsyncClient):
        assert named <= set(dir(kind))
        assert {"diffuse_stream", "plan_stream"} <= set(dir(kind))
