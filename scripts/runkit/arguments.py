"""Command lines from dataclasses, with tyro; its errors shortened to one line."""

import contextlib
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro

from runkit.errors import UserError

T = TypeVar("T")

# A run directory as the one word without a flag.
RunDirectory = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN_DIR")]


def split(args: list[str]) -> tuple[list[str], list[str]]:
    """The leading words and the flags of a command line."""
    count = next((i for i, arg in enumerate(args) if arg.startswith("-")), len(args))
    return args[:count], args[count:]


def resumes(flags: list[str]) -> bool:
    """Whether --resume is among the flags."""
    return any(flag == "--resume" or flag.startswith("--resume=") for flag in flags)


def check_seed(seed: int) -> None:
    if not 0 <= seed < 2**31:
        raise ValueError(f"seed must lie in [0, 2^31), not {seed}")


def check_threads(threads: int | str) -> None:
    if threads != "auto" and not 1 <= int(threads) <= 1024:
        raise ValueError(f"threads must be auto or 1 to 1024, not {threads}")


@dataclass(frozen=True)
class RunOptions:
    """The run itself. Defaults are this script's own unless a line says otherwise."""

    total_steps: int  # environment steps in all, over all sub-environments (preset)
    seed: int = 0  # of weights, noise, replay and environments
    n_envs: int = 1  # sub-environments stepped together (preset)
    vectorization: Literal["auto", "sync", "async", "vector_entry_point"] = "auto"
    # how they are stepped: in this process, in a process each, or by the environment's own
    # vectorized form; auto: the fastest, measured at the start
    device: Literal["auto", "cpu", "cuda"] = "auto"  # auto: cuda where there is one
    threads: Literal["auto"] | int = "auto"  # PyTorch's CPU threads; auto: measured at the start
    compile: Literal["auto", "yes", "no"] = "auto"  # torch.compile the update; auto: if it pays
    randomization: str | None = None  # a spec's name or file: training episodes are drawn from it
    run_dir: Path | None = None  # must not exist yet; default: runs/ALGO-ENV-seedS-TIME
    resume: Path | None = None  # a run directory to go on with
    checkpoint_every: int = 25_000  # environment steps between two checkpoints
    eval_every: int = 5_000  # environment steps between two evaluations
    eval_episodes: int = 10  # deterministic episodes an evaluation, on held-out seeds
    video: bool = True  # render the final policy to videos/final.mp4

    def __post_init__(self) -> None:
        for name in ["total_steps", "n_envs", "checkpoint_every", "eval_every", "eval_episodes"]:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")
        for name in ["n_envs", "eval_episodes"]:
            if getattr(self, name) > 10_000:
                raise ValueError(f"{name} must be at most 10,000, not {getattr(self, name)}")
        check_threads(self.threads)
        check_seed(self.seed)


def parse(type_: type[T], args: list[str], prog: str, description: str = "", **kwargs: Any) -> T:
    """``tyro.cli`` with flags without prefixes, whose errors are UserErrors of one line."""
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            parsed: T = tyro.cli(
                type_,
                args=args,
                prog=prog,
                description=description,
                config=(tyro.conf.OmitArgPrefixes,),
                **kwargs,
            )
            return parsed
    except SystemExit as exit_:
        if not exit_.code:
            raise
        raise UserError(_one_line(errors.getvalue(), prog)) from None


def _one_line(box: str, prog: str) -> str:
    """The text of tyro's error box without its frame and without the flags' help texts."""
    lines = [re.sub(r"^[│╭╰─|+\s]+|[│╮╯─|+\s]+$", "", line) for line in box.splitlines()]
    lines = [line for line in lines[1:] if line.strip("-")]
    kept: list[str] = []
    for line in lines:
        if line.startswith(("Argument helptext", "For full helptext")):
            break
        kept.append(line)
        if len(kept) > 1 and kept[-2].startswith("Perhaps you meant"):
            break
    return f"{' '.join(kept)} ({prog} --help lists the flags)"
