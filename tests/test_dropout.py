"""Dropout against PyTorch's inverted one, same masks; its scaling, constraint and averages."""

import copy
import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from datasets import real
from torch import Tensor, nn

from supervised.foundations.dropout import (
    Dropout,
    DropoutConfig,
    DropoutNet,
    GaussianDropout,
    clip_rows,
    create,
    monte_carlo,
)

F64 = torch.float64
TINY = DropoutConfig(inputs=12, hidden=(20, 16), classes=4, max_norm=None, std=None)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parity
@pytest.mark.parametrize("keep", [0.5, 0.8, 1.0])
def test_under_one_mask_torchs_output_is_ours_over_p(keep: float) -> None:
    """Training: r y against r y / p. Test: p y against y. Gradients alike."""
    layer, theirs = Dropout(keep, seeded(7)), nn.Dropout(1 - keep)
    x = torch.randn(200, 30, dtype=F64, requires_grad=True)
    upstream = torch.randn(200, 30, dtype=F64)
    ours = layer(x)
    torch.manual_seed(7)
    inverted = F.dropout(x, 1 - keep, training=True)
    torch.testing.assert_close(ours, keep * inverted, rtol=0, atol=1e-12)
    (mine,), (their,) = (torch.autograd.grad(y, x, upstream) for y in (ours, inverted))
    torch.testing.assert_close(mine, keep * their, rtol=0, atol=1e-12)
    torch.testing.assert_close(layer.eval()(x), keep * theirs.eval()(x), rtol=0, atol=1e-12)


class InvertedTwin(nn.Module):
    """The same network with torch's dropout; its weights are p times ours."""

    def __init__(self, net: DropoutNet) -> None:
        super().__init__()
        self.keeps = [net.config.keep_inputs, *[net.config.keep_hidden] * len(net.config.hidden)]
        self.linears = copy.deepcopy(net.linears)
        with torch.no_grad():
            for linear, keep in zip(self.linears, self.keeps, strict=True):
                linear.weight.mul_(keep)  # type: ignore[operator]

    def forward(self, x: Tensor) -> Tensor:
        for i, (linear, keep) in enumerate(zip(self.linears, self.keeps, strict=True)):
            x = linear(F.dropout(x if i == 0 else F.relu(x), 1 - keep, self.training))
        return x


@pytest.mark.parity
def test_the_network_goes_the_way_of_its_inverted_twin() -> None:
    """Fifty steps of gradient descent, p^2 times as large for the twin's weights, same masks."""
    torch.manual_seed(0)
    net = DropoutNet(TINY, seeded(3)).to(F64)
    twin = InvertedTwin(net)
    ours = torch.optim.SGD(net.parameters(), 0.1)
    groups = [
        {"params": [linear.weight], "lr": 0.1 * keep**2}
        for linear, keep in zip(twin.linears, twin.keeps, strict=True)
    ]
    groups += [{"params": [linear.bias], "lr": 0.1} for linear in twin.linears]
    theirs = torch.optim.SGD(groups)
    x, y = torch.rand(50, 10, 12, dtype=F64), torch.randint(4, (50, 10))
    torch.manual_seed(3)  # the twin's masks come from the global generator
    for step in range(50):
        for model, optimizer in ((net, ours), (twin, theirs)):
            optimizer.zero_grad()
            F.cross_entropy(model(x[step]), y[step]).backward()
            optimizer.step()
    for linear, other, keep in zip(net.linears, twin.linears, twin.keeps, strict=True):
        assert isinstance(linear, nn.Linear)
        assert isinstance(other, nn.Linear)
        torch.testing.assert_close(keep * linear.weight, other.weight, rtol=0, atol=1e-8)
        torch.testing.assert_close(linear.bias, other.bias, rtol=0, atol=1e-8)
    torch.testing.assert_close(net.eval()(x[0]), twin.eval()(x[0]), rtol=0, atol=1e-8)


def test_at_test_time_weights_are_scaled_by_p() -> None:
    """Figure 2: W_test = p W in a network without dropout."""
    torch.manual_seed(0)
    net = DropoutNet(TINY).eval()
    plain = DropoutNet(dataclasses.replace(TINY, noise="none"))
    plain.load_state_dict(net.state_dict())
    with torch.no_grad():
        for linear, keep in zip(plain.linears, [0.8, 0.5, 0.5], strict=True):
            assert isinstance(linear, nn.Linear)
            linear.weight.mul_(keep)
    x = torch.rand(6, 12)
    torch.testing.assert_close(net(x), plain(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", [Dropout, GaussianDropout])
@pytest.mark.parametrize("keep", [0.5, 0.8])
def test_noise_has_the_papers_moments(make: Any, keep: float) -> None:
    """Its mean is what test time assumes; its spread over the mean is sqrt((1 - p) / p)."""
    layer = make(keep, seeded(0))
    y = layer(torch.full((400_000,), 3.0))
    expected = layer.eval()(torch.full((1,), 3.0)).item()
    assert expected == pytest.approx(3 * keep if make is Dropout else 3)
    assert y.mean().item() == pytest.approx(expected, rel=5e-3)
    assert (y.std() / y.mean()).item() == pytest.approx(((1 - keep) / keep) ** 0.5, rel=1e-2)
    assert set(y.tolist()) == {0.0, 3.0} if make is Dropout else len(y.unique()) > 1000


@pytest.mark.parametrize("make", [Dropout, GaussianDropout])
def test_masks_follow_the_generator_and_differ_within_a_batch(make: Any) -> None:
    x = torch.ones(50, 40)
    one, other = make(0.5, seeded(1))(x), make(0.5, seeded(1))(x)
    assert torch.equal(one, other)
    assert not torch.equal(one, make(0.5, seeded(2))(x))
    assert len(one.unique(dim=0)) == 50


def test_constraint_caps_only_what_is_too_long() -> None:
    weight = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0], [0.0, -2.0]])
    clip_rows(weight, 2.0)
    expected = torch.tensor([[1.2, 1.6], [0.3, 0.4], [0.0, 0.0], [0.0, -2.0]])
    torch.testing.assert_close(weight, expected)
    torch.manual_seed(0)
    net = DropoutNet(dataclasses.replace(TINY, max_norm=0.7))
    before = copy.deepcopy(net)
    net.constrain()
    for linear, old in zip(net.linears, before.linears, strict=True):
        assert isinstance(linear, nn.Linear)
        assert isinstance(old, nn.Linear)
        norms = linear.weight.norm(dim=1)
        torch.testing.assert_close(norms, old.weight.norm(dim=1).clamp(max=0.7))
        assert torch.equal(linear.bias, old.bias)
    free = DropoutNet(dataclasses.replace(TINY, max_norm=None))
    weights = copy.deepcopy(free.state_dict())
    free.constrain()
    assert all(torch.equal(weights[name], value) for name, value in free.state_dict().items())


def test_monte_carlo_averages_thinned_networks() -> None:
    torch.manual_seed(0)
    net = DropoutNet(TINY, seeded(5)).eval()
    x = torch.rand(6, 12)
    averages = monte_carlo(net, x, 30)
    assert not any(module.training for module in net.modules())
    twin = copy.deepcopy(net).train()
    generator = seeded(5)
    for noise in twin.noises:
        noise.generator = generator  # type: ignore[assignment]
    samples = torch.stack([twin(x).softmax(-1) for _ in range(30)])
    for k in (1, 7, 30):
        torch.testing.assert_close(averages[k - 1], samples[:k].mean(0), rtol=0, atol=1e-6)


def test_weight_scaling_is_the_average_of_a_linear_network() -> None:
    """Exact for one layer without a nonlinearity, up to the noise of 20,000 samples."""
    torch.manual_seed(0)
    noise, linear = Dropout(0.5, seeded(0)), nn.Linear(30, 3)
    x = torch.rand(1, 30)
    sampled = linear(noise(x.expand(20_000, 30))).mean(0)
    torch.testing.assert_close(sampled, linear(noise.eval()(x))[0], rtol=0, atol=0.02)


def test_the_papers_network_has_its_size() -> None:
    with torch.device("meta"):
        net = create()
    layers = 784 * 1024 + 1024 + 2 * (1024 * 1024 + 1024) + 1024 * 10 + 10
    assert sum(p.numel() for p in net.parameters()) == layers


@pytest.mark.parametrize(
    ("noise", "std", "expected"),
    [
        ("bernoulli", None, (2 / (0.8 * 784)) ** 0.5),
        ("gaussian", None, (2 / 784) ** 0.5),
        ("bernoulli", 0.01, 0.01),
    ],
)
def test_first_weights_have_their_deviation(noise: Any, std: float | None, expected: float) -> None:
    torch.manual_seed(0)
    weight = DropoutNet(DropoutConfig(hidden=(500,), noise=noise, std=std)).linears[0].weight
    assert isinstance(weight, Tensor)
    assert weight.std().item() == pytest.approx(expected, rel=0.01)
    assert weight.mean().item() == pytest.approx(0, abs=0.01 * expected)


def train(config: DropoutConfig, seed: int) -> float:
    """Test error after training on 500 digits, 30% of them with a random label."""
    digits = real("digits")
    x, test = (part.inputs.flatten(1) / 16 for part in (digits.train, digits.test))
    y = digits.train.targets[:500].clone()
    wrong = torch.rand(500, generator=seeded(1)) < 0.3
    y[wrong] = torch.randint(10, (int(wrong.sum()),), generator=seeded(2))
    torch.manual_seed(seed)
    net = DropoutNet(config)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    for _ in range(50):
        for rows in torch.randperm(500).split(50):
            optimizer.zero_grad()
            F.cross_entropy(net(x[rows]), y[rows]).backward()
            optimizer.step()
            net.constrain()
    with torch.no_grad():
        outputs: Tensor = net.eval()(test)
    return (outputs.argmax(1) != digits.test.targets).float().mean().item()


@pytest.mark.learning
def test_with_dropout_wrong_labels_are_not_learned_by_heart() -> None:
    """The plain network learns them; with either noise, the error on clean digits is far lower."""
    small = DropoutConfig.small()
    plain_error = train(dataclasses.replace(small, noise="none", max_norm=None), 0)
    for noise in ("bernoulli", "gaussian"):
        error = train(dataclasses.replace(small, noise=noise), 0)
        assert error < 0.15, noise
        assert error < 0.75 * plain_error, noise


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": ()}, "hidden"),
        ({"classes": 0}, "positive"),
        ({"noise": "uniform"}, "uniform"),
        ({"keep_inputs": 0.0}, "keeping"),
        ({"keep_hidden": 1.1}, "keeping"),
        ({"max_norm": 0.0}, "max_norm"),
        ({"std": 0.0}, "std"),
    ],
)
def test_bad_settings_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DropoutConfig(**options)


def test_bad_arguments_are_refused() -> None:
    for make in (Dropout, GaussianDropout):
        with pytest.raises(ValueError, match="keeping"):
            make(0.0)
    with pytest.raises(ValueError, match="samples"):
        monte_carlo(DropoutNet(TINY), torch.zeros(1, 12), 0)
