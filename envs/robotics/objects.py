"""Objects by name: the eight of Tobin et al. (2017), 4 to 8 cm, and the random meshes."""

from functools import cache

import numpy as np

from envs.robotics import solids
from envs.robotics.assets import RANDOM_MESH_SCALE, held_out_meshes, training_meshes
from envs.robotics.scene import Shape, box, cylinder, mesh, prism, pyramid

SHAPES: dict[str, Shape] = {
    "cone": pyramid(32, 0.028, 0.03),
    "cube": box(0.025, 0.025, 0.025),
    "cylinder": cylinder(0.024, 0.03),
    "hexagonal_prism": prism(6, 0.028, 0.025),
    "pyramid": pyramid(4, 0.036, 0.028),
    "rectangular_prism": box(0.02, 0.035, 0.02),
    "tetrahedron": pyramid(3, 0.04, 0.028),
    "triangular_prism": prism(3, 0.034, 0.025),
}
DISTRACTORS = ("shapes", "training_meshes", "held_out_meshes", "mixed")


def shape(name: str) -> Shape:
    """The shape of that name. Raises ValueError naming those that there are."""
    if name not in SHAPES:
        raise ValueError(f"there is no object {name!r}; there is: {', '.join(SHAPES)}")
    return SHAPES[name]


def pool(kind: str, count: int, without: str = "") -> list[Shape]:
    """``count`` shapes of a kind in DISTRACTORS, spread over all that there are but ``without``.

    "mixed" is as many shapes, and as many training meshes again: others than "training_meshes" has.
    """
    if kind not in DISTRACTORS:
        raise ValueError(f"distractors are one of {', '.join(DISTRACTORS)}, not {kind!r}")
    shapes = [shape for name, shape in SHAPES.items() if name != without]
    known = [shapes[i % len(shapes)] for i in range(count)]
    if kind == "shapes":
        return known
    files = held_out_meshes() if kind == "held_out_meshes" else training_meshes()
    offset = len(files) // (2 * count) if kind == "mixed" else 0
    chosen = [files[i * len(files) // count + offset] for i in range(count)]
    meshes = [mesh(file, RANDOM_MESH_SCALE) for file in chosen]
    return known + meshes if kind == "mixed" else meshes


@cache
def reach(shape: Shape) -> float:
    """How far a shape's furthest point is from its origin, seen from above, in metres."""
    if shape.kind in ("box", "cylinder", "sphere"):
        across = shape.size[:2] if shape.kind == "box" else shape.size[:1]
        return float(np.linalg.norm(across))
    points = solids.corners(shape)
    return float(np.hypot(points[:, 0], points[:, 1]).max())


@cache
def rest(shape: Shape) -> float:
    """Height of the origin of an upright shape that stands on a table, in metres."""
    if shape.kind in ("box", "cylinder", "sphere"):
        return shape.size[-1]
    return -float(solids.corners(shape)[:, 2].min())
