"""Learning rates that change: functions from the steps done to a factor on the rate (``Fit``)."""

from collections.abc import Callable, Sequence


def step_decay(steps: int, shares: Sequence[float], factor: float = 0.1) -> Callable[[int], float]:
    """The rate times ``factor`` from each of these shares of the ``steps`` on. Krizhevsky et al.
    2012, section 5, and Simonyan and Zisserman 2014, section 3.1, divide by 10.
    """
    return lambda step: factor ** sum(step >= share * steps for share in shares)


def to_zero(steps: int) -> Callable[[int], float]:
    """A straight line from the rate at step 0 to none after ``steps``."""
    return lambda step: 1 - step / steps
