"""U-Net on the ISBI-2012 membranes, and on masks of the simulator's objects.

The membranes as in the paper: one tile a step, momentum 0.99, weights of eq. 2, elastic
deformations and every reflection and quarter turn; then the challenge's errors on the last 6 of
its 30 labelled slices (those of its test have no public labels). ``--border-weight 0`` is the
ablation of eq. 2's second term.
"""

from collections.abc import Callable
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image
from torch import Generator, Tensor, nn

from runkit.papers.run import PaperRun

from supervised.augment import elastic_deformation
from supervised.data import Dataset, load
from supervised.fit import Batch, Fit, Precision
from supervised.schedules import to_zero
from supervised.vision.membranes import (
    dice_error,
    mean_iou,
    pixel_error,
    rand_error,
    warping_error,
)
from supervised.vision.separation import class_weights, number_cells, weight_map
from supervised.vision.unet import UNet, UNetConfig, mirror, segment, weighted_cross_entropy

DATASETS = ("isbi2012", "simulator_masks")
THRESHOLDS = tuple(i / 10 for i in range(1, 10))  # of the cells' probability


@dataclass(frozen=True)
class Options:
    """Network, loss and training. "paper" is what the paper has, where that differs."""

    width: int = 16  # channels of the first level (paper: 64)
    depth: int = 4  # poolings
    dropout: float = 0.5  # rate at the end of the contracting path
    balance: bool = True  # w_c of eq. 2, which makes rare classes weigh as much; no: w_c = 1
    border_weight: float = 10.0  # w_0 of eq. 2; 0: gaps between cells are as any background
    border_sigma: float = 5.0  # sigma of eq. 2, in pixels
    elastic: float = 10.0  # sigma of the displacements, in pixels (paper: 10); 0: none
    tile: int = 256  # pixels of an output tile's side at least (paper: 388)
    batch_size: int = 1  # tiles a step
    steps: int = 8_000  # steps in all; the learning rate falls to 0 in a straight line
    learning_rate: float = 1e-3  # at the start (the paper does not give its own)
    momentum: float = 0.99  # of the gradient descent
    precision: Precision = "float32"  # bfloat16: faster on some CPUs
    eval_every: int = 500  # steps between two looks at the test set
    ensemble: bool = True  # judge the mean over all reflections and quarter turns (paper: 7 turns)

    def __post_init__(self) -> None:
        for name in ["tile", "batch_size", "steps", "eval_every"]:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")
        for name in ["border_weight", "elastic", "learning_rate"]:
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, as {getattr(self, name)} is")
        if not self.border_sigma > 0:
            raise ValueError(f"border_sigma must be positive, not {self.border_sigma}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must lie in [0, 1), not {self.momentum}")
        UNetConfig(width=self.width, depth=self.depth, dropout=self.dropout)


def run(run: PaperRun, options: Options) -> dict[str, float | str | list[float]]:
    splits = load(run.dataset)
    train, test = splits.train, splits.test
    n_classes = len(train.classes)
    config = UNetConfig(
        train.inputs.shape[1], n_classes, options.width, options.depth, options.dropout
    )
    model = UNet(config).to(run.device)
    balance = class_weights(train.targets, n_classes) if options.balance else torch.ones(n_classes)
    run.say("weighing the gaps between cells …")
    weights = gap_weights(train.targets, balance, options.border_weight, options.border_sigma)
    fit = Fit(
        model,
        torch.optim.SGD(model.parameters(), options.learning_rate, options.momentum),
        loss,
        (train.inputs, train.targets, weights),
        options.batch_size,
        run.seed,
        schedule=to_zero(options.steps),
        precision=options.precision,
        transform=tiles(config, options, turns=run.dataset == "isbi2012"),
    )
    few = test.take(slice(0, 100))
    judge = judge_membranes if run.dataset == "isbi2012" else judge_masks
    run.train(
        fit, options.steps, lambda: judge(probabilities(model, few, False), few), options.eval_every
    )
    p = probabilities(model, test, options.ensemble and run.dataset == "isbi2012")
    figures: dict[str, float | str | list[float]] = dict(judge(p, test, final=True))
    figures["gap_error"] = gap_error(p.argmax(1), test.targets)
    figures["parameters"] = sum(parameter.numel() for parameter in model.parameters())
    draw(run, test, p.argmax(1))
    return figures


# -- training ------------------------------------------------------------------------------------


def scaled(pictures: Tensor) -> Tensor:
    """Numbers of mean 0 and deviation 1, about: what the starting weights keep as large."""
    return pictures.float() / 64 - 2


def gap_weights(labels: Tensor, balance: Tensor, w0: float, sigma: float) -> Tensor:
    """Eq. 2 for each of the masks [N, H, W]."""
    return torch.stack(
        [weight_map(mask, number_cells(mask), balance, w0, sigma) for mask in labels]
    )


def loss(model: nn.Module, batch: Batch) -> Tensor:
    pictures, labels, weights = batch
    return weighted_cross_entropy(model(pictures).float(), labels, weights)


def tiles(config: UNetConfig, options: Options, turns: bool) -> Callable[[Batch, Generator], Batch]:
    """Pictures, labels and weights -> deformed and reflected tiles of them, anywhere in them.

    ``turns``: by quarter turns too, which is fair where nothing has an upper side.
    """

    def transform(batch: Batch, generator: Generator) -> Batch:
        pictures, labels, weights = batch
        # The weights are one more channel, so that they move with the pixels.
        maps = torch.cat([scaled(pictures), weights[:, None]], 1)
        if options.elastic:
            maps, moved = elastic_deformation(maps, generator, labels, options.elastic)
            assert moved is not None
            labels = moved
        if torch.rand((), generator=generator) < 0.5:
            maps, labels = maps.flip(-1), labels.flip(-1)
        if turns:
            k = int(torch.randint(4, (), generator=generator))
            maps, labels = maps.rot90(k, (-2, -1)), labels.rot90(k, (-2, -1))
        height, width = labels.shape[-2:]
        h, w = (config.output_size(min(options.tile, n)) for n in (height, width))
        beyond = max(h - height, 0), max(w - width, 0)
        top, left = (
            int(torch.randint(max(n - out, 0) + 1, (), generator=generator))
            for n, out in ((height, h), (width, w))
        )
        m = config.margin
        x = mirror(maps, m, m + beyond[0], m, m + beyond[1])
        x = x[..., top : top + h + 2 * m, left : left + w + 2 * m]
        y = mirror(labels, 0, beyond[0], 0, beyond[1])[..., top : top + h, left : left + w]
        return x[:, :-1], y, x[:, -1, m : m + h, m : m + w]

    return transform


# -- judging -------------------------------------------------------------------------------------


def probabilities(model: UNet, dataset: Dataset, ensemble: bool) -> Tensor:
    """p_k of all pictures [N, K, H, W]; the mean over their eight reflected and turned versions
    if they are to be.
    """
    device = next(model.parameters()).device
    parts = []
    for pictures in dataset.inputs.split(1 if dataset.inputs.shape[-1] > 256 else 50):
        x = scaled(pictures).to(device)
        total = torch.zeros(())
        for k in range(4) if ensemble else (0,):
            for flip in (False, True) if ensemble else (False,):
                seen = x.rot90(k, (2, 3)).flip(3) if flip else x.rot90(k, (2, 3))
                p = segment(model, seen, tile=256).softmax(1).cpu()
                total = total + (p.flip(3) if flip else p).rot90(-k, (2, 3))
        parts.append(total / (8 if ensemble else 1))
    return torch.cat(parts)


def judge_membranes(p: Tensor, dataset: Dataset, final: bool = False) -> dict[str, float]:
    """The challenge's errors, each at the threshold where its mean over the slices is smallest, and
    the share of wrong pixels.
    """
    errors: dict[str, Callable[[Tensor, Tensor, float], float]] = {
        "pixel_error": lambda cell, truth, t: pixel_error(cell > t, truth),
        "dice_error": lambda cell, truth, t: dice_error(cell > t, truth),
        "rand_error": lambda cell, truth, t: rand_error(cell > t, truth),
    }
    thresholds: tuple[float, ...] = (0.5,)
    if final:
        errors["warping_error"] = warping_error
        thresholds = THRESHOLDS
    slices = list(zip(p[:, 1], dataset.targets, strict=True))
    figures = {}
    for name, error in errors.items():
        by_threshold = {
            t: float(np.mean([error(cell, truth, t) for cell, truth in slices])) for t in thresholds
        }
        best = min(by_threshold, key=by_threshold.__getitem__)
        figures[name] = by_threshold[best]
        if final:
            figures[f"{name}_threshold"] = best
            figures[f"{name}_at_half"] = by_threshold[0.5]
    if final:
        everywhere = torch.ones_like(dataset.targets)
        figures["pixel_error_all_cell"] = pixel_error(everywhere, dataset.targets)
        figures["dice_error_all_cell"] = dice_error(everywhere, dataset.targets)
    return figures


def judge_masks(p: Tensor, dataset: Dataset, final: bool = False) -> dict[str, float]:
    """Mean intersection over union of all classes, with the background; the share of wrong pixels;
    in the end also each class' intersection over union.
    """
    predicted, n = p.argmax(1), len(dataset.classes)
    figures = {
        "mean_iou": mean_iou(predicted, dataset.targets, n),
        "pixel_error": pixel_error(predicted, dataset.targets),
    }
    for i, name in enumerate(dataset.classes if final else ()):
        masks = (predicted == i, dataset.targets == i)
        figures[f"iou_{name}"] = float((masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum())
    return figures


def gap_error(predicted: Tensor, labels: Tensor) -> float:
    """The share of wrong pixels in the gaps: background whose second term of eq. 2 exceeds 1, with
    the paper's constants.
    """
    nothing = torch.zeros(int(labels.max()) + 1)
    gaps = gap_weights(labels, nothing, 10.0, 5.0) > 1
    return pixel_error(predicted[gaps], labels[gaps])


def draw(run: PaperRun, dataset: Dataset, predicted: Tensor) -> None:
    """Input, truth and prediction, side by side."""
    rows = min(2 if dataset.inputs.shape[-1] > 256 else 4, len(dataset))
    figure, axes = plt.subplots(rows, 3, figsize=(7.2, 2.4 * rows), squeeze=False)
    for i, row in enumerate(axes):
        row[0].imshow(dataset.inputs[i].movedim(0, -1).squeeze(-1).numpy(), cmap="gray")
        for axis, mask in zip(row[1:], (dataset.targets[i], predicted[i]), strict=True):
            colours = "gray" if len(dataset.classes) == 2 else "tab10"
            axis.imshow(mask.numpy(), cmap=colours, vmin=0, vmax=len(dataset.classes) - 1)
    for axis, title in zip(axes[0], ("input", "truth", "prediction"), strict=True):
        axis.set_title(title)
    for axis in axes.flat:
        axis.set_axis_off()
    figure.tight_layout()
    path = run.picture("segmentations")
    figure.savefig(path, dpi=80)
    plt.close(figure)
    # 128 colours do, and make the file of a noisy picture a third as large.
    with Image.open(path) as drawn:
        drawn.convert("RGB").quantize(128).save(path, optimize=True)
