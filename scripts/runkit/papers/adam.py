"""Figures 1, 2 and 4 of the paper: Adam against gradient descent with and without Nesterov's
momentum and AdaGrad on logistic regression and on a network of two layers of 1000 rectified linear
units, and what a variational autoencoder loses if the bias of the moments is not corrected.

As in the paper every optimizer gets the best of several rates, by its training cost at the end;
the cost in the pictures is that of the training set, without dropout. For logistic regression rates
fall with 1/sqrt(t) (section 6.1); AdaGrad's steps do so by themselves.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runkit.papers.flat import Flat, flat
from runkit.papers.run import PaperRun

from supervised.fit import Batch, Fit
from supervised.foundations.adam import Adam, AdaMax, AdamConfig

DATASETS = ("mnist", "digits")
Make = Callable[[nn.Module, float], torch.optim.Optimizer]
Figures = dict[str, float | str | list[float]]

OPTIMIZERS: dict[str, Make] = {
    "adam": lambda net, lr: Adam(net.parameters(), AdamConfig(lr=lr, average=True)),
    "adamax": lambda net, lr: AdaMax(net.parameters(), AdamConfig(lr=lr)),
    "sgd": lambda net, lr: torch.optim.SGD(net.parameters(), lr=lr),
    "nesterov": lambda net, lr: torch.optim.SGD(
        net.parameters(), lr=lr, momentum=0.9, nesterov=True
    ),
    "adagrad": lambda net, lr: torch.optim.Adagrad(net.parameters(), lr=lr),
}
RATES: dict[
    str, dict[str, tuple[float, ...]]
] = {  # tried for each optimizer; logistic: alpha in alpha / sqrt(t)
    "logistic": {
        "adam": (0.1, 0.3, 1.0),
        "adamax": (0.3, 1.0, 3.0),
        "sgd": (10.0, 30.0, 100.0),
        "nesterov": (3.0, 10.0, 30.0),
        "adagrad": (0.1, 0.3, 1.0),
    },
    "mlp": {
        "adam": (1e-4, 3e-4, 1e-3, 3e-3),
        "adamax": (1e-3, 2e-3, 4e-3, 8e-3),
        "sgd": (0.1, 0.3, 1.0),
        "nesterov": (0.01, 0.03, 0.1, 0.3),
        "adagrad": (0.003, 0.01, 0.03, 0.1),
    },
}
COST_EXAMPLES = 10_000  # of the training set, on which costs are measured


@dataclass(frozen=True)
class Options:
    """Adam's experiments."""

    figure: Literal["logistic", "mlp", "bias"] = "logistic"  # figure 1, 2 or 4
    epochs: int = 20  # of each training
    batch_size: int = 128  # (sections 6.1 and 6.2)
    width: int = 1000  # hidden units of each of the network's two layers (section 6.2)
    dropout: float = 0.5  # share of the hidden units left out (figure 2a); 0: none
    latent: int = 50  # dimensions of the autoencoder's code (section 6.4)
    hidden: int = 500  # softplus units of its encoder and decoder (section 6.4)

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch_size, self.width, self.latent, self.hidden) < 1:
            raise ValueError("epochs, batch_size, width, latent and hidden must be positive")
        if not 0 <= self.dropout < 1:
            raise ValueError("dropout must be in [0, 1)")


def run(run: PaperRun, options: Options) -> Figures:
    train, test = flat(run.dataset, run.device, binary=options.figure == "bias")
    if options.figure == "bias":
        return bias_correction(run, options, train)
    return comparison(run, options, train, test)


# -- figures 1 and 2 -----------------------------------------------------------------------------


def comparison(run: PaperRun, options: Options, train: Flat, test: Flat) -> Figures:
    figures: Figures = {}
    curves: dict[str, list[dict[str, Any]]] = {}
    rates = RATES[options.figure]
    for name in OPTIMIZERS:
        tried = {lr: curve(run, options, train, test, name, lr) for lr in rates[name]}
        best = min(tried, key=lambda lr: tried[lr][-1]["cost"])
        last = tried[best][-1]
        curves[f"{name}, rate {best:g}"] = tried[best]
        figures |= {f"{name}_rate": best, f"{name}_cost": last["cost"]}
        figures |= {f"{name}_costs": [row["cost"] for row in tried[best]]}
        figures[f"{name}_test_error"] = last["test_error"]
        if name == "adam":
            figures["adam_averaged_test_error"] = last["averaged_test_error"]
    model = "logistic regression"
    if options.figure == "mlp":
        model = f"network with dropout of {options.dropout:g}" if options.dropout else "network"
    draw_curves(curves, f"{model}, {run.dataset}, batches of {options.batch_size}", run)
    return figures


def curve(
    run: PaperRun, options: Options, train: Flat, test: Flat, name: str, lr: float
) -> list[dict[str, Any]]:
    """The rows of one optimizer's training at one rate, one an epoch."""
    torch.manual_seed(run.seed)
    logistic = options.figure == "logistic"
    net = logistic_regression(train) if logistic else network(train, options)
    net.to(run.device)
    optimizer = OPTIMIZERS[name](net, lr)
    decays = logistic and name != "adagrad"
    fit = Fit(
        net,
        optimizer,
        classification,
        train.batch,
        options.batch_size,
        seed=run.seed,
        schedule=inverse_root if decays else None,
    )

    def evaluate() -> dict[str, float]:
        figures = {"cost": train.cost(net, COST_EXAMPLES), "test_error": test.error(net)}
        if isinstance(optimizer, Adam):
            with optimizer.averaged():
                figures["averaged_test_error"] = test.error(net)
        return figures

    steps = options.epochs * fit.steps_per_epoch
    return run.train(fit, steps, evaluate, fit.steps_per_epoch, f"{name}-{lr:g}")


def logistic_regression(data: Flat) -> nn.Module:
    """Section 6.1; it starts at 0: the problem is convex."""
    layer = nn.Linear(data.pixels, int(data.targets.max()) + 1)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def network(data: Flat, options: Options) -> nn.Module:
    """Section 6.2: two hidden layers of rectified linear units."""
    width, noise = options.width, nn.Dropout(options.dropout)
    layers = [nn.Linear(data.pixels, width), nn.Linear(width, width)]
    for layer in layers:
        nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
    output = nn.Linear(width, int(data.targets.max()) + 1)
    return nn.Sequential(layers[0], nn.ReLU(), noise, layers[1], nn.ReLU(), noise, output)


def classification(net: nn.Module, batch: Batch) -> Tensor:
    inputs, targets = batch
    return F.cross_entropy(net(inputs), targets)


def inverse_root(step: int) -> float:
    """alpha_t / alpha = 1 / sqrt(t), t from 1 (section 6.1)."""
    return 1 / math.sqrt(step + 1)


def draw_curves(curves: dict[str, list[dict[str, Any]]], title: str, run: PaperRun) -> None:
    figure, axes = plt.subplots(figsize=(6.4, 4), dpi=110)
    for label, rows in curves.items():
        axes.plot([row["epoch"] for row in rows], [row["cost"] for row in rows], ".-", label=label)
    axes.set(xlabel="epochs", ylabel="training cost, nats", yscale="log", title=title)
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    figure.tight_layout()
    figure.savefig(run.picture("adam"))
    plt.close(figure)


# -- figure 4 ------------------------------------------------------------------------------------

BETA1, BETA2 = (0.0, 0.9), (0.99, 0.999, 0.9999)  # the grid of figure 4
ALPHA = (1e-5, 1e-4, 1e-3, 1e-2)  # figure 4 goes on to 0.1, where nothing learns


class Autoencoder(nn.Module):
    """Section 6.4's variational autoencoder: pixels [B, D] -> minus its bound on log p(x) [B]."""

    def __init__(self, pixels: int, hidden: int, latent: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(pixels, hidden), nn.Softplus())
        self.mean, self.log_variance = nn.Linear(hidden, latent), nn.Linear(hidden, latent)
        self.decoder = nn.Sequential(
            nn.Linear(latent, hidden), nn.Softplus(), nn.Linear(hidden, pixels)
        )

    def forward(self, x: Tensor) -> Tensor:
        h = self.encoder(x)
        mean, log_variance = self.mean(h), self.log_variance(h)
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1)
        cost = F.binary_cross_entropy_with_logits(self.decoder(z), x, reduction="none").sum(-1)
        bound: Tensor = divergence + cost
        return bound


DIVERGED = 1e4  # nats; answering 1/2 for every pixel costs 543


def autoencoding(net: nn.Module, batch: Batch) -> Tensor:
    """The mean cost, or where it is above DIVERGED that number, from which no gradient comes:
    large steps overflow, and the comparison has to go on.
    """
    cost: Tensor = net(batch[0]).mean()
    return cost.nan_to_num(DIVERGED, DIVERGED, DIVERGED).clamp(max=DIVERGED)


def bias_correction(run: PaperRun, options: Options, train: Flat) -> Figures:
    """The cost after training with and without correction over figure 4's grid."""
    costs: dict[tuple[bool, float, float], list[float]] = {}
    for correct in (True, False):
        for beta1 in BETA1:
            for beta2 in BETA2:
                costs[correct, beta1, beta2] = [
                    autoencoder_cost(
                        run, options, train, AdamConfig(lr, beta1, beta2, 1e-8, correct)
                    )
                    for lr in ALPHA
                ]
    draw_grid(costs, run)
    names = {True: "corrected", False: "uncorrected"}
    figures: Figures = {
        f"{names[correct]}_beta1_{beta1:g}_beta2_{beta2:g}": values
        for (correct, beta1, beta2), values in costs.items()
    }
    for correct, name in names.items():
        slow = [costs[correct, beta1, BETA2[-1]] for beta1 in BETA1]
        figures[f"{name}_best_at_beta2_0.9999"] = min(min(values) for values in slow)
    return figures


def autoencoder_cost(run: PaperRun, options: Options, train: Flat, config: AdamConfig) -> float:
    """Mean training cost of the last epoch, at most DIVERGED."""
    torch.manual_seed(run.seed)
    net = Autoencoder(train.pixels, options.hidden, options.latent).to(run.device)
    optimizer = Adam(net.parameters(), config)
    fit = Fit(net, optimizer, autoencoding, train.batch, options.batch_size, seed=run.seed)
    name = f"{'corrected' if config.correct_bias else 'uncorrected'}"
    name += f"-{config.beta1:g}-{config.beta2:g}-{config.lr:g}"
    steps = options.epochs * fit.steps_per_epoch
    rows = run.train(fit, steps, dict, fit.steps_per_epoch, name)
    return float(rows[-1]["loss"])


def draw_grid(costs: dict[tuple[bool, float, float], list[float]], run: PaperRun) -> None:
    figure, axes = plt.subplots(
        len(BETA1), len(BETA2), figsize=(9, 5.2), dpi=100, sharex=True, sharey=True
    )
    for (correct, beta1, beta2), values in costs.items():
        panel = axes[BETA1.index(beta1)][BETA2.index(beta2)]
        style, label = ("C0.-", "corrected") if correct else ("C3.--", "uncorrected")
        panel.plot(ALPHA, values, style, label=label)
        panel.set(xscale="log", title=f"β1 = {beta1:g}, β2 = {beta2:g}")
        panel.grid(alpha=0.3)
    finite = [value for values in costs.values() for value in values if value < DIVERGED / 10]
    if finite:
        axes[0][0].set_ylim(0.95 * min(finite), 1.05 * max(finite))
    for panel in axes[-1]:
        panel.set_xlabel("α")
    for row in axes:
        row[0].set_ylabel("-bound, nats")
    axes[0][0].legend()
    figure.tight_layout()
    figure.savefig(run.picture("adam_bias"))
    plt.close(figure)
