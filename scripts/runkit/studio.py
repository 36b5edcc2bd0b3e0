"""Pictures of known objects on a table, drawn with PyBullet's own rasterizer (TinyRenderer).

Everything about a picture comes from one random generator, so picture i of a set is the same
whoever draws it and in whichever order. What is drawn anew for each picture:

    object    yaw U(0, 360°), tilt U(0, 30°), any hue; its lowest point touches the table
    table     one of 48 textures; training and test sets have different ones
    camera    azimuth U(0, 360°), elevation U(25, 70°), distance and target, 36° field of view
    light     azimuth U(0, 360°), elevation U(35, 80°), colour, ambient, diffuse and specular parts

A picture is drawn at twice its size and 2x2 blocks averaged: TinyRenderer smooths no edges.
"""

import colorsys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pybullet
import pybullet_data

Set = Literal["simulator_classes", "simulator_masks"]

RENDERER = "PyBullet TinyRenderer (DIRECT)"
DIAGONAL = 0.17  # of every object's bounding box, in metres
TEXTURES = 48
FIELD_OF_VIEW = 36.0  # degrees

# Name -> file in pybullet_data and whether its y axis points up; None: a prism made here.
OBJECTS: dict[str, tuple[str, bool] | None] = {
    "bunny": ("bunny.obj", True),
    "cube": None,
    "cylinder": None,
    "duck": ("duck.obj", True),
    "lego": ("lego/lego.obj", True),
    "mug": ("urdf/mug.obj", False),
    "prism": None,
    "sphere": ("sphere_smooth.obj", True),
    "teddy": ("teddy2_VHACD_CHs.obj", True),
    "torus": ("torus/torus_textured.obj", True),
}
SIDES = {"prism": 3, "cube": 4, "cylinder": 32}


@dataclass(frozen=True)
class Scene:
    """What distinguishes the two sets."""

    classes: tuple[str, ...]
    copies: int  # bodies of a class at most
    objects: tuple[int, int]  # fewest and most in a picture
    spread: float  # objects stand within ± this many metres
    gap: float  # metres between two objects' centres at least
    distance: tuple[float, float]  # of the camera, in metres
    visible: float  # share of the picture that each object covers at least


SCENES: dict[Set, Scene] = {
    "simulator_classes": Scene(tuple(OBJECTS), 1, (1, 1), 0.02, 0.0, (0.42, 0.60), 0.03),
    "simulator_masks": Scene(
        ("cube", "duck", "mug", "sphere", "torus"), 2, (2, 4), 0.13, 0.14, (0.60, 0.75), 0.01
    ),
}


@dataclass(frozen=True)
class Picture:
    """One drawn picture.

    pixels: uint8 [3, S, S], RGB.
    instances: uint8 [S, S], 0 for table and floor, i for the i-th object.
    classes: int64 [objects], indices into the scene's classes.
    poses: float32 [objects, 7], position x y z in metres and quaternion x y z w in the world's
        frame (z up, 0 on the table).
    view: float32 [4, 4], world -> camera (OpenGL's: the camera looks along -z).
    """

    pixels: np.ndarray
    instances: np.ndarray
    classes: np.ndarray
    poses: np.ndarray
    view: np.ndarray


class Studio:
    """Draws the pictures of one split of a set.

    Args:
        name: the set.
        seed: of textures and pictures.
        split: 0 for training, 1 for test.
        size: height and width of the pictures.
    """

    def __init__(self, name: Set, seed: int, split: int, size: int) -> None:
        self.scene, self.seed, self.split, self.size = SCENES[name], seed, split, size
        self.client = pybullet.connect(pybullet.DIRECT)
        self.table = self._box((0.5, 0.5, 0.02), -0.02)
        self.floor = self._box((4.0, 4.0, 0.02), -0.5)
        self.bodies: list[tuple[int, int, np.ndarray]] = []  # class, body, points [n, 3]
        for _ in range(self.scene.copies):
            for class_, object_ in enumerate(self.scene.classes):
                self.bodies.append((class_, *self._load(object_)))
        with tempfile.TemporaryDirectory() as folder:
            self.textures = [self._texture(Path(folder), i) for i in range(TEXTURES)]

    def draw(self, index: int) -> Picture:
        """Picture ``index`` of the split. Its first object is of class ``index`` mod classes."""
        rng = np.random.default_rng([self.seed, self.split, 1, index])
        for _ in range(1000):
            picture = self._attempt(rng, index % len(self.scene.classes))
            covered = [(picture.instances == i + 1).mean() for i in range(len(picture.poses))]
            if min(covered) >= self.scene.visible:
                return picture
        raise RuntimeError("no arrangement found in which every object is seen")

    def _attempt(self, rng: np.random.Generator, first: int) -> Picture:
        for _, body, _ in self.bodies:  # out of sight; even transparent, it would cast a shadow
            self._place(body, (50, 0, -50), (0, 0, 0, 1), (0, 0, 0, 0))
        others = [i for i in range(len(self.bodies)) if i != first]
        n = int(rng.integers(*self.scene.objects, endpoint=True))
        chosen = [first, *rng.permutation(others)[: n - 1].tolist()]
        poses = []
        for place, i in zip(self._places(rng, n), chosen, strict=True):
            _, body, points = self.bodies[i]
            quaternion = _resting_turn(rng)
            turn = np.array(pybullet.getMatrixFromQuaternion(quaternion)).reshape(3, 3)
            height = -(points @ turn.T)[:, 2].min()
            colour = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.3, 1), rng.uniform(0.5, 1))
            self._place(body, (*place, height), quaternion, (*colour, 1))
            poses.append([*place, height, *quaternion])
        self._paint(self.table, (1, 1, 1, 1), self.textures[rng.integers(TEXTURES)])
        self._paint(self.floor, (*rng.uniform(0.1, 0.9, 3), 1))
        view = self._camera(rng)
        pixels, ids = self._shoot(rng, view)
        layers = np.stack([ids == self.bodies[i][1] for i in chosen])
        layers = np.concatenate([~layers.any(0, keepdims=True), layers])
        return Picture(
            pixels=_halve(pixels.transpose(2, 0, 1)).round().astype(np.uint8),
            instances=_halve(layers).argmax(0).astype(np.uint8),  # what most of the block shows
            classes=np.array([self.bodies[i][0] for i in chosen]),
            poses=np.array(poses, np.float32),
            view=np.array(view, np.float32).reshape(4, 4).T,  # PyBullet gives column after column
        )

    def _places(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Where n objects stand, [n, 2]."""
        while True:
            places = rng.uniform(-self.scene.spread, self.scene.spread, (n, 2))
            apart = np.linalg.norm(places[:, None] - places[None], axis=-1)
            if (apart[np.triu_indices(n, 1)] >= self.scene.gap).all():
                return places

    def _camera(self, rng: np.random.Generator) -> list[float]:
        """The view matrix of a camera that looks at the table's middle, about."""
        target = [*rng.uniform(-0.03, 0.03, 2), 0.04]
        eye = target + rng.uniform(*self.scene.distance) * _direction(rng, 25, 70)
        view: list[float] = pybullet.computeViewMatrix(
            eye.tolist(), target, [0, 0, 1], physicsClientId=self.client
        )
        return view

    def _shoot(self, rng: np.random.Generator, view: list[float]) -> tuple[np.ndarray, np.ndarray]:
        """Colours [2S, 2S, 3] and body ids [2S, 2S] under a random light."""
        size = 2 * self.size
        near, far = 0.05, 10.0
        projection = pybullet.computeProjectionMatrixFOV(FIELD_OF_VIEW, 1.0, near, far)
        image = pybullet.getCameraImage(
            size,
            size,
            viewMatrix=view,
            projectionMatrix=projection,
            lightDirection=_direction(rng, 35, 80).tolist(),
            lightColor=rng.uniform(0.85, 1.0, 3).tolist(),
            lightDistance=2.0,
            shadow=1,
            lightAmbientCoeff=rng.uniform(0.45, 0.7),
            lightDiffuseCoeff=rng.uniform(0.3, 0.55),
            lightSpecularCoeff=rng.uniform(0.0, 0.3),
            renderer=pybullet.ER_TINY_RENDERER,
            physicsClientId=self.client,
        )
        colours = np.asarray(image[2], np.uint8).reshape(size, size, 4)[..., :3]
        return colours, np.asarray(image[4]).reshape(size, size)

    # -- bodies ------------------------------------------------------------------------------

    def _body(self, shape: int, z: float = 0.0) -> int:
        """A body that is only seen: no mass, no collisions."""
        body: int = pybullet.createMultiBody(0, -1, shape, [0, 0, z], physicsClientId=self.client)
        return body

    def _box(self, half: tuple[float, float, float], z: float) -> int:
        shape = pybullet.createVisualShape(
            pybullet.GEOM_BOX, halfExtents=half, physicsClientId=self.client
        )
        return self._body(shape, z)

    def _load(self, name: str) -> tuple[int, np.ndarray]:
        """Body and points of an object, upright, its bounding box around the body's origin."""
        source = OBJECTS[name]
        if source is None:
            points = _prism(SIDES[name])
            shape = pybullet.createVisualShape(
                pybullet.GEOM_MESH,
                vertices=points.tolist(),
                indices=list(range(len(points))),
                normals=_normals(points).tolist(),
                uvs=np.zeros((len(points), 2)).tolist(),
                physicsClientId=self.client,
            )
            return self._body(shape), points
        file, y_is_up = source
        path = Path(pybullet_data.getDataPath()) / file
        upright = pybullet.getQuaternionFromEuler([np.pi / 2 if y_is_up else 0.0, 0, 0])
        turn = np.array(pybullet.getMatrixFromQuaternion(upright)).reshape(3, 3)
        points = _vertices(path) @ turn.T
        low, high = points.min(0), points.max(0)
        scale = DIAGONAL / float(np.linalg.norm(high - low))
        middle = scale * (low + high) / 2
        shape = pybullet.createVisualShape(
            pybullet.GEOM_MESH,
            fileName=str(path),
            meshScale=[scale] * 3,
            visualFramePosition=(-middle).tolist(),
            visualFrameOrientation=upright,
            physicsClientId=self.client,
        )
        return self._body(shape), scale * points - middle

    def _place(
        self,
        body: int,
        position: tuple[float, ...],
        quaternion: tuple[float, ...],
        colour: tuple[float, ...],
    ) -> None:
        pybullet.resetBasePositionAndOrientation(
            body, position, quaternion, physicsClientId=self.client
        )
        self._paint(body, colour)

    def _paint(self, body: int, colour: tuple[float, ...], texture: int | None = None) -> None:
        more = {} if texture is None else {"textureUniqueId": texture}
        pybullet.changeVisualShape(body, -1, rgbaColor=colour, physicsClientId=self.client, **more)

    def _texture(self, folder: Path, index: int) -> int:
        """Texture ``index`` of this split; PyBullet takes textures from files only."""
        rng = np.random.default_rng([self.seed, self.split, 0, index])
        file = folder / f"{index}.png"
        cv2.imwrite(str(file), _pattern(rng))
        texture: int = pybullet.loadTexture(str(file), physicsClientId=self.client)
        return texture


def _direction(rng: np.random.Generator, lowest: float, highest: float) -> np.ndarray:
    """A unit vector at any azimuth and an elevation between two angles in degrees."""
    azimuth = rng.uniform(0, 2 * np.pi)
    elevation = np.deg2rad(rng.uniform(lowest, highest))
    across = np.cos(elevation)
    return np.array([across * np.cos(azimuth), across * np.sin(azimuth), np.sin(elevation)])


def _resting_turn(rng: np.random.Generator) -> tuple[float, ...]:
    """A turn about the vertical, then a tilt of at most 30° about any horizontal axis."""
    yaw, azimuth = rng.uniform(0, 2 * np.pi, 2)
    tilt = rng.uniform(0, np.pi / 6)
    tilting = pybullet.getQuaternionFromAxisAngle([np.cos(azimuth), np.sin(azimuth), 0], tilt)
    turning = pybullet.getQuaternionFromAxisAngle([0, 0, 1], yaw)
    both: tuple[float, ...] = pybullet.multiplyTransforms([0, 0, 0], tilting, [0, 0, 0], turning)[1]
    return both


def _halve(image: np.ndarray) -> np.ndarray:
    """[C, 2S, 2S] -> the means of 2x2 blocks, float32 [C, S, S]."""
    c, height, width = image.shape
    blocks = image.reshape(c, height // 2, 2, width // 2, 2).astype(np.float32)
    means: np.ndarray = blocks.mean((2, 4))
    return means


def _vertices(path: Path) -> np.ndarray:
    """The vertices [n, 3] of a Wavefront file."""
    lines = path.read_text(errors="replace").splitlines()
    return np.array([line.split()[1:4] for line in lines if line.startswith("v ")], float)


def _prism(sides: int) -> np.ndarray:
    """Corners [n, 3] of the triangles of an upright prism as high as wide, three a triangle."""
    angle = 2 * np.pi * (np.arange(sides + 1) + 0.5) / sides
    ring = np.stack([np.cos(angle), np.sin(angle)], -1)
    half = np.ptp(ring[:, 0]) / 2
    low, high = (np.c_[ring, np.full(sides + 1, z)] for z in (-half, half))
    middle = np.array([0, 0, half])
    triangles = []
    for i in range(sides):
        triangles += [low[i], low[i + 1], high[i + 1], low[i], high[i + 1], high[i]]
        triangles += [middle, high[i], high[i + 1], -middle, low[i + 1], low[i]]
    points = np.array(triangles)
    points -= (points.min(0) + points.max(0)) / 2
    return points * DIAGONAL / np.linalg.norm(np.ptp(points, axis=0))


def _normals(points: np.ndarray) -> np.ndarray:
    """Unit normals [n, 3] of triangles with the corners ``points`` [n, 3]."""
    a, b, c = points[::3], points[1::3], points[2::3]
    normals = np.cross(b - a, c - a)
    return np.repeat(normals / np.linalg.norm(normals, axis=1, keepdims=True), 3, axis=0)


def _pattern(rng: np.random.Generator) -> np.ndarray:
    """A texture uint8 [256, 256, 3]: planks, checks, blotches or plain, with some grain."""
    size = 256
    first, second = rng.uniform(40, 230, (2, 3))
    y, x = np.mgrid[:size, :size] / size
    kind = rng.choice(["planks", "checks", "blotches", "plain"])
    count = rng.integers(4, 17)
    if kind == "planks":
        mix = rng.random(count)[(x * count).astype(int)]
    elif kind == "checks":
        mix = ((x * count).astype(int) + (y * count).astype(int)) % 2
    elif kind == "blotches":
        mix = cv2.resize(rng.random((count, count)), (size, size), interpolation=cv2.INTER_CUBIC)
    else:
        mix = np.zeros((size, size))
    grain = rng.normal(0, rng.uniform(0, 12), (size, size, 1))
    colours = first + mix[..., None] * (second - first) + grain
    pattern: np.ndarray = colours.clip(0, 255).astype(np.uint8)
    return pattern
