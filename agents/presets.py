"""Hyperparameters per (algorithm, environment), each with its source."""

import re
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Preset:
    """What differs from the algorithm's defaults, and how long to train."""

    total_steps: int
    source: str
    overrides: dict[str, Any] = field(default_factory=dict)


_ZOO = "rl-baselines3-zoo, hyperparams"
_MUJOCO = {"learning_starts": 10_000}

# (algorithm, full-match pattern of the environment id, preset); the first match wins.
_PRESETS: list[tuple[str, str, Preset]] = [
    ("ddpg", r"(HalfCheetah|Hopper|Walker2d|Ant)-v[345]", Preset(1_000_000, _ZOO, _MUJOCO)),
    ("sac", r"Pendulum-v1", Preset(20_000, _ZOO, {"learning_rate": 1e-3})),
    ("sac", r"(HalfCheetah|Hopper|Walker2d|Ant)-v[345]", Preset(1_000_000, _ZOO, _MUJOCO)),
    ("sac", r"Humanoid-v[345]", Preset(2_000_000, _ZOO, _MUJOCO)),
    ("sac", r"Swimmer-v[345]", Preset(1_000_000, _ZOO, _MUJOCO | {"gamma": 0.9999})),
]

_NO_PRESET = Preset(100_000, "no preset for this environment: the algorithm's defaults")


def find_preset(algorithm: str, env_id: str) -> Preset:
    """The preset for this pair, or the algorithm's defaults for 100,000 steps."""
    for name, pattern, preset in _PRESETS:
        if name == algorithm and re.fullmatch(pattern, env_id):
            return preset
    return _NO_PRESET
