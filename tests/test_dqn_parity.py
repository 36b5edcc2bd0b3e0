"""DQN's update against Stable-Baselines3's, with the same weights and batches.

On vectors both run in float64: then nothing but the equations can make a difference. They cast
observations to float32, which is switched off.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import Space
from gymnasium.spaces import Box, Discrete
from stable_baselines3 import DQN as TheirDQN
from stable_baselines3.common.logger import configure
from stable_baselines3.common.type_aliases import ReplayBufferSamples

from agents import DQN, DQNConfig
from agents.observations import NUMBERS, PIXELS
from agents.replay import Batch

pytestmark = pytest.mark.parity

BATCH_SIZE, UPDATES, HIDDEN = 32, 20, [16, 12]
CONFIG: dict[str, Any] = {
    "learning_rate": 3e-3,
    "gamma": 0.97,
    "max_grad_norm": 10.0,
    "target_update_interval": 7,
}
VECTORS = Box(-np.inf, np.inf, (5,), dtype=np.float64)
PICTURES = Box(0, 255, (4, 36, 36), np.uint8)


class Spaces(gym.Env[np.ndarray, Any]):
    """Stable-Baselines3 takes the spaces from an environment."""

    action_space = Discrete(4)

    def __init__(self, observation_space: Space[Any]) -> None:
        self.observation_space = observation_space


@pytest.fixture
def double_precision(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(
        "stable_baselines3.common.policies.preprocess_obs", lambda obs, *_, **__: obs
    )
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def make_both(space: Box, hidden: list[int]) -> tuple[DQN, TheirDQN]:
    """Ours and theirs, both networks of ours with weights of their own."""
    agent = DQN(space, Discrete(4), DQNConfig(hidden_sizes=tuple(hidden), **CONFIG), seed=1)
    other = DQN(space, Discrete(4), agent.config, seed=2)
    agent.target_network.load_state_dict(other.network.state_dict())
    policy = "CnnPolicy" if space is PICTURES else "MlpPolicy"
    model = TheirDQN(
        policy,
        Spaces(space),
        buffer_size=BATCH_SIZE,
        policy_kwargs={"net_arch": hidden},
        device="cpu",
        **CONFIG,
    )
    model.set_logger(configure(None, []))
    with torch.no_grad():
        for theirs, ours in pairs(agent, model):
            theirs.copy_(ours)
    return agent, model


def pairs(agent: DQN, model: TheirDQN) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Their parameters with ours, those of the target network too."""
    for theirs, ours in (
        (model.q_net, agent.network),
        (model.q_net_target, agent.target_network),
    ):
        yield from zip(theirs.parameters(), ours.parameters(), strict=True)


def make_batches(model: TheirDQN, space: Box) -> Iterator[tuple[Batch, ReplayBufferSamples]]:
    """Plain, terminated and truncated transitions; the latter two told apart by their buffer."""
    rng, n = np.random.default_rng(0), BATCH_SIZE
    terminated, truncated = np.arange(n) % 4 == 0, np.arange(n) % 4 == 1
    assert model.replay_buffer is not None
    for scale in itertools.cycle([0.3, 3.0, 60.0]):  # also gradients that are too large
        if space is PICTURES:
            obs, next_obs = rng.integers(256, size=(2, n, *space.shape), dtype=np.uint8)
        else:
            obs, next_obs = scale * rng.normal(size=(2, n, 5))
        actions, rewards = rng.integers(4, size=(n, 1)), 2 * rng.normal(size=n)
        for i in range(n):
            done, infos = (terminated | truncated)[i], [{"TimeLimit.truncated": truncated[i]}]
            model.replay_buffer.add(
                obs[i], next_obs[i], actions[i], rewards[i : i + 1], np.array([done]), infos
            )
        samples = model.replay_buffer._get_samples(np.arange(n))  # in part rounded to float32
        assert samples.dones.sum() == n / 4
        default = torch.get_default_dtype()
        before, after = torch.tensor(obs), torch.tensor(next_obs)
        flags = (torch.tensor(flag).to(default) for flag in (terminated, truncated))
        columns = torch.tensor(actions).to(default), torch.tensor(rewards).to(default)
        plain = Batch(before, *columns, after, *flags)
        if space is PICTURES:
            none = torch.zeros(n, 0)
            plain = plain._replace(
                observations={NUMBERS: none, PIXELS: before},
                next_observations={NUMBERS: none, PIXELS: after},
            )
        yield (
            plain,
            samples._replace(
                observations=before,
                next_observations=after,
                dones=samples.dones.to(default),
                rewards=columns[1][:, None],
            ),
        )


def run_both(
    monkeypatch: pytest.MonkeyPatch, agent: DQN, model: TheirDQN, space: Box, updates: int
) -> Iterator[tuple[float, float]]:
    """Updates both side by side, one environment step each; yields our loss and theirs."""
    for batch, samples in itertools.islice(make_batches(model, space), updates):
        agent.observe(np.zeros((1, *space.shape)))
        model._on_step()
        with monkeypatch.context() as patch:
            patch.setattr(model.replay_buffer, "sample", lambda *_, s=samples, **__: s)
            model.train(gradient_steps=1, batch_size=BATCH_SIZE)
        yield agent.update(batch)["loss"], model.logger.name_to_value["train/loss"]


@pytest.fixture
def norms(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The norms of their gradients, before clipping."""
    seen: list[float] = []

    def clip(*args: Any, real: Any = torch.nn.utils.clip_grad_norm_) -> Any:
        norm = real(*args)
        seen.append(float(norm))
        return norm

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", clip)
    return seen


def assert_same_weights(agent: DQN, model: TheirDQN, atol: float) -> None:
    for theirs, ours in pairs(agent, model):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=atol)


@pytest.mark.usefixtures("double_precision")
def test_one_update(monkeypatch: pytest.MonkeyPatch) -> None:
    agent, model = make_both(VECTORS, HIDDEN)
    ((ours, theirs),) = run_both(monkeypatch, agent, model, VECTORS, 1)
    assert ours == pytest.approx(theirs, rel=1e-12)
    assert_same_weights(agent, model, atol=1e-12)


@pytest.mark.usefixtures("double_precision")
def test_trajectory(monkeypatch: pytest.MonkeyPatch, norms: list[float]) -> None:
    """20 updates, with gradients clipped and not, and the target network copied at 7 and 14."""
    agent, model = make_both(VECTORS, HIDDEN)
    before = [ours.clone() for _, ours in pairs(agent, model)]
    losses = list(run_both(monkeypatch, agent, model, VECTORS, UPDATES))
    assert len(losses) == UPDATES
    for ours, theirs in losses:
        assert ours == pytest.approx(theirs, rel=1e-10)
    assert_same_weights(agent, model, atol=1e-10)
    for (_, now), then in zip(pairs(agent, model), before, strict=True):
        assert not torch.equal(now, then)  # the target network's too
    assert min(norms) < 10 < max(norms)
    assert agent.copied_at == 14


def test_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Nature CNN, its rectifiers and scaled pictures, in float32."""
    agent, model = make_both(PICTURES, [])
    for ours, theirs in run_both(monkeypatch, agent, model, PICTURES, 3):
        assert ours == pytest.approx(theirs, rel=1e-5)
    assert_same_weights(agent, model, atol=1e-5)


def test_greedy_actions(monkeypatch: pytest.MonkeyPatch) -> None:
    agent, model = make_both(PICTURES, [16])
    pictures = np.random.default_rng(0).integers(256, size=(20, 4, 36, 36), dtype=np.uint8)
    ours, _ = agent.predict(pictures, deterministic=True)
    theirs, _ = model.predict(pictures, deterministic=True)
    np.testing.assert_array_equal(ours, theirs)
