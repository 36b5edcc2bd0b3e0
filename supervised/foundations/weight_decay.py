"""Weight decay: of all networks that fit the examples, take the one with the smallest weights.

Krogh & Hertz 1991, "A Simple Weight Decay Can Improve Generalization", NIPS 4 (Eq. 1, 2; what
follows from them is cited by section). A penalty on the size of the weights makes each weight
shrink towards 0 unless the examples hold it up. In a linear network that has two effects, and both
can be computed: components of the weights that no example speaks of vanish (of all solutions the
smallest is chosen), and components that examples speak of only faintly, where noise on the targets
does most harm, are damped. The best strength is the noise's variance over the weights' variance.

    name                symbol          shape
    inputs              xi / sqrt(N)    [p, N]    p examples for N weights
    targets             f_u(xi) + zeta  [p]       a teacher's outputs with noise
    teacher, weights    u, w            [N]
    decay               lambda          -
    spectrum            A_r             [N]       eigenvalues of A = inputs^T inputs
    load                alpha = p/N     -
    noise_variance      sigma^2         -         of zeta
    weight_variance     mean of u_i^2   -

Decay is not "decoupled decay" under every optimizer. Eq. 2 adds lambda w to the gradient. As long
as the step is proportional to the gradient, as here, this multiplies weights by 1 - rate lambda and
the two are one thing. Adam divides the gradient by its size: a weight that only the penalty moves
then loses one learning rate a step whatever lambda is, and frequently used weights are hardly
decayed. AdamW (Loshchilov & Hutter 2017) shrinks the weights beside the step for that reason.

Scale-down: the paper's non-linear network reads NetTalk; ours, of the same kind, reads digits.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class WeightDecayConfig:
    """Gradient descent on Eq. 1, and the non-linear network it is tried on."""

    decay: float = 1e-3  # lambda
    learning_rate: float = 0.01
    momentum: float = 0.8
    hidden: int = 40  # units of the one hidden layer

    def __post_init__(self) -> None:
        if not (self.decay >= 0 and self.learning_rate > 0 and 0 <= self.momentum < 1):
            raise ValueError(
                f"decay {self.decay}, learning_rate {self.learning_rate}, momentum {self.momentum} "
                "must be >= 0, > 0 and in [0, 1)"
            )

    @classmethod
    def paper(cls) -> "WeightDecayConfig":
        """Eq. 2 for a network with one hidden layer; its size and the rates are ours."""
        return cls()

    @classmethod
    def small(cls) -> "WeightDecayConfig":
        return cls(hidden=10)


class DecayedDescent(torch.optim.Optimizer):
    """Eq. 2: gradient descent on E_0 + lambda / 2 sum w^2, with momentum.

    Args:
        params: all of them decay, biases too: the sum of Eq. 1 is over all weights.
        config: decay, learning_rate, momentum.

    """

    def __init__(self, params: Iterable[Tensor], config: WeightDecayConfig) -> None:
        defaults = {
            "lr": config.learning_rate,
            "decay": config.decay,
            "momentum": config.momentum,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Moves every parameter that has a gradient; returns what the closure returns."""
        with torch.enable_grad():
            loss = closure() if closure is not None else None
        for group in self.param_groups:
            for w in group["params"]:
                if w.grad is None:
                    continue
                gradient = w.grad + group["decay"] * w  # Eq. 2
                state = self.state[w]
                if "velocity" not in state:
                    state["velocity"] = torch.zeros_like(w)
                state["velocity"].mul_(group["momentum"]).add_(gradient)
                w.sub_(group["lr"] * state["velocity"])
        return loss


def cost(error: Tensor, weights: Iterable[Tensor], decay: float) -> Tensor:
    """Eq. 1: E = E_0 + lambda / 2 sum_i w_i^2."""
    return error + 0.5 * decay * torch.stack([w.square().sum() for w in weights]).sum()


# -- the linear network (sect. 2 and 3) ------------------------------------------------------


def minimizer(inputs: Tensor, targets: Tensor, decay: float = 0.0) -> Tensor:
    """Where Eq. 2 comes to rest for the error 1/2 sum (inputs w - targets)^2: w, [N].

    In the directions of A's eigenvectors, w_r = sqrt(A_r) / (A_r + lambda) times the targets'
    component: 0 where A_r is 0. With ``decay`` 0 it is the limit of ever smaller decays, the
    smallest of all w that fit the examples best; without any decay such components would stay
    where they started. ValueError if the decay is negative.
    """
    if decay < 0:
        raise ValueError(f"decay must be at least 0, not {decay}")
    u, root, vt = torch.linalg.svd(inputs, full_matrices=False)  # A_r = root^2
    spoken_of = root > root.max() * max(inputs.shape) * torch.finfo(root.dtype).eps
    gain = torch.where(spoken_of, root / (root.square() + decay), 0)
    weights: Tensor = vt.T @ (gain * (u.T @ targets))
    return weights


def generalization_error(weights: Tensor, teacher: Tensor) -> float:
    """F: half the mean squared difference to the teacher's output over inputs of variance 1 / N."""
    return 0.5 * (weights - teacher).square().mean().item()


def expected_error(
    decay: float, spectrum: Tensor, weight_variance: float, noise_variance: float
) -> float:
    """F averaged over teachers and noise, for inputs of this spectrum (sect. 3).

    1/2 mean over r of (lambda^2 u^2 + sigma^2 A_r) / (lambda + A_r)^2: what the decay holds back
    and what it lets through of the noise. Both terms are least at lambda = sigma^2 / u^2, whatever
    A_r is: the derivative is A_r (lambda u^2 - sigma^2) / (lambda + A_r)^3.
    """
    bias, variance = decay**2 * weight_variance, noise_variance * spectrum
    return 0.5 * ((bias + variance) / (decay + spectrum).square()).mean().item()


def best_decay(weight_variance: float, noise_variance: float) -> float:
    """lambda = sigma^2 / u^2 (sect. 3)."""
    return noise_variance / weight_variance


def response(decay: float, load: float) -> float:
    """G = mean of 1 / (lambda + A_r) in the limit of many weights, p = load N random examples.

    The positive root of lambda G^2 + (lambda + alpha - 1) G - 1 = 0. ValueError unless decay > 0.
    """
    if not (decay > 0 and load > 0):
        raise ValueError(f"decay {decay} and load {load} must be positive")
    b = decay + load - 1
    root = math.sqrt(b * b + 4 * decay)
    # Of the two ways to write the root, the one that adds numbers of one sign.
    return (root - b) / (2 * decay) if b < 0 else 2 / (root + b)


def limit_error(decay: float, load: float, weight_variance: float, noise_variance: float) -> float:
    """``expected_error`` in the limit of many weights: a formula without any spectrum (sect. 3)."""
    g = response(decay, load)
    # From the equation that G solves, by implicit differentiation.
    slope = -g * (g + 1) / (2 * decay * g + decay + load - 1)  # dG / dlambda
    return 0.5 * (-weight_variance * decay**2 * slope + noise_variance * (g + decay * slope))


def linear_task(
    weights: int, examples: int, weight_variance: float, noise_variance: float, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """A random teacher [N], inputs [p, N] of variance 1 / N, and its noisy outputs [p]."""
    generator = torch.Generator().manual_seed(seed)

    def normal(variance: float, *shape: int) -> Tensor:
        draw = torch.randn(*shape, generator=generator, dtype=torch.float64)
        return math.sqrt(variance) * draw

    teacher = normal(weight_variance, weights)
    inputs = normal(1 / weights, examples, weights)
    return teacher, inputs, inputs @ teacher + normal(noise_variance, examples)


# -- the non-linear network (sect. 4 and 5) --------------------------------------------------


class HiddenLayer(nn.Module):
    """[B, features] -> [B, outputs] through one layer of tanh units.

    Weights start in U(±1 / sqrt(fan_in)).
    """

    def __init__(self, features: int, outputs: int, config: WeightDecayConfig) -> None:
        super().__init__()
        self.below = nn.Linear(features, config.hidden)
        self.above = nn.Linear(config.hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        above: Tensor = self.above(self.below(x).tanh())
        return above


def half_squares(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    """E_0 of a batch (inputs, targets [B, outputs]): half the squared error, mean over cases."""
    inputs, targets = batch
    error: Tensor = 0.5 * (model(inputs) - targets).square().sum(1).mean()
    return error


def create(params: Iterable[Tensor], config: WeightDecayConfig | None = None) -> DecayedDescent:
    """The optimizer of Eq. 2 for these parameters."""
    return DecayedDescent(params, config or WeightDecayConfig.paper())
