"""A pinhole camera: from the world to its picture, as OpenGL has it, and back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np


@dataclass(frozen=True)
class View:
    """A pinhole camera: where it is, its axes (rows: right, up, back), and how much it sees.

    slope: (width, height) of half the picture, one metre away.
    """

    position: np.ndarray
    axes: np.ndarray
    slope: tuple[float, float]

    PARTS: ClassVar = ("position", "target", "roll", "fov")  # of a camera's parameters

    @classmethod
    def of(
        cls,
        position: Sequence[float] | np.ndarray,
        target: Sequence[float] | np.ndarray,
        up: np.ndarray,
        roll: float,
        fov: float,
        aspect: float,
    ) -> "View":
        """Looking at ``target``; ``roll`` turns the camera anticlockwise, seen from behind it.

        fov: vertical, in degrees; aspect: width over height.
        """
        place = np.array(position, dtype=np.float64)
        back = _unit(place - np.array(target))
        right = np.cross(up, back)
        if np.linalg.norm(right) < 1e-9:  # straight up or down: any direction will do
            right = np.cross([0.0, 1.0, 0.0], back)
        right = _unit(right)
        above = np.cross(back, right)
        c, s = np.cos(roll), np.sin(roll)
        axes = np.array([c * right + s * above, c * above - s * right, back])
        height = float(np.tan(np.deg2rad(fov) / 2))
        return cls(place, axes, (height * aspect, height))

    def matrix(self) -> list[float]:
        """World to camera, as OpenGL has it, column by column."""
        whole = np.eye(4)
        whole[:3, :3] = self.axes
        whole[:3, 3] = -self.axes @ self.position
        return [float(value) for value in whole.T.ravel()]

    def projection(self, width: int, height: int, near: float, far: float) -> list[float]:
        """Camera to clip space, as OpenGL has it, column by column.

        PyBullet's software renderer takes its samples at the pixels' lower left corners; the half
        pixel in the third column moves them to the middles.
        """
        whole = np.zeros((4, 4))
        whole[0, 0], whole[1, 1] = 1 / self.slope[0], 1 / self.slope[1]
        whole[0, 2], whole[1, 2] = 1 / width, 1 / height
        whole[2, 2] = -(far + near) / (far - near)
        whole[2, 3] = -2 * far * near / (far - near)
        whole[3, 2] = -1
        return [float(value) for value in whole.T.ravel()]

    def rays(self, rows: np.ndarray, columns: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Through the pixels' middles, one metre deep, in the world's axes, [N, 3]."""
        height, width = shape
        x = ((2 * columns + 1) / width - 1) * self.slope[0]
        y = (1 - (2 * rows + 1) / height) * self.slope[1]
        rays: np.ndarray = x[:, None] * self.axes[0] + y[:, None] * self.axes[1] - self.axes[2]
        return rays

    def seen(
        self, points: np.ndarray, shape: tuple[int, ...]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Column and row, in pixels from the upper left corner, and depth of points [N, 3]."""
        height, width = shape
        x, y, back = ((points - self.position) @ self.axes.T).T
        column = (1 - x / back / self.slope[0]) / 2 * width
        row = (1 + y / back / self.slope[1]) / 2 * height
        return column, row, -back


def metres(buffer: np.ndarray, near: float, far: float) -> np.ndarray:
    """Depth along the camera's axis from a depth buffer (0 to 1)."""
    depth: np.ndarray = (far * near) / (far - (far - near) * buffer.astype(np.float64))
    return depth.astype(np.float32)


def _unit(vector: np.ndarray) -> np.ndarray:
    unit: np.ndarray = vector / np.linalg.norm(vector)
    return unit
