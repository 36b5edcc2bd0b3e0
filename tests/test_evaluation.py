"""The evaluation protocol."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from agents import SAC, SACConfig
from agents.evaluation import EVALUATION_SEED, evaluate, play
from envs import make_vec


class Lottery(gym.Env[np.ndarray, np.ndarray]):
    """Length and rewards of an episode depend on its seed, the rewards also on the actions."""

    observation_space = Box(-1, 1, (1,))
    action_space = Box(-1, 1, (1,))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.left = int(self.np_random.integers(1, 30))
        self.truncates = bool(self.np_random.integers(2))
        return self.observe(), {"length": self.left}

    def observe(self) -> np.ndarray:
        self.observation = self.np_random.uniform(-1, 1, 1).astype(np.float32)
        return self.observation

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.left -= 1
        reward = float(action[0]) + self.np_random.normal()
        done = self.left <= 0
        return self.observe(), reward, done and not self.truncates, done and self.truncates, {}


def act(observations: np.ndarray) -> np.ndarray:
    actions: np.ndarray = np.tanh(2 * observations)
    return actions


def predict(
    observation: np.ndarray,
    state: Any = None,
    episode_start: np.ndarray | None = None,
    deterministic: bool = False,
) -> tuple[np.ndarray, None]:
    assert deterministic
    return act(observation), None


def one_by_one(n: int, seed: int) -> list[float]:
    """The definition: episode i alone in an environment reset with seed + i."""
    returns = []
    for i in range(n):
        env = Lottery()
        observation, _ = env.reset(seed=seed + i)
        total, done = 0.0, False
        while not done:
            observation, reward, terminated, truncated, _ = env.step(act(observation[None])[0])
            total, done = total + reward, terminated or truncated
        returns.append(total)
    return returns


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
def test_first_episode_of_every_environment(mode: AutoresetMode) -> None:
    envs = SyncVectorEnv([Lottery] * 12, autoreset_mode=mode)
    first = evaluate(predict, envs, seed=77)
    np.testing.assert_allclose(first, one_by_one(12, 77), rtol=1e-12)
    assert len(set(first)) == 12
    assert first.dtype == np.float64
    for _ in range(7):  # what is played in between does not matter
        envs.step(envs.action_space.sample())
    np.testing.assert_array_equal(evaluate(predict, envs, seed=77), first)
    np.testing.assert_allclose(evaluate(predict, envs), one_by_one(12, EVALUATION_SEED), rtol=1e-12)


class Trial(Lottery):
    """Succeeds at the last step of episodes of an even length, and at every other step of all."""

    def reset(self, **kwargs: Any) -> tuple[np.ndarray, dict[str, Any]]:
        observation, info = super().reset(**kwargs)
        self.even = info["length"] % 2 == 0
        return observation, {"is_success": True}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, _ = super().step(action)
        info = {"is_success": self.even or self.left > 0}
        return observation, reward, terminated, truncated, info


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
def test_success_counts_at_an_episodes_end(mode: AutoresetMode) -> None:
    _, successes = play(predict, SyncVectorEnv([Trial] * 12, autoreset_mode=mode), seed=77)
    lengths = [Lottery().reset(seed=77 + i)[1]["length"] for i in range(12)]
    assert successes is not None
    assert successes.tolist() == [length % 2 == 0 for length in lengths]
    assert 0 < successes.sum() < 12
    assert play(predict, SyncVectorEnv([Lottery] * 2, autoreset_mode=mode))[1] is None


def test_state_and_episode_starts_are_handed_on() -> None:
    """As Stable-Baselines3 does: None and all True at first, then what ``predict`` returned."""
    calls: list[tuple[Any, np.ndarray]] = []

    def recurrent(
        observation: np.ndarray,
        state: Any = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, int]:
        assert episode_start is not None
        calls.append((state, episode_start.copy()))
        return act(observation), len(calls)

    envs = SyncVectorEnv([Lottery] * 12, autoreset_mode=AutoresetMode.SAME_STEP)
    evaluate(recurrent, envs, seed=77)
    assert [state for state, _ in calls] == [None, *range(1, len(calls))]
    starts = np.stack([start for _, start in calls])
    assert starts[0].all()
    lengths = [Lottery().reset(seed=77 + i)[1]["length"] for i in range(12)]
    for i, length in enumerate(lengths):  # all but the longest begin a second episode
        assert not starts[1:length, i].any()
        assert length == max(lengths) or starts[length, i]


def test_evaluation_seeds_are_held_out() -> None:
    assert EVALUATION_SEED + 10_000 < 2**20  # where training's seeds begin


@pytest.mark.parity
def test_equals_stable_baselines() -> None:
    n, seed = 3, 123
    envs = make_vec("Pendulum-v1", n)
    space, actions = envs.single_observation_space, envs.single_action_space
    agent = SAC(space, actions, SACConfig(hidden_sizes=(16,)), seed=4)
    ours = evaluate(agent.predict, envs, seed)

    theirs = DummyVecEnv([lambda: Monitor(gym.make("Pendulum-v1"))] * n)
    theirs.seed(seed)
    returns, lengths = evaluate_policy(
        agent,
        theirs,
        n_eval_episodes=n,
        deterministic=True,
        return_episode_rewards=True,
    )
    assert lengths == [200] * n
    np.testing.assert_allclose(ours, returns, rtol=0, atol=6e-7)  # Monitor rounds to 6 digits
