"""Learning curves as pictures."""

import csv
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


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
    figure, axes = plt.subplots(figsize=(7, 4.2), dpi=120)
    low = [m - s for m, s in zip(means, stds, strict=True)]
    high = [m + s for m, s in zip(means, stds, strict=True)]
    axes.fill_between(steps, low, high, alpha=0.2, lw=0, label="±1 std over episodes")
    axes.plot(steps, means, marker=".", label="deterministic policy, mean")
    axes.set(xlabel="environment steps", ylabel="return", title=title)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.tight_layout()
    figure.savefig(out)
    plt.close(figure)
