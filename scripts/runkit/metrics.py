"""Metrics to CSV and TensorBoard."""

import csv
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from runkit.errors import UserError
from runkit.rundir import write_text


class CsvLog:
    """A CSV file that rows are appended to, each written out at once.

    The columns are those of the first row. When a run is resumed, rows from after the checkpoint
    are dropped: those steps are about to be done again. So are rows that a killed process or a
    damaged disk left unreadable.
    """

    def __init__(self, file: Path, after_step: int) -> None:
        lines = read_lines(file)
        header, rows = lines[:1], [line for line in lines[1:] if _step(line) <= after_step]
        kept = [*header, *rows] if rows else []
        text = "".join(f"{line}\r\n" for line in kept)
        if file.exists() and file.read_bytes() != text.encode():
            write_text(file, text)
        self.columns = kept[0].split(",") if kept else None
        self.stream = open(file, "a", newline="")  # noqa: SIM115 - held open for the whole run
        self.writer = csv.writer(self.stream)

    def write(self, row: dict[str, Any]) -> None:
        if self.columns is None:
            self.columns = list(row)
            self.writer.writerow(self.columns)
        self.writer.writerow([row.get(name, "") for name in self.columns])
        self.stream.flush()

    def close(self) -> None:
        self.stream.close()


def read_lines(file: Path) -> list[str]:
    """The whole lines of a log, its header first; raises UserError if it is no log."""
    if not file.exists():
        return []
    if not file.is_file():
        raise UserError(f"{file} is no file")
    content = file.read_bytes().decode(errors="replace")
    header, *rows = [line.rstrip("\r") for line in content.split("\n")]
    if not rows:  # without its line break a line is torn
        return []
    if not header.startswith("step,"):
        raise UserError(f"{file} is damaged: its columns do not begin with step")
    commas = header.count(",")
    return [header, *(row for row in rows[:-1] if row.count(",") == commas and _step(row) >= 0)]


def _step(line: str) -> int:
    """The first number of a line; -1 if there is none."""
    text = line.split(",", 1)[0]
    return int(text) if text.isdecimal() and len(text) < 20 else -1


class MetricsLog:
    """metrics.csv, eval.csv and TensorBoard events of one run."""

    def __init__(self, metrics: Path, evals: Path, after_step: int = -1) -> None:
        self.metrics, self.evals = CsvLog(metrics, after_step), CsvLog(evals, after_step)
        self.board = SummaryWriter(str(metrics.parent), purge_step=after_step + 1)

    def train(self, row: dict[str, Any]) -> None:
        self.metrics.write(row)
        self._to_board("train", row)

    def evaluation(self, row: dict[str, Any]) -> None:
        self.evals.write(row)
        self._to_board("eval", {k: v for k, v in row.items() if not k.startswith("episode_")})

    def _to_board(self, prefix: str, row: dict[str, Any]) -> None:
        for name, value in row.items():
            if name != "step" and isinstance(value, (int, float)):
                self.board.add_scalar(f"{prefix}/{name}", value, row["step"])

    def close(self) -> None:
        with ExitStack() as stack:  # all of them, even if one has no room for its last row
            for log in (self.metrics, self.evals, self.board):
                stack.callback(log.close)
