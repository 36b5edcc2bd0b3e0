"""Triangle meshes: read, thinned out, written.

A Panda's links have 100,000 triangles, which a software renderer works through for every picture,
however small. Within a millimetre of them lie surfaces of a tenth as many.
"""

import atexit
import tempfile
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np

CREASE = np.cos(np.deg2rad(40.0))  # sharper edges are drawn as edges


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Corners, float64 [V, 3], and triangles, [F, 3], of a Wavefront file."""
    lines = path.read_text().splitlines()
    numbers = " ".join(line[2:] for line in lines if line.startswith("v ")).split()
    vertices = np.array(numbers, dtype=np.float64).reshape(-1, 3)
    faces = []
    for line in lines:
        if line.startswith("f "):
            corners = [int(part.split("/", 1)[0]) for part in line[2:].split()]
            faces += [(corners[0], *pair) for pair in pairwise(corners[1:])]
    return vertices, np.array(faces) - 1


def thin(
    vertices: np.ndarray, faces: np.ndarray, tolerance: float = 1e-3, finest: float = 1e-3
) -> tuple[np.ndarray, np.ndarray]:
    """A mesh of fewer triangles near the given one.

    The corners in a cell of a grid become one, in the place that is nearest to the planes of all
    their triangles (Garland and Heckbert, 1997), as long as its distance from those (the root of
    the mean square, weighted by area) stays below ``tolerance``; then those in cells of twice the
    size, starting at ``finest`` and ending at 64 times that.
    """
    vertices, faces = _welded(vertices, faces)
    quadrics, weights = _quadrics(vertices, faces)
    sums = vertices * weights[:, None]
    place, label = vertices.copy(), np.arange(len(vertices))
    open_ = np.arange(len(vertices))  # those that may still merge
    for size in finest * 2.0 ** np.arange(7):
        cells = np.floor(sums[open_] / weights[open_, None] / size).astype(np.int64)
        _, group = np.unique(cells, axis=0, return_inverse=True)
        group = group.ravel()
        count = int(group.max()) + 1
        quadric, weight, total = np.zeros((count, 4, 4)), np.zeros(count), np.zeros((count, 3))
        np.add.at(quadric, group, quadrics[open_])
        np.add.at(weight, group, weights[open_])
        np.add.at(total, group, sums[open_])
        mean = total / weight[:, None]
        best, error = _nearest(quadric / weight[:, None, None], mean)
        good = (error < tolerance) & (np.abs(best - mean).max(axis=1) < size)
        # The first of each group stands for it.
        _, firsts = np.unique(group, return_index=True)
        leader = open_[firsts]
        merged = np.arange(len(vertices))
        merged[open_[good[group]]] = leader[group[good[group]]]
        label = merged[label]
        open_ = leader[good]
        quadrics[open_], weights[open_], sums[open_] = quadric[good], weight[good], total[good]
        place[open_] = best[good]
        if len(open_) == 0:
            break
    return _compact(place, label[faces])


def _welded(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners in the same place (to a micrometre) are one; triangles without area are gone."""
    keys = np.round(vertices / 1e-6).astype(np.int64)
    _, first, same = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    vertices, faces = vertices[first], same.ravel()[faces]
    return vertices, faces[np.linalg.norm(_normals(vertices, faces), axis=1) > 1e-12]


def _quadrics(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each corner: its triangles' planes' outer products times area, and those areas."""
    normals = _normals(vertices, faces)
    areas = np.linalg.norm(normals, axis=1)
    normals = normals / areas[:, None]
    offsets = -(normals * vertices[faces[:, 0]]).sum(axis=1, keepdims=True)
    planes = np.concatenate([normals, offsets], axis=1)
    products = areas[:, None, None] * planes[:, :, None] * planes[:, None, :]
    quadrics, weights = np.zeros((len(vertices), 4, 4)), np.full(len(vertices), 1e-15)
    for corner in range(3):
        np.add.at(quadrics, faces[:, corner], products)
        np.add.at(weights, faces[:, corner], areas)
    return quadrics, weights


def _nearest(quadrics: np.ndarray, means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The points nearest to the planes (and a little to the means), and how far they are."""
    slopes, offsets = quadrics[:, :3, :3], quadrics[:, :3, 3]
    rest = -offsets - np.einsum("nij,nj->ni", slopes, means)
    best = means + np.linalg.solve(slopes + 1e-3 * np.eye(3), rest[..., None])[..., 0]
    whole = np.concatenate([best, np.ones((len(best), 1))], axis=1)
    squares = np.einsum("ni,nij,nj->n", whole, quadrics, whole)
    return best, np.sqrt(np.maximum(squares, 0.0))


def _compact(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Without triangles that became a line, are there twice, or corners that nothing uses."""
    distinct = (np.diff(np.sort(faces, axis=1), axis=1) > 0).all(axis=1)
    faces = faces[distinct]
    _, once = np.unique(np.sort(faces, axis=1), axis=0, return_index=True)
    faces = faces[np.sort(once)]
    used, numbers = np.unique(faces, return_inverse=True)
    return vertices[used], numbers.reshape(faces.shape)


def corner_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Of each triangle's corners, [F, 3, 3]: smooth over flat edges, sharp over creases."""
    weighted = _normals(vertices, faces)
    units = weighted / np.maximum(np.linalg.norm(weighted, axis=1, keepdims=True), 1e-15)
    corner = faces.ravel()
    order = np.argsort(corner, kind="stable")
    counts = np.bincount(corner, minlength=len(vertices))
    starts = np.cumsum(counts) - counts
    # Every corner with every other of the same place.
    repeats = counts[corner]
    mine = np.repeat(np.arange(len(corner)), repeats)
    within = np.arange(len(mine)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    others = order[starts[corner[mine]] + within] // 3
    near = (units[mine // 3] * units[others]).sum(axis=1) > CREASE
    normals = np.zeros((len(corner), 3))
    np.add.at(normals, mine[near], weighted[others[near]])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-15)
    return normals.reshape(-1, 3, 3)


def write(path: Path, vertices: np.ndarray, faces: np.ndarray) -> None:
    """A Wavefront file with ``corner_normals``."""
    normals = corner_normals(vertices, faces).reshape(-1, 3)
    lines = [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in vertices]
    lines += [f"vn {x:.4f} {y:.4f} {z:.4f}" for x, y, z in normals]
    lines += [
        "f " + " ".join(f"{corner + 1}//{3 * number + i + 1}" for i, corner in enumerate(face))
        for number, face in enumerate(faces)
    ]
    path.write_text("\n".join(lines) + "\n")


def _normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Of the triangles, as long as twice their areas, [F, 3]."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    normals: np.ndarray = np.cross(b - a, c - a)
    return normals


@cache
def scratch(name: str) -> Path:
    """A folder for files that PyBullet reads, which lasts as long as the process."""
    folder = tempfile.TemporaryDirectory(prefix=f"firsthand_{name}_")
    atexit.register(folder.cleanup)
    return Path(folder.name)
