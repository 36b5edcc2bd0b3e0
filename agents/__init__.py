"""Reinforcement-learning agents, each written by hand from its paper, one file an agent."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from gymnasium.spaces import flatdim

from agents.a2c import A2C, A2CConfig
from agents.a3c import A3C, A3CConfig
from agents.agent import Agent
from agents.config import from_json
from agents.ddpg import DDPG, DDPGConfig
from agents.dqn import DQN, DQNConfig
from agents.failures import TrainingFailure
from agents.sac import SAC, SACConfig
from agents.spaces import UnsupportedSpaceError, space_from_json, space_to_json
from agents.state import StateError, check_like, load_state, save_state

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
    "check_agent",
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
        if state.keys() != {"algorithm", "config", "observation_space", "action_space", "agent"}:
            raise ValueError(f"it has {', '.join(state)}")
        spaces = _space(state["observation_space"]), _space(state["action_space"])
        config = config_from_json(state["algorithm"], state["config"])
        check_agent(state["agent"], state["algorithm"], *spaces, config)
        agent_type, _ = ALGORITHMS[state["algorithm"]]
        agent: Agent = agent_type(*spaces, config, device=device)
        agent.load_state_dict(state["agent"])
    except Exception as error:  # what is read may be anything, and so may what it leads to
        raise StateError(f"{folder} holds no agent that fits: {error}") from None
    return agent


def check_agent(
    state: Any, algorithm: str, observation_space: Any, action_space: Any, config: Any
) -> None:
    """Raises ValueError if such an agent is a large one, and ``state`` is not of that size.

    To be asked before it is made: a config may have come from a file and ask for any memory. No
    memory is claimed here. What fits may be made, and checks the state itself as it loads it.
    """
    # No layer has more weights than this on either side, if encoders of pictures are the Nature
    # CNN and end in 512.
    widest = max(512, *config.hidden_sizes, getattr(config, "lstm_size", 0))
    ends = flatdim(observation_space) + flatdim(action_space)
    layers = len(config.hidden_sizes) + 4
    if config.encoder == "nature_cnn" and (ends + widest * layers) * widest < 2**24:
        return  # nor are seconds spent on what is harmless: this imports torch._dynamo
    agent_type, _ = ALGORITHMS[algorithm]
    with torch.device("meta"):
        agent: Agent = agent_type(observation_space, action_space, config, device="meta")
    check_like(state, agent.state_dict())


def config_from_json(algorithm: str, values: Any) -> Any:
    """The config of ``algorithm`` from plain data; ValueError unless that is exactly one."""
    _, config_type = ALGORITHMS[algorithm]
    return from_json(config_type, values)


def _space(data: Any) -> Any:
    """``space_from_json``, which overlooks much, for data that may be forged."""
    space = space_from_json(data)
    if json.dumps(space_to_json(space), sort_keys=True) != json.dumps(data, sort_keys=True):
        raise ValueError(f"{space} is not as it was saved")
    return space
