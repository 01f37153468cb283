"""The inbox in Redis: a stream and a consumer group, every change one Lua script, so that it happens as a whole.

A lease is an entry's place in the group's pending list. An entry is free again when it has been idle for `_HORIZON`
milliseconds, and a lease of t seconds sets its idle time to the horizon less t; `XAUTOCLAIM` therefore finds what has
expired, whatever the terms were. It is asked for one at a time. The delivery count is the fence. It and the idle times
are in the append-only file, as are the attempts (a hash) and the dead (two hashes: items, and why).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Sequence
from math import ceil
from typing import cast

from redis.exceptions import RedisError, ResponseError

from perfuse.errors import ConfigError
from perfuse.queue.inbox import (
    MOST_ATTEMPTS,
    MOST_BYTES,
    MOST_ITEMS,
    PAUSE_SECONDS,
    WORN_OUT,
    DeadItem,
    InboxUnavailable,
    Lease,
    Put,
    Stats,
    full,
    lost,
    not_dead,
    reused,
)
from perfuse.queue.inbox_group import GroupCommit, Outcome
from perfuse.queue.redis import LOST, client_of, persistence_of, rewrite_log, within

_TIMEOUT_SECONDS = 5.0
_AOF_MILLISECONDS = 3000
"""`appendfsync everysec` writes and syncs within a second or two."""
_LOOK_SECONDS = 0.005
_GROUP = "workers"
_CONSUMER = "worker"
_HORIZON = 30 * 86_400_000
_PURPOSES = ("stream", "bytes", "attempts", "dead", "why")

_HELD = """
local stream, bytes, attempts, dead, why = unpack(KEYS)
local group, consumer, horizon = ARGV[1], ARGV[2], tonumber(ARGV[3])
local function pending(entry)
    return redis.call('XPENDING', stream, group, entry, entry, 1)[1]
end
local function held(entry, token)
    local found = pending(entry)
    return found and found[4] == tonumber(token) and found[3] < horizon
end
local function until_after(entry, milliseconds)
    redis.call('XCLAIM', stream, group, consumer, 0, entry, 'IDLE', horizon - milliseconds, 'JUSTID')
end
local function remove(entry, id)
    redis.call('XACK', stream, group, entry)
    redis.call('XDEL', stream, entry)
    redis.call('HDEL', attempts, id)
end
local function bury(entry, id, item, reason)
    local tried = tonumber(redis.call('HGET', attempts, id) or '0')
    remove(entry, id)
    redis.call('HSET', dead, id, item)
    local now = redis.call('TIME')
    local record = {attempts = tried, reason = reason, died = tonumber(now[1]), size = #item}
    redis.call('HSET', why, id, cjson.encode(record))
end
local function item_of(entry)
    local fields = redis.call('XRANGE', stream, entry, entry)[1][2]
    return fields[2], fields[4]
end
"""
_PUT = """
local stream, bytes, _, dead, _, key = unpack(KEYS)
local id, item, digest, seconds, most_items, most_bytes = unpack(ARGV)
if key then
    local known = redis.call('GET', key)
    if known then
        redis.call('EXPIRE', key, seconds)
        return known
    end
end
local held = redis.call('XLEN', stream) + redis.call('HLEN', dead)
local size = tonumber(redis.call('GET', bytes) or '0')
if held >= tonumber(most_items) or size + #item > tonumber(most_bytes) then return '' end
redis.call('XADD', stream, '*', 'id', id, 'item', item)
redis.call('INCRBY', bytes, #item)
if key then redis.call('SET', key, digest .. id, 'EX', seconds) end
return digest .. id
"""
_LEASE = (
    _HELD
    + """
local count, milliseconds, most, reason = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7]
local leased = {}
local function hand_out(entry, fields)
    until_after(entry, milliseconds)
    local tried = tonumber(redis.call('HGET', attempts, fields[2]) or '0')
    leased[#leased + 1] = {fields[2], fields[4], tried, pending(entry)[4], entry}
end
local cursor = '0-0'
repeat
    local found = redis.call('XAUTOCLAIM', stream, group, consumer, horizon, cursor, 'COUNT', 1)
    cursor = found[1]
    for _, entry in ipairs(found[2]) do
        local fields = entry[2]
        if tonumber(redis.call('HGET', attempts, fields[2]) or '0') >= most then
            bury(entry[1], fields[2], fields[4], reason)
        else
            hand_out(entry[1], fields)
        end
    end
until cursor == '0-0' or #leased >= count
if #leased < count then
    local fresh = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', count - #leased, 'STREAMS', stream, '>')
    if fresh then
        for _, entry in ipairs(fresh[1][2]) do hand_out(entry[1], entry[2]) end
    end
end
return leased
"""
)
_IF_HELD = _HELD + "local entry, token, id = ARGV[4], ARGV[5], ARGV[6]\nif not held(entry, token) then return -1 end\n"
_BEGIN = _IF_HELD + "return redis.call('HINCRBY', attempts, id, 1)"
_EXTEND = _IF_HELD + "until_after(entry, tonumber(ARGV[7])) return 0"
_ACK = (
    _IF_HELD
    + """
local _, item = item_of(entry)
redis.call('DECRBY', bytes, #item)
remove(entry, id)
return 0
"""
)
_BURY = (
    _IF_HELD
    + """
local _, item = item_of(entry)
bury(entry, id, item, ARGV[7])
return 0
"""
)
_RETRY = """
local stream, _, _, dead, why = unpack(KEYS)
local item = redis.call('HGET', dead, ARGV[1])
if not item then return 0 end
redis.call('XADD', stream, '*', 'id', ARGV[1], 'item', item)
redis.call('HDEL', why, ARGV[1])
return redis.call('HDEL', dead, ARGV[1])
"""
_DROP = """
local _, bytes, _, dead, why = unpack(KEYS)
local item = redis.call('HGET', dead, ARGV[1])
if not item then return 0 end
redis.call('DECRBY', bytes, #item)
redis.call('HDEL', why, ARGV[1])
return redis.call('HDEL', dead, ARGV[1])
"""
_STATS = """
local stream, bytes, _, dead = unpack(KEYS)
local pending = redis.call('XPENDING', stream, ARGV[1])[1]
local expired = #redis.call('XPENDING', stream, ARGV[1], 'IDLE', ARGV[2], '-', '+', ARGV[3])
local oldest = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
local now = redis.call('TIME')
local entry = oldest and oldest[1] or ''
return {redis.call('XLEN', stream), pending - expired, redis.call('HLEN', dead),
        tonumber(redis.call('GET', bytes) or '0'), entry, now[1]}
"""
_DIGEST_LENGTH = 32


class RedisInbox:
    """See `perfuse.queue.inbox.Inbox`.

    Args:
        address: redis://host:port/db, rediss:// or unix://.
        key_seconds: how long idempotency keys are remembered.
        most_items: items it holds, dead ones included.
        most_bytes: bytes they have together.
        prefix: first part of every key, with the hash tag that keeps all keys in one slot of a cluster.
    """

    def __init__(
        self,
        address: str,
        *,
        key_seconds: float,
        most_items: int = MOST_ITEMS,
        most_bytes: int = MOST_BYTES,
        prefix: str = "{perfuse}:inbox:",
    ) -> None:
        self._client = client_of(address, _TIMEOUT_SECONDS, retries=0)  # sent twice, an item would be in twice
        self._key_seconds = max(1, ceil(key_seconds))
        self._most_items = most_items
        self._most_bytes = most_bytes
        self._prefix = prefix
        self._keys = [prefix + purpose for purpose in _PURPOSES]
        self._puts = GroupCommit(self._write)
        self._open = False
        self._down_until = 0.0
        self._waits_for_disk = False
        self.durability = "not connected"

    async def open(self) -> None:
        """Connect, check that the server keeps what it acknowledges, and make the consumer group.

        Raises:
            ConfigError: the server has no append-only file.
            InboxUnavailable: the server cannot be reached.
        """
        try:
            async with within(_TIMEOUT_SECONDS):
                persistence = await persistence_of(self._client)
                await self._make_group()
        except LOST as error:
            raise InboxUnavailable(f"Redis cannot be reached: {error}", retry_after=PAUSE_SECONDS) from None
        self._waits_for_disk = persistence.confirmed
        self.durability = persistence.durability
        self._open = True

    async def _make_group(self) -> None:
        try:
            await self._client.xgroup_create(self._keys[0], _GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    async def put(self, put: Put) -> str:
        """Keep an item; acknowledged by the server, from 7.2 on by its disk, on return."""
        return await self._puts.put(put)

    async def _write(self, puts: Sequence[Put]) -> Sequence[Outcome]:
        async with self._asking():
            answers = await self._send(puts)
        return [self._outcome(put, cast("bytes", answer).decode()) for put, answer in zip(puts, answers, strict=True)]

    async def _send(self, puts: Sequence[Put]) -> Sequence[object]:
        async with self._client.pipeline(transaction=False) as pipe:
            for put in puts:
                keys = self._keys if put.key is None else [*self._keys, f"{self._prefix}key:{put.key}"]
                limits = (self._key_seconds, self._most_items, self._most_bytes)
                pipe.eval(_PUT, len(keys), *keys, put.id, put.item, put.digest, *limits)
            if self._waits_for_disk:
                pipe.execute_command("WAITAOF", 1, 0, _AOF_MILLISECONDS)
            answers: list[object] = await pipe.execute()
        if not self._waits_for_disk:
            await self._written()
        elif not cast("Sequence[int]", answers.pop())[0]:
            raise RedisError("the append-only file was not synced in time")
        return answers

    async def _written(self) -> None:
        """Until the operating system has the log: while a sync takes long, a server answers up to 2 s before it writes.

        Killed then, it would forget what it answered. `aof_buffer_length` is what it has not written yet.
        """
        deadline = time.monotonic() + _AOF_MILLISECONDS / 1000
        while int((await self._client.info("persistence"))["aof_buffer_length"]):
            if time.monotonic() >= deadline:
                raise RedisError("the append-only file was not written in time")
            await asyncio.sleep(_LOOK_SECONDS)

    def _outcome(self, put: Put, answer: str) -> Outcome:
        if not answer:
            return full(self._most_items, self._most_bytes)
        if answer[:_DIGEST_LENGTH] != put.digest:
            return reused()
        return answer[_DIGEST_LENGTH:]

    async def lease(self, count: int, seconds: float) -> list[Lease]:
        """Up to `count` items for so many seconds."""
        answer = await self._held(_LEASE, count, _milliseconds(seconds), MOST_ATTEMPTS, WORN_OUT)
        rows = cast("list[tuple[bytes, bytes, int, int, bytes]]", answer)
        return [
            Lease(identity.decode(), item, attempts, token, entry.decode())
            for identity, item, attempts, token, entry in rows
        ]

    async def begin(self, lease: Lease) -> int:
        """Count an attempt."""
        return await self._of_lease(_BEGIN, lease)

    async def extend(self, lease: Lease, seconds: float) -> None:
        """Hold the item for so many seconds from now."""
        await self._of_lease(_EXTEND, lease, _milliseconds(seconds))

    async def ack(self, lease: Lease) -> None:
        """Forget the item."""
        await self._of_lease(_ACK, lease)

    async def dead(self, lease: Lease, reason: str) -> None:
        """Put the item aside."""
        await self._of_lease(_BURY, lease, reason)

    async def _of_lease(self, script: str, lease: Lease, *more: str | int) -> int:
        """Run a script on an item if the lease still holds."""
        answer = cast("int", await self._held(script, lease.place, lease.token, lease.id, *more))
        if answer < 0:
            raise lost(lease)
        return answer

    async def _held(self, script: str, *arguments: str | int) -> object:
        return await self._run(script, _GROUP, _CONSUMER, _HORIZON, *arguments)

    async def dead_items(self) -> list[DeadItem]:
        """What was put aside."""
        async with self._asking():
            found = cast("dict[bytes, bytes]", await self._client.hgetall(self._keys[4]))
        return [DeadItem(identity.decode(), **json.loads(why)) for identity, why in sorted(found.items())]

    async def retry(self, identity: str) -> None:
        """Let a dead item be leased again."""
        if not await self._run(_RETRY, identity):
            raise not_dead(identity)

    async def drop(self, identity: str) -> None:
        """Forget a dead item."""
        if not await self._run(_DROP, identity):
            raise not_dead(identity)

    async def stats(self) -> Stats:
        """Counts."""
        answer = await self._run(_STATS, _GROUP, _HORIZON, self._most_items)
        alive, leased, dead, size, entry, now = cast("tuple[int, int, int, int, bytes, bytes]", answer)
        born = int(entry.partition(b"-")[0]) / 1000 if entry else None
        return Stats(
            waiting=alive - leased,
            leased=leased,
            dead=dead,
            bytes=size,
            oldest_seconds=None if born is None else max(0.0, int(now) - born),
        )

    async def scrub(self) -> None:
        """Have the server write its append-only file anew, in its own time."""
        async with self._asking():
            await rewrite_log(self._client)

    async def _run(self, script: str, *arguments: str | int) -> object:
        async with self._asking():
            answer: object = await self._client.eval(script, len(self._keys), *self._keys, *map(str, arguments))
        return answer

    @contextlib.asynccontextmanager
    async def _asking(self) -> AsyncIterator[None]:
        """Ask a connected server, for so long. Raises InboxUnavailable: it does not answer."""
        await self._ready()
        try:
            async with within(_TIMEOUT_SECONDS):
                yield
        except LOST as error:
            raise self._down(error) from None

    async def _ready(self) -> None:
        """Connect again where the connection is new or was lost."""
        if time.monotonic() < self._down_until:
            raise InboxUnavailable("Redis does not answer", retry_after=PAUSE_SECONDS)
        if self._open:
            return
        try:
            await self.open()
        except ConfigError as error:
            raise InboxUnavailable(error.detail, hint=error.hint, retry_after=PAUSE_SECONDS) from None
        except InboxUnavailable:
            self._down_until = time.monotonic() + PAUSE_SECONDS
            raise

    def _down(self, error: Exception) -> InboxUnavailable:
        self._open = False  # whatever comes back may be another server, without group or append-only file
        self._down_until = time.monotonic() + PAUSE_SECONDS
        return InboxUnavailable(f"Redis did not take it: {error}", retry_after=PAUSE_SECONDS)

    async def close(self) -> None:
        """Finish what waits and close the connections."""
        await self._puts.finish()
        self._open = False
        await self._client.aclose()


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
