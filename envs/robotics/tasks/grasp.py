"""Grasp an object and carry it to a point, on the table or above."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from envs.robotics import objects
from envs.robotics.assets import table
from envs.robotics.engine import Engine
from envs.robotics.parameters import Parameter
from envs.robotics.robot_env import TIMESTEP, EngineName, RobotEnv
from envs.robotics.robots import PANDA
from envs.robotics.scene import UPRIGHT, Body, RobotModel, Scene, sphere
from envs.robotics.tasks.push import pose_and_velocity, turned
from envs.robotics.tasks.reach import CAMERA
from envs.robotics.textures import Texture

ON_TABLE = 0.3  # share of goals on the table: the first ones that exploration finds


class Grasp:
    """The object lies in a square of 30 cm, the goal up to 20 cm above one."""

    grasps = True
    tolerance = 0.05
    camera = CAMERA.name

    def __init__(self, name: str = "cube") -> None:
        self.shape = objects.shape(name)
        self.height = objects.rest(self.shape)
        self.low, self.high = (-0.15, -0.15, self.height), (0.15, 0.15, self.height + 0.2)
        self.goal = np.zeros(3)

    def scene(self, robot: RobotModel) -> Scene:
        red, green = Texture("flat", (0.85, 0.15, 0.1)), Texture("flat", (0.1, 0.8, 0.2))
        thing = Body("object", self.shape, mass=0.1, texture=red, friction=1.0)
        mark = Body("goal", sphere(0.015), texture=green, solid=False)
        return Scene((*table(), thing, mark), robot, (CAMERA,), timestep=TIMESTEP)

    def parameters(self) -> dict[str, Parameter]:
        return {}

    def reset(self, engine: Engine, rng: np.random.Generator, values: Mapping[str, Any]) -> None:
        place = np.array([*rng.uniform(self.low[:2], self.high[:2]), self.height])
        # A few degrees, as the hand cannot turn about the vertical.
        engine.place("object", place, turned(rng.uniform(-0.2, 0.2)))
        self.goal = rng.uniform(self.low, self.high)
        if rng.random() < ON_TABLE:
            self.goal[2] = self.height
        engine.place("goal", self.goal, np.array(UPRIGHT))

    def observe(self, engine: Engine) -> np.ndarray:
        return pose_and_velocity(engine, "object")

    def achieved(self, engine: Engine) -> np.ndarray:
        return engine.pose("object")[0]


class PandaGrasp(RobotEnv):
    """The Panda grasps an object and carries it to within 5 cm of a point.

    Ids ``bullet/PandaGrasp-v0`` and ``mujoco/PandaGrasp-v0``; episodes of 50 steps of 40 ms.
    Three goals in ten lie on the table, the others up to 20 cm above it.

    Actions, Box(-1, 1, (4,), float32), with ``control="end_effector"``: PandaReach's three, and

    | number | what        | -1   | 1    |
    |--------|-------------|------|------|
    | 3      | the fingers | shut | open |

    With ``control="joints"``, Box(-1, 1, (8,)): the joints' displacements, and the fingers last.

    Observations, a Dict:

    | key           | shape | what                                                             |
    |---------------|-------|------------------------------------------------------------------|
    | observation   | (21,) | as PandaPush's, with the two fingers' positions (m) before the   |
    |               |       | object's; (35,) with ``control="joints"``                        |
    | achieved_goal | (3,)  | the object's position                                            |
    | desired_goal  | (3,)  | the point                                                        |
    | image, depth  |       | as PandaReach's                                                  |

    Rewards and ``info``: as PandaReach's, of the object's distance from the point.

    Args:
        target: one of the eight names in ``envs.robotics.objects.SHAPES``.
    """

    def __init__(self, engine: EngineName, target: str = "cube", **kwargs: Any) -> None:
        super().__init__(engine, PANDA, Grasp(target), **kwargs)
