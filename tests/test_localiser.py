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
    FitConfig,
    Localiser,
    LocaliserConfig,
    MapHead,
    estimate,
    guidance,
    new_fit,
    peaks,
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


@pytest.mark.parity
def test_the_papers_network_is_that_list_of_layers() -> None:
    """Forward, gradients and a trajectory of Adam, beside torch's own layers one after another."""
    torch.manual_seed(0)
    config = LocaliserConfig(width=1 / 8, size=64, hidden=(16, 8))
    model = Localiser(config, LOW, HIGH).double()
    layers: list[nn.Module] = []
    channels = 3
    for filters in (8, 8, 0, 16, 16, 0, 32, 32, 32, 0, 64, 64, 64, 0, 64, 64, 64, 0):
        if filters:
            layers += [nn.Conv2d(channels, filters, 3, padding=1), nn.ReLU()]
            channels = filters
        else:
            layers.append(nn.MaxPool2d(2))
    layers += [nn.Flatten(), nn.Linear(64 * 2 * 2, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU()]
    twin = nn.Sequential(*layers, nn.Linear(8, 3)).double()
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        theirs.data.copy_(ours.data)
    middle = torch.tensor([0.5, 0.0, 0.02]).double()
    half = torch.tensor([0.2, 0.25, 0.025]).double()  # the height has no half width of its own

    # The module casts pictures to floats; hooks keep the doubles that the comparison needs.
    model.backbone.register_forward_pre_hook(lambda _, args: (args[0].double(),))
    model.head.register_forward_pre_hook(lambda _, args: (args[0].double(),))
    optimizers = [torch.optim.Adam(network.parameters(), 1e-3) for network in (model, twin)]
    for step in range(50):
        generator = torch.Generator().manual_seed(step)
        pictures = torch.randint(0, 256, (4, 3, 64, 64), generator=generator).to(torch.uint8)
        positions = middle + 0.1 * torch.rand(4, 3, generator=generator, dtype=torch.float64)
        found = model(pictures)
        other = middle + half * twin((pictures.double() - 127.5) / 64)
        wanted = (((other - positions) / half) ** 2).sum(1).mean()
        losses = (model.loss(found, positions), wanted)
        torch.testing.assert_close(found, other, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(*losses, rtol=1e-5, atol=1e-6)
        for optimizer, loss in zip(optimizers, losses, strict=True):
            optimizer.zero_grad()
            loss.backward()
        for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-7)
        for optimizer in optimizers:
            optimizer.step()


def test_the_configuration_for_cpus() -> None:
    model = Localiser(LocaliserConfig.cpu(), LOW, HIGH)
    estimates, seen = model.look(torch.zeros(2, 3, 112, 112, dtype=torch.uint8))
    assert estimates.shape == (2, 3)
    assert seen is not None
    assert seen.shape == (2, 5, 14, 14)
    # Each convolution has a normalization behind it, and then a ReLU.
    kinds = [type(m).__name__ for m in model.backbone.modules() if not list(m.children())]
    kinds = [kind for kind in kinds if kind != "MaxPool2d"]
    assert kinds == 13 * ["Conv2d", "GroupNorm", "ReLU"]


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


def test_a_map_says_where() -> None:
    head = MapHead(channels=2, deeper=3)
    for layer in (head.fine, head.deep, head.mix, head.score):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    # The fine map's second channel comes out as the fourth, which scores for the object; the deep
    # one's first as the sixth, which scores for the first corner.
    head.fine.weight.data[3, 1] = head.deep.weight.data[5, 0] = 1.0
    head.mix.weight.data[3, 3, 1, 1] = head.mix.weight.data[5, 5, 1, 1] = 1.0
    head.score.weight.data[0, 3] = head.score.weight.data[1, 5] = 1.0
    fine, deep = torch.zeros(1, 2, 4, 4), torch.zeros(1, 3, 2, 2)
    fine[0, 1, 1, 3], deep[0, 0, 1, 0] = 50.0, 99.0
    out, scores = head(fine, deep)
    assert out.shape == (1, head.width)
    assert scores.shape == (1, 5, 4, 4)
    assert scores[0, 0].argmax() == 1 * 4 + 3
    # In the middle of the last column and the second row, of -1 to 1.
    assert out[0, :2].tolist() == pytest.approx([0.75, -0.25])
    # A quarter of the picture, at the bottom left, is seen by the deep map's third place.
    assert out[0, 2:4].tolist() == pytest.approx([-0.75, 0.75])


def test_a_peak_lies_between_its_cells_and_takes_no_notice_of_another() -> None:
    scores = torch.full((1, 2, 8, 8), -9.0)
    scores[0, 0, 2, 5] = scores[0, 0, 2, 6] = 9.0  # evenly in two cells
    scores[0, 0, 7, 0] = 8.9  # something that looks nearly like it
    scores[0, 1, 0, 7] = 9.0  # in the corner of the picture, where there are no eight around it
    scores[0, 1, 4, 0] = scores[0, 1, 4, 1] = 8.9
    scores.requires_grad_()
    places = peaks(scores)
    assert places.flatten().tolist() == pytest.approx([6 / 8, 2.5 / 8, 7.5 / 8, 0.5 / 8])
    places.sum().backward()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()
    assert scores.grad[0, 0, 2, 5].abs() > 0.01
    assert scores.grad[0, 0, 7].abs().sum() == 0


def test_guidance_is_least_where_the_softmax_has_its_mean_in_the_right_place() -> None:
    places = torch.tensor([[[0.3, 0.55], [0.5, 0.5], [0.2, 0.9], [0.7, 0.4], [0.125, 0.875]]])
    scores = torch.zeros(1, 5, 4, 4, requires_grad=True)
    assert guidance(scores, places).item() == pytest.approx(2 * math.log(16))
    optimizer = torch.optim.Adam([scores], 0.1)
    for _ in range(2000):
        optimizer.zero_grad()
        guidance(scores, places).backward()
        optimizer.step()
    p = scores.detach().flatten(2).softmax(2).view_as(scores)
    axis = (torch.arange(4) + 0.5) / 4
    means = torch.stack([(p.sum(2) * axis).sum(2), (p.sum(3) * axis).sum(2)], 2)
    # The third lies below the lowest cells' middles, which is as far as a mean can go.
    expected = torch.where(places > 0.875, torch.tensor(0.875), places)
    torch.testing.assert_close(means, expected, atol=2e-3, rtol=0)


def test_what_lies_outside_of_the_picture_does_not_count() -> None:
    inside, outside = [0.4, 0.4], [1.2, 0.5]
    scores = torch.randn(2, 5, 4, 4, requires_grad=True)
    places = torch.tensor([[inside, outside, inside, inside, inside], 5 * [outside]])
    loss = guidance(scores, places)
    loss.backward()
    assert scores.grad is not None
    assert [bool(g.any()) for g in scores.grad[0]] == [True, False, True, True, True]
    assert not scores.grad[1].any()
    # The object counts as much as the four corners together.
    alone = guidance(scores, torch.tensor([[inside, *4 * [outside]], 5 * [outside]]))
    rest = guidance(scores, torch.tensor([[outside, outside, *3 * [inside]], 5 * [outside]]))
    assert loss.item() == pytest.approx(alone.item() + rest.item())


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
        ({"stage": -1, "head": "map"}, "stage cannot be the last"),
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
    "field",
    [{"steps": 0}, {"batch_size": 0}, {"learning_rate": 1.0}, {"guide": -1.0}, {"shade": 1.1}],
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
    # A place is a position here, and a square may be as dark as a blot.
    config = FitConfig(300, 32, 3e-3, shift=0, shade=0.0, precision=precision)
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


def test_pictures_are_jittered_as_the_training_says(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, float]] = []

    def noted(batch: Any, _: Any, **how: float) -> Any:
        asked.append(how)
        return batch

    monkeypatch.setattr(localiser, "jitter", noted)
    config = FitConfig(1, 8, shift=3, colour=0.1, shade=0.2)
    new_fit(small(), *squares(8, 0), config).run(1)
    assert asked == [{"shift": 3, "colour": 0.1, "shade": 0.2}]


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
