"""Bring the tool to a point."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from envs.robotics.assets import table
from envs.robotics.engine import Engine
from envs.robotics.parameters import Parameter
from envs.robotics.robot_env import TIMESTEP, EngineName, RobotEnv
from envs.robotics.robots import PANDA
from envs.robotics.scene import UPRIGHT, Body, Camera, RobotModel, Scene, sphere
from envs.robotics.textures import Texture

CAMERA = Camera("main", position=(1.0, -0.9, 0.8), target=(-0.2, 0.0, 0.2))


class Reach:
    """Goals lie in a box of 30 x 30 x 30 cm over the table."""

    grasps = False
    tolerance = 0.05
    camera = CAMERA.name
    low, high = (-0.15, -0.15, 0.02), (0.15, 0.15, 0.32)

    def __init__(self) -> None:
        self.goal = np.zeros(3)

    def scene(self, robot: RobotModel) -> Scene:
        mark = Body("goal", sphere(0.02), texture=Texture("flat", (0.1, 0.8, 0.2)), solid=False)
        return Scene((*table(), mark), robot, (CAMERA,), timestep=TIMESTEP)

    def parameters(self) -> dict[str, Parameter]:
        return {}

    def reset(self, engine: Engine, rng: np.random.Generator, values: Mapping[str, Any]) -> None:
        self.goal = rng.uniform(self.low, self.high)
        engine.place("goal", self.goal, np.array(UPRIGHT))

    def observe(self, engine: Engine) -> np.ndarray:
        return np.zeros(0)

    def achieved(self, engine: Engine) -> np.ndarray:
        return engine.tool()[0]


class PandaReach(RobotEnv):
    """The Panda brings its tool to within 5 cm of a point over the table, and holds it there.

    Ids ``bullet/PandaReach-v0`` and ``mujoco/PandaReach-v0``; episodes of 50 steps of 40 ms.

    Actions, Box(-1, 1, (3,), float32), with ``control="end_effector"``:

    | number | what                         | -1      | 1      |
    |--------|------------------------------|---------|--------|
    | 0      | displacement of the tool, x  | -5 cm   | 5 cm   |
    | 1      | displacement of the tool, y  | -5 cm   | 5 cm   |
    | 2      | displacement of the tool, z  | -5 cm   | 5 cm   |

    With ``control="joints"``, Box(-1, 1, (7,)): displacements of the joints, up to 0.05 rad.

    Observations, a Dict:

    | key           | shape | what                                                             |
    |---------------|-------|------------------------------------------------------------------|
    | observation   | (6,)  | the tool's position (m), velocity (m/s); joints' positions and   |
    |               |       | velocities after them, (20,), with ``control="joints"``          |
    | achieved_goal | (3,)  | the tool's position                                              |
    | desired_goal  | (3,)  | the point                                                        |
    | image, depth  |       | uint8 (S, S, 3), float32 (S, S, 1) in metres, with "pixels"/"both" |

    Rewards: minus the distance in metres ("dense"), or 0 within 5 cm and else -1 ("sparse").
    ``info["is_success"]`` says whether the tool is within 5 cm.
    """

    def __init__(self, engine: EngineName, **kwargs: Any) -> None:
        super().__init__(engine, PANDA.shut(), Reach(), **kwargs)
