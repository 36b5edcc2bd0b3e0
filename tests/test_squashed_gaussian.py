"""The policy's distribution: tanh of a Gaussian, and its log-density."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal, TanhTransform, TransformedDistribution

from agents.sac import squashed_gaussian


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_equals_torch_distributions(dtype: torch.dtype, tolerance: float) -> None:
    generator = torch.Generator().manual_seed(0)
    mean, log_std, noise = torch.randn(3, 500, 4, generator=generator, dtype=dtype)
    action, log_prob = squashed_gaussian((mean, log_std * 0.5), noise)

    transform = TanhTransform(cache_size=1)  # cached: the inverse of tanh is u itself, unrounded
    normal = Normal(mean, (log_std * 0.5).exp())
    theirs = Independent(TransformedDistribution(normal, [transform]), 1)
    expected_action = transform(mean + (log_std * 0.5).exp() * noise)
    torch.testing.assert_close(action, expected_action, rtol=tolerance, atol=0)
    expected = theirs.log_prob(expected_action)
    torch.testing.assert_close(log_prob, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("mean", "std"), [(0.3, 0.6), (-1.0, 0.25), (0.0, 1.0)])
def test_density_integrates_to_one(mean: float, std: float) -> None:
    n = 200_000
    action = (2 * torch.arange(n, dtype=torch.float64) + 1) / n - 1  # midpoints of n cells
    noise = (action.atanh() - mean) / std
    gaussian = torch.full((n, 1), mean).double(), torch.full((n, 1), math.log(std)).double()
    again, log_prob = squashed_gaussian(gaussian, noise[:, None])
    torch.testing.assert_close(again[:, 0], action)
    assert log_prob.exp().sum().item() * 2 / n == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("noise", [0.0, 1.5])
def test_stable_where_tanh_saturates(dtype: torch.dtype, sign: int, noise: float) -> None:
    """At |u| = 50 tanh is 1 to the last digit, and log(1 - tanh^2 u) is 2 log 2 - 2 |u|."""
    log_std = torch.full((1, 1), -0.5, dtype=dtype, requires_grad=True)
    sigma = math.exp(-0.5)
    mean = torch.full((1, 1), sign * 50 - sigma * noise, dtype=dtype, requires_grad=True)
    action, log_prob = squashed_gaussian((mean, log_std), torch.full((1, 1), noise, dtype=dtype))
    assert action.item() == sign
    log_normal = -0.5 * noise**2 + 0.5 - 0.5 * math.log(2 * math.pi)
    assert log_prob.item() == pytest.approx(log_normal - 2 * math.log(2) + 100, rel=1e-6)
    by_mean, by_log_std = torch.autograd.grad(log_prob, [mean, log_std])
    assert by_mean.item() == pytest.approx(2 * sign, rel=1e-6)
    assert by_log_std.item() == pytest.approx(-1 + 2 * sign * sigma * noise, rel=1e-6)


def test_reparameterized_gradients() -> None:
    generator = torch.Generator().manual_seed(0)
    mean, log_std, noise = torch.randn(3, 3, 2, generator=generator, dtype=torch.float64)

    def both(mean: Tensor, log_std: Tensor) -> tuple[Tensor, Tensor]:
        return squashed_gaussian((mean, log_std), noise)

    assert torch.autograd.gradcheck(both, (mean.requires_grad_(), log_std.requires_grad_()))
