"""Dataclasses read from TOML tables, with one clear line for every mistake."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields
from difflib import get_close_matches
from typing import Any, TypeVar, get_args

T = TypeVar("T")
Vector = tuple[float, float, float]
Numbers = float | Vector


def nearest(name: object, names: Iterable[str]) -> str:
    """The most similar of ``names``, whatever ``name`` is; "none" if there are none."""
    found = get_close_matches(str(name), list(names), 1, 0.0)
    return found[0] if found else "none"


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def is_vector(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(map(is_number, value))


def _list_of(right: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and len(value) > 0 and all(map(right, value))


# A field's type -> what to call it, and whether a value read from TOML is of it.
READERS: dict[Any, tuple[str, Callable[[Any], bool]]] = {
    float: ("a number", is_number),
    int: ("a whole number", lambda value: type(value) is int),
    str: ("a text", lambda value: isinstance(value, str)),
    Numbers: ("a number or a list of three", lambda value: is_number(value) or is_vector(value)),
    Vector: ("a list of three numbers", is_vector),
    list[Any]: ("a list", _list_of(lambda value: True)),
    list[float]: ("a list of numbers", _list_of(is_number)),
    list[int]: ("a list of whole numbers", _list_of(lambda value: type(value) is int)),
    list[str]: ("a list of texts", _list_of(lambda value: isinstance(value, str))),
}


def read_table(cls: type[T], table: Mapping[str, Any], called: str) -> T:
    """``cls(**table)``, its fields checked against their types. Raises ValueError."""
    known = {field.name: field for field in fields(cls)}  # type: ignore[arg-type]
    for name, value in table.items():
        if name not in known:
            raise ValueError(f"{called} has no field {name!r}; nearest: {nearest(name, known)}")
        _check(name, value, known[name].type)
    for name, field in known.items():
        if name not in table and field.default is MISSING:
            raise ValueError(f"{called} needs {name}")
    return cls(**{name: _read(value, known[name].type) for name, value in table.items()})


def _check(name: str, value: Any, wanted: Any) -> None:
    if wanted is Any:
        return
    # An optional field is left out, never null: TOML has no null.
    optional = type(None) in get_args(wanted)
    described, right = READERS[get_args(wanted)[0] if optional else wanted]
    if not right(value):
        raise ValueError(f"{name} is {described}, not {value!r}")


def _read(value: Any, wanted: Any) -> Any:
    if wanted is float:
        return float(value)
    if wanted in (Numbers, Vector):
        return tuple(map(float, value)) if isinstance(value, list) else float(value)
    return value
