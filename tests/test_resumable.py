"""Environments that can be put back where they were."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from agents.state import load_state, save_state
from envs import make_vec
from envs.resumable import FIRST_TRAINING_SEED, Resumable

pytestmark = pytest.mark.filterwarnings("ignore:.*is out of date.*")

EPISODE = 80  # steps, at most
Step = tuple[Any, ...]


@pytest.fixture(autouse=True)
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MuJoCo writes its log into the working directory."""
    monkeypatch.chdir(tmp_path)


def play(envs: Any, steps: int, seed: int) -> list[Step]:
    """Random actions; returns (observations, rewards, terminated, truncated) of each step."""
    rng = np.random.default_rng(seed)
    space = envs.action_space
    played = []
    for _ in range(steps):
        action = rng.uniform(space.low, space.high).astype(space.dtype)
        played.append(envs.step(action)[:4])
    return played


def assert_same(first: list[Step], second: list[Step]) -> None:
    for ours, theirs in zip(first, second, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("env_id", ["Pendulum-v1", "HalfCheetah-v4", "Hopper-v5"])
@pytest.mark.parametrize("n_envs", [1, 3])
def test_restored_environments_go_on_bit_identically(
    tmp_path: Path, env_id: str, n_envs: int
) -> None:
    envs: Any = make_vec(env_id, n_envs, seed=5, max_episode_steps=EPISODE)
    envs.reset()
    before = play(envs, EPISODE + 31, seed=0)
    assert any((terminated | truncated).any() for *_, terminated, truncated in before)
    save_state(tmp_path / "state", {"environments": list(envs.call("snapshot"))})
    expected = play(envs, 200, seed=1)
    ends = sum((terminated | truncated).sum() for *_, terminated, truncated in expected)
    assert ends >= 2 * n_envs

    # Of another seed: what comes after the restored episode must not depend on it.
    again: Any = make_vec(env_id, n_envs, seed=99, max_episode_steps=EPISODE)
    again.call("restore", load_state(tmp_path / "state")["environments"])
    assert_same(play(again, 200, seed=1), expected)


def test_snapshot_at_the_very_start_of_an_episode(tmp_path: Path) -> None:
    envs: Any = make_vec("Pendulum-v1", 2, seed=5)
    again: Any = make_vec("Pendulum-v1", 2, seed=5)
    envs.reset()
    save_state(tmp_path / "state", {"environments": list(envs.call("snapshot"))})
    again.call("restore", load_state(tmp_path / "state")["environments"])
    assert_same(play(again, 20, seed=1), play(envs, 20, seed=1))


def test_actions_are_remembered_as_they_were() -> None:
    """The caller may use one array for all its actions."""
    env, again = (Resumable(gym.make("Pendulum-v1"), seed=0, index=0) for _ in range(2))
    env.reset()
    action = np.zeros(1, np.float32)
    for value in (2.0, -1.0, 0.5):
        action[:] = value
        env.step(action)
    again.restore([env.snapshot()])
    np.testing.assert_array_equal(again.step(action)[0], env.step(action)[0])


def test_training_seeds_start_where_held_out_ones_end() -> None:
    """Were they drawn from 0 on, some ten of these would lie below."""
    env = Resumable(gym.make("Pendulum-v1"), seed=0, index=0)
    seeds = []
    for _ in range(20_000):
        env.reset()
        seeds.append(env.episode_seed)
    assert min(seeds) >= FIRST_TRAINING_SEED == 2**20


def test_a_given_seed_is_taken_as_it_is() -> None:
    """Held-out seeds reach the environment, and leave the training stream where it was."""
    env, plain = Resumable(gym.make("Pendulum-v1"), seed=0, index=0), gym.make("Pendulum-v1")
    stream = env.rng.bit_generator.state
    np.testing.assert_array_equal(env.reset(seed=7)[0], plain.reset(seed=7)[0])
    assert env.episode_seed == 7
    assert env.rng.bit_generator.state == stream

    envs: Any = make_vec("Pendulum-v1", 3)
    expected = [plain.reset(seed=10_000 + i)[0] for i in range(3)]
    np.testing.assert_array_equal(envs.reset(seed=10_000)[0], expected)


def test_run_seed_names_the_trajectories() -> None:
    def trajectory(seed: int) -> list[Step]:
        envs: Any = make_vec("Pendulum-v1", 2, seed=seed, max_episode_steps=20)
        return [(envs.reset()[0],), *play(envs, 50, seed=1)]

    assert_same(trajectory(3), trajectory(3))
    assert not np.array_equal(trajectory(3)[0][0], trajectory(4)[0][0])


def test_sub_environments_play_different_episodes() -> None:
    envs: Any = make_vec("Pendulum-v1", 3, seed=0)
    seeds: list[int] = []
    for _ in range(100):
        envs.reset()
        seeds += envs.get_attr("episode_seed")
    assert len(set(seeds)) == 300
