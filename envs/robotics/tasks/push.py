"""Push an object over the table to a point."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from envs.robotics import objects
from envs.robotics.assets import table
from envs.robotics.engine import Engine
from envs.robotics.parameters import Parameter
from envs.robotics.robot_env import TIMESTEP, EngineName, RobotEnv
from envs.robotics.robots import PANDA
from envs.robotics.scene import Body, RobotModel, Scene
from envs.robotics.tasks.reach import CAMERA
from envs.robotics.textures import Texture


class Push:
    """Object and goal lie anywhere in a square of 30 cm, at least 10 cm from each other."""

    grasps = False
    tolerance = 0.05
    camera = CAMERA.name

    def __init__(self, name: str = "cube") -> None:
        self.shape = objects.shape(name)
        self.height = objects.rest(self.shape)
        self.low, self.high = (-0.15, -0.15, self.height), (0.15, 0.15, self.height)
        self.goal = np.zeros(3)

    def scene(self, robot: RobotModel) -> Scene:
        red, green = Texture("flat", (0.85, 0.15, 0.1)), Texture("flat", (0.1, 0.8, 0.2))
        thing = Body("object", self.shape, mass=0.1, texture=red, friction=0.7)
        mark = Body("goal", self.shape, texture=green, solid=False)
        return Scene((*table(), thing, mark), robot, (CAMERA,), timestep=TIMESTEP)

    def parameters(self) -> dict[str, Parameter]:
        return {}

    def reset(self, engine: Engine, rng: np.random.Generator, values: Mapping[str, Any]) -> None:
        self.goal = rng.uniform(self.low, self.high)
        place = self.goal
        while np.linalg.norm(place - self.goal) < 0.1:
            place = rng.uniform(self.low, self.high)
        engine.place("object", place, turned(rng.uniform(-np.pi, np.pi)))
        # Just under the table's top but for its edges, so that it hides nothing.
        engine.place("goal", self.goal - [0.0, 0.0, 2 * self.height - 0.001], turned(0.0))

    def observe(self, engine: Engine) -> np.ndarray:
        return pose_and_velocity(engine, "object")

    def achieved(self, engine: Engine) -> np.ndarray:
        return engine.pose("object")[0]


def turned(yaw: float) -> np.ndarray:
    """Upright, turned about z."""
    return np.array([0.0, 0.0, np.sin(yaw / 2), np.cos(yaw / 2)])


def pose_and_velocity(engine: Engine, body: str) -> np.ndarray:
    """Position, quaternion with w >= 0, linear and angular velocity, float64 [13]."""
    position, quaternion = engine.pose(body)
    if quaternion[3] < 0:
        quaternion = -quaternion
    return np.concatenate([position, quaternion, *engine.velocity(body)])


class PandaPush(RobotEnv):
    """The Panda, its fingers shut, pushes an object to within 5 cm of a point on the table.

    Ids ``bullet/PandaPush-v0`` and ``mujoco/PandaPush-v0``; episodes of 50 steps of 40 ms.

    Actions: as PandaReach's.

    Observations, a Dict:

    | key           | shape | what                                                             |
    |---------------|-------|------------------------------------------------------------------|
    | observation   | (19,) | the tool's position (m) and velocity (m/s); with                 |
    |               |       | ``control="joints"`` (33,): the joints' positions and velocities;|
    |               |       | the object's position (m), quaternion (x y z w), velocity (m/s)  |
    |               |       | and angular velocity (rad/s)                                     |
    | achieved_goal | (3,)  | the object's position                                            |
    | desired_goal  | (3,)  | the point                                                        |
    | image, depth  |       | as PandaReach's                                                  |

    Rewards and ``info``: as PandaReach's, of the object's distance from the point.

    Args:
        target: one of the eight names in ``envs.robotics.objects.SHAPES``.
    """

    def __init__(self, engine: EngineName, target: str = "cube", **kwargs: Any) -> None:
        super().__init__(engine, PANDA.shut(), Push(target), **kwargs)
