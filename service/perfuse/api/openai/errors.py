"""Errors in the body that OpenAI's clients read: `{"error": {message, type, param, code}}`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import msgspec
from starlette.responses import Response

from perfuse.api.problems import InvalidFields
from perfuse.errors import PerfuseError
from perfuse.metrics import Kind

PARAMETERS: dict[Kind, dict[str, str]] = {
    "completions": {"/length": "max_tokens", "/prefix": "prompt", "/prompt": "prompt"},
    "chat": {"/length": "max_tokens", "/prompt": "messages"},
}
"""Which parameter a field of our own request is, by face."""
_CODES = {
    "unauthenticated": "invalid_api_key",
    "unknown_model": "model_not_found",
    "canvas_too_long": "context_length_exceeded",
    "overloaded": "rate_limit_exceeded",
    "unsupported_field": "unsupported_parameter",
}
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_UNPROCESSABLE, _BAD, _SERVER_ERROR = 422, 400, 500
_INDEX = re.compile(r"/(\d+)(?=/|\Z)")


@dataclass(kw_only=True)
class ErrorDetail:
    """What was refused and why. `param` names the field, `code` is stable."""

    message: str
    type: str
    param: str | None
    code: str


@dataclass(kw_only=True)
class ErrorAnswer:
    """The body of every error of this face."""

    error: ErrorDetail


def detail_of(error: PerfuseError, kind: Kind) -> ErrorDetail:
    """The error as OpenAI's clients know it.

    Args:
        error: what happened.
        kind: the face, whose names for fields are used.
    """
    message = error.detail
    if isinstance(error, InvalidFields):
        named = [(_parameter(each.pointer, kind), each.message) for each in error.errors]
        message = "; ".join(f"{name}: {said}" if name else said for name, said in named)
    status = status_of(error)
    return ErrorDetail(
        message=message if error.hint is None else f"{message} ({error.hint})",
        type=_TYPES.get(status, "server_error" if status >= _SERVER_ERROR else "invalid_request_error"),
        param=_parameter(error.field or "", kind),
        code=_CODES.get(error.code, error.code),
    )


def status_of(error: PerfuseError) -> int:
    """The HTTP status; OpenAI has 400 where we have 422."""
    return _BAD if error.status == _UNPROCESSABLE else error.status


def encoded(error: PerfuseError, kind: Kind) -> bytes:
    """The body of an error as JSON."""
    return msgspec.json.encode(ErrorAnswer(error=detail_of(error, kind)))


def response_of(error: PerfuseError, kind: Kind) -> Response:
    """The HTTP answer to an error, with `Retry-After` where trying again makes sense."""
    response = Response(encoded(error, kind), status_code=status_of(error), media_type="application/json")
    if error.retry_after is not None:
        response.headers["retry-after"] = str(max(1, math.ceil(error.retry_after)))
    if error.status == 401:
        response.headers["www-authenticate"] = 'Bearer realm="perfuse"'
    return response


def _parameter(pointer: str, kind: Kind) -> str | None:
    """A JSON pointer as OpenAI writes it: `messages[0].content`; None for the body itself."""
    known = PARAMETERS.get(kind, {}).get(pointer)
    path = _INDEX.sub(r"[\1]", pointer).lstrip("/").replace("/", ".")
    return known or path.replace("~1", "/").replace("~0", "~") or None
