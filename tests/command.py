"""Running the scripts from tests: in this process where that is enough, else as a user does."""

import contextlib
import io
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from runkit.errors import run_main

ROOT = Path(__file__).resolve().parents[1]

# A small SAC that updates from the start: the machinery is the same, the networks are not.
SMALL = ["--batch-size", "16", "--hidden-sizes", "8", "8", "--buffer-size", "1000"]
SMALL += ["--learning-starts", "50", "--threads", "1", "--compile", "no", "--no-video"]
SMALL += ["--eval-episodes", "2", "--eval-every", "200"]


@dataclass
class Outcome:
    """What a command left behind."""

    status: int
    out: str
    err: str


def run(main: Callable[[list[str]], int], *args: object) -> Outcome:
    """``python scripts/X.py ARGS`` in this process."""
    out, err = io.StringIO(), io.StringIO()
    status = 0
    with (
        mock.patch.object(sys, "argv", ["script", *map(str, args)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            run_main(main)
        except SystemExit as exit_:
            status = exit_.code if isinstance(exit_.code, int) else 1
    return Outcome(status, out.getvalue(), err.getvalue())


def assert_error(outcome: Outcome, *words: str) -> None:
    """One line on standard error that begins ``error:`` and holds ``words``; status 2."""
    assert outcome.status == 2, outcome
    lines = outcome.err.splitlines()
    assert len(lines) == 1, outcome.err
    assert lines[0].startswith("error: "), outcome.err
    for word in words:
        assert word in lines[0], f"{word!r} is not in {lines[0]!r}"


def files(folder: Path) -> dict[str, bytes]:
    """Every file below ``folder`` with its content, to show that nothing was touched."""
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}
