"""An evolution worker that learns nothing: the real store behind the real socket, and a scripted embedder."""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from perfuse.dispatch.evolution import EvolutionLink
from perfuse.evolution.desk import Desk
from perfuse.evolution.learned import Learned
from perfuse.evolution.orders_server import OrdersServer
from perfuse.evolution.promote import admit, promote, start_canary
from perfuse.evolution.status import report
from perfuse.store.kit import Kit
from perfuse.store.learning import FEEDBACK, Adaptation
from unit.evolution.learning import EMBEDDER, candidate, feedback

NOW = 100.0
KIT = Kit(Path("model"), "base", EMBEDDER, reach=0.2)
PASSED = '{"outcome": "promote", "reasons": [], "gain": 0.3, "p_value": 0.001}'
UNPROVEN = '{"outcome": "unproven", "reasons": ["8 pairs"], "gain": 0.5, "p_value": 0.06}'
REFUSED = '{"outcome": "reject", "reasons": ["no gain"], "gain": 0.0, "p_value": 0.5}'


@dataclass
class Scripted:
    """What a desk asks of its worker.

    Attributes:
        gate: if set, embedding waits for it.
        failure: if set, embedding raises it.
        woken: how often `wake` was called.
    """

    learned: Learned
    gate: asyncio.Event | None = None
    failure: Exception | None = None
    woken: int = 0
    embedded: list[str] = field(default_factory=list)
    forgotten: list[set[str]] = field(default_factory=list)

    async def embed(self, prompts: Sequence[str]) -> list[bytes]:
        self.embedded += prompts
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return [vector(prompt).tobytes() for prompt in prompts]

    async def forget(self, adaptations: Collection[str]) -> int:
        self.forgotten.append(set(adaptations))
        return 0

    def wake(self) -> None:
        self.woken += 1

    def status(self, tenant: str) -> dict[str, object]:
        return {**report(self.learned, tenant), "inbox": {"waiting": 3}, "stage": "train"}

    def desk(self) -> Desk:
        return Desk(
            self.learned,
            KIT,
            forget=self.forget,
            embed=self.embed,
            status=self.status,
            wake=self.wake,
            clock=lambda: NOW,
        )


def vector(prompt: str) -> np.ndarray:
    """Turns by a tenth of a right angle with each character, so that prompts of like length are near."""
    angle = len(prompt) * math.pi / 20
    return np.array([math.cos(angle), math.sin(angle)], "<f4")


def bound(path: Path) -> socket.socket:
    """A listening socket as the supervisor makes it."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(str(path))
    path.chmod(0o600)
    listening.listen(16)
    listening.settimeout(0)
    return listening


@asynccontextmanager
async def serving(scripted: Scripted, path: Path) -> AsyncIterator[EvolutionLink]:
    """A server at `path`, and a link to it."""
    server = OrdersServer(scripted.desk(), bound(path))
    await server.start()
    link = EvolutionLink(str(path))
    try:
        yield link
    finally:
        link.close()
        await server.close()


def teach(learned: Learned, *, clusters: Sequence[str] = ("c", "k"), sources: str = "abc", tenant: str = "t") -> None:
    """Curated feedback of every source in every cluster."""
    rows = [
        feedback(f"{cluster}-{source}", source, cluster, tenant=tenant) for cluster in clusters for source in sources
    ]
    learned.store.commit([FEEDBACK.put(*rows)])


def trained(
    learned: Learned,
    dataset: str = "d1",
    *sources: str,
    cluster: str = "c",
    tenant: str = "t",
    base: str = KIT.base,
) -> Adaptation:
    """A candidate that the gate has not seen."""
    made = candidate(dataset, *(sources or "a"), cluster=cluster, tenant=tenant, base=base)
    return admit(learned, made, dataset.encode())


def canary(
    learned: Learned, dataset: str = "d1", *sources: str, cluster: str = "c", tenant: str = "t", gate: str = PASSED
) -> Adaptation:
    """A canary at half of the rows."""
    made = trained(learned, dataset, *sources, cluster=cluster, tenant=tenant)
    return start_canary(learned, made.id, 0.5, gate, 2.0)


def champion(learned: Learned, dataset: str = "d1", *sources: str, cluster: str = "c", tenant: str = "t") -> Adaptation:
    """A champion that was a canary."""
    made = canary(learned, dataset, *sources, cluster=cluster, tenant=tenant)
    return promote(learned, made.id, "50 rows", 3.0)
