"""The OpenAPI document. Routes read and write bytes themselves, so they say here what the bytes are.

Nothing is built before somebody asks for the document: that keeps the front's start short.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, TypeAdapter

from perfuse import __version__
from perfuse.errors import PerfuseError

if TYPE_CHECKING:
    from fastapi import FastAPI
    from pydantic.json_schema import JsonSchemaMode

Document = dict[str, Any]  # JSON
_REF = "#/components/schemas/{model}"
_MODELS: dict[str, tuple[type, JsonSchemaMode]] = {}

_PROBLEM: Document = {
    "type": "object",
    "description": "RFC 9457. `code` is stable; `field` is a JSON pointer into the request.",
    "required": ["type", "title", "status", "detail", "code", "request_id"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "hint": {"type": "string"},
        "field": {"type": "string"},
        "retry_after": {"type": "number"},
        "request_id": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["pointer", "message"],
                "properties": {"pointer": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}
_STREAM = (
    "Each server-sent event: `accepted` {backlog_seconds, snapshot}, `step` {step, of}, `preview` {step, of, …}, "
    "`restarted` {restarts}, and at the end `result` (the JSON answer) or `error` (a problem)."
)


_CHUNKS = (
    "Each server-sent event, without a name: a chunk of the answer with the settled text that is new, at the end "
    "`[DONE]`; an `error` ends the stream early."
)


def body(model: type[BaseModel]) -> Document:
    """The route takes this body."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": _ref(model, "validation")}}}}


def json_answer(model: type, status: int = 200) -> Document:
    """The route answers with this."""
    return {"responses": {str(status): _content("application/json", _ref(model, "serialization"))}}


def text_answer(description: str) -> Document:
    """The route answers with plain text."""
    return {"responses": {"200": _content("text/plain", {"type": "string", "description": description})}}


def stream_answer() -> Document:
    """The route can answer with server-sent events."""
    return {"responses": {"200": _content("text/event-stream", _event(_STREAM, ["event", "data"]))}}


def chunks_answer() -> Document:
    """The route can answer with OpenAI's stream of chunks."""
    return {"responses": {"200": _content("text/event-stream", _event(_CHUNKS, ["data"]))}}


def _event(description: str, fields: Sequence[str]) -> Document:
    """The schema of one event, whose data is JSON. OpenAPI 3.1 has no word for the items of a stream."""
    properties = {field: {"type": "string"} for field in fields}
    return {"type": "object", "description": description, "properties": properties, "required": list(fields)}


def generation_answer() -> Document:
    """The answer's id can be used elsewhere."""
    identity = "$response.body#/id"
    links = {
        "find": {"operationId": "generation", "parameters": {"generation_id": identity}},
        "judge": {"operationId": "feedback", "requestBody": {"generation_id": identity, "accepted": True}},
    }
    return {"responses": {"200": {"links": links}}}


def error_answer(model: type) -> Document:
    """The route's errors have this body."""
    return {"responses": {"default": _content("application/json", _ref(model, "serialization"))}}


def open_to_all() -> Document:
    """The route needs no key."""
    return {"security": []}


def documented(*parts: Document) -> Document:
    """The parts as one."""
    whole: Document = {}
    for part in parts:
        _merge(whole, part)
    return whole


def describe(app: FastAPI) -> Document:
    """The whole document of an app."""
    from fastapi.openapi.utils import get_openapi

    document = get_openapi(
        title="perfuse",
        version=__version__,
        summary="A diffusion model server that learns from the agents that use it",
        routes=app.routes,
        servers=[{"url": "/"}, {"url": "/v1"}],
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    components = document.setdefault("components", {})
    components["schemas"] = _schemas()
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{"key": []}]
    for path in document["paths"].values():
        for operation in path.values():
            _finish(operation)
    return document


def as_yaml(document: Document) -> str:
    """The document as the committed openapi.yaml."""
    import yaml

    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)


def _finish(operation: Document) -> None:
    """Problems everywhere; nothing of what FastAPI would guess about a route that answers with bytes."""
    responses = operation["responses"]
    responses.pop("422", None)
    answer = next(content for status, content in responses.items() if status.startswith("2"))
    answer["description"] = "success"
    answer["content"] = {
        kind: content for kind, content in answer["content"].items() if content.get("schema") not in ({}, None)
    }
    problem = _content("application/problem+json", {"$ref": _REF.format(model="Problem")})
    responses.setdefault("default", problem)["description"] = "refused or failed; `code` says why"
    for parameter in operation.get("parameters", ()):
        parameter["schema"].pop("title", None)


def _content(media_type: str, schema: Document) -> Document:
    return {"description": "success", "content": {media_type: {"schema": schema}}}


def _ref(model: type, mode: JsonSchemaMode) -> Document:
    _MODELS[model.__name__] = (model, mode)
    return {"$ref": _REF.format(model=model.__name__)}


def _schemas() -> Document:
    inputs: list[tuple[str, JsonSchemaMode, TypeAdapter[Any]]] = [
        (name, mode, TypeAdapter(model)) for name, (model, mode) in sorted(_MODELS.items())
    ]
    _, shared = TypeAdapter.json_schemas(inputs, ref_template=_REF)
    schemas: Document = dict(shared.get("$defs", {}))
    schemas["Problem"] = {**_PROBLEM, "properties": {**_PROBLEM["properties"], "code": _codes()}}
    for schema in schemas.values():
        strip_titles(schema)
    return dict(sorted(schemas.items()))


def _codes() -> Document:
    from perfuse.wire import error_classes

    own = [kind.code for kind in error_classes().values() if kind.__module__.startswith("perfuse.")]
    assert PerfuseError.code in own
    return {"type": "string", "examples": sorted(own)}


def strip_titles(node: object) -> None:
    """Remove the titles pydantic makes of names; a property called "title" stays."""
    if isinstance(node, dict):
        if isinstance(node.get("title"), str):
            del node["title"]
        for child in node.values():
            strip_titles(child)
    elif isinstance(node, list):
        for child in node:
            strip_titles(child)


def _merge(whole: Document, part: Document) -> None:
    for key, value in part.items():
        if isinstance(value, dict) and isinstance(whole.get(key), dict):
            _merge(whole[key], value)
        else:
            whole[key] = value
