"""Deterministic evaluation on held-out seeds: the one protocol behind every number we print."""

from collections.abc import Callable

import numpy as np
from gymnasium.vector import VectorEnv

# Training episodes are seeded from [2**20, 2**31) (see envs.vector), so every seed below 2**20 is
# held out by construction. The default also stays clear of the small seeds that people give runs.
EVALUATION_SEED = 10_000


def evaluate(
    act: Callable[[np.ndarray], np.ndarray], envs: VectorEnv, seed: int = EVALUATION_SEED
) -> np.ndarray:
    """Plays one episode in each sub-environment and returns the undiscounted returns.

    Args:
        act: maps observations [n_envs, ...] to actions [n_envs, ...]; deterministic.
        envs: sub-environment i is reset with seed + i, so the episodes do not depend on what was
            played before. A sub-environment that is done keeps stepping (so that the batch that
            ``act`` sees never changes shape) and is ignored.
        seed: seed of the first episode.

    Returns:
        float64 [n_envs], the sum of rewards of the first episode of each sub-environment.

    """
    returns = np.zeros(envs.num_envs)
    running = np.ones(envs.num_envs, dtype=bool)
    observations, _ = envs.reset(seed=seed)
    while running.any():
        observations, rewards, terminated, truncated, _ = envs.step(act(observations))
        returns += np.where(running, rewards, 0.0)
        running &= ~(terminated | truncated)
    return returns
