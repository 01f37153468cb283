"""Measures the maze2d planner: D4RL's score of executed plans, beside baselines, and D4RL's two reference scores."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from perfuse.models.planner import Planner, load_planner, untrained_planner
from perfuse.pipelines.alone import AloneRun, run_alone
from perfuse.pipelines.trajectory import TrajectoryPipeline
from perfuse.planning.control.rollout import Episode, controlled_episode, random_episode, tracked_episode
from perfuse.planning.control.simulator import Simulator
from perfuse.planning.control.waypoints import WaypointController
from perfuse.planning.mazes import Array, Maze, layout
from perfuse.requests import Goal, TrajectoryRequest

log = logging.getLogger(__name__)
EVALUATION_SEED = 7_100_000
"""Seeds from here on are never used in training."""
REFERENCE_EPISODES = 100
"""The published references are means over this many episodes."""


@dataclass(frozen=True, slots=True)
class Row:
    """Mean score over episodes, its standard error, and the share of episodes that reached the goal."""

    score: float
    se: float
    reach: float
    mean_arrival: float | None

    def as_json(self) -> dict[str, float | None]:
        """Rounded for print."""
        arrival = None if self.mean_arrival is None else round(self.mean_arrival, 1)
        return {"score": round(self.score, 2), "se": round(self.se, 2), "reach": self.reach, "mean_arrival": arrival}


def summarise(maze: Maze, episodes: Sequence[Episode]) -> Row:
    """The row of some episodes."""
    scores = np.array([maze.score(episode.returned) for episode in episodes])
    arrivals = [episode.arrival for episode in episodes if episode.arrival is not None]
    return Row(
        score=float(scores.mean()),
        se=float(scores.std(ddof=1) / np.sqrt(len(scores))) if len(scores) > 1 else 0.0,
        reach=len(arrivals) / len(episodes),
        mean_arrival=float(np.mean(arrivals)) if arrivals else None,
    )


def starts(maze: Maze, episodes: int) -> list[Array]:
    """The fixed start states of the evaluation."""
    rng = np.random.default_rng(EVALUATION_SEED)
    simulator = Simulator(maze)
    return [simulator.reset(rng) for _ in range(episodes)]


def planned_episodes(
    maze: Maze, planner: Planner, begins: Sequence[Array], *, candidates: int, steps: int
) -> Iterator[Episode]:
    """Episodes planned once at their start by the pipeline and tracked open loop."""
    simulator, pipeline = Simulator(maze), TrajectoryPipeline([planner])
    for i, start in enumerate(begins):
        request = TrajectoryRequest(
            environment=maze.name,
            state=tuple(start.tolist()),
            goal=Goal(position=maze.goal),
            candidates=candidates,
            steps=steps,
            seed=EVALUATION_SEED + i,
        )
        result = run_alone(pipeline, request, run=AloneRun(request.seed))
        assert result.trajectory is not None
        yield tracked_episode(simulator, np.array(result.trajectory.states))


def controller_episodes(maze: Maze, begins: Sequence[Array]) -> Iterator[Episode]:
    """Episodes of the data's own controller, planning anew in each."""
    simulator, rng = Simulator(maze), np.random.default_rng(EVALUATION_SEED + 1)
    for start in begins:
        yield controlled_episode(simulator, WaypointController(maze, rng), start)


def evaluate(
    folder: Path, maze: str = "umaze", episodes: int = 200, *, candidates: int = 16, steps: int = 8
) -> dict[str, object]:
    """Score of the planner in `folder`, with the rows untrained network, one candidate, one step, and controller.

    All rows run the same episodes. `one_step` is one candidate of one denoising step.

    Raises:
        CheckpointError: the folder holds no planner.
        ConfigError: there is no such maze.
    """
    place = layout(maze)
    planner = load_planner(folder)
    begins = starts(place, episodes)

    def planned(by: Planner, candidates: int, steps: int) -> Row:
        return summarise(place, list(planned_episodes(place, by, begins, candidates=candidates, steps=steps)))

    full = planned(planner, candidates, steps)
    log.info("planner: %s", full)
    rows = {
        "untrained": planned(untrained_planner(planner.config, EVALUATION_SEED), candidates, steps),
        "n1": planned(planner, 1, steps),
        "one_step": planned(planner, 1, 1),
        "controller": summarise(place, list(controller_episodes(place, begins))),
    }
    return {
        "maze": maze,
        "model": planner.network.name,
        **full.as_json(),
        "episodes": episodes,
        "candidates": candidates,
        "steps": steps,
        "controller_score": rows["controller"].as_json()["score"],
        "rows": {name: row.as_json() for name, row in rows.items()},
    }


def references(maze: str = "umaze", groups: int = 20) -> dict[str, object]:
    """D4RL's reference returns measured anew: random policy, and its controller script with one controller for all.

    A group is what D4RL ran: 100 episodes. The spread between groups is the standard error of one such figure; that of
    our mean is √groups smaller, and `sigmas` counts the combined error. `replanned` is the controller planning per
    episode.
    """
    place = layout(maze)
    simulator, rng = Simulator(place), np.random.default_rng(EVALUATION_SEED + 2)
    random: list[float] = []
    script: list[float] = []
    for _ in range(groups):
        random.append(_mean([random_episode(simulator, rng) for _ in range(REFERENCE_EPISODES)]))
        kept = WaypointController(place, rng)
        script.append(
            _mean([controlled_episode(simulator, kept, simulator.reset(rng)) for _ in range(REFERENCE_EPISODES)])
        )
    fresh = [
        controlled_episode(simulator, WaypointController(place, rng), simulator.reset(rng)) for _ in range(groups * 20)
    ]
    rows = {
        "random": _against(place.reference_min, random),
        "controller_script": _against(place.reference_max, script),
    }
    return {
        "maze": maze,
        "episodes": groups * REFERENCE_EPISODES,
        **rows,
        "replanned": summarise(place, fresh).as_json(),
        "agree": all(float(str(row["sigmas"])) <= 2.0 for row in rows.values()),
    }


def _mean(episodes: Sequence[Episode]) -> float:
    return float(np.mean([episode.returned for episode in episodes]))


def _against(published: float, groups: Sequence[float]) -> dict[str, float]:
    spread = float(np.std(groups, ddof=1))
    combined = spread * float(np.sqrt(1 + 1 / len(groups)))
    mean = float(np.mean(groups))
    return {
        "return": round(mean, 2),
        "se": round(spread / len(groups) ** 0.5, 2),
        "published": published,
        "published_se": round(spread, 2),
        "sigmas": round(abs(mean - published) / combined, 2),
    }
