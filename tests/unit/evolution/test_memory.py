"""Memories over the real socket: kept, found again by likeness, replaced, paged, forgotten; each within its tenant."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest

from ordering import NOW, Scripted, serving, vector
from perfuse import orders
from perfuse.dispatch.evolution import EvolutionLink
from perfuse.errors import NotFound
from perfuse.evolution import memory
from perfuse.evolution.learned import Learned
from perfuse.queue.inbox import IdempotencyKeyReused
from perfuse.store.learning import Embedder, Memory, memories
from unit.evolution.learning import EMBEDDER, WIDTH, reopen

WIDER = Embedder(hash="wider", width=3)


@pytest.fixture
def learned(tmp_path: Path) -> Iterator[Learned]:
    with reopen(tmp_path / "store"):
        pass
    with Learned.open(tmp_path / "store", WIDER) as opened:
        yield opened


@pytest.fixture
async def link(learned: Learned, tmp_path: Path) -> AsyncIterator[EvolutionLink]:
    async with serving(Scripted(learned), tmp_path / "e.sock") as link:
        yield link


def put(text: str, prompt: str = "p", tenant: str = "t", **changes: str | None) -> orders.PutMemory:
    return orders.PutMemory(tenant=tenant, prompt=prompt, text=text, source="s", **changes)


async def listed(link: EvolutionLink, tenant: str = "t", limit: int = 9, after: str = "") -> list[object]:
    answer = await link.ask(orders.ListMemories(tenant=tenant, limit=limit, after=after))
    return [each["text"] for each in answer["memories"]] + [answer["next"]]


async def test_what_was_put_is_there(link: EvolutionLink) -> None:
    kept = await link.ask(put("x"))
    assert kept == {
        "id": kept["id"], "prompt": "p", "text": "x", "source": "s", "generation": None, "created": NOW,
    }  # fmt: skip
    assert str(kept["id"]).startswith("mem_0")
    assert await link.ask(orders.GetMemory(tenant="t", memory=kept["id"])) == kept


async def test_another_tenants_is_not_there(link: EvolutionLink) -> None:
    identity = (await link.ask(put("x")))["id"]
    for order in (
        orders.GetMemory(tenant="u", memory=identity),
        orders.DeleteMemory(tenant="u", memory=identity),
        put("y", tenant="u", memory=identity),
    ):
        with pytest.raises(NotFound, match=f"^no memory {identity}$"):
            await link.ask(order)
    assert await listed(link, "u") == [None]
    assert await listed(link) == ["x", None]


async def test_the_same_key_is_the_same_memory_within_a_tenant(link: EvolutionLink) -> None:
    first = await link.ask(put("x", key="1"))
    assert await link.ask(put("x", key="1")) == first
    assert (await link.ask(put("x", key="2")))["id"] != first["id"]
    assert (await link.ask(put("x", tenant="u", key="1")))["id"] != first["id"]
    with pytest.raises(IdempotencyKeyReused) as refused:
        await link.ask(put("y", key="1"))
    assert refused.value.detail == "the idempotency key was used before for another memory"
    assert refused.value.hint == "use a new key, or PUT the memory to replace it"
    assert refused.value.field == "/idempotency_key"


async def test_a_memory_is_replaced_and_keeps_its_id_and_time(link: EvolutionLink, learned: Learned) -> None:
    identity = (await link.ask(put("x")))["id"]
    await link.ask(put("y", prompt="a longer one", memory=identity))
    (kept,) = memories(WIDTH).scan(learned.store.snapshot())
    assert (kept.id, kept.text, kept.created) == (identity, "y", NOW)
    assert kept.embedding == tuple(vector("a longer one").tolist())


async def test_a_memory_of_an_earlier_embedder_moves_when_it_is_replaced(link: EvolutionLink, learned: Learned) -> None:
    old = Memory(
        id="mem_old", tenant="t", source="s", generation="g", prompt="p", text="x", created=1.0, embedder="wider",
        embedding=(0.0, 0.0, 1.0),
    )  # fmt: skip
    learned.store.commit([memories(3).put(old)])
    assert await listed(link) == ["x", None]
    replaced = await link.ask(put("y", memory="mem_old"))
    assert (replaced["text"], replaced["created"]) == ("y", 1.0)
    assert memories(3).scan(learned.store.snapshot()) == []
    assert await listed(link) == ["y", None]


async def test_what_was_forgotten_is_gone(link: EvolutionLink) -> None:
    identity = (await link.ask(put("x")))["id"]
    assert await link.ask(orders.DeleteMemory(tenant="t", memory=identity)) == {"deleted": identity}
    with pytest.raises(NotFound, match=f"^no memory {identity}$"):
        await link.ask(orders.DeleteMemory(tenant="t", memory=identity))
    assert await listed(link) == [None]


async def test_pages_show_each_memory_once_whatever_is_forgotten_between_them(link: EvolutionLink) -> None:
    ids = sorted([str((await link.ask(put(str(number), key=str(number))))["id"]) for number in range(5)])
    first = await link.ask(orders.ListMemories(tenant="t", limit=2))
    assert ([each["id"] for each in first["memories"]], first["next"]) == (ids[:2], ids[1])
    await link.ask(orders.DeleteMemory(tenant="t", memory=ids[1]))
    second = await link.ask(orders.ListMemories(tenant="t", limit=3, after=ids[1]))
    assert ([each["id"] for each in second["memories"]], second["next"]) == (ids[2:], None)


async def test_the_nearest_of_the_tenant_are_found_best_first(link: EvolutionLink, learned: Learned) -> None:
    for length in (1, 2, 3, 4):
        await link.ask(put(str(length), prompt="p" * length))
    await link.ask(put("foreign", prompt="ppp", tenant="u"))
    queries = np.stack([vector("ppp"), vector("p")])
    found = memory.search(learned.store.snapshot(), "t", EMBEDDER, queries, 2)
    assert [[each.text for each in nearest] for nearest in found] == [["3", found[0][1].text], ["1", "2"]]
    assert found[0][1].text in {"2", "4"}
    other = Embedder(hash="other", width=WIDTH)
    assert memory.search(learned.store.snapshot(), "t", other, queries, 2) == [[], []]
