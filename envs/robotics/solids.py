"""What follows from a shape alone: its hull, its extent, its centre of mass and its inertia."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.spatial import ConvexHull, HalfspaceIntersection

from envs.robotics import rotations
from envs.robotics.assets import mesh_vertices
from envs.robotics.scene import Shape


@dataclass(frozen=True)
class Solid:
    """A shape filled evenly, about the body's origin.

    centre: of mass, [3].
    inertia: about that centre for a mass of 1 kg, [3, 3].
    middle, half: of the box around it, [3] each.
    """

    centre: np.ndarray
    inertia: np.ndarray
    middle: np.ndarray
    half: np.ndarray

    def principal(self) -> tuple[np.ndarray, np.ndarray]:
        """The inertia's three moments, [3], and its axes as a right-handed rotation, [3, 3]."""
        if np.count_nonzero(self.inertia - np.diag(np.diagonal(self.inertia))) == 0:
            return np.diagonal(self.inertia).copy(), np.eye(3)
        moments, axes = np.linalg.eigh(self.inertia)
        axes[:, 2] *= np.sign(np.linalg.det(axes))
        return moments, axes


@lru_cache(maxsize=2048)
def solid(shape: Shape) -> Solid:
    """The solid of a shape; a mesh counts as its convex hull."""
    if shape.kind == "box":
        half = np.array(shape.size)
        squares = half**2
        return _about_origin(half, (squares.sum() - squares) / 3)
    if shape.kind == "sphere":
        (radius,) = shape.size
        return _about_origin(np.full(3, radius), np.full(3, 0.4 * radius**2))
    if shape.kind == "cylinder":
        radius, half_height = shape.size
        across = radius**2 / 4 + half_height**2 / 3
        return _about_origin(
            np.array([radius, radius, half_height]), np.array([across, across, radius**2 / 2])
        )
    vertices, faces = hull(shape)
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    centre, inertia = _integrate(vertices, faces)
    return Solid(centre, inertia, (low + high) / 2, (high - low) / 2)


@lru_cache(maxsize=2048)
def hull(shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """Corners [V, 3] and triangles [F, 3], anticlockwise from outside, of a hull or a mesh."""
    points = corners(shape)
    found = ConvexHull(points)
    numbers = {int(old): new for new, old in enumerate(found.vertices)}
    vertices = points[found.vertices]
    faces = np.array([[numbers[int(corner)] for corner in face] for face in found.simplices])
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    inward = (np.cross(b - a, c - a) * found.equations[:, :3]).sum(axis=1) < 0
    faces[inward] = faces[inward][:, ::-1]
    return vertices, faces


def inset(shape: Shape, margin: float) -> np.ndarray:
    """The corners of a hull or a mesh whose faces all lie ``margin`` further in, [V, 3].

    What is too thin for that stays as it is.
    """
    vertices, _ = hull(shape)
    planes = ConvexHull(vertices).equations
    planes[:, 3] += margin
    inside = solid(shape).centre
    if (planes[:, :3] @ inside + planes[:, 3]).max() > -margin:
        return vertices
    found: np.ndarray = np.unique(HalfspaceIntersection(planes, inside).intersections, axis=0)
    return found


def corners(shape: Shape) -> np.ndarray:
    """The vertices of a hull or a mesh as it stands in its body, [V, 3]."""
    if shape.kind == "hull":
        return np.array(shape.vertices, dtype=np.float64)
    assert shape.file is not None
    found: np.ndarray = (
        shape.scale * mesh_vertices(shape.file) @ rotations.matrix(np.array(shape.turn)).T
    )
    return found


def _about_origin(half: np.ndarray, moments: np.ndarray) -> Solid:
    return Solid(np.zeros(3), np.diag(moments), np.zeros(3), half)


def _integrate(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre and inertia of 1 kg from the tetrahedra between a point inside and the faces."""
    inside = vertices.mean(axis=0)
    a, b, c = (vertices[faces[:, i]] - inside for i in range(3))
    volumes = (a * np.cross(b, c)).sum(axis=1) / 6
    total = volumes.sum()
    centre = (volumes[:, None] * (a + b + c)).sum(axis=0) / (4 * total)
    # The second moments of a tetrahedron with a corner in the origin: volume / 20 times
    # (sum of the corners' outer products + outer product of their sum).
    sums = a + b + c
    outer = sum(np.einsum("n,ni,nj->ij", volumes, p, p) for p in (a, b, c, sums)) / 20
    second = outer / total - np.outer(centre, centre)
    return centre + inside, np.trace(second) * np.eye(3) - second
