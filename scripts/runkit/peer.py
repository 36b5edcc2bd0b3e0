"""Stable-Baselines3's agents with our hyperparameters, through its public API."""

from typing import Any

import numpy as np


def sb3_agent(algorithm: str, env: Any, overrides: dict[str, Any], seed: int) -> Any:
    """An untrained SB3 agent on the CPU.

    Args:
        algorithm: "sac" or "ddpg".
        env: what it trains in.
        overrides: our config's fields that differ from its defaults (see agents.presets).
        seed: of everything.

    """
    import stable_baselines3 as sb3

    kwargs = dict(overrides)
    if algorithm == "ddpg":
        from stable_baselines3.common.noise import NormalActionNoise

        size = env.action_space.shape
        kwargs["action_noise"] = NormalActionNoise(np.zeros(size), np.full(size, 0.1))
    agent_type = {"sac": sb3.SAC, "ddpg": sb3.DDPG}[algorithm]
    return agent_type("MlpPolicy", env, seed=seed, device="cpu", **kwargs)
