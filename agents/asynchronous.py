"""A3C's loop: worker processes that train on shared parameters, and a parent that keeps count.

The parent lets the workers run, without a lock, until a number of steps or a second has passed;
then each stops after the update it is at, and the parent reports, evaluates or saves while nothing
moves. Counters are exact: every worker has one of its own, which only it writes.
"""

import atexit
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Literal, NamedTuple

import gymnasium as gym
import numpy as np
import torch
import torch.multiprocessing as mp
from torch import Tensor

from agents.a3c import A3C
from agents.failures import (
    EnvironmentFailure,
    TrainingFailure,
    check_metrics,
    check_observations,
    check_rewards,
    environment_failures,
)
from agents.normalizer import Moments, RunningNormalizer
from agents.observations import as_batch
from agents.optimizer import RMSProp
from agents.rollout import RolloutBuffer
from agents.state import check_like
from agents.stepping import StepReport

REPORT_STEPS, REPORT_SECONDS = 1_000, 1.0  # at most so far apart are two reports

MakeEnv = Callable[[int], gym.Env[Any, Any]]  # index -> that worker's environment (see Worker)


@dataclass
class Shared:
    """What all processes see: nothing of it is ever locked."""

    optimizer: RMSProp  # the parameters, theta, and RMSProp's statistics, g
    steps: Tensor  # int64 [workers]: environment steps of each
    pause: Tensor  # int64 []: not 0 if workers shall stop after the update they are at


class Order(NamedTuple):
    """What the parent sends to a worker."""

    what: Literal["run", "snapshot", "restore"]
    until: int = 0  # run: environment steps of all workers at which to stop
    state: Any = None  # run: the normalizers' states; restore: the worker's state


class Outcome(NamedTuple):
    """What a worker sends back: of a run, or a snapshot in ``state``."""

    updates: int = 0
    metrics: dict[str, float] | None = None  # of its last update
    episodes: tuple[tuple[float, int], ...] = ()  # (return, length) that ended
    moments: tuple[tuple[Moments, Moments], ...] = ()  # of what each segment met
    state: Any = None
    failure: str = ""


class AsynchronousLoop:
    """Trains ``agent`` with ``n_workers`` processes, each in an environment of its own.

    Args:
        agent: its parameters become the shared ones.
        make_env: can be pickled; makes environments that are seeded, and that have ``snapshot``
            and ``restore``, so that a run can be resumed.
        n_workers: number of processes.

    """

    def __init__(self, agent: A3C, make_env: MakeEnv, n_workers: int) -> None:
        self.agent, self.n_workers = agent, n_workers
        self.steps = 0
        self.seconds = {"run": 0.0, "pause": 0.0}
        counts = torch.zeros(n_workers, dtype=torch.int64).share_memory_()
        pause = torch.zeros((), dtype=torch.int64).share_memory_()
        for tensor in _tensors(agent.optimizer):
            tensor.share_memory_()
        self.shared = Shared(agent.optimizer, counts, pause)
        self.pipes: list[Connection] = []
        self.processes: list[Any] = []
        context = mp.get_context("spawn")  # a fork would inherit threads that are not there
        for index in range(n_workers):
            mine, theirs = context.Pipe()
            spaces = agent.observation_space, agent.action_space
            args = (theirs, self.shared, make_env, index, spaces, agent.config, agent.seed)
            process = context.Process(target=_work, args=args, daemon=True)
            process.start()
            theirs.close()  # so that a dead worker is the end of this pipe
            self.pipes.append(mine)
            self.processes.append(process)
        atexit.register(self.close)  # else Python would wait for processes that wait for it

    def run(self, total_steps: int, on_step: Callable[[StepReport], bool]) -> None:
        """Trains until ``total_steps`` in all, or until ``on_step`` returns False.

        A few steps more than that are done: each worker finishes the update it is at.
        """
        while self.steps < total_steps:
            before = self.steps
            until = min((before // REPORT_STEPS + 1) * REPORT_STEPS, total_steps)
            start = time.perf_counter()
            outcomes = self._run_workers(until)
            self.seconds["run"] += time.perf_counter() - start
            self.steps = self.agent.steps = int(self.shared.steps.sum())
            updates = sum(outcome.updates for outcome in outcomes)
            self.agent.updates += updates
            for outcome in outcomes:
                for moments in outcome.moments:
                    merge_moments(self.agent, *moments)
            metrics = next((o.metrics for o in outcomes if o.metrics), {})
            episodes = [episode for outcome in outcomes for episode in outcome.episodes]
            report = StepReport(before, self.steps, updates, metrics, episodes)
            start = time.perf_counter()
            if not on_step(report):
                return
            self.seconds["pause"] += time.perf_counter() - start

    def _run_workers(self, until: int) -> list[Outcome]:
        self.shared.pause.zero_()
        state: dict[str, Any] = {"normalizer": None, "rewards": None}
        if self.agent.normalizer is not None:
            state["normalizer"] = self.agent.normalizer.state_dict()
        if self.agent.reward_normalizer is not None:
            state["rewards"] = self.agent.reward_normalizer.statistics.state_dict()
        for pipe in self.pipes:
            self._send(pipe, Order("run", until, state))
        deadline = time.monotonic() + REPORT_SECONDS
        for pipe in self.pipes:
            while not self.shared.pause and not pipe.poll(max(deadline - time.monotonic(), 0)):
                if time.monotonic() >= deadline:
                    self.shared.pause.fill_(1)
        return [self._receive(pipe) for pipe in self.pipes]

    def _send(self, pipe: Connection, order: Order) -> None:
        try:
            pipe.send(order)
        except OSError:
            self._receive(pipe)  # its last words, if there are any

    def _receive(self, pipe: Connection) -> Outcome:
        try:
            outcome: Outcome = pipe.recv()
        except (EOFError, OSError):
            raise EnvironmentFailure(
                f"a worker process of A3C died after step {self.steps:,}"
            ) from None
        if outcome.failure:
            raise TrainingFailure(outcome.failure)
        return outcome

    def close(self) -> None:
        """Ends the workers."""
        atexit.unregister(self.close)
        for pipe in self.pipes:
            pipe.close()
        for process in self.processes:
            process.join(timeout=10)
            if process.is_alive():
                process.kill()
                process.join()

    def state_dict(self) -> dict[str, Any]:
        """The counters, and of every worker its environment, memory, noise and unfinished count."""
        for pipe in self.pipes:
            self._send(pipe, Order("snapshot"))
        workers = [self._receive(pipe).state for pipe in self.pipes]
        return {"counts": self.shared.steps, "workers": workers}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        counts, workers = state["counts"], list(state["workers"])
        if counts.shape != (self.n_workers,) or len(workers) != self.n_workers:
            raise ValueError(f"a state of {len(workers)} workers, not of {self.n_workers}")
        check_like(counts, self.shared.steps, "counts")
        self.shared.steps.copy_(counts)
        self.steps = int(counts.sum())
        for pipe, worker in zip(self.pipes, workers, strict=True):
            self._send(pipe, Order("restore", state=worker))
        for pipe in self.pipes:
            self._receive(pipe)


def merge_moments(agent: A3C, seen: Moments, returns: Moments) -> None:
    """Adds what one segment has met to an agent's normalizers.

    Worker and parent do so segment by segment, so that it makes no difference when the pauses are.
    """
    if agent.normalizer is not None:
        agent.normalizer.merge(*seen)
    if agent.reward_normalizer is not None:
        agent.reward_normalizer.statistics.merge(*returns)


def _tensors(optimizer: RMSProp) -> list[Tensor]:
    """Everything of an optimizer that workers change or read."""
    parameters = [parameter.data for parameter in optimizer.parameters]
    return [*parameters, *optimizer.m, *optimizer.v, optimizer.rate, optimizer.step]


class Worker:
    """One actor-learner: algorithm S3 from its own environment into the shared parameters."""

    def __init__(self, shared: Shared, env: gym.Env[Any, Any], index: int, agent: A3C) -> None:
        self.shared, self.env, self.index, self.agent = shared, env, index, agent
        layout, width = agent.layout, agent.distribution.width
        self.rollout = RolloutBuffer(agent.config.n_steps, 1, layout, width)
        self.memory = agent.network.no_memory(1)
        self.observation: Any = None
        self.episode = (0.0, 0)  # return and length so far
        self.seen, self.returns = RunningNormalizer(layout.size), RunningNormalizer(1)

    def run(self, order: Order) -> Outcome:
        """Segments of at most t_max steps, each with its update, until it is told to stop."""
        self._normalize_by(order.state)
        updates, metrics, episodes, moments = 0, None, [], []
        if self.observation is None:
            self._reset()
        # Reading the others' counters while they write them is fine: they only ever grow.
        while int(self.shared.steps.sum()) < order.until and not self.shared.pause:
            for mine, theta in zip(
                self.agent.network.parameters(), self.shared.optimizer.parameters, strict=True
            ):
                mine.data.copy_(theta.data)
            memory = self.memory
            episodes += self._act()
            self.agent.steps = int(self.shared.steps.sum())
            moments.append((self.seen.moments(), self.returns.moments()))
            merge_moments(self.agent, *moments[-1])
            rollout = self.rollout.take(self.agent.device)
            metrics = self.agent.learn(self.shared.optimizer, rollout, memory)
            check_metrics(metrics, self.agent.steps)
            updates += 1
        return Outcome(updates, metrics, tuple(episodes), tuple(moments))

    def _act(self) -> list[tuple[float, int]]:
        """Up to t_max steps, or to the episode's end; returns the episode if it ended."""
        self.seen, self.returns = RunningNormalizer(self.agent.layout.size), RunningNormalizer(1)
        step = int(self.shared.steps.sum())
        done = False
        while not done and self.rollout.size < self.rollout.length:
            observation = as_batch(self.observation)
            self.seen.update(self.agent.layout.numbers(observation))
            drawn, self.memory, _ = self.agent.draw(observation, self.memory)
            action = self.agent.distribution.to_environment(drawn)[0]
            with environment_failures(step):
                self.observation, reward, terminated, truncated, _ = self.env.step(action)
            rewards, successor = np.array([reward], np.float64), as_batch(self.observation)
            check_rewards(rewards, step)
            check_observations(self.agent.layout, successor, step)
            done = bool(terminated or truncated)
            self.episode = (self.episode[0] + float(reward), self.episode[1] + 1)
            ends = np.array([terminated]), np.array([truncated])
            rewards = self._scale(rewards, ends[0] | ends[1])
            real = np.ones(1, bool)
            self.rollout.add(observation, drawn.numpy(), rewards, successor, *ends, real)
            self.shared.steps[self.index] += 1
        if not done:
            return []
        ended = self.episode
        self._reset()
        return [ended]

    def _reset(self) -> None:
        step = int(self.shared.steps.sum())
        with environment_failures(step):
            self.observation, _ = self.env.reset()
        check_observations(self.agent.layout, as_batch(self.observation), step)
        self.episode, self.memory = (0.0, 0), self.agent.network.no_memory(1)

    def _scale(self, rewards: np.ndarray, done: np.ndarray) -> np.ndarray:
        """Rewards by the deviation of the return as of the last segment, if that is asked for."""
        normalizer = self.agent.reward_normalizer
        if normalizer is None:
            return rewards
        self.returns.update(normalizer.accumulate(rewards, done)[:, None])
        return normalizer.scale(rewards)

    def _normalize_by(self, state: dict[str, Any]) -> None:
        """Takes over the normalizers' statistics as the parent has merged them."""
        if self.agent.normalizer is not None:
            self.agent.normalizer.load_state_dict(state["normalizer"])
        if self.agent.reward_normalizer is not None:
            self.agent.reward_normalizer.statistics.load_state_dict(state["rewards"])

    def snapshot(self) -> dict[str, Any]:
        """All that the next segment depends on besides the shared parameters, as plain data."""
        rewards = self.agent.reward_normalizer
        return {
            "environment": self.env.get_wrapper_attr("snapshot")(),
            "observation": self.observation,
            "memory": list(self.memory),
            "episode": list(self.episode),
            "generator": self.agent.generator.get_state(),
            "returns": None if rewards is None else rewards.returns,
        }

    def restore(self, state: dict[str, Any]) -> None:
        # A return may be negative; before its first step a worker has none of the other three.
        anything = {"environment": None, "observation": None, "returns": None}
        check_like(state, self.snapshot() | {"episode": [-1.0, 0]} | anything)
        if state["observation"] is not None:  # as it is before the first step
            check_observations(self.agent.layout, as_batch(state["observation"]), 0)
        snapshots = {self.index: state["environment"]}
        self.env.get_wrapper_attr("restore")(snapshots)
        self.observation = state["observation"]
        hidden, cell = state["memory"]
        self.memory = hidden, cell
        self.episode = (float(state["episode"][0]), int(state["episode"][1]))
        self.agent.generator.set_state(state["generator"])
        if self.agent.reward_normalizer is not None:
            self.agent.reward_normalizer.load_returns(state["returns"], 1)


def _work(
    pipe: Connection,
    shared: Shared,
    make_env: MakeEnv,
    index: int,
    spaces: tuple[Any, Any],
    config: Any,
    seed: int,
) -> None:
    """A worker process: orders in, outcomes out, until the pipe ends."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the parent decides what they mean
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)
    try:
        with environment_failures(0):
            env = make_env(index)
        own_seed = int(np.random.SeedSequence([seed, index]).generate_state(1)[0])
        worker = Worker(shared, env, index, A3C(*spaces, config, seed=own_seed))
        while True:
            order: Order = pipe.recv()
            if order.what == "run":
                pipe.send(worker.run(order))
            elif order.what == "snapshot":
                pipe.send(Outcome(state=worker.snapshot()))
            else:
                worker.restore(order.state)
                pipe.send(Outcome())
    except (EOFError, OSError):  # the parent has closed the pipe, or is no more
        return
    except Exception as error:  # to be raised where the user is
        failure = " ".join(str(error).split()) or type(error).__name__
        with suppress(OSError):
            pipe.send(Outcome(failure=failure))
