"""Observations of every supported space as numbers and pictures.

Numbers (any Box that is no picture, Discrete and the like as one-hot) are joined into one float32
vector; pictures (uint8 Boxes of 2 to 4 dimensions) stay apart, as stacks of frames.
"""

from dataclasses import dataclass
from math import isfinite, prod
from typing import Any, TypeAlias

import numpy as np
import torch
from gymnasium import Space
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete
from torch import Tensor

from agents.spaces import UnsupportedSpaceError

# What environments give: an array [n, ...], or a dict of them for a Dict space.
Observations: TypeAlias = Any
# What networks take: numbers [B, V], or {"numbers": [B, V], picture: uint8 [B, C, H, W], ...}.
Features: TypeAlias = Tensor | dict[str, Tensor]

NUMBERS, PIXELS = "numbers", "pixels"  # PIXELS: the name of a picture that is the whole observation


@dataclass(frozen=True)
class Picture:
    """One picture of an observation: ``stack`` frames of ``frame`` = (H, W) or (H, W, C)."""

    stack: int
    frame: tuple[int, ...]

    @property
    def channels(self) -> int:
        """Channels that a network sees: frames times colours."""
        return self.stack * (self.frame[2] if len(self.frame) == 3 else 1)

    def to_channels(self, frames: Tensor) -> Tensor:
        """[B, stack * H * W * ...] in any shape -> [B, channels, H, W]."""
        if len(self.frame) == 2:
            return frames.reshape(-1, self.stack, *self.frame)
        frames = frames.reshape(-1, self.stack, *self.frame).movedim(-1, 2)
        return frames.reshape(len(frames), self.channels, *self.frame[:2])


class ObservationLayout:
    """How observations of ``space`` split into numbers and pictures.

    Raises:
        UnsupportedSpaceError: for spaces that are neither, such as Text, Graph or a nested Dict.

    """

    def __init__(self, space: Space[Any], algorithm: str = "the agent") -> None:
        self.space, self._numbers = space, NUMBERS  # what a part called "numbers" is called here
        parts = dict(space.spaces) if isinstance(space, Dict) else {PIXELS: space}
        if NUMBERS in parts and isinstance(space, Dict):
            while self._numbers in parts:
                self._numbers += "_"
            parts = {self._numbers if k == NUMBERS else k: v for k, v in parts.items()}
        self.pictures = {name: _picture(s) for name, s in parts.items() if is_picture(s)}
        self._sizes = {
            name: _size(s, algorithm) for name, s in parts.items() if name not in self.pictures
        }
        self._parts = parts
        self.size = sum(self._sizes.values())  # of the vector of numbers
        if not (self.size or self.pictures):
            raise UnsupportedSpaceError(f"{algorithm} needs observations, and {space} is empty")
        self._is_vector = isinstance(space, Box) and not self.pictures
        name, part = next(iter(parts.items()))
        self._first, self._first_ndim = name, len(part.shape or ())

    def batched(self, observations: Observations) -> tuple[Observations, bool]:
        """The same with a batch dimension, and whether it had none."""
        if np.ndim(self._get(observations, self._first)) != self._first_ndim:
            return observations, False
        return as_batch(observations), True

    def numbers(self, observations: Observations) -> np.ndarray:
        """The vectors [n, size], float32, of n observations."""
        if self._is_vector:  # the most frequent case, several times a step
            return np.asarray(observations, np.float32).reshape(-1, self.size)
        columns = [
            _as_numbers(self._parts[name], self._get(observations, name), size)
            for name, size in self._sizes.items()
        ]
        if len(columns) == 1:
            return columns[0]
        if not columns:
            return np.zeros((self.count(observations), 0), np.float32)
        return np.concatenate(columns, axis=1)

    def frames(self, observations: Observations, name: str) -> np.ndarray:
        """The frames [n, stack, H, W(, C)] of one picture."""
        picture = self.pictures[name]
        values = np.asarray(self._get(observations, name))
        return values.reshape(-1, picture.stack, *picture.frame)

    def count(self, observations: Observations) -> int:
        """n of n observations."""
        return len(self._get(observations, self._first))

    def features(self, observations: Observations, device: torch.device) -> Features:
        """What networks take, from what environments give."""
        numbers = torch.from_numpy(self.numbers(observations)).to(device)
        if not self.pictures:
            return numbers
        features = {NUMBERS: numbers}
        for name, picture in self.pictures.items():
            frames = torch.from_numpy(self.frames(observations, name)).to(device)
            features[name] = picture.to_channels(frames)
        return features

    def finite(self, observations: Observations) -> bool:
        """Whether no number is NaN or infinite."""
        # One pass: a sum is finite only if all its terms are, and in double it cannot overflow.
        with np.errstate(over="ignore"):  # of numbers that are infinite only as float32
            numbers = self.numbers(observations)
        return isfinite(np.add.reduce(numbers, axis=None, dtype=np.float64))

    def _get(self, observations: Observations, name: str) -> Any:
        if not isinstance(self.space, Dict):
            return observations
        return observations[NUMBERS if name == self._numbers else name]


def is_picture(space: Space[Any]) -> bool:
    """A uint8 Box of 2 to 4 dimensions."""
    return isinstance(space, Box) and space.dtype == np.uint8 and 2 <= len(space.shape) <= 4


def take(observations: Observations, rows: np.ndarray) -> Observations:
    """Some rows of n observations."""
    if isinstance(observations, dict):
        return {name: value[rows] for name, value in observations.items()}
    return observations[rows]


def as_batch(observation: Any) -> Observations:
    """One observation as a batch of one."""
    if isinstance(observation, dict):
        return {name: np.asarray(value)[None] for name, value in observation.items()}
    return np.asarray(observation)[None]


def put(observations: Observations, rows: np.ndarray, values: Any) -> Observations:
    """A copy of n observations with ``values``, one observation a row, put in their places."""
    if isinstance(observations, dict):
        return {
            name: put(value, rows, [row[name] for row in values])
            for name, value in observations.items()
        }
    copy = observations.copy()
    copy[rows] = np.stack(values)
    return copy


def _picture(space: Space[Any]) -> Picture:
    assert space.shape is not None
    shape = tuple(space.shape)
    if len(shape) == 2:
        return Picture(1, shape)
    if len(shape) == 3 and shape[2] in (1, 3, 4) and shape[0] > 4:
        return Picture(1, shape)  # one picture with its colours last
    return Picture(shape[0], shape[1:])


def _size(space: Space[Any], algorithm: str) -> int:
    """Numbers that an observation of ``space`` becomes."""
    if isinstance(space, Box):
        return prod(space.shape)
    if isinstance(space, Discrete):
        return int(space.n)
    if isinstance(space, MultiDiscrete) and space.nvec.ndim == 1:
        return int(space.nvec.sum())
    if isinstance(space, MultiBinary):
        return prod(space.shape)
    raise UnsupportedSpaceError(
        f"{algorithm} needs observations that are a Box, Discrete, MultiDiscrete or MultiBinary, "
        f"or a Dict of those, not {space}"
    )


def _as_numbers(space: Space[Any], values: Any, size: int) -> np.ndarray:
    """Observations [n, ...] of one part as float32 [n, size]."""
    if isinstance(space, Discrete):
        return np.eye(size, dtype=np.float32)[np.asarray(values, np.int64) - int(space.start)]
    if isinstance(space, MultiDiscrete):
        columns = np.asarray(values, np.int64) - space.start
        ones = [np.eye(int(n), dtype=np.float32)[columns[:, i]] for i, n in enumerate(space.nvec)]
        return np.concatenate(ones, axis=1)
    return np.asarray(values, np.float32).reshape(-1, size)
