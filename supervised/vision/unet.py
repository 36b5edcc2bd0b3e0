"""U-Net: a network that says what every pixel is, from context and from detail.

Ronneberger, Fischer & Brox 2015, "U-Net: Convolutional Networks for Biomedical Image Segmentation"
(arXiv 1505.04597). A contracting path of convolutions and poolings sees ever more of the picture
ever more coarsely; an expanding path doubles the resolution again, at each level beside the map
that the contracting path had there, so that what was recognized is placed exactly. Convolutions
have no padding: every output pixel has seen its whole context, so a picture of any size can be cut
into overlapping tiles and comes out without seams. A loss that weighs the narrow gaps between
cells heavily teaches it to keep touching cells apart.

    (1)  E    = -sum_x w(x) log p_l(x)(x),    p_k(x) = exp(a_k(x)) / sum_k' exp(a_k'(x))

The weights w(x) of eq. 2 are in separation.py.

| name | paper | shape |
|---|---|---|
| activations | a_k(x) | [B, K, h, w], before the soft-max |
| labels | l(x) | integers [B, h, w] |
| weights | w(x) | [B, h, w] |

Deviations, and what the paper leaves open:
- (1) in the paper lacks the minus sign, and sums; here it is averaged over the pixels, so that a
  learning rate does not depend on the size of a tile.
- "Drop-out layers at the end of the contracting path": after its last two levels, with rate 1/2.
- The paper trains with momentum 0.99 on one tile at a time; it does not give a learning rate.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supervised.backbones import Backbone, scaled


@dataclass(frozen=True)
class UNetConfig:
    """The architecture; the defaults are figure 1's."""

    in_chans: int = 1  # grey pictures
    classes: int = 2  # K
    width: int = 64  # channels of the first level; each level below has twice as many
    depth: int = 4  # poolings, and up-convolutions
    dropout: float = 0.5  # rate after the last two levels of the contracting path

    def __post_init__(self) -> None:
        for name in ["in_chans", "width", "depth"]:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")
        if self.classes < 2:
            raise ValueError(f"classes must be at least 2, not {self.classes}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), not {self.dropout}")

    @classmethod
    def paper(cls) -> "UNetConfig":
        """31,030,658 parameters; a tile of 572 x 572 pixels gives 388 x 388."""
        return cls()

    @classmethod
    def small(cls, in_chans: int = 1, classes: int = 2) -> "UNetConfig":
        """116,770 parameters with one channel and two classes; a margin of 20 pixels."""
        return cls(in_chans, classes, width=16, depth=2, dropout=0.0)

    @property
    def margin(self) -> int:
        """Pixels that a tile loses on each side: 92 in the paper."""
        # Two 3x3 convolutions a level lose 2 of its pixels, on the way down and on the way up;
        # a pixel of level i is 2^i pixels of the picture, and the lowest level comes once.
        return 2 * sum(2 << level for level in range(self.depth)) + (2 << self.depth)

    def output_size(self, least: int) -> int:
        """The smallest output height or width that is possible and at least ``least``.

        Every pooling halves a map of even size, and 2^depth divides output + 4 (2^depth - 1).
        """
        step = 1 << self.depth
        excess = 4 * (step - 1)
        return max(-(-(least + excess) // step) * step - excess, 4)


# -- blocks --------------------------------------------------------------------------------------


def start(weight: Tensor, inputs: int) -> None:
    """Section 3: N(0, sqrt(2 / N)), N the incoming connections of one neuron."""
    nn.init.normal_(weight, std=(2 / inputs) ** 0.5)


def convolution(inputs: int, outputs: int, kernel: int, padding: int = 0) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, outputs, kernel, padding=padding)
    start(layer.weight, inputs * kernel**2)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


class DoubleConvolution(nn.Module):
    """Two 3x3 convolutions, each with a ReLU: [B, C, h, w] -> [B, D, h - 4, w - 4].

    With padding 1, which the paper does not have, the size stays.
    """

    def __init__(self, inputs: int, outputs: int, padding: int = 0) -> None:
        super().__init__()
        self.first = convolution(inputs, outputs, 3, padding)
        self.second = convolution(outputs, outputs, 3, padding)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x).relu()
        return torch.relu(self.second(hidden))


class UpConvolution(nn.Module):
    """The 2x2 up-convolution: each pixel becomes 2x2, channels halve, [B, C, h, w] ->
    [B, C/2, 2h, 2w].

    The blocks do not overlap: every output pixel has one input pixel, thus N = C incoming
    connections.
    """

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, inputs // 2, 2, 2))
        self.bias = nn.Parameter(torch.zeros(inputs // 2))
        start(self.weight, inputs)

    def forward(self, x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        # [B, h, w, C] @ [C, 4D] -> [B, h, w, D, 2, 2]: what each pixel paints.
        painted: Tensor = x.permute(0, 2, 3, 1) @ self.weight.flatten(1)
        painted = painted.unflatten(-1, self.weight.shape[1:])
        painted = painted.permute(0, 3, 1, 4, 2, 5).reshape(b, -1, 2 * h, 2 * w)
        return painted + self.bias[:, None, None]


def crop(x: Tensor, height: int, width: int) -> Tensor:
    """The middle ``height`` x ``width`` pixels of maps [..., H, W]."""
    top, left = (x.shape[-2] - height) // 2, (x.shape[-1] - width) // 2
    return x[..., top : top + height, left : left + width]


class ContractingPath(nn.Module):
    """The left side of figure 1: [B, in_chans, H, W] -> the map of every level.

    Level 0 has the picture's resolution and ``width`` channels, level i is 2^i times coarser and
    has 2^i times the channels.
    """

    def __init__(
        self, in_chans: int, width: int, depth: int, dropout: float = 0.0, padding: int = 0
    ) -> None:
        super().__init__()
        channels = [in_chans, *(width * 2**level for level in range(depth + 1))]
        self.levels = nn.ModuleList(
            DoubleConvolution(channels[i], channels[i + 1], padding) for i in range(depth + 1)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps: list[Tensor] = []
        for i, level in enumerate(self.levels):
            x = level(x if i == 0 else F.max_pool2d(x, 2))
            if i >= len(self.levels) - 2:
                x = self.dropout(x)
            maps.append(x)
        return maps


# -- the network ---------------------------------------------------------------------------------


class UNet(nn.Module):
    """Tiles [B, in_chans, H, W] -> activations a_k of their inner pixels, [B, K, H - 2m, W - 2m]
    with m = ``config.margin``.

    Raises ValueError for tiles whose maps could not be halved without a rest (``output_size`` of
    the config gives the sizes that can) and for another number of channels.
    """

    def __init__(self, config: UNetConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or UNetConfig.paper()
        self.contracting = ContractingPath(
            config.in_chans, config.width, config.depth, config.dropout
        )
        wide = [config.width * 2**level for level in range(config.depth, 0, -1)]
        self.up = nn.ModuleList(UpConvolution(channels) for channels in wide)
        self.expanding = nn.ModuleList(DoubleConvolution(c, c // 2) for c in wide)
        self.head = convolution(config.width, config.classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        self._check(x)
        *skips, x = self.contracting(x)
        for up, convolutions, skip in zip(self.up, self.expanding, reversed(skips), strict=True):
            x = up(x)
            x = convolutions(torch.cat([crop(skip, *x.shape[-2:]), x], dim=1))
        activations: Tensor = self.head(x)
        return activations

    def _check(self, x: Tensor) -> None:
        if x.ndim != 4 or x.shape[1] != self.config.in_chans:
            raise ValueError(
                f"tiles must be [B, {self.config.in_chans}, H, W], not {list(x.shape)}"
            )
        for size in x.shape[-2:]:
            inner = size - 2 * self.config.margin
            if (fitting := self.config.output_size(inner)) != inner:
                raise ValueError(
                    f"a tile cannot be {size} pixels high or wide; "
                    f"{fitting + 2 * self.config.margin} would do"
                )


# -- the overlap-tile strategy (figure 2) --------------------------------------------------------


def mirror(x: Tensor, top: int, bottom: int, left: int, right: int) -> Tensor:
    """Maps [..., H, W] continued beyond their edges by mirroring, as far as wanted.

    The edge's own pixels are not repeated.
    """

    def places(size: int, before: int, after: int) -> Tensor:
        period = max(2 * size - 2, 1)
        place = torch.arange(-before, size + after, device=x.device) % period
        return torch.minimum(place, period - place) if size > 1 else place

    rows, columns = places(x.shape[-2], top, bottom), places(x.shape[-1], left, right)
    return x[..., rows, :][..., columns]


@torch.no_grad()
def segment(model: UNet, pictures: Tensor, tile: int | None = None) -> Tensor:
    """Activations [B, K, H, W] of pictures [B, in_chans, H, W] of any size.

    What lies beyond the edges is mirrored. With ``tile`` the picture is cut into output tiles of
    at least that height and width, which bounds the memory; the result is the same. In evaluation
    mode; the model's mode comes back.

    Poolings start at a tile's corner, so all corners lie on one grid of 2^depth pixels: tiles of
    388 pixels come every 384.
    """
    config = model.config
    height, width = pictures.shape[-2:]
    step = 1 << config.depth
    # Each tile covers a whole cell of the grid at least.
    least = None if tile is None else max(tile, step)
    rows, columns = (config.output_size(min(n, least or n)) for n in (height, width))
    down, across = (max(n // step, 1) * step for n in (rows, columns))
    tops = range(0, max(height - rows, 0) + down, down)
    lefts = range(0, max(width - columns, 0) + across, across)
    m = config.margin
    x = mirror(pictures, m, tops[-1] + rows - height + m, m, lefts[-1] + columns - width + m)
    result = pictures.new_empty(len(pictures), config.classes, height, width)
    training = model.training
    model.eval()
    for top in tops:
        for left in lefts:
            part = model(x[..., top : top + rows + 2 * m, left : left + columns + 2 * m])
            place = result[..., top : top + rows, left : left + columns]
            place.copy_(part[..., : place.shape[-2], : place.shape[-1]])
    model.train(training)
    return result


# -- the loss ------------------------------------------------------------------------------------


def weighted_cross_entropy(activations: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Eq. 1, the mean over all pixels."""
    log_p = activations - activations.logsumexp(dim=1, keepdim=True)
    return -(weights * log_p.gather(1, labels[:, None].long()).squeeze(1)).mean()


# -- as a backbone -------------------------------------------------------------------------------


class UNetBackbone(Backbone):
    """The contracting path as a backbone: [B, in_chans, H, W] -> five maps, with 64 to 1,024
    channels, at 1/1 to 1/16 of the resolution.

    Convolutions are padded here, so that a map's size is the picture's over its reduction, rounded
    down; there is no dropout.

    Args:
        in_chans: channels of the pictures.
        out_indices: levels whose maps are returned; None: all.
        width: factor on the paper's channels.

    """

    LEVELS = 5

    def __init__(
        self, in_chans: int = 3, out_indices: Sequence[int] | None = None, width: float = 1.0
    ) -> None:
        first, sizes = scaled(64, width), [2**level for level in range(self.LEVELS)]
        top, *others = ContractingPath(in_chans, first, self.LEVELS - 1, padding=1).levels
        stages = [top, *(nn.Sequential(nn.MaxPool2d(2), level) for level in others)]
        super().__init__(stages, [first * size for size in sizes], sizes, out_indices)


def create(config: UNetConfig | None = None) -> UNet:
    """The network; without arguments the paper's."""
    return UNet(config)
