"""Plan a trajectory: draw candidates by diffusion, densify them, verify them, return the best and the verdict on it."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from perfuse.diffusion.gaussian import ddim_step, time_grid
from perfuse.diffusion.noise import gaussian
from perfuse.errors import CheckpointError, DeadlineExceeded, InvalidRequest, UnknownModel
from perfuse.models.call import Call
from perfuse.models.planner import GOAL, STATE, Planner, PlannerConfig
from perfuse.pipelines.contract import Demand, Run
from perfuse.planning.mazes import BALL_RADIUS, MAZES, SPEED_LIMIT, Array, Maze
from perfuse.planning.verify import SPEED_SLACK, Verdict, densify, verify
from perfuse.requests import Candidates, PlanStatus, Trajectory, TrajectoryRequest, TrajectoryResult, Verification

WANT = frozenset({"x0"})
MOST_CANDIDATES = 64
MOST_STEPS = 64


class TrajectoryPipeline:
    """Trajectories in the mazes that the given planners were trained for."""

    def __init__(self, planners: Iterable[Planner]) -> None:
        """Raises CheckpointError if a planner is for a maze that perfuse does not know."""
        self._planners = {planner.config.environment: planner for planner in planners}
        for name in self._planners.keys() - MAZES.keys():
            known = ", ".join(sorted(MAZES))
            raise CheckpointError(f"a planner for environment {name!r} was given; perfuse knows {known}")
        self._keys = {name: _key(planner) for name, planner in self._planners.items()}

    def estimate(self, request: TrajectoryRequest) -> Sequence[Demand]:
        """One call per candidate and step.

        Raises:
            InvalidRequest: a field is out of range, or the state or the goal lies in a wall.
            UnknownModel: the named model does not plan in this environment.
        """
        planner = self._planner(request)
        maze = MAZES[request.environment]
        _check_count(request.candidates, MOST_CANDIDATES, "candidates")
        _check_count(request.steps, MOST_STEPS, "steps")
        _check_state(maze, request.state)
        _check_goal(maze, request.goal.position, request.goal.tolerance)
        key = self._keys[request.environment]
        return [Demand(planner.network, key, request.candidates * request.steps, "trajectory")]

    async def run(self, request: TrajectoryRequest, run: Run) -> TrajectoryResult:
        """DDIM over all candidates side by side; what there is when the deadline nears is verified and returned."""
        planner, maze = self._planner(request), MAZES[request.environment]
        config = planner.config
        start = torch.tensor(request.state, dtype=torch.float64)
        goal = torch.tensor(request.goal.position, dtype=torch.float64)
        first = config.normalise(start)
        condition = config.condition(start, goal).float()
        times = time_grid(request.steps)
        count, size = request.candidates, config.tokens * STATE
        x = gaussian(run.uniform("plan", 0, torch.arange(count * size))).view(count, config.tokens, STATE)
        plans: Tensor | None = None
        done = 0
        for now, then in pairwise(times):
            x[:, 0] = first
            calls = [
                Call(planner.network, {"x": row, "t": now.float(), "condition": condition}, WANT) for row in x.float()
            ]
            try:
                outputs = await run.forward(*calls)
            except DeadlineExceeded:
                if plans is None:
                    raise
                break
            plans = torch.stack([output["x0"] for output in outputs]).to("cpu", torch.float64)
            plans[:, 0] = first
            x = ddim_step(x, plans, now, then)
            done += 1
            shown = {"states": partial(_states, config, plans), "candidates": partial(_positions, config, plans)}
            if not run.report(done, request.steps, **shown):
                break
        assert plans is not None
        states = config.restore(plans)
        states[:, 0] = start
        dense, verdicts = await run.offload(judge, maze, states.numpy(), request, config)
        return _result(planner, request, dense, verdicts, done)

    def _planner(self, request: TrajectoryRequest) -> Planner:
        planner = self._planners.get(request.environment)
        if planner is None:
            known = ", ".join(sorted(self._planners)) or "none"
            raise InvalidRequest(
                f"no planner is loaded for environment {request.environment!r}",
                field="/environment",
                hint=f"environments with a planner: {known}",
            )
        if request.model not in (None, planner.network.name, planner.config.name):
            raise UnknownModel(
                f"model {request.model!r} does not plan in {request.environment}",
                field="/model",
                hint=f"leave model out, or ask for {planner.network.name!r}",
            )
        return planner


def _states(config: PlannerConfig, plans: Tensor) -> list[list[float]]:
    """The first of the normalised plans `[N, L, 4]` in metres and metres per second, as lists `[L, 4]`."""
    states: list[list[float]] = config.restore(plans[0]).tolist()
    return states


def _positions(config: PlannerConfig, plans: Tensor) -> list[list[list[float]]]:
    """Where the normalised plans `[N, L, 4]` pass, in metres to the millimetre, as lists `[N, L, 2]`."""
    positions: list[list[list[float]]] = config.restore(plans)[..., :2].round(decimals=3).tolist()
    return positions


def _key(planner: Planner) -> Hashable:
    """The batch key of every call of this planner."""
    shapes = {"x": (planner.config.tokens, STATE), "t": (), "condition": (STATE + GOAL,)}
    inputs = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    return planner.network.key(Call(planner.network, inputs, WANT))


def judge(maze: Maze, plans: Array, request: TrajectoryRequest, config: PlannerConfig) -> tuple[Array, list[Verdict]]:
    """Dense states `[N, n, 4]` and verdicts of the candidates `[N, L, 4]`."""
    dense = densify(plans, config.stride, config.dt)
    return dense, verify(maze, dense, np.array(request.goal.position), request.goal.tolerance)


def best(verdicts: Sequence[Verdict]) -> int:
    """Index of the candidate to return: valid before invalid, then the earliest arrival, then the fewest violations."""

    def rank(i: int) -> tuple[bool, float, int, int]:
        verdict = verdicts[i]
        arrival = math.inf if verdict.arrival_step is None else verdict.arrival_step
        return not verdict.valid, arrival, len(verdict.violations), i

    return min(range(len(verdicts)), key=rank)


def _result(
    planner: Planner, request: TrajectoryRequest, dense: Array, verdicts: Sequence[Verdict], done: int
) -> TrajectoryResult:
    """The answer. `unverified` means that no candidate passed: a sampler cannot prove that no plan exists."""
    chosen = best(verdicts)
    verdict, states = verdicts[chosen], dense[chosen]
    valid = sum(verdict.valid for verdict in verdicts)
    status: PlanStatus = "verified" if verdict.valid else "timeout" if done < request.steps else "unverified"
    return TrajectoryResult(
        model=planner.network.name,
        status=status,
        trajectory=Trajectory(dt=planner.config.dt, states=tuple(tuple(state) for state in states.tolist())),
        verification=Verification(
            collision_free=verdict.collision_free, arrival_step=verdict.arrival_step, violations=verdict.violations
        ),
        candidates=Candidates(sampled=len(verdicts), valid=valid),
        confidence=valid / len(verdicts),
        steps_done=done,
    )


def _check_count(value: int, most: int, name: str) -> None:
    if not 1 <= value <= most:
        raise InvalidRequest(f"{name} must be from 1 to {most}, got {value}", field=f"/{name}")


def _check_state(maze: Maze, state: Sequence[float]) -> None:
    if len(state) != STATE:
        raise InvalidRequest(f"state must be [x, y, vx, vy], got {len(state)} numbers", field="/state")
    for i, value in enumerate(state):
        if not math.isfinite(value):
            raise InvalidRequest(f"state must be finite, got {value}", field=f"/state/{i}")
    for i in (2, 3):
        if abs(state[i]) > SPEED_LIMIT + SPEED_SLACK:
            raise InvalidRequest(
                f"a velocity must be within ±{SPEED_LIMIT + SPEED_SLACK:g} m/s, got {state[i]:g}",
                field=f"/state/{i}",
                hint=f"the simulator clips velocities to ±{SPEED_LIMIT:g}",
            )
    if maze.collides(np.array(state[:2])):
        raise InvalidRequest(
            f"the state ({state[0]:g}, {state[1]:g}) lies in a wall of {maze.name} or touches one",
            field="/state",
            hint=f"a ball of radius {BALL_RADIUS:g} must fit; cell (r, c) covers r - 0.7 to r + 0.3; {_free(maze)}",
        )


def _check_goal(maze: Maze, position: Sequence[float], tolerance: float) -> None:
    if len(position) != GOAL:
        raise InvalidRequest(f"goal.position must be [x, y], got {len(position)} numbers", field="/goal/position")
    for i, value in enumerate(position):
        if not math.isfinite(value):
            raise InvalidRequest(f"goal.position must be finite, got {value}", field=f"/goal/position/{i}")
    if not (math.isfinite(tolerance) and 0 < tolerance <= 10):
        raise InvalidRequest(
            f"goal.tolerance must be over 0 and at most 10 m, got {tolerance:g}", field="/goal/tolerance"
        )
    point = np.array(position)
    if bool((point < maze.low).any() or (point > maze.high).any()):
        raise InvalidRequest(
            f"the goal ({point[0]:g}, {point[1]:g}) lies outside {maze.name}",
            field="/goal/position",
            hint=f"x from {maze.low[0]:g} to {maze.high[0]:g}, y from {maze.low[1]:g} to {maze.high[1]:g}",
        )
    if maze.in_wall(point):
        raise InvalidRequest(
            f"the goal ({point[0]:g}, {point[1]:g}) lies in a wall of {maze.name}",
            field="/goal/position",
            hint=f"cell (r, c) covers r - 0.7 to r + 0.3; {_free(maze)}",
        )


def _free(maze: Maze) -> str:
    cells = ", ".join(f"({int(r)}, {int(c)})" for r, c in maze.starts[:8])
    more = f" and {len(maze.starts) - 8} more" if len(maze.starts) > 8 else ""
    return f"free cells: {cells}{more}"
