"""Scaled rewards against Stable-Baselines3's VecNormalize, on the same stream.

One difference is meant: their statistics begin with an imagined 1e-4 of an observation of mean 0
and variance 1, ours with nothing. ``alike`` takes it out of theirs.
"""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from agents.normalizer import RewardNormalizer
from agents.state import load_state, save_state

N, STEPS, GAMMA = 3, 200, 0.9


class Replay(gym.Env[np.ndarray, np.ndarray]):
    """Gives out a prepared stream of rewards and ends; float32, as their buffer of rewards is."""

    observation_space = action_space = Box(-1, 1, (1,))

    def __init__(self, rewards: np.ndarray, done: np.ndarray) -> None:
        self.stream = zip(rewards, done, strict=True)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        return np.zeros(1, np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        reward, done = next(self.stream)
        return np.zeros(1, np.float32), float(reward), bool(done), False, {}


def stream() -> tuple[np.ndarray, np.ndarray]:
    """Rewards [STEPS, N], the first of them small and some far out, and ends of episodes."""
    rng = np.random.default_rng(0)
    rewards = (1 + 5 * rng.normal(size=(STEPS, N))).astype(np.float32)
    rewards[:20] /= 100
    rewards[rng.random((STEPS, N)) < 0.02] *= 50
    return rewards, rng.random((STEPS, N)) < 0.1


def theirs(alike: bool) -> tuple[np.ndarray, VecNormalize]:
    rewards, done = stream()
    venv = DummyVecEnv([lambda i=i: Replay(rewards[:, i], done[:, i]) for i in range(N)])  # type: ignore[misc]
    normalized = VecNormalize(venv, norm_obs=False, gamma=GAMMA)
    normalized.reset()
    if alike:
        normalized.ret_rms.count = 0.0
    return np.array([normalized.step(np.zeros((N, 1)))[1] for _ in range(STEPS)]), normalized


def ours() -> tuple[np.ndarray, RewardNormalizer]:
    normalizer = RewardNormalizer(GAMMA)
    return np.array([normalizer(*step) for step in zip(*stream(), strict=True)]), normalizer


@pytest.mark.parity
def test_stable_baselines3() -> None:
    expected, reference = theirs(alike=True)
    scaled, normalizer = ours()
    np.testing.assert_allclose(scaled, expected, rtol=1e-6)  # theirs are rounded to float32
    assert normalizer.statistics.variance[0] == pytest.approx(reference.ret_rms.var, rel=1e-12)
    assert normalizer.statistics.mean[0] == pytest.approx(reference.ret_rms.mean, rel=1e-12)
    assert (np.abs(scaled) == 10).any()  # some are clipped
    assert (np.abs(scaled) < 10).any()


@pytest.mark.parity
def test_their_imagined_observation_soon_matters_little() -> None:
    expected, _ = theirs(alike=False)
    scaled, _ = ours()
    assert not np.allclose(scaled[:5], expected[:5], rtol=0.05)
    np.testing.assert_allclose(scaled[50:], expected[50:], rtol=1e-4)


def test_variance_is_that_of_all_returns() -> None:
    rewards, done = stream()
    returns = np.zeros_like(rewards, dtype=np.float64)
    for t, i in np.ndindex(returns.shape):
        goes_on = t > 0 and not done[t - 1, i]
        returns[t, i] = rewards[t, i] + (GAMMA * returns[t - 1, i] if goes_on else 0.0)
    _, normalizer = ours()
    assert normalizer.statistics.count == STEPS * N
    assert normalizer.statistics.variance[0] == pytest.approx(returns.var(), rel=1e-10)


def test_rewards_keep_their_sign() -> None:
    """They are scaled, not shifted: else episodes of other lengths would be worth something."""
    normalizer = RewardNormalizer(GAMMA)
    for _ in range(50):
        scaled = normalizer(np.array([3.0, 5.0]), np.array([False, False]))
    assert (scaled > 0).all()
    assert scaled[1] / scaled[0] == pytest.approx(5 / 3)


def test_restored_normalizer_goes_on_identically(tmp_path: Path) -> None:
    rewards, done = stream()
    one, other = RewardNormalizer(GAMMA), RewardNormalizer(GAMMA)
    for t in range(100):
        one(rewards[t], done[t])
    save_state(tmp_path, one.state_dict())
    other.load_state_dict(load_state(tmp_path))
    for t in range(100, STEPS):
        np.testing.assert_array_equal(one(rewards[t], done[t]), other(rewards[t], done[t]))


def test_fresh_state_round_trip(tmp_path: Path) -> None:
    save_state(tmp_path, RewardNormalizer(GAMMA).state_dict())
    other = RewardNormalizer(GAMMA)
    other.load_state_dict(load_state(tmp_path))
    assert other.returns is None


@pytest.mark.parametrize(
    "returns", ["text", [0.0], np.zeros(2, int), np.zeros((2, 1)), np.array([0.0, np.inf])]
)
def test_refuses_returns_that_are_none(returns: Any) -> None:
    normalizer = RewardNormalizer(0.9)
    with pytest.raises(ValueError, match="returns"):
        normalizer.load_state_dict(normalizer.state_dict() | {"returns": returns})


def test_refuses_returns_of_another_number_of_environments() -> None:
    normalizer = RewardNormalizer(0.9)
    normalizer.load_returns(np.zeros(2), 2)
    with pytest.raises(ValueError, match="returns"):
        normalizer.load_returns(np.zeros(3), 2)
