"""Building environments by id, with the mistakes that people make explained before training."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
from gymnasium.vector import VectorEnv

from runkit.errors import UserError

import envs
from envs.make import register_plugins
from envs.vector import Vectorization, Wrap
from sim2real.randomization import randomized
from sim2real.spec import SpecError

# What fails in a process of AsyncVectorEnv is raised here as well: no need to print it there.
warnings.filterwarnings("ignore", message=".*ERROR: ", module="gymnasium")
# Gymnasium calls every id that has a successor out of date. The -v4 MuJoCo ids are what published
# results use, and people choose them on purpose.
warnings.filterwarnings("ignore", message=".*is out of date.*")


def _quiet_mujoco() -> None:
    """Prints MuJoCo's warnings, but not those on the age of the models that Gymnasium ships.

    Left alone, MuJoCo also writes each of them to a MUJOCO_LOG.TXT wherever one happens to be.
    """
    import mujoco  # here, because it reads MUJOCO_GL when it is imported

    def warn(message: str) -> None:
        if "deprecated" not in message:
            print(f"mujoco: {message}", file=sys.stderr)

    mujoco.set_mju_user_warning(warn)


def make_envs(
    env_id: str,
    n_envs: int,
    seed: int | None = None,
    vectorization: Vectorization = "sync",
    **kwargs: Any,
) -> VectorEnv[Any, Any, Any]:
    """``envs.make_vec``; raises UserError for an id that is unknown or cannot run here."""
    with _explained(env_id):
        _prepare(env_id)
        return envs.make_vec(env_id, n_envs, seed, vectorization, **kwargs)


def make_env(env_id: str, **kwargs: Any) -> gym.Env[Any, Any]:
    """``envs.make_env``; raises UserError like ``make_envs``."""
    with _explained(env_id):
        _prepare(env_id)
        return envs.make_env(env_id, **kwargs)


def worker_env(env_id: str, seed: int, index: int, wrap: Wrap | None = None) -> gym.Env[Any, Any]:
    """``envs.make_resumable`` in a process of its own."""
    _prepare(env_id)
    return envs.make_resumable(env_id, seed, index, wrap)


def randomization(spec: str | None, seed: int) -> Wrap | None:
    """What draws a domain for every episode, for ``make_envs(…, wrap=…)``; None without a spec.

    Raises UserError if there is no such spec, or it is wrong.
    """
    try:
        return None if spec is None else randomized(spec, seed=seed)
    except SpecError as error:
        raise UserError(f"--randomization: {error}") from None


def choose_vectorization(env_id: str, n_envs: int, choice: str) -> tuple[Vectorization, str]:
    """Resolves "auto" to the fastest way here; also how it was chosen, for printing."""
    with _explained(env_id):
        ways = envs.vectorizations(env_id)
        if choice != "auto":
            if choice not in ways:
                raise UserError(f"{env_id} has no {choice}; there is: {', '.join(ways)}")
            return ways[ways.index(choice)], "as asked"
        if n_envs == 1:
            return "sync", "one environment"
        _prepare(env_id)
        rates = envs.measure_vectorization(env_id, n_envs)
    best = max(rates, key=rates.__getitem__)
    return best, ", ".join(f"{way}: {rate:,.0f} steps/s" for way, rate in rates.items())


def _prepare(env_id: str) -> None:
    register_plugins(env_id)
    if "mujoco" in str(gym.spec(env_id).entry_point):
        _quiet_mujoco()


@contextmanager
def _explained(env_id: str) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except gym.error.Error as error:
        raise UserError(f"cannot make {env_id!r}: {error}") from None
    except ImportError as error:
        message = str(error)
        if "mujoco<3" in message:
            message = f"it needs mujoco < 3; use {env_id.rsplit('-', 1)[0]}-v5 instead"
        raise UserError(f"cannot make {env_id!r}: {message}") from None
    except Exception as error:  # an environment is anybody's code
        raise UserError(f"cannot make {env_id!r}: {type(error).__name__}: {error}") from None
