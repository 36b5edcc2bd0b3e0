"""Surfaces as values: a few numbers that say exactly which pixels a texture has."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import cv2
import numpy as np

Kind = Literal["flat", "gradient", "checker", "noise", "stripes", "dots", "photo"]
KINDS: tuple[Kind, ...] = get_args(Kind)
PHOTOS = ("brick", "grass", "gravel")  # that come with scikit-image


@dataclass(frozen=True)
class Texture:
    """A texture.

    kind: flat, gradient, checker and noise are those of Tobin et al. (2017); stripes, dots and
        photo (a photograph tinted from ``first`` to ``second``) are for what is not trained on.
    first, second: its two colours, RGB in 0 to 1; flat has the first alone.
    cells: checks, stripes, dots or blotches along an edge.
    angle: of a gradient or of stripes, in radians.
    seed: of the noise; which photograph.
    """

    kind: Kind = "flat"
    first: tuple[float, float, float] = (0.7, 0.7, 0.7)
    second: tuple[float, float, float] = (0.3, 0.3, 0.3)
    cells: int = 8
    angle: float = 0.0
    seed: int = 0

    def pixels(self, size: int = 64) -> np.ndarray:
        """The picture, uint8 [size, size, 3]."""
        first, second = np.array(self.first), np.array(self.second)
        mix = self._mix(size)[..., None]
        colours: np.ndarray = (255 * (first + mix * (second - first))).round()
        return colours.clip(0, 255).astype(np.uint8)

    def _mix(self, size: int) -> np.ndarray:
        """How much of the second colour there is, 0 to 1, [size, size]."""
        y, x = (np.mgrid[:size, :size] + 0.5) / size
        mix: np.ndarray
        if self.kind == "flat":
            return np.zeros((size, size))
        if self.kind == "checker":
            mix = ((x * self.cells).astype(int) + (y * self.cells).astype(int)) % 2.0
            return mix
        if self.kind == "noise":
            rng = np.random.default_rng(self.seed)
            coarse = rng.random((self.cells, self.cells)).astype(np.float32)
            mix = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_LINEAR)
            return mix
        if self.kind == "dots":
            u, v = (x * self.cells) % 1 - 0.5, (y * self.cells) % 1 - 0.5
            mix = (u * u + v * v < 0.09).astype(float)
            return mix
        if self.kind == "photo":
            return _photo(PHOTOS[self.seed % len(PHOTOS)], size)
        along = x * np.cos(self.angle) + y * np.sin(self.angle)
        along = (along - along.min()) / np.ptp(along)
        mix = along if self.kind == "gradient" else (along * self.cells).astype(int) % 2.0
        return mix

    def as_dict(self) -> dict[str, Any]:
        """For JSON; ``from_dict`` makes an equal one."""
        return dict(vars(self))

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Texture":
        """Raises ValueError naming the field that is wrong."""
        unknown = set(fields) - set(cls.__dataclass_fields__)
        if unknown:
            raise ValueError(f"a texture has no {unknown.pop()!r}")
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in fields.items()
        }
        texture = cls(**values)
        if texture.kind not in KINDS:
            raise ValueError(f"a texture's kind is one of {', '.join(KINDS)}, not {texture.kind!r}")
        if not 1 <= texture.cells <= 64:
            raise ValueError(f"a texture has 1 to 64 cells, not {texture.cells}")
        for colour in (texture.first, texture.second):
            if len(colour) != 3 or not all(0 <= part <= 1 for part in colour):
                raise ValueError(f"a colour is three numbers in 0 to 1, not {list(colour)}")
        return texture


def _photo(name: str, size: int) -> np.ndarray:
    import skimage.data  # only here: few scenes show one

    grey = getattr(skimage.data, name)()
    brightness = cv2.resize(grey, (size, size), interpolation=cv2.INTER_AREA).astype(float)
    mix: np.ndarray = (brightness - brightness.min()) / np.ptp(brightness)
    return mix
