"""D4RL's maze2d on MuJoCo: a ball driven by two motors, re-implemented from its published model and semantics."""

from __future__ import annotations

import mujoco  # type: ignore[import-untyped]
import numpy as np

from perfuse.planning.mazes import BALL_RADIUS, BODY_OFFSET, DT, REWARD_RADIUS, SPEED_LIMIT, Array, Maze


def model_xml(maze: Maze) -> str:
    """The MuJoCo model: ball of density 1000, slide joints with damping 1, motors of gear 100, no gravity, 10 ms."""
    boxes = "".join(
        f'<geom type="box" pos="{r + 1} {c + 1} 0" size="0.5 0.5 0.2"/>' for r, c in np.argwhere(maze.walls).tolist()
    )
    return f"""<mujoco model="{maze.name}">
      <compiler inertiafromgeom="true" angle="radian"/>
      <option timestep="{DT}" gravity="0 0 0" iterations="20" integrator="Euler"/>
      <default>
        <joint damping="1" limited="false"/>
        <geom friction=".5 .1 .1" density="1000" margin="0.002" condim="1" contype="2" conaffinity="1"/>
      </default>
      <worldbody>
        <body name="particle" pos="{BODY_OFFSET} {BODY_OFFSET} 0">
          <geom name="particle_geom" type="sphere" size="{BALL_RADIUS}" contype="1"/>
          <joint name="ball_x" type="slide" pos="0 0 0" axis="1 0 0"/>
          <joint name="ball_y" type="slide" pos="0 0 0" axis="0 1 0"/>
        </body>
        {boxes}
      </worldbody>
      <actuator>
        <motor joint="ball_x" ctrlrange="-1 1" ctrllimited="true" gear="100"/>
        <motor joint="ball_y" ctrlrange="-1 1" ctrllimited="true" gear="100"/>
      </actuator>
    </mujoco>"""


class Simulator:
    """One ball in one maze. States are (x, y, vx, vy) in m and m/s, actions two forces in [-1, 1]."""

    def __init__(self, maze: Maze) -> None:
        self.maze = maze
        self.goal: Array = np.array(maze.goal)
        self._model = mujoco.MjModel.from_xml_string(model_xml(maze))
        self._data = mujoco.MjData(self._model)

    @property
    def state(self) -> Array:
        """The state now, `[4]`."""
        return np.concatenate((self._data.qpos, self._data.qvel))

    def place(self, state: Array) -> None:
        """Put the ball somewhere."""
        mujoco.mj_resetData(self._model, self._data)
        self._data.qpos[:] = state[:2]
        self._data.qvel[:] = state[2:]
        mujoco.mj_forward(self._model, self._data)

    def reset(self, rng: np.random.Generator) -> Array:
        """Begin an episode: a free or goal cell ± 0.1 m, velocity N(0, 0.1²). Gives the state."""
        cell = self.maze.starts[rng.integers(len(self.maze.starts))]
        self.place(np.concatenate((cell + rng.uniform(-0.1, 0.1, 2), 0.1 * rng.standard_normal(2))))
        return self.state

    def step(self, action: Array) -> tuple[Array, float]:
        """Clip the velocity, push for one step; gives the state and the reward, 1 within 0.5 m of the goal, else 0."""
        data = self._data
        np.clip(data.qvel, -SPEED_LIMIT, SPEED_LIMIT, out=data.qvel)
        data.ctrl[:] = np.clip(action, -1.0, 1.0)
        mujoco.mj_step(self._model, data)
        dx, dy = data.qpos - self.goal
        return self.state, 1.0 if dx * dx + dy * dy <= REWARD_RADIUS**2 else 0.0
