"""The loop that every off-policy agent trains in: act, store, update, report."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv

from agents.agent import Agent
from agents.failures import check_metrics
from agents.observations import NUMBERS, Features, take
from agents.replay import Batch, ReplayBuffer
from agents.stepping import Loop, StepReport


class OffPolicyLoop(Loop):
    """Collects transitions from ``envs`` into ``buffer`` and updates ``agent`` from it.

    The agent's config says when: ``learning_starts``, ``train_freq``, ``gradient_steps`` and
    ``batch_size``.
    """

    def __init__(self, agent: Agent, envs: VectorEnv, buffer: ReplayBuffer) -> None:
        super().__init__(agent, envs)
        self.buffer = buffer
        self.pending = 0  # steps since the last training phase
        self.seconds |= {"sample": 0.0, "update": 0.0}

    def run(self, total_steps: int, on_step: Callable[[StepReport], bool]) -> None:
        """Trains until ``total_steps`` in all, or until ``on_step`` returns False."""
        self.start()
        while self.steps < total_steps:
            before = self.steps
            episodes = self._collect()
            updates, metrics = self._train()
            if not on_step(StepReport(before, self.steps, updates, metrics, episodes)):
                return

    def _collect(self) -> list[tuple[float, int]]:
        """One step of every sub-environment; returns the episodes that it ended."""
        observations, real = self.observations, ~self.resetting
        n_real = int(np.count_nonzero(real))
        with self.clock("act"):
            self.see(observations, real)
            if self.steps < self.agent.config.learning_starts:
                actions = self.agent.random_actions(self.envs.num_envs)
            else:
                actions = self.agent.act(observations)
        step = self.step(actions)
        if n_real == len(real):
            columns = (actions, step.rewards, step.successors, step.terminated, step.truncated)
            self.buffer.add(observations, *columns)
        else:
            self.buffer.add(
                take(observations, real),
                actions[real],
                step.rewards[real],
                take(step.successors, real),
                step.terminated[real],
                step.truncated[real],
                np.flatnonzero(real),
            )
        self.pending += n_real
        return step.episodes

    def _train(self) -> tuple[int, dict[str, float]]:
        """A training phase if one is due; returns the number of updates and the last metrics."""
        config = self.agent.config
        if self.steps <= config.learning_starts:
            self.pending = 0
            return 0, {}
        if self.pending < config.train_freq:
            return 0, {}
        updates = self.pending if config.gradient_steps == -1 else config.gradient_steps
        self.pending = 0
        for _ in range(updates):
            with self.clock("sample"):
                batch = self.buffer.sample(config.batch_size)
            with self.clock("update"):
                metrics = self.agent.update(batch)
            check_metrics(metrics, self.steps)
        return updates, metrics

    def state_dict(self) -> dict[str, Any]:
        """The loop's counters and the replay buffer; the sub-environments are not included."""
        state = super().state_dict()
        return state | {"pending": self.pending, "buffer": self.buffer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.pending = int(state["pending"])
        self.buffer.load_state_dict(state["buffer"])


def random_batch(agent: Agent, size: int) -> Batch:
    """Noise in the shape of ``size`` transitions, to measure updates with."""
    layout, device = agent.layout, agent.device

    def observations() -> Features:
        numbers = torch.rand(size, layout.size, device=device)
        if not layout.pictures:
            return numbers
        pictures = {
            name: torch.randint(
                256, (size, p.channels, *p.frame[:2]), dtype=torch.uint8, device=device
            )
            for name, p in layout.pictures.items()
        }
        return {NUMBERS: numbers, **pictures}

    actions = torch.as_tensor(agent.random_actions(size), dtype=torch.float32, device=device)
    rewards, terminated, truncated = torch.rand(3, size, device=device)
    columns = (actions.reshape(size, -1), rewards, observations(), terminated, truncated)
    return Batch(observations(), *columns)
