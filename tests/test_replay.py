"""The replay buffer against a plain list of the last transitions."""

from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete

from agents.replay import Batch, ReplayBuffer
from agents.state import load_state, save_state

OBSERVATION, ACTION = 3, 2
OBSERVATIONS, ACTIONS = Box(-np.inf, np.inf, (OBSERVATION,)), Box(-1, 1, (ACTION,))
Columns = tuple[np.ndarray, ...]


def transitions(rng: np.random.Generator, k: int) -> Columns:
    return (
        rng.normal(size=(k, OBSERVATION)),
        rng.normal(size=(k, ACTION)),
        rng.normal(size=k),
        rng.normal(size=(k, OBSERVATION)),
        rng.random(k) < 0.3,
        rng.random(k) < 0.3,
    )


def numbered(first: int, k: int) -> Columns:
    """Transitions whose reward is their number, and every other column derived from it."""
    n = np.arange(first, first + k, dtype=np.float64)
    obs, actions = np.outer(n, np.ones(OBSERVATION)), -np.outer(n, np.ones(ACTION))
    return obs, actions, n, obs + 0.5, n % 2 == 0, n % 3 == 0


def make(capacity: int, seed: int = 0) -> ReplayBuffer:
    return ReplayBuffer(capacity, OBSERVATIONS, ACTIONS, seed)


def assert_same(first: Batch, second: Batch) -> None:
    for ours, theirs in zip(first, second, strict=True):
        assert isinstance(ours, torch.Tensor)
        assert isinstance(theirs, torch.Tensor)
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("seed", range(20))
def test_holds_the_last_transitions(seed: int) -> None:
    """Random capacities and additions, also some larger than the whole buffer."""
    rng = np.random.default_rng(seed)
    capacity = int(rng.integers(1, 30))
    buffer = make(capacity)
    naive: list[np.ndarray] = []
    for _ in range(int(rng.integers(1, 15))):
        columns = transitions(rng, int(rng.integers(1, capacity + 3)))
        buffer.add(*columns)
        rows = [np.concatenate([np.ravel(c[i]) for c in columns]) for i in range(len(columns[0]))]
        naive = [*naive, *rows][-capacity:]
        assert buffer.size == len(naive)
        oldest = buffer.position if buffer.size == capacity else 0
        order = (oldest + np.arange(buffer.size)) % capacity
        np.testing.assert_array_equal(buffer.rows[order], np.stack(naive).astype(np.float32))


def test_columns_come_back_where_they_belong() -> None:
    """Every column of a sampled row belongs to the same transition, the two flags kept apart."""
    buffer = make(50)
    buffer.add(*numbered(1, 12))
    batch = buffer.sample(200)
    assert isinstance(batch.observations, torch.Tensor)
    assert isinstance(batch.next_observations, torch.Tensor)
    assert batch.observations.shape == batch.next_observations.shape == (200, OBSERVATION)
    n = batch.rewards
    assert set(n.tolist()) == set(range(1, 13))  # all that is stored, and no empty row
    assert torch.equal(batch.observations, n[:, None].expand(-1, OBSERVATION))
    assert torch.equal(batch.actions, -n[:, None].expand(-1, ACTION))
    assert torch.equal(batch.next_observations, batch.observations + 0.5)
    assert torch.equal(batch.terminated, (n % 2 == 0).float())
    assert torch.equal(batch.truncated, (n % 3 == 0).float())


def test_gathers_the_rows_asked_for() -> None:
    buffer = make(10)
    buffer.add(*numbered(0, 14))  # rows 0 to 3 hold 10 to 13
    assert buffer.gather(np.array([3, 0, 4, 3])).rewards.tolist() == [13, 10, 4, 13]


def test_discrete_actions_and_one_hot_observations() -> None:
    buffer = ReplayBuffer(5, Discrete(3, start=1), Discrete(4, start=-1), seed=0)
    columns = (np.array([-1, 2]), np.array([0.5, 1]), np.array([2, 3]), np.ones(2), np.zeros(2))
    buffer.add(np.array([1, 3]), *columns)
    batch = buffer.gather(np.arange(2))
    assert isinstance(batch.observations, torch.Tensor)
    assert isinstance(batch.next_observations, torch.Tensor)
    assert torch.equal(batch.observations, torch.tensor([[1.0, 0, 0], [0, 0, 1]]))
    assert torch.equal(batch.next_observations, torch.tensor([[0.0, 1, 0], [0, 0, 1]]))
    assert batch.actions.tolist() == [[-1], [2]]


@pytest.mark.parametrize("stored", [20, 50])  # half full; full and overwritten
def test_samples_are_uniform(stored: int) -> None:
    buffer = make(20 if stored == 50 else 40)
    buffer.add(*numbered(0, stored))
    drawn = buffer.sample(20_000).rewards.numpy()
    values, counts = np.unique(drawn, return_counts=True)
    np.testing.assert_array_equal(values, np.arange(stored - 20, stored))
    assert ((counts - 1000) ** 2 / 1000).sum() < 43.82  # chi-square, 19 degrees, 99.9 %


@pytest.mark.parametrize("stored", [7, 25])  # half full; full and overwritten
def test_restored_buffer_goes_on_identically(tmp_path: Path, stored: int) -> None:
    buffer, other = make(15), make(15, seed=99)
    for i in range(stored):
        buffer.add(*numbered(i, 1))
    buffer.sample(5)
    save_state(tmp_path, buffer.state_dict())
    other.load_state_dict(load_state(tmp_path))
    for i in range(3):
        assert_same(buffer.sample(10), other.sample(10))
        for b in (buffer, other):
            b.add(*numbered(100 + 4 * i, 4))
    assert torch.equal(buffer.rows, other.rows)


def test_refuses_state_that_does_not_fit() -> None:
    full, partial = make(10), make(10)
    full.add(*numbered(0, 14))
    partial.add(*numbered(0, 4))
    narrow = ReplayBuffer(10, Box(-1, 1, (OBSERVATION + 1,)), ACTIONS, 0)
    refused = [
        (make(9), full.state_dict()),  # too small
        (make(3), partial.state_dict()),
        (narrow, full.state_dict()),  # rows of another width
        (make(10), {**full.state_dict(), "position": 10}),
        (make(10), {**full.state_dict(), "position": -1}),
        (make(10), {**full.state_dict(), "size": 11}),
        (make(10), {**full.state_dict(), "size": -1}),
        (make(10), {**partial.state_dict(), "size": 5}),  # more than was ever written
        (make(10), {**partial.state_dict(), "position": 3}),  # a gap in a ring not yet closed
    ]
    for buffer, state in refused:
        with pytest.raises(ValueError, match="does not fit"):
            buffer.load_state_dict(state)
        assert buffer.size == 0


def test_no_empty_row_after_loading_into_a_larger_buffer() -> None:
    """A ring that has wrapped around must be refused or unrolled: its position means nothing."""
    small, large = make(10), make(20)
    small.add(*numbered(1, 14))
    try:
        large.load_state_dict(small.state_dict())
    except ValueError:
        return
    large.add(*numbered(15, 1))
    assert set(large.sample(500).rewards.tolist()) == set(range(5, 16))
