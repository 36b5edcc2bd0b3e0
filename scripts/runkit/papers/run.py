"""One run of a paper's experiment: what it may use, and what is kept of it.

    config.json              what was asked for
    metrics.csv              a row an evaluation (and TensorBoard events)
    checkpoint/0, 1, …       the whole state of each training of the experiment, in their order
    model/*.safetensors      the weights that each training ended with
    pictures/*.png           what the experiment draws
    summary.json             the figures

An experiment may train several models, one after the other. A resumed run calls it again from the
start; each ``train`` that had begun goes on from its checkpoint, and one that had ended gives its
weights and rows back at once. Training and evaluating leave the global random numbers as they
were, so what is drawn afterwards is the same, and a resumed run is bit for bit the run that was
never stopped.
"""

import math
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from safetensors.torch import save_file
from torch.utils.tensorboard import SummaryWriter

from runkit.papers.log import RowLog
from runkit.progress import TrainingProgress
from runkit.rundir import RunDir, machine, versions, write_json
from runkit.signals import StopRequest

from agents.failures import TrainingFailure, check_metrics
from agents.state import StateError, load_state, save_state
from supervised.fit import Fit, FitReport, NotFiniteError

matplotlib.use("Agg")  # pictures are files

BAR_SECONDS = 0.1  # between two moves of the progress bar
JOB: dict[str, type] = {
    "paper": str,
    "dataset": str,
    "seed": int,
    "device": str,
    "threads": int,
    "options": dict,
}  # fields of a job, which config.json has too
Row = dict[str, Any]


class Stopped(Exception):
    """A signal came; what can be saved is."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"stopped by signal {signal_number}")
        self.signal_number = signal_number


class PaperRun:
    """What an experiment gets: a data set's name, a seed, a device, and ways to report.

    Args:
        folder: of the run; made when there is something to put into it.
        job: the resolved command as plain data, with the fields in ``JOB``.
        record: the content of config.json.
        stop: asked after every step and with every row; long work beside trainings asks it itself.
        checkpoint_every: seconds between two checkpoints of a training.

    """

    def __init__(
        self,
        folder: RunDir,
        job: dict[str, Any],
        record: dict[str, Any],
        stop: StopRequest,
        checkpoint_every: float,
    ) -> None:
        self.dataset: str = job["dataset"]
        self.seed: int = job["seed"]
        self.device: str = job["device"]
        self._dir, self._job, self._record, self.stop = folder, job, record, stop
        self._checkpoint_every = checkpoint_every
        self._saved = self._load_checkpoints()
        self._stages = 0
        self._names: set[str] = set()
        self._seconds = max((state["seconds"] for state in self._saved), default=0.0)
        self._started = time.monotonic()
        self._rows: list[Row] = []  # of a resumed run, until it is open
        self._log: RowLog | None = None
        seed_all(self.seed)

    # -- for experiments -------------------------------------------------------------------------

    @property
    def folder(self) -> Path:
        """The run directory."""
        self._make_folder()
        return self._dir.path

    def say(self, text: str) -> None:
        """Prints a line."""
        print(text, flush=True)

    def log(self, row: Row) -> None:
        """A row with "step" and figures, for metrics.csv and TensorBoard."""
        if self._stages >= len(self._saved):  # else more is to be restored
            self._open()
        self._add(row)
        self._check_stop()

    def picture(self, name: str) -> Path:
        """Where to save a matplotlib figure called ``name``."""
        self._make_folder()
        self._dir.pictures.mkdir(exist_ok=True)
        return self._dir.pictures / (name if "." in name else f"{name}.png")

    def train(
        self,
        fit: Fit,
        steps: int,
        evaluate: Callable[[], dict[str, float]],
        eval_every: int,
        name: str = "",
    ) -> list[dict[str, Any]]:
        """Trains until ``steps`` are done, with progress, rows, checkpoints and resume.

        Args:
            fit: freshly made.
            steps: in all.
            evaluate: figures of the model as it is, with random numbers that depend on the seed
                and the step alone; called every ``eval_every`` steps and at the end.
            eval_every: steps between two evaluations.
            name: of what is trained, where an experiment trains several; a second one of the
                same name gets its number too.

        Returns:
            The rows of this training, also those from before it was resumed: step, stage (name
            or number), epoch, loss (mean since the row before), learning_rate, figures.

        """
        name = name or str(self._stages)
        if name in self._names:
            name = f"{name}-{self._stages}"
        self._names.add(name)
        stage = Stage(self, fit, steps, name, self._dir)
        if self._stages < len(self._saved):
            stage.restore(self._saved[self._stages])
        self._stages += 1
        stage.finish(evaluate, eval_every)
        return stage.rows

    # -- for the script --------------------------------------------------------------------------

    def finish(self, figures: dict[str, Any], **about: Any) -> dict[str, Any]:
        """Writes summary.json, and returns it; ``about`` are its other fields."""
        self._open()
        summary = {
            "paper": self._job["paper"],
            "dataset": self.dataset,
            "seed": self.seed,
            "figures": {name: _plain(value) for name, value in figures.items()},
            "options": self._job["options"],
            "wall_seconds": round(self.seconds(), 1),
            **about,
        }
        write_json(self._dir.summary, summary)
        return summary

    def close(self) -> None:
        if self._log is not None:
            self._log.close()

    def seconds(self) -> float:
        """Wall time so far, over all resumes."""
        return self._seconds + time.monotonic() - self._started

    # -- inside ----------------------------------------------------------------------------------

    def _load_checkpoints(self) -> list[dict[str, Any]]:
        """The states of the trainings that had begun, each as ``Stage.save`` wrote it."""
        states: list[dict[str, Any]] = []
        while (folder := self._dir.checkpoint / str(len(states))).exists():
            state = load_state(folder)
            if state.get("job") != self._job:
                raise StateError(f"{folder} is a checkpoint of another run than {self._dir.config}")
            if state.keys() != STATE:
                raise StateError(f"{folder} has or lacks {', '.join(STATE ^ state.keys())}")
            if type(state["seconds"]) is not float:
                raise StateError(f"{folder} is damaged: seconds are {state['seconds']!r}")
            states.append(state)
        return states

    def _make_folder(self) -> None:
        if not self._dir.path.exists():
            self._dir.path.mkdir(parents=True)
            write_json(self._dir.config, self._record)

    def _open(self) -> None:
        """From here on the run writes rows. Until then a resumed run keeps those from before: what
        it is to go on from may turn out not to fit.
        """
        if self._log is not None:
            return
        self._make_folder()
        for events in self._dir.path.glob("events.out.tfevents.*"):
            events.unlink()  # their rows are written again
        self._log = RowLog(self._dir.metrics, SummaryWriter(str(self._dir.path)))
        for row in self._rows:
            self._log.write(row)

    def _add(self, row: Row) -> None:
        if self._log is None:
            self._rows.append(row)
        else:
            self._log.write(row)

    def _check_stop(self) -> None:
        if self.stop.number is not None:
            raise Stopped(self.stop.number)


def carry_out(
    job: dict[str, Any],
    folder: RunDir,
    experiment: Callable[[PaperRun], dict[str, Any]],
    packages: list[str],
    checkpoint_every: float,
    command: str,
) -> int:
    """Runs an experiment to its end or to a signal, and says how it ended; returns the exit status.

    Args:
        job, folder, checkpoint_every: see ``PaperRun``.
        experiment: returns the figures.
        packages: whose versions are noted.
        command: that the run is resumed with, before --resume.

    """
    about = {"machine": machine(), "versions": versions(packages)}
    with StopRequest() as stop:
        run = PaperRun(folder, job, job | about, stop, checkpoint_every)
        try:
            summary = run.finish(experiment(run), **about)
        except Stopped as stopped:
            print("stopped; what was done is saved. Go on with:")
            print(f"  python scripts/{command} --resume {run.folder}")
            return 128 + stopped.signal_number
        finally:
            run.close()
    for name, value in summary["figures"].items():
        print(f"{name}: {value:.4g}" if isinstance(value, float) else f"{name}: {value}")
    for picture in sorted(folder.pictures.glob("*")):
        print(f"picture: {picture}")
    print(f"run directory: {folder.path}")
    return 0


STATE = {"job", "stage", "steps", "fit", "rows", "losses", "seconds"}


class Stage:
    """One training of an experiment."""

    def __init__(self, run: PaperRun, fit: Fit, steps: int, name: str, folder: RunDir) -> None:
        self.run, self.fit, self.steps, self.name = run, fit, steps, name
        self.checkpoint = folder.checkpoint / str(run._stages)
        self.weights = folder.models / f"{name}.safetensors"
        self.rows: list[Row] = []
        self.losses: list[float] = []  # since the last row
        self.saved_at: int | None = None
        self.saved_time = time.monotonic()

    def restore(self, state: dict[str, Any]) -> None:
        """Raises StateError if the state is not one of this training."""
        try:
            if (state["stage"], state["steps"]) != (self.name, self.steps):
                raise ValueError(f"it is of {state['steps']} steps of {state['stage']!r}")
            self.fit.load_state_dict(state["fit"])
            self.rows, self.losses = list(state["rows"]), [float(x) for x in state["losses"]]
            if not all(isinstance(row, dict) and "step" in row for row in self.rows):
                raise ValueError("its rows are none")
        except (TypeError, ValueError) as error:
            raise StateError(f"{self.checkpoint} does not fit this run: {error}") from None
        self.saved_at = self.fit.step
        for row in self.rows:
            self.run._add(row)

    def finish(self, evaluate: Callable[[], dict[str, float]], eval_every: int) -> None:
        if self.fit.step >= self.steps:
            return
        self.run._open()
        shown = 0.0
        with TrainingProgress(self.steps, self.fit.step, describe) as progress:

            def on_step(report: FitReport) -> bool:
                nonlocal shown
                self.losses.append(report.loss)
                now = time.monotonic()
                if now - shown > BAR_SECONDS:
                    shown = now
                    progress.advance(report.step)
                if report.step % eval_every == 0 or report.step == self.steps:
                    progress.show(self.evaluate(report, evaluate))
                stopping = self.run.stop.number is not None
                due = now - self.saved_time >= self.run._checkpoint_every
                if stopping or due or report.step == self.steps:
                    self.save()
                return not stopping

            with self.failures():
                self.fit.run(self.steps, on_step)
        if self.fit.step < self.steps:
            self.run._check_stop()

    def evaluate(self, report: FitReport, evaluate: Callable[[], dict[str, float]]) -> Row:
        with random_numbers_apart(self.fit.device):
            seed_all(self.run.seed + report.step)
            metrics = {name: float(value) for name, value in evaluate().items()}
        check_metrics(metrics, report.step)
        row = {
            "step": report.step,
            "stage": self.name,
            "epoch": report.epoch,
            "loss": sum(self.losses) / len(self.losses),
            "learning_rate": report.learning_rate,
            **metrics,
        }
        self.losses = []
        self.rows.append(row)
        self.run._add(row)
        return row

    def save(self) -> None:
        """The state, and the weights as they are to be used: averaged, if they are averaged."""
        state = {
            "job": self.run._job,
            "stage": self.name,
            "steps": self.steps,
            "fit": self.fit.state_dict(),
            "rows": self.rows,
            "losses": self.losses,
            "seconds": self.run.seconds(),
        }
        save_state(self.checkpoint, state)
        self.saved_at, self.saved_time = self.fit.step, time.monotonic()
        with self.fit.averaged() as model:
            tensors = {
                name: tensor.detach().cpu().clone().contiguous()
                for name, tensor in model.state_dict().items()
            }
        self.weights.parent.mkdir(exist_ok=True)
        temporary = self.weights.with_suffix(".tmp")
        try:
            save_file(tensors, temporary)
            os.replace(temporary, self.weights)
        finally:
            temporary.unlink(missing_ok=True)

    @contextmanager
    def failures(self) -> Iterator[None]:
        """Says, of what ends a training, from where it can be gone on with."""
        try:
            yield
        except (NotFiniteError, TrainingFailure, StateError, OSError) as error:
            path = self.run._dir.path
            left = f"there is no checkpoint yet in {path}"
            if self.saved_at is not None:
                left = f"the checkpoint of step {self.saved_at:,} is whole: --resume {path}"
            raise TrainingFailure(f"{self.name}: {error}; {left}") from error


def seed_all(seed: int) -> None:
    """Of Python's, NumPy's and PyTorch's global random numbers."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@contextmanager
def random_numbers_apart(device: torch.device) -> Iterator[None]:
    """Leaves the global random numbers as they were."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def describe(row: Row) -> str:
    """The figures of a row, for the progress line."""
    numbers = [(name, value) for name, value in row.items() if name not in ("step", "stage")]
    return "  ".join(f"{name} {value:.4g}" for name, value in numbers)


def _plain(value: Any) -> Any:
    """Figures as JSON has them; a number that is not finite becomes null."""
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, (torch.Tensor, np.generic)):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
