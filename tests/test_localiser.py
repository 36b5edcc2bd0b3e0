"""The network of Tobin et al. 2017: its shapes, its units, that it learns, and its files."""

import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from agents.state import StateError, load_state, save_state
from sim2real import localiser
from sim2real.localiser import (
    CORNERS,
    FitConfig,
    Localiser,
    LocaliserConfig,
    MapHead,
    estimate,
    guidance,
    map_loss,
    new_fit,
)
from supervised.fit import FitReport

LOW, HIGH = (0.3, -0.25, 0.02), (0.7, 0.25, 0.02)


def small(**changes: Any) -> Localiser:
    torch.manual_seed(0)
    return Localiser(replace(LocaliserConfig.small(), **changes), LOW, HIGH)


def squares(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures uint8 [N, 3, 32, 32] of a square in random colours, where it lies in metres, and
    where in the picture.
    """
    generator = torch.Generator().manual_seed(seed)
    middles = torch.randint(4, 28, (count, 2), generator=generator)
    colours = torch.randint(0, 256, (count, 2, 3, 1, 1), generator=generator)
    pictures = colours[:, 0].repeat(1, 1, 32, 32)
    for i, (row, column) in enumerate(middles.tolist()):
        pictures[i, :, row - 4 : row + 4, column - 4 : column + 4] = colours[i, 1]
    x, y = (middles.T - 4) / 23
    metres = torch.stack([0.3 + 0.4 * x, -0.25 + 0.5 * y, torch.full_like(x, 0.02)], 1)
    corners = torch.tensor([[0.1, 0.9], [0.9, 0.9], [0.1, 0.1], [0.9, 0.1]]).expand(count, 4, 2)
    places = torch.cat([middles.flip(1)[:, None] / 32, corners], 1)
    return pictures.to(torch.uint8), metres, places


def test_the_papers_network() -> None:
    """VGG-16's convolutions (14.7 million weights), then 256 and 64 behind their 7 x 7 x 512."""
    model = Localiser(LocaliserConfig.paper(), LOW, HIGH)
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == 13
    assert sum(p.numel() for p in model.backbone.parameters()) == 14_714_688
    linears = [m for m in model.modules() if isinstance(m, nn.Linear)]
    assert [m.in_features for m in linears] == [7 * 7 * 512, 256, 64]
    assert linears[-1].out_features == 3
    assert not [m for m in model.modules() if isinstance(m, nn.Dropout)]
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 224, 224, dtype=torch.uint8)).shape == (1, 3)


def test_the_configuration_for_cpus() -> None:
    model = Localiser(LocaliserConfig.cpu(), LOW, HIGH)
    estimates, seen = model.look(torch.zeros(2, 3, 112, 112, dtype=torch.uint8))
    assert estimates.shape == (2, 3)
    assert seen is not None
    assert [part.shape for part in seen] == [(2, 14, 14), (2, 4, 2)]
    # Each convolution has a normalization behind it, and then a ReLU.
    kinds = [type(m).__name__ for m in model.backbone.modules() if not list(m.children())]
    kinds = [kind for kind in kinds if kind != "MaxPool2d"]
    assert kinds == 10 * ["Conv2d", "GroupNorm", "ReLU"]


@pytest.mark.parametrize(
    "changes",
    [
        {"backbone": "vgg11", "width": 0.125, "norm": "none"},
        {"backbone": "vgg11", "width": 0.125, "norm": "batch", "stage": 3},
        {"backbone": "resnet18", "width": 0.125, "norm": "group"},
        {"backbone": "resnet18", "width": 0.125, "norm": "batch", "stage": 2, "hidden": ()},
        {"backbone": "resnet18", "width": 0.125, "norm": "batch", "stage": 2, "head": "map"},
    ],
)
def test_every_backbone_gives_metres(changes: dict[str, object]) -> None:
    model = small(**changes)
    pictures = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    out = model(pictures)
    assert out.shape == (3, 3)
    assert out.dtype == torch.float32
    assert torch.equal(out, model.look(pictures)[0])
    model.loss(out, torch.zeros(3, 3)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_a_map_says_where_and_what() -> None:
    head = MapHead(channels=2, side=4, hidden=(5,))
    features = torch.zeros(1, 2, 4, 4)
    features[0, :, 1, 3] = torch.tensor([50.0, 7.0])
    nn.init.zeros_(head.score.bias)  # type: ignore[arg-type]
    head.score.weight.data = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
    nn.init.zeros_(head.corners.weight)
    head.corners.bias.data = torch.tensor([-1.0, -1.0, 0.0, 0.0, 1.0, 1.0, 0.5, -0.5])
    inside: list[Tensor] = []
    head.hidden.register_forward_pre_hook(lambda _, inputs: inside.append(inputs[0]))
    out, scores, corners = head(features)
    assert out.shape == (1, head.width) == (1, 5 + 2 + 8)
    assert scores[0].argmax() == 1 * 4 + 3
    # In the middle of the last column and the second row, of -1 to 1; and what is found there.
    assert inside[0][0, :4].tolist() == pytest.approx([0.75, -0.25, 50.0, 7.0])
    assert out[0, 5:7].tolist() == pytest.approx([0.75, -0.25])
    assert corners[0].tolist() == [[0, 0], [0.5, 0.5], [1, 1], [0.75, 0.25]]


def test_corners_are_told_too() -> None:
    places = torch.rand(2, 5, 2)
    scores = torch.zeros(2, 4, 4)
    right = guidance((scores, places[:, 1:]), places).item()
    assert right == pytest.approx(math.log(16))
    off = places[:, 1:].clone()
    off[0, 2, 1] += 0.25
    # A half picture's unit: 0.5 squared, of one of two pictures.
    assert guidance((scores, off), places).item() - right == pytest.approx(CORNERS * 0.25 / 2)


def test_the_maps_loss_is_the_cross_entropy_of_the_right_place() -> None:
    scores = torch.zeros(3, 4, 4)
    scores[0, 1, 3] = 5.0
    right, wrong, outside = (0.8, 0.3), (0.3, 0.8), (1.2, 0.5)
    peak = 5 - math.log(math.exp(5) + 15)
    for places, expected in [
        ([right, outside, outside], -peak),
        ([wrong, outside, outside], 5 - peak),
        ([right, right, outside], (math.log(16) - peak) / 2),
        ([outside, outside, (-0.01, 0.5)], 0.0),
    ]:
        assert map_loss(scores, torch.tensor(places)).item() == pytest.approx(expected, abs=1e-6)


def test_outputs_are_centred_on_the_workspace_and_scaled_to_it() -> None:
    model = small()
    head = model.head[-1]
    assert isinstance(head, nn.Linear)
    nn.init.zeros_(head.weight)
    head.bias.data = torch.tensor([0.0, 1.0, -1.0])
    out = model(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))[0]
    # The height has no side of its own: a tenth of the largest one.
    assert out.tolist() == pytest.approx([0.5, 0.25, 0.02 - 0.025])


def test_the_loss_is_the_square_of_the_distance_in_half_widths() -> None:
    estimates = torch.tensor([[0.5, 0.0, 0.02], [0.7, 0.25, 0.02]])
    loss = small().loss(estimates, torch.tensor([0.5, 0.0, 0.02]))
    assert loss.item() == pytest.approx((0 + 2) / 2)


def test_metres_are_float32_under_autocast() -> None:
    """bfloat16 has steps of 4 mm at a metre."""
    model = small()
    pictures = torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8)
    with torch.autocast("cpu", torch.bfloat16):
        out = model(pictures)
    assert out.dtype == torch.float32
    assert not torch.equal(out.bfloat16().float(), out)


def test_wrong_pictures_are_refused() -> None:
    model = small()
    for pictures in (torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 31, dtype=torch.uint8)):
        with pytest.raises(ValueError, match="pictures must be uint8"):
            model(pictures)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"norm": "layer"}, "norm must be"),
        ({"head": "none"}, "head must be"),
        ({"size": 8}, "size must lie"),
        ({"hidden": (0,)}, "hidden must be"),
        ({"backbone": "vgg17"}, "unknown backbone"),
        ({"backbone": "resnet18", "norm": "none"}, "needs a norm"),
        ({"stage": 9}, "out_indices"),
        ({"width": 0.0}, "width must be positive"),
    ],
)
def test_wrong_configurations_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        small(**changes)


@pytest.mark.parametrize("high", [(0.1, 0.25, 0.02), (0.7, 0.25), LOW, (0.7, float("nan"), 1)])
def test_corners_must_be_those_of_a_box(high: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"corners|inhomogeneous"):
        Localiser(LocaliserConfig.small(), LOW, high)


@pytest.mark.parametrize(
    "field", [{"steps": 0}, {"batch_size": 0}, {"learning_rate": 1.0}, {"guide": -1.0}]
)
def test_wrong_trainings_are_refused(field: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"no steps|learning_rate|guide"):
        FitConfig(**field)  # type: ignore[arg-type]


@pytest.mark.learning
@pytest.mark.parametrize(("head", "precision"), [("paper", "bfloat16"), ("map", "float32")])
def test_it_learns_where_a_square_is(head: str, precision: Any) -> None:
    """To a tenth of what always saying the middle gives, on pictures that it has not seen."""
    pictures, positions, places = squares(2048, 0)
    unseen, truth, _ = squares(128, 1)
    model = small(head=head)
    middle = (truth - positions.mean(0)).norm(dim=1).mean()
    config = FitConfig(300, 32, 3e-3, shift=0, precision=precision)  # a place is a position here
    new_fit(model, pictures, positions, places, config).run(config.steps)
    assert (estimate(model, unseen) - truth).norm(dim=1).mean() < 0.1 * middle


def test_the_map_learns_as_much_as_it_is_guided() -> None:
    data = squares(64, 0)
    losses = []
    for guide in (0.0, 1.0):
        model = small(head="map")
        new_fit(model, *data, FitConfig(20, 32, 1e-3, guide=guide)).run(20)
        seen = model.look(data[0])[1]
        assert seen is not None
        losses.append(guidance(seen, data[2]).item())
    assert losses[1] < 0.9 * losses[0]


def test_the_rate_falls_to_zero_or_stays() -> None:
    for decay, rates in [(True, [1e-3, 7.5e-4, 5e-4, 2.5e-4]), (False, [1e-3] * 4)]:
        reports: list[FitReport] = []
        fit = new_fit(small(), *squares(8, 0), FitConfig(4, 8, 1e-3, decay=decay))
        fit.run(4, lambda report, seen=reports: not seen.append(report))  # type: ignore[misc]
        assert [report.learning_rate for report in reports] == pytest.approx(rates)


def test_estimates_do_not_depend_on_the_batch() -> None:
    model = small(norm="batch")
    pictures, *_ = squares(70, 0)
    model.train()
    together = estimate(model, pictures)
    torch.testing.assert_close(together[:1], estimate(model, pictures[:1]))
    assert model.training


def test_a_saved_network_is_the_same(tmp_path: Path) -> None:
    model = small(norm="batch")
    pictures, *_ = squares(8, 0)
    model(pictures)  # moves the running averages
    localiser.save(model, tmp_path)
    again = localiser.load(tmp_path)
    assert again.config == model.config
    assert torch.equal(estimate(again, pictures), estimate(model, pictures))


def test_a_damaged_network_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="missing"):
        localiser.load(tmp_path)
    localiser.save(small(), tmp_path)
    state = load_state(tmp_path)
    wider = asdict(small(width=1.0).config)
    for forged in (
        {"localiser": wider, "weights": state["weights"]},
        {"localiser": {"backbone": "vgg16"}, "weights": state["weights"]},
        {"weights": state["weights"]},
    ):
        save_state(tmp_path, forged)
        with pytest.raises(StateError, match="holds no localiser"):
            localiser.load(tmp_path)
