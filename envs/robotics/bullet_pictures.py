"""Colours for what PyBullet's software renderer draws in white.

The renderer can take a texture only from a file, keeps every one that it ever loaded, and shows
none on a mesh without texture coordinates. So it draws all surfaces white, which is the light that
falls on each pixel, and the colours are laid on here: from the depth follows which point of which
body a pixel shows, and from that its place in the texture, which is wrapped around each body's
bounding box (one copy a face), as MuJoCo wraps a cube texture.
"""

from dataclasses import dataclass

import numpy as np

NEAR, FAR = 0.05, 30.0


@dataclass(frozen=True)
class View:
    """A pinhole camera: where it is, its axes (rows: right, up, back), and how much it sees.

    slope: (width, height) of half the picture, one metre away.
    """

    position: np.ndarray
    axes: np.ndarray
    slope: tuple[float, float]

    @classmethod
    def of(
        cls,
        position: np.ndarray,
        target: np.ndarray,
        up: np.ndarray,
        roll: float,
        fov: float,
        aspect: float,
    ) -> "View":
        """Looking at ``target``; ``roll`` turns the camera anticlockwise, seen from behind it."""
        back = _unit(position - target)
        right = np.cross(up, back)
        if np.linalg.norm(right) < 1e-9:  # straight up or down: any direction will do
            right = np.cross([0.0, 1.0, 0.0], back)
        right = _unit(right)
        above = np.cross(back, right)
        c, s = np.cos(roll), np.sin(roll)
        axes = np.array([c * right + s * above, c * above - s * right, back])
        height = float(np.tan(np.deg2rad(fov) / 2))
        return cls(position, axes, (height * aspect, height))

    def matrix(self) -> list[float]:
        """World to camera, as OpenGL has it, column by column."""
        whole = np.eye(4)
        whole[:3, :3] = self.axes
        whole[:3, 3] = -self.axes @ self.position
        return [float(value) for value in whole.T.ravel()]

    def projection(self, width: int, height: int) -> list[float]:
        """Camera to clip space, as OpenGL has it, column by column.

        The renderer takes its samples at the pixels' lower left corners; the half pixel in the
        third column moves them to the middles.
        """
        whole = np.zeros((4, 4))
        whole[0, 0], whole[1, 1] = 1 / self.slope[0], 1 / self.slope[1]
        whole[0, 2], whole[1, 2] = 1 / width, 1 / height
        whole[2, 2] = -(FAR + NEAR) / (FAR - NEAR)
        whole[2, 3] = -2 * FAR * NEAR / (FAR - NEAR)
        whole[3, 2] = -1
        return [float(value) for value in whole.T.ravel()]

    def rays(self, rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """Through the pixels' middles, one metre deep, in the world's axes, [N, 3]."""
        height, width = shape
        x = ((2 * columns + 1) / width - 1) * self.slope[0]
        y = (1 - (2 * rows + 1) / height) * self.slope[1]
        rays: np.ndarray = x[:, None] * self.axes[0] + y[:, None] * self.axes[1] - self.axes[2]
        return rays


def metres(buffer: np.ndarray) -> np.ndarray:
    """Depth along the camera's axis from a depth buffer (0 to 1)."""
    depth: np.ndarray = (FAR * NEAR) / (FAR - (FAR - NEAR) * buffer.astype(np.float64))
    return depth


def wrapped(directions: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """The texture's colours in these directions from the middle of a cube, uint8 [N, 3].

    directions: [N, 3]; pixels: uint8 [S, S, 3], shown upright on the four sides.
    """
    size = len(pixels)
    magnitude = np.abs(directions)
    axis = magnitude.argmax(axis=1)
    take = np.arange(len(directions))
    scale = 0.5 * size / np.maximum(magnitude[take, axis], 1e-12)
    # Sides have z for the vertical; top and bottom have y.
    across = directions[take, np.where(axis == 0, 1, 0)] * scale + 0.5 * size
    along = directions[take, np.where(axis == 2, 1, 2)] * scale + 0.5 * size
    column = across.astype(np.intp).clip(0, size - 1)
    row = (size - along).astype(np.intp).clip(0, size - 1)
    found: np.ndarray = pixels[row, column]
    return found


def _unit(vector: np.ndarray) -> np.ndarray:
    unit: np.ndarray = vector / np.linalg.norm(vector)
    return unit
