"""What is randomized, as data: a TOML file with one table for every parameter.

[[parameter]]
path = "body.*.mass"      # a glob; each parameter that it matches draws for itself
distribution = {kind = "log_uniform", low = 0.5, high = 2.0}
operation = "scale"       # set, scale or add: what the draw does to the nominal value
when = "reset"            # startup, reset, interval (with every = steps) or step
clip = [0.1, 5.0]         # the result is kept within
group = "dynamics"        # by which it can be left out (Spec.without)
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from sim2real.distributions import Distribution, read_distribution
from sim2real.tables import is_number, is_vector, nearest, read_table

Operation = Literal["set", "scale", "add"]
When = Literal["startup", "reset", "interval", "step"]

FOLDER = Path(__file__).parent / "specs"


class SpecError(ValueError):
    """A spec that cannot be meant; one line that says where, and what would be right."""


@dataclass(frozen=True)
class Entry:
    """One table of a spec: the parameters that ``path`` matches, and how they are drawn."""

    path: str
    distribution: Distribution
    operation: Operation = "set"
    when: When = "reset"
    every: int = 0
    clip: tuple[Any, Any] | None = None
    group: str = ""


@dataclass(frozen=True)
class _Table:
    """An entry as TOML has it."""

    path: str
    distribution: Any
    operation: str = "set"
    when: str = "reset"
    every: int = 0
    clip: list[Any] | None = None
    group: str = ""


@dataclass(frozen=True)
class Spec:
    """A randomization: its name, and its entries in the file's order."""

    name: str
    entries: tuple[Entry, ...]

    @classmethod
    def load(cls, source: "Spec | Path | str") -> "Spec":
        """A spec itself, a file's, or one of ``names()``. Raises SpecError."""
        if isinstance(source, Spec):
            return source
        file = Path(source)
        if isinstance(source, str) and file.suffix != ".toml":
            if source not in names():
                raise SpecError(f"there is no spec {source!r}; nearest: {nearest(source, names())}")
            file = FOLDER / f"{source}.toml"
        try:
            text = file.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise SpecError(f"cannot read the spec {file}: {error}") from None
        return cls.parse(text, file.stem)

    @classmethod
    def parse(cls, text: str, name: str = "spec") -> "Spec":
        """Of a file's text. Raises SpecError."""
        try:
            tables = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise SpecError(f"{name} is no TOML: {error}") from None
        return cls.from_tables(tables, name)

    @classmethod
    def from_tables(cls, tables: Mapping[str, Any], name: str = "spec") -> "Spec":
        """Of what a TOML file holds. Raises SpecError."""
        for key in tables:
            if key != "parameter":
                raise SpecError(f"{name} has tables called parameter only, not {key!r}")
        entries = tables.get("parameter", [])
        if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
            raise SpecError(f"{name}: each parameter is a table [[parameter]]")
        return cls(name, tuple(_entry(table, name, i) for i, table in enumerate(entries, 1)))

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups there are, in the file's order."""
        return tuple(dict.fromkeys(entry.group for entry in self.entries if entry.group))

    def without(self, *groups: str) -> "Spec":
        """The same less these groups: an ablation. Raises SpecError for a group it lacks."""
        for group in groups:
            if group not in self.groups:
                raise SpecError(
                    f"{self.name} has no group {group!r}; nearest: {nearest(group, self.groups)}"
                )
        kept = tuple(entry for entry in self.entries if entry.group not in groups)
        return replace(self, name=" - ".join((self.name, *groups)), entries=kept)


def names() -> tuple[str, ...]:
    """The specs that come with this package."""
    return tuple(sorted(file.stem for file in FOLDER.glob("*.toml")))


def _entry(table: dict[str, Any], spec: str, number: int) -> Entry:
    where = f"{spec}, parameter {number} ({table.get('path', 'no path')})"
    try:
        read = read_table(_Table, table, "a parameter")
        _one_of("operation", read.operation, get_args(Operation))
        _one_of("when", read.when, get_args(When))
        if (read.when == "interval") != ("every" in table) or read.every < ("every" in table):
            raise ValueError('every is the number of steps, 1 or more, of when = "interval" alone')
        return Entry(
            path=read.path,
            distribution=read_distribution(read.distribution),
            operation=read.operation,  # type: ignore[arg-type]
            when=read.when,  # type: ignore[arg-type]
            every=1 if read.when == "step" else read.every,
            clip=None if read.clip is None else _clip(read.clip),
            group=read.group,
        )
    except ValueError as error:
        raise SpecError(f"{where}: {error}") from None


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"there is no {name} {value!r}; nearest: {nearest(value, allowed)}")


def _clip(clip: list[Any]) -> tuple[Any, Any]:
    if len(clip) != 2 or not (all(map(is_number, clip)) or all(map(is_vector, clip))):
        raise ValueError(f"clip is [low, high], two numbers or two lists of three, not {clip!r}")
    low, high = clip
    if any(a > b for a, b in zip(*(c if isinstance(c, list) else [c] for c in clip), strict=True)):
        raise ValueError(f"clip's low {low} is above its high {high}: the range is reversed")
    return low, high
