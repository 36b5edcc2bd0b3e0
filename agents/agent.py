"""What every agent has: spaces, counters, a source of noise, and a state that can be saved."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import Space
from torch import nn

from agents.normalizer import RunningNormalizer
from agents.observations import NUMBERS, Features, ObservationLayout, Observations
from agents.state import check_like


class Agent(ABC):
    """Base of all agents.

    A subclass checks its action space, builds its networks and optimizers, names them in
    ``stateful``, and writes ``act``, ``random_actions`` and ``update``.

    Args:
        observation_space: Box, Discrete, MultiDiscrete, MultiBinary, or a Dict of them.
        config: the algorithm's hyperparameters.
        seed: of the initial weights and of all noise.
        device: where networks and batches live; "meta": nowhere, for the shapes of the state.

    """

    algorithm: ClassVar[str]
    metric_names: ClassVar[tuple[str, ...]]  # what ``update`` returns
    stateful: ClassVar[tuple[str, ...]]  # attributes with state_dict and load_state_dict
    config: Any
    action_space: Any  # checked, and of the type that the algorithm needs
    _gradient_step: Callable[..., torch.Tensor]  # an update's arithmetic -> values of its metrics

    def __init__(
        self, observation_space: Space[Any], config: Any, seed: int, device: str | torch.device
    ) -> None:
        self.config, self.observation_space = config, observation_space
        self.seed, self.device = seed, torch.device(device)
        self.layout = ObservationLayout(observation_space, self.algorithm.upper())
        self.normalizer = (
            RunningNormalizer(self.layout.size, device=self.device)
            if config.normalize_observations
            else None
        )
        source = "cpu" if self.device.type == "meta" else self.device
        self.generator = torch.Generator(source).manual_seed(seed)
        self.steps = 0  # environment steps that training has shown it
        self.updates = 0  # gradient steps

    # -- acting ------------------------------------------------------------------------------

    @abstractmethod
    def act(self, observations: Observations, deterministic: bool = False) -> np.ndarray:
        """One observation or n of them -> one action or n, in the environment's units."""

    @abstractmethod
    def random_actions(self, n: int) -> np.ndarray:
        """n uniform actions."""

    def predict(
        self,
        observation: Observations,
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Stable-Baselines3's signature of ``act``, so that its ``evaluate_policy`` runs us."""
        return self.act(observation, deterministic), state

    def observe(self, observations: Observations) -> None:
        """Counts n observations that training has met, and feeds them to the normalizer."""
        self.steps += self.layout.count(observations)
        if self.normalizer is not None:
            self.normalizer.update(self.layout.numbers(observations))

    def end_episodes(self, done: np.ndarray) -> None:  # noqa: B027 - most have nothing to do
        """Training's sub-environments with done [n] begin anew: noise with a memory forgets."""

    def features(self, observations: Observations) -> tuple[Features, bool]:
        """What the networks take, normalized, and whether it was a single observation."""
        batch, single = self.layout.batched(observations)
        return self.normalize(self.layout.features(batch, self.device)), single

    def normalize(self, features: Features) -> Features:
        """Numbers through the normalizer, if there is one; pictures as they are."""
        if self.normalizer is None:
            return features
        if isinstance(features, dict):
            return features | {NUMBERS: self.normalizer(features[NUMBERS])}
        return self.normalizer(features)

    # -- learning ----------------------------------------------------------------------------

    @abstractmethod
    def update(self, batch: Any) -> dict[str, float]:
        """One gradient step; returns ``metric_names`` with their values."""

    def compile(self) -> None:
        """Has torch.compile make one graph of an update, backward pass and optimizer included.

        The equations are the same, in fewer and fused kernels. It takes 10-20 s at the first
        update and needs a C++ compiler on a CPU.
        """
        torch._dynamo.config.trace_autograd_ops = True  # backward passes are part of the graph
        options: dict[str, Any] | None = (
            {"cpp_wrapper": True} if self.device.type == "cpu" else None
        )
        self._gradient_step = torch.compile(self._gradient_step, fullgraph=True, options=options)

    # -- state -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next ``act`` and ``update`` depend on, as nested plain data."""
        state = {name: getattr(self, name).state_dict() for name in self.stateful}
        state["normalizer"] = None if self.normalizer is None else self.normalizer.state_dict()
        state["generator"] = self.generator.get_state()
        return {**state, "steps": self.steps, "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores ``state_dict``; ValueError, TypeError or RuntimeError if it does not fit."""
        check_like(state, self.state_dict())
        for name in self.stateful:
            getattr(self, name).load_state_dict(state[name])
        if (self.normalizer is None) != (state["normalizer"] is None):
            raise ValueError("a normalizer is there or missing, unlike in the config")
        if self.normalizer is not None:
            self.normalizer.load_state_dict(state["normalizer"])
        self.generator.set_state(state["generator"])
        self.steps, self.updates = int(state["steps"]), int(state["updates"])
        if not self.finite():
            raise ValueError("a weight is infinite")

    def finite(self) -> bool:
        """Whether all weights of all networks are."""
        parts = [getattr(self, name) for name in self.stateful]
        networks = [part for part in parts if isinstance(part, nn.Module)]
        return all(w.isfinite().all() for net in networks for w in net.state_dict().values())
