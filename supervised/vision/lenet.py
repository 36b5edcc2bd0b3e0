"""LeNet-5: convolutions and subsampling, trained from pixels to the class code.

LeCun, Bottou, Bengio and Haffner 1998, "Gradient-Based Learning Applied to Document Recognition",
Proceedings of the IEEE 86(11). Maps of shared local weights (C1, C3, C5) alternate with layers that
halve the resolution (S2, S4), so that what is found does not depend much on where it is. The
network's 84 last units draw a stylized 7x12 bitmap, and the classes are the distances to ten fixed
drawings. All 60,000 parameters learn together, each with a rate of its own (``diagonal_lm.py``).

    x_i = f(a_i), f(a) = A tanh(S a)                                 (5)-(6)  ``squash``
    y_i = sum_j (x_j - w_ij)^2                                       (7)      ``LeNet.forward``
    E   = mean_p y_D                                                 (8)      ``squared_loss``
    E   = mean_p [ y_D + log(e^-j + sum_i e^-y_i) ]                  (9)      ``map_loss``
    h_kk = sum over the connections of d2E/da_i^2 x_j^2              (App. C) ``curvature``

Names: x states, [B, C, H, W] throughout; a weighted sums; y penalties [B, classes]; D the right
class; j ``rubbish``; h second derivatives of the mean loss.

Deviations:
- The paper shows its bitmaps for all of ASCII, as a figure; these ten digits are drawn anew.
- It does not say which j it used. Of 1 and 10, 10 learned faster on the first 10,000 digits.
- Weights start from U(-1/sqrt(F_i), 1/sqrt(F_i)), F_i the inputs of a unit; the paper has 2.4/F_i,
  from which signals vanish on the way through the layers and its optimizer saturates them. These
  are also what makes its rates lie where it says that they lay (README.md).
- It does not say whether biases start at random; here they do, as weights of a constant input.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_input, conv2d_weight

from supervised.backbones import Backbone

AMPLITUDE, SLOPE = 1.7159, 2 / 3  # A and S, eq. 6: f(1) = 1, f(-1) = -1
PICTURE = 32  # side of the pictures: 20 pixels of digit, and room for windows around its ends

# Table I: the columns are C3's 16 maps, the rows the 6 maps of S2 that they may look at. No two
# maps of C3 see the same, so that they have to become different.
TABLE = """
    X . . . X X X . . X X X X . X X
    X X . . . X X X . . X X X X . X
    X X X . . . X X X . . X . X X X
    . X X X . . X X X X . . X . X X
    . . X X X . . X X X X . X X . X
    . . . X X X . . X X X X . X X X
"""

# The output codes: +1 where there is ink. Similar digits have similar codes.
BITMAPS = """
..###.. ...##.. .#####. ####### ....##. ####### ...###. ####### .#####. .####..
.##.##. ..###.. ##...## .....## ...###. ##..... ..##... ##...## ##...## ##..##.
##...## .####.. ##...## ....##. ..####. ##..... .##.... .....## ##...## ##...##
##...## ...##.. .....## ...##.. .##.##. ##..... ##..... ....##. ##...## ##...##
##...## ...##.. ....##. ..####. .##.##. ######. ##.###. ....##. .##.##. ##...##
##...## ...##.. ...##.. .....## ##..##. .....## ###..## ...##.. ..###.. ##..###
##...## ...##.. ..##... .....## ##..##. .....## ##...## ...##.. .##.##. .###.##
##...## ...##.. .##.... .....## ####### .....## ##...## ..##... ##...## .....##
##...## ...##.. ##..... ##...## ....##. .....## ##...## ..##... ##...## ....##.
.##.##. ...##.. ##..... ##...## ....##. ##...## .##..## ..##... ##...## ...##..
..###.. .###### ####### .#####. ....##. .#####. ..####. ..##... .#####. .###...
....... ....... ....... ....... ....... ....... ....... ....... ....... .......
"""


def connections(inputs: int = 6, outputs: int = 16) -> Tensor:
    """Table I as booleans [outputs, inputs]; other numbers of maps take the nearest row, column."""
    lines = TABLE.strip().split("\n")
    rows, columns = (
        torch.arange(n, device="cpu") * of // n for n, of in ((outputs, 16), (inputs, 6))
    )
    marks = [[mark == "X" for mark in line.split()] for line in lines]
    return torch.tensor(marks, device="cpu").T[rows][:, columns]


def complete(inputs: int, outputs: int) -> Tensor:
    """A table [outputs, inputs] of all connections."""
    return torch.ones(outputs, inputs, dtype=torch.bool, device="cpu")


def output_codes() -> Tensor:
    """The ten bitmaps as +1 and -1, [10, 84], row by row."""
    lines = [line.split() for line in BITMAPS.strip().split("\n")]
    drawings = ["".join(line[digit] for line in lines) for digit in range(10)]
    return torch.tensor([[1.0 if pixel == "#" else -1.0 for pixel in d] for d in drawings])


@dataclass(frozen=True)
class LeNetConfig:
    """Sizes of the network; the defaults are the paper's, section II-B."""

    in_chans: int = 1  # channels of the pictures
    width: float = 1.0  # factor on the maps of C1 to C5
    rubbish: float = 10.0  # j of eq. 9, the penalty of belonging to no class (ours)

    def __post_init__(self) -> None:
        if not (self.in_chans > 0 and self.width > 0):
            raise ValueError(f"in_chans, width must be positive: {self.in_chans}, {self.width}")
        if not self.rubbish > 0:
            raise ValueError(f"rubbish must be positive, not {self.rubbish}")

    @classmethod
    def paper(cls) -> "LeNetConfig":
        """LeNet-5: 60,000 parameters."""
        return cls()

    @classmethod
    def small(cls) -> "LeNetConfig":
        """Half the maps in every layer."""
        return cls(width=0.5)


def squash(a: Tensor) -> Tensor:
    """Eq. 6."""
    return AMPLITUDE * torch.tanh(SLOPE * a)


def squash_slope(x: Tensor) -> Tensor:
    """f'(a) where f(a) = x."""
    return SLOPE * (AMPLITUDE - x * x / AMPLITUDE)


class Layer(nn.Module):
    """A layer that can also send second derivatives backwards (appendix C)."""

    def curvature(self, x: Tensor, y: Tensor, h: Tensor) -> tuple[Tensor, list[Tensor]]:
        """From x, y = forward(x) and h = d2E/dy2, the diagonal: d2E/dx2 and that of each parameter.

        All of it in the Gauss-Newton approximation, which leaves out f'' and cannot be negative.
        """
        raise NotImplementedError


class Convolution(Layer):
    """C1, C3, C5, F6: x [B, in, H, W] -> f(a) [B, out, H - size + 1, W - size + 1].

    Args:
        table: [out, in], whether an output map has a kernel for an input map; on the CPU.
        size: side of the kernels; a full connection is one of size 1.

    """

    def __init__(self, table: Tensor, size: int) -> None:
        super().__init__()
        self.shape = (*table.shape, size, size)
        # Not the default device's, which may be "meta", where nothing is known of a table.
        device = torch.get_default_device()
        # Only the kernels that exist are parameters: [connections, size, size].
        self.place: Tensor
        place = table.flatten().nonzero()[:, 0]
        self.register_buffer("place", place.to(device), persistent=False)
        bound = (table.sum(1) * size**2) ** -0.5  # F_i: inputs of a unit of map i
        of_kernel = bound.repeat_interleave(table.sum(1))[:, None, None].to(device)
        self.weight = nn.Parameter((2 * torch.rand(len(of_kernel), size, size) - 1) * of_kernel)
        self.bias = nn.Parameter((2 * torch.rand(len(table)) - 1) * bound.to(device))

    def kernels(self) -> Tensor:
        """The kernels [out, in, size, size], with zeros where there is none."""
        out, in_, size, _ = self.shape
        none = self.weight.new_zeros(out * in_, size, size)
        return none.index_copy(0, self.place, self.weight).view(self.shape)

    def forward(self, x: Tensor) -> Tensor:
        return squash(F.conv2d(x, self.kernels(), self.bias))

    def curvature(self, x: Tensor, y: Tensor, h: Tensor) -> tuple[Tensor, list[Tensor]]:
        h_a = squash_slope(y) ** 2 * h
        # A shared weight gets the sum over the connections that share it.
        h_w = conv2d_weight(x**2, self.shape, h_a).flatten(0, 1)[self.place]
        h_x = conv2d_input(x.shape, self.kernels() ** 2, h_a)
        return h_x, [h_w, h_a.sum((0, 2, 3))]


class Subsampling(Layer):
    """S2, S4: f(coefficient x the sum over 2x2 + bias), both trained, one of each a map.

    [B, maps, H, W] -> [B, maps, H // 2, W // 2].
    """

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.coefficient = nn.Parameter((2 * torch.rand(maps, 1, 1) - 1) * 0.5)  # F_i is 4
        self.bias = nn.Parameter((2 * torch.rand(maps, 1, 1) - 1) * 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return squash(self.coefficient * F.avg_pool2d(4 * x, 2) + self.bias)

    def curvature(self, x: Tensor, y: Tensor, h: Tensor) -> tuple[Tensor, list[Tensor]]:
        h_a = squash_slope(y) ** 2 * h
        h_coefficient = (h_a * F.avg_pool2d(4 * x, 2) ** 2).sum((0, 2, 3))
        h_x = (self.coefficient**2 * h_a).repeat_interleave(2, 2).repeat_interleave(2, 3)
        return h_x, [h_coefficient[:, None, None], h_a.sum((0, 2, 3))[:, None, None]]


class LeNetBackbone(Backbone):
    """LeNet-5 up to C5: pictures [B, in_chans, H, W] -> the maps of S2, S4 and C5.

    Args:
        in_chans: channels of the pictures.
        out_indices: which of the three maps to return; None: all.
        width: factor on the number of maps.

    Convolutions have no margins: S2 is (H - 4) // 2 high and S4 (S2 - 4) // 2; at least 32 pixels
    are needed for C5.
    """

    MAPS, REDUCTIONS = (6, 16, 120), (2, 4, 4)

    def __init__(
        self, in_chans: int = 1, out_indices: Sequence[int] | None = None, width: float = 1.0
    ) -> None:
        if not 0 < width < math.inf:
            raise ValueError(f"width must be positive, not {width}")
        c1, c3, c5 = (max(1, round(width * maps)) for maps in self.MAPS)
        stages = [
            nn.Sequential(Convolution(complete(in_chans, c1), 5), Subsampling(c1)),
            nn.Sequential(Convolution(connections(c1, c3), 5), Subsampling(c3)),
            Convolution(complete(c3, c5), 5),
        ]
        super().__init__(stages, (c1, c3, c5), self.REDUCTIONS, out_indices)

    def forward(self, x: Tensor) -> list[Tensor]:
        if min(x.shape[-2:]) < PICTURE:
            raise ValueError(f"LeNet-5 needs pictures of {PICTURE}x{PICTURE}, not {x.shape}")
        return super().forward(x)


class LeNet(nn.Module):
    """Pictures [B, in_chans, 32, 32] -> penalties y [B, 10]; the smallest is the answer.

    ``normalize`` makes such pictures. The weights start from torch's global random state.
    """

    def __init__(self, config: LeNetConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = LeNetBackbone(config.in_chans, width=config.width)
        c5 = self.backbone.feature_info.channels()[-1]
        self.f6 = Convolution(complete(c5, 84), 1)
        self.codes: Tensor
        self.register_buffer("codes", output_codes(), persistent=False)

    def features(self, x: Tensor) -> list[Tensor]:
        """The maps of S2 [B, 6, 14, 14], S4 [B, 16, 5, 5] and C5 [B, 120, 1, 1]."""
        maps: list[Tensor] = self.backbone(x)
        return maps

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-2:] != (PICTURE, PICTURE):
            raise ValueError(f"LeNet-5 needs pictures of {PICTURE}x{PICTURE}, not {x.shape}")
        return self.penalties(self.f6(self.features(x)[-1]))

    def penalties(self, x: Tensor) -> Tensor:
        """Eq. 7 on F6's states [B, 84, 1, 1] -> [B, 10]."""
        return (x.flatten(1)[:, None] - self.codes).square().sum(2)

    @torch.no_grad()
    def curvature(self, x: Tensor) -> list[Tensor]:
        """Appendix C's h on pictures x: of each parameter, in the order of ``parameters()``.

        It starts from the second derivative of eq. 8 by the states of F6, which is 2 for all
        classes. That of eq. 9 falls to 0 where digits are told apart well, and the rates it gives
        were worse when tried.
        """
        layers = [m for m in self.modules() if isinstance(m, Layer)]
        states = [x]
        for layer in layers:
            states.append(layer(states[-1]))
        h = torch.full_like(states[-1], 2 / len(x))
        found: list[Tensor] = []
        for i in reversed(range(len(layers))):
            h, of_parameters = layers[i].curvature(states[i], states[i + 1], h)
            found = of_parameters + found
        return found


def squared_loss(y: Tensor, targets: Tensor) -> Tensor:
    """Eq. 8: the mean penalty of the right class. y [B, classes], targets int64 [B]."""
    return y.gather(1, targets[:, None]).mean()


def map_loss(y: Tensor, targets: Tensor, rubbish: float) -> Tensor:
    """Eq. 9: besides, it pushes wrong classes away, but those that are worse than rubbish less."""
    competition = torch.logaddexp((-y).logsumexp(1), y.new_tensor(-rubbish))
    return squared_loss(y, targets) + competition.mean()


def normalize(pictures: Tensor) -> Tensor:
    """Grey pictures uint8 [B, 1, H, W], ink bright -> float32: 0 becomes -0.1, 255 1.175.

    Pictures up to 32 pixels high and wide are centred on a background of 32x32 (section II-B),
    for a mean of about 0 and a variance, says the paper, of about 1: on MNIST it is 0.12.
    """
    height, width = pictures.shape[-2:]
    if max(height, width) > PICTURE:
        raise ValueError(f"pictures must be at most {PICTURE}x{PICTURE}, not {height}x{width}")
    top, left = (PICTURE - height) // 2, (PICTURE - width) // 2
    margins = (left, PICTURE - width - left, top, PICTURE - height - top)
    return F.pad(pictures.float() / 255, margins) * 1.275 - 0.1


def create(config: LeNetConfig | None = None) -> LeNet:
    """The paper's LeNet-5, or another."""
    return LeNet(config or LeNetConfig.paper())
