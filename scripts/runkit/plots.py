"""Learning curves as pictures."""

import csv
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes


def read_evals(file: Path) -> tuple[list[int], list[float], list[float]]:
    """Steps, mean returns and their standard deviations over episodes from an eval.csv."""
    with open(file, newline="") as stream:
        rows = list(csv.DictReader(stream))
    return (
        [int(row["step"]) for row in rows],
        [float(row["return_mean"]) for row in rows],
        [float(row["return_std"]) for row in rows],
    )


def learning_curve(evals: Path, out: Path, title: str) -> None:
    """Draws one run's evaluations: the mean, and one standard deviation over episodes."""
    steps, means, stds = read_evals(evals)
    _, axes = plt.subplots(figsize=(7, 4.2), dpi=120)
    low = [m - s for m, s in zip(means, stds, strict=True)]
    high = [m + s for m, s in zip(means, stds, strict=True)]
    axes.fill_between(steps, low, high, alpha=0.2, lw=0, label="±1 std over episodes")
    axes.plot(steps, means, marker=".", label="mean over episodes")
    _save(axes, out, title)


Curves = list[tuple[list[int], list[float]]]  # of one arm: steps and mean returns of each seed


def compare(arms: dict[str, Curves], out: Path, title: str) -> None:
    """Draws arms over each other: every seed thin, their mean thick."""
    _, axes = plt.subplots(figsize=(7, 4.2), dpi=120)
    for colour, (label, seeds) in enumerate(arms.items()):
        for steps, means in seeds:
            axes.plot(steps, means, color=f"C{colour}", lw=0.8, alpha=0.45)
        average = [sum(values) / len(seeds) for values in zip(*(s[1] for s in seeds), strict=True)]
        text = f"{label}, mean of {len(seeds)} seeds"
        axes.plot(seeds[0][0], average, color=f"C{colour}", lw=2.2, label=text)
    _save(axes, out, title)


def _save(axes: Axes, out: Path, title: str) -> None:
    figure = axes.get_figure(root=True)
    assert figure is not None
    axes.set(xlabel="environment steps", ylabel="return of the deterministic policy", title=title)
    axes.grid(alpha=0.3)
    axes.legend(loc="best")
    figure.tight_layout()
    figure.savefig(out)
    plt.close(figure)
