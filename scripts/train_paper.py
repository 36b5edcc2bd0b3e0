"""Train one of the supervised papers.

    python scripts/train_paper.py --list
    python scripts/train_paper.py lenet --dataset mnist
    python scripts/train_paper.py lenet --resume runs/…

``train_paper.py PAPER --help`` lists the paper's flags.
"""

import json
import sys
from dataclasses import asdict, dataclass, make_dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import torch
from rich.console import Console
from rich.table import Table

from runkit.arguments import check_seed, check_threads, parse, resumes, split
from runkit.devices import choose_device
from runkit.errors import UserError, run_main
from runkit.papers import available, experiment
from runkit.papers.run import JOB, carry_out
from runkit.rundir import RunDir, new_path
from runkit.syllabus import listing

from agents.config import from_json

PROG = "train_paper.py"
PACKAGES = ["torch", "numpy", "safetensors", "scikit-learn", "scikit-image"]


@dataclass(frozen=True)
class RunOptions:
    """The run itself."""

    dataset: str  # what to learn from
    seed: int = 0  # of weights, order and noise
    device: Literal["auto", "cpu", "cuda"] = "auto"  # auto: cuda where there is one
    threads: Literal["auto"] | int = "auto"  # PyTorch's CPU threads; auto: as many as it likes
    run_dir: Path | None = None  # must not exist yet; default: runs/PAPER-DATASET-seedS-TIME
    resume: Path | None = None  # a run directory to go on with
    checkpoint_every: float = 30.0  # seconds between two checkpoints

    def __post_init__(self) -> None:
        check_seed(self.seed)
        check_threads(self.threads)
        if not self.checkpoint_every >= 0:
            raise ValueError(f"checkpoint_every must not be negative: {self.checkpoint_every}")


def main(args: list[str]) -> int:
    if args == ["--list"]:
        return show_list()
    if not args or args[0] in ("-h", "--help"):
        print(__doc__)
        print(f"papers: {', '.join(available()) or 'none yet'}")
        return 0
    names, flags = split(args)
    if resumes(flags):
        return resume(names, flags)
    if len(names) != 1:
        raise UserError(f"give one paper, then flags: {PROG} lenet --dataset mnist; or --list")
    return start(names[0], flags)


def show_list() -> int:
    """The syllabus with status and figures, in the terminal's width, or wide where it has none."""
    console = Console(width=None if sys.stdout.isatty() else 200)
    rows = listing()
    table = Table(*rows[0], box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row.values())
    console.print(table, markup=False, highlight=False)
    return 0


def start(key: str, flags: list[str]) -> int:
    module = experiment(key)
    # All flags, as one dataclass: those of the run and those of the experiment.
    arguments_type = make_dataclass("Arguments", [("run", RunOptions), ("options", module.Options)])
    default = arguments_type(RunOptions(module.DATASETS[0]), module.Options())
    description = f"{key}. Data sets: {', '.join(module.DATASETS)}."
    arguments: Any = parse(arguments_type, flags, f"{PROG} {key}", description, default=default)
    run: RunOptions = arguments.run
    check_dataset(key, module, run.dataset)
    run = replace(run, device=choose_device(run.device))
    folder = RunDir(new_path(run.run_dir, key, run.dataset, run.seed))
    if run.threads != "auto":
        torch.set_num_threads(int(run.threads))
    job = {
        "paper": key,
        "dataset": run.dataset,
        "seed": run.seed,
        "device": run.device,
        "threads": torch.get_num_threads(),
        "options": json.loads(json.dumps(asdict(arguments.options))),  # lists for tuples
    }
    return _carry_out(module, folder, job, arguments.options, run.checkpoint_every)


def check_dataset(key: str, module: ModuleType, name: str) -> None:
    if name not in module.DATASETS:
        raise UserError(f"{key} has no --dataset {name}; there is: {', '.join(module.DATASETS)}")


@dataclass(frozen=True)
class ResumeArguments:
    """What a resumed run may change; everything else stays as it was."""

    resume: Path  # the run directory
    checkpoint_every: float = 30.0  # seconds between two checkpoints


def resume(names: list[str], flags: list[str]) -> int:
    arguments = parse(ResumeArguments, flags, f"{PROG} … --resume RUN_DIR")
    folder = RunDir(arguments.resume)
    config = folder.read_config(JOB)
    job = {name: config[name] for name in JOB}
    key = job["paper"]
    if names and names != [key]:
        raise UserError(f"{folder.path} is a run of {key}, not of {' '.join(names)}")
    if folder.summary.exists():
        raise UserError(f"{folder.path} is finished; its figures are in {folder.summary}")
    module = experiment(key)
    check_dataset(key, module, job["dataset"])
    try:
        run = RunOptions(job["dataset"], job["seed"], threads=job["threads"])
        options = from_json(module.Options, job["options"])
    except (TypeError, ValueError) as error:
        raise UserError(f"{folder.config}: {error}") from None
    if job["device"] != choose_device(job["device"]):
        raise UserError(f"{folder.config}: device must be cpu or cuda, not {job['device']!r}")
    torch.set_num_threads(int(run.threads))
    print(f"resuming {folder.path}")
    return _carry_out(module, folder, job, options, arguments.checkpoint_every)


def _carry_out(
    module: ModuleType, folder: RunDir, job: dict[str, Any], options: Any, checkpoint_every: float
) -> int:
    command = f"{PROG} {job['paper']}"
    return carry_out(
        job, folder, lambda run: module.run(run, options), PACKAGES, checkpoint_every, command
    )


if __name__ == "__main__":
    run_main(main)
