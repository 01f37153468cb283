"""The ledger in Redis: one key per record with an expiry, many records in one pipeline.

A server without an append-only file is refused: it would forget acknowledged records. From Redis 7.2 on `WAITAOF`
confirms that the records are on the server's disk; older servers sync as `appendfsync` says.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from math import ceil
from typing import cast

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from perfuse.errors import ConfigError
from perfuse.queue.ledger import MAX_WAITING, Generation, LedgerUnavailable, decode, encode

_TIMEOUT_SECONDS = 1.0
_PAUSE_SECONDS = 1.0
_WAITAOF_SINCE = (7, 2)
_GROUP = 512
LOST = (RedisError, OSError, RuntimeError)
"""What the client raises when the server is gone: RuntimeError is uvloop's word for a write to a closed connection."""


@dataclass(slots=True, eq=False)
class _Waiting:
    key: str
    record: bytes
    done: asyncio.Future[None]


@dataclass(frozen=True, slots=True)
class Persistence:
    """How a server keeps what it acknowledges: `confirmed` if `WAITAOF` says when it is on disk."""

    version: str
    confirmed: bool

    @property
    def durability(self) -> str:
        """In words."""
        if self.confirmed:
            return f"Redis {self.version}, synced to disk: survives power loss"
        return f"Redis {self.version}, append-only file: power loss costs what `appendfsync` allows (1 s by default)"


def client_of(address: str, connect_seconds: float, retries: int) -> Redis:
    """A client without `socket_timeout`; bound what is asked of it by `within`.

    With one, it sends each command through `asyncio.wait_for`, which before Python 3.12 loses the cancellation of its
    task when the command was just sent (python/cpython#86296), which then goes on for ever.
    """
    client: Redis = Redis.from_url(
        address, socket_connect_timeout=connect_seconds, socket_timeout=None, retry=Retry(NoBackoff(), retries)
    )
    return client


@contextlib.asynccontextmanager
async def within(seconds: float) -> AsyncIterator[None]:
    """Raises RedisError when what is asked inside takes longer."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise RedisError(f"no answer within {seconds:g} s") from None


async def persistence_of(client: Redis) -> Persistence:
    """What a server says of itself.

    Raises:
        ConfigError: it has no append-only file and would forget what it acknowledged.
        RedisError, OSError: it does not answer.
    """
    server = await client.info("server")
    persistence = await client.info("persistence")
    if not int(persistence["aof_enabled"]):
        raise ConfigError(
            "this Redis keeps no append-only file and would lose acknowledged records when it stops",
            hint="start it with `--appendonly yes`, or use --queue sqlite",
        )
    version = str(server["redis_version"])
    return Persistence(version, tuple(int(part) for part in version.split(".")[:2]) >= _WAITAOF_SINCE)


async def rewrite_log(client: Redis) -> None:
    """Have the server write its append-only file anew, in its own time. Raises what is in LOST."""
    with contextlib.suppress(ResponseError):  # it is being written already
        await client.bgrewriteaof()


class RedisLedger:
    """See `perfuse.queue.ledger.Ledger`.

    Args:
        address: redis://host:port/db, rediss:// or unix://.
        ttl_seconds: how long records are kept.
        prefix: first part of every key, with the hash tag that keeps all keys in one slot of a cluster.
    """

    def __init__(self, address: str, *, ttl_seconds: float, prefix: str = "{perfuse}:generation:") -> None:
        self._client = client_of(address, _TIMEOUT_SECONDS, retries=1)
        self._ttl = max(1, ceil(ttl_seconds))
        self._prefix = prefix
        self._waiting: list[_Waiting] = []
        self._flusher: asyncio.Task[None] | None = None
        self._open = False
        self._down_until = 0.0
        self._waits_for_disk = False
        self.durability = "not connected"

    async def open(self) -> None:
        """Connect and check that the server keeps what it acknowledges.

        Raises:
            ConfigError: the server has no append-only file.
            LedgerUnavailable: the server cannot be reached.
        """
        try:
            async with within(_TIMEOUT_SECONDS):
                persistence = await persistence_of(self._client)
        except LOST as error:
            raise LedgerUnavailable(f"Redis cannot be reached: {error}", retry_after=_PAUSE_SECONDS) from None
        self._waits_for_disk = persistence.confirmed
        self.durability = persistence.durability
        self._open = True

    async def record(self, generation: Generation) -> None:
        """Keep it; acknowledged by the server, from 7.2 on by its disk, on return."""
        if time.monotonic() < self._down_until or len(self._waiting) >= MAX_WAITING:
            raise LedgerUnavailable("Redis does not answer or has too many records waiting", retry_after=_PAUSE_SECONDS)
        if not self._open:
            await self._reopen()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(self._key(generation.tenant, generation.id), encode(generation), done))
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.create_task(self._flush())
        await done

    async def _reopen(self) -> None:
        try:
            await self.open()
        except (ConfigError, LedgerUnavailable) as error:
            self._down_until = time.monotonic() + _PAUSE_SECONDS
            raise LedgerUnavailable(error.detail, hint=error.hint, retry_after=_PAUSE_SECONDS) from None

    def _key(self, tenant: str, identity: str) -> str:
        return f"{self._prefix}{tenant}:{identity}"

    async def _flush(self) -> None:
        """Send what waits, group by group, until nothing waits."""
        while self._waiting:
            group, self._waiting = self._waiting[:_GROUP], self._waiting[_GROUP:]
            try:
                await self._send(group)
            except LOST as error:
                self._down_until = time.monotonic() + _PAUSE_SECONDS
                _settle(group, f"Redis did not take the record: {error}")
            else:
                _settle(group, None)

    async def _send(self, group: Sequence[_Waiting]) -> None:
        async with within(_TIMEOUT_SECONDS), self._client.pipeline(transaction=False) as pipe:
            for waiting in group:
                pipe.set(waiting.key, waiting.record, ex=self._ttl)
            if self._waits_for_disk:
                pipe.execute_command("WAITAOF", 1, 0, int(_TIMEOUT_SECONDS * 500))
            answers = await pipe.execute()
        if self._waits_for_disk and not int(answers[-1][0]):
            raise RedisError("the append-only file was not synced in time")

    async def find(self, identity: str, tenant: str) -> Generation | None:
        """The record if it is `tenant`'s and still kept."""
        try:
            async with within(_TIMEOUT_SECONDS):
                data = await self._client.get(self._key(tenant, identity))
        except LOST as error:
            raise LedgerUnavailable(f"Redis cannot be read: {error}", retry_after=_PAUSE_SECONDS) from None
        return None if data is None else decode(cast("bytes", data))

    async def forget(self, adaptations: Collection[str]) -> int:
        """Remove the records of what these adaptations answered; the append-only file is written anew without them."""
        if not self._open:
            raise LedgerUnavailable("the ledger is closed")
        unfit = frozenset(adaptations)
        theirs: list[bytes] = []
        try:
            async for keys in self._pages():
                async with within(_TIMEOUT_SECONDS):
                    records = await self._client.mget(keys)
                for key, record in zip(keys, cast("list[bytes | None]", records), strict=True):
                    if record is not None and not unfit.isdisjoint(decode(record).adaptations):
                        theirs.append(key)
            for start in range(0, len(theirs), _GROUP):
                async with within(_TIMEOUT_SECONDS):
                    await self._client.delete(*theirs[start : start + _GROUP])
            if theirs:
                async with within(_TIMEOUT_SECONDS):
                    await rewrite_log(self._client)
        except LOST as error:
            raise LedgerUnavailable(f"Redis cannot forget: {error}", retry_after=_PAUSE_SECONDS) from None
        return len(theirs)

    async def _pages(self) -> AsyncIterator[list[bytes]]:
        """The keys of all records, some at a time."""
        cursor = 0
        while True:
            async with within(_TIMEOUT_SECONDS):
                cursor, keys = await self._client.scan(cursor, match=f"{self._prefix}*", count=_GROUP)
            if keys:
                yield cast("list[bytes]", keys)
            if cursor == 0:
                return

    async def close(self) -> None:
        """Finish what waits and close the connections."""
        if self._flusher is not None:
            await self._flusher
        self._open = False
        await self._client.aclose()


def _settle(group: Sequence[_Waiting], reason: str | None) -> None:
    for waiting in group:
        if waiting.done.done():  # the request was cancelled meanwhile
            continue
        if reason is None:
            waiting.done.set_result(None)
        else:
            waiting.done.set_exception(LedgerUnavailable(reason, retry_after=_PAUSE_SECONDS))
