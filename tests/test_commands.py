"""The scripts as a user meets them: results of a good command, one line for a bad one."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import doctor
import evaluate
import gymnasium as gym
import imageio_ffmpeg
import pytest
import record_video
import torch
import train_agent
from command import ROOT, SMALL, assert_error, files, run
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from runkit import gl

from agents import load


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("commands") / "run"
    flags = [*SMALL, "--total-steps", 1_200, "--run-dir", folder]
    outcome = run(train_agent.main, "sac", "Pendulum-v1", *flags)
    assert outcome.status == 0, outcome
    return folder


def test_run_directory(finished: Path) -> None:
    for name in ["config.json", "metrics.csv", "eval.csv", "learning_curve.png", "summary.json"]:
        assert (finished / name).stat().st_size > 0
    assert list(finished.glob("events.out.tfevents.*"))
    summary = json.loads((finished / "summary.json").read_text())
    required = "algorithm env_id total_steps seed eval_return_mean eval_return_std "
    required += "env_steps_per_second updates_per_second wall_seconds versions"
    assert set(required.split()) <= set(summary)
    assert summary["total_steps"] == 1_200
    with open(finished / "eval.csv", newline="") as stream:
        last = list(csv.DictReader(stream))[-1]
    assert float(last["return_mean"]) == summary["eval_return_mean"]
    config = json.loads((finished / "config.json").read_text())
    assert config["config"]["batch_size"] == 16
    assert config["config"]["learning_rate"] == 1e-3  # from the preset
    assert config["run"]["threads"] == 1
    assert not [f for f in finished.rglob("*") if f.suffix in {".pkl", ".pt", ".pth", ".tmp"}]


def test_metrics(finished: Path) -> None:
    with open(finished / "metrics.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["step"] for row in rows] == ["1000"]
    assert float(rows[0]["critic_loss"]) > 0
    assert int(rows[0]["updates"]) == 950  # one for each step after the 50 random ones
    assert -2000 < float(rows[0]["episode_return"]) < 0
    assert float(rows[0]["episode_length"]) == 200


def test_evaluate_agrees_with_stable_baselines3(finished: Path) -> None:
    outcome = run(evaluate.main, finished, "--episodes", 3, "--seed", 77, "--json")
    ours = json.loads(outcome.out)
    envs = DummyVecEnv([lambda: Monitor(gym.make("Pendulum-v1"))] * 3)
    envs.seed(77)
    theirs, lengths = evaluate_policy(load(finished), envs, 3, return_episode_rewards=True)
    assert lengths == [200] * 3
    assert ours["returns"] == pytest.approx(theirs, rel=1e-6)
    assert (
        f"return {ours['return_mean']:.1f}"
        in run(evaluate.main, finished, "--episodes", 3, "--seed", 77).out
    )


def test_video_of_pendulum(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "two episodes.mp4"
    outcome = run(record_video.main, finished, "--out", out, "--episodes", 2)
    assert outcome.status == 0, outcome
    assert imageio_ffmpeg.count_frames_and_secs(str(out))[0] == 2 * 201
    assert [f.name for f in tmp_path.iterdir()] == [out.name]


@pytest.mark.skipif(gl.set_up() is None, reason="no OpenGL backend works here")
def test_video_of_mujoco(tmp_path: Path) -> None:
    flags = [*SMALL[:-5], "--eval-episodes", 1, "--total-steps", 60, "--run-dir", tmp_path / "run"]
    outcome = run(train_agent.main, "sac", "Hopper-v5", *flags)
    assert outcome.status == 0, outcome
    video = tmp_path / "run/videos/final.mp4"
    assert str(video) in outcome.out
    frames, _ = imageio_ffmpeg.count_frames_and_secs(str(video))
    reader = imageio_ffmpeg.read_frames(str(video))
    about = next(reader)
    assert about["codec"].startswith("h264")
    picture = bytearray(next(reader))
    assert frames > 2
    assert len(set(picture)) > 50  # a scene, not one flat colour


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["sacc", "Pendulum-v1"], ["unknown algorithm 'sacc'", "did you mean 'sac'"]),
        (["ppo", "Pendulum-v1"], ["unknown algorithm 'ppo'", "sac"]),
        (["sac", "HalfCheeta-v4"], ["HalfCheeta", "Did you mean", "HalfCheetah"]),
        (["sac", "Pendulum-v9"], ["Pendulum"]),
        (["sac", "CartPole-v1"], ["SAC needs continuous actions", "Discrete(2)"]),
        (["sac", "Pusher-v4"], ["mujoco < 3", "Pusher-v5"]),
        (["sac"], ["give an algorithm and an environment"]),
        (["sac", "Pendulum-v1", "--total-steps", "-5"], ["total_steps must be positive"]),
        (["sac", "Pendulum-v1", "--total-steps", "many"], ["--total-steps", "many"]),
        (["sac", "Pendulum-v1", "--gamma", "2"], ["gamma must lie in [0, 1]"]),
        (["sac", "Pendulum-v1", "--batch-sise", "2"], ["--batch-sise", "--batch-size"]),
        (["sac", "Pendulum-v1", "--hidden-sizes", "0"], ["hidden_sizes"]),
        (["sac", "Pendulum-v1", "--device", "tpu"], ["--device"]),
        (["sac", "Pendulum-v1", "--buffer-size", "1000000000000"], ["no memory", "buffer-size"]),
        (["sac", "Pendulum-v1", "--batch-size", str(2**63)], ["batch_size", "at most 2^40"]),
        (["sac", "Pendulum-v1", "--hidden-sizes", "8", str(10**30)], ["hidden_sizes", "2^40"]),
        (["a2c", "CartPole-v1", "--n-steps", str(2**63)], ["n_steps", "2^40"]),
        (["sac", "Pendulum-v1", "--resume"], ["--resume"]),
    ],
)
def test_bad_training_command(tmp_path: Path, args: list[str], words: list[str]) -> None:
    out = tmp_path / "run"
    flags = [] if "--resume" in args else ["--run-dir", out]
    assert_error(run(train_agent.main, *args, *flags), *words)
    assert not out.exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_is_refused_where_there_is_none(finished: Path, tmp_path: Path) -> None:
    flags = ["--device", "cuda", "--run-dir", tmp_path / "run"]
    assert_error(run(train_agent.main, "sac", "Pendulum-v1", *flags), "cuda", "--device cpu")
    folder = tmp_path / "copy"
    subprocess.run(["cp", "-r", finished, folder], check=True)
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"device": "cpu"', '"device": "cuda"'))
    assert_error(run(train_agent.main, "--resume", folder), "cuda")


def test_existing_run_directory_is_not_touched(finished: Path) -> None:
    before = files(finished)
    outcome = run(train_agent.main, "sac", "Pendulum-v1", *SMALL, "--run-dir", finished)
    assert_error(outcome, "exists already", "--resume")
    assert files(finished) == before


def test_bad_evaluation_and_video_commands(finished: Path, tmp_path: Path) -> None:
    assert_error(run(evaluate.main, tmp_path / "none"), "no run directory")
    assert_error(run(evaluate.main), "RUN_DIR")
    assert_error(run(evaluate.main, finished, "--episodes", 0), "episodes must be positive")
    assert_error(run(record_video.main, finished, "--out", tmp_path / "x.gif"), ".mp4")
    assert_error(run(record_video.main, finished, "--episodes", -1), "episodes must be positive")
    assert list(tmp_path.iterdir()) == []


def test_damaged_policy(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    subprocess.run(["cp", "-r", finished, folder], check=True)
    weights = next((folder / "policy").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1])
    assert_error(run(evaluate.main, folder), "damaged")


def test_help_shows_defaults_presets_and_sources() -> None:
    outcome = run(train_agent.main, "sac", "HalfCheetah-v4", "--help")
    assert outcome.status == 0
    text = " ".join(outcome.out.replace("│", " ").split())
    assert "(table 1) (default: 0.99)" in text
    assert "(default: 10000)" in text  # learning_starts, from the preset
    assert "rl-baselines3-zoo" in text
    assert run(train_agent.main, "--help").status == 0


def test_as_a_user_types_it() -> None:
    """The script as a process: status and one line."""
    command = [sys.executable, "scripts/train_agent.py", "sac", "CartPole-v1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_doctor_reports() -> None:
    outcome = run(doctor.main)
    assert outcome.status == 0
    for word in ["torch", "OpenGL", "steps/s", "H.264"]:
        assert word in outcome.out
