"""Deep residual networks, against transformers' and against a twin written here."""

import itertools
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from datasets import real
from torch import Tensor, nn
from torch.nn import functional as F

from supervised.data import Dataset
from supervised.fit import Fit, predict
from supervised.vision.resnet import (
    IMAGENET,
    ResidualBlock,
    ResNet,
    ResNetConfig,
    Shortcut,
    create,
    schedule,
)

TINY: dict[str, Any] = {"width": 1 / 8, "classes": 5, "blocks": (1, 2, 1, 1)}
RATE, MOMENTUM, DECAY, STEPS = 0.05, 0.9, 1e-4, 50


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def on_meta(name: str, **changes: Any) -> ResNet:
    with torch.device("meta"):
        return create(name, **changes)


def filled(model: nn.Module) -> nn.Module:
    """Weights that depend on no generator, and make something of each layer's size."""
    with torch.no_grad():
        for k, p in enumerate(model.parameters()):
            wave = torch.sin(0.7 * torch.arange(p.numel(), dtype=torch.float64) + k)
            if p.ndim == 1:
                p.copy_(1 + 0.2 * wave if k % 2 else 0.2 * wave)
            else:
                p.copy_((wave * (2 / p[0].numel()) ** 0.5).reshape(p.shape))
    return model


def pictures(n: int = 4, side: int = 65) -> Tensor:
    index = torch.arange(n * 3 * side * side, dtype=torch.float64)
    return torch.cos(0.37 * index + 1e-5 * index**2).reshape(n, 3, side, side)


# -- the paper's networks ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("resnet18", 11_689_512),
        ("resnet34", 21_797_672),
        ("resnet50", 25_557_032),
        ("resnet101", 44_549_160),
        ("resnet152", 60_192_808),
        ("resnet20", 269_722),
        ("resnet32", 464_154),
        ("resnet44", 658_586),
        ("resnet56", 853_018),
        ("resnet110", 1_727_962),
        ("resnet1202", 19_421_274),
    ],
)
def test_parameters_and_layers(name: str, parameters: int) -> None:
    """Of ImageNet's networks as everybody counts them, of CIFAR's as table 6: 0.27, 0.46, 0.66,
    0.85, 1.7 and 19.4 million.
    """
    model = on_meta(name)
    assert count(model) == parameters
    layers = [
        module
        for key, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and "shortcut" not in key
    ]
    assert name == f"resnet{len(layers)}"


@pytest.mark.parametrize(
    ("depth", "billions"), [(18, 1.8), (34, 3.6), (50, 3.8), (101, 7.6), (152, 11.3)]
)
def test_multiplications(depth: int, billions: float) -> None:
    """Table 1's last row, which is of networks with the stride in the first 1 x 1."""
    model, found = on_meta(f"resnet{depth}"), 0

    def add(module: nn.Module, _: Any, output: Tensor) -> None:
        nonlocal found
        weight = module.weight
        assert isinstance(weight, Tensor)
        found += weight.numel() * output[0, 0].numel()

    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(add)
    model(torch.zeros(1, 3, 224, 224, device="meta"))
    assert found / 1e9 == pytest.approx(billions, rel=0.02)


@pytest.mark.parametrize("depth", IMAGENET)
def test_sizes_of_table_1(depth: int) -> None:
    maps = on_meta(f"resnet{depth}").trunk(torch.zeros(1, 3, 224, 224, device="meta"))
    assert [m.shape[-1] for m in maps] == [112, 56, 28, 14, 7]


@pytest.mark.parametrize(
    ("name", "projections"),
    [("resnet34", {"A": 0, "B": 3, "C": 16}), ("resnet50", {"A": 0, "B": 4, "C": 16})],
)
def test_projections(name: str, projections: dict[str, int]) -> None:
    """Section 4.1: none, where dimensions grow, everywhere."""
    for shortcut, expected in projections.items():
        model = on_meta(name, shortcut=shortcut)
        found = [m for m in model.modules() if isinstance(m, Shortcut) and m.projection]
        assert len(found) == expected
        model(torch.zeros(1, 3, 64, 64, device="meta"))


@pytest.mark.parametrize("depth", [20, 56])
def test_plain_networks_have_the_same_layers(depth: int) -> None:
    """With shortcuts A neither parameters nor multiplications differ (section 3.3)."""
    residual, plain = on_meta(f"resnet{depth}"), on_meta(f"plain{depth}")
    assert [(n, p.shape) for n, p in plain.named_parameters()] == [
        (n, p.shape) for n, p in residual.named_parameters()
    ]
    assert not [m for m in plain.modules() if isinstance(m, Shortcut)]


# -- blocks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_a_block_that_learned_nothing_passes_its_input_on(block: Any) -> None:
    """Eq. 1 with F = 0: the identity that a plain network has to learn."""
    config = ResNetConfig.imagenet(50, block=block, shortcut="A")
    n = 16 if block == "basic" else 64
    x = torch.rand(2, n, 6, 6)
    made = ResidualBlock(n, 16, 1, config)
    last = made.layers[-1]
    assert isinstance(last, nn.BatchNorm2d)
    nn.init.zeros_(last.weight)
    assert torch.equal(made(x), x)


def test_zero_padding_shortcut() -> None:
    """Option A: every second pixel, and zeros in the new channels."""
    shortcut = Shortcut(3, 8, 2, ResNetConfig.cifar(20))
    x = torch.randn(2, 3, 5, 7)
    y = shortcut(x)
    assert y.shape == (2, 8, 3, 4)
    for i, j in itertools.product(range(3), range(4)):
        assert torch.equal(y[:, :3, i, j], x[:, :, 2 * i, 2 * j])
    assert not y[:, 3:].any()
    assert not list(shortcut.parameters())


@pytest.mark.parametrize(("stride_in", "strides"), [("1x1", [2, 1, 1]), ("3x3", [1, 2, 1])])
def test_where_a_bottleneck_halves(stride_in: Any, strides: list[int]) -> None:
    made = ResidualBlock(64, 32, 2, ResNetConfig.imagenet(50, stride_in=stride_in))
    assert [m.stride[0] for m in made.layers if isinstance(m, nn.Conv2d)] == strides
    assert made(torch.randn(2, 64, 8, 8)).shape == (2, 128, 4, 4)


def test_start() -> None:
    """Gaussians of variance 2 / fan_in, biases 0, gamma 1 and beta 0."""
    torch.manual_seed(0)
    for name, p in create("resnet20").named_parameters():
        if p.ndim == 4 and p.numel() > 2_000:
            assert p.std().item() == pytest.approx(math.sqrt(2 / p[0].numel()), rel=0.1), name
            assert abs((p**4).mean() / p.var() ** 2 - 3) < 0.5, name  # a uniform one has 1.8
        elif p.ndim == 1:
            expected = float(name.endswith("weight"))
            assert (p == expected).all(), name


# -- parity with transformers ------------------------------------------------------------------


def their_name(ours: str) -> str:
    """The name that transformers gives to a parameter or buffer of ours."""
    part = {"0": "convolution", "1": "normalization"}
    ours = re.sub(r"^linear\.", "classifier.1.", ours)
    ours = re.sub(
        r"^trunk\.stages\.0\.([01])\.",
        lambda m: f"resnet.embedder.embedder.{part[m[1]]}.",
        ours,
    )

    def block(m: re.Match[str]) -> str:
        stage, index = int(m[1]) - 1, int(m[2]) - (m[1] == "1")  # behind the pool
        return f"resnet.encoder.stages.{stage}.layers.{index}."

    ours = re.sub(r"^trunk\.stages\.(\d)\.(\d+)\.", block, ours)
    ours = re.sub(r"shortcut\.projection\.([01])", lambda m: f"shortcut.{part[m[1]]}", ours)
    return re.sub(
        r"\.layers\.(\d)\.(\w+)$",
        lambda m: f".layer.{int(m[1]) // 3}.{part[str(int(m[1]) % 3)]}.{m[2]}",
        ours,
    )


def theirs(config: ResNetConfig) -> Any:
    """transformers' network of the same form; skips where transformers is not installed."""
    transformers = pytest.importorskip("transformers")
    expansion = 4 if config.block == "bottleneck" else 1
    widths = [int(c * config.width) for c in config.channels]
    settings = transformers.ResNetConfig(
        embedding_size=widths[0],
        hidden_sizes=[expansion * w for w in widths],
        depths=list(config.blocks),
        layer_type=config.block,
        downsample_in_bottleneck=config.stride_in == "1x1",
        num_labels=config.classes,
    )
    return transformers.ResNetForImageClassification(settings)


def side_by_side(config: ResNetConfig) -> tuple[ResNet, Any]:
    model, other = ResNet(config).double(), theirs(config).double()
    filled(model)
    state = {their_name(name): value for name, value in model.state_dict().items()}
    other.load_state_dict(state)
    return model, other


FORMS = [
    ResNetConfig.imagenet(18, **TINY),
    ResNetConfig.imagenet(50, **TINY),
    ResNetConfig.imagenet(50, stride_in="3x3", **TINY),
]


def form(config: ResNetConfig) -> str:
    return f"{config.block}-{config.stride_in}"


@pytest.mark.parity
@pytest.mark.parametrize("config", FORMS, ids=form)
@pytest.mark.parametrize("training", [True, False])
def test_forward_and_gradients(config: ResNetConfig, training: bool) -> None:
    model, other = side_by_side(config)
    model.train(training)
    other.train(training)
    x, y = pictures(), torch.arange(4)
    scores, their_scores = model(x), other(x).logits
    torch.testing.assert_close(scores, their_scores, rtol=1e-10, atol=1e-10)
    F.cross_entropy(scores, y).backward()
    F.cross_entropy(their_scores, y).backward()
    gradients = dict(other.named_parameters())
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad, gradients[their_name(name)].grad, rtol=0, atol=1e-10)
    buffers = dict(other.named_buffers())
    for name, b in model.named_buffers():
        torch.testing.assert_close(b, buffers[their_name(name)], rtol=0, atol=1e-10)


@pytest.mark.parity
@pytest.mark.parametrize("config", FORMS[:2], ids=form)
def test_trajectory(config: ResNetConfig) -> None:
    model, other = side_by_side(config)
    train(model, model)
    train(other, lambda x: other(x).logits)
    state = other.state_dict()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, state[their_name(name)], rtol=0, atol=1e-8)


def train(model: nn.Module, forward: Callable[[Tensor], Tensor]) -> None:
    optimizer = torch.optim.SGD(model.parameters(), RATE, MOMENTUM, weight_decay=DECAY)
    generator = torch.Generator().manual_seed(0)
    before = [p.detach().clone() for p in model.parameters()]
    for _ in range(STEPS):
        x = torch.randn(4, 3, 33, 33, generator=generator, dtype=torch.float64)
        loss = F.cross_entropy(forward(x), torch.randint(5, (4,), generator=generator))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    moved = [(p - old).abs().max() for p, old in zip(model.parameters(), before, strict=True)]
    assert min(moved) > 1e-4


# Scores of ``filled`` networks and norms of their gradients, from transformers 5.24.0 in double
# precision: for the first convolution, the last one (a shortcut), and the classifier.
GOLDEN: dict[str, tuple[list[list[float]], list[float]]] = {
    "basic-1x1": (
        [
            [
                0.5584811134603641,
                0.8417659626577751,
                1.21606759733525,
                1.4669050795085885,
                1.4516745308004728,
            ],
            [
                0.5598364953130097,
                0.843050416260009,
                1.2164690884420026,
                1.4661697846051713,
                1.450267304857716,
            ],
            [
                0.5561040535988784,
                0.8400805096212844,
                1.216139298047136,
                1.4686886046293204,
                1.4540423320305578,
            ],
            [
                0.5598274740055702,
                0.8421549095460463,
                1.2152532375329728,
                1.4654022529804815,
                1.4504333276105907,
            ],
        ],
        [0.022107669780900747, 0.1628504647490408, 2.7987186003242632],
    ),
    "bottleneck-1x1": (
        [
            [
                0.6333716347860807,
                0.8313448144409328,
                1.0651302943639045,
                0.745403383307524,
                1.625968651070141,
            ],
            [
                0.4757213821901785,
                1.156302883912187,
                0.5782828444142597,
                1.3860223911903984,
                0.8422599352371625,
            ],
            [
                0.347617240885155,
                1.2715444146779116,
                0.4778254918096526,
                1.4700205132907276,
                0.7761216504418809,
            ],
            [
                0.39735524547087997,
                1.1962929041711354,
                0.5773357447410064,
                1.3479107780886748,
                0.9187947780439609,
            ],
        ],
        [3.023493031967513, 0.7123060538444896, 5.313211711426441],
    ),
    "bottleneck-3x3": (
        [
            [
                0.5145108154722754,
                1.0395950513303096,
                0.770963059171614,
                1.1205825948823331,
                1.1760333000541396,
            ],
            [
                0.4128225585340298,
                1.1883295658668453,
                0.5776623254871681,
                1.355226400393982,
                0.9039589352993771,
            ],
            [
                0.3654152287813849,
                1.2368063105599205,
                0.5289244798563866,
                1.403412679293969,
                0.8571276938298013,
            ],
            [
                0.47841800918026667,
                1.0789251562060793,
                0.7290514562346028,
                1.1643768507798051,
                1.1310866281480665,
            ],
        ],
        [2.53469638405206, 0.9675077294173389, 4.797544396883996],
    ),
}


@pytest.mark.parity
@pytest.mark.parametrize("config", FORMS, ids=form)
def test_golden(config: ResNetConfig) -> None:
    """What transformers computed once, for where it is not installed."""
    model = ResNet(config).double()
    filled(model)
    assert_golden(model, model, form(config))


def assert_golden(model: nn.Module, forward: Callable[[Tensor], Tensor], name: str) -> None:
    scores, norms = GOLDEN[name]
    found = forward(pictures())
    expected = torch.tensor(scores, dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    F.cross_entropy(found, torch.arange(4)).backward()
    convolutions = [p for p in model.parameters() if p.ndim == 4]
    linear = [p for p in model.parameters() if p.ndim == 2]
    watched = [convolutions[0], convolutions[-1], linear[0]]
    assert [p.grad.norm().item() for p in watched if p.grad is not None] == pytest.approx(
        norms, rel=1e-10
    )


# -- parity of CIFAR's form with a twin --------------------------------------------------------


class Twin:
    """CIFAR's network in functions alone: weights by our order, statistics of the batch."""

    def __init__(self, model: ResNet, residual: bool) -> None:
        self.weights = [p.detach().clone().requires_grad_() for p in model.parameters()]
        self.residual, self.n = residual, model.config.blocks[0]

    def parameters(self) -> list[Tensor]:
        return self.weights

    def __call__(self, x: Tensor) -> Tensor:
        weights: Iterator[Tensor] = iter(self.weights)

        def convolution(x: Tensor, stride: int = 1) -> Tensor:
            x = F.conv2d(F.pad(x, (1, 1, 1, 1)), next(weights), stride=stride)
            mean = x.mean((0, 2, 3), keepdim=True)
            variance = (x - mean).square().mean((0, 2, 3), keepdim=True)
            gamma, beta = next(weights), next(weights)
            x = (x - mean) / (variance + 1e-5).sqrt()
            return x * gamma[None, :, None, None] + beta[None, :, None, None]

        x = convolution(x).clamp(min=0)
        for part, _ in itertools.product(range(3), range(self.n)):
            new = part > 0 and _ == 0
            y = convolution(convolution(x, 2 if new else 1).clamp(min=0))
            if self.residual:
                old = F.avg_pool2d(x, 1, 2) if new else x
                zeros = torch.zeros_like(y[:, old.shape[1] :])
                y = y + torch.cat([old, zeros], 1)
            x = y.clamp(min=0)
        return x.flatten(2).mean(2) @ next(weights).T + next(weights)


@pytest.mark.parity
@pytest.mark.parametrize("name", ["resnet14", "plain14"])
def test_twin_of_cifars_network(name: str) -> None:
    """Forward, gradients, and 50 steps."""
    torch.manual_seed(0)
    model = create(name, classes=5, width=0.5).double().train()
    twin: Any = Twin(model, name.startswith("resnet"))
    x = pictures(4, 16)
    scores, twins = model(x), twin(x)
    torch.testing.assert_close(scores, twins, rtol=0, atol=1e-10)
    F.cross_entropy(scores, torch.arange(4)).backward()
    F.cross_entropy(twins, torch.arange(4)).backward()
    for p, other in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p.grad, other.grad, rtol=0, atol=1e-10)
    train(model, model)
    train(twin, twin)
    for p, other in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, other, rtol=0, atol=1e-8)


# -- section 4.2: training ---------------------------------------------------------------------


def test_schedule() -> None:
    factor = schedule()
    steps = (0, 31_999, 32_000, 47_999, 48_000, 63_999)
    assert [factor(step) for step in steps] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    warm = schedule(warm_up=400)
    assert [warm(step) for step in (0, 399, 400, 32_000)] == pytest.approx([0.1, 0.1, 1, 0.1])
    short = schedule(100)
    assert [short(step) for step in (49, 50, 74, 75)] == pytest.approx([1, 0.1, 0.1, 0.01])
    assert schedule(1)(0) == 1


@pytest.mark.learning
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_learns_digits(norm: Any) -> None:
    """Eight layers, three passes over 1,437 pictures; chance is 10%."""
    digits = real("digits")
    inputs = [part.inputs.float() / 16 - 0.3 for part in (digits.train, digits.test)]
    torch.manual_seed(0)
    model = ResNet(ResNetConfig.cifar(8, in_chans=1, width=0.5, norm=norm))
    fit = fit_digits(model, inputs[0], digits.train)
    fit.run(3 * fit.steps_per_epoch)
    right = predict(model, inputs[1]).argmax(1) == digits.test.targets
    assert right.float().mean() > 0.93


def fit_digits(model: nn.Module, inputs: Tensor, train: Dataset) -> Fit:
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)

    def loss(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        return F.cross_entropy(model(batch[0]), batch[1])

    return Fit(model, optimizer, loss, (inputs, train.targets), batch_size=32)


# -- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("resnet57", {}, "depth must be 6n \\+ 2 for CIFAR, not 57"),
        ("vgg16", {}, "called like resnet50 or plain56, not 'vgg16'"),
        ("resnet", {}, "called like resnet50 or plain56, not 'resnet'"),
        ("resnet18", {"shortcut": "D"}, "shortcut must be one of A, B, C, not 'D'"),
        ("resnet18", {"stem": "mnist"}, "stem must be one of imagenet, cifar"),
        ("resnet50", {"stride_in": "5x5"}, "stride_in must be one of 1x1, 3x3"),
        ("resnet50", {"norm": "layer"}, "norm must be one of batch, group"),
        ("resnet18", {"blocks": (2, 2, 2)}, "blocks must be 4 positive numbers"),
        ("resnet18", {"blocks": (2, 2, 0, 2)}, "blocks must be 4 positive numbers"),
        ("resnet18", {"width": -1.0}, "width must be positive"),
    ],
)
def test_refusals(name: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        on_meta(name, **changes)


def test_depths_of_imagenet() -> None:
    with pytest.raises(ValueError, match="depth must be one of 18, 34, 50, 101, 152 for ImageNet"):
        ResNetConfig.imagenet(20)
