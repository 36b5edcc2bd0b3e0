"""Uniform experience replay (Lin 1992; Mnih et al. 2015)."""

from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import Space
from torch import Tensor

from agents.frames import FrameRing
from agents.observations import NUMBERS, Features, ObservationLayout, Observations


class Batch(NamedTuple):
    """B transitions. Only ``terminated`` ends the return: a truncated episode would have gone on,
    so its last transition bootstraps from ``next_observations`` like any other.
    """

    observations: Features  # numbers [B, O] float32, or a dict with pictures uint8 [B, C, H, W]
    actions: Tensor  # [B, A] float32, in the environment's units; a Discrete one is a number
    rewards: Tensor  # [B] float32
    next_observations: Features  # the true successors, never reset observations
    terminated: Tensor  # [B] float32, 0 or 1
    truncated: Tensor  # [B] float32, 0 or 1


class ReplayBuffer:
    """A ring of the last ``capacity`` transitions.

    All numbers of a transition are one row of one preallocated float32 table, so that a batch is a
    single gather and touches each row's memory once. Pictures are kept by a FrameRing each, which
    stores every frame once. Memory is claimed by the operating system only as it is first written.

    Args:
        capacity: transitions kept; a few fewer if most episodes are shorter than 32 steps and
            there are pictures (see FrameRing).
        observation_space, action_space: of one environment.
        seed: of sampling.
        device: of the numbers and of batches; pictures are kept in main memory.
        n_envs: sub-environments that transitions come from.

    """

    def __init__(
        self,
        capacity: int,
        observation_space: Space[Any],
        action_space: Space[Any],
        seed: int,
        device: str | torch.device = "cpu",
        n_envs: int = 1,
    ) -> None:
        self.capacity, self.device = capacity, torch.device(device)
        self.layout = ObservationLayout(observation_space)
        n_obs, n_act = self.layout.size, int(np.prod(action_space.shape or ()))
        self._widths = [n_obs, n_act, 1, n_obs, 1, 1]
        self.rows = torch.from_numpy(np.zeros((capacity, sum(self._widths)), np.float32))
        self.rows = self.rows.to(device)
        self.pictures = {
            name: FrameRing(capacity, picture, n_envs)
            for name, picture in self.layout.pictures.items()
        }
        self.position = 0  # next row to write
        self.filled = 0  # rows ever written
        self.size = 0  # transitions that can be sampled: the last ones before ``position``
        self.rng = np.random.default_rng(seed)

    def add(
        self,
        observations: Observations,
        actions: np.ndarray,
        rewards: np.ndarray,
        next_observations: Observations,
        terminated: np.ndarray,
        truncated: np.ndarray,
        envs: np.ndarray | None = None,
    ) -> None:
        """Stores k transitions, all arrays [k, ...], of k different sub-environments ``envs``.

        Without ``envs`` these are the first k.
        """
        k = len(rewards)
        if k == 0:
            return
        numbers, next_numbers = map(self.layout.numbers, (observations, next_observations))
        columns = (numbers, actions, rewards, next_numbers, terminated, truncated)
        new = np.concatenate([c.reshape(k, -1) for c in columns], 1, dtype=np.float32)
        where = (self.position + np.arange(k)) % self.capacity
        last = slice(-self.capacity, None)  # an older one would be overwritten at once
        self._write(where[last], new[last])
        self.position = (self.position + k) % self.capacity
        self.filled = min(self.filled + k, self.capacity)
        self.size = min(self.size + k, self.capacity)
        for name, ring in self.pictures.items():
            before, after = (self.layout.frames(o, name) for o in (observations, next_observations))
            ring.add(where, before, after, terminated | truncated, envs)
            while len(lost := np.flatnonzero(ring.lost(self._oldest(ring.reach)))):
                self.size -= int(lost[-1]) + 1

    def _write(self, where: np.ndarray, rows: np.ndarray) -> None:
        if self.device.type == "cpu":
            self.rows.numpy()[where] = rows  # for a few rows faster than through tensors
        else:
            self.rows[torch.from_numpy(where)] = torch.from_numpy(rows).to(self.device)

    def _oldest(self, n: int) -> np.ndarray:
        """Rows of the n oldest transitions."""
        return (self.position - self.size + np.arange(min(n, self.size))) % self.capacity

    def sample(self, batch_size: int) -> Batch:
        """Draws ``batch_size`` transitions uniformly, with replacement."""
        oldest = self.position - self.size
        return self.gather((oldest + self.rng.integers(self.size, size=batch_size)) % self.capacity)

    def gather(self, indices: np.ndarray) -> Batch:
        """The transitions at these rows of the table."""
        rows = self.rows[torch.from_numpy(indices).to(self.device)]
        obs, actions, rewards, next_obs, terminated, truncated = rows.split(self._widths, dim=1)
        before: Features = obs
        after: Features = next_obs
        if self.pictures:
            before, after = {NUMBERS: obs}, {NUMBERS: next_obs}
            for name, ring in self.pictures.items():
                before[name], after[name] = ring.gather(indices, self.device)
        return Batch(before, actions, rewards[:, 0], after, terminated[:, 0], truncated[:, 0])

    def state_dict(self) -> dict[str, Any]:
        return {
            "rows": self.rows[: self.filled],
            "position": self.position,
            "size": self.size,
            "rng": self.rng.bit_generator.state,
            "pictures": [ring.state_dict(self.filled) for ring in self.pictures.values()],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        rows, position, size = state["rows"], int(state["position"]), int(state["size"])
        filled, width = rows.shape
        full = filled == self.capacity and 0 <= position < filled
        at_the_end = position == filled < self.capacity  # not yet a ring
        if width != self.rows.shape[1] or not (full or at_the_end) or not 0 <= size <= filled:
            raise ValueError(
                f"replay of {filled} x {width} values at {position} does not fit "
                f"{self.capacity} x {self.rows.shape[1]}"
            )
        if any(len(saved["numbers"]) != filled for saved in state["pictures"]):
            raise ValueError(f"pictures of another number of rows do not fit these {filled}")
        self.rows[:filled] = rows
        self.position, self.size, self.filled = position, size, filled
        self.rng.bit_generator.state = state["rng"]
        for mine, saved in zip(self.pictures.values(), state["pictures"], strict=True):
            mine.load_state_dict(saved)
