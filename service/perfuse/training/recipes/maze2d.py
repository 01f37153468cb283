"""Recipe of `maze2d-umaze`: controller data, hindsight goals, x0-prediction under a cosine schedule."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from perfuse.diffusion.gaussian import noised
from perfuse.models.planner import GOAL, PlannerConfig, PlannerNetwork, save_planner
from perfuse.planning.control.rollout import Legs, collect
from perfuse.planning.mazes import DT, SPEED_LIMIT, Maze, layout
from perfuse.training.trainer import Trainer, TrainerConfig

log = logging.getLogger(__name__)
POOL_BATCHES = 64
SHAPES = {"maze2d-umaze": (32, 6), "maze2d-medium": (48, 8), "maze2d-large": (64, 9)}
"""Tokens and stride of a plan: the horizons 186, 376 and 567 steps cover the controller's longest legs."""


@dataclass(frozen=True, slots=True)
class MazeConfig:
    """What `perfuse train maze2d` takes.

    Attributes:
        out: folder for the data, the state and, at the end, the model (`model.safetensors`, `config.json`).
        maze: "umaze", "medium" or "large".
        minutes: wall-clock budget of the training.
        device: "cpu", "cuda" or "auto".
        seed: of data, initial weights and noise.
        resume: continue from `out/state.pt`.
        samples: simulator steps of data.
        batch: plans per update.
        width: of the network.
        blocks: of the network.
    """

    out: Path
    maze: str = "umaze"
    minutes: float = 4.0
    device: str = "auto"
    seed: int = 0
    resume: bool = False
    samples: int = 1_000_000
    batch: int = 256
    width: int = 384
    blocks: int = 4


@dataclass(frozen=True, slots=True)
class PlanBatch:
    """Normalised plans `[B, L, 4]` and their conditions `[B, 6]`."""

    plans: Tensor
    conditions: Tensor


def plan_config(config: MazeConfig, maze: Maze) -> PlannerConfig:
    """Units and sizes of the maze's planner."""
    tokens, stride = SHAPES[maze.name]
    middle = (maze.low + maze.high) / 2
    reach = (maze.high - maze.low) / 2 - 1.0
    return PlannerConfig(
        environment=maze.name,
        tokens=tokens,
        stride=stride,
        dt=DT,
        width=config.width,
        blocks=config.blocks,
        centre=(float(middle[0]), float(middle[1]), 0.0, 0.0),
        scale=(float(reach[0]), float(reach[1]), SPEED_LIMIT, SPEED_LIMIT),
        name=maze.name,
    )


def hindsight_plans(legs: Legs, config: PlannerConfig, rows: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Plans `[rows, L, 4]` cut from data, each going to a place where its leg really went.

    The goal is the leg's end or, for half of the rows, a random later step of the leg, as far as the horizon reaches.
    From the arrival on, the plan rests at (goal, 0), so the time of arrival is free. The goal is the last state.
    """
    start = rng.integers(0, len(legs.states), rows)
    last = np.minimum(legs.ends[start], start + config.steps)
    random_stop = start + np.floor(rng.random(rows) * (last - start + 1)).astype(np.int64)
    arrival = np.where(rng.random(rows) < 0.5, last, random_stop)
    index = start[:, None] + config.stride * np.arange(config.tokens)
    arrived = index >= arrival[:, None]
    arrived[:, 0] = False  # the first state is the start, also where the goal is under it
    plans: NDArray[np.float32] = legs.states[np.minimum(index, arrival[:, None])]
    plans[arrived, GOAL:] = 0.0
    return plans


def batches(legs: Legs, config: PlannerConfig, seed: int, batch: int, number: int) -> list[PlanBatch]:
    """Pool `number` of training batches, a function of the seed and the number alone."""
    rng = np.random.default_rng((seed, number))
    made = []
    for _ in range(POOL_BATCHES):
        states = torch.from_numpy(hindsight_plans(legs, config, batch, rng)).double()
        conditions = config.condition(states[:, 0], states[:, -1, :GOAL])
        made.append(PlanBatch(config.normalise(states).float(), conditions.float()))
    return made


def plan_loss(model: nn.Module, batch: PlanBatch, generator: torch.Generator) -> Tensor:
    """Mean squared error of x0 at a uniform time per row; the start state is inpainted as in sampling."""
    t = torch.rand(len(batch.plans), generator=generator)
    x = noised(batch.plans, torch.randn(batch.plans.shape, generator=generator), t[:, None, None])
    x[:, 0] = batch.plans[:, 0]
    device = next(model.parameters()).device
    predicted = model(x.to(device), t.to(device), batch.conditions.to(device))
    loss: Tensor = (predicted - batch.plans.to(device)).square().mean()
    return loss


def load_legs(config: MazeConfig, maze: Maze) -> Legs:
    """The controller's data, made on first use and kept beside the state."""
    path = config.out / f"{maze.name}-{config.samples}-{config.seed}.npz"
    if not path.exists():
        log.info("collecting %d steps of %s", config.samples, maze.name)
        legs = collect(maze, config.samples, config.seed)
        config.out.mkdir(parents=True, exist_ok=True)
        np.savez(path, states=legs.states, ends=legs.ends)
    with np.load(path) as stored:
        return Legs(stored["states"], stored["ends"])


def main(config: MazeConfig) -> Path:
    """Train, write the averaged weights to `config.out` and give that folder."""
    maze = layout(config.maze)
    legs = load_legs(config, maze)
    plan = plan_config(config, maze)
    torch.manual_seed(config.seed)
    device = config.device if config.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
    trainer: Trainer[PlanBatch] = Trainer(
        PlannerNetwork(plan),
        plan_loss,
        lambda number: batches(legs, plan, config.seed, config.batch, number),
        lambda batch: (len(batch.plans), len(batch.plans) * plan.tokens),
        TrainerConfig(
            config.minutes, config.out, seed=config.seed, rate=1e-3, ema=0.998, dtype=torch.float32, device=device
        ),
    )
    if config.resume:
        trainer.resume()
    trainer.run()
    progress = trainer.progress
    training = {
        **{name: value for name, value in asdict(config).items() if name not in ("out", "resume", "device")},
        "steps": progress.step,
        "seconds": round(progress.seconds, 1),
        "plans": progress.samples,
    }
    save_planner(config.out, plan, trainer.averaged(), training)
    return config.out
