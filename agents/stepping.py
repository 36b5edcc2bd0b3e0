"""Stepping vector environments, whichever way they reset themselves: the base of all loops."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import create_empty_array

from agents.agent import Agent
from agents.failures import check_observations, check_rewards, environment_failures
from agents.observations import Observations, put, take
from agents.state import check_like


@dataclass
class StepReport:
    """What happened in one vector step."""

    before: int  # environment steps before it, over all sub-environments
    step: int  # and after it
    updates: int  # gradient steps in it
    metrics: dict[str, float]  # of the last update; empty if there was none
    episodes: list[tuple[float, int]] = field(default_factory=list)  # (return, length) that ended


class Step(NamedTuple):
    """One step of n sub-environments."""

    rewards: np.ndarray  # [n]
    successors: Observations  # [n, ...], the true ones, never reset observations
    terminated: np.ndarray  # [n] bool
    truncated: np.ndarray  # [n] bool
    episodes: list[tuple[float, int]]  # (return, length) of those that it ended


class Clock:
    """``with Clock(seconds, what)``: adds to ``seconds[what]`` the time that its block takes."""

    __slots__ = ("seconds", "start", "what")

    def __init__(self, seconds: dict[str, float], what: str) -> None:
        self.seconds, self.what = seconds, what

    def __enter__(self) -> None:
        self.start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds[self.what] += time.perf_counter() - self.start


class Loop(ABC):
    """Steps ``envs`` and keeps count.

    Works with any number of sub-environments and with both of Gymnasium's autoreset modes. Under
    SAME_STEP the true successor of a last step is in ``info["final_obs"]``; under NEXT_STEP the
    step after a last one only resets, and is not a transition: ``resetting`` marks it, and it is
    not counted.
    """

    def __init__(self, agent: Agent, envs: VectorEnv) -> None:
        self.mode = envs.metadata.get("autoreset_mode")
        if self.mode not in (AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP):
            raise ValueError(
                f"envs must reset themselves (SAME_STEP or NEXT_STEP), not {self.mode}"
            )
        self.agent, self.envs = agent, envs
        self.steps = 0  # environment steps over all sub-environments
        self.observations: Observations = None
        self.resetting = np.zeros(envs.num_envs, dtype=bool)
        self.returns = np.zeros(envs.num_envs)
        self.lengths = np.zeros(envs.num_envs, dtype=np.int64)
        self.seconds = {"act": 0.0, "env": 0.0}

    @abstractmethod
    def run(self, total_steps: int, on_step: Callable[[StepReport], bool]) -> None:
        """Trains until ``total_steps`` in all, or until ``on_step`` returns False."""

    def start(self) -> None:
        """Resets the environments unless the loop is already under way."""
        if self.observations is None:
            with environment_failures(self.steps):
                self.observations, _ = self.envs.reset()
            check_observations(self.agent.layout, self.observations, self.steps)

    def see(self, observations: Observations, real: np.ndarray) -> None:
        """Shows the agent the observations that it is about to act on, but for resets."""
        self.agent.observe(observations if real.all() else take(observations, real))

    def step(self, actions: np.ndarray) -> Step:
        """One step of every sub-environment; raises EnvironmentFailure."""
        with self.clock("env"), environment_failures(self.steps):
            next_obs, rewards, terminated, truncated, info = self.envs.step(actions)
        rewards = np.asarray(rewards, np.float64)
        done = terminated | truncated
        any_done = bool(np.count_nonzero(done))  # a fifth of the time that any() takes
        successors = next_obs
        check_rewards(rewards, self.steps)
        check_observations(self.agent.layout, next_obs, self.steps)
        if any_done and self.mode is AutoresetMode.SAME_STEP:
            successors = put(next_obs, done, info["final_obs"][done])
            check_observations(self.agent.layout, successors, self.steps)
        real = ~self.resetting
        self.observations = next_obs
        self.resetting = done if self.mode is AutoresetMode.NEXT_STEP else np.zeros_like(done)
        self.steps += int(np.count_nonzero(real))
        self.returns += rewards * real
        self.lengths += real
        episodes = self._end_episodes(done) if any_done else []
        return Step(rewards, successors, terminated, truncated, episodes)

    def _end_episodes(self, done: np.ndarray) -> list[tuple[float, int]]:
        self.agent.end_episodes(done)
        ended = [(float(self.returns[i]), int(self.lengths[i])) for i in np.flatnonzero(done)]
        self.returns[done], self.lengths[done] = 0.0, 0
        return ended

    def close(self) -> None:
        """Ends the environments' processes, if they have any."""
        with suppress(Exception):  # a process of theirs may be dead already
            self.envs.close()
        for process in getattr(self.envs.unwrapped, "processes", []):
            process.kill()  # of those that are left, one may be waiting for what never comes
            process.join()
        self.envs.unwrapped.closed = True  # there is nothing more to do as it is collected

    def clock(self, what: str) -> "Clock":
        return Clock(self.seconds, what)

    def state_dict(self) -> dict[str, Any]:
        """The loop's counters; the sub-environments are not included."""
        names = ["steps", "observations", "resetting", "returns", "lengths"]
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        check_like(state, self.state_dict() | {"observations": None})
        for name in ["resetting", "returns", "lengths"]:
            setattr(self, name, np.array(state[name]))
        space, n = self.envs.single_observation_space, self.envs.num_envs
        if state["observations"] is not None:  # as it is before the first step
            check_like(state["observations"], create_empty_array(space, n), "observations")
        self.steps, self.observations = int(state["steps"]), state["observations"]
