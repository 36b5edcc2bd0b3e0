"""The rectifier against PyTorch's, and the network's penalty, zeros and pretraining."""

import copy
import dataclasses
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from datasets import real
from torch import nn

from supervised.foundations.relu import (
    DenoisingAutoencoder,
    RectifierNet,
    ReLUConfig,
    corrupt,
    create,
    l1_penalty,
    rectifier,
    softplus,
    sparsity,
    supervised_loss,
)

F64 = torch.float64
SMALL = ReLUConfig.small()


@pytest.mark.parity
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_rectifier_is_exactly_torchs(dtype: torch.dtype) -> None:
    """Also of zeros, infinities, NaN and the smallest numbers, forward and backward."""
    special = [0.0, -0.0, math.inf, -math.inf, math.nan, 5e-324, -5e-324, 1e-45, -1e-45]
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(2000, generator=generator, dtype=dtype)
    x = torch.cat([torch.tensor(special, dtype=dtype), noise]).requires_grad_()
    upstream = torch.randn(x.shape, generator=generator, dtype=dtype)
    upstream[:2] = math.inf  # at 0
    ours, theirs = rectifier(x), F.relu(x)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)
    (mine,) = torch.autograd.grad(ours, x, upstream)
    (their,) = torch.autograd.grad(theirs, x, upstream)
    torch.testing.assert_close(mine, their, rtol=0, atol=0, equal_nan=True)


def test_gradient_at_zero_is_zero() -> None:
    x = torch.zeros(3, requires_grad=True)
    rectifier(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 0, 0]


def test_gradients_are_those_of_finite_differences() -> None:
    x = torch.tensor([-1.3, -0.2, 0.4, 2.0], dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(rectifier, x)
    assert torch.autograd.gradgradcheck(rectifier, x)
    assert torch.autograd.gradcheck(softplus, x)


@pytest.mark.parity
def test_softplus_is_torchs() -> None:
    x = torch.linspace(-30, 30, 601, dtype=F64).requires_grad_()  # 0 is one of them
    ours, theirs = softplus(x), F.softplus(x, threshold=100)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    (mine,), (their,) = (torch.autograd.grad(y.sum(), x) for y in (ours, theirs))
    torch.testing.assert_close(mine, their, rtol=0, atol=1e-12)
    far = torch.tensor([-700.0, 1e4], dtype=F64)
    assert softplus(far)[0] > 0
    assert softplus(far)[1] == 1e4


@pytest.mark.parity
@pytest.mark.parametrize("activation", ["rectifier", "tanh", "softplus"])
def test_network_follows_its_twin(activation: Any) -> None:
    """Forward, gradients and 50 steps against torch's modules with the same weights."""
    torch.manual_seed(0)
    config = dataclasses.replace(ReLUConfig.small(activation), signed=False, l1=0.0)
    net = RectifierNet(config).to(F64)
    unit = {"rectifier": nn.ReLU, "tanh": nn.Tanh, "softplus": nn.Softplus}[activation]
    linears = [copy.deepcopy(layer) for layer in [*net.hidden, net.output]]
    twin = nn.Sequential(linears[0], unit(), linears[1], unit(), linears[2])
    ours = torch.optim.SGD(net.parameters(), 0.1)
    theirs = torch.optim.SGD(twin.parameters(), 0.1)
    x, y = torch.rand(50, 10, 64, dtype=F64), torch.randint(10, (50, 10))
    torch.testing.assert_close(net(x[0]), twin(x[0]), rtol=0, atol=1e-10)
    for step in range(50):
        ours.zero_grad()
        theirs.zero_grad()
        supervised_loss(net, x[step], y[step]).backward()
        F.cross_entropy(twin(x[step]), y[step]).backward()
        for p, q in zip(net.parameters(), twin.parameters(), strict=True):
            assert p.grad is not None
            torch.testing.assert_close(p.grad, q.grad, rtol=0, atol=1e-10)
        ours.step()
        theirs.step()
    for p, q in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=1e-8)


def test_the_papers_network_has_its_size() -> None:
    with torch.device("meta"):
        net = create()
    assert sum(p.numel() for p in net.parameters()) == 784_000 + 1_000 + 2 * 1_001_000 + 10_010


def test_half_of_the_units_are_negated() -> None:
    torch.manual_seed(0)
    codes = RectifierNet(SMALL).codes(torch.rand(20, 64))
    for h in codes:
        assert (h[:, :32] >= 0).all()
        assert (h[:, 32:] <= 0).all()
        assert (h[:, :32] > 0).any()
        assert (h[:, 32:] < 0).any()


def test_zeros_are_exact_and_only_rectifiers_have_them() -> None:
    """Half of them at the start: symmetric weights, no bias (section 3.1)."""
    x = torch.rand(300, 64)
    shares = {}
    for activation in ("rectifier", "tanh", "softplus"):
        torch.manual_seed(0)
        shares[activation] = sparsity(RectifierNet(ReLUConfig.small(activation)).codes(x))
    assert all(0.35 < share < 0.65 for share in shares["rectifier"])
    assert shares["tanh"] == shares["softplus"] == [0, 0]


def test_penalty_is_the_l1_norm_of_the_codes() -> None:
    codes = [torch.tensor([[1.0, -2.0], [0.0, 4.0]]), torch.tensor([[3.0], [-1.0]])]
    assert l1_penalty(codes).item() == pytest.approx((3 + 4) / 2 + (3 + 1) / 2)
    torch.manual_seed(0)
    net = RectifierNet(dataclasses.replace(SMALL, l1=0.5))
    x, y = torch.rand(8, 64), torch.randint(10, (8,))
    expected = F.cross_entropy(net(x), y) + 0.5 * l1_penalty(net.codes(x))
    assert supervised_loss(net, x, y).item() == pytest.approx(expected.item(), rel=1e-6)


def train(config: ReLUConfig, epochs: int = 30) -> tuple[float, list[float]]:
    """Test accuracy and shares of zeros after training on the digits."""
    digits = real("digits")
    x, test = (part.inputs.flatten(1) / 16 for part in (digits.train, digits.test))
    y = digits.train.targets
    torch.manual_seed(0)
    net = RectifierNet(config)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(epochs):
        for rows in torch.randperm(len(y)).split(20):
            optimizer.zero_grad()
            supervised_loss(net, x[rows], y[rows]).backward()
            optimizer.step()
    accuracy = (net(test).argmax(1) == digits.test.targets).float().mean().item()
    return accuracy, sparsity(net.codes(test))


@pytest.mark.learning
def test_digits_rectifier_against_tanh() -> None:
    rectified, zeros = train(ReLUConfig.small())
    tanh, _ = train(ReLUConfig.small("tanh"))
    assert rectified > 0.9
    assert rectified > tanh - 0.02
    assert min(zeros) > 0.5


@pytest.mark.learning
def test_the_penalty_makes_codes_sparser() -> None:
    config = ReLUConfig.small()
    _, without = train(dataclasses.replace(config, l1=0.0), epochs=8)
    _, with_it = train(dataclasses.replace(config, l1=0.01), epochs=8)
    assert sum(with_it) > sum(without) + 0.1


def test_corruption_masks_this_share_and_repeats() -> None:
    x = torch.rand(100, 64) + 0.1
    masked = corrupt(x, 0.25, torch.Generator().manual_seed(3))
    assert 0.23 < (masked == 0).float().mean() < 0.27
    assert torch.equal(masked[masked != 0], x[masked != 0])
    assert torch.equal(masked, corrupt(x, 0.25, torch.Generator().manual_seed(3)))
    assert torch.equal(corrupt(x, 0.0, torch.Generator()), x)


@pytest.mark.parametrize("decoder", ["softplus", "sigmoid", "linear", "rectifier"])
def test_reconstruction_costs_are_those_of_section_3_2(decoder: Any) -> None:
    torch.manual_seed(0)
    config = dataclasses.replace(SMALL, decoder=decoder, l1=0.1)
    scale = 2.0 if decoder == "sigmoid" else 1.0
    net = RectifierNet(config).to(F64)
    autoencoder = DenoisingAutoencoder(net, 0, scale).to(F64)
    clean, corrupted = torch.rand(5, 64, dtype=F64), torch.rand(5, 64, dtype=F64)
    f = autoencoder(corrupted)
    x = clean / scale
    cost = {
        "softplus": (x - torch.log(1 + torch.exp(f))) ** 2,
        "sigmoid": -x * torch.log(f.sigmoid()) - (1 - x) * torch.log(1 - f.sigmoid()),
        "linear": (x - f) ** 2,
        "rectifier": (x - F.relu(f)) ** 2,
    }[decoder]
    code = F.relu(F.linear(corrupted, net.hidden[0].weight, net.hidden[0].bias))  # type: ignore[arg-type]
    expected = cost.sum(1).mean() + 0.1 * code.sum(1).mean()
    assert autoencoder.loss(corrupted, clean).item() == pytest.approx(expected.item(), rel=1e-10)


def test_pretraining_teaches_its_layer_alone_and_restores() -> None:
    """Layer 1, on the signed codes of layer 0."""
    x = real("digits").train.inputs.flatten(1) / 16
    torch.manual_seed(0)
    net = RectifierNet(dataclasses.replace(SMALL, l1=0.0))
    before = copy.deepcopy(net)
    codes = net.codes(x, depth=1)[0].detach()
    autoencoder = DenoisingAutoencoder(net, 1)
    optimizer = torch.optim.Adam(autoencoder.parameters(), lr=0.01)
    generator = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(200):
        optimizer.zero_grad()
        loss = autoencoder.loss(corrupt(codes, 0.25, generator), codes)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    spread = (codes.abs() - codes.abs().mean(0)).square().sum(1).mean().item()
    assert losses[-1] < 0.8 * spread  # better than to answer with the mean
    for name, p in net.named_parameters():
        changed = not torch.equal(p, before.get_parameter(name))
        assert changed == name.startswith("hidden.1."), name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activation": "maxout"}, "maxout"),
        ({"decoder": "tanh"}, "tanh"),
        ({"hidden": ()}, "hidden"),
        ({"hidden": (10, 0)}, "hidden"),
        ({"corruption": 1.0}, "corruption"),
        ({"l1": -1.0}, "l1"),
    ],
)
def test_bad_settings_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ReLUConfig(**options)


def test_a_missing_layer_is_refused() -> None:
    with pytest.raises(ValueError, match="no hidden layer 2"):
        DenoisingAutoencoder(RectifierNet(SMALL), 2)
