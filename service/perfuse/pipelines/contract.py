"""What a pipeline is, and all it sees of whoever runs it.

`perfuse.pipelines.alone.run_alone` implements `Run` in one process; `perfuse.engine` implements it for many requests.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import ParamSpec, Protocol, TypeVar

from torch import Tensor

from perfuse.models.call import Call, Network, Output

P = ParamSpec("P")
T = TypeVar("T")
Request_contra = TypeVar("Request_contra", contravariant=True)
Result_co = TypeVar("Result_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Demand:
    """A pipeline's own upper estimate: `calls` rows of `network` with batch key `key`.

    `kind` names the way of sampling, for example "text/entropy": the engine learns per kind which part of the estimate
    is really used.
    """

    network: Network
    key: Hashable
    calls: int
    kind: str = ""


class Snapshot(Protocol):
    """The store as it was when the request was admitted."""

    @property
    def lsn(self) -> int:
        """Sequence number of the last commit this view contains."""
        ...


class Run(Protocol):
    """All a pipeline sees of its surroundings."""

    @property
    def tenant(self) -> str:
        """Whose request it is; nothing that was learned from another's may take part."""
        ...

    @property
    def snapshot(self) -> Snapshot:
        """The store view pinned at admission."""
        ...

    async def forward(self, *calls: Call) -> tuple[Output, ...]:
        """Outputs of all calls, in order. They may be computed in different batches.

        Raises:
            GenerationFailed: the forward of one of these calls failed, or gave NaN or infinity.
            DeadlineExceeded: the deadline passed while the calls waited; return the best there is, if there is any.
        """
        ...

    async def offload(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run slow or GIL-free host work (search, verification, encoding) beside the forwards."""
        ...

    def uniform(self, purpose: str, step: int, positions: Tensor) -> Tensor:
        """Uniforms in [0, 1), float64, one per int64 position: a hash of (seed, purpose, step, position)."""
        ...

    def report(self, step: int, of: int, **preview: object) -> bool:
        """Say how far the run is and show what there is so far. False: the deadline is near, wrap up.

        Preview values that are callables are called only if somebody watches.
        """
        ...


class Pipeline(Protocol[Request_contra, Result_co]):
    """One modality."""

    def estimate(self, request: Request_contra) -> Sequence[Demand]:
        """Validate without touching a tensor and say how much work comes, for admission.

        Raises:
            InvalidRequest: with `field` as JSON pointer into the HTTP body and a hint.
        """
        ...

    async def run(self, request: Request_contra, run: Run) -> Result_co:
        """Compute the result. Cancelled by closing the coroutine at any await."""
        ...
