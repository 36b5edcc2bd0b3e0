"""U-Net's pixel weights: classes balanced, and the gaps between touching cells heavy.

Ronneberger, Fischer & Brox 2015 (see unet.py), section 3:

    (2)  w(x) = w_c(x) + w_0 exp(-(d_1(x) + d_2(x))^2 / (2 sigma^2))

d_1 and d_2 are the distances of x to the nearest and the second nearest cell. The second term is
added in the background only, as figure 3d shows it. Distances over 6 sigma count as infinite,
which changes w by less than 2e-7. "Cells" are the connected parts of a mask (``number_cells``).
"""

import cv2
import numpy as np
import torch
from torch import Tensor


def class_weights(labels: Tensor, classes: int) -> Tensor:
    """w_c [K]: what makes all classes that occur weigh the same in eq. 1, and the mean weight 1."""
    counts = torch.bincount(labels.flatten().long(), minlength=classes).float()
    return labels.numel() / (counts.clamp(min=1) * (counts > 0).sum())


def weight_map(
    labels: Tensor, cells: Tensor, balance: Tensor, w0: float = 10.0, sigma: float = 5.0
) -> Tensor:
    """Eq. 2 for one picture: w [H, W], float32.

    Args:
        labels: classes of the pixels [H, W].
        cells: [H, W], 0 for background and one number for each cell.
        balance: w_c of each class [K].
        w0: how much the narrowest gap weighs.
        sigma: in pixels.

    """
    weights = balance.float()[labels.long()]
    if w0 == 0:
        return weights
    nearest, second = _two_nearest(cells.numpy(), reach=int(np.ceil(6 * sigma)))
    gap = w0 * np.exp(-((nearest + second) ** 2) / (2 * sigma**2))
    return weights + torch.from_numpy(gap).float() * (cells == 0)


def _two_nearest(cells: np.ndarray, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """d_1 and d_2 [H, W]: the distances to the nearest and the second nearest cell, infinite
    where they exceed ``reach``.
    """
    nearest = np.full(cells.shape, np.inf)
    second = np.full(cells.shape, np.inf)
    for cell in np.unique(cells[cells > 0]):
        rows, columns = np.nonzero(cells == cell)
        box = tuple(slice(max(i.min() - reach, 0), i.max() + reach + 1) for i in (rows, columns))
        others = (cells[box] != cell).astype(np.uint8)
        distance = cv2.distanceTransform(others, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        distance = np.where(distance > reach, np.inf, distance)
        second[box] = np.minimum(second[box], np.maximum(nearest[box], distance))
        nearest[box] = np.minimum(nearest[box], distance)
    return nearest, second


def number_cells(labels: Tensor) -> Tensor:
    """The connected parts (4 neighbours) of each class above 0 in labels [H, W], numbered from 1;
    class 0 is background and stays 0. int32 [H, W].
    """
    cells = np.zeros(labels.shape, np.int32)
    found = 0
    for class_ in labels.unique().tolist():
        if class_ == 0:
            continue
        mask = (labels == class_).numpy().astype(np.uint8)
        count, parts = cv2.connectedComponents(mask, connectivity=4)
        cells += np.where(parts > 0, parts + found, 0).astype(np.int32)
        found += count - 1
    return torch.from_numpy(cells)
