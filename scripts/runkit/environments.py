"""Building environments by id, with the mistakes that people make explained before training."""

import sys
import warnings
from typing import Any

import gymnasium as gym
from gymnasium.vector import SyncVectorEnv

from runkit.errors import UserError

from envs import make_vec

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


def make_envs(env_id: str, n_envs: int, seed: int | None = None, **kwargs: Any) -> SyncVectorEnv:
    """``envs.make_vec``; raises UserError for an id that is unknown or cannot run here."""
    try:
        if "mujoco" in str(gym.spec(env_id).entry_point):
            _quiet_mujoco()
        return make_vec(env_id, n_envs, seed, **kwargs)
    except gym.error.Error as error:
        raise UserError(f"cannot make {env_id!r}: {error}") from None
    except ImportError as error:
        message = str(error)
        if "mujoco<3" in message:
            message = f"it needs mujoco < 3; use {env_id.rsplit('-', 1)[0]}-v5 instead"
        raise UserError(f"cannot make {env_id!r}: {message}") from None


def make_env(env_id: str, **kwargs: Any) -> gym.Env[Any, Any]:
    """One environment by id; raises UserError like ``make_envs``."""
    return make_envs(env_id, 1, **kwargs).envs[0]
