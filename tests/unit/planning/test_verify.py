"""The verifier against brute force and hand-made plans."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from perfuse.planning.mazes import MAZES
from perfuse.planning.verify import Verdict, arrival_step, collisions, densify, verify

UMAZE = MAZES["maze2d-umaze"]
GOAL = np.array(UMAZE.goal)
PLANS = arrays(np.float64, (2, 5, 4), elements=st.floats(-3, 5, allow_nan=False))


def resting(*points: tuple[float, float]) -> np.ndarray:
    return np.array([[x, y, 0.0, 0.0] for x, y in points])


@given(PLANS, st.integers(1, 9))
def test_the_spline_passes_through_every_state_of_the_plan(plans: np.ndarray, stride: int) -> None:
    dense = densify(plans, stride, 0.01)
    assert dense.shape == (2, 4 * stride + 1, 4)
    assert np.allclose(dense[:, ::stride], plans, atol=1e-9)


def test_the_spline_reproduces_a_cubic_motion_and_its_velocity() -> None:
    t = np.arange(0, 31, 6) * 0.01
    s = np.arange(0, 31) * 0.01

    def motion(t: np.ndarray) -> np.ndarray:
        return np.stack((1 + t - 3 * t**2 + 2 * t**3, 2 * t**3, 1 - 6 * t + 6 * t**2, 6 * t**2), axis=-1)

    assert np.allclose(densify(motion(t)[None], 6, 0.01)[0], motion(s), atol=1e-12)


@given(PLANS)
def test_collisions_equal_brute_force_over_steps_and_midpoints(plans: np.ndarray) -> None:
    found = collisions(UMAZE, plans)
    for plan, row in zip(plans, found, strict=True):
        for i, state in enumerate(plan):
            hit = bool(UMAZE.collides(state[:2]))
            if i:
                hit |= bool(UMAZE.collides((plan[i - 1, :2] + state[:2]) / 2))
            assert row[i] == hit


@given(arrays(np.float64, (6, 4), elements=st.floats(0, 2)), st.floats(0.1, 1.5))
def test_arrival_is_the_first_step_from_which_it_stays(states: np.ndarray, tolerance: float) -> None:
    inside = [bool(np.hypot(*(state[:2] - GOAL)) <= tolerance) for state in states]
    expected = next((i for i in range(6) if all(inside[i:])), None)
    assert arrival_step(states, GOAL, tolerance) == expected


def test_a_plan_that_rests_at_the_goal_has_arrived() -> None:
    assert verify(UMAZE, resting((1, 1), (1, 1))[None], GOAL, 0.5) == [Verdict(True, 0, ())]


def test_leaving_again_is_not_arriving() -> None:
    (verdict,) = verify(UMAZE, resting((1, 1), (1, 1.6))[None], GOAL, 0.5)
    assert verdict == Verdict(True, None, ("ends 0.60 m from the goal, the tolerance is 0.5",))


def test_a_straight_line_through_the_wall_of_the_u_collides() -> None:
    line = np.stack([np.linspace(3, 1, 101), np.ones(101), np.full(101, -2.0), np.zeros(101)], axis=-1)
    (verdict,) = verify(UMAZE, line[None], GOAL, 0.5)
    assert not verdict.valid
    assert not verdict.collision_free
    assert verdict.arrival_step == 75
    assert len(verdict.violations) == 5
    assert verdict.violations[0] == "step 32: the ball touches a wall at (2.36, 1.00)"


def test_speed_beyond_the_limit_is_a_violation_of_its_own() -> None:
    states = np.array([[1.0, 1.0, 5.4, 0.0], [1.0, 1.0, 0.0, -6.25]])
    (verdict,) = verify(UMAZE, states[None], GOAL, 0.5)
    assert verdict == Verdict(True, 0, ("step 1: 6.25 m/s along one axis, the limit is 5",))


def test_the_missed_goal_is_named_even_among_many_violations() -> None:
    (verdict,) = verify(UMAZE, resting(*[(0.0, 0.0)] * 9)[None], GOAL, 0.5)
    assert verdict.violations == (
        *(f"step {i}: the ball touches a wall at (0.00, 0.00)" for i in range(4)),
        "ends 1.41 m from the goal, the tolerance is 0.5",
    )


@pytest.mark.parametrize("count", [1, 3])
def test_each_plan_gets_its_own_verdict(count: int) -> None:
    good, bad = resting((1, 1), (1, 1)), resting((0, 0), (1, 1))
    verdicts = verify(UMAZE, np.stack([good, bad] * count), GOAL, 0.5)
    assert [verdict.valid for verdict in verdicts] == [True, False] * count
