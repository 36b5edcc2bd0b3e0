"""Adam and RMSProp, written so that they can be part of a compiled update.

PyTorch's own break the graph that ``torch.compile`` makes of an update, and between small networks
their bookkeeping takes longer than their arithmetic. This is the arithmetic. The state is tensors
alone, so that it goes into a checkpoint as it is.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


class Optimizer(ABC):
    """Moves ``parameters`` (theta) down the gradient of a loss.

    Args:
        parameters: what it moves.
        learning_rate: step size; ``rate`` holds it and may be changed between two steps.
        max_norm: the gradient over all parameters is scaled down to this Euclidean norm.

    """

    def __init__(
        self, parameters: Iterable[Tensor], learning_rate: float, max_norm: float = math.inf
    ) -> None:
        self.parameters = list(parameters)
        self.max_norm = max_norm
        # Doubles: in single precision Adam's first corrections are off in the fifth digit.
        device = self.parameters[0].device
        self.rate = torch.tensor(learning_rate, dtype=torch.float64, device=device)
        self.step = torch.zeros((), dtype=torch.float64, device=device)
        self.m = [torch.zeros_like(p) for p in self.parameters]  # running mean of the gradient
        self.v = [torch.zeros_like(p) for p in self.parameters]  # and of its square

    def minimize(self, loss: Tensor) -> None:
        """Moves the parameters, and nothing else that the loss depends on, down its gradient."""
        gradients = torch.autograd.grad(loss, self.parameters)
        with torch.no_grad():
            self.step += 1
            self.apply(clip_norm(gradients, self.max_norm))

    @abstractmethod
    def apply(self, gradients: Iterable[Tensor]) -> None:
        """One step with these gradients."""

    def state_dict(self) -> dict[str, Any]:
        return {"m": self.m, "v": self.v, "step": self.step, "rate": self.rate}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        pairs = zip(
            [*self.m, *self.v, self.step, self.rate],
            [*state["m"], *state["v"], state["step"], state["rate"]],
            strict=True,
        )
        for mine, saved in pairs:
            if mine.shape != saved.shape:
                raise ValueError(f"optimizer state of {saved.shape} is not of {mine.shape}")
            mine.copy_(saved)


class Adam(Optimizer):
    """Kingma and Ba 2015, algorithm 1, with the paper's betas and epsilon.

    ``weight_decay`` adds that much of theta to its gradient: an L2 penalty of half of it.
    """

    BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8

    def __init__(
        self,
        parameters: Iterable[Tensor],
        learning_rate: float,
        max_norm: float = math.inf,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, learning_rate, max_norm)
        self.weight_decay = weight_decay

    def apply(self, gradients: Iterable[Tensor]) -> None:
        dtype = self.parameters[0].dtype
        rate = (self.rate / (1 - self._decayed(self.BETA1))).to(dtype)
        unbias = (1 - self._decayed(self.BETA2)).rsqrt().to(dtype)  # of the root of v
        for theta, g, m, v in zip(self.parameters, gradients, self.m, self.v, strict=True):
            if self.weight_decay:
                g = g + self.weight_decay * theta
            m.lerp_(g, 1 - self.BETA1)
            v.lerp_(g * g, 1 - self.BETA2)
            theta -= rate * m / (unbias * v.sqrt() + self.EPSILON)

    def _decayed(self, beta: float) -> Tensor:
        """beta^t. As an exponential, which torch.compile calculates once and keeps; it would raise
        to the power t anew for every few elements of every parameter.
        """
        return (self.step * math.log(beta)).exp()


class RMSProp(Optimizer):
    """Tieleman and Hinton 2012, lecture 6.5: the gradient over the root of its mean square.

    Args:
        parameters, learning_rate, max_norm: as for all optimizers.
        decay: of the running means.
        epsilon: keeps the root away from zero.
        centered: divide by the root of the variance, v - m^2, instead of the mean square
            (Graves 2013, eq. 38-39; Mnih et al. 2015).
        epsilon_inside: sqrt(v + epsilon), as in Mnih et al. 2015 and 2016, rather than
            sqrt(v) + epsilon, as in PyTorch.

    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        learning_rate: float,
        max_norm: float = math.inf,
        decay: float = 0.99,
        epsilon: float = 1e-5,
        centered: bool = False,
        epsilon_inside: bool = False,
    ) -> None:
        super().__init__(parameters, learning_rate, max_norm)
        self.decay, self.epsilon = decay, epsilon
        self.centered, self.epsilon_inside = centered, epsilon_inside

    def apply(self, gradients: Iterable[Tensor]) -> None:
        rate = self.rate.to(self.parameters[0].dtype)
        for theta, g, m, v in zip(self.parameters, gradients, self.m, self.v, strict=True):
            v.lerp_(g * g, 1 - self.decay)
            spread = v
            if self.centered:
                m.lerp_(g, 1 - self.decay)
                spread = v - m * m
            if self.epsilon_inside:
                theta -= rate * g / (spread + self.epsilon).sqrt()
            else:
                theta -= rate * g / (spread.sqrt() + self.epsilon)


def clip_norm(gradients: Iterable[Tensor], max_norm: float) -> list[Tensor]:
    """The gradients, scaled down together to the Euclidean norm ``max_norm`` if theirs is larger.

    1e-6 is added to the norm, as PyTorch does.
    """
    gradients = list(gradients)
    if max_norm == math.inf:  # isinf cannot be part of a compiled update
        return gradients
    norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
    scale = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    return [g * scale for g in gradients]
