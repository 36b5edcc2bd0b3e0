"""Learning rates that change: functions from the steps done to a factor on the rate (``Fit``)."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import pairwise


def piecewise(boundaries: Sequence[int], factors: Sequence[float]) -> Callable[[int], float]:
    """``factors[i]`` until step ``boundaries[i]``, then the next one.

    LeCun et al. 1998, section III.A, sets the rate by such a table.

    Raises:
        ValueError: unless the boundaries rise and there is one factor more than boundaries.

    """
    boundaries, factors = list(boundaries), list(factors)
    if len(factors) != len(boundaries) + 1:
        raise ValueError(f"{len(boundaries)} boundaries need one factor more, not {len(factors)}")
    if any(a >= b for a, b in pairwise(boundaries)):
        raise ValueError(f"boundaries must rise: {boundaries}")
    return lambda step: factors[bisect_right(boundaries, step)]


def step_decay(boundaries: Sequence[int], factor: float = 0.1) -> Callable[[int], float]:
    """The rate times ``factor`` at each of the boundaries: Krizhevsky et al. 2012, section 5, and
    Simonyan and Zisserman 2014, section 3.1, divide by 10. ValueError unless they rise.
    """
    return piecewise(boundaries, [factor**i for i in range(len(boundaries) + 1)])


def to_zero(steps: int) -> Callable[[int], float]:
    """A straight line from the rate at step 0 to none after ``steps``."""
    return lambda step: 1 - step / steps
