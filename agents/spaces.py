"""What an agent can act in: checks with clear refusals, and spaces as JSON."""

from typing import Any

import numpy as np
import torch
from gymnasium import Space
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete
from torch import Tensor

MAX_NUMBERS = 2**24  # of an observation or action that is read from a file


class UnsupportedSpaceError(ValueError):
    """An agent was given a space that its algorithm, or our version of it, cannot act in."""


def discrete_actions(space: Space[Any], algorithm: str) -> Discrete:
    """Returns the space if it is Discrete, else raises UnsupportedSpaceError."""
    if not isinstance(space, Discrete):
        raise UnsupportedSpaceError(
            f"{algorithm} needs actions to choose from (a Discrete space), not {space}"
        )
    return space


def bounded_actions(space: Space[Any], algorithm: str) -> Box:
    """Returns the space if it is a bounded Box of vectors, else raises UnsupportedSpaceError."""
    space = continuous_actions(space, algorithm)
    if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
        raise UnsupportedSpaceError(
            f"{algorithm} squashes actions into the space's bounds, and {space} has none; "
            "wrap the environment in gymnasium.wrappers.RescaleAction or give it finite bounds"
        )
    if not (space.low < space.high).all():
        raise UnsupportedSpaceError(f"{algorithm} needs low < high in every dimension of {space}")
    return space


def continuous_actions(space: Space[Any], algorithm: str) -> Box:
    """Returns the space if it is a Box of real vectors, else raises UnsupportedSpaceError."""
    if not isinstance(space, Box) or len(space.shape) != 1:
        raise UnsupportedSpaceError(
            f"{algorithm} needs continuous actions (a 1-D Box), not {space}"
        )
    if not np.issubdtype(space.dtype, np.floating):
        raise UnsupportedSpaceError(f"{algorithm} needs actions of real numbers, not {space}")
    return space


class ActionScale:
    """The map between a bounded Box and [-1, 1]^A, where networks act."""

    def __init__(self, space: Box, device: torch.device) -> None:
        self.space = space
        low = torch.tensor(space.low, dtype=torch.float32, device=device)
        high = torch.tensor(space.high, dtype=torch.float32, device=device)
        self.center, self.half = (high + low) / 2, (high - low) / 2

    def to_unit(self, actions: Tensor) -> Tensor:
        """Environment's units [B, A] -> [-1, 1]."""
        return (actions - self.center) / self.half

    def to_environment(self, unit: Tensor) -> np.ndarray:
        """[-1, 1] -> the environment's units and dtype, within bounds whatever rounding does."""
        actions = (self.center + self.half * unit).cpu().numpy()
        clipped: np.ndarray = np.clip(actions, self.space.low, self.space.high)
        return clipped.astype(self.space.dtype, copy=False)


def space_to_json(space: Space[Any]) -> dict[str, Any]:
    """A space as plain data. Infinite bounds become strings: JSON has no infinity."""
    if isinstance(space, Box):
        bounds = {"low": _bound_to_json(space.low), "high": _bound_to_json(space.high)}
        return {"type": "Box", "shape": list(space.shape), "dtype": str(space.dtype), **bounds}
    if isinstance(space, Discrete):
        return {"type": "Discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, MultiDiscrete):
        return {
            "type": "MultiDiscrete",
            "nvec": space.nvec.tolist(),
            "start": space.start.tolist(),
        }
    if isinstance(space, MultiBinary):
        n = space.n if isinstance(space.n, int) else list(space.shape)
        return {"type": "MultiBinary", "n": n}
    if isinstance(space, Dict):
        parts = [[name, space_to_json(part)] for name, part in space.spaces.items()]
        return {"type": "Dict", "spaces": parts}
    raise UnsupportedSpaceError(f"no plain form for {space}")


def space_from_json(data: dict[str, Any]) -> Space[Any]:
    """The inverse of ``space_to_json``; ValueError, TypeError or KeyError for anything else."""
    if _count(data) > MAX_NUMBERS:
        raise ValueError("a space of too many numbers")
    with np.errstate(over="raise", invalid="raise"):
        return _from_json(data)


def _count(data: dict[str, Any]) -> float:
    """Numbers that an observation of the space becomes, roughly, known before any is stored."""
    if data["type"] == "Box":
        return float(np.prod(data["shape"], dtype=float))
    if data["type"] == "Dict":
        return sum(max(_count(part), 2**16) for _, part in data["spaces"])  # nor too many parts
    return float(np.sum(data["nvec" if data["type"] == "MultiDiscrete" else "n"], dtype=float))


def _from_json(data: dict[str, Any]) -> Space[Any]:
    kind = data["type"]
    if kind == "Box":
        return _box_from_json(data)
    if kind == "Discrete":
        return Discrete(int(data["n"]), start=int(data["start"]))
    if kind == "MultiDiscrete":
        return MultiDiscrete(np.array(data["nvec"]), start=np.array(data["start"]))
    if kind == "MultiBinary":
        n = data["n"]
        return MultiBinary(n if isinstance(n, int) else [int(size) for size in n])
    if kind == "Dict":
        # As pairs: of a dict, Gymnasium would sort the names, and so the columns of the numbers.
        return Dict([(str(name), _from_json(part)) for name, part in data["spaces"]])
    raise ValueError(f"unknown space {kind!r}")


def _bound_to_json(bound: np.ndarray) -> Any:
    """All values of a bound, or the one that all of them have."""
    flat = bound.ravel()
    same = flat.size > 0 and bool((flat == flat[0]).all())
    values = [v if np.isfinite(v) else str(v) for v in flat[: 1 if same else None].tolist()]
    return values[0] if same else values


def _box_from_json(data: dict[str, Any]) -> Box:
    dtype = np.dtype(data["dtype"])
    if dtype.kind not in "fiub":
        raise ValueError(f"a Box of {dtype}")
    shape = tuple(int(n) for n in data["shape"])
    low, high = (_bound_from_json(data[name], dtype, shape) for name in ("low", "high"))
    return Box(low, high, shape=shape, dtype=dtype.type)


def _bound_from_json(bound: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.ndarray:
    if isinstance(bound, list):
        return np.array([_number(v) for v in bound], dtype=dtype).reshape(shape)
    return np.full(shape, _number(bound), dtype=dtype)


def _number(value: Any) -> int | float:
    if value in ("inf", "-inf"):
        return float(value)
    if not isinstance(value, (int, float)):
        raise ValueError(f"a bound of {value!r}")
    return value
