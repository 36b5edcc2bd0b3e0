"""The last few steps of every environment: what on-policy agents learn from."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from agents.observations import NUMBERS, Features, ObservationLayout, Observations


class Rollout(NamedTuple):
    """T steps of n environments. Observations and actions are flat, [T * n, ...]."""

    observations: Features  # numbers [T * n, O], or a dict with pictures
    actions: Tensor  # [T * n, A], as the policy drew them
    rewards: Tensor  # [T, n] float32
    next_observations: Features  # the true successors, never reset observations
    terminated: Tensor  # [T, n] float32, 0 or 1
    done: Tensor  # [T, n] float32, 0 or 1: terminated or truncated
    real: Tensor  # [T, n] float32; 0: an environment's reset, which is no step


class RolloutBuffer:
    """Room for one rollout of ``length`` steps."""

    def __init__(self, length: int, n_envs: int, layout: ObservationLayout, width: int) -> None:
        self.length, self.n_envs, self.layout = length, n_envs, layout
        shape = (length, n_envs)
        self.arrays: dict[str, np.ndarray] = {"actions": np.zeros((*shape, width), np.float32)}
        for name in ["rewards", "terminated", "done", "real"]:
            self.arrays[name] = np.zeros(shape, np.float32)
        for when in ["observations", "successors"]:
            self.arrays[f"{when} {NUMBERS}"] = np.zeros((*shape, layout.size), np.float32)
            for name, picture in layout.pictures.items():
                frames = np.zeros((*shape, picture.stack, *picture.frame), np.uint8)
                self.arrays[f"{when} {name}"] = frames
        self.size = 0

    def add(
        self,
        observations: Observations,
        actions: np.ndarray,
        rewards: np.ndarray,
        successors: Observations,
        terminated: np.ndarray,
        truncated: np.ndarray,
        real: np.ndarray,
    ) -> None:
        """Stores one step of every environment; see Rollout."""
        values = {
            "actions": actions,
            "rewards": rewards,
            "terminated": terminated,
            "done": terminated | truncated,
            "real": real,
        }
        for when, seen in (("observations", observations), ("successors", successors)):
            values[f"{when} {NUMBERS}"] = self.layout.numbers(seen)
            for name in self.layout.pictures:
                values[f"{when} {name}"] = self.layout.frames(seen, name)
        for name, value in values.items():
            self.arrays[name][self.size] = value
        self.size += 1

    def take(self, device: torch.device) -> Rollout:
        """The steps stored, which may be fewer than ``length``; the buffer is empty afterwards."""
        size, self.size = self.size, 0

        def tensor(name: str) -> Tensor:
            return torch.from_numpy(self.arrays[name][:size].copy()).to(device)

        def features(when: str) -> Features:
            numbers = tensor(f"{when} {NUMBERS}").flatten(0, 1)
            if not self.layout.pictures:
                return numbers
            pictures = {
                name: picture.to_channels(tensor(f"{when} {name}").flatten(0, 1))
                for name, picture in self.layout.pictures.items()
            }
            return {NUMBERS: numbers, **pictures}

        return Rollout(
            features("observations"),
            tensor("actions").flatten(0, 1),
            tensor("rewards"),
            features("successors"),
            tensor("terminated"),
            tensor("done"),
            tensor("real"),
        )

    def state_dict(self) -> dict[str, Any]:
        return {"arrays": list(self.arrays.values()), "size": self.size}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for mine, saved in zip(self.arrays.values(), state["arrays"], strict=True):
            if mine.shape != saved.shape:
                raise ValueError(f"a rollout of {saved.shape} does not fit {mine.shape}")
            mine[:] = saved
        self.size = int(state["size"])
        if not 0 <= self.size <= self.length:
            raise ValueError(f"a rollout of {self.size} of {self.length} steps")
