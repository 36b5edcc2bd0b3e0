"""Weight decay: the linear theory and its simulation, diabetes, and a network that reads digits."""

from dataclasses import dataclass, replace
from statistics import mean

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from runkit.papers.run import PaperRun

from supervised.data import load
from supervised.fit import Fit, predict
from supervised.foundations.weight_decay import (
    HiddenLayer,
    WeightDecayConfig,
    best_decay,
    create,
    generalization_error,
    half_squares,
    limit_error,
    linear_task,
    minimizer,
)

DATASETS = ("linear", "diabetes", "digits")
Figures = dict[str, float | str | list[float]]


@dataclass(frozen=True)
class Options:
    """Noise, sizes and how often."""

    weights: int = 100  # N of the linear network
    weight_variance: float = 1.0  # of the teacher's weights
    noise_variance: float = 0.25  # on the targets
    trials: int = 30  # teachers or splits a point
    steps: int = 1500  # of each network that reads digits
    wrong_labels: float = 0.2  # part of the digits' labels that are drawn at random
    seeds: int = 3  # networks a point for digits

    def __post_init__(self) -> None:
        if min(self.weights, self.trials, self.steps, self.seeds) < 1:
            raise ValueError("weights, trials, steps and seeds must be at least 1")
        if not (self.weight_variance > 0 and self.noise_variance > 0):
            raise ValueError("weight_variance and noise_variance must be positive")
        if not 0 <= self.wrong_labels <= 1:
            raise ValueError(f"wrong_labels must lie in [0, 1], not {self.wrong_labels}")


def run(run: PaperRun, options: Options) -> Figures:
    return {"linear": linear, "diabetes": diabetes, "digits": digits}[run.dataset](run, options)


# -- the linear network ------------------------------------------------------------------------


def linear(run: PaperRun, options: Options) -> Figures:
    """F over lambda for three loads, and over the load with and without decay: points on lines."""
    variances = options.weight_variance, options.noise_variance
    best = best_decay(*variances)
    decays = [best * 10 ** (k / 4) for k in range(-8, 9)]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), dpi=90, layout="constrained")
    figures: Figures = {"best_decay_theory": best}
    for colour, load_ in enumerate((0.5, 1.0, 2.0)):
        points = [simulate(run, options, load_, decay) for decay in decays]
        lines = [limit_error(decay, load_, *variances) for decay in decays]
        left.plot(decays, lines, color=f"C{colour}", label=f"p / N = {load_:g}")
        left.plot(decays, points, "o", color=f"C{colour}", ms=4)
        for decay, point, line in zip(decays, points, lines, strict=True):
            row = {"step": round(load_ * 100), "stage": "decay", "decay": decay}
            run.log(row | {"simulated": point, "theory": line})
        figures[f"best_decay_simulated_{load_:g}"] = decays[points.index(min(points))]
        gap = max(abs(a / b - 1) for a, b in zip(points, lines, strict=True))
        figures[f"largest_relative_difference_{load_:g}"] = gap
    left.axvline(best, color="grey", ls=":", label="noise / weight variance")
    left.set(xscale="log", yscale="log", xlabel="lambda", ylabel="generalization error F")
    left.legend()
    loads = [0.2 * k for k in range(1, 16)]
    for decay, name in ((best * 1e-3, "hardly any decay"), (best, "the best decay")):
        lines = [limit_error(decay, load_, *variances) for load_ in loads]
        points = [simulate(run, options, load_, decay) for load_ in loads]
        (line,) = right.plot(loads, lines, label=name)
        right.plot(loads, points, "o", ms=4, color=line.get_color())
        figures[f"F_at_load_1, {name}"] = points[4]
    right.set(yscale="log", xlabel="p / N: examples for each weight")
    right.legend()
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.suptitle("The linear network: theory (lines) and simulation (points)")
    figure.savefig(run.picture("linear"))
    plt.close(figure)
    return figures


def simulate(run: PaperRun, options: Options, load_: float, decay: float) -> float:
    """F of Eq. 1's minimum, averaged over teachers, examples and noise."""
    total, n = 0.0, options.weights
    variances = options.weight_variance, options.noise_variance
    for trial in range(options.trials):
        seed = 1000 * run.seed + trial
        teacher, inputs, targets = linear_task(n, round(load_ * n), *variances, seed)
        total += generalization_error(minimizer(inputs, targets, decay), teacher)
    return total / options.trials


def diabetes(run: PaperRun, options: Options) -> Figures:
    """Few patients, and columns of noise beside the ten real ones: test error over lambda."""
    from sklearn.linear_model import Ridge  # takes a second to import

    splits = load("diabetes")
    mean_, scale = splits.train.inputs.mean(0), splits.train.inputs.std(0)
    train, test = (((part.inputs - mean_) / scale).double() for part in (splits.train, splits.test))
    centre = splits.train.targets.double().mean()
    targets, wanted = (part.targets.double() - centre for part in (splits.train, splits.test))
    decays = [10 ** (k / 3) for k in range(-9, 13)]
    generator = torch.Generator().manual_seed(run.seed)
    errors = torch.zeros(len(decays), dtype=torch.float64)
    difference = 0.0
    for _ in range(options.trials):
        rows = torch.randperm(len(train), generator=generator)[:30]
        noise = torch.randn(len(train) + len(test), 10, generator=generator, dtype=torch.float64)
        known = torch.cat([train[rows], noise[rows]], 1)
        unseen = torch.cat([test, noise[len(train) :]], 1)
        for k, decay in enumerate(decays):
            w = minimizer(known, targets[rows], decay)
            errors[k] += (unseen @ w - wanted).square().mean().sqrt() / options.trials
            theirs = Ridge(alpha=decay, fit_intercept=False, solver="cholesky")
            theirs.fit(known.numpy(), targets[rows].numpy())
            difference = max(difference, (w - torch.tensor(theirs.coef_)).abs().max().item())
    for decay, error in zip(decays, errors.tolist(), strict=True):
        run.log({"step": 30, "decay": decay, "rmse": error})
    figure, axes = plt.subplots(figsize=(6, 3.8), dpi=100, layout="constrained")
    axes.plot(decays, errors, marker=".")
    axes.axhline(wanted.square().mean().sqrt().item(), color="grey", ls=":", label="the mean")
    axes.set(
        xscale="log", xlabel="lambda", ylabel="test error (RMSE)", title="diabetes, 30 patients"
    )
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(run.picture("diabetes"))
    plt.close(figure)
    foot = int(errors.argmin())
    return {
        "rmse_least_decay": errors[0].item(),
        "rmse_best_decay": errors[foot].item(),
        "rmse_most_decay": errors[-1].item(),
        "best_decay": decays[foot],
        "largest_difference_to_ridge": difference,
    }


# -- the non-linear network --------------------------------------------------------------------


def digits(run: PaperRun, options: Options) -> Figures:
    """Test error over lambda with 300 examples, and over the examples with and without decay."""
    decays = (0.0, 0.3, 1.0, 3.0, 10.0, 30.0)
    over_decay = {decay: train(run, options, 300, decay) for decay in decays}
    best = min(over_decay, key=lambda decay: over_decay[decay])
    sizes = (100, 200, 300, 600, 1200)
    over_size = {
        decay: [over_decay[decay] if n == 300 else train(run, options, n, decay) for n in sizes]
        for decay in (0.0, best)
    }
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), dpi=90, layout="constrained")
    left.plot(range(len(decays)), [100 * over_decay[decay] for decay in decays], marker=".")
    left.set_xticks(range(len(decays)), [f"{decay:g}" for decay in decays])
    left.set(xlabel="lambda", ylabel="test error (%)", title="300 examples")
    for decay, errors in over_size.items():
        right.plot(sizes, [100 * e for e in errors], marker=".", label=f"lambda = {decay:g}")
    right.set(xscale="log", xlabel="examples", title="with and without decay")
    right.legend()
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.savefig(run.picture("digits"))
    plt.close(figure)
    return {
        "decays": list(decays),
        "error_over_decay": list(over_decay.values()),
        "best_decay": best,
        "sizes": [float(n) for n in sizes],
        "error_without": over_size[0.0],
        "error_with": over_size[best],
    }


def train(run: PaperRun, options: Options, examples: int, decay: float) -> float:
    """Test error of networks that saw so many digits, some with a wrong label; their mean."""
    splits = load("digits")
    inputs, unseen = (part.inputs.flatten(1) / 16 for part in (splits.train, splits.test))
    # Eq. 1's E_0 is a sum over the examples; Fit's is their mean, and so is all the rest.
    decay /= examples
    config = replace(WeightDecayConfig.paper(), decay=decay, learning_rate=0.1, momentum=0.9)
    errors = []
    for seed in range(options.seeds):
        generator = torch.Generator().manual_seed(1000 * run.seed + seed)
        rows = torch.randperm(len(inputs), generator=generator)[:examples]
        given = splits.train.targets[rows].clone()
        wrong = round(options.wrong_labels * examples)
        given[:wrong] = torch.randint(10, (wrong,), generator=generator)
        targets = torch.nn.functional.one_hot(given, 10).float()
        torch.manual_seed(1000 * run.seed + seed)
        model = HiddenLayer(64, 10, config).to(run.device)
        data = (inputs[rows].to(run.device), targets.to(run.device))
        optimizer = create(model.parameters(), config)
        fit = Fit(model, optimizer, half_squares, data, batch_size=examples, seed=seed)

        def evaluate(model: HiddenLayer = model) -> dict[str, float]:
            output = predict(model, unseen.to(run.device), len(unseen)).cpu()
            return {"test_error": share_wrong(output, splits.test.targets)}

        name = f"{examples}-{examples * decay:g}-{seed}"
        rows_of_run = run.train(fit, options.steps, evaluate, options.steps // 5 or 1, name)
        errors.append(float(rows_of_run[-1]["test_error"]))
    return mean(errors)


def share_wrong(output: Tensor, classes: Tensor) -> float:
    return (output.argmax(1) != classes).double().mean().item()
