"""Split-conformal thresholds: how unusual a score is among those of items that were right.

If a new right item and the `n` calibration items are exchangeable, its score exceeds `threshold(scores, level)` with a
chance of at most `level`, whatever the scores' distribution (Vovk, Gammerman & Shafer, 2005; arXiv 2107.07511).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from perfuse.errors import InvalidRequest

Scores = npt.NDArray[np.float64]
"""`[n]` float64, ascending."""


def quantile(scores: Scores, value: float) -> float:
    """Share of the calibration scores below `value`, #{s < value} / (n + 1), in [0, 1)."""
    return int(np.searchsorted(scores, value, side="left")) / (len(scores) + 1)


def threshold(scores: Scores, level: float) -> float:
    """The ⌈(n + 1)(1 − level)⌉-th smallest of the scores; infinite where n is too small to tell.

    Raises:
        InvalidRequest: `level` is not between 0 and 1.
    """
    if not 0.0 < level < 1.0:
        raise InvalidRequest(f"level is {level}; expected a number between 0 and 1")
    rank = math.ceil((len(scores) + 1) * (1.0 - level) - 1e-9)
    return float(scores[rank - 1]) if rank <= len(scores) else math.inf


def p_value(scores: Scores, value: float) -> float:
    """(1 + #{s ≥ value}) / (n + 1): at most `level` exactly where `value` exceeds `threshold(scores, level)`."""
    above = len(scores) - int(np.searchsorted(scores, value, side="left"))
    return (1 + above) / (len(scores) + 1)


def next_level(level: float, target: float, *, erred: bool, rate: float = 0.01) -> float:
    """α_{t+1} = α_t + γ (α − err_t): the level of the next step under drift, fed by verified outcomes.

    The share of errors over T steps then differs from the target by at most (max(α₁, 1 − α₁) + γ) / (γ T), whatever
    the items are. Source: adaptive conformal inference, arXiv 2106.00170, equation 2 and proposition 4.1.

    Args:
        level: α_t. At or below 0 nothing triggers, from 1 on everything does.
        target: α, the share of false triggers that is wanted.
        erred: whether step t was a false trigger.
        rate: γ.
    """
    return level + rate * (target - float(erred))
