"""Run one pipeline in this process, without an engine: for tests, notebooks and `ArrowEngine`."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Hashable, Sequence
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

from perfuse.diffusion import noise
from perfuse.errors import NonFiniteOutput
from perfuse.models.call import Call, Output
from perfuse.pipelines.contract import Pipeline, Snapshot
from perfuse.requests import Preview

P = ParamSpec("P")
T = TypeVar("T")
RequestT = TypeVar("RequestT")
ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class EmptySnapshot:
    """The store of a process that has none."""

    lsn: int = 0


class AloneRun:
    """A `Run` that computes each forward at once, batching only the calls of one await.

    Attributes:
        forwards: number of calls computed so far.
    """

    def __init__(
        self,
        seed: int,
        *,
        tenant: str = "",
        reproducible: bool = False,
        deadline: float | None = None,
        snapshot: Snapshot | None = None,
        on_preview: Callable[[Preview], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seed = seed
        self._tenant = tenant
        self._reproducible = reproducible
        self._deadline = deadline
        self._snapshot = snapshot or EmptySnapshot()
        self._on_preview = on_preview
        self._clock = clock
        self.forwards = 0

    @property
    def tenant(self) -> str:
        """Whose request it is, as given at construction."""
        return self._tenant

    @property
    def snapshot(self) -> Snapshot:
        """The store view given at construction."""
        return self._snapshot

    async def forward(self, *calls: Call) -> tuple[Output, ...]:
        """Outputs of all calls, one batch per key. Raises NonFiniteOutput."""
        outputs: list[Output | None] = [None] * len(calls)
        for indices in by_key(calls, apart=self._reproducible).values():
            rows = [calls[i] for i in indices]
            for i, output in zip(indices, self._compute(rows), strict=True):
                if not finite(output):
                    raise NonFiniteOutput(f"the forward of {calls[i].network.name} gave NaN or infinity")
                outputs[i] = output
        self.forwards += len(calls)
        return tuple(output for output in outputs if output is not None)

    def _compute(self, rows: Sequence[Call]) -> Sequence[Output]:
        if not self._reproducible:
            return rows[0].network.forward(rows)
        return forward_in_blocks(rows)

    async def offload(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call it here."""
        return fn(*args, **kwargs)

    def uniform(self, purpose: str, step: int, positions: Tensor) -> Tensor:
        """See `perfuse.diffusion.noise.uniform`."""
        return noise.uniform(self._seed, purpose, step, positions)

    def report(self, step: int, of: int, **preview: object) -> bool:
        """Hand the preview to `on_preview`; False once the deadline has passed."""
        if self._on_preview is not None:
            self._on_preview(Preview.of_values(step, of, preview))
        return self._deadline is None or self._clock() < self._deadline


def forward_in_blocks(rows: Sequence[Call]) -> list[Output]:
    """Outputs of equal-key rows computed in blocks of exactly R rows, the last block padded by repetition."""
    size = rows[0].network.reproducible_rows
    return [output for i in range(0, len(rows), size) for output in padded_forward(rows[i : i + size])]


def padded_forward(block: Sequence[Call]) -> Sequence[Output]:
    """Outputs of at most R equal-key rows, computed as exactly R rows by repeating the last one."""
    network = block[0].network
    padded = [*block, *[block[-1]] * (network.reproducible_rows - len(block))]
    return network.forward(padded)[: len(block)]


def finite(output: Output) -> bool:
    """Whether every number of the output is finite."""
    return all(bool(torch.isfinite(tensor.sum())) for tensor in output.values())


def by_key(calls: Sequence[Call], *, apart: bool) -> dict[Hashable, list[int]]:
    """Indices of the calls that may be computed together; with `apart` those of different adaptations may not."""
    groups: defaultdict[Hashable, list[int]] = defaultdict(list)
    for i, call in enumerate(calls):
        groups[call.network.name, call.network.key(call), call.adaptation if apart else None].append(i)
    return groups


def drive(coroutine: Coroutine[object, None, ResultT]) -> ResultT:
    """Run a coroutine that never suspends and return its result."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: ResultT = stop.value
        return result
    coroutine.close()
    msg = "the pipeline awaited something other than its Run"
    raise RuntimeError(msg)


def run_alone(
    pipeline: Pipeline[RequestT, ResultT],
    request: RequestT,
    *,
    run: AloneRun,
) -> ResultT:
    """Validate the request, run the pipeline on `run` and return its result.

    Raises:
        InvalidRequest: the request cannot be served as written.
        GenerationFailed: a forward failed.
    """
    pipeline.estimate(request)
    return drive(pipeline.run(request, run))
