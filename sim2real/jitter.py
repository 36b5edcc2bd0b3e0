"""Pictures as they might also have been, made from those that are there: randomization for nothing.

A camera that turns a little sees the same world moved across its picture, and the object stays
where it is: pictures are shifted, and positions are not. Colours say nothing: their channels change
places and strengths. And what light a shadow takes is another in every renderer, if it draws them
at all: dark blots lie over all that is in a picture.
"""

import torch
from torch import Generator, Tensor

from supervised.fit import Batch

BLOTS = 2  # at most, of each picture


def jitter(batch: Batch, generator: Generator, shift: int, colour: float, shade: float) -> Batch:
    """Pictures uint8 [B, 3, S, S], positions [B, 3] and places [B, P, 2] of a batch, jittered.

    Args:
        batch: pictures, positions, places.
        generator: of all that is drawn.
        shift: most pixels that a picture moves by, either way; its edges are drawn out.
        colour: most that a channel is strengthened or weakened by; 0: channels stay as they are.
        shade: most of the light that a blot takes away.

    """
    pictures, positions, places = batch
    if colour:
        pictures = _recoloured(pictures, generator, colour)
    if shade:
        pictures = _shaded(pictures, generator, shade)
    if shift:
        by = torch.randint(-shift, shift + 1, (len(pictures), 2), generator=generator)
        pictures, places = _shifted(pictures, by), places + by[:, None] / pictures.shape[-1]
    return pictures, positions, places


def _shifted(pictures: Tensor, by: Tensor) -> Tensor:
    """Moved ``by`` [B, 2] pixels, right and down."""
    n, _, height, width = pictures.shape
    columns = (torch.arange(width) - by[:, :1]).clamp(0, width - 1)
    rows = (torch.arange(height) - by[:, 1:]).clamp(0, height - 1)
    picture = torch.arange(n)[:, None, None]
    # The indices stand around the slice, so the channels come last.
    moved: Tensor = pictures[picture, :, rows[:, :, None], columns[:, None, :]].movedim(3, 1)
    return moved


def _recoloured(pictures: Tensor, generator: Generator, colour: float) -> Tensor:
    """Channels in another order, each times a factor."""
    n, channels = pictures.shape[:2]
    order = torch.rand(n, channels, generator=generator).argsort(1)
    factors = 1 + colour * (2 * torch.rand(n, channels, 1, 1, generator=generator) - 1)
    shuffled = pictures[torch.arange(n)[:, None], order]
    return (shuffled * factors).round().clamp(0, 255).to(torch.uint8)


def _shaded(pictures: Tensor, generator: Generator, shade: float) -> Tensor:
    """Under ellipses of all sizes, each as dark as it happens to be."""
    n, _, height, width = pictures.shape

    def drawn(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, BLOTS, 1, 1, generator=generator)

    x = torch.arange(width) / width - drawn(0, 1)
    y = torch.arange(height)[:, None] / height - drawn(0, 1)
    turn, long, across = drawn(0, torch.pi), drawn(-4, -1).exp(), drawn(0.2, 1)
    u, v = x * turn.cos() + y * turn.sin(), y * turn.cos() - x * turn.sin()
    within = (u / long).square() + (v / (across * long)).square() < 1
    there = torch.rand(n, BLOTS, 1, 1, generator=generator) < 0.6
    light = 1 - drawn(0, shade) * (within & there)
    return (pictures * light.amin(1, keepdim=True)).to(torch.uint8)
