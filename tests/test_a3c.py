"""A3C: the update of algorithm S3 done by hand, the LSTM's memory, and the worker processes."""

import itertools
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiBinary, Text
from torch import Tensor, nn

from agents import A3C, A3CConfig, UnsupportedSpaceError, asynchronous
from agents.a3c import last_of
from agents.actor_critic import Memory
from agents.asynchronous import AsynchronousLoop, Order, Shared, Worker
from agents.normalizer import RewardNormalizer
from agents.rollout import Rollout
from agents.state import load_state, save_state
from envs.resumable import Resumable

SPACES = Box(-np.inf, np.inf, (3,)), Discrete(2)
T_MAX = 5


class Walk(gym.Env[np.ndarray, Any]):
    """Random observations and rewards; lengths 1 to 12; every other end is a truncation."""

    observation_space, action_space = SPACES

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.left = int(self.np_random.integers(1, 13))
        self.truncates = bool(self.np_random.integers(2))
        return self._observe(), {}

    def _observe(self) -> np.ndarray:
        return (2 + self.np_random.normal(size=3)).astype(np.float32)

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.left -= 1
        end, reward = self.left == 0, float(self.np_random.normal())
        return self._observe(), reward, end and not self.truncates, end and self.truncates, {}


class Transition(NamedTuple):
    observation: np.ndarray
    action: int
    reward: float
    successor: np.ndarray
    terminated: bool
    truncated: bool


class Recorder(gym.Wrapper[Any, Any, Any, Any]):
    """Remembers all transitions."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self.transitions: list[Transition] = []

    def reset(self, **kwargs: Any) -> Any:
        self.observation, info = self.env.reset(**kwargs)
        return self.observation, info

    def step(self, action: Any) -> Any:
        before = self.observation
        self.observation, reward, *ends, info = self.env.step(action)
        self.transitions.append(
            Transition(before, int(action), float(reward), self.observation, *ends)
        )
        return self.observation, reward, *ends, info


def make_walk(seed: int, index: int) -> gym.Env[Any, Any]:
    return Resumable(Walk(), seed, index)


def make(seed: int = 0, **config: Any) -> A3C:
    small = {"hidden_sizes": (8,), "n_steps": T_MAX, "learning_rate": 1e-2, "gamma": 0.9}
    return A3C(*SPACES, A3CConfig(**{**small, **config}), seed=seed)


def make_workers(agent: A3C, n: int = 1) -> list[Worker]:
    """Workers of this process: all that a process of theirs would do, one after the other."""
    counts = torch.zeros(n, dtype=torch.int64)
    shared = Shared(agent.optimizer, counts, pause=torch.zeros((), dtype=torch.int64))
    workers = []
    for index in range(n):
        own = A3C(*SPACES, agent.config, seed=100 + index)
        env = Resumable(Recorder(Walk()), seed=0, index=index)
        workers.append(Worker(shared, env, index, own))
    return workers


def go_on(worker: Worker, until: int | None = None) -> Any:
    """One segment, or as many as it takes."""
    normalizer, rewards = worker.agent.normalizer, worker.agent.reward_normalizer
    state = {
        "normalizer": normalizer and normalizer.state_dict(),
        "rewards": rewards and rewards.statistics.state_dict(),
    }
    until = int(worker.shared.steps.sum()) + 1 if until is None else until
    return worker.run(Order("run", until, state))


def transitions(worker: Worker) -> list[Transition]:
    found: list[Transition] = worker.env.get_wrapper_attr("transitions")
    return found


def flat(tensors: Any) -> Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


# -- algorithm S3 ------------------------------------------------------------------------------


def by_hand(agent: A3C, steps: list[Transition], memory: Memory) -> tuple[list[Tensor], Memory]:
    """The gradients d theta of algorithm S3, ascending; one step after the other."""
    network, config = agent.network, agent.config
    parameters = list(network.parameters())

    def look(observation: np.ndarray, memory: Memory) -> tuple[Tensor, Tensor, Memory]:
        x = torch.tensor(observation)[None]
        if network.lstm is not None:
            memory = network.lstm(x, memory)
            x = memory[0]
        return network.policy(x)[0], network.value(x)[0, 0], memory

    seen = []
    for step in steps:
        logits, value, memory = look(step.observation, memory)
        seen.append((logits, value))
    _, bootstrap, _ = look(steps[-1].successor, memory)
    total = [torch.zeros_like(p) for p in parameters]
    future = torch.zeros(()) if steps[-1].terminated else bootstrap.detach()
    for (logits, value), step in zip(reversed(seen), reversed(steps), strict=True):
        future = step.reward + config.gamma * future
        pi = torch.distributions.Categorical(logits=logits)
        log_pi = pi.log_prob(torch.tensor(step.action))
        objective = log_pi * (future - value.detach()) + config.entropy_coefficient * pi.entropy()
        objective = objective - config.value_coefficient * (future - value) ** 2
        gradients = torch.autograd.grad(objective, parameters, retain_graph=True)
        for sum_, gradient in zip(total, gradients, strict=True):
            sum_ += gradient
    return total, memory


@pytest.mark.parity  # Stable-Baselines3 has no A3C; this is algorithm S3, one step after the other
@pytest.mark.parametrize("lstm_size", [0, 6])
def test_segments_by_hand(lstm_size: int) -> None:
    """Two workers in turn: each copies the shared parameters, acts, and moves them with the shared
    statistics (eq. S2-S3, epsilon under the root).
    """
    agent = make(entropy_coefficient=0.05, lstm_size=lstm_size)
    start = agent.network.no_memory(1)
    workers, memories = make_workers(agent, 2), [start, start]
    lengths, ends = set(), set()
    for worker in itertools.islice(itertools.cycle(workers), 40):
        theta = [p.detach().clone() for p in agent_parameters(agent)]
        g = [v.clone() for v in agent.optimizer.v]
        done = len(transitions(worker))
        go_on(worker)
        segment = transitions(worker)[done:]

        copy = make(entropy_coefficient=0.05, lstm_size=lstm_size)
        with torch.no_grad():
            for mine, shared in zip(agent_parameters(copy), theta, strict=True):
                mine.copy_(shared)
        gradients, memory = by_hand(copy, segment, memories[worker.index])
        for p, v, gradient, now, g_now in zip(
            theta, g, gradients, agent_parameters(agent), agent.optimizer.v, strict=True
        ):
            v = 0.99 * v + 0.01 * gradient**2
            p = p + 1e-2 * gradient / (v + 0.1).sqrt()
            torch.testing.assert_close(g_now, v, rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(now.detach(), p, rtol=0, atol=1e-6)
            assert gradient.any() or lstm_size
        end = segment[-1].terminated or segment[-1].truncated
        memories[worker.index] = start if end else memory
        lengths.add(len(segment))
        ends.add((segment[-1].terminated, segment[-1].truncated))
        assert worker.shared.steps.tolist() == [len(transitions(one)) for one in workers]
    assert lengths == set(range(1, T_MAX + 1))
    assert len(ends) == 3


def agent_parameters(agent: A3C) -> list[nn.Parameter]:
    return list(agent.network.parameters())


def test_update_is_a_lone_workers() -> None:
    """``update`` on the shared agent does what a worker's ``learn`` does to it."""
    one, other = make(), make()
    (worker,) = make_workers(one)
    rollouts = record(worker)
    go_on(worker)
    ((rollout, memory),) = rollouts
    other.update((rollout, memory))
    assert torch.equal(flat(agent_parameters(one)), flat(agent_parameters(other)))
    assert other.updates == 1


def test_generalized_advantages() -> None:
    agent = make(gae_lambda=0.6)
    (worker,) = make_workers(agent)
    rollouts = record(worker)
    while not rollouts or len(rollouts[-1][0].actions) < T_MAX:
        go_on(worker)
    rollout, memory = rollouts[-1]
    features, following = rollout.observations, last_of(rollout.next_observations)
    assert isinstance(features, Tensor)
    assert isinstance(following, Tensor)
    with torch.no_grad():
        _, values = agent.network(torch.cat([features, following]))
    (alive,) = 1 - rollout.terminated[-1]
    values[-1] *= alive
    deltas = rollout.rewards[:, 0] + 0.9 * values[1:] - values[:-1]
    expected = [
        sum((0.9 * 0.6) ** (k - t) * deltas[k].item() for k in range(t, T_MAX))
        for t in range(T_MAX)
    ]
    ours = agent._advantages(rollout, agent.network(features)[1].detach(), memory)
    assert ours.tolist() == pytest.approx(expected, abs=1e-5)


def test_learning_rate_decays_with_the_steps_of_all_workers() -> None:
    agent = make(learning_rate_decay_steps=100)
    workers = make_workers(agent, 2)
    for worker in itertools.islice(itertools.cycle(workers), 20):
        go_on(worker)
        steps = int(worker.shared.steps.sum())
        assert agent.optimizer.rate.item() == pytest.approx(1e-2 * max(0, 1 - steps / 100))
    before = flat(agent_parameters(agent))
    go_on(workers[0], 200)
    after = flat(agent_parameters(agent))
    go_on(workers[0], 300)
    assert not torch.equal(before, flat(make().network.parameters()))
    assert torch.equal(after, flat(agent_parameters(agent)))


def test_gradient_is_clipped() -> None:
    """To a norm of 0.01: then the sum of g is at most (1 - alpha) 0.01^2 after one update."""
    agent = make(max_grad_norm=0.01)
    go_on(make_workers(agent)[0])
    assert flat(agent.optimizer.v).sum().item() == pytest.approx(0.01 * 0.01**2, rel=1e-3)


# -- segments and memories ---------------------------------------------------------------------


def record(worker: Worker, learn: bool = True) -> list[tuple[Rollout, Memory]]:
    """What the worker learns from, from now on."""
    recorded: list[tuple[Rollout, Memory]] = []
    real = worker.agent.learn

    def fake(shared: Any, rollout: Rollout, memory: Memory) -> dict[str, float]:
        recorded.append((rollout, memory))
        return real(shared, rollout, memory) if learn else {"policy_loss": 0.0}

    worker.agent.learn = fake  # type: ignore[method-assign]
    return recorded


def test_segments_do_not_cross_episodes() -> None:
    (worker,) = make_workers(make())
    rollouts = record(worker)
    outcome = go_on(worker, 300)
    steps = transitions(worker)
    lengths, since = [], 0
    for step in steps:
        since += 1
        if since == T_MAX or step.terminated or step.truncated:
            lengths.append(since)
            since = 0
    assert since == 0
    assert [len(rollout.rewards) for rollout, _ in rollouts] == lengths
    assert outcome.updates == len(lengths)
    rewards = torch.cat([rollout.rewards[:, 0] for rollout, _ in rollouts])
    np.testing.assert_allclose(rewards, [step.reward for step in steps], rtol=1e-6)
    observations = np.concatenate([rollout.observations for rollout, _ in rollouts])
    np.testing.assert_array_equal(observations, [step.observation for step in steps])
    successors = np.concatenate([rollout.next_observations for rollout, _ in rollouts])
    np.testing.assert_array_equal(successors, [step.successor for step in steps])
    for rollout, _ in rollouts:
        assert not rollout.done[:-1].any()
        assert (rollout.terminated <= rollout.done).all()
        assert rollout.real.all()


def test_episodes_are_reported() -> None:
    (worker,) = make_workers(make())
    outcome = go_on(worker, 300)
    expected, total, length = [], 0.0, 0
    for step in transitions(worker):
        total, length = total + step.reward, length + 1
        if step.terminated or step.truncated:
            expected.append((total, length))
            total, length = 0.0, 0
    assert [e[1] for e in outcome.episodes] == [e[1] for e in expected]
    assert [e[0] for e in outcome.episodes] == pytest.approx([e[0] for e in expected])
    assert worker.episode == pytest.approx((total, length))


def test_memory_is_carried_through_an_episode_and_forgotten_after_it() -> None:
    """With parameters that stay: a segment begins with what stepping from its episode's start
    leads to.
    """
    agent = make(lstm_size=6)
    (worker,) = make_workers(agent)
    rollouts = record(worker, learn=False)
    go_on(worker, 200)
    lstm = agent.network.lstm
    assert lstm is not None
    memory, carried = agent.network.no_memory(1), 0
    for rollout, saved in rollouts:
        for mine, expected in zip(saved, memory, strict=True):
            torch.testing.assert_close(mine, expected)
        carried += bool(saved[0].any())
        assert isinstance(rollout.observations, Tensor)
        with torch.no_grad():
            for observation in rollout.observations:
                memory = lstm(observation[None], memory)
        if rollout.done[-1]:
            memory = agent.network.no_memory(1)
    assert 5 < carried < len(rollouts) - 5


def test_gradients_flow_through_the_memory_within_a_segment_alone() -> None:
    agent = make(lstm_size=6)
    hidden, cell = (m.requires_grad_() for m in agent.network.no_memory(1))
    observations = torch.randn(3, 3, requires_grad=True)
    numbers, _, _ = agent.network.along(observations, (hidden, cell))
    (gradient,) = torch.autograd.grad(numbers[-1].sum(), observations)
    assert gradient.any(dim=1).all()
    (worker,) = make_workers(agent)
    go_on(worker, 50)
    assert not any(part.requires_grad for part in worker.memory)


def test_predict_by_hand() -> None:
    """Two environments; the second begins a new episode at the third step."""
    agent = make(lstm_size=6)
    with torch.no_grad():
        agent.network.policy[-1].weight.mul_(100)  # type: ignore[operator]
    observations = np.random.default_rng(0).normal(size=(30, 2, 3)).astype(np.float32)
    lstm = agent.network.lstm
    assert lstm is not None
    memory, state, chosen = agent.network.no_memory(2), None, []
    for t, observation in enumerate(observations):
        start = np.array([t == 0, t in (0, 2)])
        actions, state = agent.predict(observation, state, start, deterministic=True)
        with torch.no_grad():
            hidden, cell = (part * torch.tensor(~start)[:, None] for part in memory)
            memory = lstm(torch.tensor(observation), (hidden, cell))
            expected = agent.network.policy(memory[0]).argmax(-1)
        assert actions.tolist() == expected.tolist()
        assert state is not None
        for ours, part in zip(state, memory, strict=True):
            np.testing.assert_allclose(ours, part, atol=1e-6)
        chosen.append(actions)
    alone, state = [], None
    for observation in observations[:, 0]:
        action, state = agent.predict(observation, state, None, deterministic=True)
        assert np.shape(action) == ()
        alone.append(action)
    np.testing.assert_array_equal(alone, np.array(chosen)[:, 0])
    forgetful = [agent.act(observation, deterministic=True) for observation in observations]
    assert not np.array_equal(forgetful, chosen)


def test_predict_without_a_memory_is_act() -> None:
    agent = make()
    observations = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    actions, state = agent.predict(observations, deterministic=True)
    np.testing.assert_array_equal(actions, agent.act(observations, deterministic=True))
    again, _ = agent.predict(observations, state, np.zeros(20, bool), deterministic=True)
    np.testing.assert_array_equal(actions, again)


# -- what surrounds it -------------------------------------------------------------------------


def test_refuses_what_it_cannot_do() -> None:
    with pytest.raises(UnsupportedSpaceError, match="A3C needs"):
        A3C(SPACES[0], MultiBinary(3))
    with pytest.raises(UnsupportedSpaceError, match="A3C needs"):
        A3C(Text(5), SPACES[1])
    with pytest.raises(ValueError, match="device cpu, not cuda"):
        A3C(*SPACES, device="cuda")
    with pytest.raises(ValueError, match="lstm_size"):
        A3CConfig(lstm_size=-1)


@pytest.mark.parametrize("lstm_size", [0, 6])
def test_pauses_and_restarts_change_nothing(tmp_path: Path, lstm_size: int) -> None:
    """They come after whole segments, whenever they come."""
    unbroken, agent = make(lstm_size=lstm_size), make(lstm_size=lstm_size)
    (whole,), (worker,) = make_workers(unbroken), make_workers(agent)
    go_on(whole, 200)
    for until in (3, 4, 17, 60, 61, 120):
        go_on(worker, until)
    steps = int(worker.shared.steps.sum())
    save_state(tmp_path, {"agent": agent.state_dict(), "worker": worker.snapshot()})
    state = load_state(tmp_path)
    resumed = make(seed=9, lstm_size=lstm_size)
    resumed.load_state_dict(state["agent"])
    (again,) = make_workers(resumed)
    again.shared.steps[0] = steps
    again.restore(state["worker"])
    go_on(again, 200)
    assert torch.equal(flat(agent_parameters(unbroken)), flat(agent_parameters(resumed)))
    assert torch.equal(flat(unbroken.optimizer.v), flat(resumed.optimizer.v))
    assert again.episode == whole.episode
    np.testing.assert_array_equal(again.observation, whole.observation)


# -- worker processes --------------------------------------------------------------------------


def assert_same(one: Any, other: Any, path: str = "") -> None:
    """Nested plain data, bit for bit."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), path
        for key in one:
            assert_same(one[key], other[key], f"{path}/{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), path
        for i, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same(a, b, f"{path}/{i}")
    elif isinstance(one, (Tensor, np.ndarray)):
        assert np.array_equal(np.asarray(one), np.asarray(other)), path
    else:
        assert one == other, path


class Trained(NamedTuple):
    agent: A3C
    loop: AsynchronousLoop
    reports: list[Any]

    def state(self) -> dict[str, Any]:
        return {"agent": self.agent.state_dict(), "loop": self.loop.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        self.agent.load_state_dict(state["agent"])
        self.loop.load_state_dict(state["loop"])

    def run(self, total_steps: int) -> None:
        def on_step(report: Any) -> bool:
            self.reports.append(report)
            return True

        self.loop.run(total_steps, on_step)


@pytest.fixture(scope="module")
def start_processes() -> Iterator[Any]:
    """Makes an agent and its loop; ends all processes after the tests."""
    started = []

    def start(n_workers: int, seed: int = 0, **config: Any) -> Trained:
        agent = make(seed, **config)
        trained = Trained(agent, AsynchronousLoop(agent, partial(make_walk, 0), n_workers), [])
        started.append(trained.loop)
        return trained

    yield start
    for loop in started:
        loop.close()


@pytest.mark.lifecycle
def test_one_worker_is_bit_identical(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start_processes: Any
) -> None:
    """Stopped and resumed, paused often, or neither."""
    monkeypatch.setattr(asynchronous, "REPORT_SECONDS", 0.02)
    config = {"lstm_size": 6, "learning_rate_decay_steps": 10_000}
    paused, fresh = start_processes(1, **config), start_processes(1, seed=9, **config)
    save_state(tmp_path / "start", paused.state())
    paused.run(500)
    save_state(tmp_path / "middle", paused.state())
    paused.run(1_000)
    assert len(paused.reports) > 2  # it did pause by the clock
    expected = paused.state()

    fresh.load(load_state(tmp_path / "middle"))
    fresh.run(1_000)
    assert_same(fresh.state(), expected)

    monkeypatch.setattr(asynchronous, "REPORT_SECONDS", 1e6)
    fresh.load(load_state(tmp_path / "start"))
    fresh.run(1_000)
    assert_same(fresh.state(), expected)


@pytest.fixture(scope="module")
def two(start_processes: Any) -> Trained:
    """Two workers, both normalizations, 2,500 steps."""
    trained: Trained = start_processes(2, normalize_observations=True, normalize_rewards=True)
    trained.loop.state_dict()  # waits until both are there
    trained.run(2_500)
    return trained


@pytest.mark.lifecycle
def test_counters_are_exact(two: Trained) -> None:
    counts = two.loop.shared.steps
    assert (counts > 100).all()  # both take part
    assert int(counts.sum()) == two.loop.steps == two.agent.steps
    assert 2_500 <= two.loop.steps < 2_500 + 2 * T_MAX
    assert sum(report.updates for report in two.reports) == two.agent.updates
    assert two.agent.updates >= two.loop.steps / T_MAX
    before = [0, *(report.step for report in two.reports)]
    assert [report.before for report in two.reports] == before[:-1]
    for report in two.reports:
        assert report.before // 1_000 == (report.step - 1) // 1_000 or report.step % 1_000 < 10
        assert set(report.metrics) == set(A3C.metric_names)


@pytest.mark.lifecycle
def test_statistics_of_all_workers_are_merged(two: Trained) -> None:
    """Exactly those of the observations and returns that the workers met."""
    observed, returned, episodes = [], [], []
    for index, count in enumerate(two.loop.shared.steps.tolist()):
        env, returns = make_walk(0, index), RewardNormalizer(0.9)
        observation, _ = env.reset()
        length = 0
        for _ in range(count):
            observed.append(observation.astype(np.float64))
            observation, reward, terminated, truncated, _ = env.step(0)
            length += 1
            end = terminated or truncated
            returned.append(returns.accumulate(np.array([reward]), np.array([end]))[0])
            if end:
                observation, _ = env.reset()
                episodes.append(length)
                length = 0
    normalizer, rewards = two.agent.normalizer, two.agent.reward_normalizer
    assert normalizer is not None
    assert rewards is not None
    assert normalizer.count == rewards.statistics.count == two.loop.steps
    np.testing.assert_allclose(normalizer.mean, np.mean(observed, 0), rtol=1e-9)
    np.testing.assert_allclose(normalizer.variance, np.var(observed, 0), rtol=1e-9)
    np.testing.assert_allclose(rewards.statistics.mean, np.mean(returned), rtol=1e-9)
    np.testing.assert_allclose(rewards.statistics.variance, np.var(returned), rtol=1e-9)
    lengths = [length for report in two.reports for _, length in report.episodes]
    assert sorted(lengths) == sorted(episodes)


@pytest.mark.lifecycle
def test_state_of_two_workers(tmp_path: Path, two: Trained, start_processes: Any) -> None:
    """Goes to other processes as it is; these go on, and all of them end when told to."""
    config = {"normalize_observations": True, "normalize_rewards": True}
    save_state(tmp_path, two.state())
    state = load_state(tmp_path)
    other = start_processes(2, seed=9, **config)
    other.load(state)
    assert_same(other.state(), state)
    assert other.loop.steps == two.loop.steps
    other.run(3_000)
    assert (other.loop.shared.steps >= two.loop.shared.steps).all()
    assert other.loop.steps == other.agent.steps >= 3_000
    with pytest.raises(ValueError, match="1 workers, not of 2"):
        other.loop.load_state_dict({"counts": torch.zeros(1), "workers": [None]})

    other.loop.close()
    assert not any(process.is_alive() for process in other.loop.processes)
