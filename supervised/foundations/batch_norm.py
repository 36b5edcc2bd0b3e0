"""Batch normalization: a layer that gives each of its inputs mean 0 and variance 1 over the batch.

Ioffe and Szegedy 2015, "Batch normalization: accelerating deep network training by reducing
internal covariate shift". While a network trains, each unit is normalized with the mean and
variance of the mini-batch, and gradients flow through both; a scale gamma and a shift beta, which
are learned, keep all that the layer could represent before. For inference the statistics of the
population take the batch's place, so that the layer is linear and can be folded into the one
before it.

    name            paper               shape
    x               x_i                 [B, C] or [B, C, ...]; m values for each channel C
    mean            mu_B                [C]
    variance        sigma^2_B           [C]    biased: divided by m
    x_hat           x-hat_i             of x
    weight, bias    gamma, beta         [C]
    running_mean    E[x]                [C]
    running_var     Var[x]              [C]    unbiased: m / (m - 1) times the biased one
    eps, momentum   epsilon, -          scalars

For convolutions a channel has one gamma and one beta, and its statistics go over the batch and
all places: m is then B times the number of places (section 3.2).

Deviations:
    Running statistics are moving averages, as the paper recommends for watching a network while it
    trains; algorithm 2's exact averages over batches are ``estimate_population``.
    The paper does not give epsilon, nor the moving averages' momentum: both are PyTorch's here.
    The network of section 4.1 starts from Gaussian weights whose width the paper does not give.

"""

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

L = TypeVar("L", nn.Linear, nn.Conv2d)


@dataclass(frozen=True)
class BatchNormConfig:
    inputs: int = 784  # binary pixels of MNIST (section 4.1)
    hidden: tuple[int, ...] = (100, 100, 100)  # sigmoid units (section 4.1)
    classes: int = 10
    normalize: bool = True  # False: the network that it is compared with
    weight_std: float = 0.05  # of the initial weights: "small random Gaussian values"
    eps: float = 1e-5  # added to the variance
    momentum: float = 0.1  # weight of a batch in the running statistics

    def __post_init__(self) -> None:
        if not self.hidden or min(self.inputs, self.classes, *self.hidden) < 1:
            raise ValueError("inputs, hidden and classes must be positive, with a hidden layer")
        if self.weight_std <= 0:
            raise ValueError(f"weight_std must be positive, not {self.weight_std}")

    @classmethod
    def paper(cls, normalize: bool = True) -> "BatchNormConfig":
        """The network of section 4.1."""
        return cls(normalize=normalize)

    @classmethod
    def small(cls, normalize: bool = True) -> "BatchNormConfig":
        """For scikit-learn's 8x8 digits, in a second."""
        return cls(inputs=64, hidden=(50, 50, 50), normalize=normalize)


class Normalize(torch.autograd.Function):
    """Algorithm 1 with the paper's chain of derivatives (section 3) as its backward pass."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gamma: Tensor, beta: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x [B, C, ...], gamma and beta [C] -> y of x's shape, mean [C], biased variance [C]."""
        dims, shape, m = _channelwise(x)
        mean = x.sum(dims) / m
        centered = x - mean.view(shape)
        variance = centered.square().sum(dims) / m
        x_hat = centered * (variance + eps).rsqrt().view(shape)
        ctx.save_for_backward(centered, x_hat, variance, gamma)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, variance)
        return gamma.view(shape) * x_hat + beta.view(shape), mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """dy is the paper's dl/dy_i; each line is one of its six, in its order."""
        centered, x_hat, variance, gamma = ctx.saved_tensors
        dims, shape, m = _channelwise(dy)
        inverse_std = (variance + ctx.eps).rsqrt()  # (sigma^2 + eps)^(-1/2)
        # 1: y = gamma x-hat + beta
        d_x_hat = dy * gamma.view(shape)
        # 2: x-hat = (x - mu) (sigma^2 + eps)^(-1/2)
        d_variance = (d_x_hat * centered).sum(dims) * -0.5 * inverse_std**3
        # 3: mu occurs in x-hat, and in sigma^2, where its term is 0 but for rounding
        d_mean = -(d_x_hat.sum(dims)) * inverse_std - 2 * d_variance * centered.sum(dims) / m
        # 4: x occurs in x-hat, in sigma^2 and in mu
        d_x = (
            d_x_hat * inverse_std.view(shape)
            + d_variance.view(shape) * 2 * centered / m
            + d_mean.view(shape) / m
        )
        # 5 and 6
        d_gamma = (dy * x_hat).sum(dims)
        d_beta = dy.sum(dims)
        return d_x, d_gamma, d_beta, None


def _channelwise(x: Tensor) -> tuple[list[int], list[int], int]:
    """Of [B, C, ...]: the dimensions that statistics go over, the shape in which [C] broadcasts,
    and m, the number of values in a channel.
    """
    dims = [0, *range(2, x.ndim)]
    return dims, [1, -1, *[1] * (x.ndim - 2)], x.numel() // x.shape[1]


class BatchNorm(nn.Module):
    """[B, C] or [B, C, ...] -> the same shape; for training with batch statistics, in evaluation
    mode with running ones. Parameters and buffers are named as in torch.nn.BatchNorm2d.

    Args:
        channels: C.
        eps: epsilon.
        momentum: of the running statistics: running <- (1 - momentum) running + momentum batch;
            None: they are the average over all batches since ``reset``.

    Raises:
        ValueError: for arguments out of range and, by forward, for another number of channels and
            for a training batch with a single value a channel, which has no variance.

    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float | None = 0.1) -> None:
        super().__init__()
        if channels < 1 or eps <= 0 or not (momentum is None or 0 < momentum <= 1):
            raise ValueError(
                "channels and eps must be positive and momentum None or in (0, 1], "
                f"not {channels}, {eps} and {momentum}"
            )
        self.channels, self.eps, self.momentum = channels, eps, momentum
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def reset(self) -> None:
        """Forgets the running statistics."""
        self.running_mean.zero_()
        self.running_var.fill_(1)
        self.num_batches_tracked.zero_()

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim < 2 or x.shape[1] != self.channels:
            raise ValueError(f"expected [B, {self.channels}, ...], not {list(x.shape)}")
        _, shape, m = _channelwise(x)
        if not self.training:
            scale, shift = self.affine()
            return x * scale.view(shape) + shift.view(shape)
        if m < 2:
            raise ValueError("a training batch needs at least two values a channel")
        y, mean, variance = Normalize.apply(x, self.weight, self.bias, self.eps)
        self._track(mean, variance * m / (m - 1))  # algorithm 2, line 10
        result: Tensor = y
        return result

    @torch.no_grad()
    def _track(self, mean: Tensor, unbiased_variance: Tensor) -> None:
        self.num_batches_tracked += 1
        momentum = self.momentum
        if momentum is None:
            momentum = 1 / self.num_batches_tracked.item()
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(unbiased_variance, momentum)

    def affine(self) -> tuple[Tensor, Tensor]:
        """Algorithm 2, line 11: scale and shift, [C] each, of what it does in evaluation mode."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return scale, self.bias - scale * self.running_mean


@torch.no_grad()
def estimate_population(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Algorithm 2, lines 7-10: the running statistics of every BatchNorm of the model become the
    averages over these batches, of the mean and of the unbiased variance.
    """
    layers = [module for module in model.modules() if isinstance(module, BatchNorm)]
    momenta, training = [layer.momentum for layer in layers], model.training
    for layer in layers:
        layer.reset()
        layer.momentum = None
    model.train()
    try:
        for batch in batches:
            model(batch)
    finally:
        model.train(training)
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum


@torch.no_grad()
def fold(layer: L, norm: BatchNorm) -> L:
    """A copy of the layer that does the work of both in evaluation mode.

    gamma / sqrt(Var[x] + eps) scales an output channel's weights, so no multiplication is left.
    ValueError if the layer has another number of outputs than the norm has channels.
    """
    if layer.weight.shape[0] != norm.channels:
        raise ValueError(f"{layer.weight.shape[0]} outputs do not fit {norm.channels} channels")
    scale, shift = norm.affine()
    folded = copy.deepcopy(layer)
    folded.weight.mul_(scale.view(-1, *[1] * (layer.weight.ndim - 1)))
    bias = shift if layer.bias is None else shift + scale * layer.bias
    folded.bias = nn.Parameter(bias)
    return folded


class SigmoidNet(nn.Module):
    """The network of section 4.1: [B, inputs] -> logits [B, classes], z = g(BN(W u)).

    W u needs no bias where beta follows, which takes its place (section 3.2).
    """

    def __init__(self, config: BatchNormConfig) -> None:
        super().__init__()
        self.config = config
        widths = [config.inputs, *config.hidden]
        self.linears = nn.ModuleList(
            nn.Linear(below, above, bias=not config.normalize) for below, above in pairwise(widths)
        )
        self.norms = nn.ModuleList(
            BatchNorm(width, config.eps, config.momentum) if config.normalize else nn.Identity()
            for width in config.hidden
        )
        self.output = nn.Linear(widths[-1], config.classes)
        for layer in [*self.linears, self.output]:
            assert isinstance(layer, nn.Linear)
            nn.init.normal_(layer.weight, std=config.weight_std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def preactivations(self, x: Tensor) -> list[Tensor]:
        """Inputs [B, width] of every hidden layer's sigmoids, which figure 1 watches."""
        found: list[Tensor] = []
        for linear, norm in zip(self.linears, self.norms, strict=True):
            found.append(norm(linear(found[-1].sigmoid() if found else x)))
        return found

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.output(self.preactivations(x)[-1].sigmoid())
        return logits


def create(config: BatchNormConfig | None = None) -> SigmoidNet:
    """The network of section 4.1, whose layers are this module's; by default the normalized one."""
    return SigmoidNet(config or BatchNormConfig.paper())
