"""One arm of the study: its pictures drawn, its localiser trained, and what is kept of it.

A run directory is that of a supervised paper's experiment (``runkit.papers.run``), and beside it
localiser/, which ``sim2real.localiser.load`` reads.
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from runkit import gl
from runkit.errors import UserError
from runkit.papers.run import JOB, PaperRun, Stopped, carry_out
from runkit.rundir import RunDir
from runkit.signals import StopRequest
from runkit.transfer import arms, settings
from runkit.transfer.arms import Arm
from runkit.transfer.settings import (
    VALIDATION_SEED,
    Study,
    data_folder,
    training_request,
)

from agents.config import from_json
from sim2real import dataset, localiser
from sim2real.dataset import Pictures, Request
from sim2real.domains import read
from sim2real.localiser import FitConfig, Localiser, LocaliserConfig
from sim2real.transfer import errors

PACKAGES = ["torch", "numpy", "gymnasium", "mujoco", "pybullet", "safetensors"]
EVALUATIONS = 10  # of a training
EVALUATED = 512  # pictures


@dataclass(frozen=True)
class Job:
    """What is to be done: the command line, resolved."""

    arm: str
    study: Study
    seed: int
    device: str
    threads: int

    def record(self) -> dict[str, Any]:
        """As a run of a paper has it."""
        return {
            "paper": "domain_randomization",
            "dataset": self.arm,
            "seed": self.seed,
            "device": self.device,
            "threads": self.threads,
            "options": json.loads(json.dumps(asdict(self.study))),  # lists for tuples
        }

    @classmethod
    def read(cls, folder: RunDir) -> "Job":
        """Of a run directory; UserError if it is none."""
        saved = folder.read_config(JOB)
        try:
            options = saved["options"]
            study = Study(
                target=options["target"],
                images=options["images"],
                network=from_json(LocaliserConfig, options["network"]),
                fit=from_json(FitConfig, options["fit"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{folder.config}: {error}") from None
        return cls(saved["dataset"], study, saved["seed"], saved["device"], saved["threads"])


def network_of(arm: Arm, study: Study) -> LocaliserConfig:
    """The study's, or the one with the paper's head behind the last block of convolutions."""
    return replace(study.network, head="paper", stage=4) if arm.paper_head else study.network


def fit_of(arm: Arm, study: Study) -> FitConfig:
    """The study's, without the jitter that the arm is not to have."""
    return replace(
        study.fit,
        shift=study.fit.shift if arm.shift else 0,
        colour=study.fit.colour if arm.colour else 0.0,
        shade=study.fit.shade if arm.shade else 0.0,
    )


def draw_pictures(
    request: Request, count: int, jobs: int, stop: StopRequest, say: Callable[[str], None] = print
) -> None:
    """Those of the first ``count`` that are not there yet; Stopped if a signal comes."""
    folder, started, first = data_folder(request), time.monotonic(), -1

    def on_shard(there: int) -> bool:
        nonlocal first
        first = there if first < 0 else first
        rate = (there - first) / max(time.monotonic() - started, 1e-9)
        if there > first:
            shown = f"{min(there, count):,}/{count:,} pictures of {request.domain.name}"
            say(f"{shown}  {rate:.0f}/s")
        return stop.number is None

    gl.set_up()
    dataset.generate(request, folder, count, jobs, on_shard)
    if stop.number is not None:
        raise Stopped(stop.number)


def train(job: Job, folder: RunDir, jobs: int, checkpoint_every: float) -> int:
    """Draws, trains and saves; returns the exit status. What is there already is not done again."""
    try:  # before pictures are drawn
        Localiser(job.study.network, (0, 0, 0), (1, 1, 1))
    except ValueError as error:
        raise UserError(str(error)) from None
    arm = arms.read(job.arm, settings.LEDGER, f"{job.arm} of {job.study.target}, seed {job.seed}")
    torch.set_num_threads(job.threads)
    return carry_out(
        job.record(),
        folder,
        lambda run: _train(run, arm, job, jobs),
        PACKAGES,
        checkpoint_every,
        "transfer.py train",
    )


def _train(run: PaperRun, arm: Arm, job: Job, jobs: int) -> dict[str, Any]:
    study, count = job.study, arm.images or job.study.images
    request = training_request(arm, study, job.seed)
    draw_pictures(request, count, jobs, run.stop, run.say)
    known = dataset.load_for_training(data_folder(request), count, arm.ceiling)
    tests = {"own": replace(request, seed=job.seed + VALIDATION_SEED)}
    if not arm.ceiling:
        tests["dev"] = replace(tests["own"], domain=read("target_dev"))
    unseen: dict[str, Pictures] = {}
    for name, test in tests.items():
        draw_pictures(test, EVALUATED, jobs, run.stop, run.say)
        unseen[name] = dataset.load_for_training(data_folder(test), EVALUATED, arm.ceiling)

    torch.manual_seed(job.seed)
    model = Localiser(network_of(arm, study), known.low, known.high).to(job.device)
    fit = localiser.new_fit(
        model, known.pictures, known.positions, known.places, fit_of(arm, study), job.seed
    )

    def evaluate() -> dict[str, float]:
        """Mean errors in centimetres."""
        return {
            f"{name}_cm": 100 * float(errors(model, p.pictures, p.positions).mean())
            for name, p in unseen.items()
        }

    rows = run.train(fit, study.fit.steps, evaluate, math.ceil(study.fit.steps / EVALUATIONS))
    localiser.save(model.cpu(), run.folder / "localiser")
    return {
        **{name: rows[-1][name] for name in rows[-1] if name.endswith("_cm")},
        "loss": rows[-1]["loss"],
        "parameters": float(sum(p.numel() for p in model.parameters())),
        "pictures": count,
        "domain": arm.domain.name,
        "sha256": arm.domain.sha256,
        "mean_position": known.positions.mean(0).tolist(),
    }


def run_path(job: Job) -> Path:
    """Where a run goes that nobody named."""
    return Path("runs") / "transfer" / f"{job.study.target}-{job.arm}-seed{job.seed}"
