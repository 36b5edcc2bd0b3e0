"""Convolutional backbones by name, in timm's convention.

    backbone = create_backbone("resnet18", in_chans=4, width=0.5, norm="group")
    maps = backbone(pictures)  # pictures [B, in_chans, H, W] -> a list of feature maps
    backbone.feature_info.channels(), backbone.feature_info.reduction()

``out_indices`` chooses the stages whose maps are returned; the default is all of them, so
``maps[-1]`` is the deepest. The networks themselves are in the modules of their papers, which
are imported when one of theirs is asked for.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from typing import Any, Literal, TypeAlias, TypeVar

from torch import Tensor, nn

L = TypeVar("L", nn.Conv2d, nn.Linear)
Norm: TypeAlias = Literal["batch", "group"]


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


def scaled(channels: int, width: float) -> int:
    """``channels`` times ``width``: as they are at 1, or else the next multiple of 8, at least 8.

    Raises ValueError unless ``width`` is positive and finite.
    """
    if not 0 < width < math.inf:
        raise ValueError(f"width must be positive, not {width}")
    return channels if width == 1 else max(8, 8 * round(channels * width / 8))


def norm_layer(norm: Norm, channels: int) -> nn.Module:
    """Batch normalization, or group normalization (Wu and He 2018) over 16 channels at a time.

    The latter knows nothing of the other pictures in the batch, so that small and correlated
    batches do it no harm. Groups are as wide as they are so that a map of 1 x 1 keeps something.
    """
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    return nn.GroupNorm(channels // math.gcd(channels, 16), channels)


class Backbone(nn.Module):
    """A chain of stages: [B, in_chans, H, W] -> the maps that some of them return, as a list.

    Args:
        stages: the chain; what lies behind the last stage of ``out_indices`` is left out.
        channels: of each stage's map.
        reductions: by how much each stage's map is smaller than the picture.
        out_indices: of the stages whose maps are returned, in this order, as in Python from
            either end; None: all.

    """

    def __init__(
        self,
        stages: Sequence[nn.Module],
        channels: Sequence[int],
        reductions: Sequence[int],
        out_indices: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        n = len(stages)
        asked = tuple(range(n)) if out_indices is None else tuple(out_indices)
        if not asked or not all(-n <= i < n for i in asked):
            raise ValueError(f"out_indices must be some of 0 to {n - 1}, not {asked}")
        self.out_indices = tuple(i % n for i in asked)
        self.stages = nn.ModuleList(stages[: max(self.out_indices) + 1])
        self.feature_info = FeatureInfo(
            tuple(channels[i] for i in self.out_indices),
            tuple(reductions[i] for i in self.out_indices),
        )
        self.frozen = False

    def run_stage(self, stage: nn.Module, x: Tensor) -> Tensor:
        """One stage's map."""
        y: Tensor = stage(x)
        return y

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for stage in self.stages:
            x = self.run_stage(stage, x)
            maps.append(x)
        return [maps[i] for i in self.out_indices]

    def forward_features(self, x: Tensor) -> Tensor:
        """The last stage's map alone."""
        for stage in self.stages:
            x = self.run_stage(stage, x)
        return x

    def freeze(self) -> None:
        """No parameter gets a gradient from now on, and ``train()``, also of a module that this
        is a part of, leaves it in evaluation: batch statistics stay as they are.
        """
        self.frozen = True
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "Backbone":
        super().train(mode and not self.frozen)
        return self


class NatureCNN(Backbone):
    """The three convolutions of Mnih et al. 2015, "Human-level control through deep
    reinforcement learning", Methods, "Model architecture": [B, in_chans, H, W] -> three maps.

    Weights start as in He et al. 2015, eq. 10, biases at 0. The paper does not say how its own
    start; from PyTorch's default each ReLU layer passes on two fifths of what it gets.
    """

    CHANNELS, KERNELS, STRIDES = (32, 64, 64), (8, 4, 3), (4, 2, 1)

    def __init__(
        self, in_chans: int = 4, out_indices: Sequence[int] | None = None, width: float = 1.0
    ) -> None:
        widths = (in_chans, *(scaled(channels, width) for channels in self.CHANNELS))
        stages = [
            start_for_relu(nn.Conv2d(widths[i], widths[i + 1], self.KERNELS[i], self.STRIDES[i]))
            for i in range(3)
        ]
        super().__init__(stages, widths[1:], (4, 8, 8), out_indices)

    def run_stage(self, stage: nn.Module, x: Tensor) -> Tensor:
        return super().run_stage(stage, x).relu()


@dataclass(frozen=True)
class Request:
    """What ``create_backbone`` was asked for."""

    in_chans: int
    width: float
    norm: Norm
    out_indices: Sequence[int] | None
    num_classes: int | None  # None: no classifier, but feature maps


def _features(module: str, kind: str, request: Request) -> nn.Module:
    """A backbone class of a module, which takes no more than in_chans, out_indices and width."""
    if request.num_classes is not None:
        raise ValueError(f"{kind} has no classifier: features_only must be true")
    maker = getattr(import_module(module), kind)
    backbone: nn.Module = maker(request.in_chans, request.out_indices, request.width)
    return backbone


def _alexnet(request: Request) -> nn.Module:
    backbone = _features("supervised.vision.alexnet", "AlexNetBackbone", request)
    # The paper's start is for pixels up to 255; of unit pictures nothing would be left.
    for layer in backbone.modules():
        if isinstance(layer, nn.Conv2d):
            start_for_relu(layer)
    return backbone


def _vgg(form: str, request: Request) -> nn.Module:
    from supervised.vision import vgg

    config = vgg.VGGConfig.paper(
        form,
        in_chans=request.in_chans,
        width=request.width,
        start="he",
        classes=request.num_classes or 1000,
    )
    if request.num_classes is None:
        return vgg.VGGBackbone(config, request.out_indices)
    return vgg.VGG(config)


def _resnet(form: str, request: Request) -> nn.Module:
    from supervised.vision import resnet

    config = resnet.ResNetConfig.named(
        form, in_chans=request.in_chans, width=request.width, norm=request.norm
    )
    if request.num_classes is None:
        return resnet.ResNetBackbone(config, request.out_indices)
    return resnet.ResNet(replace(config, classes=request.num_classes))


BACKBONES: dict[str, Callable[[Request], nn.Module]] = {
    "nature_cnn": partial(_features, "supervised.backbones", "NatureCNN"),
    "lenet": partial(_features, "supervised.vision.lenet", "LeNetBackbone"),
    "alexnet": _alexnet,
    "vgg11": partial(_vgg, "A"),
    "vgg13": partial(_vgg, "B"),
    "vgg16": partial(_vgg, "D"),
    "vgg19": partial(_vgg, "E"),
    "resnet18": partial(_resnet, "resnet18"),
    "resnet34": partial(_resnet, "resnet34"),
    "resnet50": partial(_resnet, "resnet50"),
    "resnet101": partial(_resnet, "resnet101"),
    "resnet152": partial(_resnet, "resnet152"),
    "resnet20": partial(_resnet, "resnet20"),
    "resnet56": partial(_resnet, "resnet56"),
    "unet": partial(_features, "supervised.vision.unet", "UNetBackbone"),
}


def create_backbone(
    name: str,
    features_only: bool = True,
    out_indices: Sequence[int] | None = None,
    in_chans: int = 3,
    width: float = 1.0,
    norm: Norm = "batch",
    num_classes: int = 1000,
) -> Any:
    """The network called ``name``, with random weights; ValueError if there is none.

    Args:
        name: a key of ``BACKBONES``.
        features_only: a ``Backbone``; otherwise the paper's classifier, whose ``forward`` gives
            ``num_classes`` scores and which has ``forward_features`` and ``forward_head``.
        out_indices: of the stages whose maps a ``Backbone`` returns; None: all.
        in_chans: channels of the pictures.
        width: factor on the channels of all layers.
        norm: what takes the place of the paper's batch normalization ("group" does well with
            small batches); networks without it stay without it.
        num_classes: of the classifier.

    """
    if name not in BACKBONES:
        raise ValueError(f"unknown backbone {name!r}; there is: {', '.join(BACKBONES)}")
    if norm not in ("batch", "group"):
        raise ValueError(f"norm must be batch or group, not {norm!r}")
    if not features_only and out_indices is not None:
        raise ValueError("out_indices are of feature maps: features_only must be true")
    classes = None if features_only else num_classes
    return BACKBONES[name](Request(in_chans, width, norm, out_indices, classes))
