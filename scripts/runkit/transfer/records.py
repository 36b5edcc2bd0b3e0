"""Errors of trained localisers in every domain, a JSON file a run.

    {arm, target, seed, command, options, figures, wall_seconds, machine, versions, images,
     scores: {domain: {case: [error, …]}}, constant: the same of one that always says the mean,
     factors: {domain: {factor: [error, …]}}}

Errors are in tenths of a millimetre, picture by picture and in the same order for every run, so
that runs can be compared in pairs.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from runkit.errors import UserError

from agents.state import parse_json

UNIT = 1e-4  # metres
DOMAINS = ("source", "source_dr", "target_dev", "target_sealed_near", "target_sealed_far")
TARGETS = DOMAINS[2:]  # whose factors are tried
# Arm -> the domain that it knows, of which one factor at a time is another.
FACTOR_ARMS = {"none": "source", "full": "source_dr"}


@dataclass(frozen=True)
class Score:
    """Of one run: errors in metres by domain and case, and by the domain of a swapped factor."""

    arm: str
    target: str
    seed: int
    scores: dict[str, dict[str, np.ndarray]]
    constant: dict[str, dict[str, np.ndarray]]
    factors: dict[str, dict[str, np.ndarray]]
    record: dict[str, Any]  # all of the file


def tenths(distances: np.ndarray) -> list[int]:
    """Metres as the file has them."""
    return [int(x) for x in (distances / UNIT).round()]


def read(out: Path) -> list[Score]:
    """All scores of a folder, in the order of their names; UserError for a damaged one."""
    found = []
    for file in sorted((out / "scores").glob("*.json")):
        try:
            record = parse_json(file.read_text())
            score = Score(
                arm=record["arm"],
                target=record["target"],
                seed=record["seed"],
                scores=_metres(record["scores"]),
                constant=_metres(record["constant"]),
                factors=_metres(record["factors"]),
                record=record,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{file} is damaged: {error}") from None
        found.append(score)
    return found


def _metres(nested: dict[str, dict[str, list[int]]]) -> dict[str, dict[str, np.ndarray]]:
    return {
        outer: {inner: np.array(values, float) * UNIT for inner, values in row.items()}
        for outer, row in nested.items()
    }
