"""Checks of hyperparameters that all agents have."""

from collections.abc import Iterable
from typing import Any


def check(config: Any, positive: Iterable[str] = (), fractions: Iterable[str] = ()) -> None:
    """Raises ValueError naming the field unless all lie in (0, inf) and [0, 1] respectively.

    ``gradient_steps`` may also be -1, and ``hidden_sizes`` must hold positive widths.
    """
    for name in positive:
        if not getattr(config, name) > 0:
            raise ValueError(f"{name} must be positive, not {getattr(config, name)}")
    for name in fractions:
        if not 0 <= getattr(config, name) <= 1:
            raise ValueError(f"{name} must lie in [0, 1], not {getattr(config, name)}")
    if config.gradient_steps < 1 and config.gradient_steps != -1:
        raise ValueError(f"gradient_steps must be -1 or positive, not {config.gradient_steps}")
    if config.learning_starts < 0:
        raise ValueError(f"learning_starts must not be negative: {config.learning_starts}")
    if not config.hidden_sizes or min(config.hidden_sizes) < 1:
        raise ValueError(f"hidden_sizes must be positive, not {config.hidden_sizes}")
