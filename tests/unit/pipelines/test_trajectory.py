"""Trajectory requests: what is refused, what is kept, what comes back."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from perfuse.errors import CheckpointError, DeadlineExceeded, InvalidRequest, UnknownModel
from perfuse.models.call import Call, Output
from perfuse.models.planner import Planner, load_planner
from perfuse.pipelines.alone import AloneRun, run_alone
from perfuse.pipelines.trajectory import TrajectoryPipeline, best
from perfuse.planning.mazes import MAZES
from perfuse.planning.verify import Verdict
from perfuse.requests import Goal, Preview, TrajectoryRequest, TrajectoryResult

SHIPPED = Path(__file__).parents[3] / "service/perfuse/pretrained/maze2d-umaze"
FAR = TrajectoryRequest(
    environment="maze2d-umaze",
    state=(3.0, 1.0, 0.0, 0.0),
    goal=Goal(position=(1.0, 1.0)),
    candidates=4,
    steps=4,
    seed=1,
)
FREE = "free cells: (1, 2), (1, 3), (2, 3), (3, 1), (3, 2), (3, 3), (1, 1)"


@cache
def planner() -> Planner:
    return load_planner(SHIPPED)


def plan(request: TrajectoryRequest, run: AloneRun | None = None) -> TrajectoryResult:
    return run_alone(TrajectoryPipeline([planner()]), request, run=run or AloneRun(request.seed))


def test_a_plan_around_the_u_is_verified() -> None:
    result = plan(FAR)
    assert result.status == "verified"
    assert result.engine == "diffusion"
    assert result.model == "maze2d-umaze@1"
    assert result.verification.collision_free
    assert result.verification.violations == ()
    assert 80 < (result.verification.arrival_step or 0) < 186
    assert result.candidates.sampled == 4
    assert result.confidence == result.candidates.valid / 4
    assert result.steps_done == 4
    assert result.trajectory is not None
    states = np.array(result.trajectory.states)
    assert states.shape == (187, 4)
    assert result.trajectory.dt == 0.01
    assert not MAZES["maze2d-umaze"].collides(states[:, :2]).any()


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from(MAZES["maze2d-umaze"].starts.tolist()),
    st.tuples(*[st.floats(-0.15, 0.15)] * 2),
    st.tuples(*[st.floats(-2, 2)] * 2),
    st.integers(0, 2**63 - 1),
    st.integers(1, 3),
    st.integers(1, 3),
)
def test_the_start_state_is_kept_exactly(
    cell: list[float], shift: tuple[float, ...], speed: tuple[float, ...], seed: int, candidates: int, steps: int
) -> None:
    state = (cell[0] + shift[0], cell[1] + shift[1], *speed)
    run = AloneRun(seed)
    result = plan(dataclasses.replace(FAR, state=state, seed=seed, candidates=candidates, steps=steps), run)
    assert result.trajectory is not None
    assert result.trajectory.states[0] == pytest.approx(state, abs=1e-12)
    assert run.forwards == candidates * steps
    assert result.candidates.sampled == candidates


def test_equal_seeds_give_equal_plans_and_others_differ() -> None:
    assert plan(FAR) == plan(FAR)
    assert plan(FAR).trajectory != plan(dataclasses.replace(FAR, seed=2)).trajectory


def test_more_candidates_keep_the_first_ones() -> None:
    """Noise belongs to a candidate's position, so asking for more only adds."""
    few, many = AloneRun(1), AloneRun(1)
    positions = torch.arange(300)
    assert torch.equal(few.uniform("plan", 0, positions[:128]), many.uniform("plan", 0, positions)[:128])


def test_previews_show_the_first_candidate_and_where_all_pass_at_every_step() -> None:
    seen: list[Preview] = []
    plan(FAR, AloneRun(1, on_preview=seen.append))
    assert [(preview.step, preview.of) for preview in seen] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    states = np.array(seen[0].body["states"])
    assert states.shape == (32, 4)
    assert states[0] == pytest.approx(FAR.state)
    candidates = np.array(seen[0].body["candidates"])
    assert candidates.shape == (FAR.candidates, 32, 2)
    assert candidates[0] == pytest.approx(states[:, :2], abs=0.0006)


def test_at_the_deadline_what_there_is_comes_back() -> None:
    result = plan(FAR, AloneRun(1, deadline=0.0, clock=lambda: 1.0))
    assert result.steps_done == 1
    assert result.status in ("verified", "timeout")


def test_an_impossible_tolerance_is_not_verified_and_says_why() -> None:
    result = plan(dataclasses.replace(FAR, goal=Goal(position=(1.0, 1.0), tolerance=1e-6)))
    assert result.status == "unverified"
    assert result.candidates.valid == 0
    assert result.confidence == 0
    assert result.verification.arrival_step is None
    assert result.verification.violations[-1].endswith("from the goal, the tolerance is 1e-06")


def test_without_time_and_without_a_valid_plan_the_status_is_timeout() -> None:
    request = dataclasses.replace(FAR, goal=Goal(position=(1.0, 1.0), tolerance=1e-6))
    assert plan(request, AloneRun(1, deadline=0.0, clock=lambda: 1.0)).status == "timeout"


class Late(AloneRun):
    """A run whose forwards miss the deadline after some steps."""

    def __init__(self, steps: int) -> None:
        super().__init__(1)
        self.steps = steps

    async def forward(self, *calls: Call) -> tuple[Output, ...]:
        self.steps -= 1
        if self.steps < 0:
            raise DeadlineExceeded("late")
        return await super().forward(*calls)


def test_a_forward_that_misses_the_deadline_leaves_the_steps_before_it() -> None:
    assert plan(FAR, Late(2)).steps_done == 2
    with pytest.raises(DeadlineExceeded, match=r"^late$"):
        plan(FAR, Late(0))


def verdict(arrival: int | None, *violations: str) -> Verdict:
    return Verdict(not violations, arrival, violations)


def test_the_best_candidate_is_valid_then_early_then_least_wrong() -> None:
    assert best([verdict(3, "wall"), verdict(9), verdict(7)]) == 2
    assert best([verdict(None, "a", "b"), verdict(None, "a")]) == 1
    assert best([verdict(5), verdict(5)]) == 0


NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("changes", "field", "detail", "hint"),
    [
        (
            {"environment": "maze2d-huge"},
            "/environment",
            "no planner is loaded for environment 'maze2d-huge'",
            "environments with a planner: maze2d-umaze",
        ),
        ({"candidates": 0}, "/candidates", "candidates must be from 1 to 64, got 0", None),
        ({"candidates": 65}, "/candidates", "candidates must be from 1 to 64, got 65", None),
        ({"steps": 0}, "/steps", "steps must be from 1 to 64, got 0", None),
        ({"steps": 10**6}, "/steps", "steps must be from 1 to 64, got 1000000", None),
        ({"state": (1.0, 1.0)}, "/state", "state must be [x, y, vx, vy], got 2 numbers", None),
        ({"state": (1.0, NAN, 0.0, 0.0)}, "/state/1", "state must be finite, got nan", None),
        ({"state": (1.0, 1.0, -INF, 0.0)}, "/state/2", "state must be finite, got -inf", None),
        (
            {"state": (1.0, 1.0, 0.0, 7.0)},
            "/state/3",
            "a velocity must be within ±5.5 m/s, got 7",
            "the simulator clips velocities to ±5",
        ),
        (
            {"state": (2.0, 1.0, 0.0, 0.0)},
            "/state",
            "the state (2, 1) lies in a wall of maze2d-umaze or touches one",
            f"a ball of radius 0.1 must fit; cell (r, c) covers r - 0.7 to r + 0.3; {FREE}",
        ),
        ({"goal": Goal(position=(1.0,))}, "/goal/position", "goal.position must be [x, y], got 1 numbers", None),
        ({"goal": Goal(position=(INF, 1.0))}, "/goal/position/0", "goal.position must be finite, got inf", None),
        (
            {"goal": Goal(position=(1.0, 1.0), tolerance=0.0)},
            "/goal/tolerance",
            "goal.tolerance must be over 0 and at most 10 m, got 0",
            None,
        ),
        (
            {"goal": Goal(position=(1.0, 1.0), tolerance=NAN)},
            "/goal/tolerance",
            "goal.tolerance must be over 0 and at most 10 m, got nan",
            None,
        ),
        (
            {"goal": Goal(position=(9.0, 1.0))},
            "/goal/position",
            "the goal (9, 1) lies outside maze2d-umaze",
            "x from -0.7 to 4.3, y from -0.7 to 4.3",
        ),
        (
            {"goal": Goal(position=(2.0, 2.0))},
            "/goal/position",
            "the goal (2, 2) lies in a wall of maze2d-umaze",
            f"cell (r, c) covers r - 0.7 to r + 0.3; {FREE}",
        ),
    ],
)
def test_bad_requests_are_refused_with_field_and_hint(
    changes: dict[str, object], field: str, detail: str, hint: str | None
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        TrajectoryPipeline([planner()]).estimate(dataclasses.replace(FAR, **changes))
    assert (refused.value.field, refused.value.detail, refused.value.hint) == (field, detail, hint)


def test_a_model_of_another_name_is_unknown() -> None:
    pipeline = TrajectoryPipeline([planner()])
    for name in (None, "maze2d-umaze", "maze2d-umaze@1"):
        assert pipeline.estimate(dataclasses.replace(FAR, model=name))[0].calls == 16
    with pytest.raises(UnknownModel) as refused:
        pipeline.estimate(dataclasses.replace(FAR, model="code-small"))
    assert refused.value.detail == "model 'code-small' does not plan in maze2d-umaze"
    assert refused.value.field == "/model"
    assert refused.value.hint == "leave model out, or ask for 'maze2d-umaze@1'"


def test_a_planner_for_an_unknown_maze_is_refused_at_start() -> None:
    foreign = dataclasses.replace(planner(), config=dataclasses.replace(planner().config, environment="moon"))
    with pytest.raises(
        CheckpointError,
        match=r"^a planner for environment 'moon' was given; perfuse knows maze2d-large, maze2d-medium, maze2d-umaze$",
    ):
        TrajectoryPipeline([foreign])


def test_the_estimate_names_the_key_of_the_calls_that_come() -> None:
    keys = set()

    class Watch(AloneRun):
        async def forward(self, *calls: Call) -> tuple[Output, ...]:
            keys.update(planner().network.key(call) for call in calls)
            return await super().forward(*calls)

    plan(FAR, Watch(1))
    assert keys == {TrajectoryPipeline([planner()]).estimate(FAR)[0].key}


def test_planning_needs_no_controller_no_simulator_and_no_search() -> None:
    code = """
import sys
import perfuse.pipelines.trajectory, perfuse.models.planner
print([name for name in sys.modules if "mujoco" in name or "perfuse.planning" in name])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['perfuse.planning', 'perfuse.planning.mazes', 'perfuse.planning.verify']"
