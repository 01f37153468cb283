"""A falling step function fitted to outcomes: from how unsure a text is to the chance that it is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perfuse.errors import InvalidRequest

Numbers = npt.NDArray[np.float64]
"""`[n]` float64."""


@dataclass(frozen=True, slots=True, eq=False)
class Falling:
    """A falling step function: `values[i]` from `edges[i]` on.

    Attributes:
        edges: `[k]`, ascending; below the first the first value holds.
        values: `[k]`, falling, in [0, 1].
    """

    edges: Numbers
    values: Numbers

    def at(self, score: float) -> float:
        """The value at `score`."""
        place = int(np.searchsorted(self.edges, score, side="right")) - 1
        return float(self.values[max(place, 0)])

    def as_json(self) -> dict[str, list[float]]:
        """Its two attributes, for `of_json`."""
        return {"edges": self.edges.tolist(), "values": self.values.tolist()}

    @classmethod
    def of_json(cls, told: Mapping[str, Sequence[float]]) -> Falling:
        """What `as_json` gave."""
        return cls(np.array(told["edges"], dtype=np.float64), np.array(told["values"], dtype=np.float64))


def fit_falling(
    scores: npt.ArrayLike, right: npt.ArrayLike, weights: npt.ArrayLike | None = None, *, prior: float = 1.0
) -> Falling:
    """The falling step function nearest to the outcomes in squares, by pooling adjacent violators.

    A block's value is the mean of its outcomes (Ayer et al., Annals of Mathematical Statistics 26, 1955), after `prior`
    items of the overall rate were added to it: a few items that were all right do not make the next one certain.

    Args:
        scores: `[n]`, higher where less sure.
        right: `[n]`, 0 or 1.
        weights: `[n]`, above 0: as how many items each counts; None: as one.
        prior: items.

    Raises:
        InvalidRequest: there are no items, or not one outcome per score.
    """
    at, outcomes = np.asarray(scores, dtype=np.float64), np.asarray(right, dtype=np.float64)
    if at.ndim != 1 or at.shape != outcomes.shape or len(at) == 0:
        raise InvalidRequest(f"expected one outcome per score, of at least 1; got {outcomes.shape} and {at.shape}")
    weight = np.ones_like(at) if weights is None else np.asarray(weights, dtype=np.float64)
    edges, which = np.unique(at, return_inverse=True)
    blocks: list[tuple[float, float, float]] = []  # edge, right, items
    for edge, good, items in zip(edges, np.bincount(which, weight * outcomes), np.bincount(which, weight), strict=True):
        blocks.append((float(edge), float(good), float(items)))
        while len(blocks) > 1 and blocks[-2][1] * blocks[-1][2] <= blocks[-1][1] * blocks[-2][2]:
            (edge_before, good_before, items_before), (_, good_now, items_now) = blocks[-2:]
            blocks[-2:] = [(edge_before, good_before + good_now, items_before + items_now)]
    overall = float(np.average(outcomes, weights=weight))
    values = np.array([(good + prior * overall) / (items + prior) for _, good, items in blocks])
    return Falling(np.array([edge for edge, _, _ in blocks]), np.minimum.accumulate(values))


def calibration_error(probabilities: npt.ArrayLike, right: npt.ArrayLike, bins: int = 15) -> float:
    """ECE: Σ |share right − mean probability| · share of items, over `bins` of equal width on [0, 1].

    Source: Naeini, Cooper & Hauskrecht, AAAI 2015; 15 bins as in arXiv 1706.04599.
    """
    told, outcomes = np.asarray(probabilities, dtype=np.float64), np.asarray(right, dtype=np.float64)
    bin_of = np.minimum((told * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(bin_of, outcomes - told, minlength=bins)
    return float(np.abs(gaps).sum() / max(len(told), 1))
