"""Schedules: closed forms against numeric derivatives and identities."""

from __future__ import annotations

from typing import Literal

import pytest
import torch

from perfuse.diffusion.schedules import NoiseScheduler, logit_normal_times, stratified_times, uniform_times

KINDS: list[Literal["cosine", "log-linear"]] = ["cosine", "log-linear"]


@pytest.mark.parametrize("kind", KINDS)
def test_signal_goes_from_one_to_zero(kind: Literal["cosine", "log-linear"]) -> None:
    schedule = NoiseScheduler(kind)
    signal = schedule.alpha_bar(torch.linspace(0, 1, 101, dtype=torch.float64))
    assert float(signal[0]) == pytest.approx(1.0)
    assert float(signal[-1]) == pytest.approx(0.0, abs=1e-12)
    assert (signal.diff() < 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_beta_is_the_slope_of_the_logarithm(kind: Literal["cosine", "log-linear"]) -> None:
    schedule = NoiseScheduler(kind)
    t = torch.linspace(0.05, 0.95, 50, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(schedule.alpha_bar(t).log().sum(), t)
    assert torch.allclose(schedule.beta(t.detach()), -slope, rtol=1e-9)


def test_gaussian_noise_keeps_the_variance() -> None:
    schedule = NoiseScheduler()
    t = torch.linspace(0, 1, 21, dtype=torch.float64)
    assert torch.allclose(schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2, torch.ones_like(t))
    x = torch.randn(4000, 3, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(4000, 3, generator=torch.Generator().manual_seed(1))
    noised = schedule.add_noise(x, noise, torch.full((4000,), 0.4))
    assert float(noised.var()) == pytest.approx(1.0, abs=0.05)


def test_masks_fall_with_the_probability_of_their_time() -> None:
    schedule = NoiseScheduler("log-linear")
    uniforms = torch.rand(2, 20_000, generator=torch.Generator().manual_seed(0))
    masked = schedule.add_masks(torch.full((2, 20_000), 7), uniforms, torch.tensor([0.2, 0.9]), mask=1) == 1
    assert masked.float().mean(dim=1).tolist() == pytest.approx([0.2, 0.9], abs=0.01)


def test_stratified_times_cover_every_part_once() -> None:
    times = stratified_times(64, torch.Generator().manual_seed(0))
    parts = ((times - 1e-3) / (1 - 1e-3) * 64).floor().long()
    assert sorted(parts.tolist()) == list(range(64))
    assert torch.equal(times, NoiseScheduler().times(64, torch.Generator().manual_seed(0)))


def test_uniform_times_stay_inside() -> None:
    times = uniform_times(1000, torch.Generator().manual_seed(0))
    assert float(times.min()) >= 1e-3
    assert float(times.max()) < 1.0
    again = NoiseScheduler().times(1000, torch.Generator().manual_seed(0), how="uniform")
    assert torch.equal(times, again)


def test_logit_normal_times_gather_in_the_middle() -> None:
    times = logit_normal_times(20_000, torch.Generator().manual_seed(0))
    assert float(times.median()) == pytest.approx(0.5, abs=0.01)
    assert float(((times > 0.25) & (times < 0.75)).float().mean()) == pytest.approx(0.728, abs=0.01)
    assert torch.equal(
        times[:5], NoiseScheduler().times(20_000, torch.Generator().manual_seed(0), how="logit-normal")[:5]
    )
