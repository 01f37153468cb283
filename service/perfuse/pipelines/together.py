"""Run many requests in this process, the forwards of all of them in common batches: what makes corpora."""

from __future__ import annotations

from collections.abc import Coroutine, Generator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from perfuse.errors import NonFiniteOutput
from perfuse.models.call import Call, Output
from perfuse.pipelines.alone import AloneRun, by_key, finite
from perfuse.pipelines.contract import Pipeline

RequestT = TypeVar("RequestT")
ResultT = TypeVar("ResultT")
ROWS = 32
"""Requests that run at a time."""


@dataclass(frozen=True, slots=True)
class _Wish:
    """A run's wish: compute these calls."""

    calls: Sequence[Call]

    def __await__(self) -> Generator[_Wish, Sequence[Output], Sequence[Output]]:
        return (yield self)


class _TogetherRun(AloneRun):
    """A `Run` whose forwards are computed with those of others."""

    async def forward(self, *calls: Call) -> tuple[Output, ...]:
        """Outputs of all calls, from batches of many runs. Raises NonFiniteOutput."""
        outputs = await _Wish(calls)
        self.forwards += len(calls)
        for call, output in zip(calls, outputs, strict=True):
            if not finite(output):
                raise NonFiniteOutput(f"the forward of {call.network.name} gave NaN or infinity")
        return tuple(outputs)


@dataclass(slots=True)
class _Running(Generic[ResultT]):
    index: int
    coroutine: Coroutine[_Wish, Sequence[Output] | None, ResultT]
    wish: _Wish | None = None


def run_together(
    pipeline: Pipeline[RequestT, ResultT], requests: Sequence[RequestT], *, seed: int = 0, rows: int = ROWS
) -> list[ResultT]:
    """Results of all requests, in order.

    Args:
        pipeline: it may await nothing but forwards and host work.
        requests: valid or not; the first that is not raises.
        seed: of the first request's noise, one more for each that follows.
        rows: requests that run at a time.

    Raises:
        InvalidRequest: a request cannot be served as written.
        GenerationFailed: a forward failed.
    """
    results: dict[int, ResultT] = {}
    running: list[_Running[ResultT]] = []
    waiting = iter(enumerate(requests))
    while True:
        while len(running) < rows and (following := next(waiting, None)) is not None:
            index, request = following
            pipeline.estimate(request)
            made: _Running[ResultT] = _Running(index, pipeline.run(request, _TogetherRun(seed + index)))
            if _goes_on(made, None, results):
                running.append(made)
        if not running:
            return [results[index] for index in sorted(results)]
        running = [each for each, told in _answered(running) if _goes_on(each, told, results)]


def _goes_on(running: _Running[ResultT], told: Sequence[Output] | None, results: dict[int, ResultT]) -> bool:
    """Resumes a run with what it asked for; False once it is done, its result is kept then."""
    try:
        running.wish = running.coroutine.send(told)
    except StopIteration as stop:
        results[running.index] = stop.value
        return False
    return True


def _answered(running: Sequence[_Running[ResultT]]) -> Sequence[tuple[_Running[ResultT], Sequence[Output]]]:
    """What each run asked for, one batch per key."""
    calls = [call for each in running if each.wish is not None for call in each.wish.calls]
    outputs: dict[int, Output] = {}
    for indices in by_key(calls, apart=False).values():
        rows = [calls[i] for i in indices]
        outputs.update(zip(indices, rows[0].network.forward(rows), strict=True))
    told, start = [], 0
    for each in running:
        end = start + (len(each.wish.calls) if each.wish is not None else 0)
        told.append((each, [outputs[i] for i in range(start, end)]))
        start = end
    return told
