"""Colours for what PyBullet's software renderer draws in white.

The renderer can take a texture only from a file, keeps every one that it ever loaded, and shows
none on a mesh without texture coordinates. So it draws all surfaces white, which is the light that
falls on each pixel, and the colours are laid on here: from the depth follows which point of which
body a pixel shows, and from that its place in the texture, which is wrapped around each body's
bounding box (one copy a face), as MuJoCo wraps a cube texture.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import cv2
import numpy as np

from envs.quiet import quiet
from envs.robotics import rotations, solids
from envs.robotics.engine import Frame
from envs.robotics.scene import Scene
from envs.robotics.textures import Texture

with quiet():
    import pybullet

NEAR, FAR = 0.05, 100.0
MAX_BIAS = 0.06  # m
LARGE = 256 * 256  # pixels; pictures of more have coarser shadows
SKY, ROBOT = 0, -1  # in Frame.segmentation


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
        position: Sequence[float],
        target: Sequence[float],
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

    def projection(self, width: int, height: int, near: float) -> list[float]:
        """Camera to clip space, as OpenGL has it, column by column.

        The renderer takes its samples at the pixels' lower left corners; the half pixel in the
        third column moves them to the middles.
        """
        whole = np.zeros((4, 4))
        whole[0, 0], whole[1, 1] = 1 / self.slope[0], 1 / self.slope[1]
        whole[0, 2], whole[1, 2] = 1 / width, 1 / height
        whole[2, 2] = -(FAR + near) / (FAR - near)
        whole[2, 3] = -2 * FAR * near / (FAR - near)
        whole[3, 2] = -1
        return [float(value) for value in whole.T.ravel()]

    def rays(self, rows: np.ndarray, columns: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Through the pixels' middles, one metre deep, in the world's axes, [N, 3]."""
        height, width = shape
        x = ((2 * columns + 1) / width - 1) * self.slope[0]
        y = (1 - (2 * rows + 1) / height) * self.slope[1]
        rays: np.ndarray = x[:, None] * self.axes[0] + y[:, None] * self.axes[1] - self.axes[2]
        return rays


class Painter:
    """Draws a scene.

    numbers: the client's id -> the number in ``Frame.segmentation``.
    values: the parameters, read anew for each picture.
    pose: of a body, by name.
    """

    def __init__(
        self,
        client: int,
        scene: Scene,
        numbers: Mapping[int, int],
        values: Mapping[str, Any],
        pose: Callable[[str], tuple[np.ndarray, np.ndarray]],
    ) -> None:
        self.client, self.scene, self.values, self.pose = client, scene, values, pose
        # What is seen, sky (-1 in the client) last.
        self._numbers = np.full(max(numbers, default=-1) + 2, SKY, dtype=np.int32)
        for uid, number in numbers.items():
            self._numbers[uid] = number
        self._surfaces = {
            SKY: "sky.texture",
            **{i: f"body.{body.name}.texture" for i, body in enumerate(scene.bodies, start=1)},
        }
        if scene.robot is not None:
            self._surfaces[ROBOT] = "robot.texture"

    def frame(self, camera: str, width: int, height: int) -> Frame:
        view = self._view(camera, width / height)
        light, worth = self._light()
        size, shadows = (width, height), self.scene.shadows
        large = shadows and width * height > LARGE
        shades, depth, ids = self._draw(view, light, size, shadows and not large)
        if large:
            shades = (shades * self._shadows(view, light, size)).astype(np.uint8)
        numbers = self._numbers.take(ids, mode="wrap")
        return Frame(self._coloured(shades, worth, view, numbers, depth), depth, numbers)

    def _draw(
        self, view: View, light: dict[str, Any], size: tuple[int, int], shadows: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """How bright each pixel is, uint8; how deep, float32; and what it is in the client."""
        near = NEAR - (self._bias(light, view, size[1]) / 2 if shadows else 0.0)
        _, _, pixels, buffer, ids = pybullet.getCameraImage(
            *size,
            view.matrix(),
            view.projection(*size, near),
            shadow=int(shadows),
            renderer=pybullet.ER_TINY_RENDERER,
            physicsClientId=self.client,
            **light,
        )
        depth = metres(buffer, near)
        depth[ids < 0] = np.inf
        return pixels[..., 0], depth, ids

    def _shadows(self, view: View, light: dict[str, Any], size: tuple[int, int]) -> np.ndarray:
        """What share of its brightness a shadow leaves each pixel, float32 [H, W].

        Shadows would double the time of a large picture: they are drawn four times coarser.
        """
        coarse = (max(1, size[0] // 4), max(1, size[1] // 4))
        with_, without = (self._draw(view, light, coarse, shadows)[0] for shadows in (True, False))
        share = with_.astype(np.float32) / np.maximum(without, 1)
        found: np.ndarray = cv2.resize(share, size, interpolation=cv2.INTER_LINEAR)
        return found

    def _view(self, camera: str, aspect: float) -> View:
        (spec,) = (spec for spec in self.scene.cameras if spec.name == camera)
        values = {part: self.values[f"camera.{camera}.{part}"] for part in View.PARTS}
        return View.of(up=np.array(spec.up), aspect=aspect, **values)

    def _light(self) -> tuple[dict[str, Any], np.ndarray]:
        """The renderer's arguments, all of them because it remembers; and its pixels' worth, [3].

        Its pixels end at 255, full light; where the light's parts sum up to more they are scaled
        down here, and the worth takes that back.
        """
        position, parts, colour = np.array([0.0, 0.0, 1.0]), np.zeros(3), np.ones(3)
        if self.scene.lights and self.values["light.0.on"]:
            position = np.array(self.values["light.0.position"], dtype=np.float64)
            names = ("ambient", "diffuse", "specular")
            parts = np.array([self.values[f"light.0.{name}"] for name in names], dtype=np.float64)
            colour = np.array(self.values["light.0.colour"], dtype=np.float64)
        scale = max(1.0, parts.sum())
        distance = float(np.linalg.norm(position))
        ambient, diffuse, specular = (parts / scale).tolist()
        arguments = {
            "lightDirection": (position / distance).tolist(),
            "lightDistance": distance,
            "lightColor": [1, 1, 1],
            "lightAmbientCoeff": ambient,
            "lightDiffuseCoeff": diffuse,
            "lightSpecularCoeff": specular,
        }
        return arguments, (scale * colour / 255).astype(np.float32)

    def _bias(self, light: dict[str, Any], view: View, height: int) -> float:
        """How far below a surface something must lie to be in its shadow, in metres.

        The renderer looks from the light through the camera's projection. A pixel there covers
        surfaces of different depth, which would shade themselves in stripes if it counted less
        than that. Twice what the near plane falls short of 5 cm counts for it.
        """
        x, y, z = light["lightDirection"]
        pixel = 2 * light["lightDistance"] * view.slope[1] / height
        slant = float(np.hypot(x, y)) / max(z, 0.2)
        return float(min(2e-3 + 3 * pixel * slant, MAX_BIAS))

    def _coloured(
        self,
        shades: np.ndarray,
        worth: np.ndarray,
        view: View,
        numbers: np.ndarray,
        depth: np.ndarray,
    ) -> np.ndarray:
        """The picture, uint8 [H, W, 3], from how bright it is in white, uint8 [H, W].

        worth: what a shade of 1 is of a colour, [3].
        """
        textures = {
            number: Texture.from_dict(self.values[path]) for number, path in self._surfaces.items()
        }
        lit = np.arange(256, dtype=np.float32)[:, None] * worth
        # Each surface's first colour in each shade; the robot's is the last row.
        table = np.zeros((len(self.scene.bodies) + 2, 256, 3), dtype=np.uint8)
        for number, texture in textures.items():
            colour = (255 * np.array(texture.first)).round()
            table[number] = colour if number == SKY else np.minimum(lit * colour, 255)
        rgb: np.ndarray = table.reshape(-1, 3).take(numbers * 256 + shades, axis=0, mode="wrap")
        for number, texture in textures.items():
            if texture.kind == "flat":
                continue
            rows, columns = np.nonzero(numbers == number)
            if len(rows) == 0:
                continue
            places = view.rays(rows, columns, numbers.shape)
            if number == SKY:
                rgb[rows, columns] = wrapped(places, _pixels(texture))
                continue
            points = view.position + places * depth[rows, columns, None]
            colours = wrapped(self._places(number, points), _pixels(texture))
            rgb[rows, columns] = np.minimum(lit[shades[rows, columns]] * colours, 255)
        return rgb

    def _places(self, number: int, points: np.ndarray) -> np.ndarray:
        """Points of the world as directions from a body's middle, its box made a cube."""
        offsets: np.ndarray
        if number == ROBOT:
            assert self.scene.robot is not None
            # Around the robot's foot; its links are no boxes.
            offsets = points - np.array(self.scene.robot.position)
            return offsets
        body = self.scene.bodies[number - 1]
        solid = solids.solid(body.shape)
        position, turn = self.pose(body.name)
        local = (points - position) @ rotations.matrix(turn)
        offsets = (local - solid.middle) / solid.half
        return offsets


def metres(buffer: np.ndarray, near: float) -> np.ndarray:
    """Depth along the camera's axis from a depth buffer (0 to 1)."""
    depth: np.ndarray = (FAR * near) / (FAR - (FAR - near) * buffer.astype(np.float64))
    return depth.astype(np.float32)


@lru_cache(maxsize=1024)
def _pixels(texture: Texture) -> np.ndarray:
    return texture.pixels()


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
