"""Checks of hyperparameters that several agents have, and of those that come from a file."""

from collections.abc import Iterable
from dataclasses import fields
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from supervised.backbones import BACKBONES

T = TypeVar("T")
MAX_LAYERS = 100
MAX_SIZE = 2**40  # of any whole number; what is larger overflows in places, instead of failing
MAX_ENCODER_WIDTH = 4.0


def check(
    config: Any,
    positive: Iterable[str] = (),
    fractions: Iterable[str] = (),
    not_negative: Iterable[str] = (),
) -> None:
    """Raises ValueError naming the field unless all lie in (0, inf], [0, 1] or [0, inf].

    No whole number may be larger than MAX_SIZE.
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
    for field in fields(config):
        value = getattr(config, field.name)
        parts = value if isinstance(value, tuple) else (value,)
        if any(isinstance(part, int) and part > MAX_SIZE for part in parts):
            raise ValueError(f"{field.name} must be at most 2^40, not {value}")
    steps = getattr(config, "gradient_steps", 1)
    if steps < 1 and steps != -1:
        raise ValueError(f"gradient_steps must be -1 or positive, not {steps}")
    if any(width < 1 for width in config.hidden_sizes):
        raise ValueError(f"hidden_sizes must be positive, not {config.hidden_sizes}")
    if len(config.hidden_sizes) > MAX_LAYERS:
        raise ValueError(f"hidden_sizes must be at most {MAX_LAYERS}")
    backbone_and_width(config.encoder)


def backbone_and_width(encoder: str) -> tuple[str, float]:
    """'resnet18:0.25' -> the backbone's name and the factor on its channels, 1 if there is none.

    Raises ValueError if there is no such backbone, or the factor is none.
    """
    name, colon, factor = encoder.partition(":")
    if name not in BACKBONES:
        raise ValueError(f"encoder must be one of {', '.join(BACKBONES)}, not {name!r}")
    try:
        width = float(factor) if colon else 1.0
    except ValueError:
        width = 0.0
    if not 0 < width <= MAX_ENCODER_WIDTH:
        raise ValueError(
            f"encoder may be followed by a width of at most {MAX_ENCODER_WIDTH}, like "
            f"{name}:0.25, and is {encoder!r}"
        )
    return name, width


def from_json(type_: type[T], values: Any, without: Iterable[str] = ()) -> T:
    """A dataclass from plain data.

    Raises ValueError if fields are unknown, missing (but for ``without``) or of another type.
    """
    names = {field.name for field in fields(type_)} - set(without)  # type: ignore[arg-type]
    if not isinstance(values, dict) or set(values) != names:
        differ = sorted(set(values) ^ names) if isinstance(values, dict) else sorted(names)
        raise ValueError(f"config fields {differ} are unknown or missing")
    hints = get_type_hints(type_)
    for name, value in values.items():
        if not _is_a(value, hints[name]):
            raise ValueError(f"{name} must not be {value!r}")
    return type_(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def _is_a(value: Any, hint: Any) -> bool:
    """Whether plain data is of a field's type; an int will do for a float."""
    if get_origin(hint) is Literal:
        return any(type(value) is type(arg) and value == arg for arg in get_args(hint))
    if get_origin(hint) in (Union, UnionType):
        return any(_is_a(value, part) for part in get_args(hint))
    if get_origin(hint) is tuple:
        return isinstance(value, list) and all(_is_a(part, get_args(hint)[0]) for part in value)
    return type(value) is hint or (hint is float and type(value) is int)
