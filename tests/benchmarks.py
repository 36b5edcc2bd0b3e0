"""What the tests of the benchmark share: a suite of seconds, and results made by hand."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command import ROOT

from runkit.benchmark.records import Evaluation, Record, settings
from runkit.benchmark.suite import ARMS, Suite, Task
from runkit.rundir import peer_versions

TINY = """
title = "Tiny"
band = 0.1

[[tasks]]
algorithm = "a2c"
env_id = "CartPole-v1"
hyperparameters = "defaults"
total_steps = 400
seeds = 1
scale = [20, 500]
evaluations = 2
eval_episodes = 2
"""


# Changes that make of it one that can be killed in the middle.
LONG = {"= 400": "= 40_000", "evaluations = 2": "evaluations = 40"}
STARTED: list[subprocess.Popen[str]] = []  # by ``start``


def write_suite(folder: Path, text: str = TINY, **changes: str) -> Path:
    """A suite's file, with parts of the text replaced: ``old="new"`` pairs as a dict."""
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    file = folder / "tiny.toml"
    file.write_text(text)
    return file


def task(**changes: Any) -> Task:
    values: dict[str, Any] = {
        "algorithm": "dqn",
        "env_id": "CartPole-v1",
        "total_steps": 50_000,
        "seeds": 4,
        "scale": (0.0, 500.0),
        "evaluations": 2,
        "eval_episodes": 2,
    }
    return Task(**(values | changes))


def suite(*tasks: Task) -> Suite:
    return Suite("made", "Made by hand", 0.1, tasks or (task(),))


def record(of: Task, arm: str, seed: int, returns: list[float], **changes: Any) -> Record:
    """A finished cell, whose evaluations have these mean returns, 10 s apart."""
    steps = [of.eval_every * i for i in range(len(returns))]
    evaluations = [
        Evaluation(step, 10.0 * i, [value - 1, value + 1])
        for i, (step, value) in enumerate(zip(steps, returns, strict=True))
    ]
    values: dict[str, Any] = {
        "suite": "made",
        "task": of.key,
        "arm": arm,
        "seed": seed,
        "settings": settings(of),
        "status": "finished",
        "error": None,
        "evaluations": evaluations,
        "env_steps_per_second": 1000.0 if arm == "firsthand" else 400.0,
        "updates_per_second": 500.0,
        "train_seconds": 20.0 if arm == "firsthand" else 50.0,
        "peak_memory_bytes": 10**8,
        "machine": "a machine",
        "versions": peer_versions(),
        "commit": "abc",
        "command": "python scripts/benchmark.py made",
        "finished": "2026-01-01T00:00:00Z",
    }
    return Record(**(values | changes))


def both_arms(of: Task, ours: list[float], theirs: list[float]) -> list[Record]:
    """Finished cells with these final returns, seed by seed."""
    return [
        record(of, arm, seed, [0.0, final / 2, final])
        for arm, finals in zip(ARMS, (ours, theirs), strict=True)
        for seed, final in enumerate(finals)
    ]


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    """For modules that start some: importing it is using it."""
    yield
    while STARTED:
        process = STARTED.pop()
        if process.poll() is None:
            process.kill()
            process.wait()


def start(file: Path, out: Path, *args: object) -> subprocess.Popen[str]:
    command = [sys.executable, "scripts/benchmark.py", file, "--out", out, *args]
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(list(map(str, command)), cwd=ROOT, text=True, **pipes)
    STARTED.append(process)
    return process


def lines(out: Path) -> list[dict[str, Any]]:
    file = out / "results.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def wait_for(happened: Any, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 180
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
