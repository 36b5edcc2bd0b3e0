"""What a parameter may be drawn from. Every field is checked when it is read, never at a draw.

A bound, mean or size is a number, or a list of three that makes the draws lists of three too, each
element drawn for itself.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from envs.robotics.parameters import Value
from envs.robotics.textures import KINDS as TEXTURES
from envs.robotics.textures import Texture
from sim2real.tables import Numbers, Vector, is_number, is_vector, nearest, read_table


class Distribution(ABC):
    """A distribution. ``support`` is the least and the greatest draw, elementwise.

    integral: whether every draw is whole numbers.
    textures: whether it draws textures, which have no support.
    listed: the values, where they are spelled out.
    """

    integral = False
    textures = False

    @property
    def listed(self) -> list[Any]:
        return []

    @abstractmethod
    def sample(self, rng: np.random.Generator) -> Value: ...

    @abstractmethod
    def support(self) -> tuple[np.ndarray, np.ndarray]: ...

    @property
    def dimension(self) -> int:
        """1 for numbers, 3 for lists of three."""
        return int(self.support()[0].size)


@dataclass(frozen=True)
class Constant(Distribution):
    """Always ``value``: a fixed change, such as a domain that is shifted and not random."""

    value: Any

    def __post_init__(self) -> None:
        _check_values("value", [self.value])

    @property
    def integral(self) -> bool:  # type: ignore[override]
        return isinstance(self.value, int)

    @property
    def textures(self) -> bool:  # type: ignore[override]
        return isinstance(self.value, dict)

    @property
    def listed(self) -> list[Any]:
        return [self.value]

    def sample(self, rng: np.random.Generator) -> Value:
        return self.value  # type: ignore[no-any-return]

    def support(self) -> tuple[np.ndarray, np.ndarray]:
        return np.array(self.value, float), np.array(self.value, float)


@dataclass(frozen=True)
class Uniform(Distribution):
    """Evenly between ``low`` and ``high``."""

    low: Numbers
    high: Numbers

    def __post_init__(self) -> None:
        _check_range(self.low, self.high)

    def sample(self, rng: np.random.Generator) -> Value:
        return _plain(rng.uniform(self.low, self.high))

    def support(self) -> tuple[np.ndarray, np.ndarray]:
        return _broadcast(self.low, self.high)


@dataclass(frozen=True)
class LogUniform(Distribution):
    """Its logarithm evenly between those of ``low`` and ``high``: halving is as likely as doubling.

    Both are positive.
    """

    low: Numbers
    high: Numbers

    def __post_init__(self) -> None:
        _check_range(self.low, self.high)
        if np.min(self.low) <= 0:
            raise ValueError(f"low must be positive, not {_plain(self.low)}")

    def sample(self, rng: np.random.Generator) -> Value:
        drawn = np.exp(rng.uniform(np.log(self.low), np.log(self.high)))
        return _plain(np.clip(drawn, self.low, self.high))  # exp(log(x)) need not be x

    def support(self) -> tuple[np.ndarray, np.ndarray]:
        return _broadcast(self.low, self.high)


@dataclass(frozen=True)
class Normal(Distribution):
    """Gaussian. It has no bounds: where the parameter has some, give ``clip``."""

    mean: Numbers
    std: Numbers

    def __post_init__(self) -> None:
        if np.min(self.std) <= 0:
            raise ValueError(f"std must be positive, not {_plain(self.std)}")

    def sample(self, rng: np.random.Generator) -> Value:
        return _plain(rng.normal(self.mean, self.std))

    def support(self) -> tuple[np.ndarray, np.ndarray]:
        mean, _ = _broadcast(self.mean, self.std)
        return mean - math.inf, mean + math.inf


@dataclass(frozen=True)
class TruncatedNormal(Distribution):
    """Gaussian, given that it lies between ``low`` and ``high``: no heap at the bounds."""

    mean: float
    std: float
    low: float
    high: float

    def __post_init__(self) -> None:
        if self.std <= 0:
            raise ValueError(f"std must be positive, not {self.std}")
        _check_range(self.low, self.high)
        if self._shares()[1] - self._shares()[0] < 1e-6:
            raise ValueError(
                f"low and high keep less than a millionth of the draws around mean {self.mean}"
            )

    def _shares(self) -> tuple[float, float]:
        normal = NormalDist(self.mean, self.std)
        return normal.cdf(self.low), normal.cdf(self.high)

    def sample(self, rng: np.random.Generator) -> Value:
        # F^-1(u) for u even in [F(low), F(high)]; kept off 0 and 1, where F^-1 is infinite.
        share = min(max(rng.uniform(*self._shares()), 1e-300), 1 - 1e-16)
        drawn = NormalDist(self.mean, self.std).inv_cdf(share)
        return float(np.clip(drawn, self.low, self.high))

    def support(self) -> tuple[np.ndarray, np.ndarray]:
        return _broadcast(self.low, self.high)


@dataclass(frozen=True)
class Choice(Distribution):
    """One of ``values``, equally likely or as ``weights`` say."""

    values: list[Any]
    weights: list[float] | None = None

    def __post_init__(self) -> None:
        _check_values("values", self.values)
        if self.weights is not None and (
            len(self.weights) != len(self.values)
            or min(self.weights) < 0
            or not 0 < sum(self.weights) < math.inf
        ):
            raise ValueError("weights must be as many numbers as values, none of them negative")

    @property
    def integral(self) -> bool:  # type: ignore[override]
        return all(isinstance(value, int) for value in self.values)

    @property
    def textures(self) -> bool:  # type: ignore[override]
        return all(isinstance(value, dict) for value in self.values)

    @property
    def listed(self) -> list[Any]:
        return self.values

    def sample(self, rng: np.random.Generator) -> Value:
        weights = None if self.weights is None else np.array(self.weights) / sum(self.weights)
        return self.values[int(rng.choice(len(self.values), p=weights))]  # type: ignore[no-any-return]

    def support(self) -> tuple[np.ndarray, np.ndarray]:
        values = np.array(self.values, float)
        return values.min(0), values.max(0)


@dataclass(frozen=True)
class Integers(Distribution):
    """Every whole number from ``low`` to ``high``, both included, equally likely."""

    low: int
    high: int
    integral = True

    def __post_init__(self) -> None:
        _check_range(self.low, self.high)

    def sample(self, rng: np.random.Generator) -> Value:
        return int(rng.integers(self.low, self.high, endpoint=True))

    def support(self) -> tuple[np.ndarray, np.ndarray]:
        return _broadcast(self.low, self.high)


@dataclass(frozen=True)
class Box(Distribution):
    """Evenly in a box of these three edge lengths around the origin; to be added."""

    size: Vector

    def __post_init__(self) -> None:
        if np.min(self.size) < 0:
            raise ValueError(f"size must not be negative, not {_plain(self.size)}")

    def sample(self, rng: np.random.Generator) -> Value:
        half = np.array(self.size) / 2
        return _plain(rng.uniform(-half, half))

    def support(self) -> tuple[np.ndarray, np.ndarray]:
        half = np.array(self.size) / 2
        return -half, half


@dataclass(frozen=True)
class Sphere(Distribution):
    """Evenly in a ball around the origin, further from it than ``inner``; to be added."""

    radius: float
    inner: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.inner <= self.radius:
            raise ValueError(f"inner must lie in 0 to radius {self.radius}, not {self.inner}")

    def sample(self, rng: np.random.Generator) -> Value:
        direction = rng.normal(size=3)
        # The volume within a radius grows with its cube.
        radius = rng.uniform(self.inner**3, self.radius**3) ** (1 / 3)
        return _plain(direction * (radius / np.linalg.norm(direction)))

    def support(self) -> tuple[np.ndarray, np.ndarray]:
        return np.full(3, -self.radius), np.full(3, self.radius)


@dataclass(frozen=True)
class Textures(Distribution):
    """Textures of these ``kinds``, with random colours, angle, and ``cells`` from first to last.

    pool: how many different ones there are, the same for every parameter; 0: no two alike.
    """

    kinds: list[str]
    cells: list[int] = (2, 16)  # type: ignore[assignment]
    pool: int = 0
    textures = True

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if kind not in TEXTURES:
                raise ValueError(
                    f"there is no texture {kind!r}; nearest: {nearest(kind, TEXTURES)}"
                )
        if not self.kinds:
            raise ValueError("kinds must not be empty")
        if len(self.cells) != 2 or not 1 <= self.cells[0] <= self.cells[1] <= 64:
            raise ValueError(f"cells must be two numbers in 1 to 64, not {list(self.cells)}")
        if self.pool < 0:
            raise ValueError(f"pool must not be negative, not {self.pool}")

    def sample(self, rng: np.random.Generator) -> Value:
        if self.pool:
            rng = np.random.default_rng([int(rng.integers(self.pool)), 0x7E87])
        colours = rng.random((2, 3)).tolist()
        kind = self.kinds[int(rng.integers(len(self.kinds)))]
        return Texture(
            kind=kind,  # type: ignore[arg-type]
            first=colours[0],
            second=colours[1],
            cells=int(rng.integers(self.cells[0], self.cells[1], endpoint=True)),
            angle=float(rng.uniform(0, 2 * np.pi)),
            seed=int(rng.integers(2**31)),
        ).as_dict()

    def support(self) -> tuple[np.ndarray, np.ndarray]:
        raise TypeError("textures have no support")


KINDS: dict[str, type[Distribution]] = {
    "constant": Constant,
    "uniform": Uniform,
    "log_uniform": LogUniform,
    "normal": Normal,
    "truncated_normal": TruncatedNormal,
    "choice": Choice,
    "integers": Integers,
    "box": Box,
    "sphere": Sphere,
    "texture": Textures,
}


def read_distribution(table: Any) -> Distribution:
    """Of a TOML table ``{kind = …, …}``. Raises ValueError that says what would be right."""
    if not isinstance(table, Mapping) or "kind" not in table:
        raise ValueError(f"a distribution is a table with a kind, not {table!r}")
    kind = table["kind"]
    if kind not in KINDS:
        raise ValueError(f"there is no distribution {kind!r}; nearest: {nearest(kind, KINDS)}")
    return read_table(KINDS[kind], {k: v for k, v in table.items() if k != "kind"}, kind)


def _plain(value: Any) -> Value:
    """As JSON has it: numbers, and lists of them."""
    found: Value = np.asarray(value).tolist()
    return found


def _broadcast(low: Numbers, high: Numbers) -> tuple[np.ndarray, np.ndarray]:
    least, greatest = np.broadcast_arrays(np.array(low, float), np.array(high, float))
    return least, greatest


def _check_range(low: Numbers, high: Numbers) -> None:
    if np.any(np.asarray(low) > np.asarray(high)):
        raise ValueError(f"low {_plain(low)} is above high {_plain(high)}: the range is reversed")


def _check_values(name: str, values: list[Any]) -> None:
    """All of them numbers, or all lists of three, or all textures."""
    for right in (is_number, is_vector, lambda value: isinstance(value, dict)):
        if all(map(right, values)):
            return
    raise ValueError(f"{name} must be numbers, lists of three, or textures, not {values!r}")
