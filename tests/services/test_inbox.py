"""Both inboxes keep the same promises; the Redis one against a real server."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perfuse.errors import ConfigError, NotFound
from perfuse.ids import token
from perfuse.queue import inbox as inbox_module
from perfuse.queue.inbox import (
    MOST_ATTEMPTS,
    WORN_OUT,
    IdempotencyKeyReused,
    Inbox,
    InboxFull,
    InboxUnavailable,
    Lease,
    LeaseLost,
    Put,
    Stats,
    connect,
)
from perfuse.queue.inbox_redis import RedisInbox
from perfuse.queue.inbox_sqlite import SqliteInbox

BACKENDS = ["sqlite", pytest.param("redis", marks=pytest.mark.redis)]
FULL_HINT = "try again later; `perfuse queue stats` says what it holds"


@asynccontextmanager
async def opened(inbox: Inbox) -> AsyncIterator[Inbox]:
    await inbox.open()
    try:
        yield inbox
    finally:
        await inbox.close()


Make = Callable[..., Inbox]


@pytest.fixture(params=BACKENDS)
def make(request, tmp_path: Path) -> Make:
    """Makes inboxes that share their items."""
    if request.param == "sqlite":
        return lambda **limits: SqliteInbox(tmp_path / "inbox.sqlite3", **{"key_seconds": 60, **limits})
    address = request.getfixturevalue("start_redis")()
    return lambda **limits: RedisInbox(address, **{"key_seconds": 60, **limits})


async def put(inbox: Inbox, *items: bytes) -> list[str]:
    return [await inbox.put(Put(item)) for item in items]


async def test_items_are_leased_in_the_order_in_which_they_came(make: Make) -> None:
    async with opened(make()) as inbox:
        ids = await put(inbox, b"one", b"two\x00\xff", b"three")
        leased = [*await inbox.lease(2, 60), *await inbox.lease(2, 60)]
        assert [(lease.id, lease.item, lease.attempts, lease.token) for lease in leased] == [
            (ids[0], b"one", 0, 1),
            (ids[1], b"two\x00\xff", 0, 1),
            (ids[2], b"three", 0, 1),
        ]
        assert all(identity.startswith("fb_") for identity in ids)
        assert await inbox.lease(1, 60) == []


async def test_what_was_acknowledged_is_gone_and_the_rest_is_there_after_reopening(make: Make) -> None:
    async with opened(make()) as inbox:
        ids = await put(inbox, b"one", b"two")
        (first, second) = await inbox.lease(2, 60)
        await inbox.ack(first)
        await inbox.extend(second, 0)
    async with opened(make()) as inbox:
        assert [lease.id for lease in await inbox.lease(5, 60)] == [ids[1]]


async def test_an_expired_lease_is_taken_over_and_refused_from_then_on(make: Make) -> None:
    async with opened(make()) as inbox, opened(make()) as other:
        await put(inbox, b"one")
        (late,) = await inbox.lease(1, 0.05)
        await asyncio.sleep(0.06)
        for change in (inbox.ack(late), inbox.begin(late), inbox.extend(late, 60), inbox.dead(late, "?")):
            with pytest.raises(LeaseLost, match=rf"^the lease of {late.id} has expired$"):
                await change
        (taken,) = await other.lease(1, 60)
        assert (taken.id, taken.item, taken.token) == (late.id, b"one", late.token + 1)
        with pytest.raises(LeaseLost):
            await inbox.ack(late)
        await other.ack(taken)
        with pytest.raises(LeaseLost):
            await other.ack(taken)
        assert (await inbox.stats()).waiting == 0


async def test_whoever_uses_it_can_be_cancelled_at_any_moment(make: Make) -> None:
    """The pauses put the cancellation into each turn of the loop that a command takes."""
    async with opened(make()) as inbox:

        async def look_for_ever() -> None:
            while True:
                await inbox.stats()

        for turns in range(60):
            looking = asyncio.create_task(look_for_ever())
            for _ in range(turns):
                await asyncio.sleep(0)
            looking.cancel()
            done, _ = await asyncio.wait({looking}, timeout=30)
            assert done, f"not cancelled after {turns} turns of the loop"


async def test_an_extended_lease_holds_whatever_term_others_ask_for(make: Make) -> None:
    async with opened(make()) as inbox:
        await put(inbox, b"one")
        (lease,) = await inbox.lease(1, 0.2)
        await inbox.extend(lease, 60)
        await asyncio.sleep(0.25)
        assert await inbox.lease(1, 0.01) == []
        await inbox.extend(lease, 0)
        (again,) = await inbox.lease(1, 60)
        assert again.token > lease.token


async def test_many_held_items_do_not_hide_one_that_is_free(make: Make) -> None:
    async with opened(make()) as inbox:
        await asyncio.gather(*(inbox.put(Put(b"%d" % n)) for n in range(60)))
        held = await inbox.lease(60, 60)
        await inbox.extend(held[57], 0)
        assert [lease.id for lease in await inbox.lease(9, 60)] == [held[57].id]


async def test_only_the_item_that_was_worked_on_is_blamed(make: Make) -> None:
    async with opened(make()) as inbox:
        ids = await put(inbox, b"good", b"poison", b"also good")
        for attempt in range(1, MOST_ATTEMPTS + 1):
            batch = await inbox.lease(3, 60)
            assert [lease.attempts for lease in batch] == [0, attempt - 1, 0]
            assert await inbox.begin(batch[1]) == attempt
            for lease in batch:  # the worker died
                await inbox.extend(lease, 0)
        assert [lease.id for lease in await inbox.lease(3, 60)] == [ids[0], ids[2]]
        (dead,) = await inbox.dead_items()
        assert (dead.id, dead.attempts, dead.reason, dead.size) == (ids[1], MOST_ATTEMPTS, WORN_OUT, 6)


async def test_dead_items_are_tried_again_or_dropped(make: Make) -> None:
    async with opened(make()) as inbox:
        ids = await put(inbox, b"one", b"two")
        for lease in await inbox.lease(2, 60):
            await inbox.begin(lease)
            await inbox.dead(lease, 'not a verdict: "é"')
        dead = {item.id: (item.attempts, item.reason) for item in await inbox.dead_items()}
        assert dead == dict.fromkeys(ids, (1, 'not a verdict: "é"'))
        assert await inbox.lease(2, 60) == []
        await inbox.retry(ids[0])
        await inbox.drop(ids[1])
        (again,) = await inbox.lease(2, 60)
        assert (again.id, again.item, again.attempts) == (ids[0], b"one", 0)
        assert await inbox.dead_items() == []
        for gone in (inbox.retry(ids[0]), inbox.drop(ids[1])):
            with pytest.raises(NotFound, match=r"^no dead item has the id fb_"):
                await gone


async def test_a_key_stands_for_one_item(make: Make) -> None:
    async with opened(make()) as inbox:
        first = await inbox.put(Put(b"stamped at 1", key="k", body=b"same"))
        again, other = await asyncio.gather(
            inbox.put(Put(b"stamped at 2", key="k", body=b"same")), inbox.put(Put(b"stamped at 2", key="l"))
        )
        assert again == first != other
        with pytest.raises(IdempotencyKeyReused) as refused:
            await inbox.put(Put(b"stamped at 1", key="k", body=b"other"))
        assert refused.value.detail == "this idempotency key was used before with another body"
        assert (refused.value.field, refused.value.status) == ("/idempotency_key", 422)
        leased = await inbox.lease(5, 60)
        assert [lease.item for lease in leased] == [b"stamped at 1", b"stamped at 2"]
        await inbox.ack(leased[0])
        assert await inbox.put(Put(b"stamped at 3", key="k", body=b"same")) == first
        assert (await inbox.stats()).waiting == 0


async def test_keys_are_forgotten_after_their_time(make: Make) -> None:
    async with opened(make(key_seconds=1)) as inbox:
        first = await inbox.put(Put(b"one", key="k"))
        await asyncio.sleep(1.1)
        assert await inbox.put(Put(b"two", key="k")) != first


async def test_many_at_once_are_all_kept_under_ids_of_their_own(make: Make) -> None:
    async with opened(make()) as inbox:
        ids = await asyncio.gather(*(inbox.put(Put(b"%d" % n)) for n in range(1200)))
        leased = await inbox.lease(2000, 60)
        assert [(lease.id, lease.item) for lease in leased] == [(ids[n], b"%d" % n) for n in range(1200)]


async def test_two_workers_never_hold_the_same_item(make: Make) -> None:
    async with opened(make()) as one, opened(make()) as two:
        await asyncio.gather(*(one.put(Put(b"x")) for _ in range(100)))
        batches = await asyncio.gather(*((one, two)[n % 2].lease(10, 60) for n in range(12)))
        ids = [lease.id for batch in batches for lease in batch]
        assert len(ids) == len(set(ids)) == 100


async def test_a_full_inbox_refuses_and_keeps_what_it_has(make: Make) -> None:
    async with opened(make(most_items=2)) as inbox:
        ids = await put(inbox, b"one", b"two")
        with pytest.raises(InboxFull) as refused:
            await inbox.put(Put(b"three"))
        assert refused.value.detail == "the inbox is full: it holds at most 2 items and 1073741824 bytes"
        assert (refused.value.status, refused.value.retry_after, refused.value.hint) == (429, 30.0, FULL_HINT)
        leased = await inbox.lease(2, 60)
        await inbox.dead(leased[0], "?")
        with pytest.raises(InboxFull):
            await inbox.put(Put(b"three"))
        await inbox.ack(leased[1])
        await put(inbox, b"three")
        await inbox.drop(ids[0])
        await put(inbox, b"four")
    async with opened(make(most_bytes=10)) as inbox:
        with pytest.raises(InboxFull, match="10 bytes"):
            await inbox.put(Put(b"more"))


async def test_stats_count_states_bytes_and_age(make: Make) -> None:
    async with opened(make()) as inbox:
        assert await inbox.stats() == Stats(waiting=0, leased=0, dead=0, bytes=0, oldest_seconds=None)
        await put(inbox, b"1", b"22", b"333", b"4444")
        leased = await inbox.lease(3, 60)
        await inbox.dead(leased[0], "?")
        await inbox.extend(leased[1], 0)
        found = await inbox.stats()
        assert (found.waiting, found.leased, found.dead, found.bytes) == (2, 1, 1, 10)
        assert found.oldest_seconds is not None
        assert found.oldest_seconds >= 0.0
        for lease in await inbox.lease(9, 60):
            await inbox.ack(lease)
        await inbox.drop(leased[0].id)
        await inbox.ack(leased[2])
        assert await inbox.stats() == Stats(waiting=0, leased=0, dead=0, bytes=0, oldest_seconds=None)


async def test_a_cancelled_put_harms_no_other(make: Make) -> None:
    async with opened(make()) as inbox:
        tasks = [asyncio.create_task(inbox.put(Put(b"%d" % n))) for n in range(8)]
        await asyncio.sleep(0)
        tasks[3].cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(each) for each in done].count(asyncio.CancelledError) == 1
        kept = {lease.id for lease in await inbox.lease(9, 60)}
        assert {each for each in done if isinstance(each, str)} <= kept


async def test_puts_beyond_those_that_may_wait_are_refused(make: Make, monkeypatch) -> None:
    monkeypatch.setattr("perfuse.queue.inbox_group.MAX_WAITING", 0)
    async with opened(make()) as inbox:
        with pytest.raises(InboxUnavailable, match=r"^too many items wait for the inbox$"):
            await inbox.put(Put(b"x"))


# any sequence -----------------------------------------------------------------------------------------------------

ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "lease", "work", "work", "expire", "late", "dead", "retry", "drop", "crash"]),
        st.integers(0, 7),
    ),
    max_size=60,
)


class Model:
    """What must be true of an inbox after any sequence of actions."""

    def __init__(self, make: Callable[[], Inbox]) -> None:
        self.make = make
        self.inbox = make()
        self.acknowledged: dict[str, bytes] = {}
        self.keys: dict[int, str] = {}
        self.held: list[Lease] = []
        self.stale: list[Lease] = []
        self.effects: list[str] = []
        self.buried: set[str] = set()
        self.dropped: set[str] = set()

    async def run(self, actions: list[tuple[str, int]]) -> None:
        await self.inbox.open()
        try:
            for action, number in actions:
                await getattr(self, action)(number)
            await self.check()
        finally:
            await self.inbox.close()

    async def put(self, number: int) -> None:
        identity = await self.inbox.put(Put(b"%d" % number, key=f"k{number}"))
        assert self.keys.setdefault(number, identity) == identity
        self.acknowledged[identity] = b"%d" % number

    async def lease(self, number: int) -> None:
        leased = await self.inbox.lease(number, 60)
        assert not {lease.id for lease in leased} & {lease.id for lease in self.held}
        self.held += leased

    async def work(self, number: int) -> None:
        if self.held:
            lease = self.held.pop(number % len(self.held))
            await self.inbox.begin(lease)
            await self.inbox.ack(lease)
            self.effects.append(lease.id)
            self.stale.append(lease)

    async def expire(self, number: int) -> None:
        if self.held:
            lease = self.held.pop(number % len(self.held))
            if number % 2:
                await self.inbox.begin(lease)
            await self.inbox.extend(lease, 0)
            self.stale.append(lease)

    async def late(self, number: int) -> None:
        if self.stale:
            with pytest.raises(LeaseLost):
                await self.inbox.ack(self.stale[number % len(self.stale)])

    async def dead(self, number: int) -> None:
        if self.held:
            lease = self.held.pop(number % len(self.held))
            await self.inbox.dead(lease, "asked for")
            self.stale.append(lease)

    async def retry(self, number: int) -> None:
        if dead := await self.inbox.dead_items():
            await self.inbox.retry(dead[number % len(dead)].id)

    async def drop(self, number: int) -> None:
        if dead := await self.inbox.dead_items():
            await self.inbox.drop(dead[number % len(dead)].id)
            self.dropped.add(dead[number % len(dead)].id)

    async def crash(self, number: int) -> None:
        """The worker forgets what it held; the time of its leases passes."""
        del number
        for lease in self.held:
            await self.inbox.extend(lease, 0)
        self.stale += self.held
        self.held = []
        await self.inbox.close()
        self.inbox = self.make()
        await self.inbox.open()

    async def check(self) -> None:
        """Each acknowledged item took effect once, or was put aside, dropped, or can still be had with its bytes."""
        await self.crash(0)
        left = await self.inbox.lease(100, 60)
        dead = {item.id for item in await self.inbox.dead_items()}
        places = [*self.effects, *(lease.id for lease in left), *dead, *self.dropped]
        assert sorted(places) == sorted(self.acknowledged)
        assert all(lease.item == self.acknowledged[lease.id] for lease in left)
        stats = await self.inbox.stats()
        assert (stats.leased, stats.dead) == (len(left), len(dead))
        assert stats.bytes == len(left) + len(dead)


@pytest.mark.parametrize("backend", BACKENDS)
def test_any_sequence_loses_nothing_and_does_nothing_twice(backend: str, tmp_path: Path, request) -> None:
    address = request.getfixturevalue("start_redis")() if backend == "redis" else ""

    @settings(suppress_health_check=list(HealthCheck))
    @given(ACTIONS)
    def check(actions: list[tuple[str, int]]) -> None:
        fresh = token()

        def make() -> Inbox:
            if backend == "sqlite":
                return SqliteInbox(tmp_path / fresh, key_seconds=60)
            return RedisInbox(address, key_seconds=60, prefix=f"{{{fresh}}}:")

        asyncio.run(Model(make).run(actions))

    check()


# SQLite -----------------------------------------------------------------------------------------------------------


async def test_a_damaged_file_is_said_at_start(tmp_path: Path) -> None:
    (tmp_path / "inbox.sqlite3").write_bytes(b"no database" * 1000)
    with pytest.raises(ConfigError, match=r"inbox\.sqlite3 cannot be opened: file is not a database"):
        await connect("sqlite", tmp_path).open()


async def test_a_file_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "inbox.sqlite3") as later:
        later.execute("PRAGMA user_version=7")
    later.close()
    with pytest.raises(ConfigError, match=r"^a later perfuse wrote this inbox: its version is 7, expected at most 1$"):
        await connect("sqlite", tmp_path).open()


async def test_a_full_disk_is_said_and_survived(tmp_path: Path) -> None:
    async with opened(connect("sqlite", tmp_path)) as inbox:
        limited = sqlite3.connect(tmp_path / "inbox.sqlite3", isolation_level=None)
        limited.execute("CREATE TRIGGER full BEFORE INSERT ON items BEGIN SELECT RAISE(ABORT, 'disk is full'); END")
        with pytest.raises(InboxUnavailable) as refused:
            await inbox.put(Put(b"x"))
        assert refused.value.detail == "the inbox cannot be used: disk is full"
        assert (refused.value.status, refused.value.retry_after) == (503, 1.0)
        limited.execute("DROP TRIGGER full")
        limited.close()
        await put(inbox, b"x")
        assert (await inbox.stats()).waiting == 1


async def test_a_closed_inbox_takes_nothing(tmp_path: Path) -> None:
    inbox = connect("sqlite", tmp_path)
    async with opened(inbox):
        pass
    await inbox.close()
    for call in (inbox.put(Put(b"x")), inbox.lease(1, 1), inbox.stats()):
        with pytest.raises(InboxUnavailable, match=r"^the inbox is closed$"):
            await call


async def test_only_its_owner_reads_the_files(tmp_path: Path) -> None:
    async with opened(connect("sqlite", tmp_path)) as inbox:
        await put(inbox, b"x")
        modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.glob("inbox*")}
        assert inbox.durability == "synced to disk: survives power loss"
    assert modes == {"inbox.sqlite3": 0o600, "inbox.sqlite3-shm": 0o600, "inbox.sqlite3-wal": 0o600}


# Redis ------------------------------------------------------------------------------------------------------------


@pytest.mark.redis
async def test_redis_without_an_append_only_file_is_refused(start_redis) -> None:
    inbox = connect(start_redis(aof=False), Path())
    with pytest.raises(ConfigError, match=r"^this Redis keeps no append-only file and would lose acknowledged records"):
        await inbox.open()
    with pytest.raises(InboxUnavailable, match="keeps no append-only file"):
        await inbox.put(Put(b"x"))
    await inbox.close()


@pytest.mark.redis
async def test_keys_share_a_hash_tag(start_redis) -> None:
    async with opened(RedisInbox(start_redis(), key_seconds=60)) as inbox:
        await inbox.put(Put(b"x", key="local k"))
        names = await inbox._client.keys("*")
        assert sorted(names) == [b"{perfuse}:inbox:bytes", b"{perfuse}:inbox:key:local k", b"{perfuse}:inbox:stream"]
        assert inbox.durability.startswith("Redis ")


@pytest.mark.redis
async def test_a_killed_redis_loses_no_item_no_attempt_and_no_lease(start_redis, monkeypatch) -> None:
    monkeypatch.setattr(inbox_module, "PAUSE_SECONDS", 0.1)
    monkeypatch.setattr("perfuse.queue.inbox_redis.PAUSE_SECONDS", 0.1)
    address = start_redis()
    async with opened(RedisInbox(address, key_seconds=60)) as inbox:
        ids = await asyncio.gather(*(inbox.put(Put(b"%d" % n, key=str(n))) for n in range(40)))
        held = await inbox.lease(3, 60)
        await inbox.begin(held[0])
        await inbox.dead(held[1], "?")
        process = start_redis.processes["redis"]
        process.send_signal(signal.SIGKILL)
        process.wait()
        Path(address.removeprefix("unix://")).unlink()
        with pytest.raises(InboxUnavailable, match=r"^Redis did not take it: "):
            await inbox.put(Put(b"x"))
        with pytest.raises(InboxUnavailable, match=r"^Redis does not answer$"):
            await inbox.stats()
        await asyncio.sleep(0.11)
        with pytest.raises(InboxUnavailable, match=r"^Redis cannot be reached: "):
            await inbox.dead_items()
        start_redis()
        await asyncio.sleep(0.11)
        assert await inbox.put(Put(b"7", key="7")) == ids[7]
        assert [lease.id for lease in await inbox.lease(100, 60)] == ids[3:]
        assert [item.id for item in await inbox.dead_items()] == [ids[1]]
        assert await inbox.begin(held[0]) == 2
        await inbox.ack(held[0])
        await inbox.ack(held[2])
