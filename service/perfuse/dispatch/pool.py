"""What is needed of the engines, and the events of a running request. `EnginePool` of `engines.py` is one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from perfuse.requests import Preview, Request, Result
from perfuse.wire import Modality, ModelInfo


@dataclass(frozen=True, slots=True)
class AcceptedEvent:
    """An engine has admitted the request; with it `backlog` seconds of work are to be done."""

    backlog: float
    lsn: int


@dataclass(frozen=True, slots=True)
class PreviewEvent:
    """What can be shown of the running request."""

    preview: Preview


@dataclass(frozen=True, slots=True)
class RestartedEvent:
    """The engine died; the request starts again for the `restarts`-th time."""

    restarts: int


Event = AcceptedEvent | PreviewEvent | RestartedEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """A finished request: its result, where the time went, the store snapshot it saw, how often it was restarted."""

    result: Result
    queue_seconds: float
    compute_seconds: float
    lsn: int
    restarts: int = 0


class Pool(Protocol):
    """The engines behind this front."""

    @property
    def ready(self) -> bool:
        """Whether an engine has answered its warm-up request."""
        ...

    @property
    def models(self) -> Sequence[ModelInfo]:
        """The models that can be asked for now."""
        ...

    def counters(self) -> Mapping[str, float]:
        """Counters and gauges of all engines by metric name, summed."""
        ...

    async def admit(self) -> None:
        """Let a new request in; asked before its body is read. Raises Overloaded."""
        ...

    async def run(
        self,
        modality: Modality,
        request: Request,
        *,
        tenant: str = "",
        priority: int = 0,
        deadline_seconds: float | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> Completed:
        """Compute a request. Cancelling the awaiting task cancels it in the engine.

        Raises:
            PerfuseError: refused or failed.
        """
        ...
