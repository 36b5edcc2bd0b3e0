"""Section 4.1 of the paper: a deep sigmoid network with and without batch normalization.

Both start from the same weights and see the same batches at the same rate. What counts is after
how many steps the normalized one is as good as the plain one ever gets, and after how many either
reads 95% of the test set. The picture is figure 1: accuracies, and for a unit of the last hidden
layer the 15th, 50th and 85th percentile of its sigmoid's input over the test set.
"""

from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runkit.papers.flat import Flat, flat
from runkit.papers.run import PaperRun

from supervised.fit import Batch, Fit
from supervised.foundations.batch_norm import BatchNormConfig, SigmoidNet, estimate_population

DATASETS = ("mnist", "digits")
PERCENTILES = (15, 50, 85)  # figure 1
UNIT = 0  # of the last hidden layer: any is as good


@dataclass(frozen=True)
class Options:
    """Batch normalization's experiment."""

    steps: int = 50_000  # (section 4.1)
    batch_size: int = 60  # (section 4.1)
    learning_rate: float = 0.1  # of plain gradient descent; the paper does not give it
    weight_std: float = 0.05  # of the initial Gaussian weights; the paper does not give it
    eval_every: int = 100  # steps between two looks at the test set

    def __post_init__(self) -> None:
        if min(self.steps, self.batch_size, self.eval_every) < 1 or self.learning_rate <= 0:
            raise ValueError("steps, batch_size, eval_every and learning_rate must be positive")


def run(run: PaperRun, options: Options) -> dict[str, float | str | list[float]]:
    train, test = flat(run.dataset, run.device, binary=True)
    arms = {name: arm(run, options, train, test, name) for name in ("plain", "normalized")}
    plain, normalized = arms["plain"], arms["normalized"]
    draw(plain, normalized, run, options)
    best = max(row["accuracy"] for row in plain)
    figures: dict[str, float | str | list[float]] = {
        "plain_accuracy": plain[-1]["accuracy"],
        "normalized_accuracy": normalized[-1]["accuracy"],
        "normalized_accuracy_population": normalized[-1]["accuracy_population"],
        "best_plain_accuracy": best,
    }
    for label, level in (("95", 95.0), ("best_plain", best)):
        for name, rows in arms.items():
            figures[f"{name}_steps_to_{label}"] = steps_to(rows, level)
        ratio = steps_to(normalized, level) / steps_to(plain, level)
        figures[f"ratio_of_steps_to_{label}"] = ratio
    return figures


def arm(
    run: PaperRun, options: Options, train: Flat, test: Flat, name: str
) -> list[dict[str, Any]]:
    """The rows of one network's training."""
    torch.manual_seed(run.seed)
    config = BatchNormConfig(
        inputs=train.pixels, normalize=name == "normalized", weight_std=options.weight_std
    )
    net = SigmoidNet(config).to(run.device)
    optimizer = torch.optim.SGD(net.parameters(), lr=options.learning_rate)
    fit = Fit(net, optimizer, loss, train.batch, options.batch_size, seed=run.seed)

    def evaluate() -> dict[str, float]:
        net.eval()
        with torch.no_grad():
            inputs = net.preactivations(test.inputs)[-1][:, UNIT]
        low, middle, high = inputs.quantile(torch.tensor(PERCENTILES, device=run.device) / 100)
        figures = {"accuracy": 100 - test.error(net)}
        figures |= {"p15": low.item(), "p50": middle.item(), "p85": high.item()}
        if config.normalize and fit.step == options.steps:
            # Algorithm 2's statistics; the training is over, and the moving ones come back.
            kept = {key: value.clone() for key, value in net.state_dict().items()}
            estimate_population(net, train.inputs.split(options.batch_size)[:200])
            figures["accuracy_population"] = 100 - test.error(net)
            net.load_state_dict(kept)
        return figures

    return run.train(fit, options.steps, evaluate, options.eval_every, name)


def loss(net: nn.Module, batch: Batch) -> Tensor:
    inputs, targets = batch
    return F.cross_entropy(net(inputs), targets)


def steps_to(rows: list[dict[str, Any]], accuracy: float) -> float:
    """Steps of the first look at which the accuracy was reached; infinite if never."""
    return next((float(row["step"]) for row in rows if row["accuracy"] >= accuracy), float("inf"))


def draw(
    plain: list[dict[str, Any]], normalized: list[dict[str, Any]], run: PaperRun, options: Options
) -> None:
    """Figure 1: accuracies, and the percentiles of the unit's input in both networks."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(11, 3.4), dpi=110)
    for rows, label, colour in ((plain, "without BN", "C3"), (normalized, "with BN", "C0")):
        steps = [row["step"] for row in rows]
        left.plot(steps, [row["accuracy"] for row in rows], color=colour, label=label)
        axes = middle if rows is plain else right
        for key, style in (("p15", ":"), ("p50", "-"), ("p85", ":")):
            axes.plot(steps, [row[key] for row in rows], style, color=colour, lw=1)
        axes.set(title=f"{label}: input of a sigmoid", xlabel="steps", xscale="log")
    left.axhline(95, color="grey", lw=0.6)
    left.set(title=f"test accuracy, {run.dataset}", xlabel="steps", ylabel="%", xscale="log")
    left.legend(loc="lower right")
    middle.set_ylabel("15th, 50th, 85th percentile")
    bounds = [axes.get_ylim() for axes in (middle, right)]
    for axes in (middle, right):
        axes.set_ylim(min(low for low, _ in bounds), max(high for _, high in bounds))
    figure.suptitle(
        f"3 x 100 sigmoid units, batches of {options.batch_size}, rate {options.learning_rate:g}"
    )
    figure.tight_layout()
    figure.savefig(run.picture("batch_norm"))
    plt.close(figure)
