"""What routes about learning take and answer. The evolution worker writes the answers; here they are described."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from perfuse.api.answering import JSON
from perfuse.api.feedback import Visible
from perfuse.api.middleware import exchange_of
from perfuse.api.schemas import Body
from perfuse.dispatch.evolution import Worker
from perfuse.errors import InvalidRequest, Unavailable
from perfuse.orders import AnyOrder

MOST_LISTED = 1000
_LISTED = 100
_ID_CHARACTERS = 200

AdaptationState = Literal["candidate", "canary", "champion", "retired", "rejected"]
Outcome = Literal["promote", "reject", "unproven"]


async def carried_out(request: Request, order: AnyOrder, status: int = 200) -> Response:
    """What the evolution worker behind this front answers to an order, as JSON.

    Raises:
        Unavailable: no worker is there, or the server was started without one.
        PerfuseError: refused or failed.
    """
    worker: Worker | None = request.app.state.evolution
    if worker is None:
        raise Unavailable("this server does not learn", hint="ask one that does, or start it with --evolution embedded")
    return Response(msgspec.json.encode(await worker.ask(order)), status_code=status, media_type=JSON)


def has_body(request: Request) -> bool:
    """Whether a request brings a body; routes whose fields all have defaults do without."""
    headers = exchange_of(request.scope)
    return headers.header(b"content-length") not in (None, "0") or headers.header(b"transfer-encoding") is not None


class PromoteBody(Body):
    """How an adaptation is promoted."""

    force: bool = Field(default=False, description="also without a report of the gate, or against it")


class RollBackBody(Body):
    """How an adaptation is rolled back: there is nothing to choose."""


class RevokeBody(Body):
    """Whose feedback and memories are taken back."""

    source: Visible


class RebuildBody(Body):
    """What is trained anew."""

    cluster: (
        Annotated[str, Field(min_length=1, max_length=_ID_CHARACTERS, description="None: every cluster")] | None
    ) = None


class ReplaceMemoryBody(Body):
    """A text and the prompt by which it is found again."""

    prompt: Annotated[str, Field(min_length=1)]
    text: Annotated[str, Field(min_length=1)]
    source: Visible = Field("unnamed", description="who says so; memories are revoked by source")


class MemoryBody(ReplaceMemoryBody):
    """A new memory."""

    idempotency_key: Visible | None = Field(None, description="a second memory under the same key is the first one")


@dataclass(frozen=True, kw_only=True)
class Page:
    """Which part of a list is wanted."""

    limit: int
    after: str


def page_of(request: Request) -> Page:
    """The page that the query asks for.

    Raises:
        InvalidRequest: `limit` is no number in range, or there are other parameters.
    """
    query = request.query_params
    if unknown := sorted(set(query) - {"limit", "after"}):
        raise InvalidRequest(f"unknown query parameter {unknown[0]!r}", hint="there are `limit` and `after`")
    limit = query.get("limit", str(_LISTED))
    if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= MOST_LISTED):
        raise InvalidRequest(f"limit: expected an integer from 1 to {MOST_LISTED}, got {limit[:80]!r}")
    return Page(limit=int(limit), after=query.get("after", ""))


def described_page() -> dict[str, Any]:
    """The query parameters of `page_of` for openapi.yaml."""
    limit = {"type": "integer", "minimum": 1, "maximum": MOST_LISTED, "default": _LISTED}
    return {
        "parameters": [
            {"name": "limit", "in": "query", "required": False, "schema": limit},
            {
                "name": "after",
                "in": "query",
                "required": False,
                "description": "an id; what comes behind it is listed",
                "schema": {"type": "string", "default": ""},
            },
        ]
    }


def optional_body() -> dict[str, Any]:
    """The route does without a body, for openapi.yaml."""
    return {"requestBody": {"required": False}}


@dataclass(frozen=True, kw_only=True)
class AdapterBrief:
    """An adaptation: `outcome` is the gate's, null before it; `feedback` is how many items it was trained on."""

    id: str
    cluster: str
    kind: Literal["lora"]
    state: AdaptationState
    reason: str
    outcome: Outcome | None
    feedback: int
    created: float
    changed: float


@dataclass(frozen=True, kw_only=True)
class AdaptersAnswer:
    """Answer of /adapters, the latest first."""

    adapters: tuple[AdapterBrief, ...]


@dataclass(frozen=True, kw_only=True)
class AdapterAnswer(AdapterBrief):
    """Answer of /adapters/{id}: what it was made of, and what the gate measured."""

    base: str
    parent: str | None
    blob: str
    embedder: str
    dataset: str
    feedback_ids: tuple[str, ...]
    sources: tuple[str, ...]
    seed: int
    radius: float
    config: dict[str, object]
    report: dict[str, object] | None


@dataclass(frozen=True, kw_only=True)
class RollBackAnswer:
    """What serves the cluster now; null is the base model."""

    cluster: str
    champion: str | None
    previous: str | None
    canary: str | None
    share: float


@dataclass(frozen=True, kw_only=True)
class GateAnswer:
    """What the gate decided last in a cluster; `gain` is the change in accuracy."""

    adaptation: str
    state: AdaptationState
    outcome: Outcome | None
    gain: float | None
    p_value: float | None
    reasons: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ClusterAnswer:
    """Requests that belong together; `size` is how many items of feedback about them can be learned from."""

    cluster: str
    size: int
    champion: str | None
    canary: str | None
    share: float
    last_gate: GateAnswer | None


@dataclass(frozen=True, kw_only=True)
class JobAnswer:
    """A training."""

    id: str
    cluster: str
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    stage: str
    reason: str
    feedback: int
    attempt: int
    adaptation: str | None
    created: float
    changed: float


@dataclass(frozen=True, kw_only=True)
class EvolutionAnswer:
    """Answer of GET /evolution: `feedback` by state, `stage` of the job under way."""

    inbox: dict[str, object]
    feedback: dict[str, int]
    clusters: tuple[ClusterAnswer, ...]
    jobs: tuple[JobAnswer, ...]
    stage: str


@dataclass(frozen=True, kw_only=True)
class RebuildAnswer:
    """Ids of the jobs that were queued, or are under way already."""

    jobs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class RevokeAnswer(RebuildAnswer):
    """What left: ids of adaptations and of jobs under way, numbers of the rest. `jobs` train again on what is left."""

    retired: tuple[str, ...]
    cancelled: tuple[str, ...]
    feedback: int
    memories: int


@dataclass(frozen=True, kw_only=True)
class MemoryAnswer:
    """A memory; `generation` is the generation it was made of, if any."""

    id: str
    prompt: str
    text: str
    source: str
    generation: str | None
    created: float


@dataclass(frozen=True, kw_only=True)
class MemoriesAnswer:
    """Answer of /memories, by id; `next` is what `after` has to be for more, null at the end."""

    memories: tuple[MemoryAnswer, ...]
    next: str | None


@dataclass(frozen=True, kw_only=True)
class DeletedAnswer:
    """What is gone."""

    deleted: str
