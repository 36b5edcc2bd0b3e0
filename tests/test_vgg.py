"""VGG, against a twin written from table 1, and its test-time and training-time pictures."""

import itertools
import math
from typing import Any

import pytest
import torch
from datasets import real
from torch import Tensor, nn
from torch.nn import functional as F

from supervised.fit import Fit, predict
from supervised.vision.vgg import (
    TABLE_1,
    VGG,
    VGGConfig,
    class_posteriors,
    create,
    multi_scale,
    score_map,
    start_from,
)

# Table 1 and table 2: filters and kernels, layer by layer, and millions of parameters.
LAYERS = {
    "A": "64 M 128 M 256 256 M 512 512 M 512 512 M",
    "A-LRN": "64 LRN M 128 M 256 256 M 512 512 M 512 512 M",
    "B": "64 64 M 128 128 M 256 256 M 512 512 M 512 512 M",
    "C": "64 64 M 128 128 M 256 256 1x256 M 512 512 1x512 M 512 512 1x512 M",
    "D": "64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M",
    "E": "64 64 M 128 128 M 256 256 256 256 M 512 512 512 512 M 512 512 512 512 M",
}
MILLIONS = {"A": 133, "A-LRN": 133, "B": 133, "C": 134, "D": 138, "E": 144}
DEPTHS = {"A": 11, "A-LRN": 11, "B": 13, "C": 16, "D": 16, "E": 19}
TINY: dict[str, Any] = {"width": 1 / 8, "classes": 5, "size": 64, "start": "he"}
every_column = pytest.mark.parametrize("column", TABLE_1)


class ByHand(nn.Module):
    """Response normalization as in Krizhevsky et al. 2012, section 3.3."""

    def forward(self, a: Tensor) -> Tensor:
        n = a.shape[1]
        b = []
        for i in range(n):
            near = a[:, max(0, i - 2) : min(n, i + 3)]
            b.append(a[:, i] / (2 + 1e-4 * near.square().sum(1)) ** 0.75)
        return torch.stack(b, 1)


def twin(column: str, width: float = 1.0, classes: int = 1000, grid: int = 7) -> nn.Sequential:
    """The network as one list of layers."""
    layers: list[nn.Module] = []
    n_in = 3
    for word in LAYERS[column].split():
        if word == "M":
            layers.append(nn.MaxPool2d(2, 2))
        elif word == "LRN":
            layers.append(ByHand())
        else:
            kernel, filters = (1, word[2:]) if word.startswith("1x") else (3, word)
            n_out = int(int(filters) * width)
            layers += [nn.Conv2d(n_in, n_out, kernel, padding=(kernel - 1) // 2), nn.ReLU()]
            n_in = n_out
    hidden = int(4096 * width)
    layers += [nn.Flatten(), nn.Linear(n_in * grid**2, hidden), nn.ReLU(), nn.Dropout(0.5)]
    layers += [nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(0.5), nn.Linear(hidden, classes)]
    return nn.Sequential(*layers)


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def tiny(column: str = "A", seed: int = 0, **changes: Any) -> VGG:
    torch.manual_seed(seed)
    model = create(column, **{**TINY, **changes}).double()
    for p in model.parameters():
        if p.ndim == 1:
            nn.init.uniform_(p, -0.1, 0.1)
    return model


def pictures(n: int = 2, height: int = 64, width: int = 64) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, 3, height, width, generator=generator, dtype=torch.float64)


# -- the paper's networks ----------------------------------------------------------------------


@every_column
def test_parameters(column: str) -> None:
    with torch.device("meta"):
        model, other = create(column), twin(column)
    assert count(model) == count(other)
    assert count(model) / 1e6 == pytest.approx(MILLIONS[column], abs=0.5)
    assert len([*itertools.chain(*model.convolutions), *model.linears]) == DEPTHS[column]


def test_parameters_of_vgg16() -> None:
    with torch.device("meta"):
        assert count(create("D")) == 138_357_544


def test_sizes_of_maps() -> None:
    with torch.device("meta"):
        maps = create("D").trunk(torch.zeros(1, 3, 224, 224))
    assert [m.shape[-1] for m in maps] == [224, 112, 56, 28, 14, 7]


def test_small_has_the_same_form() -> None:
    model = VGG(VGGConfig.small())
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert count(model) < 500_000


# -- parity ------------------------------------------------------------------------------------


def side_by_side(column: str) -> tuple[VGG, nn.Sequential]:
    model = tiny(column)
    other = twin(column, width=1 / 8, classes=5, grid=2).double()
    for p, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert p.shape == theirs.shape
        theirs.data.copy_(p)
    return model, other


@pytest.mark.parity
@every_column
def test_forward_and_gradients(column: str) -> None:
    model, other = side_by_side(column)
    model.eval()
    other.eval()
    x, y = pictures(3).requires_grad_(), torch.arange(3)
    scores, theirs = model(x), other(x)
    torch.testing.assert_close(scores, theirs, rtol=1e-10, atol=1e-10)
    ours = torch.autograd.grad(F.cross_entropy(scores, y), [x, *model.parameters()])
    expected = torch.autograd.grad(F.cross_entropy(theirs, y), [x, *other.parameters()])
    for gradient, their_gradient in zip(ours, expected, strict=True):
        assert their_gradient.abs().max() > 1e-8
        torch.testing.assert_close(gradient, their_gradient, rtol=0, atol=1e-10)


@pytest.mark.parity
@pytest.mark.parametrize("column", ["A-LRN", "C"])
def test_trajectory(column: str) -> None:
    """Fifty steps of section 3.1's training, dropout included: its masks come from one seed."""
    model, other = side_by_side(column)
    before = [p.detach().clone() for p in model.parameters()]
    for network in (model, other):
        train(network, 50)
    for p, theirs, old in zip(model.parameters(), other.parameters(), before, strict=True):
        torch.testing.assert_close(p, theirs, rtol=0, atol=1e-8)
        assert (p - old).abs().max() > 1e-4


def train(network: nn.Module, steps: int) -> None:
    optimizer = torch.optim.SGD(network.parameters(), 1e-2, 0.9, weight_decay=5e-4)
    generator = torch.Generator().manual_seed(0)
    network.train()
    torch.manual_seed(2)
    for _ in range(steps):
        x = torch.randn(4, 3, 64, 64, generator=generator, dtype=torch.float64)
        loss = F.cross_entropy(network(x), torch.randint(5, (4,), generator=generator))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


# -- section 3.1: the start --------------------------------------------------------------------


@pytest.mark.parametrize("how", ["gaussian", "glorot", "he"])
def test_start(how: Any) -> None:
    torch.manual_seed(0)
    model = create("B", size=32, classes=8, width=0.5, start=how)
    layers: list[Any] = [*itertools.chain(*model.convolutions), *model.linears]
    for layer in layers:
        fan_in, size = layer.weight[0].numel(), layer.weight[0, 0].numel()
        fan_out = layer.weight.shape[0] * size
        expected = {
            "gaussian": 0.01,
            "glorot": math.sqrt(2 / (fan_in + fan_out)),
            "he": math.sqrt(2 / fan_in),
        }[how]
        assert layer.weight.std().item() == pytest.approx(expected, rel=0.1)
        assert not layer.bias.any()


@pytest.mark.parametrize("column", ["B", "C", "D", "E"])
def test_start_from_a_trained_network(column: str) -> None:
    """Conv 64, 128, 256, 256 and three fully connected layers are A's; the others as they were."""
    shallow, model, before = tiny("A"), tiny(column, seed=1), tiny(column, seed=1)
    start_from(model, shallow)
    copied = [(0, 0), (1, 0), (2, 0), (2, 1)]
    for block, layers in enumerate(model.convolutions):
        for i, layer in enumerate(layers):
            source = shallow if (block, i) in copied else before
            assert torch.equal(layer.weight, source.convolutions[block][i].weight)
            bias = source.convolutions[block][i].bias
            assert layer.bias is not None
            assert bias is not None
            assert torch.equal(layer.bias, bias)
    for linear, theirs in zip(model.linears, shallow.linears, strict=True):
        assert torch.equal(linear.weight, theirs.weight)
    assert model.linears[0].weight is not shallow.linears[0].weight


def test_start_from_another_width() -> None:
    with pytest.raises(ValueError, match="a layer of another size"):
        start_from(tiny("D"), tiny("A", width=1 / 4))


def test_dropout() -> None:
    """Behind the first two fully connected layers, in training only."""
    model = tiny()
    x = pictures()
    assert not torch.equal(model(x), model(x))
    assert torch.equal(model.eval()(x), model(x))
    kinds = [type(layer).__name__ for layer in model.head]
    assert kinds == ["Linear", "ReLU", "Dropout", "Linear", "ReLU", "Dropout", "Linear"]
    probabilities = [layer.p for layer in model.head if isinstance(layer, nn.Dropout)]
    assert probabilities == [0.5, 0.5]
    assert torch.equal(tiny(dropout=0.0)(x), tiny(dropout=0.0)(x))


# -- section 3.2: dense evaluation -------------------------------------------------------------


@pytest.mark.parametrize("column", ["A", "A-LRN", "D"])
def test_dense_is_the_network_on_one_crop(column: str) -> None:
    model = tiny(column).eval()
    scores = score_map(model, pictures())
    assert scores.shape == (2, 5, 1, 1)
    torch.testing.assert_close(scores[:, :, 0, 0], model(pictures()), rtol=1e-12, atol=1e-12)


def test_dense_on_a_whole_picture() -> None:
    """Each place of the score map is the fully connected part on its window of the last map."""
    model = tiny("B").eval()
    x = pictures(2, 101, 163)
    scores, features = score_map(model, x), model.forward_features(x)
    assert features.shape[2:] == (3, 5)
    assert scores.shape == (2, 5, 2, 4)
    for i, j in itertools.product(range(2), range(4)):
        window = model.forward_head(features[:, :, i : i + 2, j : j + 2])
        torch.testing.assert_close(scores[:, :, i, j], window, rtol=1e-10, atol=1e-12)


def test_class_posteriors() -> None:
    """Scores averaged over places, then posteriors over the picture and its mirror image."""
    model = tiny().eval()
    x = pictures(2, 96, 128)
    found = class_posteriors(model, x)
    expected = torch.zeros(2, 5, dtype=torch.float64)
    for view in (x, torch.flip(x, [3])):
        logits = score_map(model, view).flatten(2).sum(2) / (2 * 3)
        expected += 0.5 * logits.exp() / logits.exp().sum(1, keepdim=True)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found, class_posteriors(model, x.flip(3)))
    torch.testing.assert_close(found.sum(1), torch.ones(2, dtype=torch.float64))


def test_multi_scale() -> None:
    """Posteriors averaged over Q; the shorter side becomes Q."""
    model = tiny().eval()
    x = pictures(1, 64, 80)
    found = multi_scale(model, x, (64, 96))
    larger = F.interpolate(x, (96, 120), mode="bilinear")
    expected = (class_posteriors(model, x) + class_posteriors(model, larger)) / 2
    torch.testing.assert_close(found, expected)


def test_pictures_of_other_sizes_are_refused() -> None:
    model = tiny().eval()
    with pytest.raises(ValueError, match="crops must be 64 x 64; for other sizes there is score_"):
        model(pictures(1, 96, 96))
    with pytest.raises(ValueError, match="pictures must be at least 64 x 64"):
        score_map(model, pictures(1, 40, 96))


# -- learning ----------------------------------------------------------------------------------


@pytest.mark.learning
def test_learns_digits() -> None:
    """Network A in small on digits enlarged to 32 x 32, and B from where A ended: it has learned
    after a few steps what takes it hundreds from random weights. Chance is 10%.
    """
    digits = real("digits")
    parts = (digits.train, digits.test)
    train, test = (F.interpolate(part.inputs.float(), (32, 32)) / 8 - 0.6 for part in parts)

    def accuracy(column: str, steps: int, trained: VGG | None = None) -> tuple[float, VGG]:
        torch.manual_seed(0)
        model = create(column, size=32, classes=10, width=1 / 8, start="he", in_chans=1)
        if trained is not None:
            start_from(model, trained)
        optimizer = torch.optim.Adam(model.parameters(), 1e-3)
        Fit(model, optimizer, cross_entropy, (train, digits.train.targets), 32).run(steps)
        right = predict(model, test).argmax(1) == digits.test.targets
        return right.float().mean().item(), model

    good, shallow = accuracy("A", 200)
    assert good > 0.93
    deeper, fresh = accuracy("B", 40, shallow)[0], accuracy("B", 40)[0]
    assert deeper > fresh + 0.2


def cross_entropy(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


# -- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "changes", "message"),
    [
        ("F", {}, "network must be one of A, A-LRN, B, C, D, E, not 'F'"),
        ("A", {"size": 31}, "size must be at least 32"),
        ("A", {"dropout": 1.0}, "dropout must lie in"),
        ("A", {"start": "zeros"}, "start must be gaussian, glorot or he, not 'zeros'"),
        ("A", {"kernels": ((3,), (3,))}, "kernels must be those of five blocks"),
        ("A", {"kernels": ((3,), (3,), (), (3,), (3,))}, "kernels must be those of five blocks"),
        ("A", {"width": 0.0}, "width must be positive"),
    ],
)
def test_refusals(column: str, changes: dict[str, Any], message: str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        create(column, **changes)
