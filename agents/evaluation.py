"""Deterministic evaluation on held-out seeds: the one protocol behind every number we print."""

from typing import Any, Protocol

import numpy as np
from gymnasium.vector import VectorEnv

from agents.failures import check_rewards, environment_failures

# Training episodes are seeded from [2**20, 2**31) (see envs.vector), so every seed below 2**20 is
# held out by construction. The default also stays clear of the small seeds that people give runs.
EVALUATION_SEED = 10_000


class Predict(Protocol):
    """Observations, recurrent state and which episodes begin -> actions and the next state."""

    def __call__(
        self,
        observation: Any,
        state: Any = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, Any]: ...


def evaluate(predict: Predict, envs: VectorEnv, seed: int = EVALUATION_SEED) -> np.ndarray:
    """Plays one episode in each sub-environment and returns the undiscounted returns.

    Args:
        predict: an agent's ``predict``, ours or Stable-Baselines3's.
        envs: sub-environment i is reset with seed + i, so the episodes do not depend on what was
            played before. A sub-environment that is done keeps stepping (so that the batch that
            ``predict`` sees never changes shape) and is ignored.
        seed: seed of the first episode.

    Returns:
        float64 [n_envs], the sum of rewards of the first episode of each sub-environment.

    """
    returns = np.zeros(envs.num_envs)
    running = np.ones(envs.num_envs, dtype=bool)
    state, first = None, np.ones(envs.num_envs, dtype=bool)
    step, of = 0, " of an evaluation"
    with environment_failures(step, of):
        observations, _ = envs.reset(seed=seed)
    while running.any():
        actions, state = predict(observations, state, first, deterministic=True)
        with environment_failures(step, of):
            observations, rewards, terminated, truncated, _ = envs.step(actions)
        check_rewards(rewards[running], step, of)
        step += 1
        returns += np.where(running, rewards, 0.0)
        first = terminated | truncated
        running &= ~first
    return returns
