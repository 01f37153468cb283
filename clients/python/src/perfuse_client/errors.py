"""Every error the client raises on purpose, as one tree.

PerfuseError                             request_id
├── NoAnswer (ConnectionError)           refused, reset or closed before an answer
│   └── StreamBroken                     events ended before their result
├── TimedOut (TimeoutError)              silence for longer than `timeout`
├── UnexpectedAnswer                     not what openapi.yaml describes, for example a proxy's page
└── Refused                              status, code, detail, hint, field, errors, retry_after
    ├── InvalidRequest (ValueError)      400, 405, 413, 415, 422
    ├── Unauthenticated                  401
    ├── Forbidden                        403
    ├── NotFound (LookupError)           404
    ├── Conflict                         409
    ├── Overloaded                       429
    ├── Unavailable                      503
    ├── DeadlineExceeded (TimeoutError)  504
    └── ServerError                      every other status

The client gives each call an id and sends it as `X-Request-ID`; the server's log names it, also where no answer came.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

_MOST_SHOWN = 200
_OTHER = "unexpected"


class PerfuseError(Exception):
    """Root of the tree.

    Args:
        message: one sentence.
        request_id: by which the server's log knows the call.
    """

    def __init__(self, message: str, *, request_id: str) -> None:
        super().__init__(message)
        self.request_id = request_id

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuilt, (type(self), self.args, dict(self.__dict__))

    def __str__(self) -> str:
        return f"{self.args[0]} (request {self.request_id})"


class NoAnswer(PerfuseError, ConnectionError):
    """The server could not be reached, or left before it answered."""


class StreamBroken(NoAnswer):
    """The events of a generation ended before its result. The server has dropped it; asking again is safe."""


class TimedOut(PerfuseError, TimeoutError):
    """The server was silent for longer than `timeout`. A stream is never silent for longer than 15 s."""


class UnexpectedAnswer(PerfuseError):
    """The answer is not what openapi.yaml describes: another server, a proxy, or a later version."""


@dataclass(frozen=True)
class FieldError:
    """One refused field; `pointer` is a JSON pointer into the body."""

    pointer: str
    message: str


@dataclass(frozen=True)
class Problem:
    """What the server says about an error (RFC 9457). `code` is stable; `field` is a JSON pointer into the body."""

    status: int
    code: str
    detail: str
    hint: str | None = None
    field: str | None = None
    errors: tuple[FieldError, ...] = ()
    retry_after: float | None = None


class Refused(PerfuseError):
    """The server answered with a problem.

    Args:
        problem: what it said.
        request_id: by which the server's log knows the call.
    """

    def __init__(self, problem: Problem, *, request_id: str) -> None:
        said = f"{problem.status} {problem.code}: {problem.detail}"
        super().__init__(said if problem.hint is None else f"{said}; hint: {problem.hint}", request_id=request_id)
        self.status = problem.status
        self.code = problem.code
        self.detail = problem.detail
        self.hint = problem.hint
        self.field = problem.field
        self.errors = problem.errors
        self.retry_after = problem.retry_after


class InvalidRequest(Refused, ValueError):
    """The request cannot be served as written; `field` and `errors` say where."""


class Unauthenticated(Refused):
    """No key, or an unknown one."""


class Forbidden(Refused):
    """The key lacks the scope."""


class NotFound(Refused, LookupError):
    """No such generation, adaptation, memory or model."""


class Conflict(Refused):
    """Not possible in the present state."""


class Overloaded(Refused):
    """The server's backlog is full; it expects room after `retry_after` seconds."""


class Unavailable(Refused):
    """A part of the server is starting, draining or down."""


class DeadlineExceeded(Refused, TimeoutError):
    """Not one step could be finished before `deadline_ms`."""


class ServerError(Refused):
    """The server failed."""


_BY_STATUS: dict[int, type[Refused]] = {
    400: InvalidRequest,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    405: InvalidRequest,
    409: Conflict,
    413: InvalidRequest,
    415: InvalidRequest,
    422: InvalidRequest,
    429: Overloaded,
    503: Unavailable,
    504: DeadlineExceeded,
}


def refusal(status: int, body: bytes, *, request_id: str, retry_after: str | None = None) -> Refused:
    """The error that an answer stands for.

    Args:
        status: of the answer.
        body: the problem as JSON, whose own status counts; anything else is shown as it is.
        request_id: by which the server's log knows the call.
        retry_after: the header of that name: seconds or a date.
    """
    problem = _problem(status, body, _seconds(retry_after))
    return _BY_STATUS.get(problem.status, ServerError)(problem, request_id=request_id)


def _problem(status: int, body: bytes, wait: float | None) -> Problem:
    try:
        said = json.loads(body)
        if wait is None and "retry_after" in said:
            wait = float(said["retry_after"])
        return Problem(
            status=int(said["status"]),
            code=str(said["code"]),
            detail=str(said["detail"]),
            hint=said.get("hint"),
            field=said.get("field"),
            errors=tuple(FieldError(each["pointer"], each["message"]) for each in said.get("errors", ())),
            retry_after=wait,
        )
    except (ValueError, LookupError, TypeError):
        text = body.decode("utf-8", "replace").strip()
        return Problem(status=status, code=_OTHER, detail=text[:_MOST_SHOWN] or "an empty answer", retry_after=wait)


def _seconds(header: str | None) -> float | None:
    """How long `Retry-After` asks to wait; None where it does not."""
    if header is None:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(header) - datetime.now(timezone.utc)).total_seconds())
    except (TypeError, ValueError):
        return None


def _rebuilt(kind: type[PerfuseError], arguments: tuple[str, ...], state: dict[str, object]) -> PerfuseError:
    error = kind.__new__(kind)
    error.args = arguments
    error.__dict__.update(state)
    return error
