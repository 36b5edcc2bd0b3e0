"""How good a segmentation is: the errors of the ISBI-2012 membrane challenge, and mean IoU.

The challenge (Arganda-Carreras et al. 2015, "Crowdsourcing the creation of image segmentation
algorithms for connectomics") judged by three errors, from naive to meaningful: of pixels, of pairs
of pixels (Rand: two cells merged by a leak of one pixel are a grave error), and of topology
(warping: a membrane drawn one pixel beside the truth is none at all). 1 is cell, 0 is membrane;
cells are connected through 4 neighbours, membranes through 8.
"""

from collections import deque

import numpy as np
import torch
from torch import Tensor

from supervised.vision.separation import number_cells


def mean_iou(predicted: Tensor, labels: Tensor, classes: int) -> float:
    """Intersection over union of each class over all pixels of [N, H, W], averaged over the
    classes that occur in either.
    """
    p, q = predicted.flatten().long(), labels.flatten().long()
    counts = torch.bincount(p * classes + q, minlength=classes**2).view(classes, classes).double()
    both = counts.diagonal()
    either = counts.sum(0) + counts.sum(1) - both
    occurs = either > 0
    return float((both[occurs] / either[occurs]).mean())


def pixel_error(predicted: Tensor, labels: Tensor) -> float:
    """The share of pixels that differ. Any shape."""
    return float((predicted != labels).double().mean())


def rand_error(predicted: Tensor, labels: Tensor) -> float:
    """1 - F score of pairs of pixels that lie in the same cell; masks [H, W].

    As in the challenge only the pixels count that are cell in the truth, and those among them that
    the prediction calls membrane are each a segment of their own. A pixel makes a pair with itself.
    """
    segments = number_cells(predicted)[labels > 0].long()
    cells = number_cells(labels)[labels > 0].long()
    lone = int((segments == 0).sum())
    inside = segments > 0
    pairs = cells[inside] * (segments.amax() + 1) + segments[inside]

    def squares(numbers: Tensor) -> float:
        """The sum of squares of how often each number comes."""
        return float(torch.bincount(numbers).double().square().sum())

    together = squares(pairs) + lone
    together_predicted = squares(segments[inside]) + lone
    together_true = squares(cells)
    return 1 - 2 * together / (together_predicted + together_true)


def warping_error(predicted: Tensor, labels: Tensor) -> float:
    """The share of pixels that still differ when the truth was bent towards the prediction as far
    as its topology allows; masks [H, W].

    Jain et al. 2010, "Boundary learning by optimization with topological constraints": as long as
    there is one, a pixel that differs and is simple is flipped, in order of discovery. A pixel is
    simple if its flip neither joins, splits, makes nor removes a cell or a piece of membrane. The
    greedy order makes this an upper bound.
    """
    height, width = labels.shape
    stride = width + 2
    # A border of membrane around both, which agrees.
    target, warped = (
        bytearray(np.pad(mask.numpy().astype(np.uint8), 1).tobytes())
        for mask in (predicted, labels)
    )
    # Counter-clockwise from the right.
    around = (1, 1 - stride, -stride, -1 - stride, -1, stride - 1, stride, stride + 1)
    differ = np.frombuffer(target, np.uint8) != np.frombuffer(warped, np.uint8)
    queue = deque(np.flatnonzero(differ).tolist())
    while queue:
        place = queue.popleft()
        if target[place] == warped[place]:
            continue
        code = 0
        for bit, step in enumerate(around):
            code |= warped[place + step] << bit
        if SIMPLE[code]:
            warped[place] ^= 1
            # Its neighbours may have become simple.
            queue.extend(n for step in around if target[n := place + step] != warped[n])
    left = np.frombuffer(target, np.uint8) != np.frombuffer(warped, np.uint8)
    return int(left.sum()) / (height * width)


def _is_simple(code: int) -> bool:
    """Whether a pixel with such neighbours (bit i: neighbour i is cell, counted around from the
    right) is simple: its cell neighbours form one piece that touches it (Yokoi et al. 1975).
    """
    x = [code >> i & 1 for i in range(8)]
    return sum(x[i] - x[i] * x[i + 1] * x[(i + 2) % 8] for i in (0, 2, 4, 6)) == 1


SIMPLE = tuple(_is_simple(code) for code in range(256))
