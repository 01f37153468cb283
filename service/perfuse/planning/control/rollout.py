"""Episodes and data: what controllers and plans do in the simulator."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perfuse.planning.control.simulator import Simulator
from perfuse.planning.control.waypoints import WaypointController
from perfuse.planning.mazes import Array, Maze

TRACKING_P, TRACKING_D = 10.0, 1.0


@dataclass(frozen=True, slots=True)
class Episode:
    """What one episode came to: the return and the first step with a reward (None: never)."""

    returned: float
    arrival: int | None


@dataclass(frozen=True, slots=True)
class Legs:
    """One endless rollout, cut where the target changes.

    Attributes:
        states: `[n, 4]`, one every 10 ms.
        ends: index of the last state of each state's leg, `[n]`.
    """

    states: NDArray[np.float32]
    ends: NDArray[np.int64]


def collect(maze: Maze, samples: int, seed: int) -> Legs:
    """The way D4RL made its data: the controller runs to one random target (free cell ± 0.1 m) after the other.

    A new target is drawn once the old one is reached or after an episode's length; the ball is never reset.
    """
    rng = np.random.default_rng(seed)
    simulator = Simulator(maze)
    controller = WaypointController(maze, rng)
    states = np.empty((samples, 4), dtype=np.float32)
    ends: list[int] = []
    state = simulator.reset(rng)
    target, age = _random_target(maze, rng), 0
    for i in range(samples):
        states[i] = state
        action, solved = controller.action(state, target)
        state, _ = simulator.step(action)
        age += 1
        if solved or age >= maze.episode_steps:
            ends.append(i)
            target, age = _random_target(maze, rng), 0
    if not ends or ends[-1] != samples - 1:
        ends.append(samples - 1)
    boundaries = np.array(ends)
    return Legs(states, boundaries[np.searchsorted(boundaries, np.arange(samples))])


def _random_target(maze: Maze, rng: np.random.Generator) -> Array:
    return np.asarray(maze.starts[rng.integers(len(maze.starts))] + rng.uniform(-0.1, 0.1, 2))


def random_episode(simulator: Simulator, rng: np.random.Generator) -> Episode:
    """One episode of uniformly random actions."""
    simulator.reset(rng)
    return _episode([simulator.step(rng.uniform(-1.0, 1.0, 2))[1] for _ in range(simulator.maze.episode_steps)])


def controlled_episode(simulator: Simulator, controller: WaypointController, start: Array) -> Episode:
    """One episode of the controller from a start, towards the benchmark's goal."""
    simulator.place(start)
    rewards = []
    for _ in range(simulator.maze.episode_steps):
        action, _ = controller.action(simulator.state, simulator.goal)
        rewards.append(simulator.step(action)[1])
    return _episode(rewards)


def tracked_episode(simulator: Simulator, states: Array) -> Episode:
    """One episode that follows a plan `[n, 4]` open loop by PD (gains 10 and 1) and then holds the benchmark's goal.

    The plan's first state is the start; at each step the aim is the plan's next state.
    """
    simulator.place(states[0])
    hold = np.array([*simulator.maze.goal, 0.0, 0.0])
    rewards = []
    for i in range(simulator.maze.episode_steps):
        aim = states[i + 1] if i + 1 < len(states) else hold
        error = aim - simulator.state
        rewards.append(simulator.step(TRACKING_P * error[:2] + TRACKING_D * error[2:])[1])
    return _episode(rewards)


def _episode(rewards: list[float]) -> Episode:
    return Episode(sum(rewards), next((i for i, reward in enumerate(rewards) if reward), None))
