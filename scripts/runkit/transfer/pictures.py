"""What the domains look like, where a localiser sees the object, and curves over numbers."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from runkit.transfer import tables
from runkit.transfer.records import Score
from runkit.transfer.settings import data_folder

from envs.robotics.scene import Scene
from sim2real import dataset
from sim2real.cases import CASES
from sim2real.dataset import Request
from sim2real.localiser import Localiser, estimate
from sim2real.transfer import summarize
from sim2real.views import place

SIDE = 6  # pictures along an edge of a grid


def grid(request: Request, file: Path, title: str, model: Localiser | None = None) -> None:
    """The first pictures of a set; with a model, where the object is (ring) and is seen (cross)."""
    folder, count = data_folder(request), SIDE**2
    shown = dataset.load(folder, count)
    marks = None if model is None else _seen(request, folder, shown, model)
    figure, axes = plt.subplots(SIDE, SIDE, figsize=(9, 9.4), dpi=100)
    for i, axis in enumerate(axes.flat):
        axis.imshow(shown.pictures[i].permute(1, 2, 0).numpy(), extent=(0, 1, 1, 0))
        axis.axis("off")
        if marks is not None:
            axis.plot(*shown.places[i, 0].numpy(), "o", mfc="none", mec="lime", ms=9, mew=1.3)
            axis.plot(*marks[i], "x", color="red", ms=6, mew=1.5)
            axis.set(xlim=(0, 1), ylim=(1, 0))
    figure.suptitle(title, fontsize=11)
    figure.tight_layout(pad=0.3, rect=(0, 0, 1, 0.98))
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file)
    plt.close(figure)


def _seen(
    request: Request, folder: Path, shown: dataset.Pictures, model: Localiser
) -> list[np.ndarray]:
    """Where in the pictures the estimates are."""
    env = dataset.make(request)
    scene: Scene = env.get_wrapper_attr("scene")
    env.close()
    estimates = estimate(model, shown.pictures).numpy()
    drawn = dataset.draws(folder, len(estimates))
    return [place(scene.cameras[0], d, e) for d, e in zip(drawn, estimates, strict=True)]


def curves(scores: list[Score], kind: str, domain: str, file: Path) -> None:
    """Mean error, with its interval, over the number of textures or pictures; none without any."""
    points = [
        (int(number), score)
        for score in scores
        if (number := score.arm.partition("-")[2]) and score.arm.startswith(f"{kind}-")
    ]
    if not points:
        return
    figure, axes = plt.subplots(figsize=(7, 4.2), dpi=120)
    points.sort(key=lambda point: point[0])
    numbers = [number for number, _ in points]
    whole = [score for score in scores if score.arm == tables.WHOLE[kind]]
    for colour, case in enumerate(CASES):
        means = [summarize(score.scores[domain][case]).mean for _, score in points]
        values = np.array([[100 * m.value, 100 * m.low, 100 * m.high] for m in means]).T
        low, high = values[0] - values[1], values[2] - values[0]
        axes.errorbar(numbers, values[0], (low, high), marker=".", color=f"C{colour}", label=case)
        for score in whole:
            level = 100 * score.scores[domain][case].mean()
            axes.axhline(level, color=f"C{colour}", ls=":", lw=1)
    axes.set(xscale="log", xlabel=kind, ylabel="mean error, cm", ylim=(0, None))
    axes.set_title(f"{domain}; dotted: all there is")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(file)
    plt.close(figure)
