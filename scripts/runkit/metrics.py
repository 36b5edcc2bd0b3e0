"""Metrics to CSV and TensorBoard."""

import csv
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter


class CsvLog:
    """A CSV file that rows are appended to, each written out at once.

    The columns are those of the first row. When a run is resumed, rows from after the checkpoint
    are dropped: those steps are about to be done again.
    """

    def __init__(self, file: Path, after_step: int) -> None:
        self.file = file
        kept: list[dict[str, str]] = []
        if file.exists():
            with open(file, newline="") as stream:
                kept = [row for row in csv.DictReader(stream) if int(row["step"]) <= after_step]
        self.columns = list(kept[0]) if kept else None
        self.stream = open(file, "w", newline="")  # noqa: SIM115 - held open for the whole run
        self.writer = csv.writer(self.stream)
        if self.columns:
            self.writer.writerow(self.columns)
            self.writer.writerows(row.values() for row in kept)
        self.stream.flush()

    def write(self, row: dict[str, Any]) -> None:
        if self.columns is None:
            self.columns = list(row)
            self.writer.writerow(self.columns)
        self.writer.writerow([row.get(name, "") for name in self.columns])
        self.stream.flush()

    def close(self) -> None:
        self.stream.close()


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
        for log in (self.metrics, self.evals, self.board):
            log.close()
