"""Uniform experience replay (Lin 1992; Mnih et al. 2015)."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor


class Batch(NamedTuple):
    """B transitions. Only ``terminated`` ends the return: a truncated episode would have gone on,
    so its last transition bootstraps from ``next_observations`` like any other.
    """

    observations: Tensor  # [B, O] float32
    actions: Tensor  # [B, A] float32, in the environment's units
    rewards: Tensor  # [B] float32
    next_observations: Tensor  # [B, O] float32, the true successor, never a reset observation
    terminated: Tensor  # [B] float32, 0 or 1
    truncated: Tensor  # [B] float32, 0 or 1


class ReplayBuffer:
    """A ring of the last ``capacity`` transitions.

    One transition is one row of one preallocated float32 table, so that a batch is a single
    gather and touches each row's memory once. Memory is claimed by the operating system only as
    rows are first written.
    """

    def __init__(
        self,
        capacity: int,
        observation_size: int,
        action_size: int,
        seed: int,
        device: str | torch.device = "cpu",
    ) -> None:
        self.capacity = capacity
        self._widths = [observation_size, action_size, 1, observation_size, 1, 1]
        self.rows = torch.zeros(capacity, sum(self._widths), device=device)
        self.position = 0  # next row to write
        self.size = 0  # rows written so far, at most capacity
        self.rng = np.random.default_rng(seed)

    def add(
        self,
        observations: np.ndarray,
        actions: np.ndarray,
        rewards: np.ndarray,
        next_observations: np.ndarray,
        terminated: np.ndarray,
        truncated: np.ndarray,
    ) -> None:
        """Stores k transitions, shapes [k, O], [k, A], [k], [k, O], [k], [k]."""
        columns = [observations, actions, rewards, next_observations, terminated, truncated]
        k = len(rewards)
        if k == 0:
            return
        new = np.concatenate([np.asarray(c, np.float32).reshape(k, -1) for c in columns], axis=1)
        where = (self.position + np.arange(k)) % self.capacity
        last = slice(-self.capacity, None)  # an older one would be overwritten at once
        self.rows[torch.from_numpy(where[last])] = torch.from_numpy(new[last]).to(self.rows.device)
        self.position = (self.position + k) % self.capacity
        self.size = min(self.size + k, self.capacity)

    def sample(self, batch_size: int) -> Batch:
        """Draws ``batch_size`` transitions uniformly, with replacement."""
        indices = torch.from_numpy(self.rng.integers(self.size, size=batch_size))
        rows = self.rows[indices.to(self.rows.device)]
        obs, actions, rewards, next_obs, terminated, truncated = rows.split(self._widths, dim=1)
        return Batch(obs, actions, rewards[:, 0], next_obs, terminated[:, 0], truncated[:, 0])

    def state_dict(self) -> dict[str, Any]:
        return {
            "rows": self.rows[: self.size],
            "position": self.position,
            "rng": self.rng.bit_generator.state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        rows, position = state["rows"], int(state["position"])
        size, width = rows.shape
        full = size == self.capacity
        at_the_end = position == size and size < self.capacity  # not yet a ring
        if width != self.rows.shape[1] or not (at_the_end or (full and 0 <= position < size)):
            raise ValueError(
                f"replay of {size} x {width} values at {position} does not fit "
                f"{self.capacity} x {self.rows.shape[1]}"
            )
        self.rows[:size] = rows
        self.position, self.size = position, size
        self.rng.bit_generator.state = state["rng"]
