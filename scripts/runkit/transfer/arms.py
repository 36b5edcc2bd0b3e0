"""The arms of the study: what a localiser is trained on, and how much of it there is.

An arm's key is its name on the command line:

    full              everything random
    none              nothing random but where things lie
    no_noise, no_camera, no_distractors, no_textures, no_lights    everything but that
    no_jitter         as full, but pictures are learned from as they were drawn
    no_recolouring    the same of their colours only: what textures-N has to be compared with
    textures-N        only N textures in all
    images-N          only N pictures, looked at as often in all
    paper_head        as full, with the paper's head instead of the map
    ceiling_dev, ceiling_near, ceiling_far    the target itself

Where camera, textures or lights are not to be random, jitter does not make them so.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from runkit.errors import UserError

from sim2real import domains
from sim2real.domains import Domain

FIXED = (
    "full",
    "none",
    "no_noise",
    "no_camera",
    "no_distractors",
    "no_textures",
    "no_lights",
    "no_jitter",
    "no_recolouring",
    "paper_head",
    "ceiling_dev",
    "ceiling_near",
    "ceiling_far",
)
COUNTED = ("textures", "images")
CEILINGS = {
    "ceiling_dev": "target_dev",
    "ceiling_near": "target_sealed_near",
    "ceiling_far": "target_sealed_far",
}
DISTRACTORS = "task.distractors"
STILL = {"shift": False, "colour": False, "shade": False}


@dataclass(frozen=True)
class Arm:
    """An arm: its key, and what it learns from."""

    key: str
    domain: Domain
    images: int | None = None  # fewer than the study's
    paper_head: bool = False  # instead of the study's
    shift: bool = True  # whether pictures are jittered so
    colour: bool = True
    shade: bool = True

    @property
    def ceiling(self) -> bool:
        return self.key in CEILINGS


def read(key: str, ledger: Path, by: str) -> Arm:
    """The arm of that key; UserError if there is none. A sealed ceiling's reading is noted."""
    name, _, number = key.partition("-")
    if key in CEILINGS:
        return Arm(key, domains.unseal(CEILINGS[key], ledger, "ceiling", by))
    if name in COUNTED and number.isdecimal() and 1 <= int(number) <= 10_000_000:
        return _counted(name, key, int(number))
    if key not in FIXED:
        listed = ", ".join([*FIXED, *(f"{name}-N" for name in COUNTED)])
        raise UserError(f"there is no arm {key!r}; there is: {listed}")
    source = domains.read("source_dr")
    made: dict[str, Callable[[], Arm]] = {
        "full": lambda: Arm(key, source),
        "none": lambda: Arm(key, domains.read("source"), **STILL),
        "no_camera": lambda: Arm(key, source.without("camera"), shift=False),
        "no_textures": lambda: Arm(key, source.without("textures"), colour=False),
        "no_lights": lambda: Arm(key, source.without("lights"), shade=False),
        "no_jitter": lambda: Arm(key, source, **STILL),
        "no_recolouring": lambda: Arm(key, source, colour=False),
        "no_distractors": lambda: Arm(key, source.fixed("alone", {DISTRACTORS: 0})),
        "paper_head": lambda: Arm(key, source, paper_head=True),
    }
    return made.get(key, lambda: Arm(key, source.without(key.removeprefix("no_"))))()


def _counted(name: str, key: str, number: int) -> Arm:
    source = domains.read("source_dr")
    if name == "images":
        return Arm(key, source, images=number)
    return Arm(key, pooled(source, number), colour=False)


def pooled(domain: Domain, count: int) -> Domain:
    """The same with so many different textures in all."""

    def limited(parameter: dict[str, Any]) -> dict[str, Any]:
        distribution = parameter["distribution"]
        if distribution["kind"] != "texture":
            return parameter
        return {**parameter, "distribution": {**distribution, "pool": count}}

    parameters = tuple(limited(parameter) for parameter in domain.parameters)
    return replace(domain, name=f"{domain.name}/textures-{count}", parameters=parameters)
