"""Hyperparameters per (algorithm, environment), each with its source."""

import re
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from agents.dqn import DQNConfig


@dataclass(frozen=True)
class Preset:
    """What differs from the algorithm's defaults, and how long to train."""

    total_steps: int
    source: str
    overrides: dict[str, Any] = field(default_factory=dict)
    n_envs: int = 1


_ZOO = "rl-baselines3-zoo, hyperparams"
_MUJOCO = {"learning_starts": 10_000}
_DDPG = {"gamma": 0.98, "buffer_size": 200_000, "learning_starts": 10_000}
_DDPG_SOURCE = f"{_ZOO}, but updates every step instead of after every episode"
_LOCOMOTION = r"(HalfCheetah|Hopper|Walker2d|Ant)-v[345]"
_ATARI = r"(ALE/\w+-v5|\w+NoFrameskip-v4)"

# (algorithm, full-match pattern of the environment id, preset); the first match wins.
_PRESETS: list[tuple[str, str, Preset]] = [
    (
        "sac",
        r"(bullet|mujoco)/PandaReach-v0",
        # Rewards are tenths: a temperature of 1 drowns them for thousands of steps.
        Preset(10_000, "ours", {"gamma": 0.95, "initial_temperature": 0.01}),
    ),
    (
        "a3c",
        r"CartPole-v[01]",
        Preset(
            500_000,
            "ours",
            {
                "n_steps": 20,
                "learning_rate_decay_steps": 500_000,
                "rmsprop_epsilon": 1e-5,
                "entropy_coefficient": 0.0,
                "max_grad_norm": 0.5,
            },
            n_envs=2,
        ),
    ),
    (
        "a3c",
        _ATARI,
        Preset(
            80_000_000,
            "Mnih et al. 2016, section 8",
            {"learning_rate_decay_steps": 80_000_000, "hidden_sizes": ()},
            n_envs=16,
        ),
    ),
    ("a2c", r"CartPole-v[01]", Preset(500_000, _ZOO, n_envs=8)),
    (
        "a2c",
        r"LunarLander-v[23]",
        Preset(
            200_000,
            _ZOO,
            {
                "gamma": 0.995,
                "learning_rate": 8.3e-4,
                "learning_rate_decay_steps": 200_000,
                "entropy_coefficient": 1e-5,
            },
            n_envs=8,
        ),
    ),
    (
        "a2c",
        _ATARI,
        Preset(
            10_000_000,
            _ZOO,
            {
                "entropy_coefficient": 0.01,
                "value_coefficient": 0.25,
                "epsilon_inside": True,
                "hidden_sizes": (),
            },
            n_envs=16,
        ),
    ),
    (
        "dqn",
        r"CartPole-v[01]",
        Preset(
            50_000,
            f"{_ZOO}, as of its benchmark",
            {
                "learning_rate": 2.3e-3,
                "batch_size": 64,
                "buffer_size": 100_000,
                "learning_starts": 1_000,
                "target_update_interval": 10,
                "train_freq": 256,
                "gradient_steps": 128,
                "exploration_steps": 8_000,
                "final_epsilon": 0.04,
                "hidden_sizes": (256, 256),
            },
        ),
    ),
    (
        "dqn",
        r"LunarLander-v[23]",
        Preset(
            100_000,
            f"{_ZOO}, as of its benchmark",
            {
                "learning_rate": 6.3e-4,
                "batch_size": 128,
                "buffer_size": 50_000,
                "learning_starts": 0,
                "target_update_interval": 250,
                "train_freq": 4,
                "gradient_steps": -1,
                "exploration_steps": 12_000,
                "final_epsilon": 0.1,
                "hidden_sizes": (256, 256),
            },
        ),
    ),
    (
        "dqn",
        _ATARI,
        Preset(
            50_000_000,
            "Mnih et al. 2015, extended data table 1",
            {k: v for k, v in asdict(DQNConfig.paper()).items() if v != asdict(DQNConfig())[k]},
        ),
    ),
    ("ddpg", r"Pendulum-v1", Preset(20_000, _DDPG_SOURCE, _DDPG)),
    ("ddpg", r"LunarLanderContinuous-v[23]", Preset(300_000, _DDPG_SOURCE, _DDPG)),
    ("ddpg", r"BipedalWalker-v3", Preset(1_000_000, _DDPG_SOURCE, _DDPG)),
    ("ddpg", r"HalfCheetahBulletEnv-v0", Preset(1_000_000, _ZOO, _DDPG)),
    ("ddpg", _LOCOMOTION, Preset(1_000_000, f"{_ZOO} of TD3", _MUJOCO)),
    ("sac", r"Pendulum-v1", Preset(20_000, _ZOO, {"learning_rate": 1e-3})),
    ("sac", _LOCOMOTION, Preset(1_000_000, _ZOO, _MUJOCO)),
    ("sac", r"Humanoid-v[345]", Preset(2_000_000, _ZOO, _MUJOCO)),
    ("sac", r"Swimmer-v[345]", Preset(1_000_000, _ZOO, _MUJOCO | {"gamma": 0.9999})),
    (
        "sac",
        r"HalfCheetahBulletEnv-v0",
        Preset(
            1_000_000,
            f"{_ZOO}, without its state-dependent exploration",
            {
                "learning_rate": 7.3e-4,
                "buffer_size": 300_000,
                "gamma": 0.98,
                "tau": 0.02,
                "train_freq": 8,
                "gradient_steps": 8,
                "learning_starts": 10_000,
                "hidden_sizes": (400, 300),
            },
        ),
    ),
]

_NO_PRESET = Preset(100_000, "no preset for this environment: the algorithm's defaults")


def find_preset(algorithm: str, env_id: str) -> Preset:
    """The preset for this pair, or the algorithm's defaults for 100,000 steps."""
    for name, pattern, preset in _PRESETS:
        if name == algorithm and re.fullmatch(pattern, env_id):
            return preset
    return _NO_PRESET if algorithm != "a3c" else replace(_NO_PRESET, n_envs=4)
