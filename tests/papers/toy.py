"""An experiment for tests alone: two small networks learn scikit-learn's digits in turn."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor, nn

from runkit.papers.run import PaperRun

from supervised.data import load
from supervised.fit import Batch, Fit, Precision, predict

DATASETS = ("digits", "lfw_subset", "simulator_classes")
HOOKS: list[Callable[[str, int], None]] = []  # called in each evaluation


@dataclass(frozen=True)
class Options:
    steps: int = 40  # of each network
    width: int = 16  # hidden units
    rates: tuple[float, ...] = (1e-3,)  # of the second network's parts
    precision: Precision = "float32"  # of the second network
    pause: float = 0.0  # seconds an evaluation takes longer

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"width must be positive, not {self.width}")


def run(run: PaperRun, options: Options) -> dict[str, float | str | list[float]]:
    digits = load(run.dataset)
    data = (digits.train.inputs.float(), digits.train.targets)

    def train(name: str, optimizer: Callable[[Any], Any], **kwargs: Any) -> list[dict[str, Any]]:
        model = nn.Sequential(
            nn.Flatten(),
            nn.Linear(64, options.width),
            nn.Dropout(0.2),
            nn.Linear(options.width, 10),
        )
        fit = Fit(model, optimizer(model.parameters()), loss, data, 32, run.seed, **kwargs)

        def evaluate() -> dict[str, float]:
            time.sleep(options.pause)
            for hook in HOOKS:
                hook(name, fit.step)
            right = predict(model, digits.test.inputs.float()).argmax(1) == digits.test.targets
            noise = torch.rand(()).item() + random.random() + np.random.rand()
            return {"accuracy": right.float().mean().item(), "noise": noise}

        return run.train(fit, options.steps, evaluate, 10, name)

    rows = train("plain", lambda parameters: torch.optim.SGD(parameters, 1e-3, momentum=0.9))
    between = torch.rand(()).item() + random.random() + np.random.rand()
    run.log({"step": options.steps, "between": between})
    rate = options.rates[0]
    second = train(
        "averaged",
        lambda parameters: torch.optim.Adam(parameters, rate),
        ema_decay=0.9,
        precision=options.precision,
    )
    figure, axes = plt.subplots()
    axes.plot([row["step"] for row in rows], [row["accuracy"] for row in rows])
    figure.savefig(run.picture("accuracy"))
    plt.close(figure)
    run.say("drawn")
    return {
        "accuracy": [row["accuracy"] for row in second],
        "best": max(row["accuracy"] for row in second),
        "endless": float("inf"),
        "kind": "toy",
    }


def loss(model: nn.Module, batch: Batch) -> Tensor:
    inputs, targets = batch
    return nn.functional.cross_entropy(model(inputs).float(), targets)
