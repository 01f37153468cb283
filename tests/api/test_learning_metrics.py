"""What /metrics says of learning."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from api.conftest import Serve
from perfuse import orders
from perfuse.api import counted
from perfuse.api.counted import KEPT_SECONDS, Counted
from perfuse.errors import Unavailable


@dataclass
class ScriptedWorker:
    """Counts how often it was asked; is absent or silent if told to."""

    absent: bool = False
    silent: bool = False
    asked: list[orders.AnyOrder] = field(default_factory=list)

    async def ask(self, order: orders.AnyOrder) -> orders.Body:
        self.asked.append(order)
        if self.absent:
            raise Unavailable("the evolution worker is not running")
        if self.silent:
            await asyncio.sleep(60)
        return {"feedback": {"curated": len(self.asked)}}


async def test_metrics_carry_what_the_worker_counts(serve: Serve, inbox) -> None:
    await inbox.open()
    worker = ScriptedWorker()
    async with serve(evolution=worker) as client:
        lines = (await client.get("/metrics")).text.splitlines()
    assert worker.asked == [orders.Totals(tenant="")]
    assert "perfuse_evolution_up 1.0" in lines
    assert 'perfuse_evolution_feedback_items{state="curated"} 1.0' in lines
    await inbox.close()


async def test_a_server_that_does_not_learn_says_so(serve: Serve) -> None:
    async with serve() as client:
        assert "perfuse_evolution_up 0.0" in (await client.get("/metrics")).text.splitlines()


async def test_a_worker_is_asked_once_for_all_who_read_within_a_few_seconds() -> None:
    worker, now = ScriptedWorker(), [100.0]
    counts = Counted(worker, clock=lambda: now[0])
    assert await asyncio.gather(*(counts.read() for _ in range(3))) == [{"feedback": {"curated": 1}}] * 3
    now[0] += KEPT_SECONDS
    assert await counts.read() == {"feedback": {"curated": 2}}
    now[0] += KEPT_SECONDS
    worker.absent = True
    assert await counts.read() is None
    assert len(worker.asked) == 3


async def test_a_silent_worker_counts_as_absent(monkeypatch) -> None:
    monkeypatch.setattr(counted, "ASK_SECONDS", 0.01)
    assert await Counted(ScriptedWorker(silent=True)).read() is None
