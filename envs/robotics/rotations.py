"""Quaternions, always (x, y, z, w) of length 1, float64 [4]."""

from collections.abc import Iterable

import numpy as np


def matrix(quaternion: Iterable[float]) -> np.ndarray:
    """The rotation's matrix, [3, 3]."""
    x, y, z, w = quaternion
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def quaternion(matrix: np.ndarray) -> np.ndarray:
    """The quaternion, w >= 0, of a rotation matrix: an eigenvector, right for any angle."""
    m = matrix
    # Only the lower half is read.
    k = np.array(
        [
            [m[0, 0] - m[1, 1] - m[2, 2], 0, 0, 0],
            [m[1, 0] + m[0, 1], m[1, 1] - m[0, 0] - m[2, 2], 0, 0],
            [m[2, 0] + m[0, 2], m[2, 1] + m[1, 2], m[2, 2] - m[0, 0] - m[1, 1], 0],
            [m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], np.trace(m)],
        ]
    )
    _, vectors = np.linalg.eigh(k, UPLO="L")
    found: np.ndarray = vectors[:, 3]
    return found if found[3] >= 0 else -found


def rotate(quaternion: Iterable[float], vector: Iterable[float]) -> np.ndarray:
    """The vector, turned."""
    x, y, z, w = quaternion
    a, b, c = vector
    # v + 2 u × (u × v + w v), by hand: NumPy takes ten times as long for so few numbers.
    p, q, r = y * c - z * b + w * a, z * a - x * c + w * b, x * b - y * a + w * c
    return np.array(
        [a + 2 * (y * r - z * q), b + 2 * (z * p - x * r), c + 2 * (x * q - y * p)],
        dtype=np.float64,
    )


def cross(first: Iterable[float], second: Iterable[float]) -> np.ndarray:
    """Their product, [3]."""
    a, b, c = first
    x, y, z = second
    return np.array([b * z - c * y, c * x - a * z, a * y - b * x], dtype=np.float64)


def inverse(quaternion: Iterable[float]) -> np.ndarray:
    x, y, z, w = quaternion
    return np.array([-x, -y, -z, w], dtype=np.float64)


def times(first: Iterable[float], second: Iterable[float]) -> np.ndarray:
    """The rotation ``second``, then ``first``."""
    x, y, z, w = first
    p, q, r, s = second
    return np.array(
        [
            w * p + x * s + y * r - z * q,
            w * q - x * r + y * s + z * p,
            w * r + x * q - y * p + z * s,
            w * s - x * p - y * q - z * r,
        ]
    )
