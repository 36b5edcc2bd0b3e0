"""Adam, RMSProp and clipping against PyTorch's, and against the papers' own arithmetic."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from agents.optimizer import Adam, Optimizer, RMSProp, clip_norm


def loss_of(parameters: list[torch.Tensor]) -> torch.Tensor:
    return sum(((p - 1).square() * (p + 2).cos() + p).sum() for p in parameters)  # type: ignore


def make(seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(3, 4), (4,), ()]
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
        for shape in shapes
    ]


Make = Callable[[list[torch.Tensor]], Any]


@pytest.mark.parity
@pytest.mark.parametrize(
    ("make_ours", "make_theirs"),
    [
        (lambda p: Adam(p, 0.02), lambda p: torch.optim.Adam(p, lr=0.02)),
        (
            lambda p: Adam(p, 0.02, weight_decay=0.1),
            lambda p: torch.optim.Adam(p, lr=0.02, weight_decay=0.1),
        ),
        (
            lambda p: RMSProp(p, 0.02, decay=0.9, epsilon=1e-3),
            lambda p: torch.optim.RMSprop(p, lr=0.02, alpha=0.9, eps=1e-3),
        ),
        (
            # A small epsilon would let through the rounding of v - m^2.
            lambda p: RMSProp(p, 0.02, decay=0.9, epsilon=0.1, centered=True),
            lambda p: torch.optim.RMSprop(p, lr=0.02, alpha=0.9, eps=0.1, centered=True),
        ),
        (lambda p: RMSProp(p, 0.02), lambda p: torch.optim.RMSprop(p, lr=0.02, eps=1e-5)),
    ],
    ids=["adam", "decaying adam", "rmsprop", "centered rmsprop", "rmsprop's defaults"],
)
@pytest.mark.parametrize("max_norm", [math.inf, 9.0])
def test_fifty_steps_are_those_of_torch(
    make_ours: Make, make_theirs: Make, max_norm: float
) -> None:
    """Also where some gradients are clipped and others are not."""
    ours, theirs = make(), make()
    optimizer, reference = make_ours(ours), make_theirs(theirs)
    optimizer.max_norm = max_norm
    norms = []
    for _ in range(50):
        optimizer.minimize(loss_of(ours))
        reference.zero_grad()
        loss_of(theirs).backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(theirs, max_norm)))
        reference.step()
    assert math.isinf(max_norm) or min(norms) < max_norm < max(norms)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_rmsprop_of_mnih() -> None:
    """Mnih et al. 2015 as their code has it: the variance, and epsilon under the root."""
    ours, theirs = make(), [p.detach().numpy().copy() for p in make()]
    rmsprop = RMSProp(ours, 0.02, decay=0.95, epsilon=0.01, centered=True, epsilon_inside=True)
    m, v = [np.zeros_like(p) for p in theirs], [np.zeros_like(p) for p in theirs]
    for _ in range(50):
        gradients = torch.autograd.grad(loss_of(ours), ours)
        rmsprop.minimize(loss_of(ours))
        for i, g in enumerate(gradient.numpy() for gradient in gradients):
            m[i] = 0.95 * m[i] + 0.05 * g
            v[i] = 0.95 * v[i] + 0.05 * g**2
            theirs[i] = theirs[i] - 0.02 * g / np.sqrt(v[i] - m[i] ** 2 + 0.01)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one.detach(), other, rtol=1e-12)


def test_rate_may_be_changed_between_steps() -> None:
    ours, theirs = make(), make()
    adam, reference = Adam(ours, 0.02), torch.optim.Adam(theirs, lr=0.02)
    for rate in (0.02, 0.01, 0.0, 0.3):
        adam.rate.fill_(rate)
        reference.param_groups[0]["lr"] = rate
        adam.minimize(loss_of(ours))
        reference.zero_grad()
        loss_of(theirs).backward()
        reference.step()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parity
@pytest.mark.parametrize("max_norm", [1e-3, 1.0, 5.0, 1e3, math.inf])
def test_clipping_is_torchs(max_norm: float) -> None:
    parameters = make()
    gradients = [p.detach().clone() for p in parameters]
    for p, g in zip(parameters, gradients, strict=True):
        p.grad = g.clone()
    torch.nn.utils.clip_grad_norm_(parameters, max_norm)
    for p, clipped in zip(parameters, clip_norm(gradients, max_norm), strict=True):
        assert p.grad is not None
        torch.testing.assert_close(clipped, p.grad, rtol=1e-14, atol=0)


def test_limits_may_differ_between_compiled_updates() -> None:
    """Compiled for the second value of a number, torch.compile takes it for a variable."""
    compiled = torch.compile(clip_norm, fullgraph=True, backend="eager")
    for limit in (10.0, 0.5, math.inf):
        (clipped,) = compiled([torch.ones(4)], limit)
        assert clipped.norm() == pytest.approx(min(2.0, limit), rel=1e-5)


def test_moves_nothing_but_its_parameters() -> None:
    moved, fixed = make(), make(1)
    before = [p.detach().clone() for p in fixed]
    Adam(moved, 0.1).minimize(loss_of([a * b for a, b in zip(moved, fixed, strict=True)]))
    for now, then in zip(fixed, before, strict=True):
        assert torch.equal(now, then)
        assert now.grad is None


@pytest.mark.parametrize(
    "make_optimizer",
    [lambda p: Adam(p, 0.1), lambda p: RMSProp(p, 0.1, centered=True)],
    ids=["adam", "rmsprop"],
)
def test_state_continues_the_same_path_and_must_fit(
    make_optimizer: Callable[[list[torch.Tensor]], Optimizer],
) -> None:
    one, other = make(), make()
    first = make_optimizer(one)
    first.minimize(loss_of(one))
    first.rate.fill_(0.05)
    second = make_optimizer(other)
    second.load_state_dict(first.state_dict())
    with torch.no_grad():
        for mine, theirs in zip(other, one, strict=True):
            mine.copy_(theirs)
    first.minimize(loss_of(one))
    second.minimize(loss_of(other))
    for mine, theirs in zip(other, one, strict=True):
        assert torch.equal(mine, theirs)
    for shapes in ([(2,), (4,), ()], [(3, 4), (4,)], [(3, 4), (4,), (), ()]):
        with pytest.raises(ValueError, match=r"is not of|zip"):
            make_optimizer([torch.zeros(s) for s in shapes]).load_state_dict(first.state_dict())
