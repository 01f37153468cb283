"""Densifies plans and checks them: walls, speed and arrival. Plain geometry; it neither searches nor repairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perfuse.planning.mazes import SPEED_LIMIT, Array, Maze

SPEED_SLACK = 0.5
"""m/s by which a velocity component may exceed the clip: one step of full force adds 0.24, interpolation the rest."""
MOST_VIOLATIONS = 5


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong with a dense plan, and when it arrives.

    Attributes:
        collision_free: the ball overlaps no wall at any step, nor between two steps.
        arrival_step: first step from which the plan stays within the tolerance of the goal; None: never.
        violations: at most five sentences, in order of time.
    """

    collision_free: bool
    arrival_step: int | None
    violations: tuple[str, ...]

    @property
    def valid(self) -> bool:
        """Nothing is violated."""
        return not self.violations


def densify(plans: Array, stride: int, dt: float) -> Array:
    """Dense states `[N, (L − 1) · stride + 1, 4]` of plans `[N, L, 4]`: the cubic Hermite spline through their states.

    With h = stride · dt and u in [0, 1): p(u) = h00 p0 + h10 h v0 + h01 p1 + h11 h v1; velocities are dp/dt.
    """
    h = stride * dt
    u = (np.arange(stride) / stride)[:, None]
    p0, p1 = plans[:, :-1, None, :2], plans[:, 1:, None, :2]
    v0, v1 = plans[:, :-1, None, 2:] * h, plans[:, 1:, None, 2:] * h
    position = (
        (2 * u**3 - 3 * u**2 + 1) * p0 + (u**3 - 2 * u**2 + u) * v0 + (3 * u**2 - 2 * u**3) * p1 + (u**3 - u**2) * v1
    )
    velocity = ((6 * u**2 - 6 * u) * (p0 - p1) + (3 * u**2 - 4 * u + 1) * v0 + (3 * u**2 - 2 * u) * v1) / h
    inner = np.concatenate((position, velocity), axis=-1).reshape(len(plans), -1, 4)
    return np.concatenate((inner, plans[:, -1:]), axis=1)


def arrival_step(states: Array, goal: Array, tolerance: float) -> int | None:
    """First step from which all later states are within `tolerance` of the goal; None if the last one is not."""
    away = np.hypot(*(states[:, :2] - goal).T) > tolerance
    if away[-1]:
        return None
    return int(np.flatnonzero(away)[-1]) + 1 if away.any() else 0


def collisions(maze: Maze, states: Array) -> NDArray[np.bool_]:
    """Whether the ball overlaps a wall at, or half-way to, each step of dense plans `[N, n, 4]`; gives `[N, n]`.

    A step of 0.01 s at the speed limit is 7 cm long: between two checked points a ball cannot jump a unit wall.
    """
    position = states[..., :2]
    hits = maze.collides(position)
    hits[:, 1:] |= maze.collides((position[:, :-1] + position[:, 1:]) / 2)
    return hits


def verify(maze: Maze, plans: Array, goal: Array, tolerance: float) -> list[Verdict]:
    """Check dense plans `[N, n, 4]` against the walls, the speed limit and the goal; one verdict each."""
    hits = collisions(maze, plans)
    return [_verdict(states, hit, goal, tolerance) for states, hit in zip(plans, hits, strict=True)]


def _verdict(states: Array, hit: NDArray[np.bool_], goal: Array, tolerance: float) -> Verdict:
    found: list[tuple[int, str]] = []
    for step in np.flatnonzero(hit)[:MOST_VIOLATIONS].tolist():
        x, y = states[step, :2]
        found.append((step, f"step {step}: the ball touches a wall at ({x:.2f}, {y:.2f})"))
    fast = np.abs(states[:, 2:]).max(axis=1)
    found.extend(
        (step, f"step {step}: {fast[step]:.2f} m/s along one axis, the limit is {SPEED_LIMIT:g}")
        for step in np.flatnonzero(fast > SPEED_LIMIT + SPEED_SLACK)[:MOST_VIOLATIONS].tolist()
    )
    sentences = [sentence for _, sentence in sorted(found)[:MOST_VIOLATIONS]]
    arrived = arrival_step(states, goal, tolerance)
    if arrived is None:
        gap = float(np.hypot(*(states[-1, :2] - goal)))
        sentences = [
            *sentences[: MOST_VIOLATIONS - 1],
            f"ends {gap:.2f} m from the goal, the tolerance is {tolerance:g}",
        ]
    return Verdict(not hit.any(), arrived, tuple(sentences))
