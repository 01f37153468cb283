"""Confidence intervals of published rates, means and differences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

Z = 1.959964
"""Standard errors on each side of a mean at 95 %."""


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean with its 95 % interval."""

    value: float
    low: float
    high: float


def mean_of(values: Sequence[float]) -> Mean:
    """Mean ± 1.96 s / √n of independent observations, s their standard deviation.

    Raises:
        ValueError: there are fewer than two.
    """
    if len(values) < 2:
        raise ValueError(f"expected at least two observations; got {len(values)}")
    centre, half = fmean(values), Z * stdev(values) / math.sqrt(len(values))
    return Mean(centre, centre - half, centre + half)


def paired(ours: Sequence[bool], theirs: Sequence[bool]) -> dict[str, object]:
    """How two ways differ on the same items: difference of the rates with its interval, items that only one passed.

    (won − lost) / n ± z √(won + lost − (won − lost)² / n) / n, the interval of a paired difference (Wald).

    Raises:
        ValueError: the items are not the same number, or there are none.
    """
    if len(ours) != len(theirs) or not ours:
        raise ValueError(f"expected the same items on both sides; got {len(ours)} and {len(theirs)}")
    n = len(ours)
    won = sum(a and not b for a, b in zip(ours, theirs, strict=True))
    lost = sum(b and not a for a, b in zip(ours, theirs, strict=True))
    difference = (won - lost) / n
    half = Z * math.sqrt(max(won + lost - (won - lost) ** 2 / n, 0.0)) / n
    return {
        "difference": round(difference, 4),
        "low": round(difference - half, 4),
        "high": round(difference + half, 4),
        "won": won,
        "lost": lost,
    }


def wilson(successes: int, trials: int, z: float = Z) -> tuple[float, float]:
    """95 % Wilson score interval of a rate.

    (p + z²/2n ± z √(p(1 − p)/n + z²/4n²)) / (1 + z²/n), p = successes / n (Wilson, JASA 1927). (0, 1) without trials.
    """
    if trials == 0:
        return 0.0, 1.0
    rate = successes / trials
    centre = rate + z * z / (2 * trials)
    half = z * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def clopper_pearson_upper(successes: int, trials: int, confidence: float = 0.95) -> float:
    """One-sided exact upper bound of a rate: the p with P(X ≤ successes | trials, p) = 1 − confidence.

    Source: Clopper & Pearson, Biometrika 26, 1934. 1 without trials, or where all succeeded.
    """
    if successes >= trials:
        return 1.0
    low, high = successes / trials, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if _at_most(successes, trials, middle) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def _at_most(successes: int, trials: int, rate: float) -> float:
    """P(X ≤ successes) of a binomial with 0 < rate < 1, or 1 at rate 0."""
    if rate <= 0.0:
        return 1.0
    whole = math.lgamma(trials + 1)
    yes, no = math.log(rate), math.log1p(-rate)
    return math.fsum(
        math.exp(whole - math.lgamma(k + 1) - math.lgamma(trials - k + 1) + k * yes + (trials - k) * no)
        for k in range(successes + 1)
    )
