"""Layouts and their geometry."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfuse.errors import ConfigError
from perfuse.planning.mazes import MAZES, Maze, layout

UMAZE = MAZES["maze2d-umaze"]
COORDINATES = st.floats(-2.0, 12.0, allow_nan=False)


@pytest.mark.parametrize("maze", MAZES.values(), ids=lambda maze: maze.name)
def test_layouts_are_closed_rectangles_whose_goal_is_marked(maze: Maze) -> None:
    assert len({len(row) for row in maze.rows}) == 1
    assert maze.walls[[0, -1]].all()
    assert maze.walls[:, [0, -1]].all()
    assert [(float(r), float(c)) for r, row in enumerate(maze.rows) for c, tile in enumerate(row) if tile == "G"] == [
        maze.goal
    ]
    assert maze.starts[-1].tolist() == list(maze.goal)
    assert len(maze.starts) == sum(tile in "OG" for row in maze.rows for tile in row)


def test_the_u_maze_is_a_u() -> None:
    assert UMAZE.starts.tolist() == [[1, 2], [1, 3], [2, 3], [3, 1], [3, 2], [3, 3], [1, 1]]


def test_scores_are_zero_at_random_and_a_hundred_at_the_script() -> None:
    assert UMAZE.score(23.85) == 0
    assert UMAZE.score(161.86) == 100


def brute_clearance(maze: Maze, x: float, y: float) -> float:
    """Distance to the nearest of all wall boxes; 0 outside the maze."""
    if not (-0.7 <= x < maze.walls.shape[0] - 0.7 and -0.7 <= y < maze.walls.shape[1] - 0.7):
        return 0.0
    gaps = []
    for r, c in np.argwhere(maze.walls):
        dx = max(r - 0.7 - x, x - (r + 0.3), 0.0)
        dy = max(c - 0.7 - y, y - (c + 0.3), 0.0)
        gaps.append(float(np.hypot(dx, dy)))
    return min(gaps)


@given(COORDINATES, COORDINATES, st.sampled_from(sorted(MAZES)))
def test_clearance_equals_brute_force_within_one_cell(x: float, y: float, name: str) -> None:
    maze = MAZES[name]
    found, expected = float(maze.clearance(np.array([x, y]))), brute_clearance(maze, x, y)
    if expected < 1.0 - 1e-9:
        assert found == pytest.approx(expected, abs=1e-12)
    else:
        assert found >= 1.0 - 1e-9
    assert bool(maze.in_wall(np.array([x, y]))) == (found <= 0)


@given(st.lists(st.tuples(COORDINATES, COORDINATES), min_size=1, max_size=5))
def test_many_points_at_once_equal_one_at_a_time(points: list[tuple[float, float]]) -> None:
    together = UMAZE.clearance(np.array(points))
    assert together.tolist() == [float(UMAZE.clearance(np.array(point))) for point in points]


def test_a_ball_fits_at_every_start_and_touches_next_to_a_wall() -> None:
    assert not UMAZE.collides(UMAZE.starts).any()
    assert UMAZE.collides(np.array([0.37, 1.0]))
    assert not UMAZE.collides(np.array([0.39, 1.0]))


def test_short_names_find_their_maze_and_others_are_refused() -> None:
    assert layout("large") is MAZES["maze2d-large"]
    with pytest.raises(ConfigError, match=r"^the maze must be one of umaze, medium, large, got 'huge'$"):
        layout("huge")
