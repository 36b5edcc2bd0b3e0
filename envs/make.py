"""One environment by id, with what its family needs: plug-ins, and the papers' wrappers."""

import importlib
import re
from typing import Any

import gymnasium as gym

from envs.atari import atari, is_atari
from envs.quiet import quiet
from envs.wrappers import SettledReset


def register_plugins(env_id: str) -> None:
    """Imports the package that registers ``env_id``, if it is not Gymnasium itself.

    Raises ImportError naming the package if that is missing.
    """
    if env_id in gym.registry:
        return
    if "BulletEnv" in env_id:
        with quiet():
            importlib.import_module("pybullet_envs_gymnasium")
    elif env_id.startswith("ALE/") or re.fullmatch(r"\w+-v[04]", env_id):
        ale_py = importlib.import_module("ale_py")
        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)  # no banner
        gym.register_envs(ale_py)


def make_env(env_id: str, training: bool = False, **kwargs: Any) -> gym.Env[Any, Any]:
    """``gymnasium.make`` for every family that the workbench knows.

    Atari games come preprocessed as in Mnih et al. 2015 (see ``envs.atari``); PyBullet's
    environments are made to reset alike every time.

    Args:
        env_id: any registered Gymnasium id, of ale-py and pybullet_envs_gymnasium too.
        training: with the changes that the papers make for learning only, such as clipped rewards.
        kwargs: for ``gymnasium.make``, e.g. ``render_mode``.

    """
    register_plugins(env_id)
    if is_atari(env_id):
        return atari(env_id, training, **kwargs)
    if "BulletEnv" in env_id:
        with quiet():
            env = SettledReset(gym.make(env_id, disable_env_checker=True, **kwargs))
            env.reset()  # connects to the engine, which prints
        return env
    return gym.make(env_id, disable_env_checker=True, **kwargs)
