"""The loop that every off-policy agent trains in: act, store, update, report."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv

from agents.replay import Batch, ReplayBuffer


class OffPolicyConfig(Protocol):
    """The hyperparameters that the loop itself reads."""

    @property
    def batch_size(self) -> int: ...
    @property
    def learning_starts(self) -> int: ...
    @property
    def train_freq(self) -> int: ...
    @property
    def gradient_steps(self) -> int: ...


class OffPolicyAgent(Protocol):
    """What the loop needs of an agent."""

    @property
    def config(self) -> OffPolicyConfig: ...
    def act(self, observations: np.ndarray, deterministic: bool = False) -> np.ndarray: ...
    def random_actions(self, n: int) -> np.ndarray: ...
    def observe(self, observations: np.ndarray) -> None: ...
    def update(self, batch: Batch) -> dict[str, float]: ...


@dataclass
class StepReport:
    """What happened in one vector step."""

    step: int  # environment steps so far, over all sub-environments
    updates: int  # updates in this step
    metrics: dict[str, float]  # of the last update; empty if there was none
    episodes: list[tuple[float, int]] = field(default_factory=list)  # (return, length) that ended


class OffPolicyLoop:
    """Collects transitions from ``envs`` into ``buffer`` and updates ``agent`` from it.

    Works with any number of sub-environments and with both of Gymnasium's autoreset modes. Under
    SAME_STEP the true successor of a last step is in ``info["final_obs"]``; under NEXT_STEP the
    step after a last one only resets, and is not a transition: it is neither stored nor counted.
    """

    def __init__(self, agent: OffPolicyAgent, envs: VectorEnv, buffer: ReplayBuffer) -> None:
        self.mode = envs.metadata.get("autoreset_mode")
        if self.mode not in (AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP):
            raise ValueError(
                f"envs must reset themselves (SAME_STEP or NEXT_STEP), not {self.mode}"
            )
        self.agent, self.envs, self.buffer = agent, envs, buffer
        self.steps = 0
        self.pending = 0  # steps since the last training phase
        self.observations: np.ndarray | None = None
        self.resetting = np.zeros(envs.num_envs, dtype=bool)
        self.returns = np.zeros(envs.num_envs)
        self.lengths = np.zeros(envs.num_envs, dtype=np.int64)
        self.seconds = {"act": 0.0, "env": 0.0, "sample": 0.0, "update": 0.0}

    def run(self, total_steps: int, on_step: Callable[[StepReport], bool]) -> None:
        """Trains until ``total_steps`` in all, or until ``on_step`` returns False."""
        if self.observations is None:
            self.observations, _ = self.envs.reset()
        while self.steps < total_steps:
            episodes = self._collect()
            updates, metrics = self._train()
            if not on_step(StepReport(self.steps, updates, metrics, episodes)):
                return

    def _collect(self) -> list[tuple[float, int]]:
        """One step of every sub-environment; returns the episodes that it ended."""
        assert self.observations is not None
        real = ~self.resetting
        with self._clock("act"):
            self.agent.observe(self.observations[real])
            if self.steps < self.agent.config.learning_starts:
                actions = self.agent.random_actions(self.envs.num_envs)
            else:
                actions = self.agent.act(self.observations)
        with self._clock("env"):
            next_obs, rewards, terminated, truncated, info = self.envs.step(actions)
        done = terminated | truncated
        successors = next_obs
        if self.mode is AutoresetMode.SAME_STEP and done.any():
            successors = next_obs.copy()
            successors[done] = np.stack(info["final_obs"][done])
        columns = (self.observations, actions, rewards, successors, terminated, truncated)
        self.buffer.add(*(column[real] for column in columns))
        self.observations = next_obs
        self.resetting = done if self.mode is AutoresetMode.NEXT_STEP else np.zeros_like(done)
        self.steps += int(real.sum())
        self.pending += int(real.sum())
        return self._count_episodes(real, rewards, done)

    def _count_episodes(
        self, real: np.ndarray, rewards: np.ndarray, done: np.ndarray
    ) -> list[tuple[float, int]]:
        self.returns += np.where(real, rewards, 0.0)
        self.lengths += real
        ended = [(float(self.returns[i]), int(self.lengths[i])) for i in np.flatnonzero(done)]
        self.returns[done], self.lengths[done] = 0.0, 0
        return ended

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
            with self._clock("sample"):
                batch = self.buffer.sample(config.batch_size)
            with self._clock("update"):
                metrics = self.agent.update(batch)
        return updates, metrics

    @contextmanager
    def _clock(self, what: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[what] += time.perf_counter() - start

    def state_dict(self) -> dict[str, Any]:
        """The loop's counters and the replay buffer; the sub-environments are not included."""
        return {
            "steps": self.steps,
            "pending": self.pending,
            "observations": self.observations,
            "resetting": self.resetting,
            "returns": self.returns,
            "lengths": self.lengths,
            "buffer": self.buffer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name in ["resetting", "returns", "lengths"]:
            if np.shape(state[name]) != (self.envs.num_envs,):
                raise ValueError(f"{name} of {np.shape(state[name])}, not ({self.envs.num_envs},)")
            setattr(self, name, np.array(state[name]))
        self.steps, self.pending = int(state["steps"]), int(state["pending"])
        if state["observations"] is not None:
            self.observations = np.array(state["observations"])
        self.buffer.load_state_dict(state["buffer"])
