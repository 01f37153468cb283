"""Errors as `application/problem+json` (RFC 9457): every answer that is not a success has this body."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec
from pydantic import ValidationError
from starlette.responses import Response

from perfuse.errors import InvalidRequest, PerfuseError
from perfuse.wire import error_classes

MEDIA_TYPE = "application/problem+json"
_ENCODER = msgspec.json.Encoder()
_MAX_SHOWN = 80


class MalformedBody(PerfuseError):
    """The body is not JSON in UTF-8."""

    code = "malformed_body"
    status = 400


class MethodNotAllowed(PerfuseError):
    """The path exists, but not with this method."""

    code = "method_not_allowed"
    status = 405


class UnsupportedMediaType(PerfuseError):
    """The body must be JSON and say so."""

    code = "unsupported_media_type"
    status = 415


class FieldError(msgspec.Struct, frozen=True):
    """One refused field: `pointer` is a JSON pointer into the body."""

    pointer: str
    message: str


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of an error. `code` is stable; `field` is a JSON pointer into the request; `errors` lists all fields."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    hint: str | None = None
    field: str | None = None
    retry_after: float | None = None
    request_id: str
    errors: tuple[FieldError, ...] = ()


class InvalidFields(InvalidRequest):
    """One or more fields of the body are refused.

    Args:
        errors: all of them, the first of which becomes the detail.
        hint: what to do.
    """

    def __init__(self, errors: Sequence[FieldError], hint: str | None = None) -> None:
        first = errors[0]
        super().__init__(f"{first.pointer or 'body'}: {first.message}", field=first.pointer, hint=hint)
        self.errors = tuple(errors)


def problem_of(error: PerfuseError, request_id: str) -> Problem:
    """The body that describes an error."""
    return Problem(
        type=f"/problems/{error.code}",
        title=title_of(error.code),
        status=error.status,
        detail=error.detail,
        code=error.code,
        hint=error.hint,
        field=error.field,
        retry_after=error.retry_after,
        request_id=request_id,
        errors=error.errors if isinstance(error, InvalidFields) else (),
    )


def unforeseen() -> PerfuseError:
    """What the client hears of an error that nothing expected; the log hears the rest."""
    return PerfuseError("something failed that should not have", hint="see the server's log")


def title_of(code: str) -> str:
    """The same for every problem of a code."""
    return code.replace("_", " ").capitalize()


def describe(code: str) -> tuple[str, int, str] | None:
    """Title, status and meaning of a problem code; None if there is none such."""
    kind = error_classes().get(code)
    if kind is None:
        return None
    return title_of(code), kind.status, " ".join((kind.__doc__ or "").split("\n\n")[0].split())


def response_of(error: PerfuseError, request_id: str) -> Response:
    """The HTTP answer to an error, with `Retry-After` (whole seconds, rounded up) where trying again makes sense."""
    headers = {}
    if error.retry_after is not None:
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after)))
    if error.status == 401:
        headers["www-authenticate"] = 'Bearer realm="perfuse"'
    return Response(
        encode(problem_of(error, request_id)), status_code=error.status, headers=headers, media_type=MEDIA_TYPE
    )


def encode(problem: Problem) -> bytes:
    """The problem as JSON."""
    return _ENCODER.encode(problem)


def invalid_fields(error: ValidationError) -> PerfuseError:
    """What pydantic found wrong with a body, in our words.

    Returns:
        MalformedBody if it is not JSON at all, else InvalidFields.
    """
    found = error.errors(include_url=False, include_context=True)
    if found[0]["type"] == "json_invalid":
        reason = found[0]["msg"].removeprefix("Invalid JSON: ")
        return MalformedBody(f"the body is not JSON: {reason}", hint="send one JSON object in UTF-8")
    errors = [FieldError(pointer_of(item["loc"]), _message(item)) for item in found]
    unknown = any(item["type"] == "extra_forbidden" for item in found)
    hint = "see /docs for the fields" if unknown else None
    return InvalidFields(errors, hint)


def pointer_of(location: Sequence[int | str]) -> str:
    """A location as JSON pointer (RFC 6901)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in location)


def _message(item: Any) -> str:  # noqa: ANN401  # pydantic's ErrorDetails
    kind, value = item["type"], item["input"]
    if kind == "extra_forbidden":
        return "unknown field"
    if kind == "missing":
        return "this field is required"
    if kind == "json_type" or isinstance(value, dict | list):
        return _lower(item["msg"])
    shown = repr(value)
    if len(shown) > _MAX_SHOWN:
        shown = f"{shown[:_MAX_SHOWN]}… ({len(shown)} characters)"
    return f"{_lower(item['msg'])}, got {shown}"


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]
