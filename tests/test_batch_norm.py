"""Batch normalization against PyTorch's: outputs, gradients, buffers; folding, and its use."""

import copy
import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from datasets import real
from torch import Tensor, nn

from supervised.foundations.batch_norm import (
    BatchNorm,
    BatchNormConfig,
    Normalize,
    SigmoidNet,
    create,
    estimate_population,
    fold,
)

F64 = torch.float64
SHAPES = [(7, 5), (6, 5, 9), (4, 5, 3, 2)]
TORCHS: dict[int, Any] = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}


def layer_and_twin(shape: tuple[int, ...], **options: Any) -> tuple[BatchNorm, nn.Module]:
    ours, twin = BatchNorm(shape[1], **options).to(F64), TORCHS[len(shape)](shape[1], **options)
    nn.init.normal_(ours.weight)
    nn.init.normal_(ours.bias)
    twin.to(F64).load_state_dict(ours.state_dict())  # names and shapes are torch's
    return ours, twin


@pytest.mark.parity
@pytest.mark.parametrize("momentum", [0.1, 0.3, None])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_outputs_gradients_and_buffers_are_torchs(
    shape: tuple[int, ...], momentum: float | None
) -> None:
    torch.manual_seed(0)
    ours, theirs = layer_and_twin(shape, momentum=momentum, eps=1e-3)
    for mode in [True, True, True, False]:  # the last in evaluation mode
        x = (3 * torch.randn(shape, dtype=F64) + 2).requires_grad_()
        upstream = torch.randn(shape, dtype=F64)
        results = []
        for layer in (ours.train(mode), theirs.train(mode)):
            y = layer(x)
            results.append((y, *torch.autograd.grad(y, [x, *layer.parameters()], upstream)))
        for one, other in zip(*results, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-10)
        for one, other in zip(ours.buffers(), theirs.buffers(), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@pytest.mark.parity
def test_a_convolutional_network_follows_torchs_trajectory() -> None:
    torch.manual_seed(0)

    def build(norm1d: Any, norm2d: Any) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, bias=False), norm2d(4), nn.ReLU(), nn.Flatten(),
            nn.Linear(4 * 36, 16, bias=False), norm1d(16), nn.Sigmoid(), nn.Linear(16, 10),
        ).to(F64)  # fmt: skip

    net, twin = build(BatchNorm, BatchNorm), build(nn.BatchNorm1d, nn.BatchNorm2d)
    twin.load_state_dict(net.state_dict())
    x, y = torch.rand(50, 12, 1, 8, 8, dtype=F64), torch.randint(10, (50, 12))
    optimizers = [torch.optim.SGD(model.parameters(), 0.1) for model in (net, twin)]
    for step in range(50):
        for model, optimizer in zip((net, twin), optimizers, strict=True):
            optimizer.zero_grad()
            F.cross_entropy(model(x[step]), y[step]).backward()
            optimizer.step()
    for one, other in zip(net.state_dict().values(), twin.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-8)
    torch.testing.assert_close(net.eval()(x[0]), twin.eval()(x[0]), rtol=0, atol=1e-8)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_backward_is_that_of_finite_differences(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=F64, requires_grad=True)
    gamma, beta = (torch.randn(shape[1], dtype=F64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(lambda *a: Normalize.apply(*a, 1e-5)[0], (x, gamma, beta))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_channel_gets_mean_0_and_biased_variance_1(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    y = BatchNorm(shape[1], eps=1e-12).to(F64)(5 * torch.randn(shape, dtype=F64) - 3)
    rows = y.transpose(0, 1).flatten(1)
    torch.testing.assert_close(rows.mean(1), torch.zeros(5, dtype=F64), rtol=0, atol=1e-10)
    biased = rows.var(1, correction=0)
    torch.testing.assert_close(biased, torch.ones(5, dtype=F64), rtol=0, atol=1e-10)


def test_the_weights_scale_does_not_matter() -> None:
    """Section 3.3: BN((aW)u) = BN(Wu), its gradient to u is the same, to W smaller by a."""
    torch.manual_seed(0)
    norm = BatchNorm(4, eps=1e-30).to(F64)
    u = torch.randn(9, 6, dtype=F64, requires_grad=True)
    upstream = torch.randn(9, 4, dtype=F64)
    results = []
    for a in (1.0, 50.0):
        weight = (a * torch.linspace(-1, 1, 24, dtype=F64).view(4, 6).cos()).requires_grad_()
        y = norm(u @ weight.T)
        to_u, to_weight = torch.autograd.grad(y, [u, weight], upstream)
        results.append((y, to_u, a * to_weight))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


def test_population_statistics_are_algorithm_2s() -> None:
    """Averages over batches of the mean and of the unbiased variance."""
    torch.manual_seed(0)
    norm = BatchNorm(3, momentum=0.2).to(F64)
    model = nn.Sequential(norm).eval()
    batches = list(torch.randn(8, 10, 3, dtype=F64) * 2 + 1)
    estimate_population(model, batches)
    means = torch.stack([batch.mean(0) for batch in batches]).mean(0)
    variances = torch.stack([batch.var(0, correction=1) for batch in batches]).mean(0)
    torch.testing.assert_close(norm.running_mean, means, rtol=0, atol=1e-12)
    torch.testing.assert_close(norm.running_var, variances, rtol=0, atol=1e-12)
    assert norm.momentum == 0.2
    assert not model.training


def test_evaluation_does_not_depend_on_the_batch() -> None:
    torch.manual_seed(0)
    net = create(BatchNormConfig.small()).to(F64)
    x = torch.rand(30, 64, dtype=F64)
    net(x)
    before = copy.deepcopy(net.state_dict())
    whole = net.eval()(x)
    alone = torch.cat([net(row[None]) for row in x])
    torch.testing.assert_close(whole, alone, rtol=0, atol=1e-12)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("layer", "shape"), [(nn.Linear, (5, 6)), (nn.Conv2d, (5, 6, 8, 7))], ids=["linear", "conv"]
)
def test_a_folded_layer_does_the_work_of_both(
    layer: Any, shape: tuple[int, ...], bias: bool
) -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = {"stride": 2, "padding": 1} if layer is nn.Conv2d else {}
    size = (3,) if layer is nn.Conv2d else ()
    below = layer(6, 4, *size, bias=bias, **options).to(F64)
    norm, _ = layer_and_twin((2, 4))
    for _ in range(5):
        norm(below(torch.randn(shape, dtype=F64)))
    norm.eval()
    x, weight = torch.randn(shape, dtype=F64), below.weight.clone()
    torch.testing.assert_close(fold(below, norm)(x), norm(below(x)), rtol=0, atol=1e-12)
    assert torch.equal(below.weight, weight)  # a copy was folded


def test_the_papers_network_has_its_size() -> None:
    with torch.device("meta"):
        sizes = [
            sum(p.numel() for p in create(BatchNormConfig.paper(normalize)).parameters())
            for normalize in (True, False)
        ]
    weights = 784 * 100 + 2 * 100 * 100 + 100 * 10 + 10
    assert sizes == [weights + 6 * 100, weights + 3 * 100]  # gamma and beta; biases


@pytest.mark.learning
def test_a_normalized_sigmoid_network_learns_the_digits_sooner() -> None:
    """In 150 steps, after which the plain one is still at chance or near it."""
    digits = real("digits")
    x, test = (part.inputs.flatten(1) / 16 for part in (digits.train, digits.test))
    y = digits.train.targets
    accuracies = []
    for normalize in (True, False):
        torch.manual_seed(0)
        net = SigmoidNet(BatchNormConfig.small(normalize))
        optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
        for _ in range(150):
            rows = torch.randint(len(y), (60,))
            optimizer.zero_grad()
            F.cross_entropy(net(x[rows]), y[rows]).backward()
            optimizer.step()
        predictions: Tensor = net.eval()(test).argmax(1)
        accuracies.append((predictions == digits.test.targets).float().mean().item())
    assert accuracies[0] > 0.85
    assert accuracies[1] < 0.5


@pytest.mark.parametrize(
    "options", [{"hidden": ()}, {"inputs": 0}, {"hidden": (5, 0)}, {"weight_std": 0.0}]
)
def test_bad_settings_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        dataclasses.replace(BatchNormConfig(), **options)


@pytest.mark.parametrize("options", [{"channels": 0}, {"eps": 0.0}, {"momentum": 0.0}])
def test_bad_layers_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        BatchNorm(**{"channels": 3, **options})


def test_bad_inputs_are_refused() -> None:
    norm = BatchNorm(3)
    for shape in [(3,), (4, 2), (4, 5, 3)]:
        with pytest.raises(ValueError, match=r"expected \[B, 3"):
            norm(torch.zeros(shape))
    with pytest.raises(ValueError, match="two values"):
        norm(torch.zeros(1, 3))
    assert norm(torch.zeros(1, 3, 2, 2)).shape == (1, 3, 2, 2)
    with pytest.raises(ValueError, match="4 outputs do not fit 3"):
        fold(nn.Linear(2, 4), norm)
