"""The Trainer: it learns, stops at its budget, and a resumed run is the run that was not interrupted."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from perfuse.errors import CheckpointError
from perfuse.training.trainer import Trainer, TrainerConfig


class Tiny(nn.Module):
    """One trunk matrix (Muon) and one table (AdamW)."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList([nn.Linear(4, 4, bias=False)])
        self.table = nn.Parameter(torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks[0](x) + self.table  # type: ignore[no-any-return]


class Wrapped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = Tiny()

    def forward(self, x: Tensor) -> Tensor:
        return self.trunk(x)  # type: ignore[no-any-return]


def loss(model: nn.Module, batch: Tensor, generator: torch.Generator) -> Tensor:
    noise = 0.01 * torch.randn(batch.shape, generator=generator)
    return (model(batch + noise) - batch.flip(1)).square().mean()  # type: ignore[no-any-return]


def pool(index: int) -> Sequence[Tensor]:
    generator = torch.Generator().manual_seed(index)
    return [torch.randn(8, 4, generator=generator) for _ in range(3)]


def build(out: Path, **fields: float) -> Trainer[Tensor]:
    config = TrainerConfig(**{"minutes": 60.0, "out": out, "dtype": torch.float32, "warmup": 1, **fields})  # type: ignore[arg-type]
    return Trainer(Wrapped(), loss, pool, lambda batch: (len(batch), batch.numel()), config)


def steps(trainer: Trainer[Tensor], count: int) -> list[float]:
    losses = []
    for batch, _ in zip(trainer.batches(), range(count), strict=False):
        losses.append(trainer.step(batch))
        trainer.progress.step += 1
    return losses


def test_it_learns_with_both_optimisers(tmp_path: Path) -> None:
    trainer = build(tmp_path, rate=0.02)
    assert [type(o).__name__ for o in trainer.optimisers] == ["AdamW", "Muon"]
    losses = steps(trainer, 150)
    assert sum(losses[-10:]) < 0.2 * sum(losses[:10])


def test_a_resumed_run_continues_exactly(tmp_path: Path) -> None:
    whole = steps(build(tmp_path / "whole"), 10)
    first = build(tmp_path / "parts")
    steps(first, 4)
    first.save()
    second = build(tmp_path / "parts")
    second.resume()
    assert second.progress.step == 4
    assert (second.progress.pool, second.progress.position) == (1, 1)
    assert steps(second, 6) == whole[4:]


def test_the_budget_ends_the_run_and_the_rate_falls_to_zero(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = iter(range(0, 100_000, 5))
    monkeypatch.setattr("perfuse.training.trainer.time.monotonic", lambda: float(next(clock)))
    logger = logging.getLogger("test_trainer")  # other tests of the process may have changed the shared ones
    logger.setLevel(logging.INFO)
    logger.addHandler(caplog.handler)
    monkeypatch.setattr("perfuse.training.trainer.log", logger)
    trainer = build(tmp_path, minutes=2.0, save_every=30.0)
    trainer.run()
    assert trainer.progress.seconds == 120.0
    assert trainer.progress.step == 24
    assert trainer.progress.samples == 24 * 8
    assert trainer.rate() == pytest.approx(0.0)
    assert trainer.state_path.exists()
    assert not trainer.state_path.with_suffix(".part").exists()
    assert "of 2.0 min, loss" in caplog.text
    resumed = build(tmp_path, minutes=2.0)
    resumed.resume()
    resumed.run()
    assert resumed.progress.step == 24


def test_an_intermediate_state_points_behind_the_batch_that_was_learned(tmp_path: Path) -> None:
    trainer = build(tmp_path)
    next(trainer.batches())
    trainer.save(after_batch=True)
    resumed = build(tmp_path)
    resumed.resume()
    assert resumed.progress.position == 1


def test_the_average_lags_behind_the_weights(tmp_path: Path) -> None:
    trainer = build(tmp_path)
    steps(trainer, 5)
    for name, average in trainer.averaged().items():
        assert not torch.equal(average, trainer.master[name])


@pytest.mark.parametrize("damage", ["missing", "garbage", "other"])
def test_a_state_that_cannot_be_resumed_says_so(tmp_path: Path, damage: str) -> None:
    trainer = build(tmp_path)
    if damage == "garbage":
        trainer.state_path.write_bytes(b"not a state")
    elif damage == "other":
        torch.save({"seed": 0, "master": {}}, trainer.state_path)
    with pytest.raises(CheckpointError) as caught:
        trainer.resume()
    assert caught.value.detail.startswith("cannot resume from state.pt: ")
    assert caught.value.hint == "start without --resume"


def test_a_run_of_another_seed_is_not_continued(tmp_path: Path) -> None:
    build(tmp_path, seed=1).save()
    with pytest.raises(CheckpointError, match=r"^the saved run has seed 1, expected 2$"):
        build(tmp_path, seed=2).resume()
