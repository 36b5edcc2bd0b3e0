"""Runs of every algorithm, family and vectorization: stopped and resumed, they end bit for bit like
runs that were not. What happens at signals, kills and damages is in test_resume.py.
"""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import train_agent
from command import run
from gymnasium.spaces import Box, Discrete
from lifecycle import assert_same_state

from agents.state import load_state

pytestmark = pytest.mark.lifecycle

COMMON = ["--seed", 3, "--threads", 1, "--compile", "no", "--no-video"]
COMMON += ["--eval-episodes", 1, "--eval-every", 100_000, "--hidden-sizes", 8, 8]
REPLAY = ["--batch-size", 16, "--buffer-size", 1_000, "--learning-starts", 50]
EVERY_STEP = ["--train-freq", 1, "--gradient-steps", 1]
BOTH = ["--normalize-observations", "--normalize-rewards"]
PICTURES = "firsthand/TinyPictures-v0"


class TinyPictures(gym.Env[np.ndarray, np.int64]):
    """Two frames of noise, one after the other; episodes of 20 to 39 steps."""

    observation_space: Any = Box(0, 255, (2, 36, 36), np.uint8)
    action_space: Any = Discrete(3)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.left = int(self.np_random.integers(20, 40))
        self.frames = np.zeros((2, 36, 36), np.uint8)
        return self._observe(), {}

    def _observe(self) -> np.ndarray:
        new = self.np_random.integers(256, size=(36, 36), dtype=np.uint8)
        self.frames = np.stack([self.frames[1], new])
        return self.frames

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.left -= 1
        end = self.left == 0
        terminated = bool(end and action == 0)
        return self._observe(), float(action), terminated, end and not terminated, {}


@pytest.fixture(autouse=True, scope="module")
def registered() -> None:
    gym.register(PICTURES, lambda **_: TinyPictures())


def assert_resumes(folder: Path, algorithm: str, env_id: str, steps: int, *flags: object) -> None:
    """Half of the steps, then the rest; against all of them at once."""
    for name, until in (("parts", steps // 2), ("whole", steps)):
        options = ["--run-dir", folder / name, "--total-steps", until, *COMMON, *flags]
        outcome = run(train_agent.main, algorithm, env_id, *options)
        assert outcome.status == 0, outcome
    again = run(train_agent.main, "--resume", folder / "parts", "--total-steps", steps)
    assert again.status == 0, again
    assert_same_state(folder / "whole", folder / "parts")
    state = load_state(folder / "whole/checkpoint")
    assert state["agent"]["steps"] >= steps
    assert state["agent"]["updates"] > 10


@pytest.mark.parametrize("n_envs", [1, 8])
def test_ddpg(tmp_path: Path, n_envs: int) -> None:
    """The noise has a memory, and the normalizations have running statistics."""
    flags = [*REPLAY, "--noise", "ornstein-uhlenbeck", "--batch-norm", "--action-layer", 1]
    flags += ["--critic-weight-decay", 0.01, "--normalize-observations"]
    assert_resumes(tmp_path, "ddpg", "Pendulum-v1", 300, "--n-envs", n_envs, *flags)


@pytest.mark.parametrize("way", ["sync", "vector_entry_point"])
@pytest.mark.parametrize("n_envs", [1, 8])
def test_a2c(tmp_path: Path, n_envs: int, way: str) -> None:
    """Stopped in the middle of episodes, and of rollouts of 7 steps."""
    flags = ["--n-envs", n_envs, "--vectorization", way, "--n-steps", 7, *BOTH]
    flags += ["--learning-rate-decay-steps", 1_000]
    assert_resumes(tmp_path, "a2c", "CartPole-v1", 120 * n_envs, *flags)


def test_a2c_with_numbers_for_actions(tmp_path: Path) -> None:
    assert_resumes(tmp_path, "a2c", "Pendulum-v1", 450, "--n-envs", 2, *BOTH)


@pytest.mark.parametrize("n_envs", [1, 8])
def test_dqn(tmp_path: Path, n_envs: int) -> None:
    """Epsilon falls throughout, and the target network is copied on both sides of the stop."""
    flags = [*REPLAY, *EVERY_STEP, "--n-envs", n_envs, "--exploration-steps", 400]
    flags += ["--target-update-interval", 70]
    assert_resumes(tmp_path, "dqn", "CartPole-v1", 450, *flags)


def test_dqn_of_the_papers_optimizer(tmp_path: Path) -> None:
    flags = [
        *REPLAY,
        *EVERY_STEP,
        "--optimizer",
        "rmsprop",
        "--vectorization",
        "vector_entry_point",
    ]
    assert_resumes(tmp_path, "dqn", "CartPole-v1", 450, "--n-envs", 3, *flags)


def test_dqn_of_pictures(tmp_path: Path) -> None:
    """Frames that several stacks share are kept once, also over the stop; the ring goes round."""
    flags = [*REPLAY, "--buffer-size", 150, "--train-freq", 8, "--n-envs", 2]
    assert_resumes(tmp_path, "dqn", PICTURES, 240, *flags)


@pytest.mark.parametrize("algorithm", ["dqn", "a2c"])
def test_processes(tmp_path: Path, algorithm: str) -> None:
    """Environments in processes of their own."""
    flags = [*REPLAY, *EVERY_STEP] if algorithm == "dqn" else ["--n-steps", 7]
    way = ["--vectorization", "async", "--n-envs", 2]
    assert_resumes(tmp_path, algorithm, "CartPole-v1", 200, *flags, *way)


@pytest.mark.parametrize(
    ("algorithm", "env_id"),
    [
        ("dqn", "LunarLander-v3"),
        ("a2c", "LunarLander-v3"),
        ("sac", "LunarLanderContinuous-v3"),
        ("sac", "HalfCheetahBulletEnv-v0"),
    ],
)
def test_simulators(tmp_path: Path, algorithm: str, env_id: str) -> None:
    """Box2D and Bullet keep state that cannot be read: their episodes are replayed."""
    flags = ["--n-steps", 7] if algorithm == "a2c" else [*REPLAY, *EVERY_STEP]
    assert_resumes(tmp_path, algorithm, env_id, 300, "--n-envs", 1, *flags)


def test_a3c(tmp_path: Path) -> None:
    """With one worker the order of the updates is always the same."""
    flags = ["--n-envs", 1, "--lstm-size", 6, "--learning-rate-decay-steps", 1_000]
    assert_resumes(tmp_path, "a3c", "CartPole-v1", 450, *flags)
