"""The speed suite: what is measured, kept, skipped and tabulated; and that its worker measures."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import benchmark
import pytest
from command import assert_error, run

from runkit import PYTHONPATH
from runkit.benchmark import speed
from runkit.devices import thread_counts

SUITE = speed.SpeedSuite.load()


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, int]]:
    """Replaces measuring; returns what was asked for, in order."""
    asked: list[tuple[str, str, int]] = []

    def measure(
        python: str, arm: str, task: speed.SpeedTask, threads: int, seconds: float
    ) -> dict[str, Any]:
        asked.append((task.key, arm, threads))
        rate = (1000.0 if arm == "firsthand" else 400.0) + 10 * threads
        ours = {"split": {"act": 0.001, "update": 0.002}, "gflops": 100.0, "update_gflop": 0.1}
        result: dict[str, Any] = {"steps_per_second": rate, "updates_per_step": 0.5}
        return result | {"peak_memory_bytes": 10**8} | (ours if arm == "firsthand" else {})

    monkeypatch.setattr(speed, "_measure", measure)
    return asked


def test_arms_in_turn_round_after_round_and_never_twice(
    tmp_path: Path, measured: list[tuple[str, str, int]]
) -> None:
    out = tmp_path / "speed"
    assert run(benchmark.main, "speed", "--seeds", "1", "--out", out).status == 0
    per_round = len(SUITE.tasks) * 2 * len(thread_counts())
    assert len(measured) == per_round
    arms = [arm for key, arm, threads in measured if threads == 1]
    assert arms == ["firsthand", "stable_baselines3"] * len(SUITE.tasks)
    assert run(benchmark.main, "speed", "--seeds", "2", "--out", out).status == 0
    assert len(measured) == 2 * per_round, "the first round was there"
    text = (out / "README.md").read_text()
    best = max(thread_counts())
    ratio = (1000 + 10 * best) / (400 + 10 * best)
    assert f"| Stable-Baselines3 | {best} | {400 + 10 * best} |" in text
    assert f"| {ratio:.2f} |" in text
    assert "0.10 GFLOP, 1.00 ms at the 100 GFLOP/s measured: 50%" in text


def test_the_median_of_the_better_thread_count_is_compared(tmp_path: Path) -> None:
    measurements = speed.Measurements(tmp_path)
    for threads, rates in ((1, [5, 6, 100]), (2, [7, 8, 9])):
        for round_, rate in enumerate(rates):
            entry = {"format": speed.FORMAT, "task": "t", "arm": "firsthand", "round": round_}
            measurements.add(entry | {"threads": threads, "steps_per_second": rate})
    best = speed.Measurements(tmp_path).best("t", "firsthand")
    assert best is not None
    assert (best["threads"], best["steps_per_second"]) == (2, 8)
    assert measurements.best("t", "stable_baselines3") is None


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"task": "t"', "line 1 is damaged"),
        ('{"task": "t"}', "line 1 is damaged"),
        (json.dumps({"task": "t", "arm": "a", "threads": 1, "round": 0}), "damaged"),
    ],
)
def test_a_damaged_line_is_one_line(
    tmp_path: Path, line: str, words: str, measured: list[tuple[str, str, int]]
) -> None:
    (tmp_path / "speed.jsonl").write_text(line + "\n")
    assert_error(run(benchmark.main, "speed", "--out", tmp_path), words)
    assert (tmp_path / "speed.jsonl").read_text() == line + "\n"
    assert not measured


def test_lines_of_another_version(tmp_path: Path) -> None:
    entry = {"task": "t", "arm": "a", "threads": 1, "round": 0, "steps_per_second": 1.0}
    (tmp_path / "speed.jsonl").write_text(json.dumps(entry | {"format": 0}) + "\n")
    assert_error(run(benchmark.main, "speed", "--out", tmp_path), "is of another version")


@pytest.mark.lifecycle
@pytest.mark.parametrize("arm", ["firsthand", "stable_baselines3"])
def test_the_worker_measures(arm: str) -> None:
    command = [sys.executable, str(speed.WORKER), arm, "a2c", "CartPole-v1", "2", "1", "0.1"]
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH}
    done = subprocess.run([*command, "defaults"], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["steps_per_second"] > 100
    assert result["updates_per_step"] == 0.1
    assert result["peak_memory_bytes"] > 10**8
