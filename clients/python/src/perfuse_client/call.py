"""One operation to be carried out: what is sent, and how its answer is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, Optional, TypeVar
from urllib.parse import quote
from uuid import uuid4

from pydantic_core import to_json

AnswerT = TypeVar("AnswerT")


@dataclass(frozen=True)
class Call(Generic[AnswerT]):
    """One operation. It is the same call when it is sent again, with the same id and idempotency key.

    Attributes:
        method: of HTTP.
        path: below the server's URL.
        read: makes the answer out of the body's bytes; raises ValueError.
        query: parameters; None is left out.
        body: fields; None is left out, which leaves it to the server. No body at all: None.
        timeout: seconds of silence; None: the client's.
        request_id: by which the server's log knows it.
    """

    method: str
    path: str
    read: Callable[[bytes], AnswerT]
    query: Mapping[str, object] = field(default_factory=dict)
    body: Optional[Mapping[str, object]] = None
    timeout: Optional[float] = None
    request_id: str = field(default_factory=lambda: uuid4().hex)

    def parameters(self) -> dict[str, str]:
        """The query."""
        return {name: str(value) for name, value in self.query.items() if value is not None}

    def content(self) -> Optional[bytes]:
        """The body as JSON."""
        if self.body is None:
            return None
        said = {name: value for name, value in self.body.items() if value is not None}
        return to_json(said, by_alias=True, exclude_none=True)


def segment(value: str) -> str:
    """A value as one segment of a path; dots too, as `..` would lead elsewhere."""
    return quote(value, safe="").replace(".", "%2E")


def fresh_key() -> str:
    """An idempotency key: whatever is sent again under it is done once."""
    return uuid4().hex
