"""Where in a camera's picture a point of the world is."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from envs.robotics.scene import Camera


def place(
    camera: Camera, drawn: Mapping[str, Any], point: Sequence[float] | np.ndarray
) -> np.ndarray:
    """[2]: right and down, from 0 to 1 across a square picture; what lies outside is beyond that.

    Args:
        camera: as the scene has it.
        drawn: parameters of this episode, of which the camera's take the scene's place.
        point: [3], before the camera.

    """
    path = f"camera.{camera.name}"
    position = np.array(drawn.get(f"{path}.position", camera.position), float)
    target = np.array(drawn.get(f"{path}.target", camera.target), float)
    fov = float(drawn.get(f"{path}.fov", camera.fov))
    roll = float(drawn.get(f"{path}.roll", 0.0))
    forward = _unit(target - position)
    right = _unit(np.cross(forward, camera.up))
    down = np.cross(forward, right)
    ray = np.asarray(point, float) - position
    x, y, z = ray @ right, ray @ down, ray @ forward
    # The camera turns anticlockwise, seen from behind it, and the picture the other way.
    x, y = np.cos(roll) * x - np.sin(roll) * y, np.sin(roll) * x + np.cos(roll) * y
    scale = z * np.tan(np.deg2rad(fov) / 2)
    where: np.ndarray = 0.5 + 0.5 * np.array([x, y]) / scale
    return where


def _unit(vector: np.ndarray) -> np.ndarray:
    unit: np.ndarray = vector / np.linalg.norm(vector)
    return unit
