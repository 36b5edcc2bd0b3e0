"""Section 6.1.1 and 7.5 of the paper: a network of rectified linear units with and without dropout
and the max-norm constraint, and how many sampled networks it takes to beat scaled weights.

The arms have the same size, batches, schedule and number of steps, and each the start and the rate
that suit it; the error is that of the last step, not of the best. The picture is figure 4, errors
while training, beside figure 11.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from torch import Tensor, nn

from runkit.papers.flat import Flat, flat
from runkit.papers.run import PaperRun

from supervised.fit import Batch, Fit, Precision
from supervised.foundations.dropout import DropoutConfig, DropoutNet, monte_carlo
from supervised.schedules import to_zero

DATASETS = ("mnist", "digits")
REPEATS = 5  # of figure 11's averages, for their spread


@dataclass(frozen=True)
class Options:
    """Dropout's experiment."""

    epochs: int = 120  # the paper: 1,000,000 steps
    batch_size: int = 128  # examples a step
    width: int = 1024  # hidden units a layer (table 2)
    layers: int = 3  # hidden layers (table 2)
    noise: Literal["bernoulli", "gaussian"] = "bernoulli"  # gaussian: section 10
    max_norm: float = 2.0  # c (appendix B.1); 0: no constraint
    std: float = 0.01  # of dropout's first weights; 0: He et al.'s, as those of the other arm
    learning_rate: float = 0.1  # at the start; it falls in a line to 0
    plain_learning_rate: float = 0.03  # of the network without dropout
    momentum: float = 0.95  # (appendix A.2)
    precision: Precision = "float32"  # bfloat16: faster on some CPUs
    samples: int = 60  # networks averaged in figure 11; 0: leave it out

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch_size, self.width, self.layers) < 1:
            raise ValueError("epochs, batch_size, width and layers must be positive")
        if min(self.learning_rate, self.plain_learning_rate) <= 0 or not 0 <= self.momentum < 1:
            raise ValueError("rates must be positive and the momentum in [0, 1)")
        if min(self.std, self.max_norm, self.samples) < 0:
            raise ValueError("std, max_norm and samples must not be negative")


def run(run: PaperRun, options: Options) -> dict[str, float | str | list[float]]:
    train, test = flat(run.dataset, run.device)
    dropout = DropoutConfig(
        train.pixels,
        (options.width,) * options.layers,
        noise=options.noise,
        max_norm=options.max_norm or None,
        std=options.std or None,
    )
    plain = replace(dropout, noise="none", max_norm=None, std=None)
    _, without = arm(run, options, plain, options.plain_learning_rate, train, test, "plain")
    net, with_it = arm(run, options, dropout, options.learning_rate, train, test, "dropout")
    averages = averaging(net, test, options.samples)
    draw(without, with_it, averages, run, options)
    error, plain_error = with_it[-1]["test_error"], without[-1]["test_error"]
    figures: dict[str, float | str | list[float]] = {
        "plain_test_error": plain_error,
        "dropout_test_error": error,
        "lowered_by_percent": 100 * (1 - error / plain_error),
        "plain_train_error": without[-1]["train_error"],
        "dropout_train_error": with_it[-1]["train_error"],
    }
    if options.samples:
        figures["monte_carlo_test_error"] = averages[:, -1].mean().item()
        figures["monte_carlo_errors"] = averages.mean(0).tolist()
    return figures


def arm(
    run: PaperRun,
    options: Options,
    config: DropoutConfig,
    learning_rate: float,
    train: Flat,
    test: Flat,
    name: str,
) -> tuple[DropoutNet, list[dict[str, Any]]]:
    """A trained network and the rows of its training, one an epoch."""
    torch.manual_seed(run.seed)
    net = DropoutNet(config).to(run.device)
    optimizer = torch.optim.SGD(net.parameters(), learning_rate, options.momentum)
    optimizer.register_step_post_hook(lambda *_: net.constrain())
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
    sample = Flat(train.inputs[:10_000], train.targets[:10_000])

    def evaluate() -> dict[str, float]:
        return {"test_error": test.error(net), "train_error": sample.error(net)}

    return net, run.train(fit, steps, evaluate, fit.steps_per_epoch, name)


def loss(net: nn.Module, batch: Batch) -> Tensor:
    inputs, targets = batch
    return F.cross_entropy(net(inputs), targets)


def averaging(net: DropoutNet, test: Flat, samples: int) -> Tensor:
    """Figure 11: test errors in percent [REPEATS, samples] of averages over 1, 2, … networks."""
    wrong = torch.zeros(REPEATS, samples, dtype=torch.float64)
    if samples == 0:
        return wrong
    parts = zip(test.inputs.split(500), test.targets.split(500), strict=True)
    for inputs, targets in parts:
        for repeat in range(REPEATS):
            classes = monte_carlo(net, inputs, samples).argmax(-1)
            wrong[repeat] += (classes != targets).sum(-1).cpu()
    return 100 * wrong / len(test.targets)


def draw(
    without: list[dict[str, Any]],
    with_it: list[dict[str, Any]],
    averages: Tensor,
    run: PaperRun,
    options: Options,
) -> None:
    """Errors by epochs and, if there are any, figure 11's averages beside them."""
    panels = 2 if options.samples else 1
    figure, grid = plt.subplots(1, panels, figsize=(5 * panels, 3.8), dpi=110, squeeze=False)
    axes = grid[0, 0]
    for rows, label, colour in ((without, "without", "C3"), (with_it, "with dropout", "C0")):
        epochs = [row["epoch"] for row in rows]
        axes.plot(epochs, [row["test_error"] for row in rows], colour, label=f"{label}, test")
        axes.plot(
            epochs, [row["train_error"] for row in rows], f"{colour}:", label=f"{label}, training"
        )
    axes.set(title=f"{options.layers} x {options.width} ReLUs, {run.dataset}", xlabel="epochs")
    axes.set_ylabel("error, %")
    axes.set_ylim(0, 2 * max(rows[-1]["test_error"] for rows in (without, with_it)))
    axes.legend()
    if options.samples:
        draw_averages(grid[0, 1], averages, with_it[-1]["test_error"])
    figure.tight_layout()
    figure.savefig(run.picture("dropout"))
    plt.close(figure)


def draw_averages(axes: Axes, averages: Tensor, scaled: float) -> None:
    """Figure 11: errors of averages [REPEATS, samples] beside that with scaled weights."""
    counts, mean, std = range(1, averages.shape[1] + 1), averages.mean(0), averages.std(0)
    axes.fill_between(counts, mean - std, mean + std, alpha=0.25, lw=0)
    axes.plot(counts, mean, label=f"average over k networks, ±1 std of {REPEATS}")
    axes.axhline(scaled, color="k", ls="--", label="scaled weights")
    axes.set(title="Monte Carlo", xlabel="sampled networks k", ylabel="test error, %")
    axes.legend()
