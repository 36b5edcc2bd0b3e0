"""Shadows by a map of how far the light reaches (Williams 1978, "Casting curved shadows on curved
surfaces"): the scene is drawn once more as the light sees it, and what lies deeper than what is
seen from there is in a shadow.
"""

from collections.abc import Callable

import numpy as np

from envs.robotics.pinhole import View
from envs.robotics.scene import SHADOWED

AWAY, REACH = 100.0, 3.0  # m: the light is so far away, and what casts shadows so near the origin
SIZE = 192  # texels a side, of the map
STEEPEST = 4.0  # tangent of the angle at which light falls in; with steeper ones shadows come loose

# (lamp, (width, height), near, far) -> depth in metres [H, W].
Draw = Callable[[View, tuple[int, int], float, float], np.ndarray]


def shadows(
    points: np.ndarray, cosine: np.ndarray, direction: np.ndarray, draw: Draw
) -> np.ndarray:
    """How much of the light at each point something else takes: from 0 to 1, float32 [N].

    Args:
        points: in the world, [N, 3].
        cosine: of the angle between each point's normal and the light's direction, [N].
        direction: towards the light, of length 1.
        draw: the depth of what is seen from there.

    """
    found = np.zeros(len(points), dtype=np.float32)
    near = np.flatnonzero((np.abs(points) < SHADOWED).all(axis=1))
    if len(near) == 0:
        return found
    axes = View.of(direction, np.zeros(3), np.array([0.0, 0.0, 1.0]), 0.0, 1.0, 1.0).axes
    across = points[near] @ axes[:2].T
    low, high = across.min(axis=0), across.max(axis=0)
    half = np.maximum((high - low) / 2 * 1.02, 0.05)
    position = (low + high) / 2 @ axes[:2] + AWAY * axes[2]
    lamp = View(position, axes, (float(half[0] / AWAY), float(half[1] / AWAY)))
    reached = draw(lamp, (SIZE, SIZE), AWAY - REACH, AWAY + REACH)

    texel = 2 * half.max() / SIZE
    tangent = np.sqrt(np.maximum(1 / np.clip(cosine[near], 0.05, 1) ** 2 - 1, 0)).clip(0, STEEPEST)
    column, row, deep = lamp.seen(points[near], reached.shape)
    deep = deep - 2e-3 - texel * (0.5 + tangent)
    left, top = np.floor(column - 0.5).astype(np.intp), np.floor(row - 0.5).astype(np.intp)
    right, down = column - 0.5 - left, row - 0.5 - top
    # Between four texels' answers; what lies outside of the map is lit.
    edged = np.pad(reached, 1, constant_values=np.inf).ravel()
    for i, share_i in ((0, 1 - down), (1, down)):
        for j, share_j in ((0, 1 - right), (1, right)):
            y, x = (top + i + 1).clip(0, SIZE + 1), (left + j + 1).clip(0, SIZE + 1)
            found[near] += (edged[y * (SIZE + 2) + x] < deep) * share_i * share_j
    return found
