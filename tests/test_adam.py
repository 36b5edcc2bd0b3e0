"""Adam and AdaMax against PyTorch's and against what the paper proves about them."""

import copy
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from datasets import real
from torch import Tensor, nn

from supervised.foundations.adam import Adam, AdaMax, AdamConfig, create

F64 = torch.float64
Make = Callable[[list[Tensor]], torch.optim.Optimizer]


def loss_of(parameters: list[Tensor]) -> Tensor:
    return torch.stack([((p - 1).square() * (p + 2).cos() + p).sum() for p in parameters]).sum()


def start(seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(shape, generator=generator, dtype=F64).requires_grad_()
        for shape in [(3, 4), (4,), ()]
    ]


def steps(optimizer: torch.optim.Optimizer, parameters: list[Tensor], n: int) -> list[Tensor]:
    """The parameters after each step, as one vector."""
    path = []
    for _ in range(n):
        optimizer.zero_grad()
        loss_of(parameters).backward()
        optimizer.step()
        path.append(torch.cat([p.detach().flatten() for p in parameters]))
    return path


@pytest.mark.parity
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda p: Adam(p), lambda p: torch.optim.Adam(p)),
        (
            # A large epsilon: its place matters.
            lambda p: Adam(p, AdamConfig(lr=0.05, beta1=0.8, beta2=0.95, eps=0.1)),
            lambda p: torch.optim.Adam(p, lr=0.05, betas=(0.8, 0.95), eps=0.1),
        ),
        (lambda p: AdaMax(p), lambda p: torch.optim.Adamax(p, eps=0)),
        (
            lambda p: AdaMax(p, AdamConfig(lr=0.05, beta1=0.8, beta2=0.9)),
            lambda p: torch.optim.Adamax(p, lr=0.05, betas=(0.8, 0.9), eps=0),
        ),
    ],
    ids=["adam's defaults", "adam", "adamax's defaults", "adamax"],
)
def test_fifty_steps_are_those_of_torch(ours: Make, theirs: Make) -> None:
    mine, their = start(), start()
    paths = zip(steps(ours(mine), mine, 50), steps(theirs(their), their, 50), strict=True)
    for one, other in paths:
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@pytest.mark.parity
def test_a_network_follows_torchs_trajectory() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10)).to(F64)
    twin = copy.deepcopy(net)
    optimizers = Adam(net.parameters()), torch.optim.Adam(twin.parameters())
    x, y = torch.rand(50, 20, 64, dtype=F64), torch.randint(10, (50, 20))
    for step in range(50):
        for model, optimizer in zip((net, twin), optimizers, strict=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[step]), y[step]).backward()
            optimizer.step()
    for one, other in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-8)


def test_the_reordered_form_is_the_same_with_its_own_epsilon() -> None:
    """Section 2: equal where epsilon is 0; else eps-hat_t = eps sqrt(1 - beta2^t)."""
    plain, reordered = start(), start()
    config = AdamConfig(lr=0.05, beta2=0.9, eps=0)
    one = steps(Adam(plain, config), plain, 50)
    other = steps(Adam(reordered, dataclasses.replace(config, reordered=True)), reordered, 50)
    torch.testing.assert_close(torch.stack(one), torch.stack(other), rtol=0, atol=1e-12)

    plain, reordered = start(), start()
    config = AdamConfig(lr=0.05, beta2=0.9, eps=0.1)
    hat = config.eps * math.sqrt(1 - config.beta2)
    one = steps(Adam(plain, config), plain, 1)
    other = steps(
        Adam(reordered, dataclasses.replace(config, reordered=True, eps=hat)), reordered, 1
    )
    torch.testing.assert_close(one[0], other[0], rtol=0, atol=1e-14)


@pytest.mark.parametrize("make", [Adam, AdaMax])
def test_steps_do_not_depend_on_the_gradients_scale(make: Any) -> None:
    """Section 2.1: c cancels in c m / sqrt(c^2 v)."""
    paths = []
    for scale in (1.0, 1e4):
        p = start()
        optimizer = make(p, AdamConfig(lr=0.05, eps=0))
        for _ in range(20):
            optimizer.zero_grad()
            (scale * loss_of(p)).backward()
            optimizer.step()
        paths.append(p)
    for one, other in zip(*paths, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


def moves(make: Any, config: AdamConfig, gradients: list[float]) -> list[float]:
    """How far a single parameter moves at each step."""
    p = torch.zeros((), dtype=F64, requires_grad=True)
    optimizer = make([p], config)
    sizes = []
    for g in gradients:
        before = p.item()
        p.grad = torch.tensor(g, dtype=F64)
        optimizer.step()
        sizes.append(p.item() - before)
    return sizes


def test_the_first_step_is_alpha_and_without_correction_larger() -> None:
    """Uncorrected, the first step is alpha (1 - beta1) / sqrt(1 - beta2): 3.16 alpha."""
    config = AdamConfig(lr=0.01, eps=0)
    assert moves(Adam, config, [-7.0]) == pytest.approx([0.01], rel=1e-12)
    assert moves(AdaMax, config, [-7.0]) == pytest.approx([0.01], rel=1e-12)
    uncorrected = dataclasses.replace(config, correct_bias=False)
    assert moves(Adam, uncorrected, [-7.0]) == pytest.approx([0.1 / math.sqrt(0.001) * 0.01])
    assert moves(AdaMax, uncorrected, [-7.0]) == pytest.approx([0.1 * 0.01])


def test_steps_are_bounded() -> None:
    """Section 2.1, whose worst case is one gradient after only zeros; AdaMax: alpha (7.1)."""
    spike = [0.0] * 20_000 + [1.0]
    config = AdamConfig(lr=0.01, eps=1e-30)
    bound = config.lr * (1 - config.beta1) / math.sqrt(1 - config.beta2)
    largest = max(abs(move) for move in moves(Adam, config, spike))
    assert 0.99 * bound < largest <= bound
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(300, generator=generator).exp().tolist()
    assert max(abs(move) for move in moves(AdaMax, config, noise)) <= config.lr * (1 + 1e-12)


def test_u_is_the_decayed_maximum() -> None:
    """Eq. 12 written out."""
    p = torch.zeros((), dtype=F64, requires_grad=True)
    optimizer = AdaMax([p], AdamConfig(beta2=0.7))
    gradients = [0.3, -2.0, 0.1, 0.9, -0.05]
    for t, g in enumerate(gradients, start=1):
        p.grad = torch.tensor(g, dtype=F64)
        optimizer.step()
        expected = max(0.7 ** (t - i) * abs(gradients[i - 1]) for i in range(1, t + 1))
        assert optimizer.state[p]["u"].item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("make", [Adam, AdaMax])
def test_without_gradient_nothing_moves(make: Any) -> None:
    p = torch.ones(3, dtype=F64, requires_grad=True)
    optimizer = make([p])
    p.grad = torch.zeros(3, dtype=F64)
    optimizer.step()
    assert p.tolist() == [1.0, 1.0, 1.0]
    p.grad = None
    optimizer.step()
    assert optimizer.state[p]["step"] == 1


@pytest.mark.parametrize("make", [Adam, AdaMax])
def test_average_of_the_iterates(make: Any) -> None:
    """Section 7.2: sum of (1 - beta2) beta2^(t-i) theta_i, over 1 - beta2^t."""
    p, beta2 = start(), 0.8
    optimizer = make(p, AdamConfig(lr=0.05, beta2=beta2, average=True))
    path = torch.stack(steps(optimizer, p, 12))
    weights = torch.tensor([(1 - beta2) * beta2 ** (12 - i) for i in range(1, 13)], dtype=F64)
    expected = (weights[:, None] * path).sum(0) / (1 - beta2**12)
    with optimizer.averaged():
        inside = torch.cat([q.detach().flatten() for q in p])
    torch.testing.assert_close(inside, expected, rtol=0, atol=1e-12)
    outside = torch.cat([q.detach().flatten() for q in p])
    assert torch.equal(outside, path[-1])


@pytest.mark.parametrize("make", [Adam, AdaMax])
def test_a_saved_state_continues_the_same_path(make: Any) -> None:
    p = start()
    optimizer = make(p, AdamConfig(lr=0.05, average=True))
    steps(optimizer, p, 7)
    saved = copy.deepcopy(optimizer.state_dict())
    other = [q.detach().clone().requires_grad_() for q in p]
    resumed = make(other, AdamConfig())
    resumed.load_state_dict(saved)
    assert torch.equal(steps(optimizer, p, 7)[-1], steps(resumed, other, 7)[-1])
    with optimizer.averaged(), resumed.averaged():
        assert all(torch.equal(a, b) for a, b in zip(p, other, strict=True))


def test_groups_have_their_own_rates_and_closures_are_called() -> None:
    a, b = (torch.zeros((), dtype=F64, requires_grad=True) for _ in range(2))
    optimizer = Adam([{"params": [a], "lr": 0.5}, {"params": [b]}], AdamConfig(lr=0.1, eps=0))

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = a + b
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 0
    assert (a.item(), b.item()) == pytest.approx((-0.5, -0.1))


@pytest.mark.learning
@pytest.mark.parametrize("variant", ["adam", "adamax"])
def test_learns_the_digits(variant: Any) -> None:
    digits = real("digits")
    inputs, test = (part.inputs.flatten(1) / 16 for part in (digits.train, digits.test))
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = create(net.parameters(), AdamConfig(lr=0.01), variant=variant)
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(inputs), digits.train.targets).backward()
        optimizer.step()
    accuracy = (net(test).argmax(1) == digits.test.targets).float().mean()
    assert accuracy > 0.9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, "lr"),
        ({"eps": -1.0}, "eps"),
        ({"beta1": 1.0}, "betas"),
        ({"beta2": -0.1}, "betas"),
        ({"correct_bias": False, "reordered": True}, "reordered"),
    ],
)
def test_bad_settings_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AdamConfig(**options)


def test_bad_arguments_are_refused() -> None:
    p = torch.zeros(3, requires_grad=True)
    with pytest.raises(ValueError, match="variant"):
        create([p], variant="nadam")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="betas"):
        Adam([{"params": [p], "beta1": 2.0}])
    with pytest.raises(ValueError, match="average"), Adam([p]).averaged():
        pass
    p.grad = torch.ones(3).to_sparse()
    with pytest.raises(ValueError, match="sparse"):
        Adam([p]).step()
