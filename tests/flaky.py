"""An environment that fails on purpose: after ``STEPS`` steps of training, or in an evaluation."""

from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box

from runkit import environments

from envs.resumable import FIRST_TRAINING_SEED

STEPS = 130
REWARDS = {"reward": np.nan, "vast reward": 1e300, "huge reward": 1e30}
OBSERVATIONS = {"observation": np.nan, "vast observation": 1e300}
FAILURES = ["raises", "reset", "evaluation", *REWARDS, *OBSERVATIONS]


def env_id(failure: str) -> str:
    return f"firsthand/Flaky-{failure.replace(' ', '-')}-v0"


class Flaky(gym.Env[np.ndarray, np.ndarray]):
    """Noise; episodes of 20 steps, of which the training's seeds tell training from evaluation."""

    observation_space: Any = Box(-np.inf, np.inf, (3,), np.float64)
    action_space: Any = Box(-1.0, 1.0, (2,))

    def __init__(self, failure: str) -> None:
        self.failure, self.steps, self.training = failure, 0, False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.training = seed >= FIRST_TRAINING_SEED
        self.left = 20
        if self._fails("reset"):
            raise RuntimeError("it cannot\nbegin anew")
        return self._observe(), {}

    def _observe(self) -> np.ndarray:
        if self._fails(*OBSERVATIONS):
            return np.full(3, OBSERVATIONS[self.failure])
        return self.np_random.normal(size=3)

    def _fails(self, *failures: str) -> bool:
        return self.failure in failures and self.training and self.steps >= STEPS

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.left -= 1
        self.steps += 1
        if self._fails("raises") or (self.failure == "evaluation" and not self.training):
            raise RuntimeError("the simulator\nbroke down")
        reward = REWARDS[self.failure] if self._fails(*REWARDS) else self.np_random.normal()
        return self._observe(), float(reward), False, self.left == 0, {}


def worker_env(env_id: str, seed: int, index: int, wrap: None) -> gym.Env[Any, Any]:
    """A3C's, in a process that has imported this module: there the ids are registered too."""
    return environments.worker_env(env_id, seed, index, wrap)


for _failure in FAILURES:
    if env_id(_failure) not in gym.registry:
        gym.register(env_id(_failure), partial(Flaky, _failure))
