"""Actions that need no training, for comparing physics: the same ones, played in several worlds."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box

STRIDE = 0.05  # m, that an action of 1 moves the tool by
BESIDE = 0.09  # m behind the object, where a push starts
TOUCHING = 0.04  # m behind it, where the tool is while it pushes
ABOVE = 0.12  # m over the table, on the way there
LOW = 0.03  # m, the tool's height in a push at least
OVER, DOWN = 14, 22  # steps by which the tool is over the start, and down at it


def actions(
    env: gym.Env[Any, Any], steps: int, options: dict[str, Any] | None = None, seed: int = 0
) -> list[np.ndarray]:
    """Up to ``steps`` actions. Where a tool is moved it goes to the goal, or pushes an object
    there; elsewhere actions swing smoothly through their space, or are random where they are no
    numbers, the same every time.

    The tool is steered by what is observed, so ``env`` is reset (with ``seed`` and ``options``) and
    played; where the actions are played afterwards, they are the same whatever is observed.
    """
    space = env.action_space
    if not isinstance(space, Box):
        space.seed(0)
        return [np.asarray(space.sample()) for _ in range(steps)]
    if not moves_a_tool(env):
        return swinging(space, steps)
    observation, _ = env.reset(seed=seed, options=options)
    played = []
    for place in waypoints(observation, steps):
        action = steered(space, observation, place)
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


def steered(space: Box, observation: dict[str, np.ndarray], place: np.ndarray) -> np.ndarray:
    """The action that moves the tool towards ``place``, fingers shut."""
    action = np.full(space.shape, -1.0, space.dtype)
    action[:3] = np.clip((place - observation["observation"][:3]) / STRIDE, -1, 1)
    return action


def waypoints(start: dict[str, np.ndarray], steps: int) -> np.ndarray:
    """Where the tool should be after each step, [steps, 3] in metres, from a first observation.

    Straight to the goal if the tool itself has one. Else over a place behind the object, down to
    it, and along to where the object is at its goal.
    """
    tool, thing, goal = start["observation"][:3], start["achieved_goal"], start["desired_goal"]
    if np.allclose(thing, tool):
        corners, times = [tool, goal], [0, OVER]
    else:
        along = (goal - thing) * [1, 1, 0]
        along /= max(float(np.linalg.norm(along)), 1e-9)
        height = max(float(thing[2]), LOW)
        behind = np.array([*(thing - BESIDE * along)[:2], height])
        over = np.array([*behind[:2], ABOVE])
        end = np.array([*(goal - TOUCHING * along)[:2], height])
        corners, times = [tool, over, behind, end], [0, OVER, DOWN, steps]
    after = np.arange(1, steps + 1)
    parts = [np.interp(after, times, [corner[k] for corner in corners]) for k in range(3)]
    return np.stack(parts, axis=1)


def swinging(space: Box, steps: int) -> list[np.ndarray]:
    """Each number swings between its bounds (-1 and 1 where it has none) at a rate of its own."""
    low = np.where(np.isfinite(space.low), space.low, -1.0)
    high = np.where(np.isfinite(space.high), space.high, 1.0)
    rng = np.random.default_rng(0)
    rate, phase = rng.uniform(0.1, 0.4, space.shape), rng.uniform(0, 2 * np.pi, space.shape)
    waves = [(1 + np.sin(rate * step + phase)) / 2 for step in range(steps)]
    return [(low + (high - low) * wave).astype(space.dtype) for wave in waves]
