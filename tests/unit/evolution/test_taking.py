"""From the inbox to the store, with the real queue, store and jail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from perfuse.errors import SandboxUnavailable
from perfuse.evolution.learned import Learned
from perfuse.evolution.taking import Taking
from perfuse.queue.inbox import Put
from perfuse.queue.inbox_sqlite import SqliteInbox
from perfuse.sandbox import Availability
from perfuse.store.learning import ADAPTATIONS, FEEDBACK, REVOCATIONS, Revocation, alias_key
from perfuse.wire import FeedbackItem, PythonCase, PythonTests, pack_feedback
from unit.evolution.learning import Crash, CrashingStore, candidate, reopen

TESTS = PythonTests("f", [PythonCase(args=[2], expected=4)])


def item(prompt: str = "Double it.", **said: Any) -> bytes:
    fields: dict[str, Any] = {
        "received": 5.0, "tenant": "t", "source": "a", "generation": "g", "kind": "diffuse", "model": "m@1", "seed": 0,
        "generated": 4.0, "snapshot": 1, "adaptations": (), "output": 0,
        "request": msgspec.Raw(msgspec.json.encode({"prompt": prompt})),
        "result": msgspec.Raw(msgspec.json.encode({"outputs": [{"text": "def f(x):\n    return x\n"}]})),
    }  # fmt: skip
    return pack_feedback(FeedbackItem(**(fields | said)))


@pytest.fixture
def learned(tmp_path: Path) -> Iterator[Learned]:
    with reopen(tmp_path / "store") as opened:
        yield opened


@pytest.fixture
async def inbox(tmp_path: Path) -> AsyncIterator[SqliteInbox]:
    opened = SqliteInbox(tmp_path / "inbox.sqlite3", key_seconds=60.0)
    await opened.open()
    yield opened
    await opened.close()


async def test_items_become_rows_with_the_verdict_of_their_tests(learned: Learned, inbox: SqliteInbox) -> None:
    first = await inbox.put(Put(item(verifier=TESTS, correction="def f(x):\n    return 2 * x\n")))
    second = await inbox.put(Put(item(reward=0.5)))
    taking = Taking(learned, inbox)
    assert (await taking.take(), await taking.take()) == (2, 0)
    rows = {row.id: row for row in FEEDBACK.scan(learned.store.snapshot())}
    assert (rows[first].output_passed, rows[first].correction_passed) == (False, True)
    assert (rows[second].reward, rows[second].output_passed) == (0.5, None)
    assert (taking.taken, taking.refused, (await inbox.stats()).waiting) == (2, 0, 0)


async def test_what_cannot_be_read_is_put_aside_alone(learned: Learned, inbox: SqliteInbox) -> None:
    await inbox.put(Put(b"{}"))
    await inbox.put(Put(b"\xff\x00 no JSON"))
    await inbox.put(Put(item(kind="plan", reward=1.0)))
    await inbox.put(Put(item(output=1, reward=1.0)))
    kept = await inbox.put(Put(item(reward=1.0)))
    taking = Taking(learned, inbox)
    assert await taking.take() == 5
    assert [row.id for row in FEEDBACK.scan(learned.store.snapshot())] == [kept]
    reasons = [dead.reason for dead in await inbox.dead_items()]
    assert reasons == [
        "Object missing required field `received`",
        "JSON is malformed: invalid character (byte 0)",
        "expected feedback about a text; got feedback about a plan",
        "expected feedback about one of 1 outputs; got output 1",
    ]
    assert (taking.refused, (await inbox.stats()).leased) == (4, 0)


async def test_what_a_revoked_source_had_sent_is_not_taken_in(learned: Learned, inbox: SqliteInbox) -> None:
    revoked = Revocation(key=alias_key("t", "a"), tenant="t", source="a", at=10.0)
    learned.store.commit([REVOCATIONS.put(revoked)])
    await inbox.put(Put(item(reward=1.0)))
    later = await inbox.put(Put(item(reward=1.0, received=11.0)))
    await Taking(learned, inbox).take()
    assert [row.id for row in FEEDBACK.scan(learned.store.snapshot())] == [later]
    assert (await inbox.stats()).waiting == 0


@pytest.mark.parametrize("crash", ["before", "after"])
async def test_a_crash_at_the_commit_loses_nothing_and_counts_nothing_twice(
    crash: str, tmp_path: Path, inbox: SqliteInbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perfuse.evolution.taking.LEASE_SECONDS", 0.01)
    put = await inbox.put(Put(item(reward=1.0)))
    with reopen(tmp_path / "store") as learned:
        assert isinstance(learned.store, CrashingStore)
        learned.store.crash = crash
        with pytest.raises(Crash):
            await Taking(learned, inbox).take()
    with reopen(tmp_path / "store") as learned:
        while await Taking(learned, inbox).take() == 0:
            pass
        assert [row.id for row in FEEDBACK.scan(learned.store.snapshot())] == [put]
    assert (await inbox.stats()).leased == 0


async def test_an_item_that_saw_a_death_is_worked_on_alone(
    learned: Learned, inbox: SqliteInbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups: list[int] = []
    for _ in range(2):
        await inbox.put(Put(item(reward=1.0)))
    for lease in await inbox.lease(2, 60):
        await inbox.begin(lease)
        await inbox.extend(lease, 0)
    await inbox.put(Put(item(reward=1.0)))
    taking = Taking(learned, inbox)
    plain = taking._take

    async def counted(leases: Any) -> None:
        groups.append(len(leases))
        await plain(leases)

    monkeypatch.setattr(taking, "_take", counted)
    assert await taking.take() == 3
    assert groups == [1, 1, 1]


ENDLESS = "def f(x):\n    while True:\n        pass\n"


async def test_a_lease_is_held_for_as_long_as_the_verifiers_take(
    learned: Learned, inbox: SqliteInbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perfuse.evolution.taking.LEASE_SECONDS", 0.3)
    monkeypatch.setattr("perfuse.evolution.intake.SECONDS", 1.0)
    put = await inbox.put(Put(item(verifier=TESTS, correction=ENDLESS)))
    taking = asyncio.create_task(Taking(learned, inbox).take())
    await asyncio.sleep(0.7)
    assert await inbox.lease(1, 60) == []
    assert await taking == 1
    (row,) = FEEDBACK.scan(learned.store.snapshot())
    assert (row.id, row.correction_passed) == (put, False)
    assert (await inbox.stats()).leased == 0


async def test_where_nothing_can_be_verified_feedback_waits_and_no_attempt_counts(
    learned: Learned, inbox: SqliteInbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = Availability("none", None, True, None, 0, ("this kernel has no Landlock",))
    monkeypatch.setattr("perfuse.evolution.taking.availability", lambda: nothing)
    put = await inbox.put(Put(item(verifier=TESTS)))
    with pytest.raises(SandboxUnavailable) as refused:
        await Taking(learned, inbox).take()
    assert refused.value.detail == "feedback waits, because nothing can be verified here: this kernel has no Landlock"
    (lease,) = await inbox.lease(1, 60)
    assert (lease.id, lease.attempts) == (put, 0)


async def test_an_answer_that_repeats_a_source_revoked_meanwhile_is_not_taken_in(
    learned: Learned, inbox: SqliteInbox
) -> None:
    taught = replace(candidate("d1", "z"), id="ad_z")
    revoked = Revocation(key=alias_key("t", "z"), tenant="t", source="z", at=4.5)
    learned.store.commit([ADAPTATIONS.put(taught), REVOCATIONS.put(revoked)])
    said = {"verifier": TESTS, "correction": "def f(x):\n    return 2 * x\n"}
    repeating = await inbox.put(Put(item(adaptations=("ad_z",), **said)))
    clean = await inbox.put(Put(item(adaptations=("ad_y",), **said)))
    await Taking(learned, inbox).take()
    rows = {row.id: row for row in FEEDBACK.scan(learned.store.snapshot())}
    assert (rows[repeating].output, rows[repeating].output_passed, rows[repeating].correction_passed) == (
        "", None, True,
    )  # fmt: skip
    assert (rows[clean].output[:3], rows[clean].output_passed) == ("def", False)
