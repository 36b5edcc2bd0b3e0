"""Checks of hyperparameters that several agents have."""

from collections.abc import Iterable
from typing import Any

from supervised.backbones import BACKBONES


def check(
    config: Any,
    positive: Iterable[str] = (),
    fractions: Iterable[str] = (),
    not_negative: Iterable[str] = (),
) -> None:
    """Raises ValueError naming the field unless all lie in (0, inf], [0, 1] or [0, inf].

    ``gradient_steps``, where there is one, may also be -1, and ``hidden_sizes`` must hold
    positive widths.
    """
    for name in positive:
        if not getattr(config, name) > 0:
            raise ValueError(f"{name} must be positive, not {getattr(config, name)}")
    for name in fractions:
        if not 0 <= getattr(config, name) <= 1:
            raise ValueError(f"{name} must lie in [0, 1], not {getattr(config, name)}")
    for name in not_negative:
        if not getattr(config, name) >= 0:
            raise ValueError(f"{name} must not be negative: {getattr(config, name)}")
    steps = getattr(config, "gradient_steps", 1)
    if steps < 1 and steps != -1:
        raise ValueError(f"gradient_steps must be -1 or positive, not {steps}")
    if any(width < 1 for width in config.hidden_sizes):
        raise ValueError(f"hidden_sizes must be positive, not {config.hidden_sizes}")
    if config.encoder not in BACKBONES:
        raise ValueError(f"encoder must be one of {', '.join(BACKBONES)}, not {config.encoder!r}")
