"""What of a scene may be changed from outside: every parameter's path, nominal value and range.

The list is made from the scene alone. Each engine says which of it it cannot do and why, and
refuses those; nothing is ignored in silence.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal

from envs.robotics.scene import Scene
from envs.robotics.textures import Texture

Kind = Literal["number", "integer", "vector", "colour", "texture"]
# As JSON has them: a number, a list of three numbers, or a texture's fields.
Value = float | int | list[float] | dict[str, Any]


class ParameterError(ValueError):
    """A parameter that is not there, that this engine cannot change, or a value it cannot take."""


@dataclass(frozen=True)
class Parameter:
    """A parameter.

    path: its name, such as "body.cube.mass".
    kind: "number", "integer", "vector" and "colour" (three numbers) or "texture".
    nominal: the scene's own value, as JSON has it.
    low, high: the values that make sense, elementwise; a texture has none.
    unit: "" where it has none.
    visual: it changes pixels and no motion.
    live: it may change in the middle of an episode; others only before a reset.
    """

    path: str
    kind: Kind
    nominal: Value
    low: float = float("-inf")
    high: float = float("inf")
    unit: str = ""
    visual: bool = False
    live: bool = True


def scene_parameters(scene: Scene) -> dict[str, Parameter]:
    """Path -> parameter, of everything that a scene has."""
    found: list[Parameter] = [
        Parameter("world.gravity", "vector", list(scene.gravity), -30.0, 30.0, "m/s²"),
        Parameter("sky.texture", "texture", scene.sky.as_dict(), visual=True),
    ]
    for body in scene.bodies:
        path = f"body.{body.name}"
        found.append(Parameter(f"{path}.texture", "texture", body.texture.as_dict(), visual=True))
        if body.solid:
            found.append(Parameter(f"{path}.friction", "number", body.friction, 0.0, 10.0))
        if body.mass:
            found += [
                Parameter(f"{path}.mass", "number", body.mass, 1e-4, 1e3, "kg"),
                # On top of the change that a mass brings: the whole tensor, times this.
                Parameter(f"{path}.inertia", "number", 1.0, 0.01, 100.0, "×"),
                Parameter(f"{path}.damping", "number", 0.0, 0.0, 10.0, "N s/m, N m s"),
            ]
    if scene.robot is not None:
        found += _robot_parameters(scene)
    for i, light in enumerate(scene.lights):
        path = f"light.{i}"
        found += [
            Parameter(f"{path}.position", "vector", list(light.position), -10, 10, "m", True),
            Parameter(f"{path}.colour", "colour", list(light.colour), 0.0, 1.0, visual=True),
            Parameter(f"{path}.ambient", "number", light.ambient, 0.0, 1.0, visual=True),
            Parameter(f"{path}.diffuse", "number", light.diffuse, 0.0, 1.0, visual=True),
            Parameter(f"{path}.specular", "number", light.specular, 0.0, 1.0, visual=True),
            Parameter(f"{path}.on", "integer", int(light.on), 0, 1, visual=True),
        ]
    for camera in scene.cameras:
        path = f"camera.{camera.name}"
        found += [
            Parameter(f"{path}.position", "vector", list(camera.position), -10, 10, "m", True),
            Parameter(f"{path}.target", "vector", list(camera.target), -10, 10, "m", True),
            Parameter(f"{path}.roll", "number", 0.0, -3.15, 3.15, "rad", True),
            Parameter(f"{path}.fov", "number", camera.fov, 5.0, 120.0, "°", True),
        ]
    return {parameter.path: parameter for parameter in found}


def _robot_parameters(scene: Scene) -> list[Parameter]:
    robot = scene.robot
    assert robot is not None
    found = [
        # Factors, because a robot has as many values as it has links.
        Parameter("robot.mass", "number", 1.0, 0.05, 20.0, "×"),
        Parameter("robot.inertia", "number", 1.0, 0.05, 20.0, "×"),
        Parameter("robot.friction", "number", 1.0, 0.0, 10.0),
        Parameter(
            "robot.texture", "texture", {"kind": "flat", "first": [0.9, 0.9, 0.9]}, visual=True
        ),
    ]
    for joint, gain in zip(robot.joints, robot.gains, strict=True):
        path = f"joint.{joint}"
        found += [
            Parameter(f"{path}.gain", "number", gain, 0.0, 1e3, "1/s"),
            Parameter(f"{path}.damping", "number", 1.0, 0.0, 1e3, "N m s/rad, N s/m"),
            Parameter(f"{path}.armature", "number", 0.1, 0.0, 10.0, "kg m²"),
            Parameter(f"{path}.friction", "number", 0.0, 0.0, 50.0, "N m, N"),
        ]
    return found


def check(parameters: Mapping[str, Parameter], values: Mapping[str, Value]) -> None:
    """Raises ParameterError, with the nearest valid name, unless every value can be set."""
    for path, value in values.items():
        if path not in parameters:
            near = get_close_matches(path, list(parameters), 1, 0.0)
            raise ParameterError(
                f"there is no parameter {path!r}" + (f"; nearest: {near[0]}" if near else "")
            )
        parameter = parameters[path]
        if parameter.kind == "texture":
            if not isinstance(value, dict):
                raise ParameterError(f"{path} is a texture, not {value!r}")
            try:
                Texture.from_dict(value)
            except (TypeError, ValueError) as error:
                raise ParameterError(f"{path}: {error}") from None
            continue
        wanted = 3 if parameter.kind in ("vector", "colour") else 1
        parts = value if isinstance(value, list) else [value]
        numbers = all(
            isinstance(part, (int, float)) and not isinstance(part, bool) for part in parts
        )
        if len(parts) != wanted or not numbers or isinstance(value, list) != (wanted == 3):
            raise ParameterError(f"{path} is a {parameter.kind}, not {value!r}")
        if parameter.kind == "integer" and value != int(value):  # type: ignore[arg-type]
            raise ParameterError(f"{path} is an integer, not {value!r}")
        if not all(parameter.low <= part <= parameter.high for part in parts):  # type: ignore[operator]
            raise ParameterError(
                f"{path} lies in {parameter.low:g} to {parameter.high:g}, not {value!r}"
            )
