"""What can end a training from outside the algorithm, each with a message for the user."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from agents.observations import ObservationLayout, Observations

LARGEST = float(np.finfo(np.float32).max)


class TrainingFailure(RuntimeError):
    """Training cannot go on; what was saved before is whole."""


class EnvironmentFailure(TrainingFailure):
    """An environment raised, died, or returned something that is not finite."""


class NonFiniteMetric(TrainingFailure):
    """A loss or another metric of an update became NaN or infinite."""


@contextmanager
def environment_failures(step: int, of: str = "") -> Iterator[None]:
    """Turns whatever an environment raises into an EnvironmentFailure that names the step."""
    try:
        yield
    except (EOFError, BrokenPipeError, ConnectionError) as error:
        raise EnvironmentFailure(
            f"a worker process of the environments died at step {step:,}{of} "
            f"({type(error).__name__})"
        ) from error
    except Exception as error:  # an environment is anybody's code
        text = " ".join(str(error).split())
        raise EnvironmentFailure(
            f"the environment failed at step {step:,}{of}: {type(error).__name__}: {text}"
        ) from error


def check_rewards(rewards: np.ndarray, step: int, of: str = "") -> None:
    """Raises EnvironmentFailure if a reward is not finite, or would not be where it is stored."""
    if not np.add.reduce(np.abs(rewards)) <= LARGEST:  # which NaN is not either
        raise EnvironmentFailure(
            f"the environment returned a reward of NaN or inf (in float32) at step {step:,}{of}"
        )


def check_observations(layout: ObservationLayout, observations: Observations, step: int) -> None:
    """Raises EnvironmentFailure if a number of an observation is not finite."""
    if not layout.finite(observations):
        raise EnvironmentFailure(
            f"the environment returned an observation with NaN or inf at step {step:,}"
        )


def check_metrics(metrics: dict[str, float], step: int) -> None:
    """Raises NonFiniteMetric naming the metric and the step unless all are finite."""
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise NonFiniteMetric(f"{name} became {value} at step {step:,}")
