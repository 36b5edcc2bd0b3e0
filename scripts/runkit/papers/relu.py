"""Section 4.1 of the paper: rectifiers against tanh and softplus units on the digits, how sparse
the rectifiers are, and what pretraining with denoising autoencoders adds.

Every arm is trained for the same number of steps at the same rate (the paper chooses rates on a
validation set); the error is that of the last step, not of the best. The picture: test errors
while training, and what share of each hidden layer is exactly 0 for the test digits.
"""

from dataclasses import dataclass, replace
from typing import Any, cast

import matplotlib.pyplot as plt
import torch
from matplotlib.ticker import LogLocator
from torch import Tensor, nn

from runkit.papers.flat import Flat, flat
from runkit.papers.run import PaperRun

from supervised.fit import Batch, Fit, Precision
from supervised.foundations.relu import (
    Activation,
    DenoisingAutoencoder,
    RectifierNet,
    ReLUConfig,
    corrupt,
    sparsity,
    supervised_loss,
)
from supervised.schedules import to_zero

DATASETS = ("mnist", "digits")


@dataclass(frozen=True)
class Options:
    """The rectifiers' experiment."""

    activations: tuple[Activation, ...] = ("rectifier", "tanh", "softplus")  # arms (table 1)
    pretrain_epochs: int = 0  # of denoising for each layer, before; 0: none
    epochs: int = 30  # of supervised training
    width: int = 1000  # hidden units a layer (section 4.1)
    layers: int = 3  # hidden layers (section 4.1)
    batch_size: int = 50  # examples a step; the paper: 10 (section 4.1)
    learning_rate: float = 0.3  # of plain gradient descent; it falls in a line to 0
    pretrain_learning_rate: float = 0.005  # of denoising
    l1: float = 1e-4  # weight of the rectifiers' L1 penalty; the paper: 1e-3 (section 4.1)
    precision: Precision = "float32"  # bfloat16: half the time on some CPUs

    def __post_init__(self) -> None:
        if min(self.epochs, self.width, self.layers, self.batch_size) < 1 or not self.activations:
            raise ValueError("epochs, width, layers and batch_size must be positive, with an arm")
        rates = (self.learning_rate, self.pretrain_learning_rate)
        if self.pretrain_epochs < 0 or min(rates) <= 0:
            raise ValueError("rates must be positive and pretrain_epochs not negative")


def run(run: PaperRun, options: Options) -> dict[str, float | str | list[float]]:
    train, test = flat(run.dataset, run.device)
    figures: dict[str, float | str | list[float]] = {}
    arms: dict[str, list[dict[str, Any]]] = {}
    for name in options.activations:
        rows = arms[name] = arm(run, options, train, test, name)
        zeros = [rows[-1][f"zeros_{i}"] for i in range(options.layers)]
        figures[f"{name}_test_error"] = rows[-1]["test_error"]
        figures[f"{name}_zeros_percent"] = sum(zeros) / len(zeros)
        figures[f"{name}_zeros_percent_by_layer"] = zeros
    draw(arms, run, options)
    return figures


def arm(
    run: PaperRun, options: Options, train: Flat, test: Flat, name: Activation
) -> list[dict[str, Any]]:
    """The rows of one network's training, one an epoch."""
    torch.manual_seed(run.seed)
    config = replace(
        ReLUConfig.paper(name), inputs=train.pixels, hidden=(options.width,) * options.layers
    )
    if name == "rectifier":
        config = replace(config, l1=options.l1)
    net = RectifierNet(config).to(run.device)
    for depth in range(options.layers if options.pretrain_epochs else 0):
        pretrain(run, options, net, train, depth)
    optimizer = torch.optim.SGD(net.parameters(), options.learning_rate)
    steps = options.epochs * -(-len(train.targets) // options.batch_size)
    fit = Fit(
        net,
        optimizer,
        loss,
        train.batch,
        options.batch_size,
        seed=run.seed,
        schedule=to_zero(steps),
        precision=options.precision,
    )

    def evaluate() -> dict[str, float]:
        with torch.no_grad():
            shares = sparsity(net.codes(test.inputs))
        figures = {f"zeros_{i}": 100 * share for i, share in enumerate(shares)}
        return {"test_error": test.error(net), **figures}

    return run.train(fit, steps, evaluate, fit.steps_per_epoch, name)


def loss(net: nn.Module, batch: Batch) -> Tensor:
    inputs, targets = batch
    return supervised_loss(cast(RectifierNet, net), inputs, targets)


def pretrain(run: PaperRun, options: Options, net: RectifierNet, train: Flat, depth: int) -> None:
    """Section 3.2: one layer learns to restore the codes of the layers below it."""
    with torch.no_grad():
        below = train.inputs if depth == 0 else net.codes(train.inputs, depth)[-1]
    autoencoder = DenoisingAutoencoder(net, depth, scale=below.abs().max().item()).to(run.device)
    fit = Fit(
        autoencoder,
        torch.optim.SGD(autoencoder.parameters(), options.pretrain_learning_rate),
        denoising,
        (below,),
        options.batch_size,
        seed=run.seed,
        precision=options.precision,
        transform=lambda batch, generator: (
            corrupt(batch[0], net.config.corruption, generator),
            batch[0],
        ),
    )
    steps = options.pretrain_epochs * fit.steps_per_epoch
    run.train(fit, steps, dict, fit.steps_per_epoch, f"{net.config.activation}-layer{depth}")


def denoising(model: nn.Module, batch: Batch) -> Tensor:
    corrupted, clean = batch
    return cast(DenoisingAutoencoder, model).loss(corrupted, clean)


def draw(arms: dict[str, list[dict[str, Any]]], run: PaperRun, options: Options) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), dpi=110)
    for name, rows in arms.items():
        left.plot([row["epoch"] for row in rows], [row["test_error"] for row in rows], label=name)
    left.set(xlabel="epochs", ylabel="test error, %", yscale="log")
    left.set_title(f"{options.layers} x {options.width} units, {run.dataset}")
    left.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    left.yaxis.set_major_formatter("{x:g}")
    left.minorticks_off()
    left.legend()
    width = 0.8 / len(arms)
    for i, rows in enumerate(arms.values()):
        shares = [rows[-1][f"zeros_{layer}"] for layer in range(options.layers)]
        places = [layer + 1 + (i - (len(arms) - 1) / 2) * width for layer in range(options.layers)]
        right.bar_label(right.bar(places, shares, width), fmt="%.0f")
    right.set(xlabel="hidden layer", ylabel="activations exactly 0, %", ylim=(0, 105))
    right.set_xticks(range(1, options.layers + 1))
    right.set_title("sparsity")
    figure.tight_layout()
    figure.savefig(run.picture("relu"))
    plt.close(figure)
