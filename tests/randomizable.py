"""An environment without a simulator that has every parameter of a scene, and one text a spec."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np

from envs.robotics.parameters import Parameter, Value, check, scene_parameters
from envs.robotics.scene import Body, Camera, Scene, box
from sim2real.spec import Spec

SCENE = Scene(
    (
        Body("cube", box(0.02, 0.02, 0.02), mass=0.1, friction=0.8),
        Body("ball", box(0.03, 0.03, 0.03), mass=0.2),
        Body("table", box(0.5, 0.5, 0.1)),
    ),
    cameras=(Camera("front", (1.0, 0.0, 0.6), (0.4, 0.0, 0.0)),),
)
UNSUPPORTED = {"light.0.specular": "its renderer has no highlights", "sky.*": "it has no sky"}


class Randomizable(gym.Env[Any, Any]):
    """Observes what its parameters and its own generator make; ends when that says so.

    Its state adds up, so that whatever differs once differs ever after.
    """

    def __init__(self, observation: gym.Space[Any] | None = None, not_live: str = "") -> None:
        self.observation_space = observation or gym.spaces.Box(-np.inf, np.inf, (3,), np.float64)
        self.action_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.engine = SimpleNamespace(scene=SCENE, unsupported=UNSUPPORTED)
        self._parameters = {
            path: Parameter(**{**vars(parameter), "live": not fnmatchcase(path, not_live)})
            for path, parameter in scene_parameters(SCENE).items()
            if not any(fnmatchcase(path, pattern) for pattern in UNSUPPORTED)
        }
        self._parameters["control.substeps"] = Parameter("control.substeps", "integer", 20, 1, 100)
        self.values: dict[str, Value] = {p: x.nominal for p, x in self._parameters.items()}
        self.actions: list[Any] = []

    def parameters(self) -> dict[str, Parameter]:
        return dict(self._parameters)

    def set_parameters(self, values: Mapping[str, Value]) -> None:
        check(self._parameters, values)
        self.values.update(values)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.options, self.actions = options, []
        self.state = self.np_random.random(3)
        return self.state.copy(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.actions.append(np.array(action))
        mass, cube = self.values["body.cube.mass"], self.values["body.cube.friction"]
        self.state += [mass * action[0], cube * action[1], self.np_random.random()]
        return self.state.copy(), float(self.state.sum()), bool(self.state[2] > 20), False, {}


def spec(*tables: str) -> Spec:
    """Of the fields of each parameter, as TOML."""
    text = "\n".join("[[parameter]]\n" + "\n".join(table.split("; ")) for table in tables)
    return Spec.parse(text, "test")


def uniform(path: str, low: Any, high: Any, **fields: Any) -> str:
    """One such table."""
    text = f'path = "{path}"; distribution = {{kind = "uniform", low = {low}, high = {high}}}'
    for name, value in fields.items():
        text += f"; {name} = {value!r}"
    return text
