"""Draw README's picture: a canvas while it fills, and plans through a maze. Needs matplotlib.

python examples/pictures.py docs/images/perfuse.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from perfuse import ArrowEngine
from perfuse.planning.mazes import MAZES
from perfuse.requests import Preview

PROMPT = (
    "Find the first word with more than 4 letters, put an exclamation mark after it and return it; "
    "without one return None."
)
INK, PAPER, ACCENT = "#1b1f24", "#ffffff", "#0b7285"


def draw_canvas(axes: Axes, title: str, text: str) -> None:
    """A canvas as text, masked positions as grey blocks."""
    axes.set_axis_off()
    axes.set_title(title, loc="left", fontsize=9, color=INK)
    for row, line in enumerate(text.split("\n")[:9]):
        for column, sign in enumerate(line[:58]):
            masked = sign == "\u2591"
            axes.text(
                column,
                -row,
                "\u2588" if masked else sign,
                family="DejaVu Sans Mono",
                fontsize=6.4,
                color="#ced4da" if masked else INK,
            )
    axes.set_xlim(0, 58)
    axes.set_ylim(-8.5, 1)


def draw_plans(axes: Axes, engine: ArrowEngine, count: int = 12) -> int:
    """Verified plans of several seeds from one state; gives how many were verified."""
    maze = MAZES["maze2d-umaze"]
    verified = 0
    for r, row in enumerate(maze.rows):
        for c, tile in enumerate(row):
            if tile == "#":
                axes.add_patch(plt.Rectangle((c - 0.7, r - 0.7), 1, 1, color="#495057"))
    for seed in range(count):
        plan = engine.plan(environment="maze2d-umaze", state=(3.0, 1.0, 0.0, 0.0), goal=maze.goal, seed=seed)
        verified += plan.status == "verified"
        if plan.trajectory is not None:
            states = np.array(plan.trajectory.states)
            axes.plot(states[:, 1], states[:, 0], color=ACCENT, alpha=0.45, linewidth=1.2)
    axes.plot(1.0, 3.0, "o", color=INK, markersize=5)
    axes.plot(maze.goal[1], maze.goal[0], "*", color="#e8590c", markersize=11)
    axes.set_aspect("equal")
    axes.invert_yaxis()
    axes.set_axis_off()
    return verified


def main(target: Path) -> None:
    """Run the shipped models and write the picture."""
    mpl.use("Agg")
    engine = ArrowEngine(device="cpu")
    shown: list[Preview] = []
    result = engine.diffuse(prompt=PROMPT, on_preview=shown.append)
    (output,) = result.outputs
    steps = sorted({0, len(shown) // 3, 2 * len(shown) // 3, len(shown) - 1})
    figure = plt.figure(figsize=(11, 3.6), facecolor=PAPER)
    grid = figure.add_gridspec(2, 3, width_ratios=[1, 1, 0.72])
    for place, step in enumerate(steps[:4]):
        title = f"forward {shown[step].step} of {output.forwards}"
        draw_canvas(figure.add_subplot(grid[place // 2, place % 2]), title, str(shown[step].body["canvas"]))
    plans = figure.add_subplot(grid[:, 2])
    verified = draw_plans(plans, engine)
    plans.set_title(f"POST /plan: {verified} of 12 seeds verified", fontsize=9, color=INK)
    figure.suptitle(f"POST /diffuse  “{PROMPT}”", x=0.125, ha="left", fontsize=8.5, color=INK)
    figure.savefig(target, dpi=150, bbox_inches="tight")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
