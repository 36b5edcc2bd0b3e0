"""What an agent can act in: checks with clear refusals, and spaces as JSON."""

from typing import Any

import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box


class UnsupportedSpaceError(ValueError):
    """An agent was given a space that its algorithm, or our version of it, cannot act in."""


def vector_observations(space: Space[Any], algorithm: str) -> Box:
    """Returns the space if it is a Box of vectors, else raises UnsupportedSpaceError."""
    if not isinstance(space, Box) or len(space.shape) != 1:
        raise UnsupportedSpaceError(
            f"{algorithm} needs observations that are vectors (a 1-D Box), not {space}"
        )
    return space


def bounded_actions(space: Space[Any], algorithm: str) -> Box:
    """Returns the space if it is a bounded Box of vectors, else raises UnsupportedSpaceError."""
    if not isinstance(space, Box) or len(space.shape) != 1:
        raise UnsupportedSpaceError(
            f"{algorithm} needs continuous actions (a 1-D Box), not {space}"
        )
    if not np.issubdtype(space.dtype, np.floating):
        raise UnsupportedSpaceError(f"{algorithm} needs actions of real numbers, not {space}")
    if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
        raise UnsupportedSpaceError(
            f"{algorithm} squashes actions into the space's bounds, and {space} has none; "
            "wrap the environment in gymnasium.wrappers.RescaleAction or give it finite bounds"
        )
    if not (space.low < space.high).all():
        raise UnsupportedSpaceError(f"{algorithm} needs low < high in every dimension of {space}")
    return space


def space_to_json(space: Space[Any]) -> dict[str, Any]:
    """Box -> plain data. Infinite bounds become strings: JSON has no infinity."""
    if not isinstance(space, Box):
        raise UnsupportedSpaceError(f"no plain form for {space}")
    bounds = {
        name: [v if np.isfinite(v) else str(v) for v in bound.ravel().tolist()]
        for name, bound in (("low", space.low), ("high", space.high))
    }
    return {"type": "Box", "shape": list(space.shape), "dtype": str(space.dtype), **bounds}


def space_from_json(data: dict[str, Any]) -> Box:
    """The inverse of ``space_to_json``."""
    if data["type"] != "Box":
        raise ValueError(f"unknown space {data['type']!r}")
    dtype = np.dtype(data["dtype"])
    shape = tuple(int(n) for n in data["shape"])
    low, high = (
        np.array([float(v) for v in data[name]], dtype=dtype).reshape(shape)
        for name in ("low", "high")
    )
    return Box(low, high, shape=shape, dtype=dtype.type)
