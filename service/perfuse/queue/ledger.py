"""The ledger keeps what was generated, for a limited time, so that feedback can refer to it.

Both backends give the same promises (tested by one suite): a record outlives this process when `record` returns, can
be read back by its tenant only, and is gone after its time to live. Many concurrent records share one commit.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from perfuse.errors import Unavailable

Kind = Literal["diffuse", "plan"]

SQLITE_FILE = "ledger.sqlite"
"""Its name in the data directory."""
MAX_WAITING = 10_000
"""Records that may wait for a commit before further ones are refused."""


class LedgerUnavailable(Unavailable):
    """The ledger cannot be read or written now; generating goes on."""

    code = "ledger_unavailable"


class Generation(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked, what came out, and of what.

    Attributes:
        id: the uuid inside the generation id.
        created: Unix seconds.
        request: the validated request as JSON.
        result: what was returned (outputs, or trajectory and verdict) as JSON.
        snapshot: the store's sequence number that the request saw.
        adaptations: ids of those that took part in the answer.
    """

    id: str
    tenant: str
    created: float
    kind: Kind
    model: str
    seed: int
    snapshot: int
    request: msgspec.Raw
    result: msgspec.Raw
    adaptations: tuple[str, ...] = ()


class Ledger(Protocol):
    """A backend. Opened before use and closed after; used from one event loop."""

    @property
    def durability(self) -> str:
        """What a record survives once `record` has returned, in words."""
        ...

    async def open(self) -> None:
        """Connect, or raise ConfigError if the backend cannot keep the promises."""
        ...

    async def record(self, generation: Generation) -> None:
        """Keep it. Raises LedgerUnavailable."""
        ...

    async def find(self, identity: str, tenant: str) -> Generation | None:
        """The record of that uuid if it is `tenant`'s and still kept. Raises LedgerUnavailable."""
        ...

    async def forget(self, adaptations: Collection[str]) -> int:
        """Remove every tenant's records of answers in which one of these had a part, and their bytes from the disk.

        Takes as long as reading the whole ledger. Gives how many were removed. Raises LedgerUnavailable.
        """
        ...

    async def close(self) -> None:
        """Finish what waits and let go. May be called twice."""
        ...


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Generation)


def encode(generation: Generation) -> bytes:
    """The record as stored."""
    return _encoder.encode(generation)


def decode(data: bytes) -> Generation:
    """A stored record. Raises msgspec.ValidationError."""
    return _decoder.decode(data)


def connect(queue: str, data_dir: Path, ttl_seconds: float) -> Ledger:
    """The ledger named by the setting `queue`, not yet opened.

    Args:
        queue: "sqlite" or a redis:// address.
        data_dir: where SQLite keeps its file.
        ttl_seconds: how long records are kept.
    """
    if queue == "sqlite":
        from perfuse.queue.sqlite import SqliteLedger

        return SqliteLedger(data_dir / SQLITE_FILE, ttl_seconds=ttl_seconds)
    from perfuse.queue.redis import RedisLedger

    return RedisLedger(queue, ttl_seconds=ttl_seconds)
