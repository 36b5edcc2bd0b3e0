"""Each task can be done, in both engines, by a few lines that look at the numbers."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import envs  # noqa: F401  (registers the ids)
from envs.robotics import objects
from envs.robotics.registration import ENGINES

Observation = dict[str, np.ndarray]


def towards(observation: Observation, place: np.ndarray) -> np.ndarray:
    """The action that brings the tool nearer to ``place``."""
    action: np.ndarray = np.clip((place - observation["observation"][:3]) / 0.05, -1, 1)
    return action


def reach(observation: Observation, step: int) -> np.ndarray:
    return towards(observation, observation["desired_goal"])


def grasp(observation: Observation, step: int) -> np.ndarray:
    """Over the object, down, shut, and carry."""
    thing, goal, tip = (
        observation["achieved_goal"],
        observation["desired_goal"],
        observation["observation"][:3],
    )
    if step < 12:
        return np.append(towards(observation, np.array([*thing[:2], 0.1])), 1)
    if step < 22:
        return np.append(towards(observation, np.array([*thing[:2], 0.015])), 1)
    if step < 28:
        return np.append(np.zeros(3), -1)
    return np.append(towards(observation, tip + goal - thing), -1)


def push(observation: Observation, step: int) -> np.ndarray:
    """Over the table to behind the object, down, and through it."""
    thing, goal, tip = (
        observation["achieved_goal"],
        observation["desired_goal"],
        observation["observation"][:3],
    )
    way = (goal - thing)[:2]
    distance = np.linalg.norm(way)
    if distance < 0.02:
        return np.zeros(3)
    ahead = way / distance
    start = np.array([*(thing[:2] - 0.08 * ahead), 0.025])
    behind = (thing[:2] - tip[:2]) @ ahead
    aside = np.linalg.norm(thing[:2] - tip[:2] - behind * ahead)
    if tip[2] < 0.06 and aside < 0.02 and behind > 0.0:
        return towards(observation, np.array([*(tip[:2] + 0.04 * ahead), 0.025]))
    if np.linalg.norm(tip[:2] - start[:2]) > 0.015:
        return towards(observation, np.array([*start[:2], 0.12]))
    return towards(observation, start)


def successes(
    env_id: str,
    policy: Callable[[Observation, int], np.ndarray],
    episodes: int = 10,
    **kwargs: Any,
) -> int:
    """Of episodes of twice the usual length: lines of code need no hurry."""
    env = gym.make(env_id, max_episode_steps=100, **kwargs)
    done = 0
    for seed in range(episodes):
        observation, info = env.reset(seed=seed)
        for step in range(100):
            observation, _, _, _, info = env.step(policy(observation, step))
        done += info["is_success"]
    env.close()
    return done


@pytest.mark.parametrize("engine", ENGINES)
def test_reach(engine: str) -> None:
    assert successes(f"{engine}/PandaReach-v0", reach) == 10


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("target", ["cube", "rectangular_prism"])
def test_grasp(engine: str, target: str) -> None:
    assert successes(f"{engine}/PandaGrasp-v0", grasp, target=target) >= 9


@pytest.mark.parametrize("engine", ENGINES)
def test_push(engine: str) -> None:
    assert successes(f"{engine}/PandaPush-v0", push, episodes=40) >= 30


@pytest.mark.parametrize("engine", ENGINES)
def test_doing_nothing_is_no_success(engine: str) -> None:
    for task, size in (("Push", 3), ("Grasp", 4)):
        still = np.zeros(size)
        assert successes(f"{engine}/Panda{task}-v0", lambda _, __, a=still: a) <= 2  # type: ignore[misc]


@pytest.mark.parametrize("name", objects.SHAPES)
def test_every_object_stands_on_the_table(name: str) -> None:
    """Where it is put it stays: neither in the table nor over it."""
    for engine in ENGINES:
        env: Any = gym.make(f"{engine}/PandaPush-v0", target=name).unwrapped
        env.reset(seed=0)
        before = env.engine.pose("object")[0]
        env.engine.step(100)
        np.testing.assert_allclose(env.engine.pose("object")[0], before, atol=1e-3)
        env.close()


@pytest.mark.parametrize("engine", ENGINES)
def test_goals_lie_where_the_task_says(engine: str) -> None:
    for task in ("Reach", "Push", "Grasp"):
        env: Any = gym.make(f"{engine}/Panda{task}-v0").unwrapped
        goals = np.array([env.reset(seed=s)[0]["desired_goal"] for s in range(60)])
        low, high = np.array(env.task.low), np.array(env.task.high)
        assert (goals >= low).all()
        assert (goals <= high).all()
        spread = goals.max(0) - goals.min(0)
        assert (spread >= 0.8 * (high - low)).all()
        if task == "Grasp":
            assert 0.15 < (goals[:, 2] == low[2]).mean() < 0.45
        if task == "Push":
            starts = [env.reset(seed=s)[0]["achieved_goal"] for s in range(60)]
            assert (np.linalg.norm(np.array(starts) - goals, axis=1) > 0.099).all()
        env.close()
