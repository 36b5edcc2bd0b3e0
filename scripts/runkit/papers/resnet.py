"""Plain and residual networks on CIFAR-10: figure 6 of He et al. 2015, degradation and its cure.

The picture shows training error (thin) and test error (thick) of each network over the steps. A
deeper plain network ends above a shallower one in both; a deeper residual network ends below.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from runkit.papers.run import PaperRun

from supervised.augment import random_crop, random_flip
from supervised.data import load
from supervised.fit import Batch, Fit, Precision, predict
from supervised.vision.resnet import ResNetConfig, create, schedule

DATASETS = ("cifar10", "digits")
SAMPLE = 2_000  # pictures that are looked at after each epoch; all of them are at the end


@dataclass(frozen=True)
class Options:
    """The flags; "the paper" is its section 4.2."""

    networks: tuple[str, ...] = ("plain20", "resnet20", "plain56", "resnet56")  # trained in turn
    epochs: int = 30  # passes over the training set (the paper: 182, of 45,000 pictures)
    batch_size: int = 128  # examples a step (the paper's)
    learning_rate: float = 0.1  # divided by 10 at half and three quarters (the paper's)
    warm_up: int = 0  # steps with a tenth of the rate first (the paper: 400 for resnet110)
    weight_decay: float = 1e-4  # (the paper's)
    width: float = 1.0  # factor on all channels
    examples: int = 0  # training pictures; 0: all that are there
    precision: Precision = "float32"  # bfloat16: half the time on some CPUs

    def __post_init__(self) -> None:
        if not self.networks:
            raise ValueError("networks must name at least one, such as resnet20")
        for name in self.networks:
            ResNetConfig.named(name, width=self.width)
        if min(self.epochs, self.batch_size) < 1:
            raise ValueError("epochs and batch_size must be positive")
        if min(self.warm_up, self.examples) < 0:
            raise ValueError("warm_up and examples must not be negative")
        if not self.learning_rate > 0 or not self.weight_decay >= 0:
            raise ValueError("learning_rate must be positive and weight_decay not negative")


def run(run: PaperRun, options: Options) -> dict[str, float | str | list[float]]:
    """Trains each network; errors in per cent."""
    splits = load(run.dataset)
    train = splits.train.take(slice(0, options.examples or len(splits.train)))
    largest = 255 if train.inputs.dtype == torch.uint8 else 16  # of a pixel
    # "The network inputs are … images, with the per-pixel mean subtracted."
    inputs, test = (part.inputs.float() / largest for part in (train, splits.test))
    mean = inputs.mean(0)
    inputs, test = inputs - mean, test - mean
    side, classes = inputs.shape[-1], len(train.classes)
    size = {"in_chans": inputs.shape[1], "classes": classes, "width": options.width}
    curves: dict[str, list[dict[str, Any]]] = {}
    figures: dict[str, float | str | list[float]] = {"training_pictures": float(len(inputs))}
    for name in options.networks:
        model = create(name, **size).to(run.device)
        fit = make_fit(model, (inputs, train.targets), options, side, run.seed)

        def evaluate(model: nn.Module = model) -> dict[str, float]:
            return {
                "test_error": error(model, test[:SAMPLE], splits.test.targets[:SAMPLE]),
                # Of pictures as they are; those that it learns from are cropped and mirrored.
                "train_error": error(model, inputs[:SAMPLE], train.targets[:SAMPLE]),
            }

        every = fit.steps_per_epoch
        curves[name] = run.train(fit, options.epochs * every, evaluate, every, name)
        figures[f"{name}_test_error"] = error(model, test, splits.test.targets)
        figures[f"{name}_train_error"] = error(model, inputs, train.targets)
        figures[f"{name}_parameters"] = float(sum(p.numel() for p in model.parameters()))
    draw(run, curves, f"{run.dataset}, {len(inputs):,} training pictures")
    return figures


def make_fit(model: nn.Module, data: Batch, options: Options, side: int, seed: int) -> Fit:
    """Section 4.2's training."""
    optimizer = torch.optim.SGD(
        model.parameters(), options.learning_rate, 0.9, weight_decay=options.weight_decay
    )
    steps = options.epochs * -(-len(data[0]) // options.batch_size)
    return Fit(
        model,
        optimizer,
        cross_entropy,
        data,
        options.batch_size,
        seed,
        schedule=schedule(steps, options.warm_up),
        precision=options.precision,
        transform=augment(side) if side >= 32 else None,
    )


def augment(side: int) -> Callable[[Batch, Generator], Batch]:
    """'4 pixels are padded on each side, and a crop is randomly sampled from the padded image or
    its horizontal flip.'
    """

    def transform(batch: Batch, generator: Generator) -> Batch:
        inputs, *others = batch
        cropped = random_crop(random_flip(inputs, generator), side, generator, margin=4)
        return (cropped, *others)

    return transform


def cross_entropy(model: nn.Module, batch: Batch) -> Tensor:
    return F.cross_entropy(model(batch[0]).float(), batch[1])


def error(model: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    """Per cent of wrong answers."""
    return 100 * (predict(model, inputs).argmax(1) != targets).double().mean().item()


def draw(run: PaperRun, curves: dict[str, list[dict[str, Any]]], title: str) -> None:
    """Figure 6: plain networks on the left, residual ones on the right."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
    colours: dict[str, str] = {}
    for name, rows in curves.items():
        depth = name.lstrip("abcdefghijklmnopqrstuvwxyz")
        colour = colours.setdefault(depth, f"C{len(colours)}")
        axis = axes[0 if name.startswith("plain") else 1]
        steps = [row["step"] for row in rows]
        axis.plot(steps, [row["test_error"] for row in rows], colour, lw=2, label=f"{name}, test")
        train = [row["train_error"] for row in rows]
        axis.plot(steps, train, colour, lw=0.8, ls="--", label=f"{name}, training")
    for axis, kind in zip(axes, ("plain networks", "residual networks"), strict=True):
        axis.set(title=kind, xlabel="steps", ylim=(0, None))
        axis.grid(alpha=0.3)
        if axis.lines:
            axis.legend(fontsize=8)
    axes[0].set_ylabel("error in %")
    figure.suptitle(title, fontsize=10)
    figure.savefig(run.picture("resnet"), dpi=110)
    plt.close(figure)
