"""LeNet-5 against a twin of torch.nn's layers, and against what its paper says of each layer."""

from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import jacrev

from supervised.vision.diagonal_lm import DiagonalLM
from supervised.vision.lenet import (
    Convolution,
    Layer,
    LeNet,
    LeNetBackbone,
    LeNetConfig,
    Subsampling,
    connections,
    create,
    map_loss,
    normalize,
    output_codes,
    squared_loss,
    squash,
    squash_slope,
)

# Which maps of S2 each map of C3 sees, as the paper says it: six times three in a row, six times
# four in a row, three times four in two pairs, and one that sees all.
SEEN = [
    *[{i % 6, (i + 1) % 6, (i + 2) % 6} for i in range(6)],
    *[{i % 6, (i + 1) % 6, (i + 2) % 6, (i + 3) % 6} for i in range(6)],
    *[{i % 6, (i + 1) % 6, (i + 3) % 6, (i + 4) % 6} for i in range(3)],
    set(range(6)),
]


@pytest.fixture
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def model(seed: int = 0, config: LeNetConfig | None = None) -> LeNet:
    torch.manual_seed(seed)
    return create(config)


def layers(net: LeNet) -> list[Layer]:
    return [m for m in net.modules() if isinstance(m, Layer)]


# -- parity ----------------------------------------------------------------------------------------


class Twin(nn.Module):
    """Dense convolutions under a mask, slices, PairwiseDistance, and cross entropy for eq. 9."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c3, self.c5 = nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5), nn.Conv2d(16, 120, 5)
        self.f6 = nn.Linear(120, 84)
        self.s2, self.s4 = nn.BatchNorm2d(6), nn.BatchNorm2d(16)  # only their scale and shift
        self.mask = torch.tensor([[float(i in seen) for i in range(6)] for seen in SEEN])
        self.codes = output_codes()

    def squash(self, x: Tensor) -> Tensor:
        return 1.7159 * (2 / (1 + (-4 / 3 * x).exp()) - 1)

    def subsample(self, x: Tensor, layer: nn.BatchNorm2d) -> Tensor:
        total = x[:, :, ::2, ::2] + x[:, :, 1::2, ::2] + x[:, :, ::2, 1::2] + x[:, :, 1::2, 1::2]
        scale, shift = layer.weight[:, None, None], layer.bias[:, None, None]
        return self.squash(scale * total + shift)

    def forward(self, x: Tensor) -> Tensor:
        x = self.subsample(self.squash(self.c1(x)), self.s2)
        kernels = self.c3.weight * self.mask[:, :, None, None]
        x = self.subsample(self.squash(F.conv2d(x, kernels, self.c3.bias)), self.s4)
        x = self.squash(self.f6(self.squash(self.c5(x)).flatten(1)))
        distances: Tensor = nn.PairwiseDistance(eps=0)(x[:, None], self.codes)
        return distances.square()

    def loss(self, x: Tensor, targets: Tensor, rubbish: float) -> Tensor:
        y = self(x)
        return F.cross_entropy(torch.cat([-y, torch.full_like(y[:, :1], -rubbish)], 1), targets)

    def weights(self, of: Callable[[Tensor], Tensor | None]) -> list[Tensor]:
        """In our layout: C3 as its 60 kernels."""
        found = []
        for layer in (self.c1, self.s2, self.c3, self.s4, self.c5, self.f6):
            for tensor in (layer.weight, layer.bias):
                assert tensor is not None
                value = of(tensor)
                assert value is not None
                found.append(value)
        found[4] = found[4][self.mask.bool()]
        return found


def twins() -> tuple[LeNet, Twin]:
    """The same weights, as large as after some training."""
    ours, theirs = model(), Twin()
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        c1, s2, c3, s4, c5, f6 = layers(ours)
        for mine, other in ((c1, theirs.c1), (c3, theirs.c3), (c5, theirs.c5), (f6, theirs.f6)):
            assert isinstance(mine, Convolution)
            other.weight.copy_(mine.kernels().view_as(other.weight))
            assert other.bias is not None
            other.bias.copy_(mine.bias)
        for small, norm in ((s2, theirs.s2), (s4, theirs.s4)):
            assert isinstance(small, Subsampling)
            norm.weight.copy_(small.coefficient.flatten())
            norm.bias.copy_(small.bias.flatten())
    return ours, theirs


def close(a: Tensor, b: Tensor, atol: float) -> None:
    torch.testing.assert_close(a.flatten(), b.flatten(), rtol=0, atol=atol)


def data(n: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    x = torch.rand(n, 1, 32, 32, generator=generator)
    return x, torch.randint(10, (n,), generator=generator)


@pytest.mark.parity
@pytest.mark.usefixtures("double")
def test_forward_and_gradients_are_the_twins() -> None:
    ours, theirs = twins()
    x, targets = data()
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-12, atol=1e-10)
    loss, their_loss = map_loss(ours(x), targets, 10.0), theirs.loss(x, targets, 10.0)
    close(loss, their_loss, 1e-10)
    loss.backward()
    their_loss.backward()
    for mine, other in zip(ours.parameters(), theirs.weights(lambda t: t.grad), strict=True):
        assert mine.grad is not None
        close(mine.grad, other, 1e-10)


@pytest.mark.parity
@pytest.mark.usefixtures("double")
def test_fifty_steps_are_the_twins() -> None:
    ours, theirs = twins()
    x, targets = data(16)
    optimizers = [torch.optim.SGD(net.parameters(), 1e-3) for net in (ours, theirs)]
    for i in range(50):
        rows = torch.arange(4) + 4 * i % 16
        losses = (
            map_loss(ours(x[rows]), targets[rows], 10.0),
            theirs.loss(x[rows], targets[rows], 10.0),
        )
        for optimizer, loss in zip(optimizers, losses, strict=True):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    for mine, other in zip(ours.parameters(), theirs.weights(lambda t: t.detach()), strict=True):
        close(mine, other, 1e-8)


# -- what the paper says ---------------------------------------------------------------------------


def test_parameters_of_each_layer_are_the_papers() -> None:
    counts = [sum(p.numel() for p in layer.parameters()) for layer in layers(model())]
    assert counts == [156, 12, 1_516, 32, 48_120, 10_164]
    assert sum(p.numel() for p in model().parameters()) == 60_000


def test_maps_have_the_papers_sizes() -> None:
    maps = model().features(torch.zeros(2, 1, 32, 32))
    assert [tuple(m.shape) for m in maps] == [(2, 6, 14, 14), (2, 16, 5, 5), (2, 120, 1, 1)]


def test_connections_are_those_of_table_1() -> None:
    assert [set(row.nonzero()[:, 0].tolist()) for row in connections()] == SEEN
    assert connections().sum() == 60


@pytest.mark.usefixtures("double")
def test_c3_sees_what_the_table_says() -> None:
    c3 = layers(model())[2]
    x = torch.rand(1, 6, 5, 5)
    influence = jacrev(lambda x: c3(x)[0, :, 0, 0])(x)[:, 0].flatten(2).abs().sum(2)
    assert torch.equal(influence > 0, connections())


def test_squash_is_one_at_one_and_its_slope_is_its_derivative() -> None:
    a = torch.linspace(-3, 3, 31, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(squash(a).sum(), a)
    close(squash_slope(squash(a)), slope, 1e-12)
    assert squash(torch.tensor([-1.0, 1.0])).tolist() == pytest.approx([-1, 1], abs=1e-4)
    # The slope changes fastest at 1 (appendix A), so codes of ±1 ask no unit to saturate.
    a = torch.linspace(0, 3, 3001, dtype=torch.float64)
    fastest = squash_slope(squash(a)).diff().abs().argmax()
    assert a[fastest].item() == pytest.approx(1, abs=0.02)


def test_weights_start_uniformly_by_the_root_of_their_number() -> None:
    fan_in = {0: 25, 1: 4, 4: 400, 5: 120}
    for i, layer in enumerate(layers(model())):
        for parameter in layer.parameters():
            if i in fan_in:
                close_to_uniform(parameter, fan_in[i] ** -0.5)
    c3 = layers(model())[2]
    assert isinstance(c3, Convolution)
    for seen, kernels in zip(SEEN, c3.kernels(), strict=True):
        close_to_uniform(kernels[list(seen)], (25 * len(seen)) ** -0.5)


def close_to_uniform(sample: Tensor, bound: float) -> None:
    assert sample.abs().max() <= bound
    if len(sample.flatten()) > 50:
        assert sample.std().item() == pytest.approx(bound / 3**0.5, rel=0.15)
        assert sample.mean().abs() < 0.2 * bound


def test_codes_are_drawings_of_7x12_that_differ() -> None:
    codes = output_codes()
    assert codes.shape == (10, 84)
    assert set(codes.unique().tolist()) == {-1.0, 1.0}
    distances = torch.cdist(codes, codes).square() / 4 + 84 * torch.eye(10)
    assert distances.min() >= 5  # pixels that differ
    zero = codes[0].view(12, 7)
    assert torch.equal(zero, zero.flip(1))
    assert (zero[3:8, 2:5] == -1).all()


def test_the_answer_is_the_nearest_code() -> None:
    net = model()
    f6 = net.codes[:, :, None, None] + 0.3 * torch.randn(10, 84, 1, 1)
    y = net.penalties(f6)
    assert torch.equal(y.argmin(1), torch.arange(10))
    by_hand = sum((f6[3, j, 0, 0] - net.codes[7, j]) ** 2 for j in range(84))
    assert y[3, 7].item() == pytest.approx(float(by_hand), rel=1e-5)


def test_pictures_are_centred_and_scaled() -> None:
    pictures = torch.full((1, 1, 28, 28), 255, dtype=torch.uint8)
    ready = normalize(pictures)
    assert ready.shape == (1, 1, 32, 32)
    assert (ready[:, :, 2:30, 2:30] - 1.175).abs().max() < 1e-6
    assert ready[0, 0, 0, 0] == pytest.approx(-0.1)
    assert (ready > 0).sum() == 28 * 28


# -- losses ----------------------------------------------------------------------------------------


def test_squared_loss_is_the_right_classes_penalty() -> None:
    y = torch.tensor([[1.0, 5.0], [7.0, 2.0]])
    assert squared_loss(y, torch.tensor([0, 0])) == 4


@pytest.mark.usefixtures("double")
def test_map_loss_pushes_the_right_class_down_and_near_wrong_ones_up() -> None:
    y = torch.tensor([[3.0, 4.0, 30.0]], requires_grad=True)
    map_loss(y, torch.tensor([0]), 10.0).backward()
    assert y.grad is not None
    right, near, far = y.grad[0].tolist()
    assert right > 0
    assert near < -0.2
    assert -1e-8 < far < 0
    # A smaller j is a stronger competitor, which leaves less to push.
    (gradient,) = torch.autograd.grad(map_loss(y, torch.tensor([0]), 1.0), y)
    assert near < gradient[0, 1].item() < 0


def test_map_loss_is_finite_for_any_penalty() -> None:
    y = torch.tensor([[1e4, 2e4], [0.0, 1e4]])
    assert map_loss(y, torch.tensor([0, 1]), 10.0).isfinite()


# -- curvature and the optimizer -------------------------------------------------------------------


@pytest.mark.usefixtures("double")
def test_curvature_is_appendix_c_by_jacobians() -> None:
    """Layer by layer, d2E/dx_j^2 = sum_i (dy_i/dx_j)^2 d2E/dy_i^2, and so for the weights."""
    net = model(config=LeNetConfig(width=1 / 6))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(4)
    x = torch.rand(2, 1, 32, 32)
    expected = [torch.zeros_like(p) for p in net.parameters()]
    for sample in x:
        states = [sample[None]]
        for layer in layers(net):
            states.append(layer(states[-1]).detach())
        h = torch.full((84,), 2 / len(x))
        place = len(expected)
        for layer, state in zip(reversed(layers(net)), reversed(states[:-1]), strict=True):
            named = {name: p.detach() for name, p in layer.named_parameters()}

            def forward(named: dict[str, Tensor], state: Tensor, layer: Layer = layer) -> Tensor:
                states: Tensor = torch.func.functional_call(layer, named, (state,))
                return states.flatten()

            of_weights, of_state = jacrev(forward, argnums=(0, 1))(named, state)
            place -= len(named)
            for i, jacobian in enumerate(of_weights.values()):
                expected[place + i] += torch.tensordot(h, jacobian**2, 1)
            h = torch.tensordot(h, of_state**2, 1).flatten()
    for found, by_jacobians in zip(net.curvature(x), expected, strict=True):
        assert (found > 0).all()
        torch.testing.assert_close(found, by_jacobians, rtol=1e-9, atol=1e-12)


@pytest.mark.usefixtures("double")
def test_curvature_of_f6_is_the_second_derivative_of_the_loss() -> None:
    """F6's weights are the last; there appendix C leaves out f'' alone, which is 0 at a = 0."""
    net = model()
    with torch.no_grad():
        net.f6.weight.zero_()
        net.f6.bias.zero_()
    x, targets = data(4)
    c5 = net.features(x)[-1].detach()

    def loss(bias: Tensor) -> Tensor:
        states = squash(F.conv2d(c5, net.f6.kernels().detach(), bias))
        return squared_loss(net.penalties(states), targets)

    hessian = torch.func.hessian(loss)(net.f6.bias.detach())
    close(net.curvature(x)[-1], hessian.diagonal(), 1e-10)


def test_a_step_divides_by_mu_and_curvature() -> None:
    w = nn.Parameter(torch.tensor([1.0, 2.0]))
    optimizer = DiagonalLM([w], lambda step: [torch.tensor([0.08, 1.98])], 100, lr=0.5, mu=0.02)
    w.grad = torch.tensor([0.1, -4.0])
    optimizer.step()
    assert w.tolist() == pytest.approx([1 - 0.5 / 0.1 * 0.1, 2 + 0.5 / 2 * 4])


def test_estimates_come_once_a_pass() -> None:
    calls: list[int] = []

    def curvature(step: int) -> list[Tensor]:
        calls.append(step)
        return [torch.ones(1)]

    w = nn.Parameter(torch.zeros(1))
    optimizer = DiagonalLM([w], curvature, steps_per_pass=40)
    for _ in range(81):
        w.grad = torch.ones(1)
        optimizer.step()
    assert calls == [0, 40, 80]


def test_the_optimizer_goes_on_from_its_state() -> None:
    def make() -> tuple[nn.Parameter, DiagonalLM]:
        w = nn.Parameter(torch.ones(3))
        return w, DiagonalLM([w], lambda step: [w.detach() ** 2 + step], 30)

    def steps(w: nn.Parameter, optimizer: DiagonalLM, n: int) -> None:
        for _ in range(n):
            w.grad = w.detach() ** 3
            optimizer.step()

    w, optimizer = make()
    steps(w, optimizer, 13)
    other, resumed = make()
    with torch.no_grad():
        other.copy_(w)
    resumed.load_state_dict(optimizer.state_dict())
    steps(w, optimizer, 40)
    steps(other, resumed, 40)
    assert torch.equal(w, other)


def test_the_papers_schedule() -> None:
    assert len(DiagonalLM.RATES) == 20
    assert [DiagonalLM.RATES[i] for i in (0, 1, 2, 4, 5, 7, 8, 11, 12, 19)] == [
        *(5e-4, 5e-4, 2e-4, 2e-4, 1e-4, 1e-4, 5e-5, 5e-5, 1e-5, 1e-5)
    ]


# -- learning, backbone, refusals ------------------------------------------------------------------


def drawings(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """The bitmaps at twice their size, somewhere in the picture, in noise."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(10, (n,), generator=generator)
    ink = (output_codes() > 0).view(10, 12, 7).repeat_interleave(2, 1).repeat_interleave(2, 2)
    x = -0.1 + 0.2 * torch.randn(n, 1, 32, 32, generator=generator)
    for i, digit in enumerate(targets.tolist()):
        top, left = (torch.randint(2, high, (), generator=generator) for high in (7, 17))
        x[i, 0, top : top + 24, left : left + 14] += 1.275 * ink[digit]
    return x, targets


@pytest.mark.learning
def test_it_learns_drawings_wherever_they_are() -> None:
    net = model()
    x, targets = drawings(4_000, seed=1)
    optimizer = DiagonalLM(list(net.parameters()), lambda step: net.curvature(x[:100]), 500)
    for rows in torch.arange(4_000).split(8):
        optimizer.zero_grad()
        map_loss(net(x[rows]), targets[rows], 10.0).backward()
        optimizer.step()
    x, targets = drawings(500, seed=2)
    with torch.no_grad():
        assert (net(x).argmin(1) == targets).double().mean() >= 0.95


def test_backbone_gives_the_maps_it_says_it_does() -> None:
    backbone = LeNetBackbone(in_chans=3, out_indices=(1, 2), width=0.5)
    x = torch.rand(2, 3, 51, 64, requires_grad=True)
    maps = backbone(x)
    assert backbone.feature_info.channels() == [8, 60] == [m.shape[1] for m in maps]
    assert backbone.feature_info.reduction() == [4, 4]
    assert maps[0].shape[-2:] == ((51 - 12) // 4, (64 - 12) // 4)
    (gradient,) = torch.autograd.grad(maps[-1].sum(), x)
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize(
    "refused",
    [
        lambda: LeNetConfig(in_chans=0),
        lambda: LeNetConfig(width=0),
        lambda: LeNetConfig(rubbish=-1),
        lambda: model()(torch.zeros(1, 1, 28, 28)),
        lambda: model()(torch.zeros(1, 1, 33, 32)),
        lambda: LeNetBackbone()(torch.zeros(1, 1, 31, 40)),
        lambda: normalize(torch.zeros(1, 1, 40, 28, dtype=torch.uint8)),
        lambda: DiagonalLM([nn.Parameter(torch.ones(1))], lambda step: [], 10, mu=0),
        lambda: DiagonalLM([nn.Parameter(torch.ones(1))], lambda step: [], 0),
    ],
)
def test_bad_arguments_are_refused(refused: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"must|needs"):
        refused()
