"""Where the robots' and objects' files lie, and the furniture that several scenes share.

All files come with PyBullet's wheel (its folder pybullet_data), which is found here without
importing it.
"""

import importlib.util
from functools import cache
from pathlib import Path

import numpy as np

from envs.robotics.scene import Body, Quaternion, Vector, box
from envs.robotics.textures import Texture

# The random meshes are about ten units wide; their own URDFs scale them by this, to 5-15 cm.
RANDOM_MESH_SCALE = 0.015


def data(name: str) -> Path:
    """The file or folder ``name`` of pybullet_data. Raises FileNotFoundError without it."""
    spec = importlib.util.find_spec("pybullet_data")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("pybullet_data is missing: install pybullet")
    path = Path(spec.origin).parent / name
    if not path.exists():
        raise FileNotFoundError(f"pybullet_data has no {name!r}")
    return path


def training_meshes() -> tuple[Path, ...]:
    """The 900 of the random meshes (.obj) that may be trained on."""
    return tuple(path for path in _random_meshes() if not _held_out(path))


def held_out_meshes() -> tuple[Path, ...]:
    """The 100 others, whose numbers end in 0: the split of bullet3's grasping environment."""
    return tuple(path for path in _random_meshes() if _held_out(path))


@cache
def _random_meshes() -> tuple[Path, ...]:
    return tuple(sorted(data("random_urdfs").glob("*/*.obj")))


def _held_out(path: Path) -> bool:
    return path.stem.endswith("0")


@cache
def mesh_vertices(path: Path) -> np.ndarray:
    """The corners of a Wavefront file as they stand in it, float64 [V, 3]; read-only.

    Raises ValueError if there are none.
    """
    rows = [line.split()[1:4] for line in path.read_text().splitlines() if line.startswith("v ")]
    if not rows:
        raise ValueError(f"{path} has no vertices")
    vertices = np.array(rows, dtype=np.float64)
    vertices.setflags(write=False)
    return vertices


def mesh_extent(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest corner of a Wavefront file's bounding box, [3] each, unscaled."""
    vertices = mesh_vertices(path)
    return vertices.min(axis=0), vertices.max(axis=0)


def table(
    half_length: float = 0.45,
    half_width: float = 0.6,
    height: float = 0.4,
    position: Vector = (0.0, 0.0, 0.0),
    texture: Texture | None = None,
) -> tuple[Body, ...]:
    """A table, a solid block, whose top has its middle at ``position``; and the floor below."""
    x, y, top = position
    return (
        Body(
            "table",
            box(half_length, half_width, height / 2),
            position=(x, y, top - height / 2),
            texture=texture or Texture("flat", (0.85, 0.8, 0.72)),
        ),
        Body(
            "floor",
            box(3.0, 3.0, 0.05),
            position=(x, y, top - height - 0.05),
            texture=Texture("flat", (0.55, 0.55, 0.58)),
        ),
    )


def tray(
    half_size: float = 0.2, wall: float = 0.1, position: Vector = (0.0, 0.0, 0.0)
) -> tuple[Body, ...]:
    """An open tray: a square floor, its middle on ``position``, and four walls leaning outwards.

    half_size: from the middle to a wall's foot; wall: the walls' length along their slope. All
    are boards 1 cm thick.
    """
    lean = np.deg2rad(33.0)  # from upright, that of pybullet_data's traybox
    half, texture = 0.005, Texture("flat", (0.75, 0.75, 0.75))
    x, y, z = position
    bodies = [
        Body(
            "tray_floor",
            box(half_size, half_size, half),
            position=(x, y, z + half),
            texture=texture,
        )
    ]
    # The middle of a wall, from the foot outwards and upwards along the leaning board.
    out = half_size + wall / 2 * np.sin(lean)
    up = 2 * half + wall / 2 * np.cos(lean)
    length = half_size + wall * np.sin(lean)
    for i, name in enumerate(("front", "left", "back", "right")):
        turn = i * np.pi / 2
        bodies.append(
            Body(
                f"tray_{name}",
                box(half, length, wall / 2),
                position=(x + out * float(np.cos(turn)), y + out * float(np.sin(turn)), z + up),
                quaternion=_leaning(turn, lean),
                texture=texture,
            )
        )
    return tuple(bodies)


def _leaning(turn: float, lean: float) -> Quaternion:
    """Leaned about y first, then turned about z."""
    s, c = np.sin(lean / 2), np.cos(lean / 2)
    return (
        float(-np.sin(turn / 2) * s),
        float(np.cos(turn / 2) * s),
        float(np.sin(turn / 2) * c),
        float(np.cos(turn / 2) * c),
    )


PANDA = data("franka_panda/panda.urdf")
KUKA = data("kuka_iiwa/model.urdf")
