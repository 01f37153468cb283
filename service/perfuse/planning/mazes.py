"""The three layouts of D4RL's maze2d and their geometry in observation coordinates.

Rows are the first axis (x), columns the second (y). The ball's body sits at (1.2, 1.2) and the wall of cell (r, c) is a
unit box centred at (r + 1, c + 1), so in observation coordinates cell (r, c) covers [r − 0.7, r + 0.3] in x, and
likewise in y. Source of layouts, lengths and reference scores: D4RL (arXiv 2004.07219), `d4rl/pointmaze`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from perfuse.errors import ConfigError

BALL_RADIUS = 0.1
DT = 0.01
SPEED_LIMIT = 5.0
"""Each velocity component is clipped to ± this, in m/s, before every step."""
BODY_OFFSET = 1.2
CELL_LOW, CELL_HIGH = -0.7, 0.3
REWARD_RADIUS = 0.5
CONTACT_SLACK = 0.02
"""Depth in metres to which the ball may overlap a wall: the simulator's contacts are soft."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Maze:
    """One layout.

    Attributes:
        name: as in `environment` of a request.
        rows: `#` is wall, `O` free, `G` the goal of the benchmark.
        goal: the benchmark's goal in metres.
        episode_steps: length of an episode; it never ends early.
        reference_min: D4RL's return of a random policy, the score 0.
        reference_max: D4RL's return of its controller script, the score 100.
    """

    name: str
    rows: tuple[str, ...]
    goal: tuple[float, float]
    episode_steps: int
    reference_min: float
    reference_max: float

    @cached_property
    def walls(self) -> NDArray[np.bool_]:
        """Which cells are wall, `[rows, columns]`."""
        return np.array([[tile == "#" for tile in row] for row in self.rows])

    @cached_property
    def starts(self) -> Array:
        """Cells in which an episode may begin, free ones in reading order and then the goal, `[n, 2]`."""
        free = [(r, c) for r, row in enumerate(self.rows) for c, tile in enumerate(row) if tile == "O"]
        goal = [(r, c) for r, row in enumerate(self.rows) for c, tile in enumerate(row) if tile == "G"]
        return np.array(free + goal, dtype=np.float64)

    @property
    def low(self) -> Array:
        """Smallest coordinates of the outer walls, `[2]`."""
        return np.array([CELL_LOW, CELL_LOW])

    @property
    def high(self) -> Array:
        """Largest coordinates of the outer walls, `[2]`."""
        return np.array(self.walls.shape, dtype=np.float64) - 1 + CELL_HIGH

    def in_wall(self, positions: Array) -> NDArray[np.bool_]:
        """Whether points `[..., 2]` lie in a wall or outside the maze."""
        return np.asarray(self.clearance(positions) <= 0)

    def clearance(self, positions: Array) -> Array:
        """Distance of points `[..., 2]` to the nearest wall, 0 inside one; only walls within one cell are seen.

        A ball fits where this is at least its radius. Points outside the maze have clearance 0.
        """
        positions = np.asarray(positions, dtype=np.float64)
        cells = np.floor(positions - CELL_LOW).astype(np.int64)
        nearest = np.full(positions.shape[:-1], np.inf)
        for dr in (-1, 0, 1):
            for dc in (-1, 0, 1):
                r, c = cells[..., 0] + dr, cells[..., 1] + dc
                inside = (r >= 0) & (r < self.walls.shape[0]) & (c >= 0) & (c < self.walls.shape[1])
                wall = ~inside | self.walls[r.clip(0, self.walls.shape[0] - 1), c.clip(0, self.walls.shape[1] - 1)]
                low = np.stack((r, c), axis=-1) + CELL_LOW
                gap = np.maximum(np.maximum(low - positions, positions - (low + 1.0)), 0.0)
                nearest = np.where(wall, np.minimum(nearest, np.hypot(gap[..., 0], gap[..., 1])), nearest)
        return nearest

    def collides(self, positions: Array) -> NDArray[np.bool_]:
        """Whether a ball centred at `[..., 2]` overlaps a wall by more than the contact slack."""
        return np.asarray(self.clearance(positions) < BALL_RADIUS - CONTACT_SLACK)

    def score(self, returned: float) -> float:
        """D4RL's normalised score of a return: 100 (return − min) / (max − min)."""
        return 100.0 * (returned - self.reference_min) / (self.reference_max - self.reference_min)


MAZES = {
    maze.name: maze
    for maze in (
        Maze("maze2d-umaze", ("#####", "#GOO#", "###O#", "#OOO#", "#####"), (1.0, 1.0), 300, 23.85, 161.86),
        Maze(
            "maze2d-medium",
            ("########", "#OO##OO#", "#OO#OOO#", "##OOO###", "#OO#OOO#", "#O#OO#O#", "#OOO#OG#", "########"),
            (6.0, 6.0),
            600,
            13.13,
            277.39,
        ),
        Maze(
            "maze2d-large",
            (
                "############",
                "#OOOO#OOOOO#",
                "#O##O#O#O#O#",
                "#OOOOOO#OOO#",
                "#O####O###O#",
                "#OO#O#OOOOO#",
                "##O#O#O#O###",
                "#OO#OOO#OGO#",
                "############",
            ),
            (7.0, 9.0),
            800,
            6.7,
            273.99,
        ),
    )
}

PREFIX = "maze2d-"


def layout(short: str) -> Maze:
    """The maze called "umaze", "medium" or "large" on the command line.

    Raises:
        ConfigError: there is no such maze.
    """
    if (maze := MAZES.get(PREFIX + short)) is None:
        known = ", ".join(name.removeprefix(PREFIX) for name in MAZES)
        raise ConfigError(f"the maze must be one of {known}, got {short!r}")
    return maze
