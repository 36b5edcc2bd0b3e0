"""LeNet-5 on handwritten digits: the error of LeCun et al. 1998, figure 5 (0.95%, distorted 0.8%).

The picture shows C1's kernels, the states of one digit layer by layer, what F6 draws of each class
beside the code it should draw, and the digits that are still mistaken, as the paper's figure 8.
"""

from collections.abc import Callable
from dataclasses import dataclass

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from matplotlib.figure import SubFigure
from torch import Generator, Tensor, nn

from runkit.papers.run import PaperRun

from supervised.augment import affine_distortion
from supervised.data import Dataset, load
from supervised.fit import Batch, Fit, predict
from supervised.vision.diagonal_lm import DiagonalLM
from supervised.vision.lenet import LeNet, LeNetConfig, create, map_loss, normalize

DATASETS = ("mnist", "digits")


@dataclass(frozen=True)
class Options:
    """The flags; "the paper" is its section III-A."""

    passes: int = 20  # over the training set (the paper's 20)
    batch_size: int = 4  # examples a step, eta as it is (the paper: 1)
    distorted: bool = False  # train on randomly distorted digits, as for the paper's 0.8%
    mu: float = 0.02  # of the rates eta / (mu + h) (the paper's)

    def __post_init__(self) -> None:
        if min(self.passes, self.batch_size) < 1:
            raise ValueError("passes and batch_size must be positive")


def run(run: PaperRun, options: Options) -> dict[str, float | str | list[float]]:
    """Trains and tests; errors in per cent."""
    splits = load(run.dataset)
    train, test = pictures(splits.train), pictures(splits.test)
    torch.manual_seed(run.seed)
    model = create().to(run.device)
    fit = make_fit(model, train, splits.train.targets, options, run.seed)

    def evaluate() -> dict[str, float]:
        return {"test_error": error(model, test, splits.test.targets)}

    rows = run.train(fit, options.passes * fit.steps_per_epoch, evaluate, fit.steps_per_epoch)
    draw(run, model, test, splits.test)
    return {
        "test_error": rows[-1]["test_error"],
        "train_error": error(model, train, splits.train.targets),
        "test_error_by_pass": [row["test_error"] for row in rows],
        "parameters": float(sum(p.numel() for p in model.parameters())),
    }


def pictures(data: Dataset) -> Tensor:
    """As the network wants them; scikit-learn's digits, 8x8 with values up to 16, are enlarged."""
    if data.inputs.shape[-1] > 8:
        return normalize(data.inputs)
    large = F.interpolate(data.inputs * (255 / 16), scale_factor=3, mode="bilinear")
    return normalize(large.clamp(0, 255))


def make_fit(model: LeNet, inputs: Tensor, targets: Tensor, options: Options, seed: int) -> Fit:
    """One training as the paper has it, but for ``options``."""
    n, size = len(inputs), options.batch_size
    steps_per_pass = -(-n // size)
    device = next(model.parameters()).device

    def curvature(step: int) -> list[Tensor]:
        order = torch.randperm(n, generator=torch.Generator().manual_seed(seed + step))
        return model.curvature(inputs[order[: DiagonalLM.SAMPLES]].to(device))

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        return map_loss(model(batch[0]), batch[1], LeNetConfig().rubbish)

    weights = list(model.parameters())
    optimizer = DiagonalLM(weights, curvature, steps_per_pass, DiagonalLM.RATES[0], options.mu)
    return Fit(
        model,
        optimizer,
        loss,
        (inputs, targets),
        size,
        seed,
        schedule=schedule(steps_per_pass),
        transform=distort if options.distorted else None,
    )


def schedule(steps_per_pass: int) -> Callable[[int], float]:
    """The paper's table of eta by the pass, as shares of the first."""
    rates = DiagonalLM.RATES
    return lambda step: rates[min(step // steps_per_pass, len(rates) - 1)] / rates[0]


def distort(batch: Batch, generator: Generator) -> Batch:
    """Planar affine distortions; the paper gives their kinds and no amounts."""
    inputs, *others = batch
    distorted = affine_distortion(
        inputs, generator, shift=2, scale=0.15, squeeze=0.15, shear=0.3, fill=-0.1
    )
    return (distorted, *others)


def error(model: LeNet, inputs: Tensor, targets: Tensor) -> float:
    """Per cent of wrong answers."""
    wrong = predict(model, inputs, 500).argmin(1) != targets
    return 100 * wrong.double().mean().item()


@torch.no_grad()
def draw(run: PaperRun, model: LeNet, inputs: Tensor, test: Dataset) -> None:
    model = model.cpu()
    answers = predict(model, inputs, 500).argmin(1)
    figure = plt.figure(figsize=(10, 8.2))
    grid = figure.add_gridspec(5, 1, height_ratios=[1, 1, 1.3, 1.3, 2])
    rows = [figure.add_subfigure(grid[i]) for i in range(5)]

    first = model.backbone.stages[0]
    assert isinstance(first, nn.Sequential)
    kernels = first[0].kernels()[:, 0]  # type: ignore[operator]
    strip(rows[0], "C1's kernels, and a digit", [*kernels, inputs[0, 0]])
    s2, s4, _ = model.features(inputs[:1])
    strip(rows[1], "its maps in S2 and S4", [*s2[0], *s4[0]])
    strip(rows[2], "the codes", list(model.codes.view(-1, 12, 7)))
    right = answers == test.targets
    f6 = model.f6(model.features(inputs[right])[-1]).flatten(1)
    drawn = [f6[test.targets[right] == digit].mean(0).view(12, 7) for digit in range(10)]
    strip(rows[3], "what F6 draws of the digits, on average", drawn)
    wrong = (~right).nonzero()[:40, 0]
    if len(wrong):
        axes = rows[4].subplots(2, 20, squeeze=False).flatten()
        for axis in axes:
            axis.axis("off")
        for axis, i in zip(axes, wrong.tolist(), strict=False):
            axis.imshow(inputs[i, 0].numpy(), cmap="gray_r")
            axis.set_title(f"{int(test.targets[i])}→{int(answers[i])}", fontsize=8, pad=1)
        rows[4].suptitle("mistaken, truth → answer", fontsize=10)
    figure.savefig(run.picture("lenet"), dpi=100)
    plt.close(figure)
    model.to(run.device)


def strip(part: SubFigure, title: str, images: list[Tensor]) -> None:
    """Pictures in a row."""
    axes = part.subplots(1, len(images))
    for axis, image in zip(axes, images, strict=True):
        axis.imshow(image.numpy(), cmap="gray_r")
        axis.axis("off")
    part.suptitle(title, fontsize=10)
