"""How well a localiser does in another world, and how sure that is.

    error         distance between estimate and object, in metres
    gap           mean error in the target - mean error in the source
    gap closed    (none - method) / (none - ceiling): the share of the way from a network without
                  randomization to one that was trained in the target itself

Intervals are percentile bootstraps over pictures. Models are compared on the same pictures, which
are drawn together; the pictures of two domains have nothing to do with each other, and are drawn
apart. What they do not hold is chance in the training: that takes models of several seeds.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from torch import Tensor

from sim2real.localiser import Localiser, estimate

GOOD = 0.015  # metres: what the paper reaches, and enough to grasp
RESAMPLES = 2000
SEED = 0  # of every bootstrap


@dataclass(frozen=True)
class Interval:
    """An estimate and its 95% interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Summary:
    """Of the errors on one set of pictures; metres, but for the share."""

    count: int
    mean: Interval
    sd: float
    median: float
    p95: float
    good: float  # share of errors under ``GOOD``

    def record(self) -> dict[str, object]:
        return asdict(self)


def errors(model: Localiser, pictures: Tensor, positions: Tensor) -> np.ndarray:
    """Distances [N] in metres, of pictures uint8 [N, 3, S, S] and positions [N, 3]."""
    distances: np.ndarray = (estimate(model, pictures) - positions).norm(dim=1).numpy()
    return distances.astype(np.float64)


def constant_errors(known: Tensor, positions: Tensor) -> np.ndarray:
    """The same of one that always says the mean of the ``known`` positions [M, 3]."""
    distances: np.ndarray = (known.mean(0) - positions).norm(dim=1).numpy()
    return distances.astype(np.float64)


def summarize(distances: np.ndarray) -> Summary:
    """ValueError without errors, or if one is not finite."""
    _check(distances)
    return Summary(
        len(distances),
        bootstrap(itself, [distances]),
        float(distances.std()),
        float(np.median(distances)),
        float(np.quantile(distances, 0.95)),
        float((distances < GOOD).mean()),
    )


def gap(source: np.ndarray, target: np.ndarray) -> Interval:
    """Mean error in the target minus mean error in the source, [N] and [M] of one model."""
    _check(source, target)
    return bootstrap(lambda s, t: t - s, [source, target], paired=False)


def gap_closed(none: np.ndarray, method: np.ndarray, ceiling: np.ndarray) -> Interval:
    """Of three models' errors [N] on the same pictures.

    ValueError if the ceiling is no better than no randomization: then there is no gap.
    """
    _check(none, method, ceiling)
    if not ceiling.mean() < none.mean():
        raise ValueError("there is no gap: the ceiling is no better than no randomization")
    return bootstrap(lambda n, m, c: (n - m) / (n - c), [none, method, ceiling])


def bootstrap(
    statistic: Callable[..., Any], samples: list[np.ndarray], paired: bool = True
) -> Interval:
    """A function of the samples' means, and the middle 95% of what it is of resamples.

    Args:
        statistic: takes a mean of each sample, as a number or as an array of many.
        samples: [N] each.
        paired: the samples are of the same things, and are drawn together.

    """
    if paired and len({len(sample) for sample in samples}) != 1:
        raise ValueError("samples of the same things must be equally many")
    rng = np.random.default_rng(SEED)
    means, rows = [], None
    for sample in samples:
        if rows is None or not paired:
            rows = rng.integers(len(sample), size=(RESAMPLES, len(sample)))
        means.append(sample[rows].mean(1))
    low, high = np.quantile(statistic(*means), [0.025, 0.975])
    value = statistic(*(sample.mean() for sample in samples))
    return Interval(float(value), float(low), float(high))


def itself(mean: Any) -> Any:
    """The mean, for ``bootstrap``."""
    return mean


def wilson(successes: int, count: int) -> Interval:
    """A share and its 95% interval (Wilson 1927), which also holds at 0 and at 1."""
    if not 0 <= successes <= count or count == 0:
        raise ValueError(f"{successes} of {count} is no share")
    z = 1.959964
    share, denominator = successes / count, 1 + z * z / count
    middle = (share + z * z / (2 * count)) / denominator
    half = z * np.sqrt(share * (1 - share) / count + z * z / (4 * count**2)) / denominator
    return Interval(share, float(max(middle - half, 0.0)), float(min(middle + half, 1.0)))


def _check(*samples: np.ndarray) -> None:
    for sample in samples:
        if sample.ndim != 1 or not len(sample) or not np.isfinite(sample).all():
            raise ValueError(f"no finite errors in a row: {sample!r}")
