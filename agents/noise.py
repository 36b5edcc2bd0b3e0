"""Exploration noise for deterministic policies, in units of half an action's range."""

from typing import Any

import numpy as np
import torch
from torch import Tensor


class GaussianNoise:
    """Independent draws from N(0, sigma^2)."""

    def __init__(self, size: int, sigma: float) -> None:
        self.size, self.sigma = size, sigma

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Noise [n, size] for one step of n environments."""
        device = generator.device
        return self.sigma * torch.randn(n, self.size, generator=generator, device=device)

    def end(self, done: np.ndarray) -> None:
        """Episodes of these environments ended: nothing to forget."""

    def state_dict(self) -> dict[str, Any]:
        return {"x": None}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """It has no state."""


class OrnsteinUhlenbeckNoise:
    """Noise with a memory (Uhlenbeck and Ornstein 1930), one process an environment:

    x <- x - theta x + sigma N(0, 1), from 0 at the start of an episode.
    """

    def __init__(self, size: int, sigma: float, theta: float) -> None:
        self.size, self.sigma, self.theta = size, sigma, theta
        self.x: Tensor | None = None  # [n, size]

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Noise [n, size] for one step of n environments."""
        device = generator.device
        if self.x is None or len(self.x) != n:
            self.x = torch.zeros(n, self.size, device=device)
        fresh = torch.randn(n, self.size, generator=generator, device=device)
        self.x = self.x - self.theta * self.x + self.sigma * fresh
        return self.x

    def end(self, done: np.ndarray) -> None:
        """Episodes of these environments [n] ended: their processes start anew."""
        if self.x is not None and len(self.x) == len(done):
            self.x = self.x * torch.as_tensor(~done, device=self.x.device)[:, None]

    def state_dict(self) -> dict[str, Any]:
        return {"x": self.x}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        x = state["x"]
        if x is not None and (x.ndim != 2 or x.shape[1] != self.size):
            raise ValueError(f"noise of {tuple(x.shape)} is not of {self.size} actions")
        self.x = x
