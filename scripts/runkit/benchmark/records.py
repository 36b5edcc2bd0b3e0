"""results.jsonl: one line a cell that ended, with everything a sceptic would ask for."""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from runkit.benchmark.suite import ARMS, Cell, Suite, Task
from runkit.errors import UserError
from runkit.rundir import write_text

from agents.state import parse_json

FORMAT = 1  # of a line; changes with the meaning of its fields


@dataclass(frozen=True)
class Evaluation:
    """Deterministic episodes of the policy at one moment of the training."""

    step: int
    seconds: float  # of training so far, without evaluations, checkpoints and start
    returns: list[float]

    @property
    def mean(self) -> float:
        return sum(self.returns) / len(self.returns)


@dataclass(frozen=True)
class Record:
    """How one cell ended."""

    suite: str
    task: str  # key
    arm: str
    seed: int
    settings: dict[str, Any]  # see ``settings``
    status: str  # "finished" or "failed"
    error: str | None
    evaluations: list[Evaluation]
    env_steps_per_second: float | None
    updates_per_second: float | None
    train_seconds: float | None
    peak_memory_bytes: int | None
    machine: str
    versions: dict[str, str]
    commit: str | None
    command: str
    finished: str  # UTC, ISO 8601
    format: int = FORMAT

    @property
    def finished_well(self) -> bool:
        return self.status == "finished"


def settings(task: Task) -> dict[str, Any]:
    """What makes two runs comparable: the same for both arms, kept with every result."""
    plain = {
        "algorithm": task.algorithm,
        "env_id": task.env_id,
        "total_steps": task.total_steps,
        "n_envs": task.n_envs,
        "eval_every": task.eval_every,
        "eval_episodes": task.eval_episodes,
        "threads": 1,
        "hyperparameters_from": task.source,
        "hyperparameters": asdict(task.config()),
    }
    as_read: dict[str, Any] = json.loads(json.dumps(plain))  # lists for tuples
    return as_read


class Results:
    """The records in a folder, of which the last one of a cell counts; raises UserError.

    One process at a time writes: ``locked``. The file is replaced as a whole, so that it is
    complete at every moment.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / "results.jsonl"
        self.lines: list[str] = []
        self.records: dict[tuple[str, str, int], Record] = {}
        if self.file.exists():
            for number, line in enumerate(self._text().splitlines(), start=1):
                record = self._read(number, line)
                self.lines.append(line)
                self.records[record.task, record.arm, record.seed] = record

    def add(self, record: Record) -> None:
        self.lines.append(json.dumps(asdict(record), allow_nan=False))
        self.records[record.task, record.arm, record.seed] = record
        write_text(self.file, "".join(f"{line}\n" for line in self.lines))

    def get(self, cell: Cell) -> Record | None:
        return self.records.get((cell.task.key, cell.arm, cell.seed))

    def check(self, suite: Suite, versions: dict[str, str] | None = None) -> None:
        """Refuses results of other tasks, settings or (if given) package versions."""
        tasks = {task.key: settings(task) for task in suite.tasks}
        for record in self.records.values():
            where = f"{self.file}: {record.task}, {record.arm}, seed {record.seed}"
            if record.suite != suite.name or record.task not in tasks:
                raise UserError(f"{where} is not of suite {suite.name}; choose another --out")
            for name, value in tasks[record.task].items():
                if record.settings.get(name) != value:
                    had = record.settings.get(name)
                    raise UserError(
                        f"{where} was made with {name} {had}, and the suite says {value} now; "
                        "choose another --out"
                    )
            for name, installed in (versions or {}).items():
                if name in record.versions and record.versions[name] != installed:
                    raise UserError(
                        f"{where} was made with {name} {record.versions[name]}, and {installed} is "
                        "installed: results of two versions do not mix; choose another --out"
                    )

    def _text(self) -> str:
        try:
            return self.file.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{self.file} cannot be read: {error}") from None

    def _read(self, number: int, line: str) -> Record:
        where = f"{self.file}, line {number}"
        try:
            data = parse_json(line)
            if not isinstance(data, dict):
                raise ValueError("no JSON object")
        except ValueError as error:
            raise _damaged(where, error) from None
        if data.get("format") != FORMAT:
            raise UserError(
                f"{where} has format {data.get('format')!r}, and this version reads {FORMAT}; "
                "choose another --out"
            )
        try:
            return _record(data)
        except (TypeError, ValueError, KeyError) as error:
            raise _damaged(where, error) from None


def _damaged(where: str, error: Exception) -> UserError:
    return UserError(f"{where} is damaged ({error}); delete the line to run its cell again")


def _record(data: dict[str, Any]) -> Record:
    """A Record from parsed JSON, each field of its type."""
    names = {f.name for f in fields(Record)}
    if data.keys() != names:
        raise ValueError(f"it has or lacks {', '.join(sorted(data.keys() ^ names))}")
    data = data | {"evaluations": [Evaluation(**entry) for entry in data["evaluations"]]}
    number = (int, float)
    types: dict[str, Any] = {
        **dict.fromkeys(("suite", "task", "status", "machine", "command", "finished"), str),
        **dict.fromkeys(("settings", "versions"), dict),
        "arm": str,
        "seed": int,
    }
    for name, type_ in types.items():
        if not isinstance(data[name], type_):
            raise ValueError(f"{name} is {data[name]!r}")
    if data["arm"] not in ARMS or data["status"] not in ("finished", "failed"):
        raise ValueError(f"arm {data['arm']!r}, status {data['status']!r}")
    for evaluation in data["evaluations"]:
        values = [evaluation.step, evaluation.seconds, *evaluation.returns]
        if not evaluation.returns or not all(isinstance(v, number) for v in values):
            raise ValueError("an evaluation without numbers")
    if data["status"] == "finished":
        speeds = (
            "env_steps_per_second",
            "updates_per_second",
            "train_seconds",
            "peak_memory_bytes",
        )
        if not data["evaluations"] or not all(isinstance(data[s], number) for s in speeds):
            raise ValueError("a finished cell without evaluations or speeds")
    return Record(**data)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps a second benchmark out of the folder; a killed one leaves nothing that locks."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another benchmark is at work in {folder}") from None
        yield
