"""The inbox keeps feedback until the evolution worker has taken it in: at least once, in order, never lost.

    put ──▶ waiting ──lease──▶ leased ──ack──▶ gone
               ▲                 │ expired
               └─────────────────┤
               ▲                 │ three attempts begun and none ended, or `dead`
               └────retry──── dead ──drop──▶ gone

Both backends give the same promises (tested by one suite). An item that was put survives what `durability` says. A
worker leases items, calls `begin` on each just before working on it, makes its effect idempotent (the item's id is the
key of the row it writes) and then calls `ack`. A lease that has expired or was taken over is refused from then on:
`token` is its fence. Attempts are counted by `begin`, so of a batch that a worker died with only the item it was
working on is blamed; after `MOST_ATTEMPTS` it is put aside alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Protocol

from perfuse.errors import InvalidRequest, NotFound, Overloaded, PerfuseError, Unavailable
from perfuse.ids import uuid7

MOST_ATTEMPTS = 3
"""Attempts begun without an end after which an item is put aside."""
MOST_ITEMS = 100_000
MOST_BYTES = 1 << 30
"""What an inbox holds in all, dead items included, unless told otherwise."""
SQLITE_FILE = "inbox.sqlite3"
"""Its name in the data directory."""
MAX_WAITING = 10_000
"""Puts that may wait for a commit before further ones are refused."""
WORN_OUT = f"{MOST_ATTEMPTS} attempts were begun and none ended"
FULL_RETRY_SECONDS = 30.0
PAUSE_SECONDS = 1.0


class InboxUnavailable(Unavailable):
    """Feedback cannot be kept now, so it is not accepted."""

    code = "inbox_unavailable"


class InboxFull(Overloaded):
    """Feedback comes faster than it is learned from; nothing accepted was dropped."""

    code = "inbox_full"


class IdempotencyKeyReused(InvalidRequest):
    """The idempotency key was used before for another body."""

    code = "idempotency_key_reused"


class LeaseLost(PerfuseError):
    """The lease has expired or its item was taken over; what was done under it must not count."""

    code = "lease_lost"
    status = 409


@dataclass(frozen=True, slots=True)
class Lease:
    """An item that is this worker's until its time is up.

    Attributes:
        id: of the item; the key under which its effect is recorded.
        item: the bytes that were put.
        attempts: how many were begun before.
        token: the fence; grows with every lease of the item.
        place: where the backend finds the item.
    """

    id: str
    item: bytes
    attempts: int
    token: int
    place: str


@dataclass(frozen=True, slots=True)
class DeadItem:
    """An item that was put aside.

    Attributes:
        died: Unix seconds.
        size: bytes of the item.
    """

    id: str
    attempts: int
    reason: str
    died: float
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """How many items there are in each state, their bytes, and for how many seconds the oldest has been alive."""

    waiting: int
    leased: int
    dead: int
    bytes: int
    oldest_seconds: float | None


@dataclass(frozen=True, slots=True)
class Put:
    """An item on its way into the inbox.

    Attributes:
        key: idempotency key, None if there is none.
        body: what a second put under the same key must equal; the item unless given.
    """

    item: bytes
    key: str | None = None
    body: bytes | None = None
    id: str = field(default_factory=lambda: f"fb_{uuid7()}")

    @property
    def digest(self) -> str:
        """Hash of what must be equal."""
        return blake2b(self.item if self.body is None else self.body, digest_size=16).hexdigest()


class Inbox(Protocol):
    """A backend. Opened before use and closed after; used from one event loop. All methods raise InboxUnavailable."""

    @property
    def durability(self) -> str:
        """What an item survives once `put` has returned, in words."""
        ...

    async def open(self) -> None:
        """Connect, or raise ConfigError if the backend cannot keep the promises."""
        ...

    async def put(self, put: Put) -> str:
        """Keep an item; gives its id, that of the first put if the key is known.

        Raises:
            InboxFull: there is no room.
            IdempotencyKeyReused: the key is known with another body.
        """
        ...

    async def lease(self, count: int, seconds: float) -> list[Lease]:
        """Up to `count` items, the oldest first, for so many seconds; worn-out ones are put aside instead."""
        ...

    async def begin(self, lease: Lease) -> int:
        """Count an attempt, before anything is done with the item; gives its number, from 1. Raises LeaseLost."""
        ...

    async def extend(self, lease: Lease, seconds: float) -> None:
        """Hold the item for so many seconds from now; 0 gives it back. Raises LeaseLost."""
        ...

    async def ack(self, lease: Lease) -> None:
        """The effect is recorded: forget the item. Raises LeaseLost."""
        ...

    async def dead(self, lease: Lease, reason: str) -> None:
        """Put the item aside. Raises LeaseLost."""
        ...

    async def dead_items(self) -> list[DeadItem]:
        """What was put aside, the oldest item first."""
        ...

    async def retry(self, identity: str) -> None:
        """Let a dead item be leased again, with no attempt counted. Raises NotFound."""
        ...

    async def drop(self, identity: str) -> None:
        """Forget a dead item. Raises NotFound."""
        ...

    async def stats(self) -> Stats:
        """Counts."""
        ...

    async def scrub(self) -> None:
        """Leave no byte of forgotten items on the disk."""
        ...

    async def close(self) -> None:
        """Finish what waits and let go. May be called twice."""
        ...


def connect(queue: str, data_dir: Path, *, key_seconds: float = 7 * 86400.0, most_items: int = MOST_ITEMS) -> Inbox:
    """The inbox named by the setting `queue`, not yet opened.

    Args:
        queue: "sqlite" or a redis:// address.
        data_dir: where SQLite keeps its file.
        key_seconds: how long idempotency keys are remembered.
        most_items: items beyond which further ones are refused.
    """
    if queue == "sqlite":
        from perfuse.queue.inbox_sqlite import SqliteInbox

        return SqliteInbox(data_dir / SQLITE_FILE, key_seconds=key_seconds, most_items=most_items)
    from perfuse.queue.inbox_redis import RedisInbox

    return RedisInbox(queue, key_seconds=key_seconds, most_items=most_items)


def full(most_items: int, most_bytes: int) -> InboxFull:
    """The refusal of a full inbox."""
    return InboxFull(
        f"the inbox is full: it holds at most {most_items} items and {most_bytes} bytes",
        hint="try again later; `perfuse queue stats` says what it holds",
        retry_after=FULL_RETRY_SECONDS,
    )


def reused() -> IdempotencyKeyReused:
    """The refusal of a known key with another body."""
    return IdempotencyKeyReused(
        "this idempotency key was used before with another body",
        field="/idempotency_key",
        hint="send the first body again, or use a fresh key",
    )


def lost(lease: Lease) -> LeaseLost:
    """The refusal of a lease that no longer holds."""
    return LeaseLost(f"the lease of {lease.id} has expired", hint="leave the item to whoever leases it next")


def not_dead(identity: str) -> NotFound:
    """There is no such dead item."""
    return NotFound(f"no dead item has the id {identity}", hint="`perfuse queue dead ls` lists them")
