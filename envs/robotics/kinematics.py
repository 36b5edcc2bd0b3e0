"""From where the tool should go to how the joints should turn."""

import numpy as np
from scipy.linalg.lapack import dposv  # NumPy's solve takes four times as long for six numbers

DOWN = np.array([1.0, 0.0, 0.0, 0.0])  # the tool's orientation when it points at the table
DAMPING = 1e-3  # how much speed is given up near poses where the arm is stretched
RIDGE = DAMPING**2 * np.eye(6)


def displacement(
    jacobian: np.ndarray, step: np.ndarray, quaternion: np.ndarray, wanted: np.ndarray
) -> np.ndarray:
    """Joint displacements by damped least squares (Wampler, 1986), [J].

    Args:
        jacobian: of the tool's position and rotation, [6, J].
        step: how far the tool should go, in metres, [3].
        quaternion, wanted: how it is turned and should be, (x, y, z, w).

    """
    error = np.empty(6)
    error[:3] = step
    error[3:] = rotation_between(quaternion, wanted)
    _, solution, _ = dposv(jacobian @ jacobian.T + RIDGE, error)
    found: np.ndarray = jacobian.T @ solution
    return found


def rotation_between(quaternion: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The small rotation vector from one orientation to another, in the world's frame, [3]."""
    # Floats, on which Python reckons faster than on NumPy's.
    x, y, z, w = quaternion.tolist()
    p, q, r, s = wanted.tolist()
    # Twice the vector part of wanted * conjugate(quaternion), the short way round.
    sign = 2.0 if s * w + p * x + q * y + r * z >= 0 else -2.0
    return np.array(
        [
            sign * (p * w - s * x - q * z + r * y),
            sign * (q * w - s * y - r * x + p * z),
            sign * (r * w - s * z - p * y + q * x),
        ]
    )
