"""AlexNet: a deep convolutional network, large enough for a thousand classes.

Krizhevsky, Sutskever and Hinton 2012, "ImageNet Classification with Deep Convolutional Neural
Networks", NIPS 25. Five convolutions and three full connections of rectified units learn from
pixels alone; units that answer strongly damp those of neighbouring maps at the same place, pooling
windows overlap, and half of the hidden full units are dropped in each step. Since one GPU of 3 GB
was too small, each of two holds half of the maps, and they exchange them before the third
convolution and the full connections only.

    f(x) = max(0, x)                                                       section 3.1
    b_i = a_i / (k + alpha sum_{j=i-n/2..i+n/2} a_j^2)^beta                section 3.3
    pooling: windows of z = 3 pixels, s = 2 apart                          section 3.4
    v <- 0.9 v - 0.0005 eps w - eps dL/dw,  w <- w + v                     section 5

Names: a maps before and b after normalization, [B, maps, H, W]; k, n, alpha, beta as written.

Deviations:
- The two towers are one, whose 2nd, 4th and 5th convolutions have two groups. Normalization runs
  over all maps, as its formula says; on two GPUs, map 48 would not have seen map 49.
- The paper's pictures have 224 pixels; 227 is what its maps of 55 pixels imply.
- Dropout is PyTorch's function, which scales by 2 in training; the paper halves in the test. The
  expectations are the same.
- torch.optim.SGD keeps v / eps as its velocity. Where eps stays, that is the same.
- ``AlexNetConfig.small`` is for small pictures: a quarter of the maps, and a first convolution of
  5x5 without stride in place of 11x11 with stride 4.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supervised.backbones import Backbone

POOL, POOL_STRIDE = 3, 2  # z and s of section 3.4


@dataclass(frozen=True)
class AlexNetConfig:
    """Sizes of the network; the defaults are the paper's (section 3.5)."""

    classes: int = 1000
    in_chans: int = 3  # channels of the pictures
    picture: int = 227  # side of the pictures
    width: float = 1.0  # factor on the maps and on the full connections' units
    stem: tuple[int, int, int] = (11, 4, 0)  # kernel, stride and margin of the first convolution
    dropout: float = 0.5  # probability of each hidden full unit to be dropped (section 4.2)

    def __post_init__(self) -> None:
        if min(self.classes, self.in_chans) < 1:
            raise ValueError(f"classes, in_chans: {self.classes}, {self.in_chans} must be positive")
        if not self.width > 0:
            raise ValueError(f"width must be positive, not {self.width}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), not {self.dropout}")
        if map_side(self.picture, self.stem) < 1:
            raise ValueError(f"pictures of {self.picture} pixels are too small: no map is left")

    @classmethod
    def paper(cls) -> "AlexNetConfig":
        """60,965,224 parameters."""
        return cls()

    @classmethod
    def small(cls, classes: int = 10, in_chans: int = 3, picture: int = 28) -> "AlexNetConfig":
        """A quarter of the width, for small pictures: 28 of 32 pixels are as 224 of 256."""
        return cls(classes, in_chans, picture, width=0.25, stem=(5, 1, 2))


def map_side(picture: int, stem: tuple[int, int, int]) -> int:
    """The side of the last maps, after the third pooling."""
    kernel, stride, margin = stem
    side = (picture + 2 * margin - kernel) // stride + 1
    for _ in range(3):
        side = (side - POOL) // POOL_STRIDE + 1
    return side


def normalize_responses(
    a: Tensor, k: float = 2.0, n: int = 5, alpha: float = 1e-4, beta: float = 0.75
) -> Tensor:
    """Section 3.3: b_i = a_i / (k + alpha sum_j a_j^2)^beta over the n maps around map i.

    [B, maps, H, W] -> the same; at the first and last maps the sum is over those that there are.
    (nn.LocalResponseNorm divides its alpha by n.)
    """
    before = n // 2
    squares = F.pad(a.square(), (0, 0, 0, 0, before, n - 1 - before))
    window = torch.stack([squares[:, j : j + a.shape[1]] for j in range(n)]).sum(0)
    return a / (k + alpha * window) ** beta


def start(layer: nn.Conv2d | nn.Linear, paper_inputs: int, bias: float) -> None:
    """Section 5: weights from N(0, 0.01^2), all biases the same.

    Where a unit has fewer inputs than in the paper, its weights are as much larger as keeps the
    variance of its sum.
    """
    inputs = layer.weight[0].numel()
    nn.init.normal_(layer.weight, 0.0, 0.01 * math.sqrt(paper_inputs / inputs))
    assert layer.bias is not None
    nn.init.constant_(layer.bias, bias)


class Stage(nn.Module):
    """A convolution, rectified, then normalized and pooled where the paper does it."""

    def __init__(self, convolution: nn.Conv2d, normalized: bool, pooled: bool) -> None:
        super().__init__()
        self.convolution, self.normalized, self.pooled = convolution, normalized, pooled

    def forward(self, x: Tensor) -> Tensor:
        x = self.convolution(x).relu()
        if self.normalized:
            x = normalize_responses(x)
        return F.max_pool2d(x, POOL, POOL_STRIDE) if self.pooled else x


class AlexNetBackbone(Backbone):
    """The convolutions: pictures [B, in_chans, H, W] -> the maps that leave each of the five.

    Args:
        in_chans: channels of the pictures.
        out_indices: which of the five maps to return; None: all.
        width: factor on the number of maps.
        stem: kernel, stride and margin of the first convolution.

    With the paper's stem pictures need 67 pixels a side for the last map to have one.
    """

    MAPS, KERNELS, GROUPS = (96, 256, 384, 384, 256), (11, 5, 3, 3, 3), (1, 2, 1, 2, 2)
    BIASES, INPUTS = (0.0, 1.0, 0.0, 1.0, 1.0), (363, 1200, 2304, 1728, 1728)  # for ``start``
    NORMALIZED, POOLED = (0, 1), (0, 1, 4)  # convolutions that are followed by it

    def __init__(
        self,
        in_chans: int = 3,
        out_indices: Sequence[int] | None = None,
        width: float = 1.0,
        stem: tuple[int, int, int] = (11, 4, 0),
    ) -> None:
        if not 0 < width < math.inf:
            raise ValueError(f"width must be positive, not {width}")
        maps = [2 * max(1, round(width * m / 2)) for m in self.MAPS]  # even, for the groups
        stages = []
        for i, (before, after) in enumerate(pairwise([in_chans, *maps])):
            kernel, stride, margin = stem if i == 0 else (self.KERNELS[i], 1, self.KERNELS[i] // 2)
            layer = nn.Conv2d(before, after, kernel, stride, margin, groups=self.GROUPS[i])
            start(layer, self.INPUTS[i], self.BIASES[i])
            stages.append(Stage(layer, i in self.NORMALIZED, i in self.POOLED))
        super().__init__(stages, maps, [stem[1] * by for by in (2, 4, 4, 4, 8)], out_indices)
        self.stem = stem

    def forward(self, x: Tensor) -> list[Tensor]:
        if map_side(min(x.shape[-2:]), self.stem) < 1:
            raise ValueError(f"pictures of {x.shape[-2]}x{x.shape[-1]} are too small for AlexNet")
        return super().forward(x)


class AlexNet(nn.Module):
    """Pictures [B, in_chans, picture, picture] -> logits [B, classes].

    Pixels from 0 to 255 less their mean over the training set: the scale is part of the design,
    since weights start at 0.01 and normalization compares alpha a^2 with k.
    """

    def __init__(self, config: AlexNetConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = AlexNetBackbone(config.in_chans, width=config.width, stem=config.stem)
        maps, hidden = self.backbone.feature_info.channels()[-1], round(4096 * config.width)
        self.fc6 = nn.Linear(maps * map_side(config.picture, config.stem) ** 2, hidden)
        self.fc7 = nn.Linear(hidden, hidden)
        self.fc8 = nn.Linear(hidden, config.classes)
        for layer, inputs, bias in ((self.fc6, 9216, 1), (self.fc7, 4096, 1), (self.fc8, 4096, 0)):
            start(layer, inputs, bias)

    def features(self, x: Tensor) -> list[Tensor]:
        """The maps that leave the five convolutions; of the paper: [B, 96, 27, 27], [B, 256, 13,
        13], twice [B, 384, 13, 13], [B, 256, 6, 6].
        """
        maps: list[Tensor] = self.backbone(x)
        return maps

    def forward(self, x: Tensor) -> Tensor:
        side = self.config.picture
        if x.shape[-2:] != (side, side):
            raise ValueError(f"pictures must be {side}x{side}, not {x.shape[-2]}x{x.shape[-1]}")
        x = self.features(x)[-1].flatten(1)
        for layer in (self.fc6, self.fc7):
            x = F.dropout(layer(x).relu(), self.config.dropout, self.training)
        logits: Tensor = self.fc8(x)
        return logits


def create(config: AlexNetConfig | None = None) -> AlexNet:
    """The paper's AlexNet, or another."""
    return AlexNet(config or AlexNetConfig.paper())
