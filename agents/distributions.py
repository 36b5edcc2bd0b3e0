"""Action distributions of stochastic policies, by action space.

A policy network puts out ``size`` numbers an observation; a distribution makes of them actions
[B, width], their log-probabilities [B] and its entropy [B], in nats.
"""

import math
from typing import Any, TypeAlias

import numpy as np
import torch
from gymnasium import Space
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from torch import Tensor, nn

from agents.spaces import UnsupportedSpaceError, continuous_actions


class Categorical(nn.Module):
    """Independent choices, one of ``choices[i]`` each: Discrete (one choice) and MultiDiscrete."""

    def __init__(self, space: Discrete | MultiDiscrete) -> None:
        super().__init__()
        self.shape = tuple(space.shape or ())
        self.choices = [int(space.n)] if isinstance(space, Discrete) else space.nvec.tolist()
        self.start = np.atleast_1d(np.asarray(space.start, np.int64))
        self.size, self.width = sum(self.choices), len(self.choices)

    def _log_probs(self, logits: Tensor) -> list[Tensor]:
        """log pi of every choice, [B, n] each."""
        return [part.log_softmax(-1) for part in logits.split(self.choices, dim=-1)]

    def sample(self, logits: Tensor, generator: torch.Generator) -> Tensor:
        """Gumbel's trick: the largest logit - log E, E from Exp(1), is a draw from the softmax."""
        exponential = torch.empty_like(logits).exponential_(generator=generator)
        return self.mode(logits - exponential.log())

    def mode(self, logits: Tensor) -> Tensor:
        """The likeliest actions [B, width]."""
        if self.width == 1:
            return logits.argmax(-1, keepdim=True)
        return torch.stack([p.argmax(-1) for p in logits.split(self.choices, dim=-1)], dim=-1)

    def log_prob(self, logits: Tensor, actions: Tensor) -> Tensor:
        columns = actions.long().split(1, dim=-1)
        pairs = zip(self._log_probs(logits), columns, strict=True)
        return torch.cat([log_pi.gather(-1, column) for log_pi, column in pairs], dim=-1).sum(-1)

    def entropy(self, logits: Tensor) -> Tensor:
        parts = [-(log_pi.exp() * log_pi).sum(-1) for log_pi in self._log_probs(logits)]
        return torch.stack(parts).sum(0)

    def uniform(self, n: int, generator: torch.Generator) -> Tensor:
        """n actions, all alike."""
        return self.sample(torch.zeros(n, self.size, device=generator.device), generator)

    def to_environment(self, actions: Tensor) -> np.ndarray:
        """Actions [B, width] -> [B] for Discrete, [B, width] for MultiDiscrete."""
        values = actions.cpu().numpy() + self.start
        reshaped: np.ndarray = values.reshape(-1, *self.shape)
        return reshaped


class DiagonalGaussian(nn.Module):
    """N(mean, sigma^2) with one learned sigma a dimension, the same in every state."""

    def __init__(self, space: Box) -> None:
        super().__init__()
        self.space = space
        self.size = self.width = space.shape[0]
        self.log_std = nn.Parameter(torch.zeros(self.size))

    def sample(self, mean: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.empty_like(mean).normal_(generator=generator)
        return mean + self.log_std.exp() * noise

    def mode(self, mean: Tensor) -> Tensor:
        return mean

    def log_prob(self, mean: Tensor, actions: Tensor) -> Tensor:
        standard = (actions - mean) / self.log_std.exp()
        return (-0.5 * standard.square() - self.log_std - 0.5 * math.log(2 * math.pi)).sum(-1)

    def entropy(self, mean: Tensor) -> Tensor:
        per_dimension = self.log_std + 0.5 * math.log(2 * math.pi * math.e)
        return per_dimension.sum().expand(len(mean))

    def uniform(self, n: int, generator: torch.Generator) -> Tensor:
        """n actions, all alike within the bounds; standard normal where there are none."""
        device = generator.device
        low, high = (torch.as_tensor(b, device=device) for b in (self.space.low, self.space.high))
        bounded = low.isfinite() & high.isfinite()
        numbers = torch.rand(n, self.size, generator=generator, device=device)
        normal = torch.randn(n, self.size, generator=generator, device=device)
        low, high = (torch.where(bounded, bound, 0.0) for bound in (low, high))
        return torch.where(bounded, low + (high - low) * numbers, normal)

    def to_environment(self, actions: Tensor) -> np.ndarray:
        """Clipped into the space's bounds, of its dtype; the policy itself knows no bounds."""
        clipped = np.clip(actions.cpu().numpy(), self.space.low, self.space.high)
        values: np.ndarray = clipped.astype(self.space.dtype, copy=False)
        return values


Distribution: TypeAlias = Categorical | DiagonalGaussian


def make_distribution(space: Space[Any], algorithm: str) -> Distribution:
    """The distribution over ``space``: Discrete, 1-D MultiDiscrete or a 1-D real Box.

    Raises UnsupportedSpaceError for any other.
    """
    if isinstance(space, Discrete) or (isinstance(space, MultiDiscrete) and space.nvec.ndim == 1):
        return Categorical(space)
    if isinstance(space, Box):
        return DiagonalGaussian(continuous_actions(space, algorithm))
    raise UnsupportedSpaceError(
        f"{algorithm} needs actions that are Discrete, MultiDiscrete or a 1-D Box, not {space}"
    )
