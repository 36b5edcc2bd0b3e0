"""A run that is stopped and resumed ends exactly like one that was not."""

import csv
import json
import os
import signal
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import train_agent
from command import SMALL, Outcome, assert_error, files, run
from lifecycle import assert_same_state, start, wait_for_rows

from agents import DDPGConfig
from agents.state import load_state

pytestmark = pytest.mark.lifecycle

SAC = ["sac", "Pendulum-v1", "--seed", 3, *SMALL]


def train(env_id: str, run_dir: Path, steps: int, *flags: object) -> Outcome:
    options = ["--run-dir", run_dir, "--total-steps", steps, "--seed", 3, *SMALL, *flags]
    outcome = run(train_agent.main, "sac", env_id, *options)
    assert outcome.status == 0, outcome
    return outcome


def assert_resumes_like_a_whole_run(
    folder: Path, steps: int, env_id: str = "Pendulum-v1", *flags: object
) -> None:
    """Resumes ``folder`` up to ``steps``, and compares it with a run that was never stopped."""
    again = run(train_agent.main, "--resume", folder, "--total-steps", steps)
    assert again.status == 0, again
    whole = folder.with_name("whole")
    train(env_id, whole, steps, *flags)
    assert_same_state(whole, folder)


@pytest.mark.parametrize(
    ("env_id", "n_envs", "flags"),
    [
        ("Pendulum-v1", 1, ["--normalize-observations"]),
        ("HalfCheetah-v4", 1, []),
        ("Hopper-v5", 3, ["--normalize-observations"]),  # episodes end at different times
        ("Pendulum-v1", 4, ["--train-freq", 8, "--gradient-steps", 2]),
    ],
)
def test_resumed_run_is_bit_identical(
    tmp_path: Path, env_id: str, n_envs: int, flags: list[object]
) -> None:
    flags = [*flags, "--n-envs", n_envs]
    train(env_id, tmp_path / "parts", 230, *flags)  # in the middle of episodes
    assert_resumes_like_a_whole_run(tmp_path / "parts", 450, env_id, *flags)


def test_another_seed_differs(tmp_path: Path) -> None:
    """The comparison above can fail."""
    train("Pendulum-v1", tmp_path / "one", 120)
    train("Pendulum-v1", tmp_path / "other", 120, "--seed", 4)
    with pytest.raises(AssertionError):
        assert_same_state(tmp_path / "one", tmp_path / "other")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_saves_and_resumes(tmp_path: Path, number: int, status: int) -> None:
    process = start(tmp_path / "stopped", *SAC, "--total-steps", 5_000)
    wait_for_rows(tmp_path / "stopped/eval.csv", 3)
    process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == status
    assert f"sac Pendulum-v1 --resume {tmp_path / 'stopped'}" in out.splitlines()[-1]
    stopped_at = load_state(tmp_path / "stopped/checkpoint")["loop"]["steps"]
    assert 400 <= stopped_at < 5_000

    assert_resumes_like_a_whole_run(tmp_path / "stopped", stopped_at + 150)


def test_killed_run_goes_on_from_its_last_checkpoint(tmp_path: Path) -> None:
    process = start(tmp_path / "killed", *SAC, "--total-steps", 50_000, "--checkpoint-every", 100)
    wait_for_rows(tmp_path / "killed/eval.csv", 4)
    process.kill()
    process.communicate(timeout=60)
    saved_at = load_state(tmp_path / "killed/checkpoint")["loop"]["steps"]
    assert saved_at >= 400

    assert_resumes_like_a_whole_run(tmp_path / "killed", saved_at + 100)


def test_extended_run_stays_extended(tmp_path: Path) -> None:
    train("Pendulum-v1", tmp_path / "run", 100)
    again = run(train_agent.main, "--resume", tmp_path / "run", "--total-steps", 150)
    assert again.status == 0, again
    done = run(train_agent.main, "--resume", tmp_path / "run")
    assert_error(done, "has done its 150 steps")


def test_logs_hold_every_step_once(tmp_path: Path) -> None:
    """Rows from after the checkpoint are replaced, not repeated."""
    train("Pendulum-v1", tmp_path / "run", 2_000)
    evals = tmp_path / "run/eval.csv"
    with open(evals, "a") as stream:  # as if killed after an evaluation that no checkpoint knows
        stream.write("2200,-1.0,0.0,9.9,-1.0,-1.0\n")
    again = run(train_agent.main, "--resume", tmp_path / "run", "--total-steps", 3_000)
    assert again.status == 0, again
    with open(evals, newline="") as stream:
        rows = {int(row["step"]): float(row["return_mean"]) for row in csv.DictReader(stream)}
    assert list(rows) == list(range(0, 3_001, 200))
    assert rows[2_200] != -1.0
    with open(tmp_path / "run/metrics.csv", newline="") as stream:
        assert [int(row["step"]) for row in csv.DictReader(stream)] == [1_000, 2_000, 3_000]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "run"
    train("Pendulum-v1", folder, 120)
    return folder


def damage(folder: Path, what: str) -> None:
    tensors = next((folder / "checkpoint").glob("*.safetensors"))
    state = folder / "checkpoint/state.json"
    if what == "missing":
        state.unlink()
    elif what == "no tensors":
        tensors.unlink()
    elif what == "truncated":
        os.truncate(tensors, tensors.stat().st_size // 2)
    elif what == "empty":
        state.write_text("")
    elif what == "flipped":
        content = bytearray(tensors.read_bytes())
        content[len(content) // 2] ^= 1
        tensors.write_bytes(content)


@pytest.mark.parametrize("what", ["missing", "no tensors", "truncated", "empty", "flipped"])
def test_damaged_checkpoint_is_refused(tmp_path: Path, finished: Path, what: str) -> None:
    folder = tmp_path / "run"
    subprocess.run(["cp", "-r", finished, folder], check=True)
    damage(folder, what)
    before = files(folder)
    outcome = run(train_agent.main, "--resume", folder, "--total-steps", 200)
    assert_error(outcome, "checkpoint")
    assert files(folder) == before


def test_resume_refuses_what_does_not_fit(tmp_path: Path, finished: Path) -> None:
    before = files(finished)
    resume = ["--resume", finished]
    assert_error(run(train_agent.main, *resume), "larger --total-steps")
    assert_error(run(train_agent.main, "sac", "HalfCheetah-v4", *resume), "sac Pendulum-v1")
    assert_error(run(train_agent.main, *resume, "--gamma", "0.9"), "--gamma")
    assert_error(run(train_agent.main, "--resume", tmp_path / "none"), "no run directory")
    assert_error(run(train_agent.main, "--resume", tmp_path), "no config.json")
    assert files(finished) == before


def rename_algorithm(folder: Path, name: str, config: dict[str, Any] | None = None) -> None:
    file = folder / "config.json"
    record = json.loads(file.read_text())
    record |= {"algorithm": name, "config": config or record["config"]}
    file.write_text(json.dumps(record))


def test_checkpoint_of_another_algorithm(tmp_path: Path, finished: Path) -> None:
    folder = tmp_path / "run"
    subprocess.run(["cp", "-r", finished, folder], check=True)
    rename_algorithm(folder, "no such algorithm")
    assert_error(run(train_agent.main, "--resume", folder), "no such algorithm")
    rename_algorithm(folder, "ddpg")
    assert_error(run(train_agent.main, "--resume", folder), "config fields")
    rename_algorithm(folder, "ddpg", asdict(DDPGConfig()))
    assert_error(run(train_agent.main, "--resume", folder), "checkpoint of algorithm 'sac'", "ddpg")
