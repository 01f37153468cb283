"""What front and command line ask of the evolution worker: orders and answers as frames of `perfuse.wire`.

The worker speaks first, with `Ready`: its socket belongs to the supervisor and takes connections also while no worker
is there. Orders may follow each other without waiting; each is answered once, with `Done` or a `Problem` of its `id`.
"""

from __future__ import annotations

import msgspec

from perfuse import wire

Body = dict[str, object]
"""An answer: JSON values by name."""


class Ready(wire.Message, frozen=True):
    """Worker → asker, first on every connection: a worker is there."""


class Done(wire.Message, frozen=True):
    """Worker → asker: the order is carried out."""

    id: int
    body: Body


class Order(wire.Message, frozen=True, kw_only=True):
    """Base of all orders: each sees and changes what belongs to `tenant` alone.

    Attributes:
        id: of this order on its connection; given by whoever sends it.
    """

    id: int = 0
    tenant: str


class Status(Order, frozen=True, kw_only=True):
    """Counts of feedback, clusters with what serves them, and jobs."""


class Totals(Order, frozen=True, kw_only=True):
    """Counts of every stage, over all tenants: no id and no text among them."""


class ListAdaptations(Order, frozen=True, kw_only=True):
    """All adaptations in brief, the latest first."""


class ShowAdaptation(Order, frozen=True, kw_only=True):
    """One adaptation: where it comes from, what the gate measured, what became of it."""

    adaptation: str


class Promote(Order, frozen=True, kw_only=True):
    """Make a candidate or canary the champion; `force` also without a gate's report, or against it."""

    adaptation: str
    force: bool = False


class RollBack(Order, frozen=True, kw_only=True):
    """Take a champion or canary out of service: the one named, or the champion of `cluster`, or the only champion."""

    adaptation: str | None = None
    cluster: str | None = None


class Revoke(Order, frozen=True, kw_only=True):
    """Take back all that `source` has given, and what was learned from it."""

    source: str


class Rebuild(Order, frozen=True, kw_only=True):
    """Train `cluster`, or all clusters, anew on the feedback that counts."""

    cluster: str | None = None


class Purge(Order, frozen=True, kw_only=True):
    """Remove the bytes of adaptations that will not serve again, and what revoked ones answered, of all tenants."""


class PutMemory(Order, frozen=True, kw_only=True):
    """Keep a text under the prompt by which it is found again.

    Attributes:
        key: a second put under the same key is the first one.
        memory: id of the memory to replace; None makes a new one.
    """

    prompt: str
    text: str
    source: str
    key: str | None = None
    memory: str | None = None


class GetMemory(Order, frozen=True, kw_only=True):
    """One memory."""

    memory: str


class DeleteMemory(Order, frozen=True, kw_only=True):
    """Forget a memory."""

    memory: str


class ListMemories(Order, frozen=True, kw_only=True):
    """At most `limit` memories whose ids come behind `after`, by id."""

    limit: int
    after: str = ""


AnyOrder = (
    Status
    | Totals
    | ListAdaptations
    | ShowAdaptation
    | Promote
    | RollBack
    | Revoke
    | Rebuild
    | Purge
    | PutMemory
    | GetMemory
    | DeleteMemory
    | ListMemories
)
Answer = Ready | Done | wire.Problem

_orders: msgspec.msgpack.Decoder[AnyOrder] = msgspec.msgpack.Decoder(AnyOrder)
_answers: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


def decode_order(body: bytes) -> AnyOrder:
    """An order. Raises msgspec.ValidationError on anything else."""
    return _orders.decode(body)


def decode_answer(body: bytes) -> Answer:
    """What a worker says. Raises msgspec.ValidationError on anything else."""
    return _answers.decode(body)
