"""Starting a cell's process, and what became of it."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from runkit import PYTHONPATH
from runkit.benchmark.records import settings
from runkit.benchmark.suite import Cell
from runkit.rundir import write_text

WORKER = Path(__file__).with_name("worker.py")


@dataclass(frozen=True)
class Request:
    """What a worker is asked to do."""

    arm: str
    seed: int
    folder: str  # for its files; what a killed worker left there is gone on with
    video: bool
    algorithm: str
    env_id: str
    total_steps: int
    n_envs: int
    eval_every: int
    eval_episodes: int
    hyperparameters: dict[str, Any]  # of our config

    @classmethod
    def of(cls, cell: Cell, folder: Path) -> "Request":
        """Only the first seed is filmed."""
        plain = settings(cell.task)
        del plain["threads"], plain["hyperparameters_from"]
        return cls(cell.arm, cell.seed, str(folder / cell.name), cell.seed == 0, **plain)


class Worker:
    """A cell's process."""

    def __init__(self, request: Request) -> None:
        self.folder = Path(request.folder)
        text = json.dumps(asdict(request))
        begun = self.folder / "request.json"
        if not (begun.is_file() and begun.read_text() == text):
            clear(request)  # what lies there was begun with other settings
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(begun, text)
        self.log = self.folder / "log.txt"
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(WORKER)],
                stdin=subprocess.PIPE,  # stays open: when it closes, the worker stops
                stdout=log,
                stderr=subprocess.STDOUT,
                env={
                    **os.environ,
                    "PYTHONPATH": PYTHONPATH,
                    # Otherwise the worker's folder comes first, and has a statistics.py.
                    "PYTHONSAFEPATH": "1",
                    "OMP_NUM_THREADS": "1",
                },
                start_new_session=True,  # Ctrl-C is for the benchmark, which passes it on
            )
        assert self.process.stdin is not None
        self.stdin = self.process.stdin
        try:
            self.stdin.write(text.encode() + b"\n")
            self.stdin.flush()
        except BrokenPipeError:  # it died at once; its log says why
            pass

    def running(self) -> bool:
        return self.process.poll() is None

    def stop(self) -> None:
        """Asks it to save and stop, and waits until it has."""
        self.process.terminate()
        self.process.wait()

    def outcome(self) -> dict[str, Any]:
        """What a worker that ended did: its outcome, or ``{"error": one line}``."""
        status = self.process.wait()
        self.stdin.close()
        file = self.folder / "outcome.json"
        if status == 0 and file.is_file():
            outcome: dict[str, Any] = json.loads(file.read_text())
            return outcome
        lines = self.log.read_text(errors="replace").strip().splitlines()
        if status < 0:
            return {"error": f"killed by signal {-status}"}
        return {"error": lines[-1][:300] if lines else f"exit status {status}"}


def clear(request: Request) -> None:
    """Deletes the working files of a cell whose result is kept elsewhere."""
    shutil.rmtree(request.folder, ignore_errors=True)
