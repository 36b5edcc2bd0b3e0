"""The loop that synchronous on-policy agents train in: act for n steps, update, forget."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv

from agents.a2c import A2C
from agents.failures import check_metrics
from agents.rollout import Rollout, RolloutBuffer
from agents.stepping import Loop, StepReport


class OnPolicyLoop(Loop):
    """Collects rollouts of ``agent.config.n_steps`` steps from ``envs`` and updates from each."""

    def __init__(self, agent: A2C, envs: VectorEnv) -> None:
        super().__init__(agent, envs)
        self.actor = agent
        width = agent.distribution.width
        self.rollout = RolloutBuffer(agent.config.n_steps, envs.num_envs, agent.layout, width)
        self.seconds |= {"update": 0.0}

    def run(self, total_steps: int, on_step: Callable[[StepReport], bool]) -> None:
        """Trains until ``total_steps`` in all, or until ``on_step`` returns False."""
        self.start()
        while self.steps < total_steps:
            before, metrics = self.steps, {}
            episodes = self._collect()
            updated = self.rollout.size == self.rollout.length
            if updated:
                with self.clock("update"):
                    metrics = self.actor.update(self.rollout.take(self.agent.device))
                check_metrics(metrics, self.steps)
            if not on_step(StepReport(before, self.steps, int(updated), metrics, episodes)):
                return

    def _collect(self) -> list[tuple[float, int]]:
        """One step of every sub-environment; returns the episodes that it ended."""
        observations, real = self.observations, ~self.resetting
        with self.clock("act"):
            self.see(observations, real)
            drawn, actions = self.actor.sample(observations)
        step = self.step(actions)
        rewards = step.rewards
        if self.actor.reward_normalizer is not None:
            done = step.terminated | step.truncated
            rewards = self.actor.reward_normalizer(rewards, done, real)
        columns = (step.successors, step.terminated, step.truncated, real)
        self.rollout.add(observations, drawn, rewards, *columns)
        return step.episodes

    def state_dict(self) -> dict[str, Any]:
        """The loop's counters and the unfinished rollout."""
        return super().state_dict() | {"rollout": self.rollout.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.rollout.load_state_dict(state["rollout"])
        rewards = self.actor.reward_normalizer
        if rewards is not None:  # which does not know how many environments there are
            rewards.load_returns(rewards.returns, self.envs.num_envs)


def random_rollout(agent: A2C, n_envs: int) -> Rollout:
    """Noise in the shape of a rollout, to measure updates with."""
    buffer = RolloutBuffer(agent.config.n_steps, n_envs, agent.layout, agent.distribution.width)
    rng = np.random.default_rng(0)
    for name, array in buffer.arrays.items():
        array[:] = rng.random(array.shape) if array.dtype == np.float32 else 0
        if name in ("actions", "terminated", "done"):
            array[:] = 0
    buffer.size = buffer.length
    return buffer.take(torch.device(agent.device))
