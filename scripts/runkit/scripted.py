"""Actions that need no training, for comparing physics: the same ones, played in several worlds."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box

STRIDE = 0.05  # m, that an action of 1 moves the tool by
BESIDE = 0.10  # m behind the object, where a push starts
ABOVE = 0.12  # m over the table, on the way there
LOW = 0.03  # m, the tool's height in a push at least
OVER, DOWN = 10, 20  # steps by which the tool is over the start, and down at it


def actions(env: gym.Env[Any, Any], steps: int, options: dict[str, Any]) -> list[np.ndarray]:
    """Up to ``steps`` actions. Where a tool is moved it goes to the goal, or pushes an object
    there; elsewhere actions swing smoothly through their space, or are random where they are no
    numbers, the same every time.

    The tool is steered by what is observed, so ``env`` is reset (seed 0, with ``options``) and
    played; where the actions are played afterwards, they are the same whatever is observed.
    """
    space = env.action_space
    if not isinstance(space, Box):
        space.seed(0)
        return [np.asarray(space.sample()) for _ in range(steps)]
    if not moves_a_tool(env):
        return swinging(space, steps)
    observation, _ = env.reset(seed=0, options=options)
    start, played = observation, []
    for step in range(steps):
        action = np.zeros(space.shape, space.dtype)
        action[:3] = np.clip(_way(start, observation, step) / STRIDE, -1, 1)
        action[3:] = -1.0  # fingers shut
        played.append(action)
        observation, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            break
    return played


def moves_a_tool(env: gym.Env[Any, Any]) -> bool:
    """Whether the first three actions move a tool whose position is observed first."""
    space = env.observation_space
    named = isinstance(space, gym.spaces.Dict) and "observation" in space.spaces
    return named and getattr(env.unwrapped, "control", None) == "end_effector"


def _way(start: dict[str, np.ndarray], now: dict[str, np.ndarray], step: int) -> np.ndarray:
    """From the tool to where it should be next."""
    tool, goal = now["observation"][:3], start["desired_goal"]
    thing = start["achieved_goal"]
    if np.allclose(thing, start["observation"][:3]):  # the tool itself has a goal
        return np.asarray(goal - tool)
    along = (goal - thing) * [1, 1, 0]
    along /= max(float(np.linalg.norm(along)), 1e-9)
    behind = np.array([*(thing - BESIDE * along)[:2], max(thing[2], LOW)])
    if step < OVER:
        return np.asarray([*behind[:2], ABOVE] - tool)
    if step < DOWN:
        return np.asarray(behind - tool)
    # At a fixed speed and height; what is pushed ends before the tool.
    left = goal - BESIDE / 3 * along - tool
    forward = max(0.0, float(left @ along))
    return np.asarray(min(forward, STRIDE / 3) * along + [0, 0, behind[2] - tool[2]])


def swinging(space: Box, steps: int) -> list[np.ndarray]:
    """Each number swings between its bounds (-1 and 1 where it has none) at a rate of its own."""
    low = np.where(np.isfinite(space.low), space.low, -1.0)
    high = np.where(np.isfinite(space.high), space.high, 1.0)
    rng = np.random.default_rng(0)
    rate, phase = rng.uniform(0.1, 0.4, space.shape), rng.uniform(0, 2 * np.pi, space.shape)
    waves = [(1 + np.sin(rate * step + phase)) / 2 for step in range(steps)]
    return [(low + (high - low) * wave).astype(space.dtype) for wave in waves]
