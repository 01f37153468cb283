"""The key under which a request may be sent again: in the body, or in the header Idempotency-Key."""

from __future__ import annotations

import re

from starlette.requests import Request

from perfuse.api.middleware import exchange_of
from perfuse.errors import InvalidRequest

_KEY = re.compile(r"[\x21-\x7e]{1,200}\Z")


def idempotency_key(request: Request, in_body: str | None) -> str | None:
    """The key of a request; None where it has none.

    Raises:
        InvalidRequest: the header is no key, or another one than the body's.
    """
    header = exchange_of(request.scope).header(b"idempotency-key")
    if header is None:
        return in_body
    if _KEY.match(header) is None:
        raise InvalidRequest("the header Idempotency-Key has 1 to 200 visible characters", hint="use a UUID")
    if in_body not in (None, header):
        raise InvalidRequest(
            "the header Idempotency-Key and the body's idempotency_key differ",
            field="/idempotency_key",
            hint="send one of them",
        )
    return header
