"""Say where an object is, from one picture (Tobin et al., 2017)."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box

from envs.robotics import objects
from envs.robotics.assets import table
from envs.robotics.parameters import Parameter, ParameterError, Value, check, scene_parameters
from envs.robotics.robot_env import EngineName, make_engine
from envs.robotics.robots import PANDA
from envs.robotics.scene import Body, Camera, Light, Scene
from envs.robotics.tasks.push import turned
from envs.robotics.textures import Texture

POOL = 20  # distractors there are, of which up to 10 are shown
GAP = 0.01  # m between two objects seen from above, at least
CAMERA = Camera("main", position=(0.85, 0.0, 0.75), target=(0.0, 0.0, 0.0), fov=36.0)
# Two more wait to be switched on, where the engine has several.
LIGHTS = (Light(), Light((-0.6, -0.8, 2.0), on=False), Light((0.2, 1.0, 2.0), on=False))
AROUND = 0.06  # m beyond the workspace that other objects may stand
# The arm's joints are drawn back, so that it stands behind the table's middle and not over it.
AWAY = (0.0, -0.9, 0.0, -2.6, 0.0, 2.2, 0.785, 0.0, 0.0)
OCCLUDED = (0.3, 0.8)  # share of the object that is still seen


class TableLocalise(gym.Env[np.ndarray, np.ndarray]):
    """Estimates an object's position on a table from one picture; every episode is one step.

    Ids ``bullet/TableLocalise-v0`` and ``mujoco/TableLocalise-v0``.

    Observations, Box(0, 255, (S, S, 3), uint8): what a camera a good metre away sees of the
    table, the object, other objects and the robot.

    Actions, Box(-1, 1, (3,), float32): the estimate, -1 and 1 being ``low`` and ``high``:

    | number | what                              | -1     | 1     |
    |--------|-----------------------------------|--------|-------|
    | 0      | x, towards the camera             | -15 cm | 15 cm |
    | 1      | y, to the camera's right          | -20 cm | 20 cm |
    | 2      | z of the object's origin          | 0 cm   | 10 cm |

    The reward is minus the error in metres. ``info`` has "position" (m, [3]) and "visible", the
    share of the object's pixels that no other object covers (NaN if it is not looked for).

    Parameters of its own: "task.distractors", 0 to 10 other objects, and "task.occluded", 1 to
    put one of them (shown in any case) in front of the object, so that 30-80% of it is seen.

    Args:
        target: one of the eight names in ``envs.robotics.objects.SHAPES``.
        distractors: "shapes" (the other seven), "training_meshes", "held_out_meshes", or "mixed":
            shapes, and training meshes that "training_meshes" does not have.
        image_size: S.
        visibility: whether to look how much of the object is seen, which takes two more pictures
            or, for an occluded one, up to 22. Without, what is to occlude it may miss it.
        render_mode: "rgb_array" or None.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 1}  # noqa: RUF012
    low, high = (-0.15, -0.2, 0.0), (0.15, 0.2, 0.1)

    def __init__(
        self,
        engine: EngineName,
        target: str = "cube",
        distractors: str = "shapes",
        image_size: int = 112,
        visibility: bool = True,
        render_mode: str | None = None,
    ) -> None:
        self.target, self.image_size, self.render_mode = target, image_size, render_mode
        self.visibility = visibility
        shape = objects.shape(target)
        red = Texture("flat", (0.85, 0.15, 0.1))
        self._others = [
            Body(f"distractor{i}", other, mass=0.1, hidden=True)
            for i, other in enumerate(objects.pool(distractors, POOL, target))
        ]
        self._target = Body("object", shape, mass=0.1, texture=red)
        bodies = (*table(half_width=0.36), self._target, *self._others)
        self.scene = Scene(bodies, PANDA, (CAMERA,), LIGHTS)
        self.engine = make_engine(engine, self.scene)
        self._own = {
            "task.distractors": Parameter("task.distractors", "integer", 0, 0, 10, live=False),
            "task.occluded": Parameter("task.occluded", "integer", 0, 0, 1, live=False),
        }
        self._values: dict[str, Any] = {path: p.nominal for path, p in self._own.items()}
        self.observation_space = Box(0, 255, (image_size, image_size, 3), np.uint8)
        self.action_space = Box(-1.0, 1.0, (3,), np.float32)
        self._position = np.zeros(3)
        self._picture = np.zeros(self.observation_space.shape, np.uint8)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.engine.reset()
        self.engine.set_joints(np.array(AWAY))
        margin = objects.reach(self._target.shape)
        low, high = np.array(self.low[:2]) + margin, np.array(self.high[:2]) - margin
        self._position = np.array(
            [*self.np_random.uniform(low, high), objects.rest(self._target.shape)]
        )
        yaw = self.np_random.uniform(-np.pi, np.pi)
        self.engine.place("object", self._position, turned(yaw))
        visible = self._arrange()
        self._picture = self.engine.rgb(CAMERA.name, self.image_size, self.image_size)
        return self._picture, {"position": self._position.copy(), "visible": visible}

    def _arrange(self) -> float:
        """Places the other objects; returns how much of the object is still seen."""
        count: int = self._values["task.distractors"]
        occluded: int = self._values["task.occluded"]
        chosen = self.np_random.permutation(len(self._others))[: max(count, occluded)]
        if len(chosen) == 0:
            return 1.0 if self.visibility else np.nan
        whole = self._seen() if self.visibility else 0
        taken = [(self._position[:2], objects.reach(self._target.shape))]
        visible = 1.0 if self.visibility else np.nan
        if occluded:
            visible = self._occlude(self._others[chosen[0]], whole, taken)
            chosen = chosen[1:]
        for number in chosen:
            self._put(self._others[number], taken)
        if len(chosen) == 0 or not self.visibility:
            return visible
        return self._seen() / max(whole, 1)

    def _put(self, body: Body, taken: list[tuple[np.ndarray, float]]) -> None:
        """Somewhere free on the table; nowhere if there is none."""
        radius = objects.reach(body.shape)
        for _ in range(100):
            low, high = np.array(self.low[:2]) - AROUND, np.array(self.high[:2]) + AROUND
            place = self.np_random.uniform(low, high)
            if all(np.linalg.norm(place - p) > radius + r + GAP for p, r in taken):
                self._stand(body, place, self.np_random.uniform(-np.pi, np.pi))
                taken.append((place, radius))
                return

    def _occlude(self, body: Body, whole: int, taken: list[tuple[np.ndarray, float]]) -> float:
        """Puts a body between object and camera, the first of 20 places that hides enough."""
        towards = np.array(CAMERA.position[:2]) - self._position[:2]
        towards /= np.linalg.norm(towards)
        across = np.array([-towards[1], towards[0]])
        near = objects.reach(body.shape) + objects.reach(self._target.shape)
        best, chosen = 1.0, (self._position[:2] + towards * near, 0.0)
        for _ in range(20):
            ahead, aside = self.np_random.uniform(0.9, 1.3), self.np_random.uniform(-0.6, 0.6)
            pose = (
                self._position[:2] + near * (ahead * towards + aside * across),
                self.np_random.uniform(-np.pi, np.pi),
            )
            self._stand(body, *pose)
            if not self.visibility:
                best, chosen = np.nan, pose
                break
            visible = self._seen() / max(whole, 1)
            if OCCLUDED[0] <= visible < best:
                best, chosen = visible, pose
            if best <= OCCLUDED[1]:
                break
        self._stand(body, *chosen)
        taken.append((chosen[0], objects.reach(body.shape)))
        return best

    def _stand(self, body: Body, place: np.ndarray, yaw: float) -> None:
        self.engine.place(body.name, np.array([*place, objects.rest(body.shape)]), turned(yaw))

    def _seen(self) -> int:
        """Pixels of the object."""
        number = self.scene.bodies.index(self._target) + 1
        frame = self.engine.render(CAMERA.name, self.image_size, self.image_size)
        return int((frame.segmentation == number).sum())

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        low, high = np.array(self.low), np.array(self.high)
        estimate = low + (np.asarray(action, np.float64) + 1) / 2 * (high - low)
        error = float(np.linalg.norm(estimate - self._position))
        info = {"position": self._position.copy(), "is_success": error < 0.015}
        return self._picture.copy(), -error, True, False, info

    def render(self) -> np.ndarray | None:
        return None if self.render_mode is None else self.engine.rgb(CAMERA.name, 480, 480)

    def close(self) -> None:
        self.engine.close()

    def parameters(self) -> dict[str, Parameter]:
        """Everything that may be changed: what is seen of the engine's, and the task's."""
        seen = {path: p for path, p in self.engine.parameters().items() if p.visual}
        return {**seen, **self._own}

    @property
    def unsupported(self) -> dict[str, str]:
        """Path -> why it cannot be changed here, though the engine could."""
        parameters = self.engine.parameters().items()
        return {path: "nothing moves in this task" for path, p in parameters if not p.visual}

    def set_parameters(self, values: dict[str, Value]) -> None:
        """As ``RobotEnv.set_parameters``."""
        for path in values:
            if path in self.unsupported:
                raise ParameterError(f"{path} cannot be changed: {self.unsupported[path]}")
        check({**scene_parameters(self.scene), **self._own}, values)
        own = {path: value for path, value in values.items() if path in self._own}
        self.engine.set({path: value for path, value in values.items() if path not in own})
        self._values |= own
