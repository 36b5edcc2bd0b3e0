"""Agents learn: seconds-long runs to a threshold that chance misses by far."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from agents import SAC, Agent, SACConfig
from agents.evaluation import Predict, evaluate
from agents.off_policy import OffPolicyLoop
from agents.replay import ReplayBuffer


class Halve(gym.Env[np.ndarray, np.ndarray]):
    """Do half of what you see: reward -(a - s/2)^2 for s from U(-1, 1), five steps an episode."""

    observation_space = Box(-1, 1, (1,))
    action_space = Box(-1, 1, (1,))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return self.observe(), {}

    def observe(self) -> np.ndarray:
        self.observation = self.np_random.uniform(-1, 1, 1).astype(np.float32)
        return self.observation

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        reward = -(float(action[0] - self.observation[0] / 2) ** 2)
        self.steps += 1
        return self.observe(), reward, False, self.steps == 5, {}


def at_random(agent: Agent) -> Predict:
    def predict(
        observation: Any,
        state: Any = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, None]:
        return agent.random_actions(len(observation)), None

    return predict


@pytest.mark.learning
def test_sac_learns_to_halve() -> None:
    """Random actions return -5 (1/3 + 1/12) = -2.08 on average; 0.1 off at each step is -0.05."""
    envs, test_envs = (
        SyncVectorEnv([Halve] * n, autoreset_mode=AutoresetMode.SAME_STEP) for n in (1, 100)
    )
    config = SACConfig(hidden_sizes=(32, 32), learning_rate=3e-3, batch_size=64, gamma=0.9)
    agent = SAC(envs.single_observation_space, envs.single_action_space, config, seed=0)
    by_chance = evaluate(at_random(agent), test_envs).mean()
    assert -2.5 < by_chance < -1.7

    envs.reset(seed=0)
    buffer = ReplayBuffer(10_000, agent.observation_space, agent.action_space, seed=0)
    OffPolicyLoop(agent, envs, buffer).run(1_500, lambda report: True)
    learned = evaluate(agent.predict, test_envs).mean()
    assert learned > -0.05
