"""Client of perfuse, the diffusion model server that learns from the agents that use it.

    async with AsyncClient("http://127.0.0.1:8000") as client:
        answer = await client.diffuse(prompt="Given numbers, return the largest.")

`Client` has the same operations without `await`. Errors are raised, as one tree: `perfuse_client.errors`. What answers
and nested fields are made of: `perfuse_client.models`. Names load what they need when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perfuse_client.client import AsyncClient, Client
    from perfuse_client.errors import (
        Conflict,
        DeadlineExceeded,
        Forbidden,
        InvalidRequest,
        NoAnswer,
        NotFound,
        Overloaded,
        PerfuseError,
        Refused,
        ServerError,
        StreamBroken,
        TimedOut,
        Unauthenticated,
        Unavailable,
        UnexpectedAnswer,
    )
    from perfuse_client.events import Accepted, Event, Preview, Restarted, Result, Step
    from perfuse_client.retries import Retries

__all__ = [
    "Accepted",
    "AsyncClient",
    "Client",
    "Conflict",
    "DeadlineExceeded",
    "Event",
    "Forbidden",
    "InvalidRequest",
    "NoAnswer",
    "NotFound",
    "Overloaded",
    "PerfuseError",
    "Preview",
    "Refused",
    "Restarted",
    "Result",
    "Retries",
    "ServerError",
    "Step",
    "StreamBroken",
    "TimedOut",
    "Unauthenticated",
    "Unavailable",
    "UnexpectedAnswer",
]

_ELSEWHERE = {
    "AsyncClient": "client",
    "Client": "client",
    "Retries": "retries",
    **dict.fromkeys(("Accepted", "Event", "Preview", "Restarted", "Result", "Step"), "events"),
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ELSEWHERE.get(name, 'errors')}"), name)
