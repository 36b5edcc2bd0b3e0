"""U-Net against a twin of PyTorch's own layers; tiles, weights and errors against brute force."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt, label
from sklearn.metrics import f1_score
from sklearn.metrics.cluster import pair_confusion_matrix
from torch import Tensor, nn

from runkit.papers.unet import Options, probabilities, tiles

from supervised.data import Dataset
from supervised.vision.membranes import (
    SIMPLE,
    bent,
    dice_error,
    mean_iou,
    pixel_error,
    rand_error,
    warping_error,
)
from supervised.vision.separation import class_weights, number_cells, weight_map
from supervised.vision.unet import (
    UNet,
    UNetBackbone,
    UNetConfig,
    create,
    crop,
    mirror,
    segment,
    weighted_cross_entropy,
)

TINY = UNetConfig(in_chans=2, classes=3, width=4, depth=2, dropout=0.0)
EDGE = 48  # of TINY's tiles; their inner 8 x 8 pixels come out


class Twin(nn.Module):
    """Figure 1 with PyTorch's layers, written down level by level for depth 2."""

    def __init__(self, width: int) -> None:
        super().__init__()

        def double(inputs: int, outputs: int) -> nn.Sequential:
            return nn.Sequential(
                *(nn.Conv2d(inputs, outputs, 3), nn.ReLU()),
                *(nn.Conv2d(outputs, outputs, 3), nn.ReLU()),
            )

        self.a = double(2, width)
        self.b = double(width, 2 * width)
        self.c = double(2 * width, 4 * width)
        self.up_b = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2)
        self.up_a = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.right_b = double(4 * width, 2 * width)
        self.right_a = double(2 * width, width)
        self.head = nn.Conv2d(width, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x)
        b = self.b(F.max_pool2d(a, 2))
        x = self.up_b(self.c(F.max_pool2d(b, 2)))
        x = self.right_b(torch.cat([F.pad(b, [-4] * 4), x], 1))
        x = self.up_a(x)
        head: Tensor = self.head(self.right_a(torch.cat([F.pad(a, [-16] * 4), x], 1)))
        return head


@pytest.fixture
def double_precision() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def pair(double_precision: None) -> tuple[UNet, Twin]:
    """Ours and the twin with the same weights, biases not 0."""
    torch.manual_seed(0)
    ours, twin = UNet(TINY), Twin(TINY.width)
    with torch.no_grad():
        # Both hold their parameters in the same order.
        for p, q in zip(ours.parameters(), twin.parameters(), strict=True):
            p.add_(torch.randn_like(p), alpha=0.05)
            q.copy_(p)
    return ours, twin


def batch(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 2, EDGE, EDGE, generator=generator)
    labels = torch.randint(3, (2, 8, 8), generator=generator)
    return x, labels, torch.rand(2, 8, 8, generator=generator) * 5


def their_loss(activations: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    return (weights * F.cross_entropy(activations, labels, reduction="none")).mean()


# -- parity --------------------------------------------------------------------------------------


@pytest.mark.parity
def test_forward_and_gradients_are_the_twins(pair: tuple[UNet, Twin]) -> None:
    ours, twin = pair
    x, labels, weights = batch(1)
    torch.testing.assert_close(ours(x), twin(x), rtol=0, atol=1e-10)
    loss, theirs = (
        weighted_cross_entropy(ours(x), labels, weights),
        their_loss(twin(x), labels, weights),
    )
    torch.testing.assert_close(loss, theirs, rtol=0, atol=1e-10)
    loss.backward()
    theirs.backward()
    for (name, p), q in zip(ours.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=0, atol=1e-10, msg=name)


@pytest.mark.parity
def test_fifty_steps_are_the_twins(pair: tuple[UNet, Twin]) -> None:
    models = pair
    losses = (weighted_cross_entropy, their_loss)
    for model, loss in zip(models, losses, strict=True):
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.99)
        for i in range(50):
            x, labels, weights = batch(i)
            optimizer.zero_grad()
            loss(model(x), labels, weights).backward()
            optimizer.step()
    for p, q in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=1e-8)


@pytest.mark.parity
def test_the_papers_figure_1() -> None:
    with torch.device("meta"):
        model = create(UNetConfig.paper())
        assert sum(p.numel() for p in model.parameters()) == 31_030_658
        assert model(torch.empty(1, 1, 572, 572)).shape == (1, 2, 388, 388)
        maps = model.contracting(torch.empty(1, 1, 572, 572))
    shapes = [(m.shape[1], m.shape[2]) for m in maps]
    assert shapes == [(64, 568), (128, 280), (256, 136), (512, 64), (1024, 28)]
    small = UNet(UNetConfig.small())
    assert sum(p.numel() for p in small.parameters()) == 116_770


# -- the network ---------------------------------------------------------------------------------


def test_weights_start_with_deviation_sqrt_2_over_n() -> None:
    torch.manual_seed(0)
    model = UNet(UNetConfig(width=32, depth=2))
    weights = dict(model.named_parameters())
    fan_in = {
        "contracting.levels.1.first.weight": 9 * 32,
        "contracting.levels.2.second.weight": 9 * 128,
        "up.0.weight": 128,  # a pixel of the output comes from one of the input
        "expanding.0.first.weight": 9 * 128,
    }
    for name, n in fan_in.items():
        weight = weights[name]
        assert weight.std().item() == pytest.approx((2 / n) ** 0.5, rel=0.05)
        assert abs(weight.mean().item()) < 0.05 * (2 / n) ** 0.5
    assert all(not p.any() for name, p in model.named_parameters() if name.endswith("bias"))


def test_dropout_acts_at_the_end_of_the_contracting_path_only() -> None:
    torch.manual_seed(0)
    path = UNet(UNetConfig(width=8, depth=3)).contracting
    x = torch.rand(1, 1, 140, 140)
    first, again = path(x), path(x)
    same = [torch.equal(a, b) for a, b in zip(first, again, strict=True)]
    assert same == [True, True, False, False]
    path.eval()
    assert all(torch.equal(a, b) for a, b in zip(path(x), path(x), strict=True))


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_output_sizes(depth: int) -> None:
    """``output_size`` gives exactly the sizes at which every pooling halves without a rest."""

    def fits(size: int) -> bool:
        sizes = [size + 2 * config.margin]
        for _ in range(depth):
            sizes.append((sizes[-1] - 4) // 2)
            if sizes[-2] % 2:
                return False
        return True

    config = UNetConfig(width=1, depth=depth)
    possible = [size for size in range(4, 120) if fits(size)]
    for least in range(1, 100):
        assert config.output_size(least) == min(size for size in possible if size >= least)
    n = config.output_size(5)
    assert UNet(config)(torch.rand(1, 1, *[n + 2 * config.margin] * 2)).shape == (1, 2, n, n)


def test_mirror_is_numpys_reflection() -> None:
    x = torch.rand(2, 3, 5, 4)
    for top, bottom, left, right in [(0, 0, 0, 0), (1, 2, 3, 2), (11, 17, 9, 23)]:
        expected = np.pad(x.numpy(), [(0, 0), (0, 0), (top, bottom), (left, right)], "reflect")
        np.testing.assert_array_equal(mirror(x, top, bottom, left, right).numpy(), expected)
    one = torch.ones(1, 1, 1, 1)
    assert torch.equal(mirror(one, 2, 2, 1, 1), torch.ones(1, 1, 5, 3))


@pytest.mark.parametrize("config", [TINY, UNetConfig(2, 3, width=2, depth=3)])
@pytest.mark.parametrize("shape", [(67, 45), (64, 64), (3, 90)])
def test_tiles_give_what_the_whole_picture_gives(
    double_precision: None, config: UNetConfig, shape: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    model = UNet(config).train()
    pictures = torch.rand(2, 2, *shape)
    whole = segment(model, pictures)
    assert whole.shape == (2, 3, *shape)
    for tile in (1, 8, 21, 40, 100):
        torch.testing.assert_close(segment(model, pictures, tile), whole, rtol=0, atol=1e-12)
    assert model.training
    float_model, floats = model.float(), pictures.float()
    torch.testing.assert_close(
        segment(float_model, floats, 21), segment(float_model, floats), rtol=0, atol=1e-6
    )


def test_inner_pixels_are_those_of_the_network_itself(double_precision: None) -> None:
    """Where no mirroring is needed, ``segment`` gives what the network gives for that tile."""
    torch.manual_seed(0)
    model = UNet(TINY).eval()
    pictures = torch.rand(1, 2, 60, 60)
    m = TINY.margin
    n = TINY.output_size(60 - 2 * m)
    assert n == 60 - 2 * m, "the picture is itself a tile"
    direct = model(pictures)
    # The grid of the poolings starts at -m in ``segment`` and at 0 here; 4 divides the difference.
    inner = segment(model, pictures)[..., m : m + n, m : m + n]
    torch.testing.assert_close(inner, direct, rtol=0, atol=1e-12)


def test_wrong_tiles_and_configurations_are_refused() -> None:
    model = UNet(TINY)
    with pytest.raises(ValueError, match="a tile cannot be 50 pixels high or wide; 52 would do"):
        model(torch.rand(1, 2, 50, 50))
    with pytest.raises(ValueError, match=r"tiles must be \[B, 2, H, W\]"):
        model(torch.rand(1, 1, EDGE, EDGE))
    for field, value in [("width", 0), ("depth", 0), ("classes", 1), ("dropout", 1.0)]:
        with pytest.raises(ValueError, match=field):
            UNetConfig(**{field: value})  # type: ignore[arg-type]


def test_crop_takes_the_middle() -> None:
    x = torch.arange(36).view(1, 1, 6, 6)
    assert crop(x, 2, 4).tolist() == [[[[13, 14, 15, 16], [19, 20, 21, 22]]]]


# -- the weights ---------------------------------------------------------------------------------


def blobs(seed: int, size: int = 60) -> Tensor:
    """A mask of random discs, separated or not."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((size, size), np.uint8)
    y, x = np.mgrid[:size, :size]
    for _ in range(12):
        cy, cx, r = *rng.integers(0, size, 2), rng.integers(3, 9)
        mask |= ((y - cy) ** 2 + (x - cx) ** 2 < r * r).astype(np.uint8)
    return torch.from_numpy(mask)


def test_cells_are_numbered_as_scipy_does() -> None:
    mask = blobs(3)
    cells = number_cells(mask).numpy()
    theirs, count = label(mask.numpy())
    assert cells.max() == count
    pairs = np.unique(np.stack([cells.ravel(), theirs.ravel()]), axis=1)
    assert pairs.shape[1] == count + 1  # one to one
    # Two classes that touch are two cells.
    assert number_cells(torch.tensor([[0, 1, 2, 2, 1]])).tolist() == [[0, 1, 3, 3, 2]]


@pytest.mark.parametrize("seed", range(3))
def test_weight_map_is_equation_2(seed: int) -> None:
    """Against the distance to every single cell, in the whole picture."""
    mask, w0, sigma = blobs(seed), 10.0, 5.0
    cells = number_cells(mask)
    balance = class_weights(mask, 2)
    distances = np.sort(
        [distance_transform_edt(cells.numpy() != i + 1) for i in range(int(cells.max()))], axis=0
    )
    d1, d2 = distances[:2]
    expected = balance.numpy()[mask.numpy()]
    expected = expected + w0 * np.exp(-((d1 + d2) ** 2) / (2 * sigma**2)) * (mask.numpy() == 0)
    weights = weight_map(mask, cells, balance, w0, sigma)
    np.testing.assert_allclose(weights.numpy(), expected, rtol=0, atol=1e-5)
    assert weights.max() > balance[0] + 2  # there is a gap that matters
    assert torch.equal(weight_map(mask, cells, balance, w0=0), balance[mask.long()])


def test_a_single_cell_has_no_gap() -> None:
    mask = torch.zeros(20, 20, dtype=torch.uint8)
    mask[5:9, 5:9] = 1
    balance = torch.tensor([1.0, 2.0])
    assert torch.equal(weight_map(mask, number_cells(mask), balance), balance[mask.long()])


def test_classes_weigh_the_same_in_all() -> None:
    labels = torch.tensor([0] * 70 + [1] * 25 + [3] * 5)
    weights = class_weights(labels, 4)
    total = torch.zeros(4).index_add_(0, labels, weights[labels])
    torch.testing.assert_close(total[[0, 1, 3]], torch.full((3,), 100 / 3))
    assert weights[labels].mean().item() == pytest.approx(1)


# -- the errors ----------------------------------------------------------------------------------


def noisy(mask: Tensor, seed: int, share: float = 0.05) -> Tensor:
    flips = torch.rand(mask.shape, generator=torch.Generator().manual_seed(seed)) < share
    return mask ^ flips.to(mask.dtype)


@pytest.mark.parametrize("seed", range(3))
def test_rand_error_counts_pairs(seed: int) -> None:
    """Against every ordered pair of pixels, and against scikit-learn's count of pairs."""
    truth = blobs(seed, size=22)
    predicted = noisy(truth, seed)
    inside = truth.numpy() > 0
    cells = label(truth.numpy())[0][inside]
    segments = label(predicted.numpy())[0][inside]
    lone = segments == 0
    segments[lone] = 10_000 + np.arange(lone.sum())
    same_cell = cells[:, None] == cells
    same_segment = segments[:, None] == segments
    precision = (same_cell & same_segment).sum() / same_segment.sum()
    recall = (same_cell & same_segment).sum() / same_cell.sum()
    expected = 1 - 2 * precision * recall / (precision + recall)
    error = rand_error(predicted, truth)
    assert error == pytest.approx(expected, abs=1e-12)
    assert 0 < error < 1

    (_, only_segment), (only_cell, both) = pair_confusion_matrix(cells, segments)
    n = len(cells)  # each pixel's pair with itself, which scikit-learn leaves out
    theirs = 2 * (both + n) / (2 * (both + n) + only_segment + only_cell)
    assert error == pytest.approx(1 - theirs, abs=1e-12)


def test_rand_error_of_a_leak_and_of_a_shift() -> None:
    truth = torch.ones(9, 41, dtype=torch.uint8)
    truth[:, 20] = 0
    leak = truth.clone()
    leak[4, 20] = 1
    assert rand_error(truth, truth) == 0
    # Two cells of n pixels become one: precision 1/2, recall 1.
    assert rand_error(leak, truth) == pytest.approx(1 / 3)
    assert pixel_error(leak, truth) == pytest.approx(1 / truth.numel())
    assert warping_error(leak, truth) == pytest.approx(1 / truth.numel())


def left(predicted: Tensor, truth: Tensor) -> np.ndarray:
    """Places [n, 2], in the padded picture, that still differ once the truth was bent."""
    return np.argwhere(bent(truth, predicted) != np.pad(predicted.numpy(), 1))


def test_warping_forgives_what_leaves_the_topology_alone() -> None:
    truth = torch.zeros(20, 30, dtype=torch.uint8)
    truth[3:17, 3:14] = 1
    truth[3:17, 17:27] = 1
    grown = truth.clone()
    grown[2:18, 2:15] = 1
    assert len(left(grown, truth)) == warping_error(grown, truth) == 0
    split = truth.clone()
    split[9, 3:14] = 0  # a line of membrane grows from both sides, but for a pixel
    assert warping_error(split, truth) == pytest.approx(1 / truth.numel())
    merged = truth.clone()
    merged[5:8, 14:17] = 1  # the gap is as wide as three pixels
    assert warping_error(merged, truth) == pytest.approx(3 / truth.numel())
    hole = truth.clone()
    hole[8:10, 6:8] = 0  # four pixels, but neither a split nor a merger
    assert len(left(hole, truth)) == 4
    assert warping_error(hole, truth) == 0
    gone = torch.zeros_like(truth)  # cells cannot vanish: a pixel of each is left
    assert len(left(gone, truth)) == 2
    assert warping_error(gone, truth) == 0


def test_the_surest_pixels_are_bent_first() -> None:
    """A false band of membrane leaves a bridge between the two halves of a cell: where it was least
    believed in.
    """
    truth = torch.zeros(15, 15, dtype=torch.uint8)
    truth[2:13, 2:13] = 1
    probability = truth * 0.8 + 0.1
    probability[6:9, 2:13] = 0.1
    probability[6:9, 5] = 0.4
    bridge = np.argwhere(bent(truth, probability) != np.pad(probability > 0.5, 1)) - 1
    assert bridge.tolist() == [[6, 5], [7, 5], [8, 5]]
    assert warping_error(probability, truth) == pytest.approx(3 / truth.numel())
    assert warping_error(probability, truth, threshold=0.3) == pytest.approx(0)


@pytest.mark.parametrize("seed", range(6))
def test_warping_error_counts_splits_and_mergers(seed: int) -> None:
    """Against the number of cells before and after each flip."""
    truth = blobs(seed) if seed < 3 else noisy(torch.zeros(24, 24, dtype=torch.uint8), seed, 0.6)
    predicted = noisy(truth, 10 + seed, 0.3)
    warped = bent(truth, predicted)
    before, wrong = label(warped)[1], {0: 0, 1: 0}
    for row, column in left(predicted, truth):
        flipped = warped.copy()
        flipped[row, column] ^= 1
        after = label(flipped)[1]
        was_cell = int(warped[row, column])
        wrong[was_cell] += after > before if was_cell else after < before
    assert warping_error(predicted, truth) == pytest.approx(sum(wrong.values()) / truth.numel())
    assert wrong[1] > 0
    assert seed < 3 or wrong[0] > 0
    assert sum(wrong.values()) < len(left(predicted, truth)) < (predicted != truth).sum()


def test_dice_error_is_one_less_f() -> None:
    truth = blobs(0)
    predicted = noisy(truth, 1)
    theirs = f1_score(truth.flatten().numpy(), predicted.flatten().numpy())
    assert dice_error(predicted, truth) == pytest.approx(1 - theirs)
    assert dice_error(truth, truth) == 0


def test_simple_pixels_leave_the_number_of_parts_alone() -> None:
    """All 256 neighbourhoods: a flip is simple if and only if neither cells (4 neighbours) nor
    membranes (8 neighbours) change in number, looking at the 3 x 3 pixels.
    """
    eight = np.ones((3, 3))
    order = [(1, 2), (0, 2), (0, 1), (0, 0), (1, 0), (2, 0), (2, 1), (2, 2)]
    for code, bits in enumerate(itertools.product((0, 1), repeat=8)):
        window = np.zeros((3, 3), int)
        for i, place in enumerate(order):
            window[place] = bits[7 - i]
        assert code == sum(window[place] << i for i, place in enumerate(order))
        parts = []
        for centre in (0, 1):
            window[1, 1] = centre
            parts.append((label(window)[1], label(1 - window, eight)[1]))
        assert SIMPLE[code] == (parts[0] == parts[1]), bits


def test_mean_iou_by_hand() -> None:
    truth = torch.tensor([[[0, 0, 1, 1], [2, 2, 2, 2]]], dtype=torch.uint8)
    predicted = torch.tensor([[[0, 1, 1, 1], [2, 2, 0, 0]]])
    # Class 0: 1 of 4; class 1: 2 of 3; class 2: 2 of 4; class 3 does not occur.
    assert mean_iou(predicted, truth, 4) == pytest.approx((1 / 4 + 2 / 3 + 2 / 4) / 3)
    assert mean_iou(truth, truth, 4) == 1


# -- the backbone --------------------------------------------------------------------------------


def test_backbone_reports_its_maps() -> None:
    torch.manual_seed(0)
    backbone = UNetBackbone(in_chans=3, out_indices=(1, 2, 4), width=0.125)
    assert backbone.feature_info.channels() == [16, 32, 128]
    assert backbone.feature_info.reduction() == [2, 4, 16]
    maps = backbone(torch.rand(2, 3, 37, 50))
    shapes = [tuple(m.shape) for m in maps]
    assert shapes == [(2, 16, 18, 25), (2, 32, 9, 12), (2, 128, 2, 3)]
    maps[-1].sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in backbone.parameters())
    with torch.device("meta"):
        assert UNetBackbone().feature_info.channels() == [64, 128, 256, 512, 1024]
    with pytest.raises(ValueError, match="out_indices"):
        UNetBackbone(out_indices=(5,))
    with pytest.raises(ValueError, match="width"):
        UNetBackbone(width=0.0)


# -- the experiment ------------------------------------------------------------------------------


@pytest.mark.parametrize("elastic", [0.0, 3.0])
@pytest.mark.parametrize(("size", "tile"), [(50, 20), (31, 100)])
def test_tiles_move_picture_labels_and_weights_together(
    elastic: float, size: int, tile: int
) -> None:
    config = UNetConfig(depth=2, width=1)
    transform = tiles(config, Options(elastic=elastic, tile=tile), turns=True)
    mask = blobs(4, size)[None]
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        x, y, w = transform((255 * mask[:, None], mask, 7.0 * mask), generator)
        n = config.output_size(min(tile, size))
        m = config.margin
        assert x.shape == (1, 1, n + 2 * m, n + 2 * m)
        assert y.shape == w.shape == (1, n, n)
        inner = (x[:, 0, m : m + n, m : m + n] > 0).to(y.dtype)
        differ = 0.0 if elastic == 0 else 0.05  # pixels on edges are mixed
        assert pixel_error(inner, y) <= differ
        assert pixel_error((w > 3.5).to(y.dtype), y) <= differ


def test_the_ensemble_turns_its_answers_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a network that decides pixel by pixel every turned version says the same."""

    def pointwise(model: UNet, pictures: Tensor, tile: int) -> Tensor:
        return torch.cat([pictures, -pictures], 1)

    monkeypatch.setattr("runkit.papers.unet.segment", pointwise)
    noise = torch.randint(256, (2, 1, 6, 6), dtype=torch.uint8)
    data = Dataset(noise, torch.zeros(2, 6, 6, dtype=torch.uint8), ("membrane", "cell"))
    model = UNet(UNetConfig(depth=1, width=1))
    torch.testing.assert_close(probabilities(model, data, True), probabilities(model, data, False))


# -- learning ------------------------------------------------------------------------------------


def scene(seed: int, size: int = 40) -> tuple[Tensor, Tensor]:
    """A noisy picture [1, S, S] of discs (1) and squares (2) in one brightness, and its labels."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((size, size), np.int64)
    y, x = np.mgrid[:size, :size]
    for _ in range(4):
        cy, cx = rng.integers(6, size - 6, 2)
        r = rng.integers(5, 8)
        if labels[max(cy - r, 0) : cy + r + 1, max(cx - r, 0) : cx + r + 1].any():
            continue
        if rng.random() < 0.5:
            labels[(y - cy) ** 2 + (x - cx) ** 2 <= r * r] = 1
        else:
            labels[np.maximum(abs(y - cy), abs(x - cx)) <= 0.8 * r] = 2
    picture = (labels > 0) + rng.normal(0, 0.3, labels.shape)
    return torch.from_numpy(picture).float()[None], torch.from_numpy(labels)


@pytest.mark.learning
def test_it_learns_to_tell_shapes_apart() -> None:
    """Discs and squares are equally bright: only context tells them apart."""
    torch.manual_seed(0)
    config = UNetConfig(classes=3, width=8, depth=2, dropout=0.0)
    model = UNet(config)
    m = config.margin
    pictures, labels = (torch.stack(part) for part in zip(*map(scene, range(64)), strict=True))
    tiles = mirror(pictures, m, m, m, m)
    balance = class_weights(labels, 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for i in range(120):
        rows = torch.arange(8 * i, 8 * i + 8) % 64
        optimizer.zero_grad()
        loss = weighted_cross_entropy(model(tiles[rows]), labels[rows], balance[labels[rows]])
        loss.backward()
        optimizer.step()
    pictures, labels = (
        torch.stack(part) for part in zip(*map(scene, range(100, 120)), strict=True)
    )
    iou = mean_iou(segment(model, pictures).argmax(1), labels, 3)
    brightness = mean_iou((pictures[:, 0] > 0.5).long(), labels, 3)
    assert iou > 0.75 > brightness, (iou, brightness)
