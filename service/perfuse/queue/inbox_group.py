"""Group commit: puts that come in while a write is under way are written together by the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from perfuse.errors import PerfuseError
from perfuse.queue.inbox import MAX_WAITING, PAUSE_SECONDS, InboxUnavailable, Put

_GROUP = 512

Outcome = str | PerfuseError
"""The id under which an item is kept, or why it is not."""


@dataclass(slots=True, eq=False)
class _Waiting:
    put: Put
    done: asyncio.Future[str]


class GroupCommit:
    """Collects puts and hands them on, group by group.

    Args:
        write: keeps a group durably; gives the outcome of each put, or raises InboxUnavailable for all.
    """

    def __init__(self, write: Callable[[Sequence[Put]], Awaitable[Sequence[Outcome]]]) -> None:
        self._write = write
        self._waiting: list[_Waiting] = []
        self._flusher: asyncio.Task[None] | None = None

    async def put(self, put: Put) -> str:
        """The id under which it is kept, once it is. Raises what `write` says."""
        if len(self._waiting) >= MAX_WAITING:
            raise InboxUnavailable("too many items wait for the inbox", retry_after=PAUSE_SECONDS)
        done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(put, done))
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.create_task(self._flush())
        return await done

    async def finish(self) -> None:
        """Wait until nothing waits."""
        if self._flusher is not None:
            await self._flusher

    async def _flush(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting[:_GROUP], self._waiting[_GROUP:]
            writing = asyncio.ensure_future(self._write([waiting.put for waiting in group]))
            await asyncio.wait([writing])
            error = writing.exception()  # of any class: nobody must wait for ever
            outcomes = writing.result() if error is None else [error] * len(group)
            for waiting, outcome in zip(group, outcomes, strict=True):
                if waiting.done.done():  # the request was cancelled meanwhile
                    continue
                if isinstance(outcome, str):
                    waiting.done.set_result(outcome)
                else:
                    waiting.done.set_exception(outcome)
