"""The perceptron on a retina as in 1958, and its error correction on iris and digits."""

import math
from dataclasses import dataclass, replace
from statistics import mean

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from torch import Tensor

from runkit.papers.run import PaperRun

from supervised.data import load
from supervised.foundations.perceptron import (
    AssociationUnits,
    ErrorCorrection,
    PerceptronConfig,
    ReinforcedResponses,
    System,
    bars,
    create,
    expected_activity,
    expected_recall,
    mistake_bound,
)

DATASETS = ("retina", "iris", "digits")
SYSTEMS: tuple[System, ...] = ("alpha", "beta", "gamma")
Figures = dict[str, float | str | list[float]]


@dataclass(frozen=True)
class Options:
    """How large and how often."""

    association_units: int = 1000  # A-units of the machines of 1958
    trials: int = 8  # machines a point of a curve (retina), orders of the cases (iris)
    sweeps: int = 15  # of error correction through the digits

    def __post_init__(self) -> None:
        if self.association_units < 10 or self.trials < 1 or self.sweeps < 1:
            raise ValueError("association_units must be at least 10, trials and sweeps 1")


def run(run: PaperRun, options: Options) -> Figures:
    return {"retina": retina, "iris": iris, "digits": digits}[run.dataset](run, options)


def share(given: Tensor, wanted: Tensor) -> float:
    return (given == wanted).double().mean().item()


# -- the machines of 1958 ----------------------------------------------------------------------


def retina(run: PaperRun, options: Options) -> Figures:
    figure, panels = plt.subplots(1, 3, figsize=(12, 3.8), dpi=90, layout="constrained")
    figures = ideal(run, options, panels[0], panels[1]) | likeness(run, options, panels[2])
    figure.savefig(run.picture("retina"))
    plt.close(figure)
    return figures


def ideal(run: PaperRun, options: Options, fixed: Axes, variable: Axes) -> Figures:
    """Recall of stimuli without any likeness: as often for each response, and three times as often
    for one of them. The left curves have a theory.
    """
    units = options.association_units
    counts = (20, 50, 100, 200, 400)
    curves: dict[tuple[System, float], list[float]] = {}
    for system in SYSTEMS:
        config = PerceptronConfig(units, system=system)
        for unequal in (1, 3):
            curve = curves[system, unequal] = []
            for n in counts:
                fewer = round(2 * n / (1 + unequal))
                seeds = range(run.seed, run.seed + options.trials)
                curve.append(mean(recall(config, (fewer, 2 * n - fewer), s) for s in seeds))
                stage = f"{system} 1:{unequal}"
                run.log({"step": n, "stage": stage, "recall": curve[-1]})
    config = PerceptronConfig(units)
    activity = expected_activity(0.2, config)
    theory = [expected_recall(n, activity, config) for n in counts]
    for axes, unequal, title in (
        (fixed, 1, "both equally often"),
        (variable, 3, "one three times as often"),
    ):
        for system in SYSTEMS:
            axes.plot(counts, curves[system, unequal], marker=".", label=system)
        axes.set(ylim=(0.4, 1.02), xlabel="stimuli for each response (mean)", title=title)
        axes.semilogx()
        axes.set_xticks(counts, [str(n) for n in counts])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    fixed.plot(counts, theory, color="black", ls="--", label="Eq. 4")
    fixed.set_ylabel("P_r: right responses to known stimuli")
    fixed.legend()
    difference = max(abs(a - b) for a, b in zip(curves["gamma", 1], theory, strict=True))
    return {
        "recall_alpha": curves["alpha", 1],
        "recall_theory": theory,
        "largest_difference_gamma_to_theory": difference,
        **{f"recall_unequal_{system}": curves[system, 3][-1] for system in SYSTEMS},
    }


def recall(config: PerceptronConfig, counts: tuple[int, int], seed: int) -> float:
    """P_r, averaged over both responses, for random fifths of a large retina."""
    points, generator = 2000, torch.Generator().manual_seed(seed)
    units, responses = create(points, config, seed)
    order = torch.rand(sum(counts), points, generator=generator).argsort(1)
    active = units((order < 0.2 * points).float())
    classes = (torch.arange(sum(counts)) >= counts[0]).long()
    reinforce_all(responses, active, classes)
    given = responses.respond(active)
    return mean(share(given[classes == c], classes[classes == c]) for c in range(2))


def reinforce_all(responses: ReinforcedResponses, active: Tensor, classes: Tensor) -> None:
    for row, response in zip(active, classes.tolist(), strict=True):
        responses.reinforce(row, response)


def squares_and_circles(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """n squares (0) and circles (1), each lighting a fifth of a 20 x 20 retina, anywhere on it."""
    side, classes = 20, torch.arange(n) % 2
    half_edge, radius = math.sqrt(0.2) * side / 2, math.sqrt(0.2 / math.pi) * side
    centre = radius + (side - 2 * radius) * torch.rand(n, 2, generator=generator)
    place = torch.arange(side) + 0.5
    dy = (place - centre[:, :1]).abs()[:, :, None]
    dx = (place - centre[:, 1:]).abs()[:, None, :]
    square = torch.maximum(dx, dy) <= half_edge
    circle = dx.square() + dy.square() <= radius**2
    return square.where(classes[:, None, None] == 0, circle).flatten(1).float(), classes


def likeness(run: PaperRun, options: Options, axes: Axes) -> Figures:
    """P_g, generalization to new places: what the rules of 1958 see, and what error correction."""
    seeds = range(run.seed, run.seed + options.trials)
    scores: dict[str, list[float]] = {}
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        stimuli, classes = bars()
        order = torch.randperm(len(stimuli), generator=generator)
        tasks = {
            # Few bars exist: three quarters of their places are known, each seen 30 times.
            "bars": (stimuli[order], classes[order], 30, 30),
            "squares or circles": (*squares_and_circles(1500, generator), 1000, 1),
        }
        for name, (stimuli, classes, known, times) in tasks.items():
            config = PerceptronConfig(options.association_units, excitatory=5, threshold=3)
            active = AssociationUnits(400, config, seed)(stimuli)
            wanted = classes[known:]
            for system in SYSTEMS:
                responses = ReinforcedResponses(replace(config, system=system))
                for _ in range(times):
                    reinforce_all(responses, active[:known], classes[:known])
                score = share(responses.respond(active[known:]), wanted)
                scores.setdefault(f"{name}, {system}", []).append(score)
            corrected = ErrorCorrection(options.association_units, 2)
            for _ in range(10):
                corrected.sweep(active[:known], classes[:known])
            score = share(corrected.respond(active[known:]), wanted)
            scores.setdefault(f"{name}, error correction", []).append(score)
    figures = {name: mean(values) for name, values in scores.items()}
    labels = [*SYSTEMS, "error correction"]
    ticks = [*SYSTEMS, "error\ncorrection"]
    for k, name in enumerate(("bars", "squares or circles")):
        heights = [figures[f"{name}, {label}"] for label in labels]
        places = [place + 0.4 * k for place in range(len(labels))]
        axes.bar(places, heights, width=0.4, label=name)
    axes.axhline(0.5, color="grey", ls=":")
    axes.set_xticks([place + 0.2 for place in range(len(labels))], ticks)
    axes.set(ylim=(0.4, 1.2), title="P_g: right responses to new stimuli")
    axes.legend(loc="upper left", ncols=2)
    return {f"P_g {name}": value for name, value in figures.items()}


# -- the error-correction rule -----------------------------------------------------------------


def iris(run: PaperRun, options: Options) -> Figures:
    """Setosa against the others, in many orders: mistakes and Novikoff's bound."""
    splits = load("iris")
    inputs = torch.cat([splits.train.inputs, splits.test.inputs]).double()
    setosa = (torch.cat([splits.train.targets, splits.test.targets]) == 0).long()
    bound = mistake_bound(inputs, 2 * setosa - 1)
    mistakes, errors = [], []
    for seed in range(run.seed, run.seed + options.trials):
        order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(seed))
        machine = ErrorCorrection(inputs.shape[1], 2)
        sweeps = 1
        while machine.sweep(inputs[order], setosa[order]):
            sweeps += 1
        mistakes.append(float(machine.mistakes))
        errors.append(float((machine.respond(inputs) != setosa).sum()))
        run.log({"step": seed, "mistakes": mistakes[-1], "sweeps": sweeps, "errors": errors[-1]})
    draw_iris(run, machine, inputs, setosa, bound)
    return {"mistakes": mistakes, "bound": bound, "errors_after": max(errors)}


def draw_iris(
    run: PaperRun, machine: ErrorCorrection, inputs: Tensor, setosa: Tensor, bound: float
) -> None:
    """The cases along the weights, and how often each sum was."""
    figure, axes = plt.subplots(figsize=(6, 3.5), dpi=100, layout="constrained")
    sums = (inputs @ machine.weight[0] + machine.bias[0]).tolist()
    for kind, name in ((1, "setosa"), (0, "the others")):
        axes.hist(
            [s for s, k in zip(sums, setosa.tolist(), strict=True) if k == kind], 20, label=name
        )
    axes.axvline(0, color="black")
    title = f"{int(machine.mistakes)} corrections; never more than {bound:.0f}"
    axes.set(xlabel="w x + b", ylabel="flowers", title=title)
    axes.legend()
    figure.savefig(run.picture("iris"))
    plt.close(figure)


def digits(run: PaperRun, options: Options) -> Figures:
    """Ten classes: the rule on pixels beside scikit-learn's, and the machines on A-units."""
    from sklearn.linear_model import Perceptron  # takes a second to import

    splits = load("digits")
    pixels, unseen = (part.inputs.flatten(1).double() for part in (splits.train, splits.test))
    classes, wanted = splits.train.targets, splits.test.targets
    ours = ErrorCorrection(64, 10)
    for sweep in range(1, options.sweeps + 1):
        corrections = ours.sweep(pixels, classes)
        accuracy = share(ours.respond(unseen), wanted)
        run.log({"step": sweep, "corrections": corrections, "accuracy": accuracy})
    theirs = Perceptron(shuffle=False, tol=None, max_iter=options.sweeps)
    theirs.fit(pixels.numpy(), classes.numpy())
    figures: Figures = {
        "pixels": share(ours.respond(unseen), wanted),
        "pixels, scikit-learn": float(theirs.score(unseen.numpy(), wanted.numpy())),
    }
    sizes = [
        options.association_units // 10,
        options.association_units,
        4 * options.association_units,
    ]
    curves: dict[str, list[float]] = {name: [] for name in (*SYSTEMS, "error correction")}
    for size in sizes:
        config = PerceptronConfig(size, excitatory=6, inhibitory=6, threshold=2, responses=10)
        units = AssociationUnits(64, config, run.seed)
        active, new = units(pixels > 7), units(unseen > 7)
        for system in SYSTEMS:
            responses = ReinforcedResponses(replace(config, system=system))
            reinforce_all(responses, active, classes)
            curves[system].append(share(responses.respond(new), wanted))
        corrected = ErrorCorrection(size, 10)
        for _ in range(options.sweeps):
            corrected.sweep(active, classes)
        curves["error correction"].append(share(corrected.respond(new), wanted))
        run.say(f"{size} A-units: " + ", ".join(f"{k} {v[-1]:.3f}" for k, v in curves.items()))
    draw_digits(run, sizes, curves, ours)
    return figures | {f"A-units, {name}": curve for name, curve in curves.items()}


def draw_digits(
    run: PaperRun, sizes: list[int], curves: dict[str, list[float]], machine: ErrorCorrection
) -> None:
    figure = plt.figure(figsize=(10, 3.6), dpi=100, layout="constrained")
    grid = figure.add_gridspec(2, 10)
    axes = figure.add_subplot(grid[:, :4])
    for name, curve in curves.items():
        axes.plot(sizes, curve, marker=".", label=name)
    axes.set(xscale="log", xlabel="A-units", ylabel="test accuracy", ylim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend()
    for digit in range(10):
        place = figure.add_subplot(grid[digit // 5, 5 + digit % 5])
        weight = machine.weight[digit].reshape(8, 8)
        largest = weight.abs().max().item()
        place.imshow(weight, cmap="RdBu", vmin=-largest, vmax=largest)
        place.set_title(f"{digit}", fontsize=9)
        place.axis("off")
    figure.savefig(run.picture("digits"))
    plt.close(figure)
