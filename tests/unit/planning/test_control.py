"""Facts of D4RL's maze2d that the simulator and the controller must share."""

from __future__ import annotations

import numpy as np
import pytest

from perfuse.planning.control.rollout import collect, controlled_episode, random_episode, tracked_episode
from perfuse.planning.control.simulator import Simulator
from perfuse.planning.control.waypoints import WaypointController, cell_path
from perfuse.planning.mazes import MAZES

UMAZE = MAZES["maze2d-umaze"]


def at(x: float, y: float, vx: float = 0.0, vy: float = 0.0) -> np.ndarray:
    return np.array([x, y, vx, vy], dtype=np.float64)


def test_one_step_is_ten_milliseconds_of_a_ball_of_four_kilogrammes() -> None:
    """Semi-implicit Euler with implicit damping: v = dt F / (m + dt b), m = 4/3 π 0.1³ · 1000, F = 100, b = 1."""
    simulator = Simulator(UMAZE)
    simulator.place(at(1, 1))
    state, _ = simulator.step(np.array([1.0, 0.0]))
    mass = 4 / 3 * np.pi * 0.1**3 * 1000
    expected = 0.01 * 100 / (mass + 0.01)
    assert state[2] == pytest.approx(expected, rel=1e-6)
    assert state[0] == pytest.approx(1 + 0.01 * expected, rel=1e-6)
    assert state[1] == pytest.approx(1.0)


def test_actions_are_clipped_to_one() -> None:
    simulator = Simulator(UMAZE)
    simulator.place(at(1, 1))
    once, _ = simulator.step(np.array([1.0, -1.0]))
    simulator.place(at(1, 1))
    many, _ = simulator.step(np.array([50.0, -50.0]))
    assert once.tolist() == many.tolist()


def test_velocity_is_clipped_to_five_before_the_step() -> None:
    simulator = Simulator(UMAZE)
    simulator.place(at(1, 1, 0, 9))
    fast, _ = simulator.step(np.zeros(2))
    simulator.place(at(1, 1, 0, 5))
    limit, _ = simulator.step(np.zeros(2))
    assert fast.tolist() == limit.tolist()


@pytest.mark.parametrize(("y", "reward"), [(1.499, 1.0), (1.501, 0.0)])
def test_reward_is_given_within_half_a_metre(y: float, reward: float) -> None:
    simulator = Simulator(UMAZE)
    simulator.place(at(1, y))
    assert simulator.step(np.zeros(2))[1] == reward


def test_walls_stop_the_ball_where_the_geometry_says() -> None:
    simulator = Simulator(UMAZE)
    simulator.place(at(1, 1))
    for _ in range(200):
        state, _ = simulator.step(np.array([-1.0, 0.0]))
    assert state[0] == pytest.approx(0.4, abs=0.02)
    assert not UMAZE.collides(state[:2])


def test_episodes_start_near_a_free_cell_almost_at_rest() -> None:
    simulator, rng = Simulator(UMAZE), np.random.default_rng(0)
    states = np.array([simulator.reset(rng) for _ in range(300)])
    gaps = np.abs(states[:, None, :2] - UMAZE.starts).max(axis=2).min(axis=1)
    assert gaps.max() <= 0.1
    assert states[:, 2:].std() == pytest.approx(0.1, rel=0.15)
    assert len(np.unique(np.round(states[:, :2]), axis=0)) == 7


def test_paths_are_shortest_and_end_at_the_target() -> None:
    assert cell_path(UMAZE, (3, 1), (1, 1)) == [(3, 2), (3, 3), (2, 3), (1, 3), (1, 2), (1, 1)]
    assert cell_path(UMAZE, (1, 1), (1, 1)) == [(1, 1)]


def test_a_target_without_a_path_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^no path from cell \(2, 2\) to cell \(1, 1\) of maze2d-umaze$"):
        cell_path(UMAZE, (2, 2), (1, 1))


def test_the_controller_keeps_its_waypoints_until_the_target_cell_changes() -> None:
    """D4RL's script never changes the target, so the second episode follows waypoints of the first start."""
    controller = WaypointController(UMAZE, np.random.default_rng(0))
    goal = np.array(UMAZE.goal)
    controller.action(at(1, 2), goal)
    stale, _ = controller.action(at(3, 1), goal)
    assert stale[0] == -1.0  # straight at the goal, into the wall
    controller.forget()
    fresh, _ = controller.action(at(3, 1), goal)
    assert fresh[1] > 0.5  # along the corridor


def test_a_controller_that_plans_per_episode_arrives_from_everywhere() -> None:
    simulator = Simulator(UMAZE)
    for cell in UMAZE.starts:
        episode = controlled_episode(simulator, WaypointController(UMAZE, np.random.default_rng(0)), at(*cell))
        assert episode.arrival is not None
        assert episode.returned > 100


def test_random_actions_score_about_the_reference() -> None:
    rng = np.random.default_rng(4)
    returns = [random_episode(Simulator(UMAZE), rng).returned for _ in range(60)]
    assert abs(np.mean(returns) - UMAZE.reference_min) < 3 * np.std(returns) / 60**0.5


def test_data_is_one_rollout_cut_where_targets_are_reached() -> None:
    legs = collect(UMAZE, 3000, seed=1)
    again = collect(UMAZE, 3000, seed=1)
    assert legs.states.tobytes() == again.states.tobytes()
    moves = np.hypot(*np.diff(legs.states[:, :2], axis=0).T)
    assert moves.max() < 0.08
    assert (legs.ends >= np.arange(3000)).all()
    assert (np.diff(legs.ends) >= 0).all()
    stops = np.unique(legs.ends)[:-1]
    cells = np.round(legs.states[stops, :2])
    assert np.hypot(*(legs.states[stops, :2] - cells).T).max() < 0.1


def test_tracking_a_plan_follows_it_and_then_holds_the_goal() -> None:
    simulator = Simulator(UMAZE)
    t = np.arange(101)[:, None] / 100
    y = 2 - (3 * t**2 - 2 * t**3)
    plan = np.concatenate((np.ones_like(t), y, np.zeros_like(t), -(6 * t - 6 * t**2)), axis=1)
    episode = tracked_episode(simulator, plan)
    assert episode.arrival == pytest.approx(50, abs=6)
    assert episode.returned == 300 - episode.arrival
    assert np.hypot(*(simulator.state[:2] - UMAZE.goal)) < 0.02
