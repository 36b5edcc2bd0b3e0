"""A spec meets an environment: which parameters it draws there, checked before the first draw."""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from envs.robotics.parameters import Parameter, Value, check
from sim2real.spec import Entry, Spec, SpecError
from sim2real.tables import nearest


@dataclass(frozen=True)
class Bound:
    """One parameter of an environment, and the entry by which it is drawn."""

    parameter: Parameter
    entry: Entry

    @property
    def path(self) -> str:
        return self.parameter.path

    def draw(self, rng: np.random.Generator) -> Value:
        """A value of the parameter, as JSON has it."""
        return self.value(self.entry.distribution.sample(rng))

    def value(self, drawn: Any) -> Value:
        """What a draw makes of the nominal value; never of the value before."""
        if self.parameter.kind == "texture":
            return drawn  # type: ignore[no-any-return]
        result = self._clipped(self._operated(np.asarray(drawn)))
        if self.parameter.kind == "integer":
            return int(result.round())
        found: Value = result.tolist()
        return found

    def reach(self) -> tuple[np.ndarray, np.ndarray]:
        """The least and the greatest value that can come out, elementwise; of no texture."""
        with np.errstate(invalid="ignore"):
            # What is 0 stays 0, whatever it is scaled by: 0 x infinity is 0 here.
            ends = [
                self._clipped(np.nan_to_num(self._operated(end), posinf=np.inf, neginf=-np.inf))
                for end in self.entry.distribution.support()
            ]
        return np.minimum(*ends), np.maximum(*ends)

    def _operated(self, drawn: np.ndarray) -> np.ndarray:
        nominal = np.array(self.parameter.nominal)
        result: np.ndarray = drawn
        if self.entry.operation == "scale":
            result = nominal * drawn
        elif self.entry.operation == "add":
            result = nominal + drawn
        return result

    def _clipped(self, value: np.ndarray) -> np.ndarray:
        clip = self.entry.clip
        clipped: np.ndarray = value if clip is None else np.clip(value, *clip)
        return clipped


def bind(
    spec: Spec, parameters: Mapping[str, Parameter], unsupported: Mapping[str, str]
) -> tuple[Bound, ...]:
    """Every parameter that the spec draws. Raises SpecError.

    Args:
        parameters: what the environment can change, by path.
        unsupported: what it has but cannot change, and why, by path.

    """
    bound: dict[str, Bound] = {}
    for number, entry in enumerate(spec.entries, 1):
        where = f"{spec.name}, parameter {number} ({entry.path})"
        for path, reason in unsupported.items():
            if fnmatchcase(path, entry.path):
                raise SpecError(f"{where}: {path} cannot be changed here: {reason}")
        matched = [path for path in parameters if fnmatchcase(path, entry.path)]
        if not matched:
            near = nearest(entry.path, [*parameters, *unsupported])
            raise SpecError(f"{where}: the environment has no such parameter; nearest: {near}")
        for path in matched:
            if path in bound:
                raise SpecError(f"{where}: {path} is drawn by {bound[path].entry.path} already")
            bound[path] = Bound(parameters[path], entry)
            try:
                _check(bound[path])
            except ValueError as error:
                raise SpecError(f"{where}: {error}") from None
    return tuple(bound.values())


def _check(bound: Bound) -> None:
    """Raises ValueError unless every draw makes a value that the parameter can take."""
    parameter, entry = bound.parameter, bound.entry
    path, drawn = parameter.path, entry.distribution
    if entry.when in ("interval", "step") and not parameter.live:
        raise ValueError(f"{path} can only change before an episode: when is startup or reset")
    if parameter.kind == "texture" or drawn.textures:
        if parameter.kind != "texture" or not drawn.textures:
            raise ValueError(f"{path} is a {parameter.kind}: {_wanted(parameter)}")
        if entry.operation != "set" or entry.clip is not None:
            raise ValueError(f"{path} is a texture: it is set, without clip")
        for value in drawn.listed:
            check({path: parameter}, {path: value})
        return
    dimension = 3 if parameter.kind in ("vector", "colour") else 1
    if drawn.dimension != dimension and not (entry.operation == "scale" and drawn.dimension == 1):
        raise ValueError(f"{path} is a {parameter.kind}: {_wanted(parameter)}")
    if parameter.kind == "integer" and entry.operation != "scale" and not drawn.integral:
        raise ValueError(f"{path} is an integer: {_wanted(parameter)}")
    if entry.clip is not None and np.size(entry.clip[0]) not in (1, dimension):
        raise ValueError(f"{path} is a {parameter.kind}: clip has two numbers")
    low, high = bound.reach()
    if np.any(low < parameter.low) or np.any(high > parameter.high):
        raise ValueError(
            f"{path} could become {_text(low)} to {_text(high)}, but lies in "
            f"{parameter.low:g} to {parameter.high:g}: narrow the distribution or give clip"
        )


def _wanted(parameter: Parameter) -> str:
    return {
        "texture": "draw it from texture, or from a choice of textures",
        "number": "draw one number",
        "integer": "draw it from integers, or from a choice of them",
    }.get(parameter.kind, "draw lists of three numbers (or scale it by one)")


def _text(values: np.ndarray) -> str:
    return f"{values:g}" if values.ndim == 0 else str([float(f"{v:g}") for v in values])
