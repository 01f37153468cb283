"""Counter-based noise: reproducible, independent of company, uniform and normal."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from perfuse.diffusion.noise import gaussian, gumbel, stream, uniform

GOLDEN = [0.20963489257426826, 0.6390301471252762, 0.7926808757454592, 0.39164579826415247]


def test_the_numbers_of_a_seed_never_change() -> None:
    drawn = uniform(7, "token", 3, torch.arange(4))
    assert drawn.tolist() == GOLDEN


@given(seed=st.integers(-(2**62), 2**62), step=st.integers(0, 500), offset=st.integers(0, 10_000))
def test_a_position_draws_the_same_number_in_any_company(seed: int, step: int, offset: int) -> None:
    many = uniform(seed, "token", step, torch.arange(offset, offset + 50))
    one = uniform(seed, "token", step, torch.tensor([offset + 17]))
    assert many[17] == one[0]
    assert bool(((many >= 0) & (many < 1)).all())


def test_purposes_steps_and_seeds_are_different_streams() -> None:
    assert len({stream(s, p, t) for s in range(5) for p in ("token", "order") for t in range(5)}) == 50


def test_uniforms_are_uniform_and_gaussians_normal() -> None:
    drawn = uniform(1, "x", 0, torch.arange(200_000))
    grid = torch.linspace(0, 1, 200_000, dtype=torch.float64)
    assert float((drawn.sort().values - grid).abs().max()) < 0.004  # Kolmogorov: P(> 0.0036) = 1 % at n = 200 000
    normal = gaussian(drawn)
    assert abs(float(normal.mean())) < 0.01
    assert abs(float(normal.std()) - 1) < 0.01
    assert bool(torch.isfinite(gaussian(torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64))).all())


def test_neighbouring_positions_are_uncorrelated() -> None:
    drawn = uniform(3, "x", 0, torch.arange(100_000)) - 0.5
    assert abs(float((drawn[1:] * drawn[:-1]).mean()) * 12) < 0.015


def test_gumbel_numbers_have_their_distribution_and_reach_into_the_tail() -> None:
    drawn = gumbel((torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000)
    assert abs(float(drawn.mean()) - 0.5772156649) < 1e-4
    assert abs(float(drawn.var()) - torch.pi**2 / 6) < 1e-3
    ends = gumbel(torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64))
    assert bool(torch.isfinite(ends).all())
    assert float(ends[1]) > 36.0  # single precision ends near 17
