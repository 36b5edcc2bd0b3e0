"""Dropout: at each training step every unit is left out with some probability.

Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov 2014, "Dropout: a simple way to prevent
neural networks from overfitting". Each step trains another thinned network, and all of them share
their weights, so that no unit can rely on particular others being present. At test time one
network with all units and with weights scaled down by the probability of being kept stands for
the average of the exponentially many thinned ones (section 4); how well it does so, averaging
over sampled ones shows (section 7.5).

    name          paper                          shape
    y             y, outputs of a layer          [B, width]
    r             r, the mask                    [B, width]: one for each example and unit
    keep          p, probability of being kept   scalar
    max_norm      c                              scalar; of each unit's incoming weights
    samples       k, networks averaged           scalar

The scale p is applied to a unit's output, which is the same as to its outgoing weights (W_test =
p W), and leaves the weights alone. Today's usual "inverted" dropout divides by p in training
instead. Its outputs are 1/p times ours, for training and test alike; a network with weights p W
and, in plain gradient descent, p^2 times their learning rate, then goes the same way.

Deviations:
    The paper does not say how its networks start. Here weights are drawn from N(0, 0.01^2), as in
    the authors' report of 2012 (Hinton et al., appendix A.1), whose length is a sixth of c. A small
    network (std = None) starts from He et al. 2015, made larger by 1/sqrt(p) for what dropout takes
    away. At p = 0.5 that length is 2, so that under c = 2 a unit's random first weights would leave
    no room for what it learns.
    Maxout units, convolutional networks and Boltzmann machines with dropout are left out.

"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class DropoutConfig:
    inputs: int = 784  # pixels of MNIST
    hidden: tuple[int, ...] = (1024, 1024, 1024)  # rectified linear units (table 2)
    classes: int = 10
    noise: Literal["bernoulli", "gaussian", "none"] = "bernoulli"  # gaussian: section 10
    keep_inputs: float = 0.8  # p of the inputs (appendix A.4)
    keep_hidden: float = 0.5  # p of hidden units (appendix A.4)
    max_norm: float | None = 2.0  # c of all layers (appendix B.1); None: no constraint
    std: float | None = 0.01  # of the first weights; None: He et al.'s, for what is kept

    def __post_init__(self) -> None:
        if not self.hidden or min(self.inputs, self.classes, *self.hidden) < 1:
            raise ValueError("inputs, hidden and classes must be positive, with a hidden layer")
        if self.noise not in ("bernoulli", "gaussian", "none"):
            raise ValueError(f"no noise {self.noise!r}: bernoulli, gaussian or none")
        for keep in (self.keep_inputs, self.keep_hidden):
            check_keep(keep)
        if self.max_norm is not None and self.max_norm <= 0:
            raise ValueError(f"max_norm must be positive or None, not {self.max_norm}")
        if self.std is not None and self.std <= 0:
            raise ValueError(f"std must be positive or None, not {self.std}")

    @classmethod
    def paper(cls) -> "DropoutConfig":
        """Table 2, "Dropout NN + max-norm constraint", 3 layers of 1024 ReLUs."""
        return cls()

    @classmethod
    def standard(cls) -> "DropoutConfig":
        """The same network without noise and constraint."""
        return cls(noise="none", max_norm=None)

    @classmethod
    def small(cls) -> "DropoutConfig":
        """For scikit-learn's 8x8 digits, in seconds."""
        return cls(inputs=64, hidden=(256, 256), std=None)


class Dropout(nn.Module):
    """y -> r * y with r ~ Bernoulli(p) in training, and p y otherwise (section 4); any shape.

    Args:
        keep: p.
        generator: where masks come from, on y's device; None: PyTorch's global random numbers.

    """

    def __init__(self, keep: float, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.keep, self.generator = check_keep(keep), generator

    def mask(self, y: Tensor) -> Tensor:
        """r, of y's shape, type and device."""
        return torch.empty_like(y).bernoulli_(self.keep, generator=self.generator)

    def forward(self, y: Tensor) -> Tensor:
        return self.mask(y) * y if self.training else self.keep * y


class GaussianDropout(nn.Module):
    """y -> r * y with r ~ N(1, (1 - p) / p) in training, and y otherwise (section 10); any shape.

    Mean and variance of r are those of a Bernoulli mask divided by p; as the mean is 1, nothing
    is left to scale at test time. For arguments see Dropout.
    """

    def __init__(self, keep: float, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.keep, self.generator = check_keep(keep), generator

    def mask(self, y: Tensor) -> Tensor:
        """r, of y's shape, type and device."""
        std = ((1 - self.keep) / self.keep) ** 0.5
        return torch.empty_like(y).normal_(1.0, std, generator=self.generator)

    def forward(self, y: Tensor) -> Tensor:
        return self.mask(y) * y if self.training else y


def check_keep(keep: float) -> float:
    """The probability, unless it is out of (0, 1]: then ValueError."""
    if not 0 < keep <= 1:
        raise ValueError(f"the probability of keeping a unit must be in (0, 1], not {keep}")
    return keep


class DropoutNet(nn.Module):
    """[B, inputs] -> logits [B, classes]; noise on the inputs and on every hidden layer.

    Args:
        config: sizes, noise and constraint.
        generator: of the masks, see Dropout.

    """

    def __init__(self, config: DropoutConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        widths = [config.inputs, *config.hidden, config.classes]
        self.linears = nn.ModuleList(nn.Linear(*sizes) for sizes in pairwise(widths))
        keeps = [config.keep_inputs, *[config.keep_hidden] * len(config.hidden)]
        make: Callable[[float], nn.Module] = {
            "bernoulli": lambda keep: Dropout(keep, generator),
            "gaussian": lambda keep: GaussianDropout(keep, generator),
            "none": lambda _: nn.Identity(),
        }[config.noise]
        self.noises = nn.ModuleList(make(keep) for keep in keeps)
        for linear, keep in zip(self.linears, keeps, strict=True):
            assert isinstance(linear, nn.Linear)
            kept = keep if config.noise == "bernoulli" else 1.0  # E[(r y)^2] = p y^2
            he = (2 / (kept * linear.in_features)) ** 0.5
            nn.init.normal_(linear.weight, std=config.std or he)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        for i, (noise, linear) in enumerate(zip(self.noises, self.linears, strict=True)):
            # Section 4: y-tilde = r * y; z = W y-tilde + b; y = f(z)
            x = linear(noise(x if i == 0 else x.clamp(min=0)))
        return x

    @torch.no_grad()
    def constrain(self) -> None:
        """Section 5.1: scales the weights into each unit down to Euclidean norm c, if theirs is
        larger. To be called after every step; nothing without a max_norm.
        """
        if self.config.max_norm is None:
            return
        for linear in self.linears:
            assert isinstance(linear, nn.Linear)
            clip_rows(linear.weight, self.config.max_norm)


@torch.no_grad()
def clip_rows(weight: Tensor, max_norm: float) -> None:
    """Projects every row of weight [outputs, inputs] onto the ball of radius max_norm, in place."""
    norms = weight.norm(dim=1, keepdim=True)
    weight.mul_((max_norm / norms.clamp(min=1e-12)).clamp(max=1.0))


@torch.no_grad()
def monte_carlo(net: nn.Module, x: Tensor, samples: int) -> Tensor:
    """Section 7.5: class probabilities [samples, B, classes]; entry k - 1 is the average over k
    thinned networks, each with masks of its own.

    Only the noise is switched to training; the net comes back as it was. ValueError for fewer
    than one sample.
    """
    if samples < 1:
        raise ValueError(f"samples must be positive, not {samples}")
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    for module in net.modules():
        if isinstance(module, Dropout | GaussianDropout):
            module.train()
    try:
        sampled = torch.stack([net(x).softmax(-1) for _ in range(samples)])
    finally:
        for module, training in modes:
            module.training = training
    counts = torch.arange(1, samples + 1, device=x.device, dtype=sampled.dtype)
    return sampled.cumsum(0) / counts.view(-1, 1, 1)


def create(
    config: DropoutConfig | None = None, generator: torch.Generator | None = None
) -> DropoutNet:
    """The network; by default the paper's with three layers of 1024 units."""
    return DropoutNet(config or DropoutConfig.paper(), generator)
