"""The on-policy loop: what is in a rollout under both ways of resetting, and what is counted."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from agents import A2C, A2CConfig
from agents.on_policy import OnPolicyLoop
from agents.rollout import Rollout, RolloutBuffer
from agents.state import load_state, save_state
from agents.stepping import StepReport
from envs.vector import make_vec

MODES = [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP]


class Count(gym.Env[np.ndarray, int]):
    """Observes (environment, episode, step); episodes of 2, 3, 4, 2, ... steps, every other one
    truncated; the reward is the step.
    """

    observation_space: Any = Box(-np.inf, np.inf, (3,))
    action_space: Any = Discrete(2)

    def __init__(self, index: int) -> None:
        self.index, self.episode = index, index

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        self.episode, self.t = self.episode + 1, 0
        return self._observe(), {}

    def _observe(self) -> np.ndarray:
        return np.array([self.index, self.episode, self.t], np.float32)

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.t += 1
        end = self.t == 2 + self.episode % 3
        flags = (end and self.episode % 2 == 0, end and self.episode % 2 == 1)
        return self._observe(), float(self.t), *flags, {}


def make_count(mode: AutoresetMode, n: int = 3) -> VectorEnv:
    return SyncVectorEnv([lambda i=i: Count(i) for i in range(n)], autoreset_mode=mode)  # type: ignore[misc]


def make_loop(envs: VectorEnv, seed: int = 0, **config: Any) -> OnPolicyLoop:
    small = {"hidden_sizes": (8,), "n_steps": 5}
    spaces = envs.single_observation_space, envs.single_action_space
    return OnPolicyLoop(A2C(*spaces, A2CConfig(**{**small, **config}), seed=seed), envs)


def run(loop: OnPolicyLoop, steps: int) -> tuple[list[StepReport], list[Rollout]]:
    reports: list[StepReport] = []
    rollouts: list[Rollout] = []
    update = loop.actor.update

    def record(rollout: Rollout) -> dict[str, float]:
        rollouts.append(rollout)
        return update(rollout)

    def on_step(report: StepReport) -> bool:
        reports.append(report)
        return True

    loop.actor.update = record  # type: ignore[method-assign]
    loop.run(steps, on_step)
    loop.actor.update = update  # type: ignore[method-assign]
    return reports, rollouts


def watch(loop: OnPolicyLoop) -> list[np.ndarray]:
    """What the normalizer sees from now on."""
    shown: list[np.ndarray] = []
    assert loop.agent.normalizer is not None
    update = loop.agent.normalizer.update

    def record(observations: np.ndarray) -> None:
        shown.append(observations)
        update(observations)

    loop.agent.normalizer.update = record  # type: ignore[method-assign]
    return shown


@pytest.mark.parametrize("mode", MODES)
def test_rollouts_hold_the_true_successors(mode: AutoresetMode) -> None:
    loop = make_loop(make_count(mode))
    _, rollouts = run(loop, 150)
    assert len(rollouts) >= 10
    rows = {name: np.concatenate([getattr(r, name) for r in rollouts]) for name in Rollout._fields}
    real = rows["real"].astype(bool).ravel()
    before, after = rows["observations"].astype(int), rows["next_observations"].astype(int)
    np.testing.assert_array_equal(after[real], before[real] + [0, 0, 1])
    end = after[:, 2] == 2 + after[:, 1] % 3
    np.testing.assert_array_equal(rows["done"].ravel()[real], end[real])
    terminated = end & (after[:, 1] % 2 == 0)
    np.testing.assert_array_equal(rows["terminated"].ravel()[real], terminated[real])
    assert 0 < terminated[real].sum() < end[real].sum()
    np.testing.assert_array_equal(rows["rewards"].ravel()[real], after[real, 2])
    assert real.all() == (mode is AutoresetMode.SAME_STEP)
    # A reset leads from an episode's last observation to the next one's first.
    np.testing.assert_array_equal(after[~real, 1], before[~real, 1] + 1)
    assert (after[~real, 2] == 0).all()
    assert not rows["done"].ravel()[~real].any()


@pytest.mark.parametrize("mode", MODES)
def test_every_step_is_in_one_rollout_in_order(mode: AutoresetMode) -> None:
    loop = make_loop(make_count(mode))
    reports, rollouts = run(loop, 150)
    for index in range(3):
        seen = np.concatenate([r.observations.view(5, 3, 3)[:, index] for r in rollouts])  # type: ignore[union-attr]
        seen = seen[np.concatenate([r.real[:, index] for r in rollouts]).astype(bool)]
        env = Count(index)
        expected, (observation, _) = [], env.reset()
        for _ in seen:
            expected.append(observation)
            observation, _, terminated, truncated, _ = env.step(0)
            if terminated or truncated:
                observation, _ = env.reset()
        np.testing.assert_array_equal(seen, expected)
    assert [report.updates for report in reports] == [int(i % 5 == 4) for i in range(len(reports))]
    assert all(bool(report.metrics) == bool(report.updates) for report in reports)
    assert loop.agent.updates == len(rollouts) == len(reports) // 5


@pytest.mark.parametrize("mode", MODES)
def test_resets_are_not_counted(mode: AutoresetMode) -> None:
    """Neither as steps, nor in episodes, nor by the normalizers."""
    loop = make_loop(make_count(mode), normalize_observations=True, normalize_rewards=True)
    agent, shown = loop.actor, watch(loop)
    normalizer, rewards = agent.normalizer, agent.reward_normalizer
    assert normalizer is not None
    assert rewards is not None
    reports, _ = run(loop, 150)
    episodes = [episode for report in reports for episode in report.episodes]
    assert set(episodes) == {(3.0, 2), (6.0, 3), (10.0, 4)}
    assert sum(length for _, length in episodes) + loop.lengths.sum() == loop.steps
    assert reports[-1].step == loop.steps == agent.steps == sum(len(batch) for batch in shown)
    seen = np.concatenate(shown)
    assert (seen[:, 2] < 2 + seen[:, 1] % 3).all()  # never an episode's last observation
    assert normalizer.count == loop.steps
    np.testing.assert_allclose(normalizer.mean, seen.astype(np.float64).mean(0))
    assert rewards.statistics.count == loop.steps


def test_vectorized_cartpole() -> None:
    """Gymnasium's own, which resets in the next step."""
    envs = make_vec("CartPole-v1", 6, seed=0, vectorization="vector_entry_point")
    assert envs.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    loop = make_loop(envs, normalize_observations=True)
    shown = watch(loop)
    reports, rollouts = run(loop, 1_000)
    episodes = [episode for report in reports for episode in report.episodes]
    assert len(episodes) > 20
    assert all(total == length for total, length in episodes)  # a reward of 1 a step
    assert min(length for _, length in episodes) >= 8
    seen = np.concatenate(shown)
    assert len(seen) == loop.steps == loop.agent.steps
    assert (np.abs(seen[:, 2]) < 0.2095).all()  # beyond it the pole has fallen
    resets = sum((rollout.real == 0).sum() for rollout in rollouts)
    assert len(episodes) - 6 <= resets <= len(episodes)
    for rollout in rollouts:
        after = rollout.next_observations
        assert isinstance(after, torch.Tensor)
        fallen = (after[:, 2].abs() > 0.2095) | (after[:, 0].abs() > 2.4)
        real = rollout.real.flatten().bool()
        assert torch.equal(fallen[real], rollout.terminated.flatten()[real].bool())


def test_one_step_rollouts_of_one_environment() -> None:
    """Some of them are a reset and nothing else."""
    loop = make_loop(make_count(AutoresetMode.NEXT_STEP, n=1), n_steps=1)
    run(loop, 30)
    assert loop.steps == 30


def test_rewards_are_scaled_in_the_rollout_alone() -> None:
    loop = make_loop(make_count(AutoresetMode.SAME_STEP), normalize_rewards=True)
    reports, rollouts = run(loop, 300)
    assert {episode for report in reports for episode in report.episodes} == {
        (3.0, 2),
        (6.0, 3),
        (10.0, 4),
    }
    normalizer, last = loop.actor.reward_normalizer, rollouts[-1]
    assert normalizer is not None
    assert isinstance(last.next_observations, torch.Tensor)
    ratio = last.rewards / last.next_observations.view(5, 3, 3)[:, :, 2]
    expected = normalizer.statistics.variance[0] ** -0.5
    np.testing.assert_allclose(ratio, expected, rtol=0.02)


@pytest.mark.parametrize("way", ["sync", "vector_entry_point"])
@pytest.mark.parametrize("steps", [0, 100, 107, 110, 113])
def test_partial_rollout_survives(tmp_path: Path, way: Any, steps: int) -> None:
    """Saved anywhere, restored into other objects, trained on: bit for bit the same."""

    def make(seed: int) -> OnPolicyLoop:
        envs = make_vec("CartPole-v1", 3, seed=5, vectorization=way)
        both = {"normalize_observations": True, "normalize_rewards": True}
        return make_loop(envs, seed, learning_rate_decay_steps=1_000, **both)

    one, other = make(0), make(1)
    if steps:
        run(one, steps)
    parts = {
        "agent": one.agent.state_dict(),
        "loop": one.state_dict(),
        "envs": list(one.envs.call("snapshot")) if steps else None,  # type: ignore[attr-defined]
    }
    save_state(tmp_path, parts)
    state = load_state(tmp_path)
    other.agent.load_state_dict(state["agent"])
    other.load_state_dict(state["loop"])
    if steps:
        other.envs.call("restore", state["envs"])  # type: ignore[attr-defined]
    ends = []
    for loop in (one, other):
        run(loop, 400)
        parameters = torch.cat([p.detach().flatten() for p in loop.actor.network.parameters()])
        ends.append((loop.steps, loop.rollout.size, parameters.tolist(), loop.returns.tolist()))
    assert ends[0] == ends[1]
    for mine, its in zip(one.rollout.arrays.values(), other.rollout.arrays.values(), strict=True):
        np.testing.assert_array_equal(mine[: one.rollout.size], its[: one.rollout.size])


def test_stops_when_told() -> None:
    loop = make_loop(make_count(AutoresetMode.SAME_STEP))
    loop.run(1_000, lambda report: report.step < 30)
    assert loop.steps == 30


# -- the buffer --------------------------------------------------------------------------------


def test_a_rollout_that_is_not_full() -> None:
    """Holds the steps since the last one, and nothing from before."""
    loop = make_loop(make_count(AutoresetMode.SAME_STEP))
    buffer = RolloutBuffer(4, 3, loop.agent.layout, 1)
    for count in (4, 2):
        for step in range(count):
            observations = np.full((3, 3), 10 * count + step, np.float32)
            flags = np.zeros(3, bool), np.zeros(3, bool), np.ones(3, bool)
            buffer.add(observations, np.zeros((3, 1)), np.ones(3), observations + 1, *flags)
        rollout = buffer.take(torch.device("cpu"))
        assert rollout.rewards.shape == (count, 3)
        assert isinstance(rollout.observations, torch.Tensor)
        assert rollout.observations[:, 0].tolist() == [
            10.0 * count + step for step in range(count) for _ in range(3)
        ]


def test_a_rollout_stays_what_it_was() -> None:
    """Also while the buffer is filled again."""
    loop = make_loop(make_count(AutoresetMode.SAME_STEP))
    _, rollouts = run(loop, 15)
    copies = [column.clone() for column in rollouts[0] if isinstance(column, torch.Tensor)]
    run(loop, 30)
    for column, copy in zip(rollouts[0], copies, strict=True):
        assert torch.equal(column, copy)  # type: ignore[arg-type]


def test_refuses_a_rollout_that_does_not_fit() -> None:
    one = make_loop(make_count(AutoresetMode.SAME_STEP))
    state = one.rollout.state_dict()
    with pytest.raises(ValueError, match="does not fit"):
        make_loop(make_count(AutoresetMode.SAME_STEP), n_steps=6).rollout.load_state_dict(state)
    with pytest.raises(ValueError, match="6 of 5 steps"):
        one.rollout.load_state_dict({**state, "size": 6})
