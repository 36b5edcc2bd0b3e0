"""Reinforcement-learning agents, each written by hand from its paper, one file an agent."""

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from agents.a2c import A2C, A2CConfig
from agents.a3c import A3C, A3CConfig
from agents.agent import Agent
from agents.ddpg import DDPG, DDPGConfig
from agents.dqn import DQN, DQNConfig
from agents.failures import TrainingFailure
from agents.sac import SAC, SACConfig
from agents.spaces import UnsupportedSpaceError, space_from_json, space_to_json
from agents.state import StateError, load_state, save_state

__all__ = [
    "A2C",
    "A3C",
    "ALGORITHMS",
    "DDPG",
    "DQN",
    "SAC",
    "A2CConfig",
    "A3CConfig",
    "Agent",
    "DDPGConfig",
    "DQNConfig",
    "SACConfig",
    "StateError",
    "TrainingFailure",
    "UnsupportedSpaceError",
    "config_from_json",
    "load",
    "save",
]

# Name on the command line -> (agent, its config).
ALGORITHMS: dict[str, tuple[Any, Any]] = {
    "a2c": (A2C, A2CConfig),
    "a3c": (A3C, A3CConfig),
    "ddpg": (DDPG, DDPGConfig),
    "dqn": (DQN, DQNConfig),
    "sac": (SAC, SACConfig),
}


def save(agent: Agent, folder: Path) -> None:
    """Writes an agent (weights, config, spaces) to ``folder``; ``load`` reads it back."""
    save_state(
        folder,
        {
            "algorithm": agent.algorithm,
            "config": asdict(agent.config),
            "observation_space": space_to_json(agent.observation_space),
            "action_space": space_to_json(agent.action_space),
            "agent": agent.state_dict(),
        },
    )


def load(path: str | Path, device: str = "cpu") -> Agent:
    """Rebuilds the agent that a run directory (or its ``policy`` folder) holds.

    Executes nothing from the files. Raises StateError if they are missing or damaged.
    """
    folder = Path(path)
    folder = folder / "policy" if (folder / "policy").is_dir() else folder
    state = load_state(folder)
    try:
        agent_type, _ = ALGORITHMS[state["algorithm"]]
        agent: Agent = agent_type(
            space_from_json(state["observation_space"]),
            space_from_json(state["action_space"]),
            config_from_json(state["algorithm"], state["config"]),
            device=device,
        )
        agent.load_state_dict(state["agent"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise StateError(f"{folder} holds no agent that fits: {error}") from None
    return agent


def config_from_json(algorithm: str, values: dict[str, Any]) -> Any:
    """The config of ``algorithm`` from plain data; unknown or missing fields raise ValueError."""
    _, config_type = ALGORITHMS[algorithm]
    names = {f.name for f in fields(config_type)}
    if set(values) != names:
        raise ValueError(f"config fields {sorted(set(values) ^ names)} are unknown or missing")
    as_fields: dict[str, Any] = {}
    for name, value in values.items():
        as_fields[name] = tuple(value) if isinstance(value, list) else value
    return config_type(**as_fields)
