"""Real data sets for tests that want them, skipped with a reason where they are absent."""

import functools
import os
from pathlib import Path

import pytest
from command import ROOT

from supervised.data import Splits, load

FOLDERS = {  # of the sets that no installed package holds
    "mnist": "mnist",
    "fashion_mnist": "fashion-mnist",
    "cifar10": "cifar-10-batches-bin",
    "isbi2012": "isbi2012-em",
    "simulator_classes": "simulator_classes",
    "simulator_masks": "simulator_masks",
}


def real(name: str) -> Splits:
    """The data set from $FIRSTHAND_DATA, ~/.cache/firsthand, or ``shared/data`` beside the
    checkout. Nothing is downloaded. A set that is damaged fails the test.
    """
    if name not in FOLDERS:
        return _load(name, ROOT)
    roots = [root for root in _roots() if (root / FOLDERS[name]).is_dir()]
    if not roots:
        pytest.skip(f"the data set {name} is in none of {', '.join(map(str, _roots()))}")
    return _load(name, roots[0])


@functools.cache
def _load(name: str, root: Path) -> Splits:
    return load(name, root)


def _roots() -> list[Path]:
    chosen = os.environ.get("FIRSTHAND_DATA")
    own = Path(chosen) if chosen else Path.home() / ".cache" / "firsthand"
    return [own, ROOT.parent / "shared" / "data"]
