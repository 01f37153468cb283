"""One generation from body to answer: parse, run on the engines, record, assemble. Shared by all faces."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import msgspec
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request

from perfuse import logging, metrics
from perfuse.api.auth import Keyring, Principal, Scope
from perfuse.api.middleware import Exchange, exchange_of
from perfuse.api.problems import MalformedBody, invalid_fields
from perfuse.api.schemas import DiffuseText, Head, PlanOutcome, PlanTrajectory, Tail, TextOutcome, TimingMs
from perfuse.api.tracing import Tracing
from perfuse.api.waiting import Stopped, unless
from perfuse.dispatch.pool import Completed, Event, Pool
from perfuse.errors import NotFound, Overloaded, Unavailable
from perfuse.ids import Minter
from perfuse.queue.inbox import Inbox
from perfuse.queue.ledger import Generation, Kind, Ledger, LedgerUnavailable
from perfuse.requests import TextResult, TrajectoryResult, Uncertainty

_log = logging.get(__name__)
_encode = msgspec.json.Encoder().encode

LEDGER_SECONDS = 2.0
"""How long an answer waits for the ledger before it goes out with `recorded: false`."""

BodyT = TypeVar("BodyT", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """What the routes work with."""

    pool: Pool
    ledger: Ledger
    inbox: Inbox
    minter: Minter
    keyring: Keyring
    meter: metrics.Metrics
    tracing: Tracing | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A validated request and whom it is for."""

    kind: Kind
    body: DiffuseText | PlanTrajectory
    principal: Principal
    exchange: Exchange


@dataclass(slots=True, kw_only=True)
class Generated:
    """A finished generation. `outcome` is what clients see of the result, `encoded` the same as JSON."""

    id: str
    seed: int
    done: Completed
    outcome: TextOutcome | PlanOutcome
    encoded: bytes
    recorded: bool


def front_of(request: Request) -> Front:
    """The front an app was made with."""
    front: Front = request.app.state.front
    return front


def authorised(request: Request, scope: Scope) -> Principal:
    """Whom the request comes from. Raises Unauthenticated or Forbidden."""
    principal = front_of(request).keyring.principal(exchange_of(request.scope).header(b"authorization"))
    principal.require(scope)
    return principal


async def recorded(front: Front, generation_id: str, tenant: str) -> Generation:
    """The ledger's record of an id. Raises NotFound for one that was not minted for `tenant`, without a look-up."""
    found = await front.ledger.find(front.minter.check(generation_id, tenant), tenant)
    if found is None:
        raise NotFound("no such generation", hint="it was not recorded, or is older than --ledger-ttl-seconds")
    return found


def parse(raw: bytes, kind: type[BodyT]) -> BodyT:
    """The body as `kind`. Raises MalformedBody or InvalidFields."""
    try:
        return kind.model_validate_json(raw)
    except ValidationError as error:
        raise invalid_fields(error) from None


async def read(request: Request, kind: type[BodyT]) -> BodyT:
    """The body of a request as `kind`. Raises PayloadTooLarge, MalformedBody or InvalidFields."""
    return parse(await received(request), kind)


async def received(request: Request) -> bytes:
    """The body of a request, which is UTF-8. Raises PayloadTooLarge or MalformedBody."""
    raw = await _received(request)
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        raise MalformedBody(
            f"the body is not UTF-8: byte {error.start} is 0x{raw[error.start]:02x}",
            hint="send one JSON object in UTF-8",
        ) from None
    return raw


async def _received(request: Request) -> bytes:
    """The whole body. Like `request.body()` without its generator: nearly all bodies come in one message."""
    chunks: list[bytes] = []
    more = True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunks.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(chunks)


def wants_stream(request: Request, body: DiffuseText | PlanTrajectory) -> bool:
    """Whether the answer is to be server-sent events."""
    return body.stream or "text/event-stream" in (exchange_of(request.scope).header(b"accept") or "")


async def generate(front: Front, asked: Asked, on_event: Callable[[Event], None] | None = None) -> bytes:
    """The answer of /diffuse and /plan as JSON; see `generated`."""
    made = await generated(front, asked, front.minter.mint(asked.principal.tenant), on_event)
    head = Head(id=made.id, model=made.done.result.model)
    return joined(_encode(head), made.encoded, _encode(tail_of(made, asked)))


def tail_of(made: Generated, asked: Asked) -> Tail:
    """How the answer ends."""
    done = made.done
    timing = TimingMs(
        queue=_ms(done.queue_seconds), compute=_ms(done.compute_seconds), total=_ms(asked.exchange.seconds())
    )
    return Tail(seed=made.seed, snapshot=done.lsn, restarts=done.restarts, recorded=made.recorded, timing_ms=timing)


async def generated(
    front: Front, asked: Asked, identity: str, on_event: Callable[[Event], None] | None = None
) -> Generated:
    """What came of a request; recorded before it is returned.

    Args:
        front: what to work with.
        asked: the request.
        identity: a fresh id of the generation.
        on_event: told of admission, previews and restarts.

    Raises:
        PerfuseError: refused or failed.
    """
    body, seed = asked.body, asked.body.drawn_seed()
    record = body.record(seed)
    try:
        done = await front.pool.run(
            body.served_as,
            record,
            tenant=asked.principal.tenant,
            priority=body.priority,
            deadline_seconds=None if body.deadline_ms is None else body.deadline_ms / 1000,
            on_event=on_event,
        )
    except Overloaded:
        front.meter.shed("overloaded")
        raise
    except Unavailable:
        front.meter.shed("unavailable")
        raise
    front.meter.generated(asked.kind, done.queue_seconds, done.compute_seconds, done.restarts)
    if front.tracing is not None:
        front.tracing.computed(done.queue_seconds, done.compute_seconds)
    shown, adaptations = _outcome(done)
    if isinstance(shown, TextOutcome):
        for output in shown.outputs:
            front.meter.output(trust_of(output.uncertainty))
    encoded = _encode(shown)
    generation = Generation(
        id=front.minter.inside(identity),
        tenant=asked.principal.tenant,
        created=time.time(),
        kind=asked.kind,
        model=done.result.model,
        seed=seed,
        snapshot=done.lsn,
        request=msgspec.Raw(_encode(record)),
        result=msgspec.Raw(encoded),
        adaptations=adaptations,
    )
    recorded = await _record(front, generation)
    return Generated(id=identity, seed=seed, done=done, outcome=shown, encoded=encoded, recorded=recorded)


def trust_of(uncertainty: Uncertainty | None) -> metrics.Trust:
    """What an output counts as; a novel prompt before an unsure text."""
    if uncertainty is None:
        return "uncalibrated"
    if uncertainty.novel:
        return "novel"
    return "unsure" if uncertainty.should_evolve else "usual"


def _outcome(done: Completed) -> tuple[TextOutcome | PlanOutcome, tuple[str, ...]]:
    """What clients see, and the ids of the adaptations that took part."""
    if isinstance(done.result, TextResult):
        return TextOutcome.of(done.result), tuple(each.id for each in done.result.attribution)
    assert isinstance(done.result, TrajectoryResult)
    return PlanOutcome.of(done.result), ()


async def _record(front: Front, generation: Generation) -> bool:
    began = time.perf_counter()
    loop = asyncio.get_running_loop()
    try:
        await unless(front.ledger.record(generation), lambda stop: loop.call_later(LEDGER_SECONDS, stop).cancel)
    except (LedgerUnavailable, Stopped) as error:
        front.meter.recorded(None)
        _log.warning("generation_not_recorded", reason=str(error) or "the ledger did not answer in time")
        return False
    front.meter.recorded(time.perf_counter() - began)
    return True


def joined(*objects: bytes) -> bytes:
    """JSON objects as one, in order. Their keys differ and none is empty."""
    return b"{" + b",".join(part[1:-1] for part in objects) + b"}"


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
