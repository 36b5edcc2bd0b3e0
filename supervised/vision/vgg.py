"""VGG: what depth alone does, with nothing but small filters.

Simonyan and Zisserman 2014, "Very Deep Convolutional Networks for Large-Scale Image Recognition"
(arXiv 1409.1556). Two 3 x 3 convolutions see as far as one of 5 x 5, three as far as one of 7 x 7,
with fewer weights and more nonlinearities; so the networks A to E of table 1 are stacks of them
that differ in depth only, from 11 to 19 layers. A network that was trained on crops is applied to a
whole picture of any size by reading its fully connected layers as convolutions.

    name             paper                             shape
    config.kernels   columns of table 1                kernel sizes in each of the five blocks
    VGG.convolutions conv layers, in order             weights [out, in, k, k]
    VGG.head         FC-4096, FC-4096, FC-1000         weights [out, in]
    score_map        class score map (section 3.2)     [B, classes, h, w]
    S, Q             training and test scale           pixels of a picture's shorter side

    B: A with 10 x "conv3" instead of 8;  C: B + three 1 x 1;  D: those 3 x 3 (VGG-16);  E: VGG-19
    A-LRN: A with local response normalization behind the first convolution

Deviations and additions:
- Pictures are floats of about unit size with the mean colour taken off, not 0 to 255.
- Section 3.1 draws weights with a variance of 10^-2; scores of a new network A are then millions.
  ``start="gaussian"`` takes it for the standard deviation. "glorot" is what the section's last
  paragraph found, after the submission, to work without pre-training. "he" (variance 2 / fan_in)
  is not in the paper.
- Section 3.1 copies "the first four convolutional layers" of A. In B to E they stand among others:
  each is copied to the layer of the same number in the same block, which has its shape.
- ``width`` scales all channels, ``size`` is that of the crops, so that small ones can be trained.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from supervised.augment import resize
from supervised.backbones import Backbone, scaled

Layer: TypeAlias = nn.Conv2d | nn.Linear
CHANNELS = (64, 128, 256, 512, 512)  # of the five blocks, in all networks
# Table 1, column by column: the kernel sizes of each block.
TABLE_1: dict[str, tuple[tuple[int, ...], ...]] = {
    "A": ((3,), (3,), (3, 3), (3, 3), (3, 3)),
    "A-LRN": ((3,), (3,), (3, 3), (3, 3), (3, 3)),
    "B": ((3, 3), (3, 3), (3, 3), (3, 3), (3, 3)),
    "C": ((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1)),
    "D": ((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
    "E": ((3, 3), (3, 3), (3, 3, 3, 3), (3, 3, 3, 3), (3, 3, 3, 3)),
}


@dataclass(frozen=True)
class VGGConfig:
    """Which network; sections and tables are the paper's."""

    kernels: tuple[tuple[int, ...], ...] = TABLE_1["D"]  # of the convolutions, block by block
    lrn: bool = False  # local response normalization behind the first convolution (A-LRN)
    size: int = 224  # of the crops that it is trained on (section 2.1)
    dropout: float = 0.5  # behind the first two fully connected layers (section 3.1)
    start: Literal["gaussian", "glorot", "he"] = "gaussian"  # of the weights (section 3.1)
    in_chans: int = 3  # of the pictures
    classes: int = 1000  # scores
    width: float = 1.0  # factor on all channels (not in the paper)

    def __post_init__(self) -> None:
        if len(self.kernels) != 5 or not all(self.kernels):
            raise ValueError(f"kernels must be those of five blocks, not {self.kernels}")
        if self.size < 32:
            raise ValueError(f"size must be at least 32, which five pools halve, not {self.size}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), not {self.dropout}")
        if self.start not in ("gaussian", "glorot", "he"):
            raise ValueError(f"start must be gaussian, glorot or he, not {self.start!r}")

    @classmethod
    def paper(cls, column: str = "D", **changes: Any) -> "VGGConfig":
        """A column of table 1: A, A-LRN, B, C, D or E."""
        if column not in TABLE_1:
            raise ValueError(f"network must be one of {', '.join(TABLE_1)}, not {column!r}")
        return cls(**{"kernels": TABLE_1[column], "lrn": column == "A-LRN", **changes})

    @classmethod
    def small(cls) -> "VGGConfig":
        """Network A at an eighth of its width for crops of 32 x 32: seconds on one core."""
        return cls.paper("A", size=32, classes=10, width=1 / 8, start="he")


class VGGBackbone(Backbone):
    """The convolutions. Maps: behind each block, before its pool, and behind the last pool.

    Channels 64, 128, 256, 512, 512, 512 at 1, 1/2, 1/4, 1/8, 1/16, 1/32 of the picture.
    """

    def __init__(self, config: VGGConfig, out_indices: Sequence[int] | None = None) -> None:
        widths = [scaled(channels, config.width) for channels in CHANNELS]
        stages: list[nn.Module] = []
        n_in = config.in_chans
        for block, kernels in enumerate(config.kernels):
            layers: list[nn.Module] = [nn.MaxPool2d(2)] if block else []
            for kernel in kernels:
                convolution = nn.Conv2d(n_in, widths[block], kernel, padding=kernel // 2)
                layers += [convolution, nn.ReLU()]
                n_in = widths[block]
            if config.lrn and block == 0:
                # Krizhevsky et al. 2012: n = 5, k = 2, alpha = 1e-4, beta = 0.75; PyTorch divides
                # alpha by n.
                layers.append(nn.LocalResponseNorm(5, 5 * 1e-4, 0.75, 2.0))
            stages.append(nn.Sequential(*layers))
        stages.append(nn.MaxPool2d(2))
        reductions = [2**i for i in range(6)]
        super().__init__(stages, [*widths, widths[-1]], reductions, out_indices)
        start(self.modules(), config.start)


class VGG(nn.Module):
    """[B, in_chans, size, size] -> scores [B, classes]."""

    def __init__(self, config: VGGConfig) -> None:
        super().__init__()
        self.config = config
        self.trunk = VGGBackbone(config)
        self.grid = config.size // 32  # sides of the last map: 7
        hidden = scaled(4096, config.width)
        last = self.trunk.feature_info.channels()[-1]
        self.head = nn.Sequential(
            nn.Linear(last * self.grid**2, hidden),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(hidden, config.classes),
        )
        start(self.head, config.start)

    @property
    def convolutions(self) -> list[list[nn.Conv2d]]:
        """The convolutions of each block."""
        blocks = [self.trunk.stages[i] for i in range(5)]
        return [[m for m in block.modules() if isinstance(m, nn.Conv2d)] for block in blocks]

    @property
    def linears(self) -> list[nn.Linear]:
        """The fully connected layers."""
        return [layer for layer in self.head if isinstance(layer, nn.Linear)]

    def forward_features(self, x: Tensor) -> Tensor:
        """The last map [B, C, H / 32, W / 32]."""
        return self.trunk.forward_features(x)

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """The last map of a crop -> scores [B, classes]; ``pre_logits``: what the last layer reads.

        Raises ValueError if the map is not that of a crop of ``config.size``.
        """
        if features.shape[2:] != torch.Size((self.grid, self.grid)):
            size = self.config.size
            raise ValueError(f"crops must be {size} x {size}; for other sizes there is score_map")
        head = self.head[:-1] if pre_logits else self.head
        scores: Tensor = head(features.flatten(1))
        return scores

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


def create(column: str = "D", **changes: Any) -> VGG:
    """The network of a column of table 1 ("A", …, "E"), with fields of its config changed."""
    return VGG(VGGConfig.paper(column, **changes))


def start(modules: Iterable[nn.Module], how: str) -> None:
    """Random weights for all convolutions and linear layers of ``modules``, biases at 0."""
    for module in modules:
        if not isinstance(module, nn.Conv2d | nn.Linear):
            continue
        if how == "gaussian":
            nn.init.normal_(module.weight, std=0.01)
        elif how == "glorot":
            nn.init.xavier_uniform_(module.weight)
        else:
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        assert module.bias is not None
        nn.init.zeros_(module.bias)


@torch.no_grad()
def start_from(model: VGG, shallow: VGG) -> None:
    """Section 3.1: the first four convolutions and the fully connected layers of ``shallow``, a
    trained network A, become those of ``model``. "We did not decrease the learning rate for the
    pre-initialised layers". Raises ValueError if a shape differs.
    """
    pairs: list[tuple[Layer, Layer]] = [*zip(model.linears, shallow.linears, strict=True)]
    for block, theirs in zip(model.convolutions[:3], shallow.convolutions[:3], strict=True):
        pairs += zip(block, theirs, strict=False)  # the deeper network has more
    for mine, source in pairs:
        if mine.weight.shape != source.weight.shape:
            shapes = f"{tuple(source.weight.shape)} is not of {tuple(mine.weight.shape)}"
            raise ValueError(f"a layer of another size: {shapes}")
        mine.load_state_dict(source.state_dict())


# -- section 3.2: testing on whole pictures --------------------------------------------------------


def score_map(model: VGG, pictures: Tensor) -> Tensor:
    """Pictures [B, C, H, W] of any size from ``config.size`` on -> scores [B, classes, h, w].

    "The fully-connected layers are first converted to convolutional layers (the first FC layer to a
    7 x 7 conv. layer, the last two to 1 x 1)": h = H // 32 - 6, at a size of 224.
    """
    x = model.forward_features(pictures)
    if min(x.shape[2:]) < model.grid:
        size = model.config.size
        raise ValueError(f"pictures must be at least {size} x {size}")
    first = True
    for layer in model.head:
        if isinstance(layer, nn.Linear):
            kernel = model.grid if first else 1
            weight = layer.weight.unflatten(1, (-1, kernel, kernel))
            x, first = F.conv2d(x, weight, layer.bias), False
        else:
            x = layer(x)
    return x


def class_posteriors(model: VGG, pictures: Tensor) -> Tensor:
    """Dense evaluation: probabilities [B, classes]. The score map is averaged over the picture, and
    the posteriors of the picture and its mirror image are averaged. Call it in evaluation mode.
    """
    views = (pictures, pictures.flip(3))
    return torch.stack([score_map(model, v).mean((2, 3)).softmax(1) for v in views]).mean(0)


def multi_scale(model: VGG, pictures: Tensor, scales: Sequence[int]) -> Tensor:
    """Section 4.2: ``class_posteriors`` averaged over test scales Q, [B, classes].

    Pictures [B, C, H, W] are resized so that their shorter side is Q.
    """
    return torch.stack([class_posteriors(model, resize(pictures, q)) for q in scales]).mean(0)
