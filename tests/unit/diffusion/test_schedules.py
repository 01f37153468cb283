"""Schedules: closed forms against numeric derivatives and identities."""

from __future__ import annotations

import math

import pytest
import torch

from perfuse.diffusion.schedules import (
    Kind,
    NoiseScheduler,
    Process,
    importance_times,
    logit_normal_times,
    stratified_times,
    uniform_times,
    unmask_probability,
)

KINDS: list[Kind] = ["cosine", "linear", "log-linear"]
TIMES = torch.linspace(0.05, 0.95, 50, dtype=torch.float64)


def decay(kind: Kind, t: float) -> float:
    """ᾱ(t) as published."""
    if kind == "cosine":
        return (math.cos((t + 0.008) / 1.008 * math.pi / 2) / math.cos(0.008 / 1.008 * math.pi / 2)) ** 2
    return math.exp(-(0.1 * t + 19.9 * t * t / 2)) if kind == "linear" else 1 - t


@pytest.mark.parametrize("kind", KINDS)
def test_signal_goes_from_one_to_nearly_zero(kind: Kind) -> None:
    signal = NoiseScheduler(kind).alpha_bar(torch.linspace(0, 1, 101, dtype=torch.float64))
    assert float(signal[0]) == pytest.approx(1.0)
    assert float(signal[-1]) == pytest.approx(math.exp(-10.05) if kind == "linear" else 0.0, abs=1e-12)
    assert (signal.diff() < 0).all()


@pytest.mark.parametrize("process", ["gaussian", "masked"])
@pytest.mark.parametrize("kind", KINDS)
def test_alpha_sigma_and_snr_are_the_closed_forms(kind: Kind, process: Process) -> None:
    schedule = NoiseScheduler(kind, process)
    for t in (0.01, 0.2, 0.5, 0.8, 0.99):
        kept, at = decay(kind, t), torch.tensor(t, dtype=torch.float64)
        power = 0.5 if process == "gaussian" else 1.0
        assert float(schedule.alpha_bar(at)) == pytest.approx(kept, rel=1e-12)
        assert float(schedule.alpha(at)) == pytest.approx(kept**power, rel=1e-12)
        assert float(schedule.sigma(at)) == pytest.approx((1 - kept) ** power, rel=1e-12)
        assert float(schedule.snr(at)) == pytest.approx(kept / (1 - kept), rel=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_beta_is_the_slope_of_the_logarithm(kind: Kind) -> None:
    t = TIMES.clone().requires_grad_()
    (slope,) = torch.autograd.grad(NoiseScheduler(kind).alpha_bar(t).log().sum(), t)
    assert torch.allclose(NoiseScheduler(kind).beta(TIMES), -slope, rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_the_weights_of_the_bound_are_slopes_of_the_schedule(kind: Kind) -> None:
    t = TIMES.clone().requires_grad_()
    masked, gaussian = NoiseScheduler(kind, "masked"), NoiseScheduler(kind)
    (fall,) = torch.autograd.grad(masked.alpha(t).sum(), t)
    assert torch.allclose(masked.bound_weight(TIMES), -fall / masked.sigma(TIMES), rtol=1e-9)
    t = TIMES.clone().requires_grad_()
    (fall,) = torch.autograd.grad(gaussian.snr(t).sum(), t)
    assert torch.allclose(gaussian.bound_weight(TIMES), -fall / 2, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_unmasking_twice_is_unmasking_once(kind: Kind) -> None:
    """Still masked at 0.2 of what is masked at 0.9: the product over the way there, and (1 - ᾱ(0.2)) / (1 - ᾱ(0.9))."""
    t, m, s = (torch.tensor(value, dtype=torch.float64) for value in (0.9, 0.5, 0.2))
    once = 1 - unmask_probability(kind, t, s)
    assert float(once) == pytest.approx((1 - decay(kind, 0.2)) / (1 - decay(kind, 0.9)), rel=1e-12)
    twice = (1 - unmask_probability(kind, t, m)) * (1 - unmask_probability(kind, m, s))
    assert float(twice) == pytest.approx(float(once), rel=1e-12)
    assert float(unmask_probability(kind, t, t * 0)) == pytest.approx(1.0, rel=1e-12)


def test_gaussian_noise_keeps_the_variance() -> None:
    schedule = NoiseScheduler()
    t = torch.linspace(0, 1, 21, dtype=torch.float64)
    assert torch.allclose(schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2, torch.ones_like(t))
    x = torch.randn(4000, 3, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(4000, 3, generator=torch.Generator().manual_seed(1))
    noised = schedule.add_noise(x, noise, torch.full((4000,), 0.4))
    assert float(noised.var()) == pytest.approx(1.0, abs=0.05)


def test_masks_fall_with_the_probability_of_their_time() -> None:
    schedule = NoiseScheduler("log-linear", "masked")
    uniforms = torch.rand(2, 20_000, generator=torch.Generator().manual_seed(0))
    masked = schedule.add_masks(torch.full((2, 20_000), 7), uniforms, torch.tensor([0.2, 0.9]), mask=1) == 1
    assert masked.float().mean(dim=1).tolist() == pytest.approx([0.2, 0.9], abs=0.01)


def test_a_process_adds_only_its_own_noise() -> None:
    with pytest.raises(ValueError, match=r"^the process is masked, expected gaussian; masks are added by add_masks$"):
        NoiseScheduler("cosine", "masked").add_noise(torch.zeros(1), torch.zeros(1), torch.zeros(1))
    with pytest.raises(ValueError, match=r"^the process is gaussian, expected masked; Gaussian noise is added by add_"):
        NoiseScheduler().add_masks(torch.zeros(1, 1, dtype=torch.long), torch.zeros(1, 1), torch.zeros(1), 1)


def test_importance_times_keep_the_mean_at_the_least_variance() -> None:
    """A loss that is piecewise constant: drawn by it, every weighted sample is the integral itself."""
    losses = torch.tensor([1.0, 2.0, 9.0, 4.0])
    times, weights = importance_times(losses.square(), 1000, torch.Generator().manual_seed(0))
    parts = (times * 4).long()
    assert torch.allclose(weights * losses[parts], losses.mean().expand(1000), rtol=1e-5)
    assert (torch.bincount(parts, minlength=4) / 1000).tolist() == pytest.approx((losses / 16).tolist(), abs=2e-3)
    assert float(times.min()) >= 0.0
    assert float(times.max()) < 1.0
    again, flat = importance_times(torch.ones(8), 64, torch.Generator().manual_seed(3))
    assert torch.allclose(again, stratified_times(64, torch.Generator().manual_seed(3), least=0.0), atol=1e-6)
    assert torch.allclose(flat, torch.ones(64))


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
