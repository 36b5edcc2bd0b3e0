"""Where an object lies, read off one picture of whatever camera.

Tobin, Fong, Ray, Schneider, Zaremba, Abbeel 2017, "Domain Randomization for Transferring Deep
Neural Networks from Simulation to the Real World" (arXiv 1703.06907). A network that has seen
enough worlds, none of them real, takes the real one for one more. It reads the position of one
object, in the world's frame, off a single picture of a camera whose place it is not told.

    name             paper                                       shape
    pictures         "images", 224 x 224 x 3                     uint8 [B, 3, S, S]
    Localiser()      (x, y, z) of the object                     [B, 3], metres
    config.backbone  "the standard convolutional layers" of VGG-16 (section III-B)
    config.hidden    "fully connected layers of sizes 256 and 64", "without dropout"
    loss             "the L2 loss between the object positions estimated by the network and the
                     true object positions", Adam at about 1e-4: at higher rates the network
                     "converge[s] to a solution where it predict[s] the average object position"

Deviations and additions:
- ``LocaliserConfig.cpu()`` has a quarter of the paper's channels, half its pictures' side, and
  another head, because from scratch the paper's finds the object among others only after more
  pictures than a core learns from in an hour. ``MapHead`` makes heat maps of where in the picture
  the object is, and the workspace's corners, which say how the camera stands. It is told both: the
  simulator knows. A place between cells is a distribution over the nearest four, so that the mean
  of a map is right to a fraction of a cell.
- Weights start as in He et al. 2015. With 20,000 pictures and more the paper found no use in
  starting from ImageNet's (figure 6).
- ``norm`` puts a normalization behind each convolution; the paper has none.
- The error is measured in half widths of the workspace, so that it is of unit size. Adam moves
  weights alike whatever the loss is multiplied with.
- Batches of bfloat16 are for the convolutions: the head, whose output is to be right to a
  millimetre in a metre, is always of float32.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agents.config import from_json
from agents.state import StateError, check_like, load_state, save_state
from sim2real.jitter import jitter
from supervised.backbones import Backbone, create_backbone, norm_layer, start_for_relu
from supervised.fit import Batch, Fit, Precision, predict
from supervised.schedules import to_zero

Vector = Sequence[float]
CORNERS = 3.0  # weight of the corners' error beside the map's


@dataclass(frozen=True)
class LocaliserConfig:
    """Which network; sections and figures are the paper's."""

    backbone: str = "vgg16"  # a key of supervised.backbones.BACKBONES (section III-B)
    width: float = 1.0  # factor on the backbone's channels
    stage: int = -1  # of its maps, the one that the head reads; vgg16's last is behind a pool
    norm: Literal["none", "batch", "group"] = "none"  # behind each convolution
    size: int = 224  # of pictures (section III-B)
    hidden: tuple[int, ...] = (256, 64)  # fully connected layers (section III-B)
    head: Literal["paper", "map"] = "paper"  # what stands before those: nothing, or a MapHead

    def __post_init__(self) -> None:
        if self.norm not in ("none", "batch", "group"):
            raise ValueError(f"norm must be none, batch or group, not {self.norm!r}")
        if self.head not in ("paper", "map"):
            raise ValueError(f"head must be paper or map, not {self.head!r}")
        if self.head == "map" and self.stage == -1:  # whose next would be the first
            raise ValueError(
                "a map reads a stage and the next deeper one: stage cannot be the last"
            )
        if not 32 <= self.size <= 1024:
            raise ValueError(f"size must lie in 32 to 1024 pixels, not {self.size}")
        if not all(1 <= width <= 65_536 for width in self.hidden):
            raise ValueError(f"hidden must be positive widths, not {self.hidden}")

    @classmethod
    def paper(cls) -> "LocaliserConfig":
        """Section III-B."""
        return cls()

    @classmethod
    def cpu(cls) -> "LocaliserConfig":
        """What one core trains in half an hour."""
        return cls(width=0.25, stage=3, norm="group", size=112, head="map")

    @classmethod
    def small(cls) -> "LocaliserConfig":
        """What one core trains in seconds."""
        return cls("vgg11", width=0.125, stage=3, norm="group", size=32, hidden=(64, 32))


class Localiser(nn.Module):
    """Pictures uint8 [B, 3, S, S] -> positions [B, 3] in metres.

    Args:
        config: which network.
        low, high: corners of the workspace, in metres. Outputs may lie outside.

    """

    centre: Tensor
    reach: Tensor

    def __init__(self, config: LocaliserConfig, low: Vector, high: Vector) -> None:
        super().__init__()
        self.config = config
        self.backbone = _backbone(config)
        with torch.no_grad():
            blank = torch.zeros(1, 3, config.size, config.size)
            probe = self.backbone.eval()(blank)
        self.backbone.train()
        self.map = MapHead(*(m.shape[1] for m in probe)) if config.head == "map" else None
        width = probe[0].numel() if self.map is None else self.map.width
        widths = [width, *config.hidden]
        self.head = nn.Sequential(*_layers(widths), nn.Linear(widths[-1], 3))
        corners = np.array([low, high], dtype=np.float32)
        reach = (corners[1] - corners[0]) / 2
        if not (np.isfinite(corners).all() and (reach >= 0).all() and reach.any()):
            raise ValueError(f"low and high must be corners of a box, not {low} and {high}")
        # A side of no length, such as that of a height that never changes, has no unit of its own.
        self.register_buffer("reach", torch.tensor(reach.clip(0.1 * reach.max()).tolist()))
        self.register_buffer("centre", torch.tensor(corners.mean(0).tolist()))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # fast on CPUs

    def forward(self, pictures: Tensor) -> Tensor:
        """Positions [B, 3], in metres, of pictures uint8 [B, 3, S, S]."""
        return self.look(pictures)[0]

    def look(self, pictures: Tensor) -> tuple[Tensor, Tensor | None]:
        """Positions; and with a map its scores [B, 5, n, n]: of the object and the corners."""
        if pictures.dtype != torch.uint8 or pictures.shape[1:] != (3, *2 * (self.config.size,)):
            size = self.config.size
            what = f"{pictures.dtype} {tuple(pictures.shape)}"
            raise ValueError(f"pictures must be uint8 [B, 3, {size}, {size}], not {what}")
        x = pictures.contiguous(memory_format=torch.channels_last).float()
        maps = self.backbone((x - 127.5) / 64)
        features, scores = (maps[0], None) if self.map is None else self.map(*maps)
        with torch.autocast(features.device.type, enabled=False):
            return self.centre + self.reach * self.head(features.float().flatten(1)), scores

    def loss(self, estimates: Tensor, positions: Tensor) -> Tensor:
        """The mean square of the distance, in half widths of the workspace."""
        return ((estimates - positions) / self.reach).square().sum(1).mean()


class MapHead(nn.Module):
    """Where in the picture the object is, and where the corners of the workspace.

    A map [B, C, n, n] and the next deeper one [B, D, m, m], which has seen more around each place,
    become one of ``WIDTH`` channels, and that the scores [B, 5, n, n] of the five points. Their
    softmax is a distribution over the picture. A point's place is its mean near its peak: where
    two things look like the object, the mean of all of it would lie between them.
    """

    WIDTH = 64
    width = 10  # of the output

    def __init__(self, channels: int, deeper: int) -> None:
        super().__init__()
        self.fine = start_for_relu(nn.Conv2d(channels, self.WIDTH, 1))
        self.deep = start_for_relu(nn.Conv2d(deeper, self.WIDTH, 1))
        self.mix = start_for_relu(nn.Conv2d(self.WIDTH, self.WIDTH, 3, padding=1))
        self.score = nn.Conv2d(self.WIDTH, 5, 1)

    def forward(self, fine: Tensor, deep: Tensor) -> tuple[Tensor, Tensor]:
        """Places [B, width], from -1 to 1 across the picture; and the scores [B, 5, n, n]."""
        n = fine.shape[-1]
        around = F.interpolate(self.deep(deep), size=(n, n), mode="bilinear")
        mixed = self.mix((self.fine(fine) + around).relu()).relu()
        with torch.autocast(mixed.device.type, enabled=False):
            scores = self.score(mixed.float())
            return (2 * peaks(scores) - 1).flatten(1), scores


def peaks(scores: Tensor) -> Tensor:
    """Places [B, P, 2], right and down, from 0 to 1, of the highest of the scores [B, P, n, n].

    Between cells: the mean, under the scores' softmax, of the 3 x 3 cells around the highest.
    """
    n = scores.shape[-1]
    highest = scores.flatten(2).argmax(2)
    cells = torch.arange(n, device=scores.device)
    rows = (cells - (highest // n).unsqueeze(2)).abs() <= 1  # [B, P, n]
    columns = (cells - (highest % n).unsqueeze(2)).abs() <= 1
    near = rows.unsqueeze(3) & columns.unsqueeze(2)
    p = scores.masked_fill(~near, float("-inf")).flatten(2).softmax(2).view_as(scores)
    middles = (cells + 0.5) / n
    return torch.stack([(p.sum(2) * middles).sum(2), (p.sum(3) * middles).sum(2)], 2)


def guidance(scores: Tensor, places: Tensor) -> Tensor:
    """What a map is told: the cross-entropy of the scores [B, P, n, n] with the points' places.

    places [B, P, 2]: right and down, from 0 to 1 across the picture. What lies outside does not
    count. A place between the middles of four cells is a distribution over these, of which it is
    the mean.
    """
    n = scores.shape[-1]
    inside = ((places >= 0) & (places < 1)).all(2)
    # Tents around the middles of cells, one along each axis: [B, P, n].
    at = (places * n - 0.5).clamp(0, n - 1).unsqueeze(3) - torch.arange(n, device=places.device)
    across, down = (1 - at.abs()).clamp(min=0).unbind(2)
    target = (down.unsqueeze(3) * across.unsqueeze(2)).flatten(2)
    lost = -(target * scores.flatten(2).log_softmax(2)).sum(2)
    each = (lost * inside).sum(0) / inside.sum(0).clamp(min=1)
    return each[0] + each[1:].mean()


def _layers(widths: Sequence[int]) -> list[nn.Module]:
    """Fully connected layers, each with a ReLU."""
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(widths):
        layers += [start_for_relu(nn.Linear(n_in, n_out)), nn.ReLU()]
    return layers


def _backbone(config: LocaliserConfig) -> Backbone:
    """The convolutions up to the map that is read."""
    is_resnet = config.backbone.startswith("resnet")
    if is_resnet and config.norm == "none":
        raise ValueError("a residual network needs a norm: batch or group")
    backbone: Backbone = create_backbone(
        config.backbone,
        out_indices=[config.stage, config.stage + 1][: 1 + (config.head == "map")],
        width=config.width,
        norm="batch" if config.norm == "none" else config.norm,
    )
    if config.norm != "none" and not is_resnet:
        _add_norms(backbone, config.norm)
    return backbone


def _add_norms(module: nn.Module, norm: Literal["batch", "group"]) -> None:
    """A normalization behind every convolution inside ``module``, which had none."""
    for name, child in module.named_children():
        if isinstance(child, nn.Conv2d):
            normed = nn.Sequential(child, norm_layer(norm, child.out_channels))
            setattr(module, name, normed)
        else:
            _add_norms(child, norm)


# -- training --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FitConfig:
    """How a localiser is trained; sections are the paper's."""

    steps: int = 20_000  # gradient steps
    batch_size: int = 32  # pictures a step (section III-B: 25 to 100)
    learning_rate: float = 1e-3  # of Adam at the start (section III-B: 1e-4, 2e-4, without norms)
    decay: bool = True  # the rate falls in a straight line to zero (the paper's stays)
    guide: float = 1.0  # weight of what the map is told
    shift: int = 2  # pixels that pictures are jittered by (see ``jitter``; the paper: 0)
    colour: float = 0.3  # share that colours are jittered by (the paper: 0)
    shade: float = 0.7  # of the light, that blots of shadow take at most (the paper: 0)
    precision: Precision = "bfloat16"  # of the convolutions

    def __post_init__(self) -> None:
        if not (self.steps >= 1 and self.batch_size >= 1):
            raise ValueError(f"no steps or pictures: {self.steps}, {self.batch_size}")
        if not 0 < self.learning_rate < 1:
            raise ValueError(f"learning_rate must lie in (0, 1), not {self.learning_rate}")
        shares = (self.colour, self.shade)
        if not (min(self.guide, self.shift) >= 0 and all(0 <= share <= 1 for share in shares)):
            raise ValueError(
                "guide and shift must not be negative, colour and shade must lie in [0, 1], not "
                f"{self.guide}, {self.shift}, {self.colour}, {self.shade}"
            )


def new_fit(
    model: Localiser,
    pictures: Tensor,
    positions: Tensor,
    places: Tensor,
    config: FitConfig,
    seed: int = 0,
) -> Fit:
    """The training of ``model`` on pictures uint8 [N, 3, S, S] with positions [N, 3] in metres.

    places [N, 5, 2] is where in the picture the object and the workspace's corners are, from 0 to
    1; the paper's head does not learn from it.
    """

    def loss(_: nn.Module, batch: Batch) -> Tensor:
        estimates, seen = model.look(batch[0])
        distance = model.loss(estimates, batch[1])
        return distance if seen is None else distance + config.guide * guidance(seen, batch[2])

    return Fit(
        model,
        torch.optim.Adam(model.parameters(), config.learning_rate),
        loss,
        (pictures, positions, places),
        config.batch_size,
        seed,
        schedule=to_zero(config.steps) if config.decay else None,
        precision=config.precision,
        transform=partial(jitter, shift=config.shift, colour=config.colour, shade=config.shade),
    )


def estimate(model: Localiser, pictures: Tensor) -> Tensor:
    """Positions [N, 3], in metres, of pictures uint8 [N, 3, S, S]."""
    # ``predict`` gives outputs back on the device of its inputs, in the outputs' own type.
    return predict(model, pictures, 64)


# -- files -----------------------------------------------------------------------------------------


def save(model: Localiser, folder: Path) -> None:
    """Writes the network, so that ``load`` reads it back."""
    save_state(folder, {"localiser": asdict(model.config), "weights": model.state_dict()})


def load(folder: Path, device: str = "cpu") -> Localiser:
    """The network in a folder that ``save`` wrote; StateError if it is missing or damaged."""
    state = load_state(folder)
    try:
        config = from_json(LocaliserConfig, state["localiser"])
        with torch.device("meta"):  # claims no memory for what a file asks for
            template = Localiser(config, (0, 0, 0), (1, 1, 1)).state_dict()
        weights: dict[str, Any] = state["weights"]
        check_like(weights, template)
        model = Localiser(config, (0, 0, 0), (1, 1, 1))
        model.load_state_dict(weights)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise StateError(f"{folder} holds no localiser that fits: {error}") from None
    return model.to(device)
