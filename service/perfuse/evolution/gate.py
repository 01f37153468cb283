"""Whether a candidate may replace what is served: decided before it serves anyone, on data its trainer never saw.

Thresholds and where they come from:

- gain: one-sided exact McNemar p < 0.05 on at least 200 pairs. 200 pairs tell a gain of ten points from none with a
  power of 0.93 when one pair in five is discordant.
- anchors: the upper 95 % bound of the drop stays below 1 point (the project's promise to requests outside). With fewer
  than 368 anchors even no loss leaves more than that open, so fewer show neither harm nor safety.
- masked negative log-likelihood: less than 0.08 bits per token more (the gate of STABLE, arXiv 2510.16089).
- a forward takes at most 1.5 times as long: a low-rank adaptation costs 1.1 to 1.4 times (`perfuse bench adaptations`),
  more than that is a fault.
- memory at most 1.2 times the present (common practice of model roll-outs).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from perfuse.adaptation.isotonic import Falling
from perfuse.errors import InvalidRequest

Outcome = Literal["promote", "reject", "unproven"]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What a candidate has to keep; see the module for the sources of the defaults."""

    significance: float = 0.05
    pairs: int = 200
    anchors: int = 368
    anchor_drop: float = 0.01
    anchor_confidence: float = 0.95
    nll_bits: float = 0.08
    latency_ratio: float = 1.5
    memory_ratio: float = 1.2


@dataclass(frozen=True, slots=True)
class Pairs:
    """Outcomes of two models on the same tasks: how many, and how many only one of them got right."""

    n: int
    gained: int
    lost: int

    def __post_init__(self) -> None:
        if min(self.gained, self.lost) < 0 or self.gained + self.lost > self.n:
            raise InvalidRequest(f"expected 0 ≤ gained + lost ≤ n; got {self.gained} + {self.lost} of {self.n}")

    @staticmethod
    def of(before: Sequence[bool], after: Sequence[bool]) -> Pairs:
        """Pairs from what each model got right, task by task.

        Raises:
            InvalidRequest: the sequences are of different length.
        """
        if len(before) != len(after):
            raise InvalidRequest(f"expected as many outcomes after as before; got {len(after)} and {len(before)}")
        both = list(zip(before, after, strict=True))
        return Pairs(len(both), both.count((False, True)), both.count((True, False)))

    @property
    def change(self) -> float:
        """Accuracy after less accuracy before; 0 without pairs."""
        return (self.gained - self.lost) / self.n if self.n else 0.0


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of a candidate beside what is served now.

    Args:
        gain: pairs on the cluster's own tasks.
        anchors: pairs on tasks of everything else, with routing as in service; the domains each apart.
        nll_bits: increase of the masked negative log-likelihood on the anchors, in bits per token.
        latency_ratio: engine time per forward with the candidate over that without (`trial.latency_ratio`).
        memory_ratio: resident memory with the candidate over memory without.
        chance: that an answer of the candidate is right, by its doubt. Nothing is decided on it; it serves with it.
    """

    gain: Pairs
    anchors: dict[str, Pairs]
    nll_bits: float
    latency_ratio: float
    memory_ratio: float
    chance: Falling | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome, all reasons against (none for "promote"), and the figures it follows from."""

    outcome: Outcome
    reasons: tuple[str, ...]
    p_value: float
    anchor_bounds: dict[str, float]


def mcnemar(pairs: Pairs) -> float:
    """One-sided exact p-value of "the candidate is not better".

    P(X ≥ gained), X ~ Binomial(gained + lost, 1/2): under the null hypothesis either model wins a discordant pair
    with the same chance (McNemar, Psychometrika 12, 1947; exact form in Agresti, Categorical Data Analysis, §11.1).
    """
    return at_least_heads(pairs.gained, pairs.gained + pairs.lost)


def at_least_heads(heads: int, tosses: int) -> float:
    """P(X ≥ heads) for X ~ Binomial(tosses, 1/2), summed in integers."""
    ways = sum(math.comb(tosses, k) for k in range(heads, tosses + 1))
    return ways / (1 << tosses)


def clopper_pearson_upper(successes: int, trials: int, confidence: float) -> float:
    """Exact one-sided upper bound of a rate: the p at which P(X ≤ successes) = 1 - confidence.

    Clopper & Pearson, Biometrika 26, 1934. 1.0 without trials.
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


def clopper_pearson_lower(successes: int, trials: int, confidence: float) -> float:
    """Exact one-sided lower bound of a rate, by symmetry; 0.0 without trials."""
    return 1 - clopper_pearson_upper(trials - successes, trials, confidence)


def drop_upper_bound(anchors: Pairs, confidence: float) -> float:
    """Upper bound of the drop in accuracy, P(lost) - P(gained).

    The exact upper bound of the one less the exact lower bound of the other, each at half the error, so that both hold
    together with `confidence` (Bonferroni); never too small, whatever the dependence.
    """
    each = (1 + confidence) / 2
    lost = clopper_pearson_upper(anchors.lost, anchors.n, each)
    return lost - clopper_pearson_lower(anchors.gained, anchors.n, each)


def decide(measured: Measured, thresholds: Thresholds | None = None) -> Decision:
    """Promote, reject, or unproven when what was measured can neither show the gain nor rule out a harm.

    A harm that is shown rejects, also where the gain is still open. Figures that are not finite reject.
    """
    limits = thresholds or Thresholds()
    p_value = mcnemar(measured.gain)
    bounds = {name: drop_upper_bound(pairs, limits.anchor_confidence) for name, pairs in measured.anchors.items()}
    against = [*_harms(measured, limits), *_no_gain(measured.gain, p_value, limits)]
    if against:
        return Decision("reject", tuple(against), p_value, bounds)
    doubts = []
    if measured.gain.n < limits.pairs:
        doubts.append(f"{measured.gain.n} pairs; at least {limits.pairs} are needed to show a gain")
    if not measured.anchors:
        doubts.append("no anchors were measured")
    doubts += [
        f"anchors {name!r}: a drop of up to {100 * bound:.2f} points is open with {measured.anchors[name].n} pairs"
        for name, bound in bounds.items()
        if bound >= limits.anchor_drop
    ]
    return Decision("unproven" if doubts else "promote", tuple(doubts), p_value, bounds)


def _no_gain(gain: Pairs, p_value: float, limits: Thresholds) -> list[str]:
    if gain.n < limits.pairs or p_value < limits.significance:
        return []
    seen = f"{gain.gained} won and {gain.lost} lost of {gain.n} pairs, p = {p_value:.3f}"
    return [f"no gain is shown: {seen}; below {limits.significance} is needed"]


def _harms(measured: Measured, limits: Thresholds) -> list[str]:
    harms = [
        f"anchors {name!r} fell by {-100 * pairs.change:.2f} points; below {100 * limits.anchor_drop:g} is allowed"
        for name, pairs in measured.anchors.items()
        if pairs.n >= limits.anchors and -pairs.change >= limits.anchor_drop
    ]
    if not measured.nll_bits < limits.nll_bits:
        harms.append(
            f"masked NLL rose by {measured.nll_bits:.3f} bits per token; less than {limits.nll_bits} is allowed"
        )
    if not measured.latency_ratio <= limits.latency_ratio:
        harms.append(
            f"a forward takes {measured.latency_ratio:.2f} times as long; at most {limits.latency_ratio} is allowed"
        )
    if not measured.memory_ratio <= limits.memory_ratio:
        harms.append(
            f"memory is {measured.memory_ratio:.2f} times the present; at most {limits.memory_ratio} is allowed"
        )
    return harms


def _at_most(successes: int, trials: int, rate: float) -> float:
    """P(X ≤ successes) for X ~ Binomial(trials, rate), 0 < rate < 1."""
    log_p, log_q, log_all = math.log(rate), math.log1p(-rate), math.lgamma(trials + 1)
    return math.fsum(
        math.exp(log_all - math.lgamma(k + 1) - math.lgamma(trials - k + 1) + k * log_p + (trials - k) * log_q)
        for k in range(successes + 1)
    )
