"""Experiments of vision, small and on noise: they run, draw, and can be resumed."""

from pathlib import Path

import pytest
import torch
from experiments import assert_runs_and_resumes

from runkit.papers import alexnet, lenet, resnet, unet, vgg

from supervised.data import Dataset, Splits

MODULES = {"lenet": lenet, "alexnet": alexnet, "vgg": vgg, "resnet": resnet, "unet": unet}
COMMANDS = {
    "lenet mnist": ["--passes", 1, "--batch-size", 12],
    "alexnet simulator_classes": ["--epochs", 1, "--batch-size", 12],
    "vgg simulator_classes": ["--epochs", 1],
    "resnet cifar10": ["--epochs", 1, "--networks", "resnet8", "plain8"],
    "unet isbi2012": [
        "--precision",
        "bfloat16",
        "--steps",
        2,
        "--width",
        2,
        "--depth",
        2,
        "--elastic",
        2,
    ],
    "unet simulator_masks": ["--steps", 2, "--width", 2, "--depth", 2, "--elastic", 0],
}
FIGURES = {  # one that each must report
    "lenet mnist": "test_error",
    "alexnet simulator_classes": "test_accuracy_ten_crops",
    "vgg simulator_classes": "dense_multi_scale",
    "resnet cifar10": "plain8_test_error",
    "unet isbi2012": "warping_error",
    "unet simulator_masks": "mean_iou",
}


def noise(name: str) -> Splits:
    """Two dozen pictures of the set's form, in the training as in the test."""
    random = torch.Generator().manual_seed(0)
    channels, side = {"mnist": (1, 28), "cifar10": (3, 32), "isbi2012": (1, 64)}.get(name, (3, 64))
    pictures = torch.randint(256, (24, channels, side, side), generator=random).to(torch.uint8)
    classes = 2 if name == "isbi2012" else 10
    if name in ("isbi2012", "simulator_masks"):
        targets = torch.zeros(24, side, side, dtype=torch.uint8)
        for i in range(1, classes):
            targets[:, 8 * (i // 3) : 8 * (i // 3) + 6, 20 * (i % 3) : 20 * (i % 3) + 9] = i
    else:
        targets = torch.arange(24) % classes
    data = Dataset(pictures, targets, tuple(f"class {i}" for i in range(classes)))
    return Splits(data, data)


@pytest.mark.parametrize("command", COMMANDS)
def test_experiment(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its figures are finite, and the same when its last training has to be done again."""
    key, dataset = command.split()
    monkeypatch.setattr(MODULES[key], "load", noise)
    flags = ["--dataset", dataset, *COMMANDS[command]]
    assert_runs_and_resumes(tmp_path / "run", key, FIGURES[command], *flags)
