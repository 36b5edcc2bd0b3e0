"""How good a segmentation is: the errors of the ISBI-2012 membrane challenge, and mean IoU.

The challenge (Arganda-Carreras et al. 2015, "Crowdsourcing the creation of image segmentation
algorithms for connectomics") judged by three errors, from naive to meaningful: of pixels, of pairs
of pixels (Rand: two cells merged by a leak of one pixel are a grave error), and of topology
(warping: a membrane drawn one pixel beside the truth is none at all). 1 is cell, 0 is membrane;
cells are connected through 4 neighbours, membranes through 8.
"""

from collections.abc import Sequence
from heapq import heapify, heappop, heappush

import cv2
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


def dice_error(predicted: Tensor, labels: Tensor) -> float:
    """1 - F score of the pixels that are cell: what the challenge calls pixel error. Any shape."""
    both = ((predicted > 0) & (labels > 0)).sum()
    return float(1 - 2 * both / ((predicted > 0).sum() + (labels > 0).sum()))


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


def warping_error(probability: Tensor, labels: Tensor, threshold: float = 0.5) -> float:
    """The share of pixels that still differ when the truth was bent towards the prediction as far
    as its topology allows, and would split a cell or merge two.

    The challenge counts no other error of topology: not a spot of membrane within a cell, nor a
    cell that is missing. How the truth was bent makes this an upper bound.

    Args:
        probability: of cell, or a mask [H, W].
        labels: the true mask [H, W].
        threshold: a pixel is predicted to be cell where the probability is larger.

    """
    target = np.pad(probability > threshold, 1)
    warped = bent(labels, probability, threshold)
    _, cells = cv2.connectedComponents(warped, connectivity=4)
    _, membranes = cv2.connectedComponents(1 - warped, connectivity=8)
    left = np.argwhere(warped != target)
    wrong = sum(_splits_or_merges(cells, membranes, place) for place in left)
    return wrong / labels.numel()


# The neighbours, counter-clockwise from the right: rows and columns.
AROUND = np.array([(0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1)])


def bent(labels: Tensor, probability: Tensor, threshold: float = 0.5) -> np.ndarray:
    """The truth, bent: uint8 [H + 2, W + 2], with a border of membrane around it.

    Jain et al. 2010, "Boundary learning by optimization with topological constraints": as long as
    there is one, a pixel that differs and is simple is flipped; as in the challenge, the one whose
    probability is furthest from the threshold first. A pixel is simple if its flip neither joins,
    splits, makes nor removes a cell or a piece of membrane.
    """
    height, width = labels.shape
    target = np.pad(probability > threshold, 1).tobytes()
    warped = bytearray(np.pad(labels > 0, 1).tobytes())
    doubt = np.pad(-(probability.double() - threshold).abs(), 1).ravel().tolist()
    around = [int(row * (width + 2) + column) for row, column in AROUND]
    queue = [(doubt[n], n) for n, (x, y) in enumerate(zip(target, warped, strict=True)) if x != y]
    heapify(queue)
    while queue:
        _, place = heappop(queue)
        if target[place] == warped[place]:
            continue
        code = 0
        for bit, step in enumerate(around):
            code |= warped[place + step] << bit
        if SIMPLE[code]:
            warped[place] ^= 1
            for step in around:  # they may have become simple
                if target[n := place + step] != warped[n]:
                    heappush(queue, (doubt[n], n))
    return np.frombuffer(bytes(warped), np.uint8).reshape(height + 2, width + 2)


def _splits_or_merges(cells: np.ndarray, membranes: np.ndarray, place: np.ndarray) -> bool:
    """Whether the flip of a pixel does; both are numbered parts [H, W], 0 where the other is.

    A flip to membrane parts the cell around it into as many pieces as touch the pixel, but joins
    two of them again for every two parts of membrane that it connects (as the Euler number says).
    """
    rows, columns = (AROUND + place).T
    near = cells[rows, columns]
    if cells[tuple(place)] == 0:
        return len(set(near[::2].tolist()) - {0}) > 1
    connected = set(membranes[rows, columns].tolist()) - {0}
    return pieces((near > 0).tolist()) > len(connected)


def pieces(x: Sequence[int]) -> int:
    """Of how many pieces a pixel's cell neighbours are, counting only pieces that touch it through
    4 neighbours, and 0 if all are cell; x: the 8 of AROUND (Yokoi et al. 1975).
    """
    return sum(x[i] - x[i] * x[i + 1] * x[(i + 2) % 8] for i in (0, 2, 4, 6))


# By neighbourhood (bit i: neighbour i is cell), whether its pixel is simple.
SIMPLE = tuple(pieces([code >> i & 1 for i in range(8)]) == 1 for code in range(256))
