"""Augmentation: pictures as they might also have been, by the recipes of the vision papers.

    pictures = random_flip(random_crop(pictures, 28, generator), generator)

Everything takes floating-point pictures [B, C, H, W] and draws, from the ``torch.Generator`` that
it is given and nothing else, anew for each picture of the batch. Pixel values mean whatever the
caller wants, but for ``PCAColour``.

- LeCun et al. 1998, section III-A: ``affine_distortion``
- Krizhevsky et al. 2012, section 4.1: ``random_crop``, ``random_flip``, ``PCAColour``, and
  ``ten_crops`` for the test
- Simonyan and Zisserman 2014, section 3.1: ``scale_jitter``
- Ronneberger et al. 2015, section 3.1: ``affine_distortion``, ``elastic_deformation``
- He et al. 2015, section 4.2: ``random_crop`` with a margin of 4

OpenCV resizes here, which it does exactly, but does not warp: its ``remap`` and ``warpAffine``
round places to 1/32 of a pixel.
"""

import math
from collections.abc import Callable
from typing import Literal

import cv2
import torch
import torch.nn.functional as F
from torch import Generator, Tensor


def random_crop(
    pictures: Tensor, size: int, generator: Generator, margin: int = 0, fill: float = 0.0
) -> Tensor:
    """Windows [B, C, size, size], each place as likely as any other.

    ``margin`` pixels of value ``fill`` are put around the pictures first. ValueError if there is
    no such window.
    """
    padded = F.pad(pictures, (margin,) * 4, value=fill)
    n, _, height, width = padded.shape
    if not 1 <= size <= min(height, width):
        raise ValueError(f"crops of {size} pixels do not fit into {height}x{width}")
    top = torch.randint(height - size + 1, (n, 1), generator=generator)
    left = torch.randint(width - size + 1, (n, 1), generator=generator)
    rows, columns = top + torch.arange(size), left + torch.arange(size)
    picture = torch.arange(n)[:, None, None]
    # The indices stand around the slice, so the channels come last.
    crops: Tensor = padded[picture, :, rows[:, :, None], columns[:, None, :]].movedim(3, 1)
    return crops.contiguous()


def random_flip(pictures: Tensor, generator: Generator, probability: float = 0.5) -> Tensor:
    """Left and right exchanged, with this probability."""
    if not 0 <= probability <= 1:
        raise ValueError(f"probability must lie in [0, 1], not {probability}")
    flip = torch.rand(len(pictures), 1, 1, 1, generator=generator) < probability
    return torch.where(flip, pictures.flip(3), pictures)


class PCAColour:
    """Light of another colour and strength (Krizhevsky et al. 2012, section 4.1).

    To all pixels of a picture it adds [p1, p2, p3] [a1 l1, a2 l2, a3 l3]^T, where p and l are the
    eigenvectors and eigenvalues of the pixels' covariance over the training set, and a ~ N(0,
    sigma^2) is drawn once for the picture. Since the l are variances, it matters which unit pixels
    have; the paper does not tell its own. Between 0 and 1 the effect is the faint one it shows.

    Args:
        pictures: the training set, [N, 3, H, W] in [0, 1].
        sigma: standard deviation of a (the paper's 0.1).

    """

    def __init__(self, pictures: Tensor, sigma: float = 0.1) -> None:
        if pictures.ndim != 4 or pictures.shape[1] != 3:
            raise ValueError(f"pictures must be [N, 3, H, W], not {tuple(pictures.shape)}")
        if not sigma >= 0:
            raise ValueError(f"sigma must not be negative: {sigma}")
        pixels = pictures.movedim(1, 0).flatten(1).double()
        self.sigma = sigma
        self.eigenvalues, self.eigenvectors = torch.linalg.eigh(pixels.cov())  # columns: p_i

    def __call__(self, pictures: Tensor, generator: Generator) -> Tensor:
        a = self.sigma * torch.randn(len(pictures), 3, generator=generator, dtype=torch.float64)
        shift = (a * self.eigenvalues) @ self.eigenvectors.T
        moved: Tensor = pictures + shift.to(pictures.dtype)[:, :, None, None]
        return moved


def ten_crops(pictures: Tensor, size: int) -> Tensor:
    """The four corners, the centre, and their reflections: [10, B, C, size, size]."""
    height, width = pictures.shape[-2:]
    if not 1 <= size <= min(height, width):
        raise ValueError(f"crops of {size} pixels do not fit into {height}x{width}")
    bottom, right = height - size, width - size
    places = [(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)]
    crops = torch.stack([pictures[..., t : t + size, s : s + size] for t, s in places])
    return torch.cat([crops, crops.flip(-1)])


def ten_crop_probabilities(
    logits: Callable[[Tensor], Tensor], pictures: Tensor, size: int
) -> Tensor:
    """The mean over the ten crops of the softmax of ``logits(crop)``, [B, classes]."""
    return torch.stack([logits(crop).softmax(1) for crop in ten_crops(pictures, size)]).mean(0)


def scale_jitter(
    pictures: Tensor, smallest: int, largest: int, size: int, generator: Generator
) -> Tensor:
    """Objects of other sizes: windows [B, C, size, size] of pictures rescaled so that their shorter
    side has S pixels, S uniform from ``smallest`` to ``largest`` (VGG: 256, 512 and 224).
    """
    if not 1 <= size <= smallest <= largest:
        raise ValueError(f"needs size <= smallest <= largest, not {size}, {smallest}, {largest}")
    sides = torch.randint(smallest, largest + 1, (len(pictures),), generator=generator)
    crops = [
        random_crop(resize(picture[None], side), size, generator)
        for picture, side in zip(pictures, sides.tolist(), strict=True)
    ]
    return torch.cat(crops)


def resize(pictures: Tensor, side: int) -> Tensor:
    """Rescaled, with the same proportions, to ``side`` pixels along the shorter side.

    Linear between pixels where that enlarges, and the mean over the area of each new pixel where
    it reduces.
    """
    height, width = pictures.shape[-2:]
    scale = side / min(height, width)
    shape = (round(width * scale), round(height * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    planes = pictures.flatten(0, 1).numpy(force=True)
    new = [torch.from_numpy(cv2.resize(plane, shape, interpolation=how)) for plane in planes]
    resized: Tensor = torch.stack(new).unflatten(0, pictures.shape[:2])
    return resized.to(pictures.device)


def affine_distortion(
    pictures: Tensor,
    generator: Generator,
    shift: float = 0.0,
    rotation: float = 0.0,
    scale: float = 0.0,
    squeeze: float = 0.0,
    shear: float = 0.0,
    fill: float | None = 0.0,
) -> Tensor:
    """Planar affine distortions about the centre, each amount uniform between + and - its bound.

    Args:
        pictures: [B, C, H, W].
        generator: of the amounts.
        shift: pixels, horizontally and vertically.
        rotation: degrees, positive counterclockwise.
        scale: larger by the factor e^s.
        squeeze: wider by the factor e^s, and less high by it.
        shear: horizontally, pixels a pixel of height.
        fill: value outside the picture; None mirrors the picture there.

    LeCun et al. 1998 name the distortions (all but rotation) and no amounts.
    """
    bounds = (shift, shift, math.radians(rotation), scale, squeeze, shear)
    if min(bounds) < 0:
        raise ValueError(f"bounds must not be negative: {bounds}")
    amounts = 2 * torch.rand(len(pictures), 6, generator=generator, dtype=torch.float64) - 1
    dx, dy, angle, s, q, k = (amounts * torch.tensor(bounds, dtype=torch.float64)).unbind(1)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    # Where the new picture's pixels come from: the inverse of what is done to what it shows.
    rotate = torch.stack([cos, -sin, sin, cos], 1).view(-1, 2, 2)
    shears = torch.stack([zero + 1, -k, zero, zero + 1], 1).view(-1, 2, 2)
    scales = torch.stack([(-s - q).exp(), zero, zero, (-s + q).exp()], 1).view(-1, 2, 2)
    x, y = _places(pictures)
    moved = torch.stack([x - dx[:, None, None], y - dy[:, None, None]], -1)
    source = torch.einsum("bij,bhwj->bhwi", scales @ shears @ rotate, moved)
    return warp(pictures, source, fill=fill)


def elastic_deformation(
    pictures: Tensor,
    generator: Generator,
    masks: Tensor | None = None,
    sigma: float = 10.0,
    grid: int = 3,
) -> tuple[Tensor, Tensor | None]:
    """Tissue, pulled at: pictures and their masks under the same smooth deformation.

    Displacements from N(0, sigma^2) pixels at ``grid`` x ``grid`` points, from corner to corner of
    the picture, bicubic in between. Pictures are linear between pixels; a mask keeps its classes,
    those of the nearest pixels. What comes from outside is mirrored.

    Args:
        pictures: [B, C, H, W].
        generator: of the displacements.
        masks: [B, H, W] of any type, or None.
        sigma: pixels (Ronneberger et al. 2015: 10 at pictures of 512).
        grid: points a side (3).

    """
    if not (sigma >= 0 and grid >= 2):
        raise ValueError(f"sigma must not be negative, grid at least 2: {sigma}, {grid}")
    n, _, height, width = pictures.shape
    coarse = sigma * torch.randn(n, 2, grid, grid, generator=generator, dtype=torch.float64)
    fine = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)
    source = torch.stack(_places(pictures), -1) + fine.movedim(1, -1)
    warped = warp(pictures, source, fill=None)
    if masks is None:
        return warped, None
    # Class numbers up to 2^24 are exact in single precision.
    moved = warp(masks[:, None].float(), source, fill=None, mode="nearest")[:, 0]
    return warped, moved.to(masks.dtype)


def warp(
    pictures: Tensor,
    source: Tensor,
    fill: float | None,
    mode: Literal["bilinear", "nearest"] = "bilinear",
) -> Tensor:
    """New pictures whose pixel [b, h, w] is the old one at ``source`` [B, H, W, 2], (x, y).

    Places are in pixels from the centre of the picture. Outside, pictures have the value ``fill``;
    None mirrors them at the centres of their outermost pixels.
    """
    height, width = pictures.shape[-2:]
    half = torch.tensor([(width - 1) / 2, (height - 1) / 2], dtype=source.dtype)
    place = (source / half.clamp(min=0.5)).to(pictures.dtype)
    padding = "reflection" if fill is None else "zeros"
    level = fill or 0.0
    return level + F.grid_sample(pictures - level, place, mode, padding, align_corners=True)


def _places(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """x and y of all pixels from the centre of the picture, each [1, H, W]."""
    height, width = pictures.shape[-2:]
    y = torch.arange(height, dtype=torch.float64) - (height - 1) / 2
    x = torch.arange(width, dtype=torch.float64) - (width - 1) / 2
    y, x = torch.meshgrid(y, x, indexing="ij")
    return x[None], y[None]
