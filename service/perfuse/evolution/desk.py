"""Carries out orders (`perfuse.orders`) on the store: for the server of the evolution worker, or alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TypeVar

import numpy as np

from perfuse import orders
from perfuse.errors import InvalidRequest, NotFound, WrongState
from perfuse.evolution import memory, shown
from perfuse.evolution.learned import Learned
from perfuse.evolution.promote import get, promote, roll_back, start_canary, withdraw
from perfuse.evolution.rebuild import rebuild
from perfuse.evolution.revoke import purge, revoke, withdrawn
from perfuse.evolution.totals import totals
from perfuse.orders import Body
from perfuse.store.aliases import current
from perfuse.store.kit import Kit
from perfuse.store.learning import ADAPTATIONS, ALIASES, Adaptation, Memory

SHARE = 0.1
"""Of the rows, for the moment in which a candidate on its way to champion is a canary."""
PROMOTED = "promoted by an administrator"
ROLLED_BACK = "rolled back by an administrator"

Embed = Callable[[Sequence[str]], Awaitable[list[bytes]]]
Forget = Callable[[Collection[str]], Awaitable[int]]
_T = TypeVar("_T")


class Desk:
    """Carries out one order at a time; steps of the store sync to disk and run in a thread.

    Args:
        learned: the owner's store.
        kit: of the base model that is served.
        forget: removes from the queue what these adaptations answered, and the bytes of what it no longer holds; gives
            how many records there were.
        embed: vectors of prompts by the kit's embedder, as little-endian float32.
        status: what `Status` is answered with, by tenant; runs in a thread.
        wake: told that there may be new jobs.
        turn: held while a step runs. Whoever puts blobs besides must hold it too: `Purge` removes blobs that no row
            names yet.
        clock: Unix seconds.
    """

    def __init__(
        self,
        learned: Learned,
        kit: Kit,
        *,
        forget: Forget,
        embed: Embed,
        status: Callable[[str], Body],
        wake: Callable[[], None],
        turn: asyncio.Lock | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._learned = learned
        self._kit = kit
        self._forget = forget
        self._embed = embed
        self._status = status
        self._wake = wake
        self._turn = turn or asyncio.Lock()
        self._clock = clock

    async def carry_out(self, order: orders.AnyOrder) -> Body:  # noqa: C901  # one line per kind of order
        """Do what the order says, durably; gives the answer.

        Raises:
            PerfuseError: it cannot be done; nothing, or a whole step, was.
        """
        match order:
            case orders.Status():
                return await self._step(lambda: self._status(order.tenant))
            case orders.Totals():
                return await self._step(lambda: totals(self._learned))
            case orders.ListAdaptations():
                return await self._step(lambda: self._list(order.tenant))
            case orders.ShowAdaptation():
                return await self._step(lambda: shown.in_full(self._own(order.tenant, order.adaptation)))
            case orders.Promote():
                return await self._step(lambda: self._promote(order))
            case orders.RollBack():
                return await self._step(lambda: self._roll_back(order))
            case orders.Revoke():
                return await self._making_jobs(lambda: self._revoke(order))
            case orders.Rebuild():
                return await self._making_jobs(lambda: self._rebuild(order))
            case orders.Purge():
                return await self._purge()
            case orders.PutMemory():
                return await self._remember(order)
            case orders.GetMemory():
                snapshot = self._learned.store.snapshot
                return await self._step(lambda: shown.memory(memory.get(snapshot(), order.tenant, order.memory)))
            case orders.DeleteMemory():
                await self._step(lambda: memory.delete(self._learned, order.tenant, order.memory))
                return {"deleted": order.memory}
            case orders.ListMemories():
                return await self._step(lambda: self._memories(order))

    async def _step(self, work: Callable[[], _T]) -> _T:
        async with self._turn:
            # A thread cannot be cancelled: whoever cancels this waits for the step, so that the store stays open.
            running = asyncio.ensure_future(asyncio.to_thread(work))
            try:
                return await asyncio.shield(running)
            except asyncio.CancelledError:
                await asyncio.wait([running])
                raise

    async def _making_jobs(self, work: Callable[[], Body]) -> Body:
        body = await self._step(work)
        self._wake()
        return body

    # adaptations -----------------------------------------------------------------------------------------------------

    def _own(self, tenant: str, identity: str) -> Adaptation:
        found = get(self._learned.store.snapshot(), identity)
        if found.tenant != tenant:
            raise NotFound(f"no adaptation {identity}")
        return found

    def _list(self, tenant: str) -> Body:
        every = ADAPTATIONS.scan(self._learned.store.snapshot(), {"tenant": tenant})
        latest = sorted(every, key=lambda adaptation: (adaptation.created, adaptation.id), reverse=True)
        return {"adapters": [shown.in_brief(adaptation) for adaptation in latest]}

    def _promote(self, order: orders.Promote) -> Body:
        found = self._own(order.tenant, order.adaptation)
        if found.state == "retired" or (found.state == "rejected" and not order.force):
            hint = "train again: `perfuse evolve rebuild`" if found.state == "retired" else "force it"
            seen = f"expected {found.id} to be candidate or canary; it is {found.state}: {found.reason}"
            raise WrongState(seen, hint=hint)
        if found.state != "champion" and not order.force:
            _check_gate(found)
        now = self._clock()
        if found.state in {"candidate", "rejected"}:
            if found.base != self._kit.base:
                seen = f"{found.id} was trained on base model {found.base}; the present one is {self._kit.base}"
                raise WrongState(seen, hint="train again: `perfuse evolve rebuild`")
            start_canary(self._learned, found.id, SHARE, found.report, now, ordered=order.force)
        return shown.in_full(promote(self._learned, found.id, PROMOTED, now))

    def _roll_back(self, order: orders.RollBack) -> Body:
        found = self._own(order.tenant, order.adaptation or self._champion(order))
        if order.cluster is not None and order.cluster != found.cluster:
            raise InvalidRequest(
                f"{found.id} serves cluster {found.cluster!r}, not {order.cluster!r}", hint="give one of them"
            )
        if found.state == "canary":
            withdraw(self._learned, found.id, ROLLED_BACK, self._clock())
            return shown.alias(current(self._learned.store.snapshot(), found.tenant, found.cluster))
        return shown.alias(roll_back(self._learned, found.id, ROLLED_BACK, self._clock()))

    def _champion(self, order: orders.RollBack) -> str:
        """The champion of the order's cluster; without a cluster the only champion there is."""
        aliases = ALIASES.scan(self._learned.store.snapshot(), {"tenant": order.tenant})
        champions = {alias.cluster: alias.champion for alias in aliases if alias.champion is not None}
        if order.cluster is not None:
            if order.cluster not in champions:
                raise NotFound(f"no champion in cluster {order.cluster!r}; the base model serves it")
            return champions[order.cluster]
        if not champions:
            raise NotFound("there is no champion to roll back; the base model serves everything")
        if len(champions) > 1:
            listed = ", ".join(f"{champion} (cluster {name})" for name, champion in sorted(champions.items()))
            raise InvalidRequest(
                f"there are {len(champions)} champions: {listed}", hint="say which one, or its cluster"
            )
        (only,) = champions.values()
        return only

    # jobs ------------------------------------------------------------------------------------------------------------

    def _revoke(self, order: orders.Revoke) -> Body:
        taken = revoke(self._learned, order.tenant, order.source, self._clock())
        return {
            "retired": list(taken.retired),
            "jobs": [job.id for job in taken.rebuild],
            "cancelled": list(taken.cancelled),
            "feedback": taken.feedback,
            "memories": taken.memories,
        }

    def _rebuild(self, order: orders.Rebuild) -> Body:
        jobs = rebuild(self._learned, order.tenant, self._kit.base, order.cluster, self._clock())
        return {"jobs": [job.id for job in jobs]}

    async def _purge(self) -> Body:
        """Blobs that serve no more, then the files of store and queue: no byte of what was removed is left in them."""
        unfit = await self._step(lambda: withdrawn(self._learned.store.snapshot()))
        records = await self._forget(unfit)
        return {**await self._step(self._purge_store), "records": records}

    def _purge_store(self) -> Body:
        blobs = purge(self._learned)
        done = self._learned.store.compact(forget=True)
        return {"blobs": blobs, "bytes_freed": max(done.bytes_before - done.bytes_after, 0)}

    # memories --------------------------------------------------------------------------------------------------------

    async def _remember(self, order: orders.PutMemory) -> Body:
        (vector,) = await self._embed([order.prompt])
        kept = Memory(
            id=order.memory or memory.new_id(order.tenant, order.key),
            tenant=order.tenant,
            source=order.source,
            generation="",
            prompt=order.prompt,
            text=order.text,
            created=self._clock(),
            embedder=self._kit.embedder.hash,
            embedding=tuple(np.frombuffer(vector, "<f4").tolist()),
        )
        keep = memory.put if order.memory is None else memory.put_again
        return shown.memory(await self._step(lambda: keep(self._learned, kept)))

    def _memories(self, order: orders.ListMemories) -> Body:
        found, more = memory.page(self._learned.store.snapshot(), order.tenant, order.limit, order.after)
        return {"memories": [shown.memory(each) for each in found], "next": found[-1].id if more else None}


def _check_gate(found: Adaptation) -> None:
    hint = "wait for the gate, or force it"
    if not found.report:
        raise WrongState(f"{found.id} has not passed the gate: it has no report yet", hint=hint)
    if shown.outcome_of(found) == "reject":
        raise WrongState(f"the gate rejected {found.id}", hint="see its report, or force it")
