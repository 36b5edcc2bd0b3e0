"""VGG in small on small pictures: depth, a start from network A, scale jitter, dense evaluation.

The picture shows test pictures side by side as one, and where in that the network finds each class:
its class score map, of which the paper's dense evaluation takes the mean.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from runkit.papers.run import PaperRun

from supervised.augment import PCAColour, random_flip, resize, scale_jitter
from supervised.data import Dataset, load
from supervised.fit import Batch, Fit, predict
from supervised.schedules import step_decay
from supervised.vision.vgg import (
    VGG,
    class_posteriors,
    create,
    multi_scale,
    score_map,
    start_from,
)

DATASETS = ("simulator_classes", "cifar10", "digits")
STRIDE = 32  # pixels between two places of the score map
SAMPLE = 1_000  # test pictures that are looked at after each epoch; all of them are at the end


@dataclass(frozen=True)
class Options:
    """The flags; sections are the paper's."""

    network: Literal["A", "A-LRN", "B", "C", "D", "E"] = "D"  # column of table 1
    from_a: bool = True  # train A first, and start from its layers (section 3.1)
    width: float = 1 / 8  # factor on all channels
    epochs: int = 74  # passes over the training set, of each network (the paper's)
    batch_size: int = 64  # pictures a step (the paper: 256)
    optimizer: Literal["adam", "sgd"] = "adam"  # sgd: the paper's, with momentum 0.9
    learning_rate: float = 1e-3  # divided by 10 at 60 and 85% (the paper: 0.01, when it stalls)
    weight_decay: float = 5e-4  # (the paper's)
    start: Literal["gaussian", "glorot", "he"] = "he"  # of weights that are not A's
    jitter: bool = True  # S from 256/224 to 384/224 of the crop's side, or 256/224 only
    examples: int = 0  # training pictures; 0: all that are there

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch_size) < 1 or self.examples < 0:
            raise ValueError("epochs and batch_size must be positive and examples not negative")
        if not self.learning_rate > 0 or not self.weight_decay >= 0:
            raise ValueError("learning_rate must be positive and weight_decay not negative")


class Pictures:
    """A data set as the network sees it: unit floats less the mean colour of the training set."""

    def __init__(self, train: Dataset) -> None:
        self.side = max(32, train.inputs.shape[-1])  # of a crop; digits are enlarged
        self.largest = 255 if train.inputs.dtype == torch.uint8 else 16  # of a pixel
        self.mean = torch.zeros(train.inputs.shape[1], 1, 1)
        pictures = self(train)
        self.mean = pictures.mean((0, 2, 3))[:, None, None]
        self.colour = PCAColour(pictures[:5_000]) if pictures.shape[1] == 3 else None
        self.scales = round(self.side * 256 / 224), round(self.side * 384 / 224)

    def __call__(self, data: Dataset) -> Tensor:
        return resize(data.inputs.float() / self.largest, self.side) - self.mean

    def augment(self, jitter: bool) -> Callable[[Batch, Generator], Batch]:
        """Section 3.1: a crop at a random scale, mirrored or not, in light of another colour."""
        low, high = self.scales

        def transform(batch: Batch, generator: Generator) -> Batch:
            inputs, *others = batch
            crops = scale_jitter(inputs, low, high if jitter else low, self.side, generator)
            crops = random_flip(crops, generator)
            return (self.colour(crops, generator) if self.colour else crops, *others)

        return transform


def run(run: PaperRun, options: Options) -> dict[str, float | str | list[float]]:
    """Trains and tests; accuracies in per cent."""
    splits = load(run.dataset)
    train = splits.train.take(slice(0, options.examples or len(splits.train)))
    pictures = Pictures(train)
    inputs, test = pictures(train), pictures(splits.test)
    targets = splits.test.targets
    # Section 4.1: at a fixed scale Q = S, and with jitter Q in the middle of its range.
    low, high = pictures.scales
    middle = (low + high) // 2 if options.jitter else low
    crops = centre(resize(test, middle), pictures.side)
    shallow: VGG | None = None
    figures: dict[str, float | str | list[float]] = {"training_pictures": float(len(inputs))}
    names = ["A", options.network] if options.from_a and options.network != "A" else []
    for name in names or [options.network]:
        model = create(
            name,
            size=pictures.side,
            classes=len(train.classes),
            width=options.width,
            start=options.start,
            in_chans=inputs.shape[1],
        )
        if shallow is not None:
            start_from(model, shallow)
        model = model.to(run.device)
        fit = make_fit(model, (inputs, train.targets), options, pictures, run.seed)

        def evaluate(model: nn.Module = model) -> dict[str, float]:
            return {"test_accuracy": accuracy(predict(model, crops[:SAMPLE]), targets[:SAMPLE])}

        every = fit.steps_per_epoch
        run.train(fit, options.epochs * every, evaluate, every, name)
        figures[f"{name}_centre_crop"] = accuracy(predict(model, crops), targets)
        shallow = model
    model = model.eval()
    figures["dense"] = accuracy(
        in_parts(lambda x: class_posteriors(model, resize(x, middle)), test, run.device), targets
    )
    scales = (low, middle, high) if options.jitter else (low, round(1.1 * low))
    figures["dense_multi_scale"] = accuracy(
        in_parts(lambda x: multi_scale(model, x, scales), test, run.device), targets
    )
    figures["parameters"] = float(sum(p.numel() for p in model.parameters()))
    draw(run, model, test, splits.test, pictures, middle)
    return figures


def make_fit(model: nn.Module, data: Batch, options: Options, pictures: Pictures, seed: int) -> Fit:
    parameters, rate, decay = model.parameters(), options.learning_rate, options.weight_decay
    optimizer: torch.optim.Optimizer = (
        torch.optim.SGD(parameters, rate, momentum=0.9, weight_decay=decay)
        if options.optimizer == "sgd"
        else torch.optim.AdamW(parameters, rate, weight_decay=decay)
    )
    steps = options.epochs * -(-len(data[0]) // options.batch_size)
    return Fit(
        model,
        optimizer,
        lambda model, batch: F.cross_entropy(model(batch[0]), batch[1]),
        data,
        options.batch_size,
        seed,
        schedule=step_decay(steps, (0.6, 0.85)),
        transform=pictures.augment(options.jitter),
    )


def centre(pictures: Tensor, side: int) -> Tensor:
    top, left = ((size - side) // 2 for size in pictures.shape[-2:])
    return pictures[..., top : top + side, left : left + side].contiguous()


@torch.no_grad()
def in_parts(what: Callable[[Tensor], Tensor], inputs: Tensor, device: str) -> Tensor:
    return torch.cat([what(part.to(device)).cpu() for part in inputs.split(100)])


def accuracy(scores: Tensor, targets: Tensor) -> float:
    return 100 * (scores.argmax(1) == targets).double().mean().item()


@torch.no_grad()
def draw(
    run: PaperRun, model: VGG, test: Tensor, data: Dataset, pictures: Pictures, scale: int
) -> None:
    """A picture of each class, side by side in two rows, and where in that each class is found."""
    numbers = range(len(data.classes))
    columns = -(-len(numbers) // 2)
    side = STRIDE * -(-scale // STRIDE)  # so that windows lie alike in all of them
    tiles = test.new_zeros(2 * columns, test.shape[1], side, side)
    for i in numbers:
        tiles[i] = resize(test[data.targets == i][:1], side)[0]
    rows = tiles.unflatten(0, (2, columns)).permute(2, 0, 3, 1, 4)  # [C, 2, side, columns, side]
    mosaic = rows.reshape(test.shape[1], 2 * side, columns * side)
    found = score_map(model, mosaic[None].to(run.device)).softmax(1)[0].cpu()
    figure = plt.figure(figsize=(1.6 * columns, 5.0), layout="constrained")
    grid = figure.add_gridspec(2, 1, height_ratios=[2, 1])
    above, below = figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])
    axis = above.subplots()
    axis.imshow((mosaic + pictures.mean).clamp(0, 1).movedim(0, 2).numpy(), cmap="gray")
    axis.set(xticks=[], yticks=[])
    axes = below.subplots(2, columns, squeeze=False).flatten()
    for axis in axes:
        axis.axis("off")
    for i, axis in zip(numbers, axes, strict=False):
        axis.imshow(found[i].numpy(), cmap="magma", vmin=0, vmax=1)
        axis.set_title(data.classes[i], fontsize=9)
    figure.savefig(run.picture("vgg"), dpi=75)
    plt.close(figure)
