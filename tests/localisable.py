"""A stand-in for TableLocalise, for what needs no simulator: a square on a plain table."""

from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box

from envs.robotics.parameters import Parameter, Value, check
from envs.robotics.scene import Camera, Scene

ID = "drawn/TableLocalise-v0"
PARAMETERS = {
    "task.distractors": Parameter("task.distractors", "integer", 5, 0, 10),
    "task.occluded": Parameter("task.occluded", "integer", 0, 0, 1),
    "body.table.grey": Parameter("body.table.grey", "number", 0.5, 0.0, 1.0),
}
CAMERA = Camera("main", (0.5, 0.0, 1.0), (0.5, 0.0, 0.0), up=(1.0, 0.0, 0.0), fov=45.0)


class Drawn(gym.Env[Any, Any]):
    """Looks straight down from a metre above the middle; x is up in the picture, y is left."""

    low, high = (0.3, -0.2, 0.0), (0.7, 0.2, 0.0)
    scene = Scene((), cameras=(CAMERA,))
    opened = 0  # environments that are not closed

    def __init__(
        self, target: str, image_size: int, visibility: bool, distractors: str = "shapes"
    ) -> None:
        if (target, distractors) != ("cube", "shapes"):
            raise ValueError("this stand-in has cubes and shapes only")
        self.size, self.visibility = image_size, visibility
        self.observation_space = Box(0, 255, (image_size, image_size, 3), np.uint8)
        self.action_space = Box(-1, 1, (3,), np.float32)
        self.engine = SimpleNamespace(scene=self.scene, unsupported={})
        self.values: dict[str, Any] = {path: p.nominal for path, p in PARAMETERS.items()}
        Drawn.opened += 1

    def parameters(self) -> dict[str, Parameter]:
        return PARAMETERS

    def set_parameters(self, values: dict[str, Value]) -> None:
        check(PARAMETERS, values)
        self.values |= values

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        position = self.np_random.uniform(self.low, self.high)
        grey = round(255 * self.values["body.table.grey"])
        picture = np.full((self.size, self.size, 3), grey, np.uint8)
        scale = self.size / (2 * np.tan(np.deg2rad(CAMERA.fov / 2)))
        row = int(self.size / 2 - scale * (position[0] - 0.5))
        column = int(self.size / 2 - scale * position[1])
        picture[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] = 255 - grey
        return picture, {"position": position, "visible": 1.0 if self.visibility else np.nan}

    def close(self) -> None:
        Drawn.opened -= 1


gym.register(ID, f"{__name__}:Drawn")
