"""The one Trainer: bf16 or fp32 compute over fp32 master weights, EMA, a budget in minutes, exact resumption."""

from __future__ import annotations

import logging
import math
import pickle
import struct
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from perfuse.errors import CheckpointError
from perfuse.models.precision import pick_dtype

log = logging.getLogger(__name__)
BatchT = TypeVar("BatchT")
_UNREADABLE = (
    OSError, EOFError, LookupError, AttributeError, TypeError, RuntimeError, ValueError, OverflowError, struct.error,
    pickle.UnpicklingError,
)  # fmt: skip
"""What bytes that are no saved state make `torch.load` and the optimisers raise."""


@dataclass(frozen=True, slots=True)
class TrainerConfig:
    """What a training run costs and how it steps.

    Attributes:
        minutes: wall-clock budget over all resumed parts; the learning rate falls to zero at its end.
        steps: number of updates, where the budget is not the clock's; `minutes` then only ends what takes too long.
        out: folder of `state.pt`.
        seed: of everything random.
        rate: peak learning rate.
        warmup: steps of linear warm-up.
        decay: weight decay of matrices.
        ema: decay of the average of the weights, which is what is shipped.
        dtype: of the forward and backward pass, `pick_dtype`'s where none is given; master weights are fp32.
        save_every: seconds between checkpoints.
        device: where to compute.
    """

    minutes: float
    out: Path
    seed: int = 0
    rate: float = 2e-3
    warmup: int = 100
    decay: float = 0.05
    ema: float = 0.997
    dtype: torch.dtype | None = None
    save_every: float = 180.0
    device: str = "cpu"
    steps: int | None = None


@dataclass(slots=True)
class Progress:
    """Where a run stands."""

    step: int = 0
    pool: int = 0
    position: int = 0
    seconds: float = 0.0
    samples: int = 0
    tokens: int = 0


class Trainer(Generic[BatchT]):
    """Trains one network. Matrices of the trunk step by Muon, everything else by AdamW.

    Args:
        model: the network; its parameters are the compute copy.
        loss: scalar loss of one batch; random draws come from the generator.
        pool: batches of pool number i, a function of i alone, so that a resumed run sees the same data.
        size: (samples, tokens) of a batch.
        config: see `TrainerConfig`.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[[nn.Module, BatchT, torch.Generator], Tensor],
        pool: Callable[[int], Sequence[BatchT]],
        size: Callable[[BatchT], tuple[int, int]],
        config: TrainerConfig,
    ) -> None:
        self.model, self.loss, self.pool, self.size, self.config = model, loss, pool, size, config
        self.progress = Progress()
        self.master = {name: p.detach().float().clone().requires_grad_() for name, p in self.trained()}
        self.average = {name: p.detach().clone() for name, p in self.master.items()}
        model.to(device=config.device, dtype=config.dtype or pick_dtype(device=config.device))
        matrices = [p for name, p in self.master.items() if p.ndim == 2 and ".blocks." in name and "adapt" not in name]
        others = [p for p in self.master.values() if not any(p is m for m in matrices)]
        self.optimisers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(others, lr=config.rate, betas=(0.9, 0.95), weight_decay=0.0)
        ]
        if matrices:
            self.optimisers.append(
                torch.optim.Muon(matrices, lr=config.rate, weight_decay=config.decay, adjust_lr_fn="match_rms_adamw")
            )
        self.generator = torch.Generator().manual_seed(config.seed)
        config.out.mkdir(parents=True, exist_ok=True)

    def trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The parameters that are trained, by name; frozen ones stay out of everything."""
        return ((name, p) for name, p in self.model.named_parameters() if p.requires_grad)

    @property
    def state_path(self) -> Path:
        """The resumable state."""
        return self.config.out / "state.pt"

    def rate(self) -> float:
        """Learning rate now: linear warm-up by steps, then a cosine to zero over the budget."""
        done = min(1.0, self.spent())
        warm = min(1.0, (self.progress.step + 1) / self.config.warmup)
        return self.config.rate * warm * 0.5 * (1 + math.cos(math.pi * done))

    def spent(self) -> float:
        """Share of the budget that is used up."""
        if self.config.steps is not None:
            return self.progress.step / self.config.steps
        return self.progress.seconds / (self.config.minutes * 60)

    def step(self, batch: BatchT) -> float:
        """One update; gives the loss."""
        loss = self.loss(self.model, batch, self.generator)
        loss.backward()  # type: ignore[no-untyped-call]
        for name, p in self.trained():
            self.master[name].grad = None if p.grad is None else p.grad.float()
            p.grad = None
        torch.nn.utils.clip_grad_norm_(self.master.values(), 1.0)
        rate = self.rate()
        for optimiser in self.optimisers:
            for parameters in optimiser.param_groups:
                parameters["lr"] = rate
            optimiser.step()
        decay = min(self.config.ema, (1 + self.progress.step) / (10 + self.progress.step))
        with torch.no_grad():
            for name, p in self.trained():
                p.copy_(self.master[name])
                self.average[name].lerp_(self.master[name], 1 - decay)
        return float(loss.detach())

    def batches(self) -> Iterator[BatchT]:
        """Batches from where the run stands, for ever."""
        while True:
            batches = self.pool(self.progress.pool)
            while self.progress.position < len(batches):
                yield batches[self.progress.position]
                self.progress.position += 1
            self.progress.pool, self.progress.position = self.progress.pool + 1, 0

    def run(self, watch: Callable[[Progress, float], None] | None = None) -> None:
        """Trains until the budget is spent; saves on the way and at the end.

        Args:
            watch: told after each step where the run stands, with its smoothed loss.
        """
        self.model.train()
        saved, last, shown, smooth = self.progress.seconds, time.monotonic(), 0.0, 0.0
        for batch in self.batches():
            if self.spent() >= 1 or self.progress.seconds >= self.config.minutes * 60:
                break
            loss = self.step(batch)
            smooth = loss if smooth == 0 else 0.98 * smooth + 0.02 * loss
            now = time.monotonic()
            self.progress.seconds, last = self.progress.seconds + now - last, now
            samples, tokens = self.size(batch)
            self.progress.step += 1
            self.progress.samples += samples
            self.progress.tokens += tokens
            if watch is not None:
                watch(self.progress, smooth)
            if self.progress.seconds - shown > 20:
                shown = self.progress.seconds
                log.info("step %d, %.1f of %.1f min, loss %.4f, %d samples, %.0f tokens/s", self.progress.step,
                         shown / 60, self.config.minutes, smooth, self.progress.samples,
                         self.progress.tokens / shown)  # fmt: skip
            if self.progress.seconds - saved > self.config.save_every:
                saved = self.progress.seconds
                self.save(after_batch=True)
        self.save()

    def averaged(self) -> Mapping[str, Tensor]:
        """The weights to ship: the exponential average, fp32, by parameter name."""
        return self.average

    def save(self, *, after_batch: bool = False) -> None:
        """Writes the state beside the old one, then renames it over."""
        progress = {name: getattr(self.progress, name) for name in Progress.__slots__}
        progress["position"] += int(after_batch)
        state = {
            "progress": progress,
            "master": {name: p.detach() for name, p in self.master.items()},
            "average": self.average,
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "generator": self.generator.get_state(),
            "seed": self.config.seed,
        }
        partial = self.state_path.with_suffix(".part")
        torch.save(state, partial)
        partial.replace(self.state_path)

    def resume(self) -> None:
        """Continues from the saved state.

        Raises:
            CheckpointError: the state is missing, damaged, or of another network or seed.
        """
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # damaged bytes may look like an odd pickle
                state = torch.load(self.state_path, weights_only=True)
            if state["seed"] != self.config.seed:
                raise CheckpointError(f"the saved run has seed {state['seed']}, expected {self.config.seed}")
            with torch.no_grad():
                for name, p in self.trained():
                    self.master[name].copy_(state["master"][name])
                    self.average[name].copy_(state["average"][name])
                    p.copy_(self.master[name])
            for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
                optimiser.load_state_dict(saved)
        except _UNREADABLE as error:
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(
                f"cannot resume from {self.state_path.name}: {str(error).partition(chr(10))[0]}",
                hint="start without --resume",
            ) from error
        self.generator.set_state(state["generator"])
        self.progress = Progress(**state["progress"])
