"""Colours for what PyBullet's software renderer draws in white.

The renderer can take a texture only from a file, keeps every one that it ever loaded, and shows
none on a mesh without texture coordinates. So it draws all surfaces white, which is the light that
falls on each pixel, and the colours are laid on here: from the depth follows which point of which
body a pixel shows, and from that its place in the texture, which is wrapped around each body's
bounding box (one copy a face), as MuJoCo wraps a cube texture.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from envs.quiet import quiet
from envs.robotics import rotations, solids
from envs.robotics.bullet_shadows import shadows
from envs.robotics.engine import Frame
from envs.robotics.pinhole import View, metres
from envs.robotics.scene import Scene
from envs.robotics.textures import Texture

with quiet():
    import pybullet

NEAR, FAR = 0.05, 100.0
LARGE = 256 * 256  # pixels; pictures of more have their shadows worked out for every other one
SKY, ROBOT = 0, -1  # in Frame.segmentation


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
        shades, depth, ids = self._draw(view, light, (width, height), NEAR, FAR)
        if self.scene.shadows:
            shades = self._shadowed(view, light, shades, depth)
        numbers = self._numbers.take(ids, mode="wrap")
        return Frame(self._coloured(shades, worth, view, numbers, depth), depth, numbers)

    def _draw(
        self, view: View, light: dict[str, Any], size: tuple[int, int], near: float, far: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """How bright each pixel is, uint8; how deep, float32; and what it is in the client."""
        _, _, pixels, buffer, ids = pybullet.getCameraImage(
            *size,
            view.matrix(),
            view.projection(*size, near, far),
            shadow=0,
            renderer=pybullet.ER_TINY_RENDERER,
            physicsClientId=self.client,
            **light,
        )
        depth = metres(buffer, near, far)
        depth[ids < 0] = np.inf
        return pixels[..., 0], depth, ids

    def _shadowed(
        self, view: View, light: dict[str, Any], shades: np.ndarray, depth: np.ndarray
    ) -> np.ndarray:
        """Only the ambient light is left where the lamp does not reach; uint8 [H, W].

        The renderer's own shadows leave most of it, are striped, and end where the camera's field
        of view, seen from the light, does.
        """
        large = shades.size > LARGE
        step = 2 if large else 1  # pixels
        direct = np.maximum(shades - 255 * light["lightAmbientCoeff"], 0).astype(np.float32)
        seen = np.isfinite(depth[::step, ::step]) & (direct[::step, ::step] > 0)
        rows, columns = step * np.array(np.nonzero(seen))
        rays = view.rays(rows, columns, depth.shape)
        # Highlights only make it too steep.
        cosine = direct[rows, columns] / (255 * max(light["lightDiffuseCoeff"], 1e-3))
        hidden = np.zeros(seen.shape, dtype=np.float32)
        hidden[seen] = shadows(
            view.position + rays * depth[rows, columns, None],
            cosine,
            np.array(light["lightDirection"]),
            lambda lamp, size, near, far: self._draw(lamp, light, size, near, far)[1],
        )
        if large:
            hidden = cv2.resize(hidden, shades.shape[::-1], interpolation=cv2.INTER_LINEAR)
        left: np.ndarray = (shades - hidden * direct).round().astype(np.uint8)
        return left

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
            there = numbers == number
            if not there.any():
                continue
            if number == SKY:
                sky = _sky(view.axes.tobytes(), view.slope, numbers.shape, texture)
                np.copyto(rgb, sky, where=there[..., None])
                continue
            rows, columns = np.nonzero(there)
            rays = view.rays(rows, columns, numbers.shape)
            points = view.position + rays * depth[rows, columns, None]
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


@lru_cache(maxsize=8)
def _sky(
    axes: bytes, slope: tuple[float, float], shape: tuple[int, int], texture: Texture
) -> np.ndarray:
    """A whole picture of it, uint8 [H, W, 3]: the same as long as the camera does not turn."""
    view = View(np.zeros(3), np.frombuffer(axes).reshape(3, 3), slope)
    rows, columns = (index.ravel() for index in np.indices(shape))
    return wrapped(view.rays(rows, columns, shape), _pixels(texture)).reshape(*shape, 3)


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
