"""Which body an error has: OpenAI's on its routes, both on /models, else a problem."""

from __future__ import annotations

from dataclasses import asdict

import msgspec
from starlette.responses import Response

from perfuse.api import problems
from perfuse.api.openai import errors
from perfuse.errors import PerfuseError
from perfuse.metrics import Kind


def refusal(error: PerfuseError, kind: Kind, request_id: str) -> Response:
    """The HTTP answer to an error.

    Args:
        error: what happened.
        kind: of the path that was asked for.
        request_id: of the exchange.
    """
    if kind in errors.PARAMETERS:
        return errors.response_of(error, kind)
    response = problems.response_of(error, request_id)
    if kind == "models":
        both = {
            **msgspec.to_builtins(problems.problem_of(error, request_id)),
            "error": asdict(errors.detail_of(error, kind)),
        }
        response.body = msgspec.json.encode(both)
        response.headers["content-length"] = str(len(response.body))
    return response
