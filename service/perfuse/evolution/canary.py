"""The canary: a candidate runs beside the champion on live rows until it is promoted, rolled back or given up.

Each row gives one pair of outcomes. The test looks after every row, so it must be valid at any stopping time: a p-value
is not, an e-value is. By Ville's inequality an e-process that starts at 1 ever reaches 1/α with a chance of at most α
when the null hypothesis holds (Ramdas et al., Game-theoretic statistics and safe anytime-valid inference, Statistical
Science 38, 2023, arXiv 2210.01948).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from perfuse.evolution.gate import Pairs, at_least_heads

Verdict = Literal["wait", "promote", "roll_back", "give_up"]


@dataclass(frozen=True, slots=True)
class Rules:
    """When a canary ends.

    Args:
        error: chance of rolling back a candidate that is no worse, and of promoting an unproven one that is no better.
        rows: rows after which a candidate whose gain the gate has shown is promoted, if it is not behind.
        most_rows: rows after which a canary that shows nothing is given up.
    """

    error: float = 0.05
    rows: int = 50
    most_rows: int = 2000


def e_value(wins: int, losses: int) -> float:
    """Evidence that a discordant pair is won with a chance above 1/2, against at most 1/2.

    e = ∫ 2 (2θ)^wins (2(1 - θ))^losses dθ over θ in [1/2, 1]
      = 2^(n+1) B(wins + 1, losses + 1) P(X > losses), n = wins + losses, X ~ Binomial(n + 1, 1/2):
    the likelihood ratio against a fair coin, mixed over all better coins (method of mixtures, Robbins, Annals of
    Mathematical Statistics 41, 1970). Each factor is a bet with expectation at most 1 under the null hypothesis.
    """
    n = wins + losses
    log_beta = math.lgamma(wins + 1) + math.lgamma(losses + 1) - math.lgamma(n + 2)
    log_e = (n + 1) * math.log(2) + log_beta + math.log(at_least_heads(losses + 1, n + 1))
    return math.exp(min(log_e, 700.0))


def verdict(pairs: Pairs, *, proven: bool, rules: Rules | None = None) -> Verdict:
    """What to do after these rows.

    Args:
        pairs: outcomes so far, champion before and candidate after.
        proven: whether the gate has shown the gain. An unproven candidate is promoted by its e-value alone.
        rules: when the canary ends.
    """
    limits = rules or Rules()
    if e_value(pairs.lost, pairs.gained) >= 1 / limits.error:
        return "roll_back"
    if proven and pairs.n >= limits.rows and pairs.gained >= pairs.lost:
        return "promote"
    if not proven and e_value(pairs.gained, pairs.lost) >= 1 / limits.error:
        return "promote"
    return "give_up" if pairs.n >= limits.most_rows else "wait"
