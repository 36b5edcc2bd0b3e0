"""Worlds to learn from and worlds to be tested in, and a seal on the latter.

A domain says which pictures there are: an engine, the environment's arguments, and what of it is
random, in a TOML file of ``sim2real/domains``:

    sealed = false
    engine = "bullet"
    spec = "localise_bullet"       # a randomization spec to begin with, if any
    [kwargs]                       # of TableLocalise
    distractors = "shapes"
    [[parameter]]                  # as in a spec; and "engine", for what only one of them has
    path = "task.occluded"
    group = "distractors"
    …

``read`` gives those to train and tune on, and refuses the sealed ones: what is measured in a domain
that somebody tuned for says nothing of the next one. ``unseal`` is for the last measurement. It
writes down every time, by whom and what for, and refuses a domain that is no longer the one that
was sealed, by the digest in ``sealed.json``.
"""

import fcntl
import hashlib
import json
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, get_args

import gymnasium as gym

from envs import make_env
from sim2real.randomization import DomainRandomization
from sim2real.spec import FOLDER as SPECS
from sim2real.spec import Spec

FOLDER = Path(__file__).parent / "domains"
ENGINES = ("bullet", "mujoco")
Factor = Literal["renderer", "textures", "camera", "lights", "objects", "noise"]
FACTORS: tuple[Factor, ...] = get_args(Factor)
Purpose = Literal["score", "ceiling"]


class DomainError(ValueError):
    """There is no such domain, or its file is wrong."""


class SealedError(DomainError):
    """A sealed domain was asked for what it is not for, or is not the one that was sealed."""


@dataclass(frozen=True)
class Domain:
    """A distribution of pictures.

    name: of its file; of a derived one, how it was derived.
    sealed: whether it is for the last measurement only. What is derived from it is as well.
    engine: "bullet" or "mujoco".
    kwargs: of TableLocalise, without those that a study chooses (target, size of the picture).
    parameters: the tables of a randomization spec.
    """

    name: str
    sealed: bool
    engine: str
    kwargs: dict[str, Any] = field(default_factory=dict)
    parameters: tuple[dict[str, Any], ...] = ()

    @property
    def sha256(self) -> str:
        """Of all that decides which pictures there are."""
        content = [self.engine, self.kwargs, self.parameters]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def spec(self) -> Spec:
        """What is random in this engine; SpecError where it is wrong."""
        mine = [p for p in self.parameters if p.get("engine", self.engine) == self.engine]
        tables = [{k: v for k, v in p.items() if k != "engine"} for p in mine]
        return Spec.from_tables({"parameter": tables}, self.name)

    def make(self, target: str, size: int, **kwargs: Any) -> gym.Env[Any, Any]:
        """The environment: pictures of ``size`` pixels, in which to find ``target``."""
        chosen = {**self.kwargs, **kwargs, "target": target, "image_size": size}
        env = make_env(f"{self.engine}/TableLocalise-v0", **chosen)
        return DomainRandomization(env, self.spec())

    def changed(self, name: str, *tables: dict[str, Any]) -> "Domain":
        """The same with these tables in the place of those of the same paths."""
        paths = {table["path"] for table in tables}
        kept = [p for p in self.parameters if p["path"] not in paths]
        return replace(self, name=f"{self.name}/{name}", parameters=(*kept, *tables))

    def fixed(self, name: str, values: Mapping[str, Any]) -> "Domain":
        """The same with parameters that have one value each."""
        return self.changed(name, *(constant(path, value) for path, value in values.items()))

    def without(self, group: str) -> "Domain":
        """The same with a group of parameters as they are in the scene; DomainError if none is."""
        kept = tuple(p for p in self.parameters if p.get("group") != group)
        if len(kept) == len(self.parameters):
            groups = ", ".join(sorted({p.get("group", "-") for p in self.parameters}))
            raise DomainError(f"{self.name} has no group {group!r}; there is: {groups}")
        return replace(self, name=f"{self.name}/without-{group}", parameters=kept)


def constant(path: str, value: Any) -> dict[str, Any]:
    """The table of a parameter that has one value."""
    return {"path": path, "distribution": {"kind": "constant", "value": value}}


def swapped(source: Domain, target: Domain, factor: Factor) -> Domain:
    """``source`` with one factor as it is in ``target``: which one makes the difference?

    The renderer is the engine; objects are the distractors, their shapes and number; the others
    are the parameters of that group.
    """
    if factor not in FACTORS:
        raise DomainError(f"there is no factor {factor!r}; there is: {', '.join(FACTORS)}")
    name, sealed = f"{source.name}/{factor}-of-{target.name}", source.sealed or target.sealed
    if factor == "renderer":
        return replace(source, name=name, sealed=sealed, engine=target.engine)
    group = "distractors" if factor == "objects" else factor
    kept = tuple(p for p in source.parameters if p.get("group") != group)
    taken = tuple(p for p in target.parameters if p.get("group") == group)
    kwargs = target.kwargs if factor == "objects" else source.kwargs
    return replace(source, name=name, sealed=sealed, kwargs=kwargs, parameters=(*kept, *taken))


# -- files -----------------------------------------------------------------------------------------


def names(folder: Path | None = None) -> list[str]:
    """Of the domains that there are: in this package, or in a folder."""
    return sorted(file.stem for file in (folder or FOLDER).glob("*.toml"))


def read(name: str, folder: Path | None = None) -> Domain:
    """A domain to train or tune on; SealedError for a sealed one."""
    domain = _parse(name, folder)
    if domain.sealed:
        raise SealedError(
            f"{name} is sealed: it is for the final measurement, and nothing may be trained or "
            "tuned on it; use target_dev"
        )
    return domain


@dataclass(frozen=True)
class Listed:
    """What may be told of a domain without opening it."""

    name: str
    sealed: bool
    engine: str
    sha256: str


def catalogue(folder: Path | None = None) -> list[Listed]:
    """All domains, sealed or not."""
    parsed = [_parse(name, folder) for name in names(folder)]
    return [Listed(d.name, d.sealed, d.engine, d.sha256) for d in parsed]


@dataclass(frozen=True)
class Reading:
    """One time that a sealed domain was opened."""

    domain: str
    sha256: str
    purpose: Purpose
    by: str  # which model, or what else
    when: str  # UTC, ISO 8601


def unseal(
    name: str, ledger: Path, purpose: Purpose, by: str, folder: Path | None = None
) -> Domain:
    """Any domain for the final measurement, or to train the ceiling; a sealed one is noted.

    The ceiling is the error of a network trained in the target domain itself: no result of a
    method, but what a method could reach at best.

    Args:
        name: of the domain.
        ledger: the file in which readings are counted, a line of JSON each.
        purpose: "score" or "ceiling".
        by: what is measured.
        folder: of the domains' files; None: this package's.

    Raises:
        SealedError: the domain is not the one that was sealed.

    """
    domain = _parse(name, folder)
    if not domain.sealed:
        return domain
    seals = (folder or FOLDER) / "sealed.json"
    digests: dict[str, str] = json.loads(seals.read_text())
    if digests.get(name) != domain.sha256:
        raise SealedError(
            f"{name} was changed after it was sealed: its digest is {domain.sha256}, and "
            f"{digests.get(name)} stands in {seals}"
        )
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    reading = Reading(name, domain.sha256, purpose, by, when)
    ledger.parent.mkdir(parents=True, exist_ok=True)
    with open(ledger, "a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)  # two measurements at once are two lines
        stream.write(json.dumps(vars(reading)) + "\n")
    return domain


def readings(ledger: Path) -> list[Reading]:
    """Every time that a sealed domain was opened, in order."""
    if not ledger.exists():
        return []
    return [Reading(**json.loads(line)) for line in ledger.read_text().splitlines()]


def _parse(name: str, folder: Path | None) -> Domain:
    file = (folder or FOLDER) / f"{name}.toml"
    if name not in names(folder):
        near = get_close_matches(name, names(folder), 1, 0.0)
        hint = f"; nearest: {near[0]}" if near else ""
        raise DomainError(f"there is no domain {name!r}{hint}")
    try:
        content = tomllib.loads(file.read_text())
    except tomllib.TOMLDecodeError as error:
        raise DomainError(f"{file}: {error}") from None
    types = {"sealed": bool, "engine": str, "spec": str, "kwargs": dict, "parameter": list}
    _check(file, content, types)
    if content["engine"] not in ENGINES:
        raise DomainError(f"{file}: engine must be one of {', '.join(ENGINES)}")
    tables: list[dict[str, Any]] = list(content.get("parameter", []))
    if "spec" in content:
        Spec.load(content["spec"])  # says what is wrong with it
        shared = tomllib.loads((SPECS / f"{content['spec']}.toml").read_text())
        tables = [*shared["parameter"], *tables]
    domain = Domain(
        name, content["sealed"], content["engine"], content.get("kwargs", {}), tuple(tables)
    )
    domain.spec()  # for what is wrong in it
    return domain


def _check(file: Path, content: dict[str, Any], types: dict[str, type]) -> None:
    if unknown := content.keys() - types:
        raise DomainError(f"{file}: unknown {', '.join(sorted(unknown))}")
    for key, type_ in types.items():
        if key not in content and key in ("sealed", "engine"):
            raise DomainError(f"{file}: {key} is missing")
        if type(content.get(key, type_())) is not type_:
            raise DomainError(f"{file}: {key} must be a {type_.__name__}")
