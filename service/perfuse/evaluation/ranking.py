"""How well a number ranks items: AUROC and correlations, with intervals by resampling the items."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]
"""`[n]` float64."""
Measure = Callable[[Numbers, Numbers], float]
"""Of scores and outcomes; NaN where it is not defined for them."""
DRAWS = 1000


def ranks(values: Numbers) -> Numbers:
    """Ranks from 1, equal values at the mean of theirs."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2)[which], dtype=np.float64)


def auroc(scores: Numbers, positive: Numbers) -> float:
    """Chance that a positive item (1) scores above a negative one (0), ties half; NaN where one kind is missing.

    (Σ ranks of the positive − P(P + 1)/2) / (P N): the Mann–Whitney statistic (Hanley & McNeil, Radiology 143, 1982).
    """
    many = float(positive.sum())
    few = len(positive) - many
    if many == 0 or few == 0:
        return float("nan")
    return float((ranks(scores) @ positive - many * (many + 1) / 2) / (many * few))


def pearson(scores: Numbers, values: Numbers) -> float:
    """Correlation; NaN where one of the two does not vary."""
    left, right = scores - scores.mean(), values - values.mean()
    spread = float(np.sqrt((left @ left) * (right @ right)))
    return float(left @ right) / spread if spread > 0 else float("nan")


def spearman(scores: Numbers, values: Numbers) -> float:
    """Correlation of the ranks; NaN where one of the two does not vary."""
    return pearson(ranks(scores), ranks(values))


def bootstrap(
    measure: Measure, scores: Sequence[float], outcomes: Sequence[float], draws: int = DRAWS, seed: int = 0
) -> tuple[float, float, float]:
    """The measure, and the 2.5 and 97.5 percentiles of it over items drawn with replacement (Efron, 1979).

    Draws for which it is not defined are left out; NaN where it is defined for none.
    """
    told, found = np.asarray(scores, dtype=np.float64), np.asarray(outcomes, dtype=np.float64)
    rng = np.random.default_rng(seed)
    drawn = (rng.integers(0, len(told), len(told)) for _ in range(draws))
    values = np.array([measure(told[chosen], found[chosen]) for chosen in drawn])
    values = values[np.isfinite(values)]
    whole = measure(told, found)
    if len(values) == 0:
        return whole, float("nan"), float("nan")
    low, high = np.percentile(values, (2.5, 97.5))
    return whole, float(low), float(high)
