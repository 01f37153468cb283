"""What the real pipelines refuse, as a client sees it: the whole problem body."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

import shipped
from perfuse.evaluation.load import Server, ask, serving

PLAN = {
    "domain": "trajectory",
    "environment": "maze2d-umaze",
    "state": [3.0, 1.0, 0.0, 0.0],
    "goal": {"position": [1.0, 1.0]},
}
TEXT = {"modality": "text", "prompt": "Add two."}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("refusals") / "data") as started:
        asyncio.run(started.ready())
        yield started


def problem(code: str, title: str, status: int, detail: str, field: str, hint: str) -> dict[str, object]:
    return {
        "type": f"/problems/{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "hint": hint,
        "field": field,
    }


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        (
            "/plan",
            {**PLAN, "state": [2.0, 1.0, 0.0, 0.0]},
            problem(
                "invalid_request",
                "Invalid request",
                422,
                "the state (2, 1) lies in a wall of maze2d-umaze or touches one",
                "/state",
                "a ball of radius 0.1 must fit; cell (r, c) covers r - 0.7 to r + 0.3; "
                "free cells: (1, 2), (1, 3), (2, 3), (3, 1), (3, 2), (3, 3), (1, 1)",
            ),
        ),
        (
            "/plan",
            {**PLAN, "environment": "maze2d-giant"},
            problem(
                "invalid_request",
                "Invalid request",
                422,
                "no planner is loaded for environment 'maze2d-giant'",
                "/environment",
                "environments with a planner: maze2d-umaze",
            ),
        ),
        (
            "/diffuse",
            {**TEXT, "model": "code-large"},
            problem(
                "unknown_model",
                "Unknown model",
                404,
                f"no text model 'code-large' is loaded; loaded are {shipped.CODE}",
                "/model",
                "leave out `model` for the default, or see GET /models",
            ),
        ),
        (
            "/diffuse",
            {"modality": "text", "template": "no mark"},
            problem(
                "nothing_to_fill",
                "Nothing to fill",
                422,
                "the template holds no <mask>; expected exactly one",
                "/template",
                "write <mask> or <mask:24> where text is to be filled in",
            ),
        ),
        (
            "/diffuse",
            {"modality": "text", "length": 500},
            problem(
                "canvas_too_long",
                "Canvas too long",
                422,
                f"the canvas has 503 tokens (3 given, 500 to fill); model {shipped.CODE!r} takes at most 256",
                "/length",
                "shorten prompt, prefix and suffix, or ask for fewer tokens",
            ),
        ),
    ],
)
async def test_a_refusal_says_what_was_expected(
    server: Server, path: str, body: dict[str, object], expected: dict[str, object]
) -> None:
    answer = await ask(server.port, "POST", path, body)
    said = answer.json()
    assert said.pop("request_id") == answer.headers["x-request-id"]
    assert answer.headers["content-type"] == "application/problem+json"
    assert said == expected
