"""Quaternions, always (x, y, z, w) of length 1, float64 [4]."""

import numpy as np


def matrix(quaternion: np.ndarray) -> np.ndarray:
    """The rotation's matrix, [3, 3]."""
    x, y, z, w = (float(part) for part in quaternion)
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


def rotate(quaternion: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """The vector, turned."""
    turned: np.ndarray = matrix(quaternion) @ vector
    return turned


def inverse(quaternion: np.ndarray) -> np.ndarray:
    x, y, z, w = quaternion
    return np.array([-x, -y, -z, w])


def times(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The rotation ``second``, then ``first``."""
    x, y, z, w = (float(part) for part in first)
    p, q, r, s = (float(part) for part in second)
    return np.array(
        [
            w * p + x * s + y * r - z * q,
            w * q - x * r + y * s + z * p,
            w * r + x * q - y * p + z * s,
            w * s - x * p - y * q - z * r,
        ]
    )
