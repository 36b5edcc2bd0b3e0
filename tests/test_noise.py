"""Exploration noise: its moments, its memory, and where it forgets."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from agents.noise import GaussianNoise, OrnsteinUhlenbeckNoise
from agents.state import load_state, save_state

N, SIGMA, THETA = 20_000, 0.2, 0.15
CLOSE = 5 / N**0.5  # five standard errors of a correlation


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a, b]))[0, 1])


def test_gaussian() -> None:
    noise, random = GaussianNoise(2, SIGMA), generator()
    first, second = noise.draw(N, random), noise.draw(N, random)
    assert first.shape == (N, 2)
    assert first.mean(0).abs().max() < CLOSE * SIGMA
    assert (first.std(0) / SIGMA - 1).abs().max() < CLOSE
    assert abs(correlation(first[:, 0], first[:, 1])) < CLOSE
    assert abs(correlation(first[:, 0], second[:, 0])) < CLOSE


def test_ornstein_uhlenbeck_spreads_to_its_stationary_deviation() -> None:
    """The variance after k steps from 0 is sigma^2 (1 - a^2k) / (1 - a^2), with a = 1 - theta."""
    noise, random, a = OrnsteinUhlenbeckNoise(2, SIGMA, THETA), generator(), 1 - THETA
    for k in range(1, 61):
        x = noise.draw(N, random)
        expected = SIGMA * ((1 - a ** (2 * k)) / (1 - a**2)) ** 0.5
        assert (x.std(0) / expected - 1).abs().max() < CLOSE, k
        assert x.mean(0).abs().max() < CLOSE * expected
    assert expected == pytest.approx(SIGMA / (1 - a**2) ** 0.5, rel=1e-6)


def test_ornstein_uhlenbeck_autocorrelation() -> None:
    """(1 - theta)^k between two draws that are k steps apart."""
    noise, random = OrnsteinUhlenbeckNoise(1, SIGMA, THETA), generator()
    series = torch.cat([noise.draw(N, random) for _ in range(60)], dim=1)[:, 40:]
    for k in range(20):
        expected = (1 - THETA) ** k
        assert correlation(series[:, 0], series[:, k]) == pytest.approx(expected, abs=CLOSE)


def test_ornstein_uhlenbeck_dimensions_are_independent() -> None:
    noise, random = OrnsteinUhlenbeckNoise(2, SIGMA, THETA), generator()
    for _ in range(10):
        x = noise.draw(N, random)
    assert abs(correlation(x[:, 0], x[:, 1])) < CLOSE


def test_an_episodes_end_is_the_start_of_that_environments_process_alone() -> None:
    """With sigma 0 what is left is the memory."""
    noise = OrnsteinUhlenbeckNoise(2, SIGMA, THETA)
    before = noise.draw(3, generator()).clone()
    noise.end(np.array([False, True, False]))
    noise.sigma = 0.0
    after = noise.draw(3, generator())
    torch.testing.assert_close(after[[0, 2]], (1 - THETA) * before[[0, 2]])
    assert after[1].tolist() == [0, 0]


def test_no_end_changes_nothing() -> None:
    noise = OrnsteinUhlenbeckNoise(1, SIGMA, THETA)
    before = noise.draw(3, generator()).clone()
    noise.end(np.zeros(3, bool))
    assert noise.x is not None
    assert torch.equal(noise.x, before)


def test_another_number_of_environments_begins_anew() -> None:
    noise = OrnsteinUhlenbeckNoise(1, 0.0, THETA)
    noise.x = torch.ones(3, 1)
    assert noise.draw(2, generator()).tolist() == [[0], [0]]
    noise.end(np.ones(3, bool))  # of others


def test_a_draw_stays_what_it_was() -> None:
    noise, random = OrnsteinUhlenbeckNoise(2, SIGMA, THETA), generator()
    drawn = noise.draw(4, random)
    copy = drawn.clone()
    noise.draw(4, random)
    noise.end(np.ones(4, bool))
    assert torch.equal(drawn, copy)


@pytest.mark.parametrize("draws", [0, 3])
def test_round_trip(tmp_path: Path, draws: int) -> None:
    one, other = (OrnsteinUhlenbeckNoise(2, SIGMA, THETA) for _ in range(2))
    for seed in range(draws):
        one.draw(4, generator(seed))
    save_state(tmp_path, one.state_dict())
    other.load_state_dict(load_state(tmp_path))
    assert torch.equal(one.draw(4, generator(9)), other.draw(4, generator(9)))


def test_gaussian_round_trip(tmp_path: Path) -> None:
    save_state(tmp_path, GaussianNoise(2, SIGMA).state_dict())
    GaussianNoise(2, SIGMA).load_state_dict(load_state(tmp_path))


@pytest.mark.parametrize("shape", [(4, 3), (2,), (1, 4, 2)])
def test_refuses_another_size(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="2 actions"):
        OrnsteinUhlenbeckNoise(2, SIGMA, THETA).load_state_dict({"x": torch.zeros(shape)})
