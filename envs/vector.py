"""Vector environments from any Gymnasium id."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from envs.resumable import Resumable


def make_vec(env_id: str, n_envs: int, seed: int | None = None, **kwargs: Any) -> SyncVectorEnv:
    """``n_envs`` copies of ``env_id`` in this process, which reset themselves in the same step.

    Args:
        env_id: any registered Gymnasium id.
        n_envs: number of sub-environments.
        seed: for training: each sub-environment draws its episodes' seeds from a stream of its
            own and can be saved (see Resumable). None, for evaluation: plain environments, to be
            seeded by ``reset(seed=...)``.
        kwargs: for ``gymnasium.make``, e.g. ``render_mode``.

    """

    def constructor(index: int) -> Callable[[], gym.Env[Any, Any]]:
        def construct() -> gym.Env[Any, Any]:
            env = gym.make(env_id, disable_env_checker=True, **kwargs)
            return env if seed is None else Resumable(env, seed, index)

        return construct

    constructors = [constructor(i) for i in range(n_envs)]
    return SyncVectorEnv(constructors, autoreset_mode=AutoresetMode.SAME_STEP)
