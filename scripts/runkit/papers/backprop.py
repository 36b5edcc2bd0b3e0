"""Back-propagation's two tasks, symmetry and family trees, and scikit-learn's digits."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import mean, median
from typing import Any, Literal

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor

from runkit.papers.run import PaperRun

from supervised.data import load
from supervised.foundations.backprop import (
    BIAS,
    ENGLISH,
    ITALIAN,
    BackpropConfig,
    Network,
    create,
    family_cases,
    symmetry_cases,
)

DATASETS = ("symmetry", "family_trees", "digits")


@dataclass(frozen=True)
class Options:
    """What is trained, and how often."""

    networks: int = 20  # networks with seeds counted up from --seed
    sweeps: int = 0  # sweeps of each; 0: the paper's (6,000 for symmetry, which then stops)
    recipe: Literal["paper", "larger"] = "larger"  # family trees: larger first weights and steps

    def __post_init__(self) -> None:
        if self.networks < 1 or self.sweeps < 0:
            raise ValueError("networks must be at least 1 and sweeps at least 0")


def run(run: PaperRun, options: Options) -> dict[str, float | str | list[float]]:
    return {"symmetry": symmetry, "family_trees": family_trees, "digits": digits}[run.dataset](
        run, options
    )


# -- Fig. 1 ------------------------------------------------------------------------------------


def symmetry(run: PaperRun, options: Options) -> dict[str, float | str | list[float]]:
    """Sweeps until all 64 rows are on the right side of 0.5, and the weights a while later."""
    rows, symmetric = symmetry_cases()
    limit = options.sweeps or 6000
    solved: dict[int, tuple[int, Network]] = {}
    for seed in range(run.seed, run.seed + options.networks):
        network = create(seed=seed)
        for sweep in range(1, limit + 1):
            error = network.sweep([rows], symmetric)
            if sweep % 200 == 0:
                run.log({"step": sweep, "stage": str(seed), "error": error})
            if seed not in solved and right(network, [rows], symmetric).all():
                solved[seed] = (sweep, network)
            # Until E has come down, the weights are still on their way to their ratios.
            if seed in solved and error < 0.02:
                break
        outcome = f"right at sweep {solved[seed][0]}" if seed in solved else "never right"
        run.say(f"network {seed}: {outcome}")
    figures: dict[str, float | str | list[float]] = {
        "networks": float(options.networks),
        "solved": float(len(solved)),
        "sweeps_limit": float(limit),
    }
    if not solved:
        return figures
    sweeps = [float(n) for n, _ in solved.values()]
    one_two_four = [seed for seed, (_, network) in solved.items() if has_ratios(network, [1, 2, 4])]
    seed = (one_two_four or list(solved))[0]
    draw_symmetry(run, solved[seed][1], seed)
    return figures | {
        "sweeps_until_right": sweeps,
        "sweeps_until_right_median": median(sweeps),
        "with_weights_1_2_4": float(len(one_two_four)),
        "asymmetry": mean(asymmetry(network) for _, network in solved.values()),
    }


def right(network: Network, inputs: Sequence[Tensor], targets: Tensor) -> Tensor:
    """Which cases have every output on its side of 0.5, bool [C]."""
    return network.output(inputs).gt(0.5).eq(targets > 0.5).all(1)


def asymmetry(network: Network) -> float:
    """The largest sum of two weights that should be opposite, as a part of the largest weight."""
    w = network.weights[0, 1]
    return ((w + w.flip(1)).abs().max() / w.abs().max()).item()


def has_ratios(network: Network, ratios: list[float]) -> bool:
    sizes = network.weights[0, 1][:, :3].abs().sort(1).values
    wanted = torch.tensor(ratios, dtype=sizes.dtype)
    return bool(((sizes / sizes[:, :1] - wanted).abs() < 0.1 * wanted).all())


def draw_symmetry(run: PaperRun, network: Network, seed: int) -> None:
    """The network as in Fig. 1, with a bar for each weight."""
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.2), dpi=100, width_ratios=(3, 3, 1.4))
    w = network.weights
    for unit in range(2):
        values = w[0, 1][unit].tolist()
        colours = ["C3" if value < 0 else "C0" for value in values]
        axes[unit].bar(range(1, 7), values, color=colours)
        for place, value in enumerate(values, 1):
            vertical = "bottom" if value > 0 else "top"
            axes[unit].text(place, value, f"{value:.1f}", ha="center", va=vertical, fontsize=8)
        axes[unit].axvline(3.5, color="grey", ls=":")
        bias = w[BIAS, 1][unit].item()
        axes[unit].set(title=f"to hidden unit {unit + 1} (bias {bias:.1f})", xlabel="input unit")
        axes[unit].margins(y=0.15)
    out = [*w[1, 2][0].tolist(), w[BIAS, 2].item()]
    axes[2].bar(["1", "2", "bias"], out, color=["C3" if value < 0 else "C0" for value in out])
    axes[2].set(title="to the output")
    figure.suptitle(f"Symmetry, network {seed} after {network.sweeps} sweeps")
    figure.tight_layout()
    figure.savefig(run.picture("symmetry"))
    plt.close(figure)


# -- Fig. 2 to 4 -------------------------------------------------------------------------------


def family_trees(run: PaperRun, options: Options) -> dict[str, float | str | list[float]]:
    """How many of four questions that were held out are answered, for other four each time."""
    config = BackpropConfig.family_trees()
    if options.recipe == "larger":
        larger = {"initial": 1.0, "epsilon": 0.1, "first_epsilon": 0.05, "decay": 0.0005}
        config = replace(config, **larger)  # type: ignore[arg-type]
    sweeps = options.sweeps or config.sweeps
    (person, relation), answers = family_cases()
    known_right, held_out_right, networks = [], [], []
    for seed in range(run.seed, run.seed + options.networks):
        order = torch.randperm(104, generator=torch.Generator().manual_seed(1000 + seed))
        known = order[4:]
        network = create(config, seed)
        for sweep in range(1, sweeps + 1):
            error = network.sweep([person[known], relation[known]], answers[known])
            if sweep % 100 == 0:
                run.log({"step": sweep, "stage": str(seed), "error": error})
        answered = right(network, [person, relation], answers)
        known_right.append(float(answered[order[4:]].sum()))
        held_out_right.append(float(answered[order[:4]].sum()))
        networks.append(network)
        run.say(f"network {seed}: {known_right[-1]:.0f} of 100, {held_out_right[-1]:.0f} of 4")
    best = max(range(len(networks)), key=lambda k: (held_out_right[k], known_right[k]))
    draw_people(run, networks[best], run.seed + best)
    return {
        "sweeps": float(sweeps),
        "known_right_of_100": known_right,
        "held_out_right_of_4": held_out_right,
        "held_out_right_mean": mean(held_out_right),
        "networks_with_4_of_4": float(held_out_right.count(4)),
    }


def draw_people(run: PaperRun, network: Network, seed: int) -> None:
    """Fig. 4: the weights from every person to the six units that encode persons."""
    figure, axes = plt.subplots(3, 2, figsize=(10, 6), dpi=100)
    weights = network.weights[0, 2].reshape(6, 2, 12)
    for unit, place in enumerate(axes.flat):
        hinton(place, weights[unit], weights.abs().max().item())
        place.set_title(f"unit {unit + 1}", fontsize=9)
        if unit >= 4:
            both = [f"{e} / {i}" for e, i in zip(ENGLISH, ITALIAN, strict=True)]
            place.set_xticks(range(12), both, rotation=90, fontsize=7)
        place.set_yticks([0, 1], ["English", "Italian"], fontsize=7)
    figure.suptitle(f"Weights from persons to their six units, network {seed} (white: positive)")
    figure.tight_layout()
    figure.savefig(run.picture("family_trees"))
    plt.close(figure)


def hinton(axes: Axes, weights: Tensor, largest: float) -> None:
    """A square for each weight [rows, columns]: white if positive, its area the size."""
    rows, columns = weights.shape
    axes.set(xlim=(-0.6, columns - 0.4), ylim=(rows - 0.4, -0.6), aspect="equal", facecolor="0.6")
    axes.set_xticks([])
    for row in range(rows):
        for column in range(columns):
            value = weights[row, column].item()
            side = (abs(value) / largest) ** 0.5 * 0.95
            corner = (column - side / 2, row - side / 2)
            axes.add_patch(Rectangle(corner, side, side, color="white" if value > 0 else "black"))


# -- digits ------------------------------------------------------------------------------------


def digits(run: PaperRun, options: Options) -> dict[str, float | str | list[float]]:
    """Accuracy on scikit-learn's digits, for a few networks."""
    config = BackpropConfig.small()
    splits = load("digits")
    inputs, unseen = (part.inputs.flatten(1).double() / 16 for part in (splits.train, splits.test))
    targets = torch.nn.functional.one_hot(splits.train.targets, 10).double()
    sweeps = options.sweeps or config.sweeps
    accuracies, curves = [], []
    for seed in range(run.seed, run.seed + min(options.networks, 3)):
        network, curve = create(config, seed), []
        for sweep in range(1, sweeps + 1):
            error = network.sweep([inputs], targets)
            if sweep % 25 == 0 or sweep == sweeps:
                given = network.output([unseen]).argmax(1)
                curve.append((given == splits.test.targets).double().mean().item())
                row = {"step": sweep, "stage": str(seed), "error": error, "accuracy": curve[-1]}
                run.log(row)
        curves.append(curve)
        accuracies.append(curve[-1])
    draw_digits(run, network, curves)
    return {"test_accuracy": accuracies, "test_accuracy_mean": mean(accuracies)}


def draw_digits(run: PaperRun, network: Network, curves: list[list[float]]) -> None:
    figure = plt.figure(figsize=(10, 3.6), dpi=100, layout="constrained")
    panels: Any = figure.subfigures(1, 2, width_ratios=(1, 1.3))
    left, whole = panels
    axes = left.subplots()
    for curve in curves:
        axes.plot(range(25, 25 * len(curve) + 1, 25), curve)
    axes.set(xlabel="sweeps", ylabel="test accuracy")
    axes.grid(alpha=0.3)
    weights = network.weights[0, 1]
    largest = weights.abs().max().item()
    for unit, place in enumerate(whole.subplots(4, 10).flat):
        place.imshow(weights[unit].reshape(8, 8), cmap="RdBu", vmin=-largest, vmax=largest)
        place.axis("off")
    whole.suptitle("weights to the 40 hidden units", fontsize=10)
    figure.savefig(run.picture("digits"))
    plt.close(figure)
