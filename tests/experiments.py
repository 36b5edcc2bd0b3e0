"""What the tests of papers' experiments share."""

import json
import math
import shutil
from pathlib import Path

import train_paper
from command import run


def assert_runs_and_resumes(folder: Path, key: str, figure: str, *flags: object) -> Path:
    """The experiment runs in ``folder``, ``figure`` is finite, and all are the same when its last
    training has to be done again. Returns its one picture.
    """
    outcome = run(train_paper.main, key, "--threads", 1, "--run-dir", folder, *flags)
    assert outcome.status == 0, outcome
    figures = json.loads((folder / "summary.json").read_text())["figures"]
    assert math.isfinite(figures[figure])
    (picture,) = (folder / "pictures").iterdir()
    assert picture.read_bytes().startswith(b"\x89PNG")

    last = max((folder / "checkpoint").iterdir(), key=lambda stage: int(stage.name))
    shutil.rmtree(last)
    (folder / "summary.json").unlink()
    outcome = run(train_paper.main, "--resume", folder)
    assert outcome.status == 0, outcome
    assert json.loads((folder / "summary.json").read_text())["figures"] == figures
    return picture
