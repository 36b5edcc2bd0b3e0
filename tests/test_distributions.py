"""Action distributions against torch.distributions, and their draws against the probabilities."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import Space
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent, Normal

from agents import UnsupportedSpaceError
from agents.distributions import DiagonalGaussian, make_distribution

CHOICES = [4, 2, 3]
SPACES = {
    "Discrete": Discrete(4),
    "MultiDiscrete": MultiDiscrete(CHOICES),
    "Box": Box(-np.inf, np.inf, (3,)),
}


def make(space: Space[Any]) -> Any:
    """The distribution over ``space``; a Gaussian's deviations are made uneven."""
    distribution = make_distribution(space, "A2C")
    if isinstance(distribution, DiagonalGaussian):
        with torch.no_grad():
            distribution.log_std.copy_(torch.linspace(-1.5, 0.5, distribution.size))
    return distribution


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbers(space: Space[Any], n: int) -> Tensor:
    """What a policy network might put out for n observations."""
    return 2 * torch.randn(n, make(space).size, generator=generator(1))


def theirs(space: Space[Any], x: Tensor) -> list[Distribution]:
    """PyTorch's distributions, one a choice."""
    if isinstance(space, Box):
        return [Independent(Normal(x, make(space).log_std.exp()), 1)]
    choices = [int(space.n)] if isinstance(space, Discrete) else CHOICES
    return [Categorical(logits=part) for part in x.split(choices, dim=-1)]


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_log_prob_and_entropy(space: Space[Any]) -> None:
    distribution, x = make(space), numbers(space, 50)
    actions = distribution.sample(x, generator())
    assert actions.shape == (50, distribution.width)
    parts = theirs(space, x)
    columns = [actions] if isinstance(space, Box) else list(actions.T)
    expected = sum(p.log_prob(c) for p, c in zip(parts, columns, strict=True))
    torch.testing.assert_close(distribution.log_prob(x, actions), expected)
    torch.testing.assert_close(distribution.entropy(x), sum(p.entropy() for p in parts))


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_actions_may_be_floats(space: Space[Any]) -> None:
    """A rollout keeps actions of all kinds as float32."""
    distribution, x = make(space), numbers(space, 9)
    actions = distribution.sample(x, generator())
    kept = distribution.log_prob(x, actions.float())
    torch.testing.assert_close(kept, distribution.log_prob(x, actions))


@pytest.mark.parametrize("space", [SPACES["Discrete"], SPACES["MultiDiscrete"]])
def test_choices_are_drawn_with_their_probabilities(space: Space[Any]) -> None:
    distribution, n = make(space), 40_000
    x = torch.randn(1, distribution.size, generator=generator(2))
    drawn = distribution.sample(x.expand(n, -1), generator())
    for part, column in zip(theirs(space, x), drawn.T, strict=True):
        assert isinstance(part, Categorical)
        p = part.probs[0]
        frequencies = torch.bincount(column, minlength=len(p)) / n
        assert ((frequencies - p).abs() < 5 * (p * (1 - p) / n).sqrt()).all()


def test_choices_are_independent() -> None:
    n = 40_000
    distribution = make(MultiDiscrete([2, 2]))
    drawn = distribution.sample(torch.zeros(n, 4), generator())
    both = (drawn[:, 0] * drawn[:, 1]).double().mean()
    assert abs(both - 1 / 4) < 5 * (3 / 16 / n) ** 0.5


def test_gaussian_draws() -> None:
    n = 40_000
    distribution = make(SPACES["Box"])
    mean, sigma = torch.tensor([1.0, -2.0, 0.0]), distribution.log_std.exp()
    drawn = distribution.sample(mean.expand(n, 3), generator())
    assert ((drawn.mean(0) - mean).abs() < 5 * sigma / n**0.5).all()
    assert ((drawn.std(0) / sigma - 1).abs() < 5 / (2 * n) ** 0.5).all()
    assert (torch.corrcoef(drawn.T).triu(1).abs() < 5 / n**0.5).all()


def test_gaussian_starts_with_deviation_one() -> None:
    """And the deviations are learned."""
    distribution = make_distribution(SPACES["Box"], "A2C")
    (log_std,) = distribution.parameters()
    assert log_std.tolist() == [0, 0, 0]


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_mode_is_the_likeliest(space: Space[Any]) -> None:
    distribution, x = make(space), numbers(space, 20)
    mode = distribution.mode(x)
    assert mode.shape == (20, distribution.width)
    best = distribution.log_prob(x, mode)
    for seed in range(30):
        drawn = distribution.sample(x, generator(seed))
        assert (distribution.log_prob(x, drawn) <= best + 1e-6).all()


@pytest.mark.parametrize(
    ("space", "drawn", "expected"),
    [
        (Discrete(3), [[2], [0]], [2, 0]),
        (Discrete(3, start=-5), [[2], [0]], [-3, -5]),
        (MultiDiscrete([2, 3]), [[1, 2]], [[1, 2]]),
        (MultiDiscrete([2, 3], start=[10, -1]), [[1, 2], [0, 0]], [[11, 1], [10, -1]]),
        (MultiDiscrete([3]), [[2], [1]], [[2], [1]]),
    ],
)
def test_choices_start_where_the_space_does(
    space: Space[Any], drawn: list[Any], expected: list[Any]
) -> None:
    actions = make(space).to_environment(torch.tensor(drawn))
    np.testing.assert_array_equal(actions, expected)
    assert all(space.contains(action) for action in actions)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gaussian_actions_are_clipped(dtype: Any) -> None:
    """Of the space's dtype and within its bounds, where it has any."""
    low, high = np.array([-1, -np.inf, 0], dtype), np.array([2, 1, np.inf], dtype)
    space = Box(low, high, dtype=dtype)
    actions = make(space).to_environment(torch.tensor([[-5.0, -5, -5], [5, 5, 5], [0.5, 0.5, 0.5]]))
    np.testing.assert_array_equal(actions, [[-1, -5, 0], [2, 1, 5], [0.5, 0.5, 0.5]])
    assert actions.dtype == dtype
    assert all(space.contains(action) for action in actions)


def test_clipping_leaves_what_was_drawn() -> None:
    """Learning is from the action as drawn: its log-probability is that of the Gaussian."""
    drawn = torch.tensor([[5.0]])
    make(Box(-1, 1, (1,))).to_environment(drawn)
    assert drawn.item() == 5.0


@pytest.mark.parametrize("space", [Discrete(4, start=2), MultiDiscrete([4, 4])])
def test_uniform_choices(space: Space[Any]) -> None:
    n = 20_000
    for column in make(space).uniform(n, generator()).T:
        counts = torch.bincount(column, minlength=4)
        assert len(counts) == 4
        assert ((counts / n - 1 / 4).abs() < 5 * (3 / 16 / n) ** 0.5).all()


def test_uniform_numbers() -> None:
    """Normal in a dimension without both bounds."""
    n = 20_000
    low = np.array([-3, 1, 0, -np.inf], np.float32)
    high = np.array([1, 1.5, np.inf, np.inf], np.float32)
    drawn = make(Box(low, high)).uniform(n, generator()).numpy()
    assert (drawn[:, :2] >= low[:2]).all()
    assert (drawn[:, :2] <= high[:2]).all()
    expected = np.array([-1, 1.25, 0, 0]), np.array([4 / 12**0.5, 0.5 / 12**0.5, 1, 1])
    np.testing.assert_array_less(np.abs(drawn.mean(0) - expected[0]), 5 * expected[1] / n**0.5)
    np.testing.assert_allclose(drawn.std(0), expected[1], rtol=5 / (2 * n) ** 0.5)


@pytest.mark.parametrize(
    "space",
    [
        MultiBinary(3),
        MultiDiscrete(np.array([[2, 3], [2, 3]])),
        Box(-1, 1, (2, 2)),
        Box(-1, 1, ()),
        Box(0, 10, (2,), np.int64),
        Dict({"a": Discrete(2)}),
        Tuple([Discrete(2)]),
    ],
)
def test_refuses_other_spaces(space: Space[Any]) -> None:
    with pytest.raises(UnsupportedSpaceError, match="A3C needs"):
        make_distribution(space, "A3C")
