"""Advantages against their definition, written out as sums, and Stable-Baselines3's."""

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.buffers import RolloutBuffer
from torch import Tensor

from agents.returns import advantages

discounts = st.sampled_from([0.0, 1.0]) | st.floats(0, 1)


class Data:
    """T random steps of n environments in which episodes end at random."""

    def __init__(self, length: int, n: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.rewards, self.values = rng.normal(size=(2, length, n))
        following = np.concatenate([self.values[1:], rng.normal(size=(1, n))])
        self.terminated = rng.random((length, n)) < 0.2
        self.done = self.terminated | (rng.random((length, n)) < 0.2)
        self.next_values = np.where(self.done, rng.normal(size=(length, n)), following)

    def advantages(self, gamma: float, gae_lambda: float) -> Tensor:
        arrays = (self.rewards, self.values, self.next_values, self.terminated, self.done)
        r, v, next_v, terminated, done = (torch.tensor(array).double() for array in arrays)
        return advantages(r, v, next_v, terminated, done, gamma, gae_lambda)


def generalized(data: Data, gamma: float, gae_lambda: float) -> np.ndarray:
    """sum_k (gamma lambda)^k delta_t+k up to the episode's or the rollout's end."""
    out: np.ndarray = np.zeros_like(data.rewards)
    for t, i in np.ndindex(out.shape):
        for k in range(t, len(out)):
            following = 0.0 if data.terminated[k, i] else data.next_values[k, i]
            delta = data.rewards[k, i] + gamma * following - data.values[k, i]
            out[t, i] += (gamma * gae_lambda) ** (k - t) * delta
            if data.done[k, i]:
                break
    return out


def n_step(data: Data, gamma: float) -> np.ndarray:
    """r_t + gamma r_t+1 + ... + gamma^k V(s_t+k) - V(s_t); no V if the episode terminated."""
    out: np.ndarray = np.zeros_like(data.rewards)
    for t, i in np.ndindex(out.shape):
        k, discount = t, 1.0
        while True:
            out[t, i] += discount * data.rewards[k, i]
            discount *= gamma
            if data.done[k, i] or k == len(out) - 1:
                break
            k += 1
        if not data.terminated[k, i]:
            out[t, i] += discount * data.next_values[k, i]
        out[t, i] -= data.values[t, i]
    return out


@given(st.integers(1, 8), st.integers(1, 3), st.integers(0, 2**32), discounts, discounts)
def test_definition(length: int, n: int, seed: int, gamma: float, gae_lambda: float) -> None:
    data = Data(length, n, seed)
    expected = generalized(data, gamma, gae_lambda)
    np.testing.assert_allclose(data.advantages(gamma, gae_lambda), expected, atol=1e-12)


@given(st.integers(1, 8), st.integers(1, 3), st.integers(0, 2**32), discounts)
def test_lambda_one_is_the_n_step_return(length: int, n: int, seed: int, gamma: float) -> None:
    data = Data(length, n, seed)
    np.testing.assert_allclose(data.advantages(gamma, 1.0), n_step(data, gamma), atol=1e-12)


@pytest.mark.parametrize("gae_lambda", [0.0, 0.9, 1.0])
@pytest.mark.parametrize(
    ("terminated", "truncated", "expected"),
    [
        (False, False, 1 + 0.5 * 8 - 3),
        (True, False, 1 - 3),
        (False, True, 1 + 0.5 * 8 - 3),
        (True, True, 1 - 3),
    ],
)
def test_last_step_by_hand(
    terminated: bool, truncated: bool, expected: float, gae_lambda: float
) -> None:
    """r = 1, V(s) = 3, V(s') = 8, gamma = 1/2; the step after it only counts if the episode
    goes on.
    """
    after = 100.0 if terminated or truncated else 8.0
    rewards, values = torch.tensor([[1.0], [7.0]]), torch.tensor([[3.0], [after]])
    flag, end = torch.zeros(2, 1), torch.zeros(2, 1)
    flag[0], end[0] = float(terminated), float(terminated or truncated)
    next_values = torch.tensor([[8.0], [5.0]])
    out = advantages(rewards, values, next_values, flag, end, 0.5, gae_lambda)
    second = 7 + 0.5 * 5 - after
    tail = 0.0 if terminated or truncated else 0.5 * gae_lambda * second
    assert out.flatten().tolist() == pytest.approx([expected + tail, second])


@pytest.mark.parity
@pytest.mark.parametrize("gae_lambda", [0.0, 0.9, 1.0])
def test_stable_baselines3(gae_lambda: float) -> None:
    """They add gamma V(final observation) to the last reward of a truncated episode instead."""
    length, n, gamma = 60, 4, 0.97
    data, nothing = Data(length, n, seed=0), Box(0, 1, (1,))
    buffer = RolloutBuffer(length, nothing, nothing, "cpu", gae_lambda, gamma, n)
    truncated = data.done & ~data.terminated
    assert truncated.any()
    assert (data.done & data.terminated).any()
    rewards = data.rewards + gamma * data.next_values * truncated
    begins = np.ones(n)
    for t in range(length):
        columns = (torch.tensor(data.values[t]), torch.zeros(n))
        buffer.add(np.zeros((n, 1)), np.zeros((n, 1)), rewards[t], begins, *columns)
        begins = data.done[t]
    last = torch.tensor(data.next_values[-1])
    buffer.compute_returns_and_advantage(last, data.done[-1])
    ours = data.advantages(gamma, gae_lambda).numpy()
    np.testing.assert_allclose(ours, buffer.advantages, atol=1e-5)  # theirs are float32
    np.testing.assert_allclose(ours + data.values, buffer.returns, atol=1e-5)
