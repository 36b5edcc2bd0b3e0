"""Augmentation: exact where there is an exact answer, spread as the papers say, and repeatable."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import map_coordinates
from torch import Generator, Tensor

from supervised.augment import (
    PCAColour,
    affine_distortion,
    elastic_deformation,
    random_crop,
    random_flip,
    resize,
    scale_jitter,
    ten_crop_probabilities,
    ten_crops,
    warp,
)


def seeded(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(shape, generator=seeded(99), dtype=dtype)


def close(a: Tensor, b: Tensor, atol: float = 1e-10) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=atol)


RECIPES: dict[str, Callable[[Tensor, Generator], Tensor]] = {
    "crop": lambda p, g: random_crop(p, 9, g, margin=2),
    "flip": random_flip,
    "colour": lambda p, g: PCAColour(p)(p, g),
    "jitter": lambda p, g: scale_jitter(p, 10, 20, 8, g),
    "affine": lambda p, g: affine_distortion(p, g, 2, 10, 0.1, 0.1, 0.1),
    "elastic": lambda p, g: elastic_deformation(p, g, sigma=2)[0],
}


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_follows_its_generator_alone(name: str) -> None:
    recipe, pictures = RECIPES[name], noise(6, 3, 12, 14)
    before = pictures.clone()
    first = recipe(pictures, seeded(1))
    torch.manual_seed(123)
    state = torch.get_rng_state()
    assert torch.equal(recipe(pictures, seeded(1)), first)
    assert torch.equal(torch.get_rng_state(), state)  # nothing drawn from the global numbers
    assert not torch.equal(recipe(pictures, seeded(2)), first)
    assert torch.equal(pictures, before)


@pytest.mark.parametrize("name", RECIPES)
def test_every_picture_of_a_batch_is_changed_differently(name: str) -> None:
    same = noise(1, 3, 12, 14).expand(64, -1, -1, -1)
    changed = RECIPES[name](same, seeded())
    assert len({tuple(picture.flatten().tolist()) for picture in changed}) > 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_keeps_type_and_channels(name: str, dtype: torch.dtype) -> None:
    changed = RECIPES[name](noise(4, 3, 12, 14, dtype=dtype), seeded())
    assert changed.dtype == dtype
    assert changed.shape[:2] == (4, 3)
    assert changed.isfinite().all()


# -- crops and reflections -------------------------------------------------------------------------


def test_crops_are_windows_and_all_places_come_equally_often() -> None:
    """Of 4x5 pictures, 3x3 windows have 2 x 3 places."""
    pictures = torch.arange(40.0).view(1, 2, 4, 5).expand(6_000, -1, -1, -1)
    crops = random_crop(pictures, 3, seeded())
    counts = torch.zeros(2, 3)
    for top in range(2):
        for left in range(3):
            window = pictures[0, :, top : top + 3, left : left + 3]
            counts[top, left] = (crops == window).flatten(1).all(1).sum()
    assert counts.sum() == 6_000
    assert ((counts - 1_000).abs() < 5 * (1_000 * 5 / 6) ** 0.5).all()


def test_a_margin_is_filled_and_reached_on_every_side() -> None:
    crops = random_crop(torch.ones(500, 1, 4, 4), 4, seeded(), margin=1, fill=-7.0)
    assert set(crops.unique().tolist()) == {-7.0, 1.0}
    for edge in (crops[:, :, 0], crops[:, :, -1], crops[:, :, :, 0], crops[:, :, :, -1]):
        assert 0.2 < (edge == -7.0).all(-1).float().mean() < 0.47  # a third, in truth


def test_flips() -> None:
    pictures = noise(4_000, 1, 2, 3)
    flipped = random_flip(pictures, seeded())
    is_flipped = (flipped == pictures.flip(3)).flatten(1).all(1)
    is_same = (flipped == pictures).flatten(1).all(1)
    assert (is_flipped ^ is_same).all()
    assert is_flipped.double().mean() == pytest.approx(0.5, abs=5 * 0.5 / 4_000**0.5)
    assert torch.equal(random_flip(pictures, seeded(), 0.0), pictures)
    assert torch.equal(random_flip(pictures, seeded(), 1.0), pictures.flip(3))


def test_ten_crops_are_corners_centre_and_reflections() -> None:
    picture = noise(1, 3, 10, 12)
    crops = ten_crops(picture, 8)
    assert crops.shape == (10, 1, 3, 8, 8)
    expected = [picture[:, :, :8, :8], picture[:, :, :8, 4:], picture[:, :, 2:, :8]]
    expected += [picture[:, :, 2:, 4:], picture[:, :, 1:9, 2:10]]
    for i in range(5):
        assert torch.equal(crops[i], expected[i])
        assert torch.equal(crops[i + 5], expected[i].flip(3))


def test_ten_crop_probabilities_average_probabilities_not_logits() -> None:
    pictures = noise(5, 3, 10, 10)

    def logits(x: Tensor) -> Tensor:
        return 20 * x[:, :, 0, 0]

    p = ten_crop_probabilities(logits, pictures, 8)
    by_hand = sum(logits(crop).softmax(1) for crop in ten_crops(pictures, 8)) / 10
    close(p, torch.as_tensor(by_hand))
    close(p.sum(1), torch.ones(5).double())
    mirrored = ten_crop_probabilities(logits, pictures.flip(3), 8)
    close(p, mirrored)  # the ten crops of the mirror image are the same ten


# -- colour ----------------------------------------------------------------------------------------


def test_colour_shift_has_the_covariance_of_the_paper() -> None:
    """Cov(shift) = P diag(sigma^2 l^2) P^T = sigma^2 C^2, C the pixels' covariance."""
    mix = torch.tensor([[0.5, 0.1, 0.0], [0.2, 0.4, 0.1], [0.1, 0.0, 0.3]]).double()
    pictures = torch.einsum("cd,ndhw->nchw", mix, noise(50, 3, 16, 16))
    colour = PCAColour(pictures, sigma=0.1)
    start = torch.zeros(100_000, 3, 2, 1).double()
    shift = colour(start, seeded())
    assert torch.equal(shift[:, :, 0], shift[:, :, 1])  # the same at all pixels of a picture
    covariance = torch.from_numpy(np.cov(pictures.movedim(1, 0).flatten(1).numpy()))
    expected = 0.01 * covariance @ covariance
    close(shift[:, :, 0, 0].T.cov(), expected, atol=0.02 * expected.abs().max().item())
    close(shift.mean(0), torch.zeros(3, 2, 1).double(), atol=3e-5)


def test_colour_without_noise_changes_nothing() -> None:
    pictures = noise(4, 3, 5, 5)
    assert torch.equal(PCAColour(pictures, sigma=0.0)(pictures, seeded()), pictures)


# -- size ------------------------------------------------------------------------------------------


def test_enlarging_is_linear_as_pytorch_does_it() -> None:
    pictures = noise(2, 3, 9, 12)
    theirs = F.interpolate(pictures, (15, 20), mode="bilinear", align_corners=False)
    close(resize(pictures, 15), theirs)


def test_reducing_takes_means_and_equal_size_changes_nothing() -> None:
    pictures = noise(2, 3, 8, 12)
    close(resize(pictures, 2), F.avg_pool2d(pictures, 4))
    close(resize(pictures, 8), pictures, atol=0)


def test_jitter_draws_all_sizes() -> None:
    """The brightness step per pixel of a ramp tells by how much it was enlarged."""
    ramp = torch.arange(8.0).expand(400, 1, 8, 8)
    crops = scale_jitter(ramp, 16, 24, 8, seeded())
    assert crops.shape == (400, 1, 8, 8)
    steps = crops.diff(dim=3).amax((1, 2, 3))
    sides = (8 / steps).round()
    assert set(sides.tolist()) == set(range(16, 25))


# -- warps -----------------------------------------------------------------------------------------


def test_no_distortion_is_the_identity() -> None:
    pictures = noise(3, 2, 9, 12)
    close(affine_distortion(pictures, seeded(), fill=0.3), pictures)
    warped, masks = elastic_deformation(pictures, seeded(), (9 * pictures[:, 0]).long(), sigma=0)
    close(warped, pictures)
    assert masks is not None
    assert torch.equal(masks, (9 * pictures[:, 0]).long())


def with_amounts(monkeypatch: pytest.MonkeyPatch, pictures: Tensor, **bounds: float) -> Tensor:
    """The affine distortion whose amounts are all at their upper bounds."""
    with monkeypatch.context() as patch:
        patch.setattr(torch, "rand", lambda *shape, **_: torch.ones(shape, dtype=torch.float64))
        return affine_distortion(pictures, seeded(), **bounds)


def test_quarter_turn_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = noise(2, 3, 9, 9)
    turned = with_amounts(monkeypatch, pictures, rotation=90)
    close(turned, torch.rot90(pictures, 1, (2, 3)))  # counterclockwise, as rot90


def test_shift_of_whole_pixels_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = noise(2, 3, 9, 7)
    shifted = with_amounts(monkeypatch, pictures, shift=2, fill=0.5)
    expected = torch.full_like(pictures, 0.5)
    expected[:, :, 2:, 2:] = pictures[:, :, :-2, :-2]
    close(shifted, expected)


def test_scale_squeeze_and_shear_move_points_as_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dot at (x, y) = (2, 4) from the centre."""
    dot = torch.zeros(1, 1, 41, 41).double()
    dot[0, 0, 24, 22] = 1

    def place(**bounds: float) -> tuple[float, float]:
        warped = with_amounts(monkeypatch, dot, **bounds)[0, 0]
        y, x = (warped == warped.max()).nonzero().double().mean(0).tolist()
        return x - 20, y - 20

    log2 = float(np.log(2))
    assert place(scale=log2) == (4, 8)
    assert place(squeeze=log2) == (4, 2)
    assert place(shear=0.5) == (4, 4)


@pytest.mark.parametrize(("cv_border", "fill"), [(cv2.BORDER_REFLECT_101, None), (0, 0.25)])
def test_warp_against_opencv(cv_border: int, fill: float | None) -> None:
    """OpenCV rounds places to 1/32 pixel: equal to that."""
    y, x = torch.meshgrid(torch.arange(20.0), torch.arange(24.0), indexing="ij")
    smooth = torch.sin(x / 4) * torch.cos(y / 5)
    source = torch.stack([x - 11.5, y - 9.5], -1) * 1.3 + 0.7
    ours = warp(smooth[None, None], source[None], fill)[0, 0]
    theirs = cv2.remap(
        smooth.numpy(),
        (source[..., 0] + 11.5).numpy(),
        (source[..., 1] + 9.5).numpy(),
        cv2.INTER_LINEAR,
        borderMode=cv_border,
        borderValue=fill or 0.0,
    )
    close(ours, torch.from_numpy(theirs), atol=1 / 32)


def test_warp_against_scipy() -> None:
    picture, offset = noise(1, 1, 13, 17), 6 * noise(1, 13, 17, 2) - 3
    y, x = torch.meshgrid(torch.arange(13.0), torch.arange(17.0), indexing="ij")
    places = torch.stack([x, y], -1).double()[None] + offset
    centred = places - torch.tensor([8.0, 6.0])
    at = [places[0, ..., 1].numpy(), places[0, ..., 0].numpy()]
    theirs = map_coordinates(picture[0, 0].numpy(), at, order=1, mode="mirror")
    close(warp(picture, centred, None)[0, 0], torch.from_numpy(theirs))


def displacement(generator: Generator, size: int, sigma: float, n: int) -> Tensor:
    """By how much x is displaced at each pixel, read from a picture of a ramp: [n, size, size]."""
    ramp = torch.arange(float(size), dtype=torch.float64)
    pictures = ramp.expand(n, 1, size, size)
    return elastic_deformation(pictures, generator, sigma=sigma)[0][:, 0] - ramp


def test_elastic_displacements_are_gaussian_at_the_grid_and_smooth_between() -> None:
    moved = displacement(seeded(), 65, 2.0, 3_000)
    centre = moved[:, 32, 32]
    assert centre.mean().item() == pytest.approx(0, abs=5 * 2 / 3_000**0.5)
    assert centre.std().item() == pytest.approx(2, rel=5 / 6_000**0.5)


def test_elastic_displacements_are_bicubic_between_the_grid_points() -> None:
    """By Keys' kernel with a = -0.75 (OpenCV's and PyTorch's), outermost points repeated."""

    def kernel(t: Tensor) -> Tensor:
        t, a = t.abs(), -0.75
        near = (a + 2) * t**3 - (a + 3) * t**2 + 1
        far = a * (t**3 - 5 * t**2 + 8 * t - 4)
        return torch.where(t <= 1, near, torch.where(t < 2, far, torch.zeros_like(t)))

    at = torch.linspace(0, 2, 33).double()
    weights = torch.zeros(33, 3).double()
    for point in range(-2, 5):
        weights[:, min(max(point, 0), 2)] += kernel(at - point)
    coarse = torch.randn(5, 2, 3, 3, generator=seeded(), dtype=torch.float64)[:, 0]
    fine = weights @ coarse @ weights.T
    inner = slice(6, -6)  # where the ramp is not left
    close(displacement(seeded(), 33, 1.0, 5)[:, :, inner], fine[:, :, inner])


def test_masks_move_with_their_pictures() -> None:
    """The picture is its mask, and is so after the warp, but for corners of the blurred edge."""
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    masks = ((x - 30) ** 2 + (y - 34) ** 2 < 20**2).to(torch.uint8).expand(8, -1, -1)
    pictures = masks[:, None].double()
    warped, moved = elastic_deformation(pictures, seeded(), masks, sigma=6)
    assert moved is not None
    assert moved.dtype == torch.uint8
    assert ((warped[:, 0] > 0.5) != moved.bool()).double().mean() < 0.003
    assert (moved != masks).double().mean() > 0.02


# -- refusals --------------------------------------------------------------------------------------

P = torch.zeros(2, 3, 8, 8)


@pytest.mark.parametrize(
    "refused",
    [
        lambda: random_crop(P, 9, seeded()),
        lambda: random_crop(P, 0, seeded()),
        lambda: random_flip(P, seeded(), 1.5),
        lambda: PCAColour(P[:, :1]),
        lambda: PCAColour(P, sigma=-1),
        lambda: ten_crops(P, 9),
        lambda: scale_jitter(P, 12, 10, 8, seeded()),
        lambda: scale_jitter(P, 6, 10, 8, seeded()),
        lambda: affine_distortion(P, seeded(), shift=-1),
        lambda: elastic_deformation(P, seeded(), sigma=-1),
        lambda: elastic_deformation(P, seeded(), grid=1),
    ],
)
def test_bad_arguments_are_refused(refused: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"must|needs|fit"):
        refused()
