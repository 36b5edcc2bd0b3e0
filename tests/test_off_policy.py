"""The off-policy loop on an environment whose observations say where they come from."""

import itertools
from collections.abc import Iterator
from itertools import count
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from agents.agent import Agent
from agents.off_policy import OffPolicyLoop
from agents.replay import Batch, ReplayBuffer
from agents.stepping import StepReport

MODES = [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP]
RANDOM_ACTION = -1.0


def code(observation: Any) -> float:
    """One number for (sub-environment, episode, step), exact in float32."""
    index, episode, step = observation
    return float(10_000 * index + 100 * episode + step)


def length(index: int, episode: int) -> int:
    """Also episodes of a single step, and several that end in the same vector step."""
    return (3, 1, 4, 2)[(index + episode) % 4]


def terminates(episode: int) -> bool:
    """Every third episode terminates, the others are truncated."""
    return episode % 3 == 0


class Counting(gym.Env[np.ndarray, np.ndarray]):
    """Observes (sub-environment, episode, step) and pays the code of the observation reached."""

    observation_space = Box(-np.inf, np.inf, (3,))
    action_space = Box(-np.inf, np.inf, (1,))

    def __init__(self, index: int) -> None:
        self.index, self.episode, self.t = index, -1, 0

    def observation(self) -> np.ndarray:
        now: np.ndarray = np.array([self.index, self.episode, self.t], np.float32)
        return now

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        self.episode, self.t = self.episode + 1, 0
        return self.observation(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.t += 1
        assert self.t <= length(self.index, self.episode), "stepped on after the end"
        done = self.t == length(self.index, self.episode)
        terminated = done and terminates(self.episode)
        observation = self.observation()
        return observation, code(observation), terminated, done and not terminated, {}


class Scripted(Agent):
    """Acts with the code of what it observes, and counts its updates."""

    algorithm, metric_names, stateful = "scripted", ("updates",), ()

    def __init__(self, **config: int) -> None:
        defaults = {"batch_size": 4, "learning_starts": 0, "train_freq": 1, "gradient_steps": -1}
        values = {"normalize_observations": True, **defaults, **config}
        super().__init__(Counting.observation_space, SimpleNamespace(**values), 0, "cpu")

    def act(self, observations: np.ndarray, deterministic: bool = False) -> np.ndarray:
        assert not deterministic
        return np.array([[code(o)] for o in observations], np.float32)

    def random_actions(self, n: int) -> np.ndarray:
        return np.full((n, 1), RANDOM_ACTION, np.float32)

    def update(self, batch: Batch) -> dict[str, float]:
        assert len(batch.rewards) == self.config.batch_size
        self.updates += 1
        return {"updates": self.updates}


def make(n_envs: int, mode: AutoresetMode, **config: int) -> OffPolicyLoop:
    envs = SyncVectorEnv(
        [lambda i=i: Counting(i) for i in range(n_envs)],  # type: ignore[misc]
        autoreset_mode=mode,
    )
    spaces = Counting.observation_space, Counting.action_space
    return OffPolicyLoop(Scripted(**config), envs, ReplayBuffer(1000, *spaces, 0, n_envs=n_envs))


def true_transitions(index: int, random: int) -> Iterator[list[float]]:
    """The rows of one sub-environment in order, of which the first ``random`` acted randomly."""
    number = count()
    for episode in count():
        for t in range(length(index, episode)):
            now, then = [index, episode, t], [index, episode, t + 1]
            action = RANDOM_ACTION if next(number) < random else code(now)
            last = t + 1 == length(index, episode)
            terminated = last and terminates(episode)
            flags = [float(terminated), float(last and not terminated)]
            yield [*now, action, code(then), *then, *flags]


def check_buffer(loop: OffPolicyLoop, learning_starts: int) -> list[tuple[float, int]]:
    """Each sub-environment's transitions from its first on, no gap and no reset among them.

    Returns (return, length) of all episodes that are complete.
    """
    n_envs, buffer = loop.envs.num_envs, loop.buffer
    assert buffer.size == loop.steps
    rows = buffer.rows[: buffer.size].numpy()
    random_rows = rows[:, 3] == RANDOM_ACTION
    assert learning_starts <= random_rows.sum() < learning_starts + n_envs
    ended = []
    for i in range(n_envs):
        mine = rows[:, 0] == i
        transitions = true_transitions(i, int(random_rows[mine].sum()))
        expected = list(itertools.islice(transitions, int(mine.sum())))
        np.testing.assert_array_equal(rows[mine], expected)
        for episode in range(int(rows[mine, 8:].sum())):
            steps = length(i, episode)
            ended.append((sum(code([i, episode, t + 1]) for t in range(steps)), steps))
    return ended


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("n_envs", [1, 3])
def test_stores_every_real_transition_and_no_other(n_envs: int, mode: AutoresetMode) -> None:
    loop = make(n_envs, mode, learning_starts=15)
    reports: list[StepReport] = []

    def on_step(report: StepReport) -> bool:
        assert report.step == loop.steps
        assert report.before == (reports[-1].step if reports else 0)
        reports.append(report)
        return True

    loop.run(150, on_step)
    assert 150 <= loop.steps < 150 + n_envs
    ended = check_buffer(loop, learning_starts=15)
    assert sorted(e for report in reports for e in report.episodes) == sorted(ended)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("n_envs", [1, 3])
def test_agent_observes_what_it_acts_on(n_envs: int, mode: AutoresetMode) -> None:
    """Once each, the first of an episode too; NEXT_STEP's resets, no transitions, do not count."""
    loop = make(n_envs, mode)
    loop.run(40, lambda report: True)
    seen = loop.buffer.rows[: loop.buffer.size, 0:3].double().numpy()
    assert loop.agent.normalizer is not None
    assert loop.agent.normalizer.count == loop.agent.steps == len(seen)
    np.testing.assert_allclose(loop.agent.normalizer.mean, seen.mean(0), rtol=1e-10)


def test_refuses_environments_that_do_not_reset_themselves() -> None:
    with pytest.raises(ValueError, match=r"SAME_STEP or NEXT_STEP.*DISABLED"):
        make(1, AutoresetMode.DISABLED)


@pytest.mark.parametrize(
    ("n_envs", "learning_starts", "train_freq", "gradient_steps", "phases"),
    [  # phases: (step, updates)
        (1, 0, 1, -1, [(step, 1) for step in range(1, 31)]),
        (1, 10, 1, -1, [(step, 1) for step in range(11, 31)]),
        (1, 10, 4, -1, [(14, 4), (18, 4), (22, 4), (26, 4), (30, 4)]),
        (1, 10, 4, 2, [(14, 2), (18, 2), (22, 2), (26, 2), (30, 2)]),
        (1, 10, 1, 3, [(step, 3) for step in range(11, 31)]),
        (3, 10, 1, -1, [(step, 3) for step in range(12, 31, 3)]),
        (3, 10, 1, 1, [(step, 1) for step in range(12, 31, 3)]),
        (3, 10, 4, -1, [(15, 6), (21, 6), (27, 6)]),
        (1, 30, 1, -1, []),
    ],
)
def test_updates_when_due(
    n_envs: int,
    learning_starts: int,
    train_freq: int,
    gradient_steps: int,
    phases: list[tuple[int, int]],
) -> None:
    loop = make(
        n_envs,
        AutoresetMode.SAME_STEP,
        learning_starts=learning_starts,
        train_freq=train_freq,
        gradient_steps=gradient_steps,
    )
    agent, seen = loop.agent, []

    def on_step(report: StepReport) -> bool:
        if report.updates:
            seen.append((report.step, report.updates))
        assert agent.updates == sum(updates for _, updates in seen)
        assert report.metrics == ({"updates": agent.updates} if report.updates else {})
        return True

    loop.run(30, on_step)
    assert seen == phases


@pytest.mark.parametrize("n_envs", [1, 3])
def test_stops_when_told_and_goes_on_where_it_was(n_envs: int) -> None:
    loop = make(n_envs, AutoresetMode.SAME_STEP)
    loop.run(100, lambda report: report.step < 6)
    assert loop.steps == 6
    loop.run(30, lambda report: True)
    assert loop.steps == 30
    check_buffer(loop, learning_starts=0)


def test_refuses_state_of_another_number_of_environments() -> None:
    one, three = make(1, AutoresetMode.SAME_STEP), make(3, AutoresetMode.SAME_STEP)
    one.run(5, lambda report: True)
    with pytest.raises(ValueError, match=r"\(3,\)"):
        three.load_state_dict(one.state_dict())
