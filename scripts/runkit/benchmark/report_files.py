"""Everything that a finished benchmark leaves behind beside its raw results."""

import shutil
from pathlib import Path

from runkit.benchmark.launch import Request
from runkit.benchmark.records import Results
from runkit.benchmark.suite import Cell, Suite


def keep_video(request: Request, cell: Cell, out: Path) -> None:
    file = Path(request.folder) / "video.mp4"
    if file.exists():
        (out / "videos").mkdir(exist_ok=True)
        shutil.move(file, out / "videos" / f"{cell.name}.mp4")


def write(suite: Suite, results: Results, out: Path, command: str) -> None:
    pass
