"""The application around a scripted pool of engines and a ledger in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx2
import pytest

from perfuse.api.app import create_app
from perfuse.api.auth import KeyEntry, Keyring
from perfuse.api.tracing import Tracing
from perfuse.dispatch.evolution import Worker
from perfuse.dispatch.pool import AcceptedEvent, Completed, Event, PreviewEvent
from perfuse.errors import Overloaded, PerfuseError
from perfuse.queue.inbox_sqlite import SqliteInbox
from perfuse.queue.ledger import Generation, LedgerUnavailable
from perfuse.requests import (
    Attribution,
    Candidates,
    Preview,
    Request,
    Result,
    TextOutput,
    TextRequest,
    TextResult,
    Trajectory,
    TrajectoryRequest,
    TrajectoryResult,
    Uncertainty,
    Verification,
)
from perfuse.wire import Modality, ModelInfo

SECRET = bytes(range(32))
LIMIT = 1_000_000


@dataclass
class Asked:
    modality: Modality
    request: Request
    priority: int
    deadline_seconds: float | None
    tenant: str = ""


@dataclass
class ScriptedPool:
    """Answers at once, or after `gate` is set, or raises `error`."""

    ready: bool = True
    error: BaseException | None = None
    refused: Overloaded | None = None
    gate: asyncio.Event | None = None
    previews: int = 0
    restarts: int = 0
    asked: list[Asked] = field(default_factory=list)
    attribution: tuple[Attribution, ...] = ()
    uncertainty: Uncertainty | None = None
    cancelled: int = 0
    more_events: list[Event] = field(default_factory=list)
    models: list[ModelInfo] = field(
        default_factory=lambda: [ModelInfo(name="m@1", modality="text", parameters=7, dtype="float32", limit=256)]
    )

    def counters(self) -> Mapping[str, float]:
        return {"rows": 3.0, "backlog_seconds": 0.5, "engines_ready": 1.0, "Not a name": 1.0}

    async def admit(self) -> None:
        if self.refused is not None:
            raise self.refused

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
        self.asked.append(Asked(modality, request, priority, deadline_seconds, tenant))
        if isinstance(self.error, PerfuseError):
            raise self.error
        tell = on_event or (lambda _: None)
        tell(AcceptedEvent(0.25, 8))
        try:
            for step in range(self.previews):
                body = {"canvas": f"step {step + 1}"} if step else {}
                tell(PreviewEvent(Preview(step=step + 1, of=self.previews, body=body)))
                await asyncio.sleep(0)
            for event in self.more_events:
                tell(event)
                await asyncio.sleep(0)
            if self.gate is not None:
                await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        result = result_of(request)
        if isinstance(result, TextResult):
            outputs = result.outputs
            if self.uncertainty is not None:
                outputs = tuple(replace(one, p_correct=0.25, uncertainty=self.uncertainty) for one in outputs)
            result = replace(result, attribution=self.attribution, outputs=outputs)
        return Completed(result=result, queue_seconds=0.0004, compute_seconds=0.021, lsn=8, restarts=self.restarts)


def result_of(request: Request) -> Result:
    if isinstance(request, TextRequest):
        text = f"{request.prefix}FILL{request.suffix}"
        output = TextOutput(
            text=text,
            fill="FILL",
            finish_reason="complete",
            confidence=0.75,
            steps_done=5,
            forwards=5,
            token_ids=(1,),
            tokens=2,
        )
        return TextResult(model="m@1", outputs=(output,) * request.n, given_tokens=3)
    assert isinstance(request, TrajectoryRequest)
    return TrajectoryResult(
        model="planner@1",
        status="verified",
        trajectory=Trajectory(dt=0.01, states=((0.0, 0.0, 0.0, 0.0), (0.5, 0.5, 1.0, 1.0))),
        verification=Verification(collision_free=True, arrival_step=1),
        candidates=Candidates(sampled=request.candidates, valid=15),
        confidence=0.9375,
        steps_done=8,
    )


@dataclass
class MemoryLedger:
    down: bool = False
    slow: bool = False
    durability: str = "in memory"
    kept: dict[tuple[str, str], Generation] = field(default_factory=dict)

    async def open(self) -> None: ...

    async def record(self, generation: Generation) -> None:
        if self.slow:
            await asyncio.sleep(60)
        if self.down:
            raise LedgerUnavailable("the ledger is down", retry_after=1.0)
        self.kept[generation.id, generation.tenant] = generation

    async def find(self, identity: str, tenant: str) -> Generation | None:
        if self.down:
            raise LedgerUnavailable("the ledger is down", retry_after=1.0)
        return self.kept.get((identity, tenant))

    async def close(self) -> None: ...


KEYS = (
    KeyEntry(key="generate-key-of-a", tenant="a", scopes=frozenset(("generate",))),
    KeyEntry(key="feedback-key-of-a", tenant="a", scopes=frozenset(("feedback",))),
    KeyEntry(key="feedback-key-of-b", tenant="b", scopes=frozenset(("feedback",))),
    KeyEntry(key="generate-key-of-b", tenant="b", scopes=frozenset(("generate", "admin"))),
)

Serve = Callable[..., AbstractAsyncContextManager[httpx2.AsyncClient]]


@pytest.fixture
def pool() -> ScriptedPool:
    return ScriptedPool()


@pytest.fixture
def ledger() -> MemoryLedger:
    return MemoryLedger()


@pytest.fixture
def inbox(tmp_path: Path) -> SqliteInbox:
    """Not open; tests of feedback open it."""
    return SqliteInbox(tmp_path / "inbox.sqlite3", key_seconds=60)


@pytest.fixture
def serve(pool: ScriptedPool, ledger: MemoryLedger, inbox: SqliteInbox) -> Serve:
    @asynccontextmanager
    async def serving(
        *,
        keys: bool = False,
        base_url: str = "http://127.0.0.1:8000",
        evolution: Worker | None = None,
        console: bool = True,
        tracing: Tracing | None = None,
    ) -> AsyncIterator[httpx2.AsyncClient]:
        app = create_app(
            pool=pool,
            ledger=ledger,
            inbox=inbox,
            secret=SECRET,
            keyring=Keyring(KEYS if keys else ()),
            max_body_bytes=LIMIT,
            evolution=evolution,
            console=console,
            tracing=tracing,
        )
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url=base_url) as client:
            client.app = app
            yield client

    return serving


@pytest.fixture
async def client(serve: Serve) -> AsyncIterator[httpx2.AsyncClient]:
    async with serve() as client:
        yield client
