"""metrics.csv whose rows need not have the same columns, and TensorBoard events beside it."""

import csv
import io
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from runkit.rundir import write_text


class RowLog:
    """Rows in a CSV file, made anew, each written out at once.

    A row with columns that none before it had lets the file be written again, with empty cells.
    """

    def __init__(self, file: Path, board: SummaryWriter) -> None:
        self.file, self.board = file, board
        self.rows: list[dict[str, Any]] = []
        self.columns: list[str] = []
        file.unlink(missing_ok=True)

    def write(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        new = [name for name in row if name not in self.columns]
        self.columns += new
        if new:
            header = {name: name for name in self.columns}
            write_text(self.file, self._text([header, *self.rows]))
        else:
            with open(self.file, "a", newline="") as stream:
                stream.write(self._text([row]))
        prefix = f"{row['stage']}/" if "stage" in row else ""
        for name, value in row.items():
            if name != "step" and isinstance(value, (int, float)):
                self.board.add_scalar(f"{prefix}{name}", value, row["step"])

    def _text(self, rows: list[dict[str, Any]]) -> str:
        stream = io.StringIO()
        csv.DictWriter(stream, self.columns, restval="").writerows(rows)
        return stream.getvalue()

    def close(self) -> None:
        self.board.close()
