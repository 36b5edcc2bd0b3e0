"""AlexNet against a twin of torch.nn's layers, and against what its paper says."""

from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supervised.vision.alexnet import (
    AlexNet,
    AlexNetBackbone,
    AlexNetConfig,
    create,
    normalize_responses,
)

TINY = AlexNetConfig(classes=7, picture=67, width=1 / 16, dropout=0.0)


@pytest.fixture
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def model(config: AlexNetConfig, seed: int = 0) -> AlexNet:
    torch.manual_seed(seed)
    return create(config)


def convolutions(net: AlexNet) -> list[nn.Conv2d]:
    return [m for m in net.modules() if isinstance(m, nn.Conv2d)]


def close(a: Tensor, b: Tensor, atol: float) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=atol)


# -- parity ----------------------------------------------------------------------------------------


def twin(net: AlexNet) -> nn.Sequential:
    """The paper's figure 2 in torch.nn's layers; two towers written out where they are apart."""

    def convolution(i: int, margin: int) -> nn.Module:
        layer = convolutions(net)[i]
        weight, bias = layer.weight.detach().clone(), layer.bias
        assert bias is not None
        if layer.groups == 1:
            copy = nn.Conv2d(layer.in_channels, layer.out_channels, weight.shape[-1])
            copy.stride, copy.padding = layer.stride, (margin, margin)
            copy.load_state_dict({"weight": weight, "bias": bias.detach().clone()})
            return copy
        return Towers(weight, bias.detach().clone(), margin)

    def linear(layer: nn.Linear) -> nn.Linear:
        copy = nn.Linear(layer.in_features, layer.out_features)
        copy.load_state_dict(layer.state_dict())
        return copy

    def response() -> nn.LocalResponseNorm:
        return nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)  # its alpha is n times ours

    return nn.Sequential(
        *(convolution(0, 0), nn.ReLU(), response(), nn.MaxPool2d(3, 2)),
        *(convolution(1, 2), nn.ReLU(), response(), nn.MaxPool2d(3, 2)),
        *(convolution(2, 1), nn.ReLU(), convolution(3, 1), nn.ReLU()),
        *(convolution(4, 1), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Flatten()),
        *(linear(net.fc6), nn.ReLU(), linear(net.fc7), nn.ReLU(), linear(net.fc8)),
    )


class Towers(nn.Module):
    """Two convolutions, one for each half of the maps."""

    def __init__(self, weight: Tensor, bias: Tensor, margin: int) -> None:
        super().__init__()
        self.weight, self.bias, self.margin = nn.Parameter(weight), nn.Parameter(bias), margin

    def forward(self, x: Tensor) -> Tensor:
        parts = zip(x.chunk(2, 1), self.weight.chunk(2), self.bias.chunk(2), strict=True)
        return torch.cat([F.conv2d(*part, padding=self.margin) for part in parts], 1)


def data(n: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    x = 60 * torch.randn(n, 3, 67, 67, generator=generator)
    return x, torch.randint(7, (n,), generator=generator)


@pytest.mark.parity
@pytest.mark.usefixtures("double")
def test_forward_and_gradients_are_the_twins() -> None:
    ours = model(TINY)
    theirs = twin(ours)
    x, targets = data()
    close(ours(x), theirs(x), 1e-10)
    for net in (ours, theirs):
        F.cross_entropy(net(x), targets).backward()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert mine.grad is not None
        assert other.grad is not None
        assert mine.grad.abs().max() > 1e-6
        close(mine.grad, other.grad, 1e-10)


@pytest.mark.parity
@pytest.mark.usefixtures("double")
def test_fifty_steps_are_the_twins() -> None:
    """With momentum and weight decay, for the twin written as section 5 has them."""
    ours = model(TINY)
    theirs = twin(ours)
    x, targets = data()
    optimizer = torch.optim.SGD(ours.parameters(), 0.003, momentum=0.9, weight_decay=0.0005)
    start = [p.detach().clone() for p in ours.parameters()]
    v = [torch.zeros_like(p) for p in theirs.parameters()]
    for i in range(50):
        rows = torch.tensor([i % 4, (i + 1) % 4])
        optimizer.zero_grad()
        F.cross_entropy(ours(x[rows]), targets[rows]).backward()
        optimizer.step()
        weights = list(theirs.parameters())
        loss = F.cross_entropy(theirs(x[rows]), targets[rows])
        gradients = torch.autograd.grad(loss, weights)
        with torch.no_grad():
            for j, (w, g) in enumerate(zip(weights, gradients, strict=True)):
                v[j] = 0.9 * v[j] - 0.0005 * 0.003 * w - 0.003 * g
                w.add_(v[j])
    moved = [(a - b).abs().max() for a, b in zip(ours.parameters(), start, strict=True)]
    assert min(moved) > 1e-4
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        close(mine, other, 1e-8)


@pytest.mark.parity
@pytest.mark.parametrize("maps", [1, 3, 5, 24])
def test_normalization_is_pytorchs_with_n_times_the_alpha(maps: int) -> None:
    a = 50 * torch.randn(2, maps, 3, 4, dtype=torch.float64)
    theirs = nn.LocalResponseNorm(5, alpha=5 * 1e-4, beta=0.75, k=2.0)(a)
    close(normalize_responses(a), theirs, 1e-12)


# -- what the paper says ---------------------------------------------------------------------------


def test_the_papers_network_has_60_965_224_parameters() -> None:
    with torch.device("meta"):
        net = create()
    assert sum(p.numel() for p in net.parameters()) == 60_965_224
    kernels = [tuple(layer.weight.shape) for layer in convolutions(net)]
    assert kernels == [  # section 3.5
        *((96, 3, 11, 11), (256, 48, 5, 5), (384, 256, 3, 3), (384, 192, 3, 3), (256, 192, 3, 3)),
    ]


def test_the_papers_maps() -> None:
    """Figure 2: 55 pixels, pooled to 27; 27, pooled to 13; 13; 13; 13, pooled to 6."""
    with torch.device("meta"):
        maps = create().features(torch.zeros(1, 3, 227, 227))
    shapes = [tuple(m.shape[1:]) for m in maps]
    assert shapes == [(96, 27, 27), (256, 13, 13), (384, 13, 13), (384, 13, 13), (256, 6, 6)]


def test_normalization_by_hand() -> None:
    a = torch.randn(1, 7, 1, 1, dtype=torch.float64) * 100
    b = normalize_responses(a)
    for i in range(7):
        squares = sum(a[0, j, 0, 0].item() ** 2 for j in range(max(0, i - 2), min(6, i + 2) + 1))
        by_hand = a[0, i, 0, 0].item() / (2 + 1e-4 * squares) ** 0.75
        assert b[0, i, 0, 0].item() == pytest.approx(by_hand, rel=1e-12)


@pytest.mark.usefixtures("double")
def test_the_towers_meet_before_the_third_convolution_only() -> None:
    net = model(TINY)
    stages = net.backbone.stages
    maps = [6, 16, 24, 24, 16]
    x = torch.rand(1, 3, 67, 67)
    for i, stage in enumerate(stages):
        x = x.detach().requires_grad_()
        y = convolutions(net)[i](x)
        (of_first_half,) = torch.autograd.grad(y[:, : maps[i] // 2].sum(), x)
        sees_second_half = of_first_half[:, x.shape[1] // 2 :].abs().sum() > 0
        assert sees_second_half == (i in (0, 2))
        x = stage(x)


def test_pooling_windows_overlap() -> None:
    """Each pixel in a row of 5 lies in a window of 3, the middle one in two."""
    stage = model(TINY).backbone.stages[4]
    x = torch.zeros(1, 24, 5, 5)
    x[:, :, 2, 2] = 1e3
    with torch.no_grad():
        assert (stage(x).flatten(2).amax(1) > 1.5).all()  # all four windows see the centre
    assert stage(x).shape[-2:] == (2, 2)


def test_weights_and_biases_start_as_in_section_5() -> None:
    torch.manual_seed(0)
    net = AlexNet(AlexNetConfig(classes=10, picture=67))  # fc6 alone differs from the paper's
    layers = [m for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert len(layers) == 8
    for i, layer in enumerate(layers):
        std = 0.01 * (6 if i == 5 else 1)  # 36 times fewer inputs
        assert layer.weight.std().item() == pytest.approx(std, rel=0.02)
        assert layer.weight.mean().abs() < std / 50
        assert layer.bias is not None
        assert (layer.bias == float(i in (1, 3, 4, 5, 6))).all()


def test_a_narrow_network_starts_with_signals_as_large() -> None:
    """Sums keep their variance: 0.01^2 x inputs of the paper."""
    net = model(AlexNetConfig.small())
    paper = (*AlexNetBackbone.INPUTS, 9216, 4096, 4096)
    layers = [m for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    for layer, inputs in zip(layers, paper, strict=True):
        variance = layer.weight.var().item() * layer.weight[0].numel()
        assert variance == pytest.approx(1e-4 * inputs, rel=0.1)


def test_dropout_acts_in_training_on_both_hidden_layers() -> None:
    net = model(AlexNetConfig.small())
    x = 60 * torch.randn(2, 3, 28, 28)
    assert torch.equal(net.eval()(x), net(x))
    net.train()
    assert not torch.equal(net(x), net(x))
    zeros: list[float] = []
    for layer in (net.fc7, net.fc8):
        layer.register_forward_hook(
            lambda _, inputs, __: zeros.append((inputs[0] == 0).double().mean().item())
        )
    with torch.no_grad():
        net.fc6.weight.zero_()  # all hidden units are 1, so what is 0 was dropped
        net.fc7.weight.zero_()
        net(x)
    assert zeros == pytest.approx([0.5, 0.5], abs=0.06)


# -- learning, backbone, refusals ------------------------------------------------------------------


def stripes(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Stripes of four directions, of any phase and colour, in noise."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(4, (n,), generator=generator)
    y, x = torch.meshgrid(torch.arange(28.0), torch.arange(28.0), indexing="ij")
    angle = (targets * torch.pi / 4)[:, None, None]
    phase = 2 * torch.pi * torch.rand(n, 1, 1, generator=generator)
    waves = torch.sin(1.2 * (x * angle.cos() + y * angle.sin()) + phase)[:, None]
    colour = 60 * torch.randn(n, 3, 1, 1, generator=generator)
    return colour * waves + 20 * torch.randn(n, 3, 28, 28, generator=generator), targets


@pytest.mark.learning
def test_it_learns_directions() -> None:
    net = model(AlexNetConfig(4, picture=28, width=1 / 16, stem=(5, 1, 2), dropout=0.0))
    # Hidden units that start at 1 each make large steps of the few logits: a smaller rate.
    optimizer = torch.optim.SGD(net.parameters(), 0.002, momentum=0.9, weight_decay=5e-4)
    x, targets = stripes(2_000, seed=1)
    for _ in range(3):
        for rows in torch.arange(2_000).split(40):
            optimizer.zero_grad()
            F.cross_entropy(net(x[rows]), targets[rows]).backward()
            optimizer.step()
    x, targets = stripes(400, seed=2)
    with torch.no_grad():
        assert (net.eval()(x).argmax(1) == targets).double().mean() >= 0.9


def test_backbone_gives_the_maps_it_says_it_does() -> None:
    backbone = AlexNetBackbone(in_chans=1, out_indices=(0, 2, 4), width=0.25)
    x = torch.rand(2, 1, 99, 131, requires_grad=True)
    maps = backbone(x)
    assert backbone.feature_info.channels() == [24, 96, 64] == [m.shape[1] for m in maps]
    assert backbone.feature_info.reduction() == [8, 16, 32]
    assert [tuple(m.shape[-2:]) for m in maps] == [(11, 15), (5, 7), (2, 3)]
    (gradient,) = torch.autograd.grad(maps[-1].sum(), x)
    assert gradient.abs().sum() > 0


def test_small_keeps_the_papers_proportion_of_crop_to_picture() -> None:
    config = AlexNetConfig.small(classes=5, picture=56)
    assert (config.classes, config.picture, config.width) == (5, 56, 0.25)
    assert model(config)(torch.zeros(1, 3, 56, 56)).shape == (1, 5)


@pytest.mark.parametrize(
    "refused",
    [
        lambda: AlexNetConfig(classes=0),
        lambda: AlexNetConfig(in_chans=0),
        lambda: AlexNetConfig(width=0),
        lambda: AlexNetConfig(dropout=1.0),
        lambda: AlexNetConfig(picture=66),
        lambda: model(TINY)(torch.zeros(1, 3, 68, 67)),
        lambda: AlexNetBackbone(width=0.1)(torch.zeros(1, 3, 66, 100)),
    ],
)
def test_bad_arguments_are_refused(refused: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"must|too small"):
        refused()
