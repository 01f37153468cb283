"""Block-wise masked diffusion: who sees whom, which blocks a training row is cut into, and what is masked in them.

A text is written in order of its blocks. A token that is settled sees the given text and the settled tokens before it;
the block being written sees all of that and itself, masks included; nobody sees what lies behind the block. So settled
tokens never change what they say (an exact cache is possible), and one row trains every block of its text at once: the
settled text, then a noised copy of it. Source: block diffusion, arXiv 2503.09573; blocks of one token make the settled
text an autoregressive model, whose loss is trained along (TiDAR, arXiv 2511.08923).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from perfuse.shapes import Bool, Int64

SIZES = (2, 4, 8, 16, 16, 32, 48)
"""Block lengths a training row is cut into; the sampler may use any of them as its window."""
FULLY_MASKED = 0.35
"""Share of the blocks that are masks only: a window is always entered so."""
NEVER = 1 << 30
"""Order of a position that nobody sees."""


def attends(order: Int64[Tensor, "rows length"]) -> Bool[Tensor, "rows length length"]:
    """Who (second axis) sees whom (third axis): position i sees j where `order[j] <= order[i]`.

    Given text has order 0, the i-th settled token 1 + i, the block being written one more than the last settled token,
    padding `NEVER`.
    """
    return order[:, None, :] <= order[:, :, None]


@dataclass(frozen=True, slots=True)
class Places:
    """Where everything of a batch of training rows lies; each row is given text, span, noised copy of the span.

    Attributes:
        index: place in its span of each position of the span or the copy; -1 for given text and padding.
        copy: whether the position belongs to the copy.
        keys: whether the position is real.
    """

    index: Int64[Tensor, "rows length"]
    copy: Bool[Tensor, "rows length"]
    keys: Bool[Tensor, "rows length"]

    def sees(self, starts: Int64[Tensor, "rows length"]) -> Bool[Tensor, "rows length length"]:
        """Who sees whom in training, with `starts` from `cut_blocks`: like `attends`, for all blocks at once."""
        as_key = torch.where(self.keys & ~self.copy, self.index + 1, NEVER)
        as_query = torch.where(self.copy, starts, self.index + 1)
        block = torch.where(self.copy, starts, -1)
        together = self.copy[:, None, :] & (block[:, None, :] == block[:, :, None])
        return (as_key[:, None, :] <= as_query[:, :, None]) | together


def cut_blocks(
    index: Int64[Tensor, "rows length"], generator: torch.Generator | None = None
) -> Int64[Tensor, "rows length"]:
    """For each position the place in the span where its block begins; every row is cut anew into blocks of `SIZES`."""
    rows, most = index.shape[0], int(index.max()) + 1
    sizes = torch.tensor(SIZES)[torch.randint(len(SIZES), (rows, most), generator=generator)]
    sizes[:, 0] = (torch.rand(rows, generator=generator) * sizes[:, 0]).floor().long() + 1
    ends = sizes.cumsum(dim=1)
    block = torch.searchsorted(ends, index.clamp(min=0), right=True)
    return torch.where(block > 0, ends.gather(1, (block - 1).clamp(min=0)), 0)


def mask_blocks(
    places: Places, starts: Int64[Tensor, "rows length"], generator: torch.Generator | None = None
) -> Bool[Tensor, "rows length"]:
    """What is masked of the copies: the first token of each block, the others at a rate drawn per block.

    The rate is 1 for a share `FULLY_MASKED` of the blocks, else uniform on (0, 1).
    """
    rows, most = places.index.shape[0], int(places.index.max()) + 1
    rates = (torch.rand(rows, most, generator=generator) / (1 - FULLY_MASKED)).gather(1, starts.clamp(max=most - 1))
    noised = torch.rand(places.index.shape, generator=generator) < rates
    return places.copy & (noised | (places.index == starts))
