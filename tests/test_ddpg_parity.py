"""DDPG's update against Stable-Baselines3's, with the same weights and batches.

Both run in float64: then nothing but the equations can make a difference. They cast observations
to float32, which is switched off. They have no batch normalization and no weight decay.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from stable_baselines3 import DDPG as TheirDDPG
from stable_baselines3.common.logger import configure
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from torch import Tensor, nn

from agents import DDPG, DDPGConfig
from agents.replay import Batch

pytestmark = pytest.mark.parity

BATCH_SIZE, UPDATES, HIDDEN = 32, 20, (16, 12)
CONFIG: dict[str, Any] = {"gamma": 0.97, "tau": 0.02}
OBSERVATIONS = Box(-np.inf, np.inf, (5,), dtype=np.float64)
ACTIONS = Box(np.array([-2, 0], np.float32), np.array([4, 1], np.float32))


class Spaces(gym.Env[np.ndarray, np.ndarray]):
    """Stable-Baselines3 takes the spaces from an environment."""

    observation_space, action_space = OBSERVATIONS, ACTIONS


@pytest.fixture(autouse=True)
def double_precision(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(
        "stable_baselines3.common.policies.preprocess_obs", lambda obs, *_, **__: obs
    )
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def make_both() -> tuple[DDPG, TheirDDPG]:
    """Ours and theirs, with targets that are other networks."""
    config = DDPGConfig(
        hidden_sizes=HIDDEN, actor_learning_rate=3e-3, critic_learning_rate=3e-3, **CONFIG
    )
    agent, other = (DDPG(OBSERVATIONS, ACTIONS, config, seed=seed) for seed in (1, 2))
    agent.target_actor.load_state_dict(other.actor.state_dict())
    agent.target_critic.load_state_dict(other.critic.state_dict())
    model = TheirDDPG(
        "MlpPolicy",
        Spaces(),
        learning_rate=3e-3,
        buffer_size=BATCH_SIZE,
        policy_kwargs={"net_arch": list(HIDDEN)},
        device="cpu",
        **CONFIG,
    )
    model.set_logger(configure(None, []))
    with torch.no_grad():
        for theirs, ours in pairs(agent, model):
            theirs.copy_(ours)
    return agent, model


def pairs(agent: DDPG, model: TheirDDPG) -> Iterator[tuple[Tensor, Tensor]]:
    """Their parameters with ours, those of the targets too."""
    networks: list[tuple[nn.Module, nn.Module]] = [
        (model.actor, agent.actor),
        (model.critic, agent.critic),
        (model.actor_target, agent.target_actor),
        (model.critic_target, agent.target_critic),
    ]
    for theirs, ours in networks:
        yield from zip(theirs.parameters(), ours.parameters(), strict=True)


def make_batches(model: TheirDDPG) -> Iterator[tuple[Batch, ReplayBufferSamples]]:
    """Plain, terminated and truncated transitions; the latter two told apart by their buffer."""
    rng, n = np.random.default_rng(0), BATCH_SIZE
    terminated, truncated = np.arange(n) % 4 == 0, np.arange(n) % 4 == 1
    center, scale = np.array([1.0, 0.5]), np.array([3.0, 0.5])  # of ACTIONS
    assert model.replay_buffer is not None
    while True:
        obs, next_obs = rng.normal(size=(2, n, 5))
        unit, rewards = rng.uniform(-1, 1, size=(n, 2)), rng.normal(size=n)
        columns = (obs, center + scale * unit, rewards, next_obs, terminated, truncated)
        batch = Batch(*(torch.tensor(column).double() for column in columns))
        for i in range(n):
            done, infos = (terminated | truncated)[i], [{"TimeLimit.truncated": truncated[i]}]
            model.replay_buffer.add(
                obs[i], next_obs[i], unit[i], rewards[i : i + 1], np.array([done]), infos
            )
        samples = model.replay_buffer._get_samples(np.arange(n))  # in part rounded to float32
        assert samples.dones.sum() == n / 4
        yield (
            batch,
            samples._replace(
                observations=torch.tensor(obs),
                actions=torch.tensor(unit),
                next_observations=torch.tensor(next_obs),
                dones=samples.dones.double(),
                rewards=batch.rewards[:, None],
            ),
        )


def run_both(
    monkeypatch: pytest.MonkeyPatch, agent: DDPG, model: TheirDDPG, updates: int
) -> Iterator[tuple[dict[str, float], dict[str, float]]]:
    """Updates both side by side; yields our losses and theirs."""
    names = ["critic_loss", "actor_loss"]
    for batch, samples in itertools.islice(make_batches(model), updates):
        metrics = agent.update(batch)
        with monkeypatch.context() as patch:
            patch.setattr(model.replay_buffer, "sample", lambda *_, s=samples, **__: s)
            model.train(gradient_steps=1, batch_size=BATCH_SIZE)
        logged = model.logger.name_to_value
        yield {n: metrics[n] for n in names}, {n: logged[f"train/{n}"] for n in names}


def assert_same_weights(agent: DDPG, model: TheirDDPG, atol: float) -> None:
    for theirs, ours in pairs(agent, model):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=atol)


def test_one_update(monkeypatch: pytest.MonkeyPatch) -> None:
    agent, model = make_both()
    ((ours, theirs),) = run_both(monkeypatch, agent, model, 1)
    assert ours == pytest.approx(theirs, rel=1e-12)
    assert_same_weights(agent, model, atol=1e-12)


def test_trajectory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each update moves every weight by about 3e-3; after 20 they are 1e-10 apart at most."""
    agent, model = make_both()
    before = [ours.clone() for _, ours in pairs(agent, model)]
    losses = list(run_both(monkeypatch, agent, model, UPDATES))
    assert len(losses) == UPDATES
    for ours, theirs in losses:
        assert ours == pytest.approx(theirs, rel=1e-9)
    assert_same_weights(agent, model, atol=1e-10)
    for (_, now), then in zip(pairs(agent, model), before, strict=True):
        assert (now - then).abs().max() > 1e-3  # the targets' too


def test_deterministic_actions(monkeypatch: pytest.MonkeyPatch) -> None:
    agent, model = make_both()
    observations = 3 * np.random.default_rng(0).normal(size=(50, 5))
    monkeypatch.setattr(agent, "features", lambda obs: (torch.tensor(obs), False))
    ours = agent.act(observations, deterministic=True)
    theirs, _ = model.predict(observations, deterministic=True)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)  # they round actions to float32
