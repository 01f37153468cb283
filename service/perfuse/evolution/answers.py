"""What the learning side asks of the engines: ordinary requests that let all others go first."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from perfuse.dispatch.pool import Completed, Pool
from perfuse.errors import Overloaded, Unavailable
from perfuse.requests import EmbedRequest, EmbedResult, ScoreRequest, ScoreResult, TextRequest, TextResult
from perfuse.requests import Request as EngineRequest
from perfuse.syntax.parsers import TEXT
from perfuse.wire import Modality

IDLE_PRIORITY = -20
"""Below what any client may ask for (-10)."""
AT_ONCE = 4
"""Requests under way together: enough to share batches, too few to fill a backlog."""
EMBEDDED_AT_ONCE = 16
"""Prompts of one request."""
LONGEST_PAUSE = 5.0

_T = TypeVar("_T")
_U = TypeVar("_U")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as the learning side repeats it; the prompt is as the model read it, language and error said."""

    prompt: str
    prefix: str = ""
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """A text, prefix and suffix included, and what it cost.

    Attributes:
        seconds: of the engine, waiting excluded.
        forwards: of the network.
        doubt: −Σ log p of its tokens, in nats.
    """

    text: str
    seconds: float
    forwards: int
    doubt: float = 0.0


class Answerer:
    """Asks the engines; a busy engine is asked again later, for as long as it takes."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._places = asyncio.Semaphore(AT_ONCE)

    async def fill(self, asked: Asked, adaptation: str, tenant: str) -> Answer:
        """The text that `adaptation` ("none": the base model, "auto": as a client) gives, most likely tokens only."""
        request = TextRequest(
            prompt=asked.prompt,
            prefix=asked.prefix,
            suffix=asked.suffix,
            adaptation=adaptation,
            language=TEXT,
            reproducible=True,
        )
        done = await self._ask("text", request, tenant)
        assert isinstance(done.result, TextResult)
        (output,) = done.result.outputs
        return Answer(output.text, done.compute_seconds, output.forwards, output.doubt)

    async def embed(self, prompts: Sequence[str]) -> list[bytes]:
        """Vectors of prompts, little-endian float32, of length 1, in order."""
        parts = [tuple(prompts[i : i + EMBEDDED_AT_ONCE]) for i in range(0, len(prompts), EMBEDDED_AT_ONCE)]
        results = await each(parts, self._embed)
        return [vector for part in results for vector in part]

    async def embed_now(self, prompts: Sequence[str]) -> list[bytes]:
        """The same for somebody who waits: not behind everything else, and refused where the engines are full.

        Raises:
            Overloaded, Unavailable: ask again later.
        """
        done = await self._pool.run("embedding", EmbedRequest(prompts=tuple(prompts), reproducible=True))
        assert isinstance(done.result, EmbedResult)
        return list(done.result.vectors)

    async def _embed(self, prompts: tuple[str, ...]) -> tuple[bytes, ...]:
        done = await self._ask("embedding", EmbedRequest(prompts=prompts, reproducible=True), "")
        assert isinstance(done.result, EmbedResult)
        return done.result.vectors

    async def bits(self, asked: Asked, text: str, adaptation: str, tenant: str) -> tuple[float, int]:
        """Bits that `text` costs as the fill of a request, and its tokens."""
        request = ScoreRequest(
            prompt=asked.prompt, prefix=asked.prefix, suffix=asked.suffix, text=text, adaptation=adaptation
        )
        done = await self._ask("score", request, tenant)
        assert isinstance(done.result, ScoreResult)
        return done.result.bits, done.result.tokens

    async def _ask(self, modality: Modality, request: EngineRequest, tenant: str) -> Completed:
        async with self._places:
            while True:
                try:
                    return await self._pool.run(modality, request, priority=IDLE_PRIORITY, tenant=tenant)
                except (Overloaded, Unavailable) as error:
                    await asyncio.sleep(min(error.retry_after or 1.0, LONGEST_PAUSE))


async def each(items: Sequence[_T], work: Callable[[_T], Awaitable[_U]]) -> list[_U]:
    """`work` on all items at once, results in order; a failure cancels the rest and is raised.

    A cancellation goes before failures. `asyncio.TaskGroup` has it the other way round before Python 3.13: who tries
    again after a failure then never learns of the cancellation.
    """
    tasks = [asyncio.create_task(_run(work, item)) for item in items]
    if not tasks:
        return []
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        failures = [error for task in tasks if not task.cancelled() and (error := task.exception())]
    if failures:
        raise failures[0]
    return [task.result() for task in tasks]


async def _run(work: Callable[[_T], Awaitable[_U]], item: _T) -> _U:
    return await work(item)
