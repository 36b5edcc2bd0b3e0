"""From one simulator to another: Tobin et al. 2017, and what is left of a policy elsewhere.

    python scripts/transfer.py domains                    what there is, sealed or not, and digests
    python scripts/transfer.py train full                 draws an arm's pictures, trains on them
    python scripts/transfer.py evaluate runs/transfer/…   scores localisers in every domain
    python scripts/transfer.py dynamics runs/sac-…        scores policies under shifted dynamics
    python scripts/transfer.py speed                      measures pictures a second
    python scripts/transfer.py report                     tables and pictures of all results

Each goes on from where it was stopped. ``transfer.py COMMAND --help`` lists its flags.
"""

import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from runkit.arguments import check_seed, check_threads, parse
from runkit.devices import choose_device
from runkit.errors import UserError, run_main
from runkit.papers.run import Stopped
from runkit.rundir import RunDir
from runkit.signals import StopRequest
from runkit.transfer import arms, dynamics, report, scoring, settings, speed, training
from runkit.transfer.settings import RESULTS, TARGETS, Study
from runkit.transfer.training import Job

from agents.evaluation import EVALUATION_SEED
from sim2real import domains
from sim2real.dataset import DatasetError
from sim2real.domains import DomainError
from sim2real.localiser import FitConfig, LocaliserConfig
from sim2real.spec import SpecError

PROG = "transfer.py"
CORES = os.cpu_count() or 1
RunDirs = Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN_DIR")]


def check_positive(arguments: object, *names: str) -> None:
    for name in names:
        if getattr(arguments, name) < 1:
            raise ValueError(f"{name} must be positive, not {getattr(arguments, name)}")


@dataclass(frozen=True)
class Train:
    """Draws the pictures of an arm of the study and trains a localiser on them. What is there of
    it already is gone on with, in the same run directory.
    """

    arm: Annotated[str, tyro.conf.Positional] = ""  # full, none, no_camera, textures-100, …
    target: str = "cube"  # the object that is looked for
    images: int = Study.images  # pictures to learn from
    network: LocaliserConfig = field(default_factory=LocaliserConfig.cpu)
    fit: FitConfig = field(default_factory=FitConfig)
    seed: int = 0  # of pictures, weights and order
    device: Literal["auto", "cpu", "cuda"] = "auto"  # auto: cuda where there is one
    threads: int = 1  # PyTorch's, for training
    jobs: int = CORES  # processes that draw
    run_dir: Path | None = None  # default: runs/transfer/TARGET-ARM-seedS
    resume: Path | None = None  # a run directory to go on with, all flags as they were
    checkpoint_every: float = 60.0  # seconds between two checkpoints

    def __post_init__(self) -> None:
        check_seed(self.seed)
        check_threads(self.threads)
        check_positive(self, "jobs")
        if not self.checkpoint_every >= 0:
            raise ValueError(f"checkpoint_every must not be negative: {self.checkpoint_every}")
        Study(self.target, self.images, self.network, self.fit)


def train(flags: list[str], _: str) -> int:
    chosen = parse(Train, flags, f"{PROG} train", arms.__doc__ or "")
    if chosen.resume is not None:
        folder = RunDir(chosen.resume)
        job = Job.read(folder)
    else:
        study = Study(chosen.target, chosen.images, chosen.network, chosen.fit)
        device = choose_device(chosen.device)
        job = Job(chosen.arm, study, chosen.seed, device, chosen.threads)
        folder = RunDir(chosen.run_dir or training.run_path(job))
        if folder.path.exists() and Job.read(folder) != job:
            raise UserError(f"{folder.path} is a run with other flags; choose another --run-dir")
    if folder.summary.exists():
        print(f"{folder.path} is finished; its figures are in {folder.summary}")
        return 0
    return training.train(job, folder, chosen.jobs, chosen.checkpoint_every)


@dataclass(frozen=True)
class Evaluate:
    """Scores finished runs in every domain, the sealed ones too, which is noted."""

    runs: RunDirs  # that ``train`` made
    images: int = 512  # pictures of each domain and kind
    jobs: int = CORES  # processes that draw
    out: Path = RESULTS  # results

    def __post_init__(self) -> None:
        check_positive(self, "images", "jobs")


def evaluate(flags: list[str], command: str) -> int:
    chosen = parse(Evaluate, flags, f"{PROG} evaluate")
    torch.set_num_threads(1)
    with StopRequest() as stop:
        for run_dir in chosen.runs:
            try:
                file = scoring.score(run_dir, chosen.out, chosen.images, chosen.jobs, command, stop)
            except Stopped as stopped:
                print(f"stopped; pictures are kept. Go on with: {command}")
                return 128 + stopped.signal_number
            print(f"scores: {file}")
    return write_report(chosen.out)


@dataclass(frozen=True)
class Dynamics:
    """Plays policies under shifted masses, friction and latency, and in the other engine."""

    runs: RunDirs  # that train_agent.py made
    episodes: int = 20  # of each shift
    seed: int = EVALUATION_SEED  # of the first episode
    out: Path = RESULTS  # results

    def __post_init__(self) -> None:
        check_positive(self, "episodes")


def play(flags: list[str], command: str) -> int:
    chosen = parse(Dynamics, flags, f"{PROG} dynamics")
    torch.set_num_threads(1)
    for run_dir in chosen.runs:
        file = dynamics.score(run_dir, chosen.out, chosen.episodes, chosen.seed, command)
        print(f"scores: {file}")
    return write_report(chosen.out)


@dataclass(frozen=True)
class Speed:
    """Pictures a second: one process that resets an environment for each, and the generator."""

    domain: str = "source_dr"  # an open one
    target: str = "cube"  # the object that is looked for
    size: int = 112  # height and width of a picture
    jobs: int = CORES  # processes of the generator
    rounds: int = 3  # of both, in turns
    out: Path = RESULTS  # results

    def __post_init__(self) -> None:
        check_positive(self, "size", "jobs", "rounds")
        if self.target not in TARGETS:
            raise ValueError(f"target must be one of {', '.join(TARGETS)}, not {self.target!r}")


def measure(flags: list[str], _: str) -> int:
    chosen = parse(Speed, flags, f"{PROG} speed")
    speed.measure(chosen.out, chosen.domain, chosen.target, chosen.size, chosen.jobs, chosen.rounds)
    return write_report(chosen.out)


@dataclass(frozen=True)
class Report:
    """Makes the tables and pictures of all results anew."""

    out: Path = RESULTS  # results


def tables(flags: list[str], _: str) -> int:
    return write_report(parse(Report, flags, f"{PROG} report").out)


def write_report(out: Path) -> int:
    print(f"tables: {report.write(out)}")
    return 0


def show_domains(flags: list[str], _: str) -> int:
    if flags:
        raise UserError(f"{PROG} domains takes no flags")
    readings = domains.readings(settings.LEDGER)
    for listed in domains.catalogue():
        times = sum(reading.domain == listed.name for reading in readings)
        seal = f"sealed, read {times} times" if listed.sealed else "open"
        print(f"{listed.name:20} {listed.engine:8} {listed.sha256[:16]}  {seal}")
    return 0


COMMANDS: dict[str, Callable[[list[str], str], int]] = {
    "domains": show_domains,
    "train": train,
    "evaluate": evaluate,
    "dynamics": play,
    "speed": measure,
    "report": tables,
}


def main(args: list[str]) -> int:
    if not args or args[0] in ("-h", "--help"):
        print(__doc__)
        return 0
    if args[0] not in COMMANDS:
        raise UserError(f"unknown command {args[0]!r}; there is: {', '.join(COMMANDS)}")
    command = shlex.join(["python", "scripts/transfer.py", *args])
    try:
        return COMMANDS[args[0]](args[1:], command)
    except (DatasetError, DomainError, SpecError) as error:
        raise UserError(str(error)) from None


if __name__ == "__main__":
    run_main(main)
