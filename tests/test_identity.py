"""Agents learn: seconds-long tasks, one for every kind of space, to a threshold that chance misses
by far. Every task is to do what the observation says.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import Space
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from agents import ALGORITHMS, Agent
from agents.asynchronous import AsynchronousLoop, Order, Shared, Worker
from agents.evaluation import Predict, evaluate
from agents.off_policy import OffPolicyLoop
from agents.on_policy import OnPolicyLoop
from agents.replay import ReplayBuffer

pytestmark = pytest.mark.learning

STEPS = 5  # of an episode
UNIT = Box(-1, 1, (1,))
PICTURE = Box(0, 255, (1, 36, 36), np.uint8)  # the smallest that the Nature CNN takes


class Task(gym.Env[Any, Any]):
    """A new observation every step, and a reward of at most 1/5 for the action that it asks for.

    So episodes return 1 at best.
    """

    def __init__(self) -> None:
        self.steps = 0

    def draw(self) -> tuple[Any, Any]:
        """An observation and the right action."""
        raise NotImplementedError

    def score(self, action: Any) -> float:
        """At most 1: the share of right choices, or 1 - (a - right)^2."""
        if isinstance(self.action_space, Box):
            return 1 - float(np.square(action - self.right).mean())
        return float(np.mean(action == self.right))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return self._observe(), {}

    def _observe(self) -> Any:
        observation, self.right = self.draw()
        return observation

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        reward = self.score(action) / STEPS
        self.steps += 1
        return self._observe(), reward, False, self.steps == STEPS, {}


class Choice(Task):
    """One of four."""

    observation_space: Space[Any] = Discrete(4)
    action_space: Space[Any] = Discrete(4, start=1)

    def draw(self) -> tuple[Any, Any]:
        k = int(self.np_random.integers(4))
        return k, k + 1


class Choices(Task):
    """Two at a time."""

    observation_space: Space[Any] = MultiDiscrete([3, 2])
    action_space: Space[Any] = MultiDiscrete([3, 2])

    def draw(self) -> tuple[Any, Any]:
        k = self.np_random.integers([3, 2])
        return k, k


class Half(Task):
    """A number: half of what is seen."""

    observation_space: Space[Any] = UNIT
    action_space: Space[Any] = UNIT

    def draw(self) -> tuple[Any, Any]:
        x = self.np_random.uniform(-1, 1, 1).astype(np.float32)
        return x, x / 2


class MixedChoice(Task):
    """One of four, said by a choice and by a number's sign."""

    observation_space: Space[Any] = Dict({"upper": Discrete(2), "x": UNIT})
    action_space: Space[Any] = Discrete(4)

    def draw(self) -> tuple[Any, Any]:
        upper = int(self.np_random.integers(2))
        x = self.np_random.uniform(-1, 1, 1).astype(np.float32)
        return {"upper": upper, "x": x}, 2 * upper + int(x[0] > 0)


class MixedNumber(Task):
    """Half a number, up or down by a half as a choice says."""

    observation_space: Space[Any] = MixedChoice.observation_space
    action_space: Space[Any] = UNIT

    def draw(self) -> tuple[Any, Any]:
        upper = int(self.np_random.integers(2))
        x = self.np_random.uniform(-1, 1, 1).astype(np.float32)
        return {"upper": upper, "x": x}, x / 2 + upper - 0.5


class PictureChoice(Task):
    """One of four: the corner with the bright square."""

    observation_space: Space[Any] = PICTURE
    action_space: Space[Any] = Discrete(4)

    def draw(self) -> tuple[Any, Any]:
        k = int(self.np_random.integers(4))
        return picture(self.np_random, k % 2, k // 2), k


class PictureNumber(Task):
    """-0.7 or 0.7: the side with the bright square."""

    observation_space: Space[Any] = PICTURE
    action_space: Space[Any] = UNIT

    def draw(self) -> tuple[Any, Any]:
        right, bottom = self.np_random.integers(2, size=2)
        return picture(self.np_random, right, bottom), np.float32(1.4 * right - 0.7)


def picture(rng: np.random.Generator, right: int, bottom: int) -> np.ndarray:
    frame = rng.integers(60, size=(1, 36, 36), dtype=np.uint8)
    frame[:, 18 * bottom + 3 : 18 * bottom + 15, 18 * right + 3 : 18 * right + 15] = 255
    return frame


# Algorithm -> config, sub-environments.
CONFIGS: dict[str, tuple[dict[str, Any], int]] = {
    "dqn": (
        {
            "learning_rate": 3e-3,
            "hidden_sizes": (32,),
            "exploration_steps": 500,
            "target_update_interval": 50,
        },
        1,
    ),
    "a2c": ({"learning_rate": 3e-3, "hidden_sizes": (32,)}, 8),
    "a3c": ({"learning_rate": 1e-2, "hidden_sizes": (32,), "rmsprop_epsilon": 1e-3}, 2),
    "ddpg": (
        {
            "actor_learning_rate": 1e-3,
            "critic_learning_rate": 3e-3,
            "hidden_sizes": (32, 32),
            "batch_size": 64,
            "noise_sigma": 0.3,
        },
        1,
    ),
    "sac": ({"learning_rate": 3e-3, "hidden_sizes": (32, 32), "batch_size": 64}, 1),
}


def make_envs(task: type[Task], n: int) -> SyncVectorEnv:
    return SyncVectorEnv([task] * n, autoreset_mode=AutoresetMode.SAME_STEP)


def train(agent: Agent, task: type[Task], n_envs: int, steps: int) -> None:
    envs = make_envs(task, n_envs)
    envs.reset(seed=0)
    if agent.algorithm == "a2c":
        OnPolicyLoop(agent, envs).run(steps, lambda report: True)  # type: ignore[arg-type]
    elif agent.algorithm == "a3c":
        train_alone(agent, task, steps)
    else:
        buffer = ReplayBuffer(steps, agent.observation_space, agent.action_space, seed=0)
        OffPolicyLoop(agent, envs, buffer).run(steps, lambda report: True)


def train_alone(agent: Any, task: type[Task], steps: int) -> None:
    """A3C with one worker, in this process."""
    env, own = task(), ALGORITHMS["a3c"][0](task.observation_space, task.action_space, agent.config)
    env.reset(seed=0)
    zero = torch.zeros((), dtype=torch.int64)
    shared = Shared(agent.optimizer, zero.repeat(1), zero)
    Worker(shared, env, 0, own).run(Order("run", steps))


def train_together(agent: Any, task: type[Task], n_workers: int, steps: int) -> None:
    """A3C as it is meant to be, in processes."""
    loop = AsynchronousLoop(agent, partial(make_seeded, task), n_workers)
    try:
        loop.run(steps, lambda report: True)
    finally:
        loop.close()


def make_seeded(task: type[Task], index: int) -> Task:
    env = task()
    env.reset(seed=index)
    return env


def at_random(agent: Agent) -> Predict:
    def predict(
        observation: Any,
        state: Any = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, None]:
        return agent.random_actions(agent.layout.count(observation)), None

    return predict


def learn(
    name: str,
    task: type[Task],
    steps: int,
    chance: float,
    how: Callable[[Any, type[Task], int, int], None] = train,
    **config: Any,
) -> float:
    """The trained agent's return, after a look at that of random actions."""
    agent_type, config_type = ALGORITHMS[name]
    default, n_envs = CONFIGS[name]
    chosen = config_type(**{"gamma": 0.5, **default, **config})
    agent = agent_type(task.observation_space, task.action_space, chosen, seed=0)
    test_envs = make_envs(task, 100)
    assert evaluate(at_random(agent), test_envs).mean() == pytest.approx(chance, abs=0.1)
    how(agent, task, n_envs, steps)
    return float(evaluate(agent.predict, test_envs).mean())


@pytest.mark.parametrize(("name", "steps"), [("dqn", 1_000), ("a2c", 3_000), ("a3c", 2_000)])
def test_choice(name: str, steps: int) -> None:
    """One in four is right by chance."""
    assert learn(name, Choice, steps, chance=1 / 4) > 0.95


def test_choice_with_two_processes() -> None:
    assert learn("a3c", Choice, 4_000, chance=1 / 4, how=train_together) > 0.95


@pytest.mark.parametrize(("name", "steps"), [("a2c", 3_000), ("a3c", 2_000)])
def test_choices(name: str, steps: int) -> None:
    """One in three and one in two."""
    assert learn(name, Choices, steps, chance=(1 / 3 + 1 / 2) / 2) > 0.95


@pytest.mark.parametrize(("name", "steps"), [("a2c", 6_000), ("ddpg", 1_000), ("sac", 1_000)])
def test_number(name: str, steps: int) -> None:
    """Chance is 1/3 + 1/12 off, squared; 0.98 is 0.14 off."""
    assert learn(name, Half, steps, chance=1 - 5 / 12) > 0.98


@pytest.mark.parametrize(("name", "steps"), [("dqn", 1_500), ("a2c", 6_000), ("a3c", 4_000)])
def test_mixed_choice(name: str, steps: int) -> None:
    assert learn(name, MixedChoice, steps, chance=1 / 4) > 0.9


@pytest.mark.parametrize(("name", "steps"), [("a2c", 16_000), ("ddpg", 1_000), ("sac", 1_000)])
def test_mixed_number(name: str, steps: int) -> None:
    """Chance is 1/3 + 1/12 + 1/4 off, squared."""
    assert learn(name, MixedNumber, steps, chance=1 - 2 / 3) > 0.95


@pytest.mark.parametrize(("name", "steps"), [("dqn", 800), ("a2c", 4_000)])
def test_picture_choice(name: str, steps: int) -> None:
    rate = 1e-3 if name == "a2c" else 3e-4
    assert learn(name, PictureChoice, steps, chance=1 / 4, learning_rate=rate) > 0.95


def test_picture_choice_through_a_resnet() -> None:
    """The paper's eighteen layers with an eighth of their channels, on 32 pictures at a time."""
    config: dict[str, Any] = {"encoder": "resnet18:0.125", "learning_rate": 1e-3}
    assert learn("dqn", PictureChoice, 800, chance=1 / 4, **config) > 0.95


def test_picture_number_through_a_resnet() -> None:
    config: dict[str, Any] = {
        "batch_size": 32,
        "train_freq": 2,
        "gradient_steps": 1,
        "initial_temperature": 0.02,
    }
    config |= {"encoder": "resnet18:0.125", "learning_rate": 3e-4}
    assert learn("sac", PictureNumber, 400, chance=1 - 1 / 3 - 0.49, **config) > 0.9


@pytest.mark.parametrize("name", ["ddpg", "sac"])
def test_picture_number(name: str) -> None:
    """Chance is 1/3 + 0.49 off, squared."""
    config: dict[str, Any] = {"batch_size": 32, "train_freq": 2, "gradient_steps": 1}
    if name == "ddpg":
        config |= {"actor_learning_rate": 3e-4, "critic_learning_rate": 3e-4}
    else:
        config |= {"learning_rate": 1e-3, "initial_temperature": 0.02}
    assert learn(name, PictureNumber, 500, chance=1 - 1 / 3 - 0.49, **config) > 0.9
