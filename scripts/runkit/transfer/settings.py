"""What all arms of a study have in common, and where its files are."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from runkit import ROOT
from runkit.transfer.arms import Arm

from sim2real.dataset import Request
from sim2real.domains import Domain
from sim2real.localiser import FitConfig, LocaliserConfig

RESULTS = ROOT / "results" / "transfer"
LEDGER = RESULTS / "readings.jsonl"  # of the sealed domains, wherever the results go
TARGETS = (
    "cone",
    "cube",
    "cylinder",
    "hexagonal_prism",
    "pyramid",
    "rectangular_prism",
    "tetrahedron",
    "triangular_prism",
)
SHARD = 256  # pictures a file
TEST_SEED, VALIDATION_SEED = 1_000_000, 2_000_000  # added to a study's


@dataclass(frozen=True)
class Study:
    """The same for every arm."""

    target: str = "cube"  # the object that is looked for
    images: int = 40_000  # that an arm learns from, unless its name says how many
    network: LocaliserConfig = field(default_factory=LocaliserConfig.cpu)
    fit: FitConfig = field(default_factory=FitConfig)

    def __post_init__(self) -> None:
        if self.target not in TARGETS:
            raise ValueError(f"target must be one of {', '.join(TARGETS)}, not {self.target!r}")
        if self.images < 1:
            raise ValueError(f"images must be positive, not {self.images}")


def data_folder(request: Request) -> Path:
    """Where its pictures are: $FIRSTHAND_DATA/transfer/…, of the domain's content and no name."""
    data = Path(os.environ.get("FIRSTHAND_DATA") or "~/.cache/firsthand").expanduser()
    name = f"{request.domain.sha256[:16]}-{request.target}-{request.size}-seed{request.seed}"
    # What was derived from a sealed domain may be what an open one is too, and stays apart.
    return data / "transfer" / (f"{name}-sealed" if request.domain.sealed else name)


def training_request(arm: Arm, study: Study, seed: int) -> Request:
    return Request(arm.domain, study.target, study.network.size, seed, shard=SHARD)


def test_request(domain: Domain, target: str, size: int) -> Request:
    # In a test, what is to be occluded is.
    return Request(domain, target, size, TEST_SEED, visibility=True, shard=SHARD)
