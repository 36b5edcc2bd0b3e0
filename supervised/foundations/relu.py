"""Rectifier networks: hidden units max(0, x), whose zeros are exact and many.

Glorot, Bordes and Bengio 2011, "Deep sparse rectifier neural networks". A unit is either silent
or linear, so an input chooses a linear subnetwork of the active units, through which gradients
flow undiminished; a tanh unit that saturates dims them, and is hardly ever 0. Such networks need
no unsupervised pretraining to match tanh networks that had it; the paper shows how to pretrain
them nevertheless, with denoising autoencoders whose decoder copes with unbounded, nonnegative
codes (section 3.2).

    name          paper                     shape
    x             x, the input              [B, inputs]
    codes         h, hidden activations     [B, width] for each hidden layer
    corrupted     x-tilde                   of what it corrupts
    encoder       W_enc, b_enc              [width, below], [width]
    decoder       W_dec, b_dec              [below, width], [below]
    l1            weight of the L1 penalty  scalar
    signed        half of the units are multiplied by -1

Deviations:
    Strategy 2 brings codes into [0, 1] by dividing them by their largest value over the training
    set, one number a layer; the paper does not say how it scales.
    The decoder of the tanh and softplus controls is linear, with the quadratic cost.

"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

Activation = Literal["rectifier", "tanh", "softplus"]
Decoder = Literal["softplus", "sigmoid", "linear", "rectifier"]


@dataclass(frozen=True)
class ReLUConfig:
    inputs: int = 784  # pixels of MNIST
    hidden: tuple[int, ...] = (1000, 1000, 1000)  # units of each hidden layer (section 4.1)
    classes: int = 10
    activation: Activation = "rectifier"  # tanh and softplus are the paper's controls
    signed: bool = True  # half of the units of a layer count negatively (section 4.1)
    l1: float = 1e-3  # weight of the L1 penalty on activations (section 4.1); 0: none
    corruption: float = 0.25  # probability that pretraining's noise masks a value (section 4.1)
    decoder: Decoder = "softplus"  # reconstruction of strategy 1, best for images (section 3.2)

    def __post_init__(self) -> None:
        if min(self.inputs, self.classes, *self.hidden, 1) < 1 or not self.hidden:
            raise ValueError("inputs, hidden and classes must be positive, with a hidden layer")
        if self.activation not in ("rectifier", "tanh", "softplus"):
            raise ValueError(f"no activation {self.activation!r}: rectifier, tanh or softplus")
        if self.decoder not in ("softplus", "sigmoid", "linear", "rectifier"):
            raise ValueError(f"no decoder {self.decoder!r}: softplus, sigmoid, linear, rectifier")
        if not 0 <= self.corruption < 1 or self.l1 < 0:
            raise ValueError("corruption must be in [0, 1) and l1 not negative")

    @classmethod
    def paper(cls, activation: Activation = "rectifier") -> "ReLUConfig":
        """The network for MNIST of section 4.1. Tanh is symmetric as it is, so it is not signed;
        only rectifiers are penalized.
        """
        if activation == "rectifier":
            return cls()
        signed = activation != "tanh"
        return cls(activation=activation, signed=signed, l1=0.0, decoder="linear")

    @classmethod
    def small(cls, activation: Activation = "rectifier") -> "ReLUConfig":
        """For scikit-learn's 8x8 digits, in a second."""
        return replace(cls.paper(activation), inputs=64, hidden=(64, 64))


class Rectify(torch.autograd.Function):
    """max(0, x), whose derivative is 1 where x > 0 and exactly 0 elsewhere: also at 0."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:
        y = x.clamp(min=0)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        # Not a product with y > 0: an infinite gradient must become 0 as well, and not NaN.
        result: Tensor = gradient.masked_fill(y <= 0, 0.0)
        return result


def rectifier(x: Tensor) -> Tensor:
    """Elementwise max(0, x), any shape, with gradient 0 at 0."""
    y: Tensor = Rectify.apply(x)
    return y


def softplus(x: Tensor) -> Tensor:
    """log(1 + e^x), the smooth version of the rectifier, never 0; finite for every finite x."""
    return torch.logaddexp(x, torch.zeros_like(x))


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "rectifier": rectifier,
    "tanh": torch.tanh,
    "softplus": softplus,
}


class RectifierNet(nn.Module):
    """[B, inputs] -> logits [B, classes], of which softmax gives the classes' probabilities.

    Weights start uniform in ±1/sqrt(fan_in), biases at 0.
    """

    def __init__(self, config: ReLUConfig) -> None:
        super().__init__()
        self.config = config
        widths = [config.inputs, *config.hidden]
        self.hidden = nn.ModuleList(nn.Linear(below, above) for below, above in pairwise(widths))
        self.output = nn.Linear(widths[-1], config.classes)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                start_uniform(layer)

    def codes(self, x: Tensor, depth: int | None = None) -> list[Tensor]:
        """Activations [B, width] of the first ``depth`` hidden layers, by default of all."""
        codes: list[Tensor] = []
        for layer in list(self.hidden)[:depth]:
            x = self._activate(layer(x))
            codes.append(x)
        return codes

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.codes(x))

    def classify(self, codes: Sequence[Tensor]) -> Tensor:
        """Logits [B, classes] from the codes of all hidden layers."""
        logits: Tensor = self.output(codes[-1])
        return logits

    def _activate(self, x: Tensor) -> Tensor:
        h = ACTIVATIONS[self.config.activation](x)
        if not self.config.signed:
            return h
        # Rectifiers are one-sided; with half of them negated, a layer's mean is about 0.
        width = h.shape[-1]
        return torch.cat([h[..., : width // 2], -h[..., width // 2 :]], dim=-1)


def l1_penalty(codes: Sequence[Tensor]) -> Tensor:
    """Sum over all units of |h|, mean over the batch: sparser codes, and none that explodes."""
    return torch.stack([h.abs().sum(-1).mean() for h in codes]).sum()


def supervised_loss(net: RectifierNet, x: Tensor, targets: Tensor) -> Tensor:
    """-log P(class | x) [mean over B] + l1 times the penalty; targets int64 [B]."""
    codes = net.codes(x)
    loss = F.cross_entropy(net.classify(codes), targets)
    if net.config.l1:
        loss = loss + net.config.l1 * l1_penalty(codes)
    return loss


@torch.no_grad()
def sparsity(codes: Sequence[Tensor]) -> list[float]:
    """For each layer the share of activations that are exactly 0 (table 1's "average sparsity")."""
    return [(h == 0).double().mean().item() for h in codes]


# -- pretraining, section 3.2 --------------------------------------------------------------------


class DenoisingAutoencoder(nn.Module):
    """Learns hidden layer ``depth`` (from 0) of ``net``: to restore what lies below from a
    corrupted copy of it.

    The encoder is the net's own layer. f(x) = W_dec h + b_dec, h = max(0, W_enc x + b_enc), is
    put through the reconstruction unit, and its cost is

        softplus    ||x - log(1 + exp(f(x-tilde)))||^2             strategy 1, for images
        sigmoid     -x log s(f) - (1 - x) log(1 - s(f)), summed    strategy 2, for text; x in [0, 1]
        linear      ||x - f(x-tilde)||^2                           strategy 3
        rectifier   ||x - max(0, f(x-tilde))||^2                   strategy 4

    x must not be negative but for "linear"; of a signed layer's codes it is the absolute value.

    Args:
        net: whose layer learns; the other layers are not touched.
        depth: which.
        scale: strategy 2 divides what lies below by it, to be at most 1.

    Raises:
        ValueError: for a layer that there is not.

    """

    def __init__(self, net: RectifierNet, depth: int, scale: float = 1.0) -> None:
        super().__init__()
        if not 0 <= depth < len(net.hidden):
            raise ValueError(f"no hidden layer {depth}: there are {len(net.hidden)}")
        encoder = net.hidden[depth]
        assert isinstance(encoder, nn.Linear)
        self.encoder = encoder
        self.decoder = start_uniform(nn.Linear(encoder.out_features, encoder.in_features))
        self.config, self.scale = net.config, scale

    def forward(self, x: Tensor) -> Tensor:
        """What lies below, corrupted [B, below] -> f, before the reconstruction unit."""
        h = ACTIVATIONS[self.config.activation](self.encoder(x))
        f: Tensor = self.decoder(h)
        return f

    def loss(self, corrupted: Tensor, clean: Tensor) -> Tensor:
        """Cost of the reconstruction, summed over units, mean over B, plus the L1 penalty."""
        h = ACTIVATIONS[self.config.activation](self.encoder(corrupted))
        f, x = self.decoder(h), clean.abs()
        if self.config.decoder == "sigmoid":
            cost = F.binary_cross_entropy_with_logits(f, x / self.scale, reduction="none")
        elif self.config.decoder == "linear":
            cost = (clean - f).square()
        else:
            cost = (x - (softplus(f) if self.config.decoder == "softplus" else rectifier(f))) ** 2
        return cost.sum(-1).mean() + self.config.l1 * l1_penalty([h])


def corrupt(x: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """x-tilde: every value of x is set to 0 with this probability ("masking noise")."""
    kept = torch.rand(x.shape, generator=generator) >= probability
    return x * kept.to(x.device)


def start_uniform(layer: nn.Linear) -> nn.Linear:
    """The layer with weights from U(±1/sqrt(fan_in)) and biases 0."""
    bound = layer.in_features**-0.5
    nn.init.uniform_(layer.weight, -bound, bound)
    nn.init.zeros_(layer.bias)
    return layer


def create(config: ReLUConfig | None = None) -> RectifierNet:
    """The network; by default the paper's for MNIST."""
    return RectifierNet(config or ReLUConfig.paper())
