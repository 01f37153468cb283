"""What each tool takes and gives: the bodies of /diffuse, /plan and /feedback, with the fields that an agent needs."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import msgspec
from mcp_types import Tool, ToolAnnotations
from pydantic import JsonValue, TypeAdapter
from starlette.requests import Request

from perfuse.api.accepting import accept, parse_feedback
from perfuse.api.answering import admitted
from perfuse.api.feedback import FeedbackBody
from perfuse.api.generate import Asked, authorised, front_of, generate, parse
from perfuse.api.middleware import exchange_of
from perfuse.api.openapi import Document, strip_titles
from perfuse.api.problems import FieldError, InvalidFields
from perfuse.api.schemas import Body, DiffuseAnswer, DiffuseText, FeedbackAnswer, PlanAnswer, PlanTrajectory
from perfuse.dispatch.pool import Event
from perfuse.queue.ledger import Kind

Arguments = Mapping[str, JsonValue]
OnEvent = Callable[[Event], None]
Run = Callable[[Request, bytes, OnEvent | None], Awaitable[bytes]]

_ALL = ("model", "seed", "deadline_ms")
_CODE = (*_ALL, "prompt", "language", "n", "temperature", "adaptation")
_TEXT = (*_CODE, "length")
_PLAN = (*_ALL, "environment", "state", "goal", "candidates", "steps")
_GENERATES = ToolAnnotations(read_only_hint=True, open_world_hint=False)
_SAYS = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One tool.

    Attributes:
        description: for the agent.
        body: what its arguments are checked as, together with `fixed`.
        answer: what it gives.
        run: carries it out, from the checked bytes; told events where the agent wants to see progress.
        shown: the fields of `body` that are arguments; None: all.
        required: those that must be there.
    """

    title: str
    description: str
    body: type[Body]
    answer: type
    run: Run
    annotations: ToolAnnotations
    shown: tuple[str, ...] | None = None
    required: tuple[str, ...] = ()
    fixed: Arguments | None = None

    def input_schema(self) -> Document:
        """JSON schema of the arguments."""
        schema = self.body.model_json_schema()
        if self.shown is not None:
            schema["properties"] = {name: schema["properties"][name] for name in self.shown}
            schema["required"] = list(self.required)
            schema["$defs"] = _named(schema["properties"], schema.get("$defs", {}))
        return _described(schema)

    def output_schema(self) -> Document:
        """JSON schema of the structured content."""
        return _described(TypeAdapter(self.answer).json_schema(mode="serialization"))

    async def call(self, request: Request, arguments: Arguments, on_event: OnEvent | None) -> bytes:
        """The answer as JSON. Raises PerfuseError."""
        unknown = [] if self.shown is None else sorted(arguments.keys() - set(self.shown))
        missing = [name for name in self.required if name not in arguments]
        if unknown or missing:
            errors = [FieldError(f"/{name}", "unknown argument") for name in unknown]
            raise InvalidFields([*errors, *(FieldError(f"/{name}", "this argument is required") for name in missing)])
        # unlike msgspec it writes whatever JSON a message can hold; our own parser then refuses it
        raw = json.dumps({**(self.fixed or {}), **arguments}).encode()
        return await self.run(request, raw, on_event)


def _generating(kind: Kind, schema: type[DiffuseText | PlanTrajectory]) -> Run:
    async def run(request: Request, raw: bytes, on_event: OnEvent | None) -> bytes:
        front, principal = await admitted(request)
        body = parse(raw, schema)
        asked = Asked(kind=kind, body=body, principal=principal, exchange=exchange_of(request.scope))
        return await generate(front, asked, on_event)

    return run


_diffuse = _generating("diffuse", DiffuseText)
_plan = _generating("plan", PlanTrajectory)


async def _feedback(request: Request, raw: bytes, on_event: OnEvent | None) -> bytes:
    del on_event  # it takes one step
    principal = authorised(request, "feedback")
    said = parse_feedback(raw)
    return msgspec.json.encode(await accept(front_of(request), principal, said, said.idempotency_key))


OFFERS: Mapping[str, Offer] = {
    "fill": Offer(
        title="Fill a gap in code",
        description="Write the code between `prefix` and `suffix`. Both come back unchanged around `fill`. "
        "`prompt` says in a sentence what the code is to do. Keep the `id` and say with `feedback` what came of it.",
        body=DiffuseText,
        answer=DiffuseAnswer,
        run=_diffuse,
        annotations=_GENERATES,
        shown=("prefix", "suffix", *_TEXT),
        required=("prefix", "suffix"),
        fixed={"modality": "text"},
    ),
    "generate": Offer(
        title="Write code",
        description="Write a function from a sentence that says what it returns, or with `schema` or `regex` text of "
        "that form, guaranteed. Keep the `id` and say with `feedback` what came of it.",
        body=DiffuseText,
        answer=DiffuseAnswer,
        run=_diffuse,
        annotations=_GENERATES,
        shown=(*_TEXT, "schema", "regex"),
        required=("prompt",),
        fixed={"modality": "text"},
    ),
    "refine": Offer(
        title="Put code right",
        description="Write the wrong lines of a program anew, from the error message that it ended with. "
        "`prompt` says what it is to do. Keep the `id` and say with `feedback` what came of it.",
        body=DiffuseText,
        answer=DiffuseAnswer,
        run=_diffuse,
        annotations=_GENERATES,
        shown=(*_CODE, "refine"),
        required=("refine",),
        fixed={"modality": "text"},
    ),
    "plan": Offer(
        title="Plan a trajectory",
        description="Plan a trajectory from `state` (x, y, vx, vy) to a goal in a named environment. `status` says "
        "whether it was verified to be free of collisions and to arrive.",
        body=PlanTrajectory,
        answer=PlanAnswer,
        run=_plan,
        annotations=_GENERATES,
        shown=_PLAN,
        required=("environment", "state", "goal"),
        fixed={"domain": "trajectory"},
    ),
    "feedback": Offer(
        title="Say what came of it",
        description="Say how good a generation was, by its `id`: one of `reward`, `accepted`, `correction` and "
        "`outcome`, or a `verifier` with or without a `correction`. The server learns from it.",
        body=FeedbackBody,
        answer=FeedbackAnswer,
        run=_feedback,
        annotations=_SAYS,
    ),
}


def listed() -> list[Tool]:
    """The tools as MCP lists them."""
    return [
        Tool(
            name=name,
            title=offer.title,
            description=offer.description,
            input_schema=offer.input_schema(),
            output_schema=offer.output_schema(),
            annotations=offer.annotations,
        )
        for name, offer in OFFERS.items()
    ]


def _named(part: JsonValue, definitions: Document) -> Document:
    """The definitions that a part of a schema names, and those that they name: an agent reads no others."""
    found: Document = {}
    waiting = [part]
    while waiting:
        match waiting.pop():
            case {"$ref": str(pointer)}:
                name = pointer.removeprefix("#/$defs/")
                if name not in found:
                    found[name] = definitions[name]
                    waiting.append(definitions[name])
            case dict() as branch:
                waiting += branch.values()
            case list() as items:
                waiting += items
    return found


def _described(schema: Document) -> Document:
    """The schema with descriptions for agents only: no titles made of names, none of our own words on classes."""
    strip_titles(schema)
    schema.pop("description", None)
    return schema
