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
    """The returns of ``play``, float64 [n_envs]."""
    return play(predict, envs, seed)[0]


def play(
    predict: Predict, envs: VectorEnv, seed: int = EVALUATION_SEED
) -> tuple[np.ndarray, np.ndarray | None]:
    """Plays one episode in each sub-environment.

    Args:
        predict: an agent's ``predict``, ours or Stable-Baselines3's.
        envs: sub-environment i is reset with seed + i, so the episodes do not depend on what was
            played before. A sub-environment that is done keeps stepping (so that the batch that
            ``predict`` sees never changes shape) and is ignored.
        seed: seed of the first episode.

    Returns:
        The sum of rewards of the first episode of each sub-environment, float64 [n_envs], and
        whether it ended in success, bool [n_envs]; None where ``info`` has no "is_success".

    """
    returns = np.zeros(envs.num_envs)
    successes: np.ndarray | None = None
    running = np.ones(envs.num_envs, dtype=bool)
    state, first = None, np.ones(envs.num_envs, dtype=bool)
    step, of = 0, " of an evaluation"
    with environment_failures(step, of):
        observations, _ = envs.reset(seed=seed)
    while running.any():
        actions, state = predict(observations, state, first, deterministic=True)
        with environment_failures(step, of):
            observations, rewards, terminated, truncated, infos = envs.step(actions)
        check_rewards(rewards[running], step, of)
        step += 1
        returns += np.where(running, rewards, 0.0)
        if "is_success" in infos:
            now = _successes(infos)
            successes = now if successes is None else np.where(running, now, successes)
        first = terminated | truncated
        running &= ~first
    return returns, successes


def _successes(infos: dict[str, Any]) -> np.ndarray:
    """Whether each sub-environment is in success, bool [n_envs]."""
    now = np.asarray(infos["is_success"], dtype=bool)
    if "final_info" in infos:  # of episodes whose place the next one has taken in the same step
        last = np.asarray(infos["final_info"]["is_success"], dtype=bool)
        now = np.where(infos["_final_info"], last, now)
    return now
