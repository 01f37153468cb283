"""D4RL's scripted controller: shortest cell path to the target, then PD towards one noisy waypoint after the other."""

from __future__ import annotations

from collections import deque
from math import hypot

import numpy as np

from perfuse.planning.mazes import Array, Maze

Cell = tuple[int, int]
MOVES = ((0, -1), (-1, 0), (1, 0), (0, 1))
"""In the order in which D4RL's grid breaks ties between equally short paths."""
TOLERANCE = 0.1
P_GAIN, D_GAIN = 10.0, 1.0


def cell_of(position: Array) -> Cell:
    """The cell whose index is nearest."""
    return round(float(position[0])), round(float(position[1]))


def cell_path(maze: Maze, start: Cell, target: Cell) -> list[Cell]:
    """A shortest path of cells without `start`; just the target if the start is the target.

    Raises:
        ValueError: the target cannot be reached.
    """
    distance = {target: 0}
    pending = deque([target])
    while pending:
        r, c = pending.popleft()
        for dr, dc in MOVES:
            cell = (r + dr, c + dc)
            if cell not in distance and not maze.walls[cell]:
                distance[cell] = distance[r, c] + 1
                pending.append(cell)
    if start not in distance:
        msg = f"no path from cell {start} to cell {target} of {maze.name}"
        raise ValueError(msg)
    path, cell = [], start
    while cell != target:
        options = [(cell[0] + dr, cell[1] + dc) for dr, dc in MOVES]
        cell = min(options, key=lambda option: distance.get(option, len(distance)))
        path.append(cell)
    return path or [target]


class WaypointController:
    """Chooses an action for a state. It plans anew only when the target's cell changes.

    D4RL's reference script keeps one controller for all episodes, whose target never changes, so from the second
    episode on it follows waypoints computed for the first start. `forget` makes it plan anew.
    """

    def __init__(self, maze: Maze, rng: np.random.Generator) -> None:
        self._maze = maze
        self._rng = rng
        self._target: Cell | None = None
        self._waypoints: list[Array] = []
        self._index = 0
        self._previous: Array = np.zeros(2)

    def forget(self) -> None:
        """Plan anew at the next action."""
        self._target = None

    def action(self, state: Array, target: Array) -> tuple[Array, bool]:
        """The action `[2]` in [-1, 1] and whether the target has been reached and the ball is nearly at rest.

        A waypoint counts as reached within 0.1 m; "at rest" is a move of less than 0.1 m since the last call.
        """
        cell = cell_of(target)
        if cell != self._target:
            self._plan(state[:2], cell)
        position = state[:2]
        moved = hypot(*(self._previous - position))
        goal = np.array(cell, dtype=np.float64)
        solved = hypot(*(position - goal)) < TOLERANCE and moved < TOLERANCE
        aim = goal if solved else self._waypoints[self._index]
        action = np.clip(P_GAIN * (aim - position) - D_GAIN * state[2:], -1.0, 1.0)
        if not solved and hypot(*(position - aim)) < TOLERANCE and moved < TOLERANCE:
            self._index = min(self._index + 1, len(self._waypoints) - 1)
        self._previous = position.copy()
        return action, solved

    def _plan(self, position: Array, target: Cell) -> None:
        """Waypoints are cell indices less U(0, 0.2), since corridors are centred 0.2 below them; the last is exact."""
        path = cell_path(self._maze, cell_of(position), target)
        self._waypoints = [np.array(cell) - self._rng.uniform(0.0, 0.2, 2) for cell in path[:-1]]
        self._waypoints.append(np.array(target, dtype=np.float64))
        self._target, self._index = target, 0
        self._previous = np.array(cell_of(position), dtype=np.float64)
