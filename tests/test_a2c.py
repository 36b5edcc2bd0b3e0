"""A2C: what its update leaves out, its learning rate, its state. The equations themselves are
compared with Stable-Baselines3's in test_a2c_parity.py.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import Space
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Text
from torch import Tensor

import agents
from agents import A2C, A2CConfig, UnsupportedSpaceError
from agents.a2c import standardize
from agents.on_policy import random_rollout
from agents.rollout import Rollout
from agents.state import load_state, save_state

OBSERVATIONS = Box(-np.inf, np.inf, (3,))
ACTIONS: dict[str, Space[Any]] = {
    "Discrete": Discrete(4, start=2),
    "MultiDiscrete": MultiDiscrete([3, 2]),
    "Box": Box(np.array([-1, 0], np.float32), np.array([1, 3], np.float32)),
}


def make(space: Space[Any] = ACTIONS["Discrete"], seed: int = 0, **config: Any) -> A2C:
    return A2C(OBSERVATIONS, space, A2CConfig(**{"hidden_sizes": (8,), **config}), seed=seed)


def rollout(agent: A2C, n: int = 2, seed: int = 0, length: int = 6) -> Rollout:
    """Random steps, some of them ends of episodes."""
    generator = torch.Generator().manual_seed(seed)
    observations, following = torch.randn(2, length * n, 3, generator=generator)
    with torch.no_grad():
        numbers = agent.network.act(observations)
        actions = agent.distribution.sample(numbers, generator).float()
    rewards = torch.randn(length, n, generator=generator)
    terminated, truncated = (torch.rand(2, length, n, generator=generator) < 0.2).float()
    done = torch.maximum(terminated, truncated)
    real = torch.ones(length, n)
    return Rollout(observations, actions, rewards, following, terminated, done, real)


def weights(agent: A2C) -> Tensor:
    return torch.cat([p.detach().flatten() for p in agent.network.parameters()])


# -- the update --------------------------------------------------------------------------------


def with_reset(data: Rollout, t: int, seed: int) -> Rollout:
    """One environment's rollout with a reset put in after step t, with random contents."""
    generator = torch.Generator().manual_seed(seed)

    def put(values: Tensor, fill: Tensor) -> Tensor:
        return torch.cat([values[: t + 1], fill.expand(1, *values.shape[1:]), values[t + 1 :]])

    assert isinstance(data.observations, Tensor)
    assert isinstance(data.next_observations, Tensor)
    nothing, zero = 5 * torch.randn(2, 3, generator=generator), torch.zeros(1)
    return Rollout(
        put(data.observations, nothing[0]),
        put(data.actions, torch.ones(1)),
        put(data.rewards, torch.randn(1, generator=generator)),
        put(data.next_observations, nothing[1]),
        put(data.terminated, zero),
        put(data.done, zero),
        put(data.real, zero),
    )


@pytest.mark.parametrize("space", ACTIONS.values(), ids=ACTIONS)
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("truncated", [False, True])
def test_a_reset_has_no_weight(space: Space[Any], normalize: bool, truncated: bool) -> None:
    """As if it were not in the rollout, whatever is in its row."""
    config: Any = {"normalize_advantages": normalize, "entropy_coefficient": 0.1, "gae_lambda": 0.9}
    plain = make(space, **config)
    data = rollout(plain, n=1)
    data.terminated[:], data.done[:] = 0, 0
    data.terminated[2], data.done[2] = float(not truncated), 1.0
    expected = plain.update(data)
    for seed in range(3):
        agent = make(space, **config)
        assert agent.update(with_reset(data, 2, seed)) == pytest.approx(expected, rel=1e-5)
        torch.testing.assert_close(weights(agent), weights(plain), rtol=0, atol=1e-6)


def test_a_rollout_of_resets_alone_is_finite() -> None:
    """A step of one environment that only resets is a whole rollout if n_steps is 1."""
    agent = make(n_steps=1)
    data = rollout(agent, n=1, length=1)._replace(real=torch.zeros(1, 1))
    assert all(math.isfinite(value) for value in agent.update(data).values())
    assert weights(agent).isfinite().all()


def test_losses_by_hand() -> None:
    """One step that terminates: A = r - V(s)."""
    agent = make(value_coefficient=0.25, entropy_coefficient=0.1, max_grad_norm=math.inf)
    data = rollout(agent, n=1, length=1)._replace(
        rewards=torch.tensor([[2.0]]), terminated=torch.ones(1, 1), done=torch.ones(1, 1)
    )
    numbers, value = agent.network(data.observations)
    pi = torch.distributions.Categorical(logits=numbers[0])
    log_pi = pi.log_prob(data.actions[0, 0])
    advantage = 2.0 - value.item()
    loss = -log_pi * advantage + 0.25 * (2.0 - value) ** 2 - 0.1 * pi.entropy()
    gradients = torch.autograd.grad(loss.sum(), list(agent.network.parameters()))
    metrics = agent.update(data)
    expected = [-log_pi.item() * advantage, advantage**2, pi.entropy().item()]
    assert list(metrics.values()) == pytest.approx(expected, rel=1e-5)
    assert list(metrics) == list(A2C.metric_names)
    for v, gradient in zip(agent.optimizer.v, gradients, strict=True):
        torch.testing.assert_close(v, 0.01 * gradient**2, rtol=1e-4, atol=1e-10)


def test_observations_and_successors_are_normalized() -> None:
    """The update is that of an agent without a normalizer on data that has been normalized."""
    agent, plain = make(normalize_observations=True), make()
    agent.observe(3 + 2 * np.random.default_rng(0).normal(size=(50, 3)))
    data = rollout(agent)
    normalized = data._replace(
        observations=agent.normalize(data.observations),
        next_observations=agent.normalize(data.next_observations),
    )
    assert agent.update(data) == plain.update(normalized)
    assert torch.equal(weights(agent), weights(plain))
    other = make(normalize_observations=True)
    assert other.update(data) != plain.update(normalized)


def test_standardize() -> None:
    """Values without weight do not count."""
    values, real = torch.tensor([1.0, 2.0, 5.0, 100.0]), torch.tensor([1.0, 1.0, 1.0, 0.0])
    out = standardize(values, real / real.sum())[:3]
    assert out.mean().item() == pytest.approx(0, abs=1e-6)
    assert out.std(correction=0).item() == pytest.approx(1, rel=1e-6)
    same = standardize(torch.full((3,), 7.0), torch.full((3,), 1 / 3))
    assert same.isfinite().all()


def test_learning_rate_falls_to_zero() -> None:
    agent = make(learning_rate=0.01, learning_rate_decay_steps=100)
    for steps, rate in [(0, 0.01), (25, 0.0075), (99, 0.0001), (100, 0.0), (150, 0.0)]:
        agent.steps = steps
        before = weights(agent)
        agent.update(rollout(agent))
        assert agent.optimizer.rate.item() == pytest.approx(rate, abs=1e-12)
        assert torch.equal(weights(agent), before) == (rate == 0)


def test_learning_rate_stays_without_decay() -> None:
    agent = make(learning_rate=0.01)
    agent.steps = 10**9
    agent.update(rollout(agent))
    assert agent.optimizer.rate.item() == pytest.approx(0.01)


# -- acting ------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", ACTIONS.values(), ids=ACTIONS)
def test_actions_are_of_the_space(space: Space[Any]) -> None:
    agent = make(space)
    observations = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    for actions in (
        agent.act(observations),
        agent.act(observations, deterministic=True),
        agent.random_actions(40),
        agent.sample(observations)[1],
        [agent.act(observation) for observation in observations],
    ):
        assert len(actions) == 40
        assert all(space.contains(action) for action in actions)
    one_by_one = [agent.act(observation, deterministic=True) for observation in observations]
    together = agent.act(observations, deterministic=True)
    np.testing.assert_allclose(one_by_one, together, rtol=1e-5, atol=1e-6)


def test_sample_returns_actions_as_drawn() -> None:
    """Not clipped, and counted from 0."""
    observations = np.zeros((100, 3), np.float32)
    drawn, actions = make(ACTIONS["Box"]).sample(observations)
    assert (drawn != actions).any()
    np.testing.assert_array_equal(np.clip(drawn, [-1, 0], [1, 3]), actions)
    drawn, actions = make(ACTIONS["Discrete"]).sample(observations)
    np.testing.assert_array_equal(drawn[:, 0] + 2, actions)


def test_policy_starts_near_uniform() -> None:
    agent = make()
    data = rollout(agent, n=20)
    assert agent.update(data)["entropy"] == pytest.approx(math.log(4), abs=1e-3)


def test_deterministic_actions_use_no_randomness() -> None:
    agent = make()
    before = agent.generator.get_state()
    agent.act(np.zeros((5, 3), np.float32), deterministic=True)
    assert torch.equal(agent.generator.get_state(), before)


def test_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    agent = make(ACTIONS["Box"])
    agent.act(np.zeros((5, 3), np.float32))
    agent.random_actions(3)
    agent.update(rollout(agent))
    assert torch.equal(torch.get_rng_state(), before)


def test_seeds() -> None:
    assert torch.equal(weights(make(seed=1)), weights(make(seed=1)))
    assert not torch.equal(weights(make(seed=1)), weights(make(seed=2)))


# -- spaces, configuration, state --------------------------------------------------------------


def test_pictures_and_numbers() -> None:
    """One encoder, which policy and value both train."""
    space = Dict({"a": Box(0, 255, (1, 36, 36), np.uint8), "b": Box(-1, 1, (2,))})
    agent = A2C(space, Discrete(2), A2CConfig(hidden_sizes=(), n_steps=3))
    data = random_rollout(agent, n_envs=2)
    assert isinstance(data.observations, dict)
    data.observations["a"].random_(256, generator=torch.Generator().manual_seed(0))
    parameters = list(agent.network.encoder.parameters())
    for part in agent.network(data.observations):
        gradients = torch.autograd.grad(part.square().sum(), parameters, retain_graph=True)
        assert all(gradient.any() for gradient in gradients)
    before = [p.clone() for p in parameters]
    assert all(math.isfinite(value) for value in agent.update(data).values())
    assert all(not torch.equal(p, q) for p, q in zip(before, parameters, strict=True))


@pytest.mark.parametrize(
    "space",
    [MultiBinary(3), Box(-1, 1, (2, 2)), Box(0, 5, (2,), np.int64), Dict({"a": Discrete(2)})],
)
def test_refuses_other_actions(space: Space[Any]) -> None:
    with pytest.raises(UnsupportedSpaceError, match="A2C needs"):
        A2C(OBSERVATIONS, space)


def test_refuses_other_observations() -> None:
    with pytest.raises(UnsupportedSpaceError, match="A2C needs"):
        A2C(Text(5), Discrete(2))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", 0.0),
        ("learning_rate_decay_steps", -1),
        ("n_steps", 0),
        ("gamma", 1.1),
        ("gae_lambda", -0.1),
        ("entropy_coefficient", -1.0),
        ("value_coefficient", -1.0),
        ("max_grad_norm", 0.0),
        ("rmsprop_decay", 1.5),
        ("rmsprop_epsilon", 0.0),
        ("hidden_sizes", (0,)),
        ("encoder", "nothing"),
    ],
)
def test_bad_config(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        A2CConfig(**{name: value})


@pytest.mark.parametrize("space", ACTIONS.values(), ids=ACTIONS)
def test_round_trip(tmp_path: Path, space: Space[Any]) -> None:
    """Restored into another agent: the same actions and updates from there on."""
    config = {
        "normalize_observations": True,
        "normalize_rewards": True,
        "learning_rate_decay_steps": 1_000,
    }
    agent, other = make(space, **config), make(space, seed=7, **config)

    def go_on(one: A2C, seed: int) -> list[Any]:
        observations = np.random.default_rng(seed).normal(size=(10, 3)).astype(np.float32)
        one.observe(observations)
        assert one.reward_normalizer is not None
        scaled = one.reward_normalizer(np.array([1.0, seed]), np.array([False, seed == 2]))
        return [*one.act(observations).ravel(), *scaled, *one.update(rollout(one)).values()]

    for seed in range(3):
        go_on(agent, seed)
    save_state(tmp_path, agent.state_dict())
    other.load_state_dict(load_state(tmp_path))
    for seed in range(3, 6):
        assert go_on(agent, seed) == go_on(other, seed)
    assert torch.equal(weights(agent), weights(other))
    assert (agent.steps, agent.updates) == (other.steps, other.updates) == (60, 6)


def test_saved_agent_acts_alike(tmp_path: Path) -> None:
    agent = make(normalize_observations=True)
    agent.observe(np.random.default_rng(0).normal(size=(50, 3)))
    agent.update(rollout(agent))
    agents.save(agent, tmp_path)
    other = agents.load(tmp_path)
    observations = np.random.default_rng(1).normal(size=(50, 3)).astype(np.float32)
    np.testing.assert_array_equal(
        agent.act(observations, deterministic=True), other.act(observations, deterministic=True)
    )
