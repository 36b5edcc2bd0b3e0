"""One environment by id, with what its family needs: plug-ins, and the papers' wrappers."""

import importlib
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium as gym

from envs.atari import atari, is_atari
from envs.wrappers import SettledReset


def register_plugins(env_id: str) -> None:
    """Imports the package that registers ``env_id``, if it is not Gymnasium itself.

    Raises ImportError naming the package if that is missing.
    """
    if env_id in gym.registry:
        return
    if env_id.startswith("ALE/") or re.fullmatch(r"\w+(NoFrameskip|Deterministic)?-v[04]", env_id):
        ale_py = importlib.import_module("ale_py")
        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)  # no banner
        gym.register_envs(ale_py)
    elif "BulletEnv" in env_id:
        with _quiet_stdout():
            importlib.import_module("pybullet_envs_gymnasium")


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
        return SettledReset(_make_bullet(env_id, **kwargs))
    return gym.make(env_id, disable_env_checker=True, **kwargs)


def _make_bullet(env_id: str, render_mode: str | None = None) -> gym.Env[Any, Any]:
    """PyBullet draws "rgb_array" without being asked for it at construction, and prints a lot."""
    with _quiet_stdout():
        env = gym.make(env_id, disable_env_checker=True)
        env.reset()  # connects to the engine
    return env


@contextmanager
def _quiet_stdout() -> Iterator[None]:
    """Drops what C code prints to standard output meanwhile."""
    sys.stdout.flush()
    try:
        copy = os.dup(1)
    except OSError:  # no standard output at all
        yield
        return
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), 1)
    try:
        yield
    finally:
        os.dup2(copy, 1)
        os.close(copy)
