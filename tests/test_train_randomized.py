"""train_agent.py --randomization: which episodes are random, and that a resumed run draws on."""

import json
from pathlib import Path

import pytest
import train_agent
from command import SMALL, assert_error, run
from lifecycle import assert_same_state

from runkit.arguments import RunOptions
from runkit.environments import make_envs
from runkit.training import Job, training_envs

from agents import SACConfig

SPEC = """
[[parameter]]
path = "action.noise"
distribution = { kind = "uniform", low = 0.1, high = 0.5 }
"""
ENV = "Pendulum-v1"


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    file = tmp_path / "noisy.toml"
    file.write_text(SPEC)
    return file


def test_training_episodes_are_drawn_and_evaluations_are_not(spec: Path) -> None:
    options = RunOptions(100, n_envs=2, vectorization="sync", randomization=str(spec))
    envs = training_envs(Job("sac", ENV, options, SACConfig()))
    _, info = envs.reset()
    noises = info["domain"]["action.noise"]
    assert len(set(noises)) == 2
    assert all(0.1 <= noise <= 0.5 for noise in noises)
    assert "domain" not in make_envs(ENV, 2).reset()[1]


def test_a_resumed_run_draws_what_the_whole_one_draws(tmp_path: Path, spec: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    flags = ["sac", ENV, *SMALL, "--n-envs", "2", "--randomization", spec]
    flags += ["--checkpoint-every", "150", "--eval-every", "10000"]
    assert run(train_agent.main, *flags, "--total-steps", "300", "--run-dir", whole).status == 0
    assert run(train_agent.main, *flags, "--total-steps", "150", "--run-dir", parts).status == 0
    assert json.loads((parts / "config.json").read_text())["run"]["randomization"] == str(spec)
    again = run(train_agent.main, "--resume", parts, "--total-steps", "300")
    assert again.status == 0, again
    # The last checkpoints are of the same step.
    assert_same_state(whole, parts)


def test_runs_without_are_recorded_as_they_always_were(tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    flags = ["sac", ENV, *SMALL, "--total-steps", "60", "--run-dir", folder]
    assert run(train_agent.main, *flags).status == 0
    record = json.loads((folder / "config.json").read_text())
    assert "randomization" not in record["run"]
    assert run(train_agent.main, "--resume", folder, "--total-steps", "120").status == 0


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--randomization", "halfchetah"], ["no spec 'halfchetah'", "nearest: halfcheetah"]),
        (["--randomization", "halfcheetah"], [ENV, "body", "no such parameter"]),
        (["--randomization", "nowhere.toml"], ["nowhere.toml"]),
    ],
)
def test_a_wrong_spec_is_one_line(tmp_path: Path, flags: list[str], words: list[str]) -> None:
    folder = tmp_path / "run"
    outcome = run(train_agent.main, "sac", ENV, *SMALL, "--run-dir", folder, *flags)
    assert_error(outcome, *words)
    assert not folder.exists()


def test_an_own_vectorized_form_cannot_be_randomized(tmp_path: Path, spec: Path) -> None:
    flags = ["a2c", "CartPole-v1", "--run-dir", tmp_path / "run", "--randomization", spec]
    flags += ["--vectorization", "vector_entry_point", "--n-envs", "2", "--threads", "1"]
    assert_error(run(train_agent.main, *flags), "sync or async")
