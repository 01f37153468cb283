"""The contract between pipelines, networks and the engine: one `Call` is one row of one forward.

Calls are pure data: the engine may batch, split, bisect and retry them. A network has no state but its weights.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from perfuse.models.lora import Adaptation

Output = Mapping[str, Tensor]
"""What one call gives, unbatched: "logits" [L, V], "x0" [L, D], "hidden" [D] or [L, D], "grad" like x0."""

LOGITS = frozenset({"logits"})


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One row of one forward.

    Attributes:
        network: who computes it.
        inputs: unbatched tensors, for example `tokens` [L] int64, or `x` [L, D] and `t` [] float32.
        want: the outputs asked for.
        adaptation: what is added to the network for this row; rows of several may share a batch.
        energy: a scalar function of this row's x0 [L, D]; the output then carries "grad" = d energy / d x.
    """

    network: Network
    inputs: Mapping[str, Tensor]
    want: frozenset[str] = LOGITS
    adaptation: Adaptation | None = None
    energy: Callable[[Tensor], Tensor] | None = None


@runtime_checkable
@runtime_checkable
class Network(Protocol):
    """A set of weights that computes rows.

    Attributes:
        name: `model@version`, part of every key.
        reproducible_rows: R: reproducible rows are computed in blocks of exactly R rows (padded by repetition by the
            caller of `forward`), because kernels choose their order of summation by the number of rows.
    """

    @property
    def name(self) -> str:
        """`model@version`."""
        ...

    @property
    def reproducible_rows(self) -> int:
        """R."""
        ...

    def key(self, call: Call) -> Hashable:
        """Calls with equal keys may share a batch. Depends on this call alone: length bucket, want, has-energy."""
        ...

    def forward(self, calls: Sequence[Call]) -> Sequence[Output]:
        """Outputs in the order of `calls`. No side effects; output i depends on calls[i] only."""
        ...
