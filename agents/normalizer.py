"""Running observation normalizer."""

from typing import Any

import numpy as np
import torch
from torch import Tensor


class RunningNormalizer:
    """Shifts and scales observations by the mean and variance of all those seen so far.

    The moments are merged batch by batch in float64 (Chan, Golub and LeVeque 1979), so that the
    result does not depend on how the stream was cut into batches beyond rounding.
    """

    def __init__(self, size: int, clip: float = 10.0, device: str | torch.device = "cpu") -> None:
        self.count = 0.0
        self.mean = np.zeros(size)
        self.variance = np.ones(size)
        self.clip = clip
        self.device = torch.device(device)
        self._refresh()

    def update(self, observations: np.ndarray) -> None:
        """Adds a batch [B, size] to the statistics."""
        if len(observations) == 0:
            return
        batch = np.asarray(observations, dtype=np.float64)
        n, total = len(batch), self.count + len(batch)
        delta = batch.mean(0) - self.mean
        squares = self.variance * self.count + batch.var(0) * n
        self.variance = (squares + delta**2 * self.count * n / total) / total
        self.mean = self.mean + delta * n / total
        self.count = total
        self._refresh()

    def _refresh(self) -> None:
        self._shift = torch.tensor(self.mean, dtype=torch.float32, device=self.device)
        scale = np.sqrt(self.variance + 1e-8)
        self._scale = torch.tensor(scale, dtype=torch.float32, device=self.device)

    def __call__(self, observations: Tensor) -> Tensor:
        """[..., size] -> the same, about zero mean and unit variance, clipped."""
        return ((observations - self._shift) / self._scale).clamp(-self.clip, self.clip)

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count, "mean": self.mean, "variance": self.variance}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        mean, variance = np.asarray(state["mean"]), np.asarray(state["variance"])
        if mean.shape != self.mean.shape or variance.shape != self.variance.shape:
            raise ValueError(f"normalizer of size {mean.shape} is not of size {self.mean.shape}")
        self.count, self.mean, self.variance = float(state["count"]), mean, variance
        self._refresh()
