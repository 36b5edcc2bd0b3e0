"""Running observation normalizer."""

from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from agents.state import check_like

Moments: TypeAlias = tuple[float, np.ndarray, np.ndarray]  # count, mean, variance


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
        self.merge(len(batch), batch.mean(0), batch.var(0))

    def merge(self, n: float, mean: np.ndarray, variance: np.ndarray) -> None:
        """Adds n observations with this mean and variance to the statistics."""
        if n == 0:
            return
        total = self.count + n
        delta = mean - self.mean
        squares = self.variance * self.count + variance * n
        self.variance = (squares + delta**2 * self.count * n / total) / total
        self.mean = self.mean + delta * n / total
        self.count = total
        self._refresh()

    def moments(self) -> Moments:
        """What ``merge`` takes."""
        return self.count, self.mean, self.variance

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
        count = float(state["count"])
        if not (np.isfinite([count, *mean, *variance]).all() and (variance >= 0).all()):
            raise ValueError("a normalizer's statistics are infinite or negative")
        self.count, self.mean, self.variance = count, mean, variance
        self._refresh()


class RewardNormalizer:
    """Divides rewards by the running standard deviation of the discounted return, and clips.

    As in OpenAI's baselines and SB3's VecNormalize: the return is a running sum in each
    environment, R <- gamma R + r, from which its episode's end removes all.
    """

    def __init__(self, gamma: float, clip: float = 10.0) -> None:
        self.gamma, self.clip = gamma, clip
        self.statistics = RunningNormalizer(1)
        self.returns: np.ndarray | None = None  # [n], one an environment

    def __call__(
        self, rewards: np.ndarray, done: np.ndarray, real: np.ndarray | slice = slice(None)
    ) -> np.ndarray:
        """Rewards [n] of one step, which episodes it ended, and which are no resets -> scaled."""
        self.statistics.update(self.accumulate(rewards, done)[real, None])
        return self.scale(rewards)

    def accumulate(self, rewards: np.ndarray, done: np.ndarray) -> np.ndarray:
        """The discounted returns [n] so far, these rewards included."""
        before = np.zeros(len(rewards)) if self.returns is None else self.returns
        returns: np.ndarray = self.gamma * before + rewards
        self.returns = np.where(done, 0.0, returns)
        return returns

    def scale(self, rewards: np.ndarray) -> np.ndarray:
        """Rewards over the standard deviation of the returns."""
        scaled = rewards / np.sqrt(self.statistics.variance[0] + 1e-8)
        clipped: np.ndarray = np.clip(scaled, -self.clip, self.clip)
        return clipped

    def state_dict(self) -> dict[str, Any]:
        return {"statistics": self.statistics.state_dict(), "returns": self.returns}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.statistics.load_state_dict(state["statistics"])
        self.load_returns(state["returns"])

    def load_returns(self, returns: Any, n: int | None = None) -> None:
        """Takes ``returns`` back; ValueError unless they are some, of n environments if given."""
        if returns is not None:
            check_like(returns, np.zeros(0 if n is None else n), "returns")
            if not np.isfinite(returns).all():
                raise ValueError("returns are infinite")
        self.returns = returns
