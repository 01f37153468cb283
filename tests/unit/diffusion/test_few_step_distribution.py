"""Samples of few steps against their exact distribution, computed by enumeration over a table of known joint.

A few-step sampler is not the joint, however good its network: tokens of one step do not see each other. What it is,
follows from its transition probabilities, written down here once more and multiplied out.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import cache

import pytest
import torch

from perfuse.diffusion.core import DiffusionCore
from perfuse.diffusion.samplers import DiscreteSampler
from perfuse.diffusion.schedules import Kind

MASK = 1
WORDS = (0, 2, 3)
LENGTH = 3
Tokens = tuple[int, ...]
Held = tuple[float, ...]
State = tuple[Tokens, Held]
"""Tokens, and of each placed one the probability it was placed with."""


@cache
def joint() -> dict[Tokens, float]:
    """A table far from a product: 27 texts, a few of them likely."""
    weights = torch.rand(27, generator=torch.Generator().manual_seed(5), dtype=torch.float64) ** 4 + 1e-3
    return dict(zip(itertools.product(WORDS, repeat=LENGTH), (weights / weights.sum()).tolist(), strict=True))


@cache
def told(tokens: Tokens, place: int) -> dict[int, float]:
    """What the table says of a masked place, given what stands elsewhere."""
    found: defaultdict[int, float] = defaultdict(float)
    for text, probability in joint().items():
        if all(token in (MASK, text[i]) for i, token in enumerate(tokens) if i != place):
            found[text[place]] += probability
    total = sum(found.values())
    return {token: share / total for token, share in found.items()}


@cache
def oracle_row(tokens: Tokens) -> torch.Tensor:
    logits = torch.full((LENGTH, 4), -torch.inf, dtype=torch.float64)
    for place in range(LENGTH):
        for token, share in told(tokens, place).items():
            logits[place, token] = math.log(share)
    return logits


def oracle(rows: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    return [oracle_row(tuple(row.tolist())) for row in rows]


Chances = Callable[[Tokens, Held, int, int], tuple[float, list[float]]]
"""With so many of so many steps to go: the chance that a masked place is revealed, and that each place is masked."""


def outcomes(state: State, reveal: float, back: Sequence[float]) -> Iterator[tuple[State, float]]:
    """Where one step leads, and how likely."""
    tokens, held = state
    choices: list[list[tuple[int, float, float]]] = []
    for place, token in enumerate(tokens):
        if token == MASK:
            drawn = [(word, share, reveal * share) for word, share in told(tokens, place).items()]
            choices.append([(MASK, 0.0, 1 - reveal), *drawn])
        else:
            choices.append([(token, held[place], 1 - back[place]), (MASK, 0.0, back[place])])
    for combined in itertools.product(*choices):
        probability = math.prod(chance for _, _, chance in combined)
        if probability > 0:
            yield (tuple(c[0] for c in combined), tuple(c[1] for c in combined)), probability


def exact(chances: Chances, steps: int) -> dict[Tokens, float]:
    """The distribution of finished texts, step by step over all states."""
    states: dict[State, float] = {((MASK,) * LENGTH, (0.0,) * LENGTH): 1.0}
    for left in range(steps, 0, -1):
        after: defaultdict[State, float] = defaultdict(float)
        for state, probability in states.items():
            for nxt, chance in outcomes(state, *chances(*state, left, steps)):
                after[nxt] += probability * chance
        states = after
    done: defaultdict[Tokens, float] = defaultdict(float)
    for (tokens, _), probability in states.items():
        done[tokens] += probability
    assert sum(done.values()) == pytest.approx(1.0)
    return done


def kept(kind: Kind, t: float) -> float:
    """ᾱ(t)."""
    if kind == "cosine":
        return (math.cos((t + 0.008) / 1.008 * math.pi / 2) / math.cos(0.008 / 1.008 * math.pi / 2)) ** 2
    return math.exp(-(0.1 * t + 9.95 * t * t)) if kind == "linear" else 1 - t


def mdlm(kind: Kind) -> Chances:
    def chances(_tokens: Tokens, _held: Held, left: int, of: int) -> tuple[float, list[float]]:
        now, then = kept(kind, left / of), kept(kind, (left - 1) / of)
        return (then - now) / (1 - now), [0.0] * LENGTH

    return chances


def remdm(variant: str, eta: float) -> Chances:
    def chances(tokens: Tokens, held: Held, left: int, of: int) -> tuple[float, list[float]]:
        t, s = left / of, (left - 1) / of
        now, then = (loop(t), loop(s)) if variant == "loop" else (1 - t, 1 - s)
        most = 1.0 if now == 0 else min(1.0, (1 - then) / now)
        placed = [i for i, token in enumerate(tokens) if token != MASK]
        if variant == "conf":
            soft = {i: math.exp(-held[i]) for i in placed}
            back = [most * soft[i] / sum(soft.values()) if i in soft else 0.0 for i in range(LENGTH)]
            return (then - now) / (1 - now), back if left > 1 else [0.0] * LENGTH
        sigma = {"cap": min(eta, most), "rescale": eta * most, "loop": min(eta, most) * (0.05 < t <= 0.55)}[variant]
        return (then - (1 - sigma) * now) / (1 - now), [sigma if left > 1 else 0.0] * LENGTH

    return chances


def loop(t: float) -> float:
    return min(0.9, 0.9 * (1 - t) / 0.45) if t > 0.05 else 1 - 2 * t


def p_value(counts: Counter[Tokens], expected: dict[Tokens, float]) -> float:
    """Pearson's chi-square; texts expected less than 5 times are one cell."""
    n = sum(counts.values())
    cells = [(counts[text], n * share) for text, share in expected.items() if n * share >= 5]
    rest = (n - sum(c for c, _ in cells), n - sum(e for _, e in cells))
    cells += [rest] if rest[1] > 1e-9 else []
    assert rest[1] > 1e-9 or rest[0] == 0
    statistic = sum((count - mean) ** 2 / mean for count, mean in cells)
    half = torch.tensor([(len(cells) - 1) / 2, statistic / 2], dtype=torch.float64)
    return float(torch.special.gammaincc(half[0], half[1]))


def sampled(sampler: DiscreteSampler, n: int, seed: int) -> Counter[Tokens]:
    canvas = torch.full((LENGTH,), MASK)
    done = DiffusionCore(oracle, sampler).generate([canvas] * n, seed=seed)
    return Counter(tuple(row.tokens.tolist()) for row in done)


@pytest.mark.parametrize("steps", [1, 2, 3, 8])
def test_ancestral_samples_have_the_exact_distribution_of_their_steps(steps: int) -> None:
    counts = sampled(DiscreteSampler("ancestral", temperature=1.0, steps=steps), 600, seed=10_000 * steps)
    assert p_value(counts, exact(mdlm("log-linear"), steps)) > 1e-3
    if steps == 1:
        assert p_value(counts, joint()) < 1e-12  # the table's own distribution it is not, and the test would notice


@pytest.mark.parametrize("kind", ["cosine", "linear"])
def test_other_schedules_have_their_own_exact_distribution(kind: Kind) -> None:
    counts = sampled(DiscreteSampler("ancestral", temperature=1.0, steps=3, schedule=kind), 500, seed=7)
    assert p_value(counts, exact(mdlm(kind), 3)) > 1e-3


@pytest.mark.parametrize(
    ("variant", "eta", "steps"), [("cap", 0.3, 3), ("rescale", 0.6, 3), ("conf", 0.0, 3), ("loop", 0.4, 5)]
)
def test_remasking_samples_have_the_exact_distribution_of_their_steps(variant: str, eta: float, steps: int) -> None:
    sampler = DiscreteSampler(f"remdm_{variant}", temperature=1.0, steps=steps, eta=eta)
    wanted = exact(remdm(variant, eta), steps)
    assert p_value(sampled(sampler, 500, seed=77), wanted) > 1e-3
    assert distance(wanted, exact(mdlm("log-linear"), steps)) > 0.005  # remasking does make a difference


def distance(a: dict[Tokens, float], b: dict[Tokens, float]) -> float:
    """Total variation."""
    return sum(abs(a.get(text, 0.0) - b.get(text, 0.0)) for text in {*a, *b}) / 2


def test_more_steps_come_closer_to_the_joint() -> None:
    away = [distance(exact(mdlm("log-linear"), steps), joint()) for steps in (1, 2, 4, 16, 64)]
    assert away == sorted(away, reverse=True)
    assert away[0] > 0.2
    assert away[-1] < 0.02
