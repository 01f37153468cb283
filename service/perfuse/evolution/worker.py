"""The evolution worker: `python -m perfuse.evolution.worker`, started by the supervisor. No torch; owns the store.

inbox ─take─▶ feedback rows ─sort─▶ clusters ─trigger─▶ jobs ─workshop─▶ candidates ─watch─▶ champions
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import time
from functools import partial
from pathlib import Path

import msgspec

from perfuse import logging, orders
from perfuse.dispatch.engines import EnginePool
from perfuse.engine import launch
from perfuse.engine.housing import STORE
from perfuse.errors import PerfuseError, Unavailable
from perfuse.evolution import trigger
from perfuse.evolution.answers import Answerer
from perfuse.evolution.curate import Rules as Curation
from perfuse.evolution.damage import leave_damaged
from perfuse.evolution.desk import Desk
from perfuse.evolution.gate import Thresholds
from perfuse.evolution.job import Plan, Workshop, resident_bytes
from perfuse.evolution.learned import Learned
from perfuse.evolution.orders_server import OrdersServer
from perfuse.evolution.reference import reference
from perfuse.evolution.revoke import retire_foreign
from perfuse.evolution.sorting import Sorting
from perfuse.evolution.status import report
from perfuse.evolution.taking import Taking
from perfuse.evolution.tidy import tidy
from perfuse.evolution.watch import Watch
from perfuse.queue import inbox as inboxes
from perfuse.queue.forgetting import forget
from perfuse.queue.inbox import Inbox
from perfuse.store.kit import Kit, find_kit
from perfuse.store.learning import ADAPTATIONS, JOBS, Job

_log = logging.get(__name__)

FOLDER = "evolution"
"""In the data directory: files of jobs and canaries, and the reference of the base model."""
_TAKE_SECONDS = 0.25
"""Between two looks into an empty inbox."""
_RETRY_SECONDS = 2.0
_NO_KIT = "make one with `perfuse train kit`; feedback waits in the inbox until then"
_CANCEL_SECONDS = 2.0
_MARGIN = 0.2
"""Seconds after the calm at which the trigger is asked again."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of `ServeConfig` that the worker reads, already checked by the supervisor."""

    data_dir: Path
    model: list[Path]
    queue: str
    ledger_ttl_seconds: float
    max_inbox_items: int
    train_after: int
    train_steps: int
    train_minutes: float
    canary_share: float
    log_level: logging.Level
    log_json: bool


class Worker:
    """Everything between feedback and champion, in one event loop."""

    def __init__(self, settings: Settings, kit: Kit, learned: Learned, inbox: Inbox, pool: EnginePool) -> None:
        self._settings = settings
        self._kit = kit
        self._learned = learned
        self._inbox = inbox
        self._pool = pool
        self._folder = settings.data_dir / FOLDER
        self._answerer = Answerer(pool)
        self._turn = asyncio.Lock()
        self._stats: dict[str, object] = {}
        self._taken_at = -math.inf
        curation = Curation()
        self._taking = Taking(learned, inbox)
        self._sorting = Sorting(learned, self._answerer, kit, curation, settings.train_after)
        self._trigger = trigger.Rules(items=settings.train_after)
        self._watch = Watch(learned, self._answerer, self._folder)
        self._curation = curation
        self._workshop: Workshop | None = None
        self._changed = asyncio.Event()
        self._changed.set()

    def wake(self) -> None:
        """Something may be due: look."""
        self._changed.set()

    def desk(self) -> Desk:
        """Carries out orders beside the learning."""
        return Desk(
            self._learned,
            self._kit,
            forget=partial(forget, self._settings.queue, self._settings.data_dir),
            embed=self._answerer.embed_now,
            status=self.status,
            wake=self.wake,
            turn=self._turn,
        )

    def status(self, tenant: str) -> dict[str, object]:
        """What `perfuse evolve status` shows."""
        stage = "waiting for an engine" if self._workshop is None else self._workshop.stage
        if not stage and time.monotonic() - self._taken_at < self._trigger.calm + 2 * _MARGIN:
            stage = "listening"
        return {**report(self._learned, tenant), "inbox": self._stats, "stage": stage}

    async def run(self) -> None:
        """Learn until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._take())
            group.create_task(self._learn(group))
            group.create_task(self._prepare())
            group.create_task(tidy(self._learned.store))

    async def _take(self) -> None:
        while True:
            try:
                if await self._taking.take():
                    self._taken_at = time.monotonic()
                    asyncio.get_running_loop().call_later(self._trigger.calm + _MARGIN, self.wake)
                    self.wake()
                    continue
                self._stats = msgspec.to_builtins(await self._inbox.stats())
            except PerfuseError as error:
                _log.warning("feedback_not_taken", reason=error.detail)
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            await asyncio.sleep(_TAKE_SECONDS)

    async def _learn(self, group: asyncio.TaskGroup) -> None:
        job: asyncio.Task[None] | None = None
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._sorting.sort()
                await self._queue_due()
                await self._watch.look()
            except PerfuseError as error:
                _log.warning("not_learning", reason=error.detail)
                await self._pause()
                self.wake()
                continue
            if job is not None and job.done():
                job = None
            if job is None and self._workshop is not None and (queued := self._workshop.next()) is not None:
                job = group.create_task(self._work(self._workshop, queued))

    async def _prepare(self) -> None:
        """Find out what the base model can do, once an engine answers; until then nothing is trained."""
        while True:
            try:
                known = await reference(self._kit, self._answerer, self._folder)
                break
            except PerfuseError as error:
                _log.warning("no_reference_yet", reason=error.detail)
                await asyncio.sleep(_RETRY_SECONDS)
        settings = self._settings
        plan = Plan(
            config={"steps": settings.train_steps, "minutes": settings.train_minutes},
            seconds=settings.train_minutes * 60 * 2,
            share=settings.canary_share,
            thresholds=Thresholds(),
            curation=self._curation,
        )
        self._workshop = Workshop(
            self._learned,
            self._answerer,
            self._kit,
            self._folder,
            plan,
            known,
            resident_bytes=lambda: max((resident_bytes(engine.pid) for engine in self._pool.engines), default=0),
            turn=self._turn,
        )
        self.wake()

    async def _queue_due(self) -> None:
        snapshot = self._learned.store.snapshot()
        quiet = time.monotonic() - self._taken_at
        jobs = await asyncio.to_thread(trigger.due, snapshot, self._kit.base, time.time(), quiet, self._trigger)
        for job in jobs:
            _log.info("job_queued", job=job.id, cluster=job.cluster, reason=job.reason)
        if jobs:
            await asyncio.to_thread(self._learned.store.commit, [JOBS.put(*jobs)])

    async def _work(self, workshop: Workshop, job: Job) -> None:
        state = await workshop.run(job)
        _log.info("job_ended", job=job.id, state=state)
        if state == "queued":
            await self._pause()
        self.wake()

    async def _pause(self) -> None:
        """Before another try; damaged bytes, which fail every one, leave first."""
        await asyncio.to_thread(leave_damaged, self._learned, time.time())
        await asyncio.sleep(_RETRY_SECONDS)


async def run(record: launch.EvolutionLaunch, settings: Settings, kit: Kit) -> None:
    """Serve orders and learn until SIGTERM.

    Raises:
        StoreLocked, StoreCorrupt: the store is another's, or damaged.
        ConfigError: the inbox cannot keep its promises.
    """
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    with Learned.open(settings.data_dir / STORE, kit.embedder) as learned:
        _retire_foreign(learned, kit)
        leave_damaged(learned, time.time())
        inbox = inboxes.connect(
            settings.queue,
            settings.data_dir,
            key_seconds=settings.ledger_ttl_seconds,
            most_items=settings.max_inbox_items,
        )
        with contextlib.suppress(inboxes.InboxUnavailable):
            await inbox.open()
        pool = EnginePool(record.engines)
        await pool.start()
        worker = Worker(settings, kit, learned, inbox, pool)
        server = OrdersServer(worker.desk(), record.listening_socket())
        await server.start()
        learning = asyncio.create_task(worker.run())
        stopping = asyncio.create_task(stop.wait())
        try:
            done, _ = await asyncio.wait({learning, stopping}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            stopping.cancel()
            await end(learning)
            await server.close()
            await pool.close()
            await inbox.close()


async def end(learning: asyncio.Task[None]) -> None:
    """Cancel it until it has ended: a task below it that misses its cancellation is cancelled again, and named.

    Everything may be cancelled at any time: what was not finished is done again by the next worker.
    """
    learning.cancel()
    while not (await asyncio.wait({learning}, timeout=_CANCEL_SECONDS))[0]:
        left = asyncio.all_tasks() - {asyncio.current_task(), learning}
        _log.warning("tasks_do_not_end", tasks=sorted(str(task.get_coro()) for task in left))
        for task in left:
            task.cancel()


class NoKit:
    """Answers orders where the base model has nothing to learn with."""

    async def carry_out(self, order: orders.AnyOrder) -> orders.Body:
        """Raises Unavailable."""
        del order
        raise Unavailable("this server cannot learn: its base model has no learning kit", hint=_NO_KIT)


async def refuse_all(record: launch.EvolutionLaunch) -> None:
    """Say to whoever orders that nothing can be learned, until SIGTERM; feedback waits in the inbox."""
    _log.warning("no_learning_kit", hint=_NO_KIT)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    server = OrdersServer(NoKit(), record.listening_socket())
    await server.start()
    await stop.wait()
    await server.close()


def _retire_foreign(learned: Learned, kit: Kit) -> None:
    """Adaptations of another base model leave before anybody asks; what they were made of is trained on again."""
    for tenant in sorted({adaptation.tenant for adaptation in ADAPTATIONS.scan(learned.store.snapshot())}):
        taken = retire_foreign(learned, tenant, kit.base, time.time())
        if taken.retired:
            _log.warning("base_model_changed", tenant=tenant, retired=taken.retired, rebuilding=len(taken.rebuild))


def main() -> None:
    """Entry point of the process."""
    try:
        record = launch.receive(launch.EvolutionLaunch)
        settings = msgspec.convert(record.config, Settings, dec_hook=lambda kind, value: kind(value))
        logging.configure(
            "evolution", level=settings.log_level, as_json=settings.log_json, log_dir=settings.data_dir / "logs"
        )
        os.nice(5)  # answering goes before learning
        kit = find_kit(settings.model)
        asyncio.run(refuse_all(record) if kit is None else run(record, settings, kit))
    except PerfuseError as error:
        launch.refuse(error)


if __name__ == "__main__":
    main()
