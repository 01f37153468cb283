"""The Gaussian process against closed forms."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from perfuse.diffusion.gaussian import ddim_step, implied_noise, noise_level, noised, signal_level, time_grid

TIMES = st.floats(0.0, 1.0, allow_nan=False)


def wide(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def test_the_schedule_runs_from_pure_data_to_pure_noise() -> None:
    assert float(signal_level(wide(0.0))) == 1.0
    assert float(noise_level(wide(0.0))) == 0.0
    assert float(signal_level(wide(1.0))) == pytest.approx(0.0, abs=1e-15)
    assert float(noise_level(wide(1.0))) == 1.0


@pytest.mark.parametrize("t", [0.1, 0.25, 0.5, 0.9])
def test_the_signal_level_is_the_published_cosine(t: float) -> None:
    expected = math.cos((t + 0.008) / 1.008 * math.pi / 2) / math.cos(0.008 / 1.008 * math.pi / 2)
    assert float(signal_level(wide(t))) == pytest.approx(expected, rel=1e-12)


@given(TIMES)
def test_variance_is_preserved(t: float) -> None:
    assert float(signal_level(wide(t)) ** 2 + noise_level(wide(t)) ** 2) == pytest.approx(1.0, rel=1e-12)


@given(TIMES, TIMES)
def test_signal_falls_and_noise_grows_with_time(t: float, s: float) -> None:
    low, high = sorted((t, s))
    assert float(signal_level(wide(low))) >= float(signal_level(wide(high)))
    assert float(noise_level(wide(low))) <= float(noise_level(wide(high)))


@given(st.floats(0.01, 1.0), st.floats(-3, 3), st.floats(-3, 3))
def test_the_implied_noise_is_the_noise_that_was_added(t: float, x0: float, noise: float) -> None:
    x = noised(wide(x0), wide(noise), wide(t))
    assert float(implied_noise(x, wide(x0), wide(t))) == pytest.approx(noise, abs=1e-9)


@given(st.floats(0.02, 1.0), st.floats(0.0, 1.0), st.floats(-3, 3), st.floats(-3, 3))
def test_a_ddim_step_with_the_true_data_stays_on_the_trajectory(
    t: float, share: float, x0: float, noise: float
) -> None:
    s = t * share
    stepped = ddim_step(noised(wide(x0), wide(noise), wide(t)), wide(x0), wide(t), wide(s))
    assert float(stepped) == pytest.approx(float(noised(wide(x0), wide(noise), wide(s))), abs=1e-9)


def test_ddim_with_the_exact_denoiser_maps_noise_to_gaussian_data() -> None:
    """Data N(m, v): E[x0 | x_t] = m + α v (x − α m) / (α² v + σ²); the flow must give mean m and variance v."""
    mean, variance = 0.7, 0.09
    x = torch.special.ndtri((torch.arange(2001, dtype=torch.float64) + 0.5) / 2001)
    times = time_grid(256)
    for t, s in pairwise(times):
        a, v = signal_level(t), noise_level(t) ** 2
        x0 = mean + a * variance * (x - a * mean) / (a**2 * variance + v)
        x = ddim_step(x, x0, t, s)
    assert float(x.mean()) == pytest.approx(mean, abs=1e-6)
    assert float(x.var()) == pytest.approx(variance, rel=0.03)


@given(st.integers(1, 64))
def test_the_time_grid_has_even_steps_from_one_to_zero(steps: int) -> None:
    times = time_grid(steps)
    assert times.shape == (steps + 1,)
    assert (float(times[0]), float(times[-1])) == (1.0, 0.0)
    assert torch.allclose(times.diff(), torch.full((steps,), -1 / steps, dtype=torch.float64))
