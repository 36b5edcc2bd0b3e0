"""Deep residual networks: layers that learn what to add to their input.

He, Zhang, Ren, Sun 2015, "Deep Residual Learning for Image Recognition" (arXiv 1512.03385).
A plain network of 56 layers has a higher error than one of 20, in training too: this is not
overfitting but a failure of optimization ("degradation"). If two or three layers learn F(x) and
the network goes on with F(x) + x, then doing nothing is F = 0, which is easy to learn, and depth
begins to pay.

    name            paper                        shape
    x, y            input, output of a block     [B, C, H, W]
    block.layers    F(x, {W_i})                  [B, C', H / stride, W / stride]
    block.shortcut  x, W_s x or zero padding     the same
    config.blocks   n of 6n + 2, or table 1      blocks in each part of the network
    config.channels filters of table 1           of the 3 x 3 convolutions in each part

    (1)  y = F(x, {W_i}) + x         between equal dimensions
    (2)  y = F(x, {W_i}) + W_s x     where they grow

Batch normalization stands "right after each convolution and before activation" (section 3.4);
none of the convolutions has a bias. Weights start as in He et al. 2015, "Delving Deep into
Rectifiers", eq. 10: Gaussians of variance 2 / fan_in; biases at 0.

Deviations and additions:
- ``stride_in="3x3"`` halves a bottleneck's map in its 3 x 3 convolution, as most implementations
  do today, instead of in its first 1 x 1 as the paper. The parameters are the same.
- ``norm="group"`` replaces batch normalization, for batches as small as reinforcement learning's.
- ``width`` scales all channels.
- The zeros of shortcut A are appended behind the channels; the paper does not say where they go.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from supervised.backbones import Backbone, Norm, norm_layer, scaled

Block = Literal["basic", "bottleneck"]
# Table 1: what stands in conv2_x to conv5_x.
IMAGENET: dict[int, tuple[Block, tuple[int, ...]]] = {
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
}


@dataclass(frozen=True)
class ResNetConfig:
    """Which network; sections and tables are the paper's."""

    blocks: tuple[int, ...] = (3, 4, 6, 3)  # in each part (table 1)
    block: Block = "bottleneck"  # two 3 x 3 convolutions, or 1 x 1, 3 x 3, 1 x 1 (figure 5)
    channels: tuple[int, ...] = (64, 128, 256, 512)  # of the 3 x 3 convolutions, in each part
    stem: Literal["imagenet", "cifar"] = "imagenet"  # 7 x 7 and a pool, /4; or 3 x 3 (section 4.2)
    shortcut: Literal["A", "B", "C"] = "B"  # section 4.1: zeros, projections to grow, projections
    residual: bool = True  # False: the plain network without shortcuts
    stride_in: Literal["1x1", "3x3"] = "1x1"  # the bottleneck's convolution that halves the map
    norm: Norm = "batch"  # after each convolution (section 3.4)
    in_chans: int = 3  # of the pictures
    classes: int = 1000  # scores
    width: float = 1.0  # factor on all channels (not in the paper)

    def __post_init__(self) -> None:
        if len(self.blocks) != len(self.channels) or not all(n >= 1 for n in self.blocks):
            raise ValueError(
                f"blocks must be {len(self.channels)} positive numbers, not {self.blocks}"
            )
        for name, known in {
            "block": ("basic", "bottleneck"),
            "stem": ("imagenet", "cifar"),
            "shortcut": ("A", "B", "C"),
            "stride_in": ("1x1", "3x3"),
            "norm": ("batch", "group"),
        }.items():
            if getattr(self, name) not in known:
                one_of = ", ".join(known)
                raise ValueError(f"{name} must be one of {one_of}, not {getattr(self, name)!r}")

    @classmethod
    def imagenet(cls, depth: int, **changes: Any) -> "ResNetConfig":
        """Table 1, with shortcuts B: 18, 34, 50, 101 or 152 layers."""
        if depth not in IMAGENET:
            depths = ", ".join(map(str, IMAGENET))
            raise ValueError(f"depth must be one of {depths} for ImageNet, not {depth}")
        block, blocks = IMAGENET[depth]
        return cls(**{"blocks": blocks, "block": block, **changes})

    @classmethod
    def cifar(cls, depth: int, **changes: Any) -> "ResNetConfig":
        """Section 4.2, with shortcuts A: 6n + 2 layers; the paper has 20, 32, 44, 56, 110, 1202."""
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"depth must be 6n + 2 for CIFAR, not {depth}")
        small: dict[str, Any] = {
            "blocks": ((depth - 2) // 6,) * 3,
            "block": "basic",
            "channels": (16, 32, 64),
            "stem": "cifar",
            "shortcut": "A",
            "classes": 10,
        }
        return cls(**{**small, **changes})

    @classmethod
    def named(cls, name: str, **changes: Any) -> "ResNetConfig":
        """'resnet50', 'plain56', …: the network for ImageNet if there is one, or else CIFAR's.

        Raises ValueError for another name.
        """
        kind, digits = name.rstrip("0123456789"), name.lstrip("abcdefghijklmnopqrstuvwxyz")
        if kind not in ("resnet", "plain") or not digits.isdecimal():
            raise ValueError(f"a network is called like resnet50 or plain56, not {name!r}")
        form = cls.imagenet if int(digits) in IMAGENET else cls.cifar
        return replace(form(int(digits), **changes), residual=kind == "resnet")

    @classmethod
    def small(cls) -> "ResNetConfig":
        """Eight layers for pictures of digits: seconds on one core."""
        return cls.cifar(8, in_chans=1, width=0.5)


class Shortcut(nn.Module):
    """x [B, n_in, H, W] -> [B, n_out, H / stride, W / stride], section 3.3 and options of 4.1."""

    def __init__(self, n_in: int, n_out: int, stride: int, config: ResNetConfig) -> None:
        super().__init__()
        self.stride, self.zeros = stride, n_out - n_in
        grows = n_in != n_out or stride != 1
        projects = config.shortcut == "C" or (config.shortcut == "B" and grows)
        self.projection = (
            nn.Sequential(
                nn.Conv2d(n_in, n_out, 1, stride, bias=False), norm_layer(config.norm, n_out)
            )
            if projects
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.projection is not None:
            projected: Tensor = self.projection(x)  # W_s x, eq. 2
            return projected
        if self.stride != 1:
            x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, 0, self.zeros)) if self.zeros else x


class ResidualBlock(nn.Module):
    """Eq. 1-2 and a ReLU: [B, n_in, H, W] -> [B, n_out, H / stride, W / stride].

    ``channels`` is the width inside; a bottleneck's output has four times as many.
    """

    def __init__(self, n_in: int, channels: int, stride: int, config: ResNetConfig) -> None:
        super().__init__()
        if config.block == "basic":
            # Kernel, filters, stride of each convolution.
            plan = [(3, channels, stride), (3, channels, 1)]
        else:
            first, second = (stride, 1) if config.stride_in == "1x1" else (1, stride)
            plan = [(1, channels, first), (3, channels, second), (1, 4 * channels, 1)]
        layers: list[nn.Module] = []
        n = n_in
        for kernel, filters, step in plan:
            layers.append(nn.Conv2d(n, filters, kernel, step, kernel // 2, bias=False))
            layers += [norm_layer(config.norm, filters), nn.ReLU()]
            n = filters
        self.layers = nn.Sequential(*layers[:-1])  # the last ReLU follows the addition
        self.shortcut = Shortcut(n_in, n, stride, config) if config.residual else None

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)  # F(x, {W_i})
        if self.shortcut is not None:
            y = y + self.shortcut(x)
        return y.relu()


class ResNetBackbone(Backbone):
    """All but the classifier. Maps: behind the first ReLU, and behind each part of table 1.

    ImageNet's form has channels 64, then 64, 128, 256, 512 (a bottleneck's: four times as many),
    at 1/2, 1/4, 1/8, 1/16, 1/32 of the picture; CIFAR's 16, 16, 32, 64 at 1, 1, 1/2, 1/4.
    """

    def __init__(self, config: ResNetConfig, out_indices: Sequence[int] | None = None) -> None:
        parts = [scaled(channels, config.width) for channels in config.channels]
        imagenet = config.stem == "imagenet"
        kernel, stride = (7, 2) if imagenet else (3, 1)
        stem = nn.Sequential(
            nn.Conv2d(config.in_chans, parts[0], kernel, stride, kernel // 2, bias=False),
            norm_layer(config.norm, parts[0]),
            nn.ReLU(),
        )
        stages, channels, reductions = [stem], [parts[0]], [stride]
        expansion = 4 if config.block == "bottleneck" else 1
        for i, (width, count) in enumerate(zip(parts, config.blocks, strict=True)):
            stride = 1 if i == 0 else 2  # "downsampling is performed by conv3_1, conv4_1, conv5_1"
            blocks: list[nn.Module] = []
            n_in = channels[-1]
            for k in range(count):
                blocks.append(ResidualBlock(n_in, width, stride if k == 0 else 1, config))
                n_in = expansion * width
            if i == 0 and imagenet:
                blocks.insert(0, nn.MaxPool2d(3, 2, 1))
                stride = 2
            stages.append(nn.Sequential(*blocks))
            channels.append(n_in)
            reductions.append(reductions[-1] * stride)
        super().__init__(stages, channels, reductions, out_indices)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")


class ResNet(nn.Module):
    """[B, in_chans, H, W] -> scores [B, classes]: the backbone, the mean over its last map, and
    one linear layer. Pictures of any size.
    """

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        self.config = config
        self.trunk = ResNetBackbone(config)
        self.linear = nn.Linear(self.trunk.feature_info.channels()[-1], config.classes)
        nn.init.kaiming_normal_(self.linear.weight, nonlinearity="linear")
        nn.init.zeros_(self.linear.bias)

    def forward_features(self, x: Tensor) -> Tensor:
        """The last map [B, C, h, w]."""
        return self.trunk.forward_features(x)

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """The last map -> scores [B, classes]; ``pre_logits``: its mean [B, C]."""
        pooled = features.mean((2, 3))
        if pre_logits:
            return pooled
        scores: Tensor = self.linear(pooled)
        return scores

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


def create(name: str = "resnet50", **changes: Any) -> ResNet:
    """The network called ``name`` ("resnet18", "plain56", …), with fields of its config changed."""
    return ResNet(ResNetConfig.named(name, **changes))


# -- section 4.2: how the networks for CIFAR-10 are trained ----------------------------------------


def schedule(steps: int = 64_000, warm_up: int = 0) -> Callable[[int], float]:
    """Step -> factor on the learning rate of 0.1: 1, from half of the ``steps`` on 0.1, from three
    quarters on 0.01 (the paper's 32,000 and 48,000 of 64,000). For ``warm_up`` steps at first 0.1:
    ResNet-110 needs about 400 of these before it begins to learn.
    """

    def factor(step: int) -> float:
        if step < warm_up:
            return 0.1
        return 1.0 if 2 * step < steps else 0.1 if 4 * step < 3 * steps else 0.01

    return factor
