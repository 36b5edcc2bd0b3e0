"""Convolutional backbones by name, in timm's convention.

    backbone = create_backbone("nature_cnn", in_chans=4)
    maps = backbone(pictures)  # pictures [B, in_chans, H, W] -> a list of feature maps
    backbone.feature_info.channels(), backbone.feature_info.reduction()

``out_indices`` chooses the stages whose maps are returned; the default is all of them, so
``maps[-1]`` is the deepest.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor, nn

L = TypeVar("L", nn.Conv2d, nn.Linear)


@dataclass(frozen=True)
class FeatureInfo:
    """Of each returned map: its channels, and by how much it is smaller than the picture."""

    _channels: tuple[int, ...]
    _reduction: tuple[int, ...]

    def channels(self) -> list[int]:
        return list(self._channels)

    def reduction(self) -> list[int]:
        return list(self._reduction)


def start_for_relu(layer: L) -> L:
    """The layer with weights from U(±sqrt(6 / fan_in)) and biases of 0 (He et al. 2015, eq. 10):
    through it and a ReLU, signals keep their size.
    """
    nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class NatureCNN(nn.Module):
    """The three convolutions of Mnih et al. 2015, "Human-level control through deep
    reinforcement learning", Methods, "Model architecture": [B, in_chans, H, W] -> three maps.

    Weights start as in He et al. 2015, eq. 10, biases at 0. The paper does not say how its own
    start; from PyTorch's default each ReLU layer passes on two fifths of what it gets.
    """

    CHANNELS, KERNELS, STRIDES = (32, 64, 64), (8, 4, 3), (4, 2, 1)

    def __init__(self, in_chans: int = 4, out_indices: Sequence[int] = (0, 1, 2)) -> None:
        super().__init__()
        widths = (in_chans, *self.CHANNELS)
        self.stages = nn.ModuleList(
            start_for_relu(nn.Conv2d(widths[i], widths[i + 1], self.KERNELS[i], self.STRIDES[i]))
            for i in range(3)
        )
        self.out_indices = tuple(out_indices)
        reductions = (4, 8, 8)
        self.feature_info = FeatureInfo(
            tuple(self.CHANNELS[i] for i in self.out_indices),
            tuple(reductions[i] for i in self.out_indices),
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for stage in self.stages:
            x = stage(x).relu()
            maps.append(x)
        return [maps[i] for i in self.out_indices]


BACKBONES: dict[str, Callable[..., nn.Module]] = {"nature_cnn": NatureCNN}


def create_backbone(name: str, **kwargs: object) -> nn.Module:
    """The backbone called ``name``; ValueError if there is none.

    Args:
        name: a key of ``BACKBONES``.
        kwargs: ``in_chans``, ``out_indices``.

    """
    if name not in BACKBONES:
        raise ValueError(f"unknown backbone {name!r}; there is: {', '.join(BACKBONES)}")
    return BACKBONES[name](**kwargs)
