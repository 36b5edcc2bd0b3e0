"""SAC's update against Stable-Baselines3's, with the same weights, batches and noise.

Both run in float64: then nothing but the equations can make a difference, and the tolerances are
those of rounding. Two things of theirs are switched off. They add 1e-6 inside the logarithm of
1 - tanh^2 to keep it finite, where ours is exact; and they cast observations to float32.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from stable_baselines3 import SAC as TheirSAC
from stable_baselines3.common.distributions import SquashedDiagGaussianDistribution
from stable_baselines3.common.logger import configure
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from torch import Tensor

from agents import SAC, SACConfig
from agents.networks import EnsembleLinear
from agents.replay import Batch

pytestmark = pytest.mark.parity

BATCH_SIZE, UPDATES, HIDDEN = 32, 20, (16, 12)
CONFIG: dict[str, Any] = {"learning_rate": 3e-3, "gamma": 0.97, "tau": 0.02}
OBSERVATIONS = Box(-np.inf, np.inf, (5,), dtype=np.float64)
ACTIONS = Box(np.array([-2, 0], np.float32), np.array([4, 1], np.float32))
METRICS = {  # ours -> theirs
    "critic_loss": "train/critic_loss",
    "actor_loss": "train/actor_loss",
    "temperature_loss": "train/ent_coef_loss",
    "temperature": "train/ent_coef",
}


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


def their_layers(model: TheirSAC) -> dict[str, list[torch.nn.Linear]]:
    def linears(module: torch.nn.Module) -> list[torch.nn.Linear]:
        return [m for m in module.modules() if isinstance(m, torch.nn.Linear)]

    actor = model.actor
    assert isinstance(actor.log_std, torch.nn.Linear)
    return {
        "trunk": linears(actor.latent_pi),
        "heads": [actor.mu, actor.log_std],
        **{f"critic {i}": linears(q) for i, q in enumerate(model.critic.q_networks)},
        **{f"target {i}": linears(q) for i, q in enumerate(model.critic_target.q_networks)},
    }


def our_layers(agent: SAC) -> dict[str, list[tuple[Tensor, Tensor]]]:
    """(weight [out, in], bias [out]) as Stable-Baselines3 lays them out."""
    *trunk, last = [m for m in agent.actor.net if isinstance(m, torch.nn.Linear)]
    layers: dict[str, list[tuple[Tensor, Tensor]]] = {
        "trunk": [(m.weight, m.bias) for m in trunk],
        "heads": list(zip(last.weight.chunk(2), last.bias.chunk(2), strict=True)),
    }
    for name, critics in (("critic", agent.critics), ("target", agent.target_critics)):
        ensemble = [m for m in critics.net if isinstance(m, EnsembleLinear)]
        for i in range(2):
            layers[f"{name} {i}"] = [(m.weight[i].T, m.bias[i, 0]) for m in ensemble]
    return layers


@torch.no_grad()
def copy_weights(agent: SAC, model: TheirSAC) -> None:
    ours, theirs = our_layers(agent), their_layers(model)
    assert ours.keys() == theirs.keys()
    for name, layers in theirs.items():
        for (weight, bias), layer in zip(ours[name], layers, strict=True):
            layer.weight.copy_(weight)
            layer.bias.copy_(bias)


def assert_same_weights(agent: SAC, model: TheirSAC, atol: float) -> None:
    ours = our_layers(agent)
    for name, layers in their_layers(model).items():
        for (weight, bias), layer in zip(ours[name], layers, strict=True):
            torch.testing.assert_close(weight, layer.weight, rtol=0, atol=atol, msg=name)
            torch.testing.assert_close(bias, layer.bias, rtol=0, atol=atol, msg=name)
    assert model.log_ent_coef is not None
    assert agent.log_temperature.item() == pytest.approx(model.log_ent_coef.item(), abs=atol)


def make_batches(model: TheirSAC) -> Iterator[tuple[Batch, ReplayBufferSamples]]:
    """Plain, terminated and truncated transitions; the latter two told apart by their buffer."""
    rng, n = np.random.default_rng(0), BATCH_SIZE
    terminated, truncated = np.arange(n) % 4 == 0, np.arange(n) % 4 == 1
    center, scale = np.array([1.0, 0.5]), np.array([3.0, 0.5])  # of ACTIONS
    assert model.replay_buffer is not None
    while True:
        obs, next_obs = rng.normal(size=(2, n, 5))
        squashed, rewards = rng.uniform(-1, 1, size=(n, 2)), rng.normal(size=n)
        columns = (obs, center + scale * squashed, rewards, next_obs, terminated, truncated)
        batch = Batch(*(torch.tensor(column).double() for column in columns))
        for i in range(n):
            done, infos = (terminated | truncated)[i], [{"TimeLimit.truncated": truncated[i]}]
            model.replay_buffer.add(
                obs[i], next_obs[i], squashed[i], rewards[i : i + 1], np.array([done]), infos
            )
        samples = model.replay_buffer._get_samples(np.arange(n))  # in part rounded to float32
        assert samples.dones.sum() == n / 4
        yield (
            batch,
            samples._replace(
                observations=torch.tensor(obs),
                actions=torch.tensor(squashed),
                next_observations=torch.tensor(next_obs),
                dones=samples.dones.double(),
                rewards=batch.rewards[:, None],
            ),
        )


def run_both(
    monkeypatch: pytest.MonkeyPatch, updates: int
) -> Iterator[tuple[dict[str, float], dict[str, float], SAC, TheirSAC]]:
    """Updates both side by side, yielding after each: our metrics, theirs, and the two."""
    config = SACConfig(hidden_sizes=HIDDEN, initial_temperature=0.5, **CONFIG)
    agent = SAC(OBSERVATIONS, ACTIONS, config, seed=1)
    model = TheirSAC(
        "MlpPolicy",
        Spaces(),
        ent_coef="auto_0.5",
        buffer_size=BATCH_SIZE,
        policy_kwargs={"net_arch": list(HIDDEN)},
        device="cpu",
        **CONFIG,
    )
    model.set_logger(configure(None, []))
    assert isinstance(model.actor.action_dist, SquashedDiagGaussianDistribution)
    model.actor.action_dist.epsilon = 0.0
    copy_weights(agent, model)

    generator = torch.Generator().manual_seed(2)
    for batch, samples in itertools.islice(make_batches(model), updates):
        noise = torch.randn(2, BATCH_SIZE, 2, generator=generator)
        drawn = iter([noise[1], noise[0]])  # they draw for the current actions first

        def ours(shape: tuple[int, ...], noise: Tensor = noise) -> Tensor:
            assert shape == noise.shape
            return noise

        def theirs(shape: Any, drawn: Iterator[Tensor] = drawn, **_: Any) -> Tensor:
            return next(drawn)

        with monkeypatch.context() as patch:
            patch.setattr(agent, "_noise", ours)
            patch.setattr("torch.distributions.normal._standard_normal", theirs)
            patch.setattr(model.replay_buffer, "sample", lambda *_, s=samples, **__: s)
            metrics = agent.update(batch)
            model.train(gradient_steps=1, batch_size=BATCH_SIZE)
        assert next(drawn, None) is None
        logged = model.logger.name_to_value
        yield metrics, {name: logged[key] for name, key in METRICS.items()}, agent, model


def test_one_update(monkeypatch: pytest.MonkeyPatch) -> None:
    ((metrics, expected, agent, model),) = run_both(monkeypatch, 1)
    assert {name: metrics[name] for name in METRICS} == pytest.approx(expected, rel=1e-12)
    assert_same_weights(agent, model, atol=1e-12)


def test_trajectory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each update moves every weight by about 3e-3; after 20 they are 1e-10 apart at most."""
    steps = list(run_both(monkeypatch, UPDATES))
    assert len(steps) == UPDATES
    for metrics, expected, _, _ in steps:
        assert {name: metrics[name] for name in METRICS} == pytest.approx(expected, rel=1e-10)
    _, _, agent, model = steps[-1]
    assert_same_weights(agent, model, atol=1e-10)
