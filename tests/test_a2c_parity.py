"""A2C against Stable-Baselines3's: the same weights, and rollouts that theirs collects.

Both run in float64: then nothing but the equations can make a difference. For that, their casts of
observations and of rollouts to float32 are switched off. Two differences are meant, and switched
off as well:
- Normalized advantages: they divide by the sample's deviation (n - 1), we by the rollout's own (n).
- Their RMSpropTFLike begins with a mean square of 1, as TensorFlow's does; ours, as the paper and
  PyTorch, with 0.
"""

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import Space
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from stable_baselines3 import A2C as TheirA2C
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import Tensor

from agents import A2C, A2CConfig
from agents.rollout import Rollout

pytestmark = pytest.mark.parity

N_ENVS, N_STEPS, UPDATES, HIDDEN = 3, 8, 5, (16, 12)
CONFIG: dict[str, Any] = {"learning_rate": 3e-3, "gamma": 0.97, "max_grad_norm": 0.5}
OBSERVATIONS = Box(-np.inf, np.inf, (5,), dtype=np.float64)
ACTIONS: dict[str, Space[Any]] = {
    "Discrete": Discrete(3),
    "MultiDiscrete": MultiDiscrete([3, 2]),
    "Box": Box(np.array([-2, 0], np.float32), np.array([4, 1], np.float32)),
}
METRICS = {  # ours -> theirs
    "policy_loss": "train/policy_loss",
    "value_loss": "train/value_loss",
    "entropy": "train/entropy_loss",  # minus it
}
Transition = tuple[np.ndarray, float, np.ndarray, bool, bool]


class Recorded(gym.Env[np.ndarray, Any]):
    """Random observations, rewards and ends; remembers all transitions."""

    observation_space = OBSERVATIONS

    def __init__(self, action_space: Space[Any], seed: int) -> None:
        self.action_space, self.rng = action_space, np.random.default_rng(seed)
        self.transitions: list[Transition] = []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        self.observation = self.rng.normal(size=5)
        return self.observation, {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        before, self.observation = self.observation, self.rng.normal(size=5)
        reward = self.rng.normal()
        terminated, truncated = (bool(flag) for flag in self.rng.random(2) < 0.15)
        self.transitions.append((before, reward, self.observation, terminated, truncated))
        return self.observation, reward, terminated, truncated, {}


class NoCallback(BaseCallback):
    def _on_step(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def double_precision(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def reset(buffer: RolloutBuffer, original: Any = RolloutBuffer.reset) -> None:
        original(buffer)
        for name, value in vars(buffer).items():
            if isinstance(value, np.ndarray) and value.dtype == np.float32:
                setattr(buffer, name, value.astype(np.float64))

    monkeypatch.setattr(RolloutBuffer, "reset", reset)
    monkeypatch.setattr(
        "stable_baselines3.common.policies.preprocess_obs", lambda obs, *_, **__: obs
    )
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def make_both(
    space: Space[Any], gae_lambda: float, normalize: bool, tf_like: bool
) -> tuple[A2C, TheirA2C]:
    config = A2CConfig(
        n_steps=N_STEPS,
        gae_lambda=gae_lambda,
        entropy_coefficient=0.02,
        hidden_sizes=HIDDEN,
        normalize_advantages=normalize,
        epsilon_inside=tf_like,
        **CONFIG,
    )
    agent = A2C(OBSERVATIONS, space, config, seed=1)
    policy: dict[str, Any] = {"net_arch": list(HIDDEN)}
    if tf_like:
        policy["optimizer_class"] = RMSpropTFLike
        policy["optimizer_kwargs"] = {"alpha": 0.99, "eps": 1e-5}
        for v in agent.optimizer.v:
            v.fill_(1.0)
    envs = DummyVecEnv([lambda i=i: Recorded(space, i) for i in range(N_ENVS)])  # type: ignore[misc]
    envs.buf_rews = envs.buf_rews.astype(np.float64)
    model = TheirA2C(
        "MlpPolicy",
        envs,
        n_steps=N_STEPS,
        gae_lambda=gae_lambda,
        ent_coef=0.02,
        normalize_advantage=normalize,
        policy_kwargs=policy,
        device="cpu",
        seed=3,
        **CONFIG,
    )
    model.set_logger(configure(None, []))
    with torch.no_grad():
        for theirs, ours in pairs(agent, model):
            theirs.copy_(ours)
    return agent, model


def pairs(agent: A2C, model: TheirA2C) -> list[tuple[Tensor, Tensor]]:
    """Their parameters with ours."""
    theirs, ours = model.policy, agent.network
    parts = [
        ([theirs.mlp_extractor.policy_net, theirs.action_net], ours.policy),
        ([theirs.mlp_extractor.value_net, theirs.value_net], ours.value),
    ]
    found: list[tuple[Tensor, Tensor]] = []
    for modules, mine in parts:
        parameters = [p for module in modules for p in module.parameters()]
        found += zip(parameters, mine.parameters(), strict=True)
    if isinstance(agent.action_space, Box):
        (log_std,) = ours.distribution.parameters()
        found.append((theirs.log_std, log_std))
    assert len(found) == len(list(theirs.parameters())) == len(list(ours.parameters()))
    return found


def take(model: TheirA2C) -> Rollout:
    """What they have just collected, as our rollout."""
    envs: Any = model.get_env()
    recorded = [env.unwrapped.transitions for env in envs.envs]
    steps = [[env[t] for env in recorded] for t in range(N_STEPS)]  # [T][n]
    for env in recorded:
        env.clear()
    before, rewards, after, terminated, truncated = (
        torch.tensor(np.array([[transition[i] for transition in step] for step in steps]))
        for i in range(5)
    )
    actions = torch.tensor(model.rollout_buffer.actions.astype(np.float32)).double()
    ends = terminated.double(), (terminated | truncated).double()
    flat = before.flatten(0, 1), actions.flatten(0, 1), rewards, after.flatten(0, 1)
    return Rollout(*flat, *ends, real=torch.ones_like(rewards))


def run_both(
    monkeypatch: pytest.MonkeyPatch, agent: A2C, model: TheirA2C
) -> Iterator[tuple[dict[str, float], dict[str, float], Rollout]]:
    """Yields after each update: our metrics, theirs, and the rollout."""
    _, callback = model._setup_learn(1_000, NoCallback())
    assert model.env is not None
    while True:
        model.collect_rollouts(model.env, callback, model.rollout_buffer, N_STEPS)
        rollout = take(model)
        with monkeypatch.context() as patch:
            patch.setattr(Tensor, "std", lambda values: torch.std(values, correction=0))
            model.train()
        logged = model.logger.name_to_value
        theirs = {name: logged[key] for name, key in METRICS.items()}
        theirs["entropy"] *= -1
        yield agent.update(rollout), theirs, rollout


@pytest.mark.parametrize("space", ACTIONS.values(), ids=ACTIONS)
@pytest.mark.parametrize("gae_lambda", [1.0, 0.9])
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("tf_like", [False, True])
def test_updates(
    monkeypatch: pytest.MonkeyPatch,
    space: Space[Any],
    gae_lambda: float,
    normalize: bool,
    tf_like: bool,
) -> None:
    agent, model = make_both(space, gae_lambda, normalize, tf_like)
    before = [ours.clone() for _, ours in pairs(agent, model)]
    steps = run_both(monkeypatch, agent, model)
    ends = torch.zeros(2)
    for update in range(UPDATES):
        metrics, expected, rollout = next(steps)
        assert metrics == pytest.approx(expected, rel=1e-9), update
        for theirs, ours in pairs(agent, model):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)
        truncated = rollout.done - rollout.terminated
        ends += torch.stack([rollout.terminated.sum(), truncated.sum()])
    assert (ends > 3).all()  # of both kinds
    for (_, now), then in zip(pairs(agent, model), before, strict=True):
        assert (now - then).abs().max() > 1e-6


def test_gradients_are_clipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the updates above: without a limit they are larger."""
    squares = []
    for limit in (CONFIG["max_grad_norm"], np.inf):
        monkeypatch.setitem(CONFIG, "max_grad_norm", limit)
        agent, model = make_both(ACTIONS["Discrete"], 1.0, False, False)
        next(run_both(monkeypatch, agent, model))
        squares.append(sum(v.sum().item() for v in agent.optimizer.v))
    assert squares[1] > 1.1 * squares[0]


@pytest.mark.parametrize("space", ACTIONS.values(), ids=ACTIONS)
def test_deterministic_actions(space: Space[Any]) -> None:
    agent, model = make_both(space, 1.0, False, False)
    observations = 3 * np.random.default_rng(0).normal(size=(50, 5))
    with pytest.MonkeyPatch.context() as patch:  # ours are read as float32
        patch.setattr(agent, "features", lambda obs: (torch.tensor(obs), False))
        ours = agent.act(observations, deterministic=True)
    theirs, _ = model.predict(observations, deterministic=True)
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


@pytest.mark.parametrize("space", ACTIONS.values(), ids=ACTIONS)
def test_initial_weights_are_distributed_alike(space: Space[Any]) -> None:
    """Orthogonal, with the same gains: the singular values of every layer are all alike."""
    agent = A2C(OBSERVATIONS, space, A2CConfig(hidden_sizes=HIDDEN), seed=1)
    model = TheirA2C("MlpPolicy", Recorded(space, 0), policy_kwargs={"net_arch": list(HIDDEN)})
    for theirs, ours in pairs(agent, model):
        if ours.ndim == 2:
            spread = torch.linalg.svdvals(ours)
            torch.testing.assert_close(spread, torch.linalg.svdvals(theirs), atol=1e-5, rtol=0)
        else:
            assert torch.equal(ours, theirs)
