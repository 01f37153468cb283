"""Which error an answer becomes, and what it carries."""

from __future__ import annotations

import json
import pickle

import pytest
import yaml
from perfuse_client import (
    Client,
    Conflict,
    DeadlineExceeded,
    Forbidden,
    InvalidRequest,
    NoAnswer,
    NotFound,
    Overloaded,
    PerfuseError,
    Refused,
    ServerError,
    StreamBroken,
    TimedOut,
    Unauthenticated,
    Unavailable,
    UnexpectedAnswer,
    errors,
)
from perfuse_client.errors import FieldError, refusal

from clients.conftest import Taught
from clients.scripted_http import answer, answering, problem
from documents import REPOSITORY


def test_a_refusal_carries_all_that_the_server_says(taught: Taught) -> None:
    with Client(taught.url) as client, pytest.raises(InvalidRequest) as caught:
        client.diffuse(steps=0, n=65)
    error = caught.value
    assert (error.status, error.code, error.field, error.retry_after) == (422, "invalid_request", "/steps", None)
    assert error.detail == "/steps: input should be greater than or equal to 1, got 0"
    assert error.errors == (
        FieldError("/steps", "input should be greater than or equal to 1, got 0"),
        FieldError("/n", "input should be less than or equal to 64, got 65"),
    )
    assert isinstance(error, ValueError)
    assert str(error) == f"422 invalid_request: {error.detail} (request {error.request_id})"


@pytest.mark.parametrize(
    ("status", "kind", "builtin"),
    [
        (400, InvalidRequest, ValueError),
        (401, Unauthenticated, Refused),
        (403, Forbidden, Refused),
        (404, NotFound, LookupError),
        (405, InvalidRequest, ValueError),
        (409, Conflict, Refused),
        (413, InvalidRequest, ValueError),
        (415, InvalidRequest, ValueError),
        (422, InvalidRequest, ValueError),
        (429, Overloaded, Refused),
        (500, ServerError, Refused),
        (503, Unavailable, Refused),
        (504, DeadlineExceeded, TimeoutError),
        (507, ServerError, PerfuseError),
    ],
)
def test_each_status_has_its_error(status: int, kind: type[Refused], builtin: type[Exception]) -> None:
    error = refusal(status, json.dumps(problem(status, "c", field="/x")).encode(), request_id="r")
    assert type(error) is kind
    assert isinstance(error, builtin)
    assert (error.status, error.code, error.detail, error.field) == (status, "c", "because", "/x")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


@pytest.mark.parametrize("kind", [NoAnswer, StreamBroken, TimedOut, UnexpectedAnswer])
def test_errors_without_an_answer_survive_pickling(kind: type[PerfuseError]) -> None:
    again = pickle.loads(pickle.dumps(kind("gone", request_id="r")))
    assert (type(again), str(again), again.request_id) == (kind, "gone (request r)", "r")


def test_nothing_of_a_problem_is_lost() -> None:
    schema = yaml.safe_load((REPOSITORY / "openapi.yaml").read_text())["components"]["schemas"]["Problem"]
    carried = set(vars(refusal(500, b"", request_id="r")))
    assert carried == set(schema["properties"]) - {"type", "title"}


def test_a_proxys_page_is_shown_shortened() -> None:
    error = refusal(502, b"<html>" + b"x" * 500, request_id="r")
    assert str(error) == f"502 unexpected: <html>{'x' * 194} (request r)"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (answer(200, b"<html></html>"), "GET /version: 1 validation error for VersionAnswer"),
        (answer(200, {"version": "1"}), "GET /version: 1 validation error for VersionAnswer"),
        (answer(307, b"", location="/elsewhere"), "GET /version: status 307, content application/json"),
    ],
    ids=["page", "field", "redirect"],
)
def test_an_answer_that_is_not_described_is_unexpected(raw: bytes, message: str) -> None:
    with answering(raw) as script, Client(script.url) as client, pytest.raises(UnexpectedAnswer) as caught:
        client.version()
    assert caught.value.args[0].startswith(message)
    assert caught.value.request_id == script.received[0].headers["x-request-id"]


def test_metrics_that_are_no_text_are_unexpected() -> None:
    with answering(answer(200, b"\xff")) as script, Client(script.url) as client, pytest.raises(UnexpectedAnswer):
        client.exposition()


def test_the_tree_is_drawn_whole() -> None:
    drawn = errors.__doc__ or ""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, PerfuseError)]
    assert [kind.__name__ for kind in kinds if f" {kind.__name__} " not in drawn.replace("\n", " ")] == []
