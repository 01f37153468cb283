"""The maze2d recipe: hindsight plans, batches and a run of a second."""

from __future__ import annotations

import dataclasses
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from perfuse.models.planner import PlannerNetwork, load_planner
from perfuse.planning.control.rollout import Legs, collect
from perfuse.planning.mazes import MAZES
from perfuse.training.recipes.maze2d import MazeConfig, batches, hindsight_plans, main, plan_config, plan_loss

UMAZE = MAZES["maze2d-umaze"]
SMALL = MazeConfig(out=Path("unused"), width=16, blocks=1, samples=2000, batch=8)


@cache
def legs() -> Legs:
    return collect(UMAZE, 3000, seed=1)


def test_hindsight_plans_follow_the_data_and_rest_at_their_goal() -> None:
    config = plan_config(SMALL, UMAZE)
    plans = hindsight_plans(legs(), config, 200, np.random.default_rng(0))
    assert plans.shape == (200, 32, 4)
    assert (plans[:, -1, 2:] == 0).all()
    known = {state.tobytes() for state in legs().states}
    for plan in plans:
        assert plan[0].tobytes() in known
        moving = int(np.flatnonzero((plan[:, :2] != plan[-1, :2]).any(axis=1)).max(initial=0))
        assert (plan[moving + 1 :] == plan[-1]).all()
        assert all(state.tobytes() in known for state in plan[: moving + 1])


def test_hindsight_goals_never_cross_into_the_next_leg() -> None:
    config = plan_config(SMALL, UMAZE)
    n = 400
    states = np.arange(n, dtype=np.float32)[:, None].repeat(4, axis=1)
    ends = np.where(np.arange(n) < 150, 149, n - 1)
    plans = hindsight_plans(Legs(states, ends), config, 500, np.random.default_rng(0))
    first, last = plans[:, 0, 0].astype(int), plans[:, -1, 0].astype(int)
    assert (last <= ends[first]).all()
    assert (last - first <= config.steps).all()
    assert (last >= first).all()


def test_a_pool_is_a_function_of_seed_and_number() -> None:
    config = plan_config(SMALL, UMAZE)
    first, again = batches(legs(), config, 0, 4, 3), batches(legs(), config, 0, 4, 3)
    other = batches(legs(), config, 0, 4, 4)
    assert all(torch.equal(a.plans, b.plans) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0].plans, other[0].plans)
    assert first[0].plans.shape == (4, 32, 4)
    assert first[0].conditions.shape == (4, 6)
    assert float(first[0].plans.abs().max()) < 1.5


def test_the_loss_falls_within_a_few_steps() -> None:
    config = plan_config(SMALL, UMAZE)
    torch.manual_seed(0)
    network, random = PlannerNetwork(config), torch.Generator().manual_seed(0)
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
    losses = []
    for batch in batches(legs(), config, 0, 64, 0):
        loss = plan_loss(network, batch, random)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-8:]) < 0.5 * np.mean(losses[:4])


def test_a_run_writes_a_planner_that_loads_and_can_be_resumed(tmp_path: Path) -> None:
    config = dataclasses.replace(SMALL, out=tmp_path / "run", minutes=0.01, device="cpu")
    folder = main(config)
    loaded = load_planner(folder)
    assert loaded.config == plan_config(config, UMAZE)
    described = json.loads((folder / "config.json").read_text())["training"]
    assert described["samples"] == 2000
    assert "out" not in described
    main(dataclasses.replace(config, minutes=0.02, resume=True))
    resumed = json.loads((folder / "config.json").read_text())["training"]
    assert resumed["steps"] > described["steps"]
    assert resumed["seconds"] == pytest.approx(1.2, abs=1.0)
