"""Stable-Baselines3's agents with our hyperparameters, through its public API."""

from typing import Any

import numpy as np

# Our field -> SB3's argument, for those that mean the same.
_SAME = {
    "learning_rate": "learning_rate",
    "batch_size": "batch_size",
    "gamma": "gamma",
    "tau": "tau",
    "buffer_size": "buffer_size",
    "learning_starts": "learning_starts",
    "train_freq": "train_freq",
    "gradient_steps": "gradient_steps",
    "target_update_interval": "target_update_interval",
    "initial_epsilon": "exploration_initial_eps",
    "final_epsilon": "exploration_final_eps",
    "max_grad_norm": "max_grad_norm",
    "n_steps": "n_steps",
    "gae_lambda": "gae_lambda",
    "entropy_coefficient": "ent_coef",
    "value_coefficient": "vf_coef",
    "rmsprop_epsilon": "rms_prop_eps",
    "normalize_advantages": "normalize_advantage",
    "temperature": "ent_coef",
    "actor_learning_rate": "learning_rate",
}


def sb3_agent(algorithm: str, env: Any, config: Any, total_steps: int, seed: int) -> Any:
    """An untrained SB3 agent on the CPU with the hyperparameters of our ``config``.

    Args:
        algorithm: "dqn", "ddpg", "sac" or "a2c".
        env: what it trains in.
        config: our config of that algorithm; options that SB3 lacks must be at their defaults.
        total_steps: environment steps that schedules are relative to.
        seed: of everything.

    """
    import stable_baselines3 as sb3
    from stable_baselines3.common.noise import NormalActionNoise

    kwargs = {
        theirs: getattr(config, ours) for ours, theirs in _SAME.items() if hasattr(config, ours)
    }
    sizes = list(config.hidden_sizes)
    net_arch: Any = {"pi": sizes, "vf": sizes} if algorithm == "a2c" else sizes
    if algorithm == "dqn":
        kwargs["exploration_fraction"] = config.exploration_steps / total_steps
    elif algorithm == "ddpg":
        size = env.action_space.shape
        kwargs["action_noise"] = NormalActionNoise(
            np.zeros(size), np.full(size, config.noise_sigma)
        )
    elif algorithm == "a2c" and config.learning_rate_decay_steps:
        kwargs["learning_rate"] = lambda left: left * config.learning_rate
    agent_type = {"dqn": sb3.DQN, "ddpg": sb3.DDPG, "sac": sb3.SAC, "a2c": sb3.A2C}[algorithm]
    policy_kwargs = {"net_arch": net_arch}
    policy = "MlpPolicy"
    return agent_type(policy, env, seed=seed, device="cpu", policy_kwargs=policy_kwargs, **kwargs)
