"""DDPG against its paper: section 7's network, batch normalization, equation 6, and its state."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import Space
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete
from torch import Tensor, nn

from agents import DDPG, DDPGConfig, UnsupportedSpaceError
from agents.noise import GaussianNoise, OrnsteinUhlenbeckNoise
from agents.off_policy import random_batch
from agents.replay import Batch
from agents.state import load_state, save_state

OBSERVATIONS = Box(-np.inf, np.inf, (3,))
ACTIONS = Box(np.array([-2, 0], np.float32), np.array([4, 1], np.float32))


def make(seed: int = 0, **config: Any) -> DDPG:
    return DDPG(OBSERVATIONS, ACTIONS, DDPGConfig(**{"hidden_sizes": (8, 6), **config}), seed=seed)


def batch(size: int = 32, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    observations, following = 2 + 3 * torch.randn(2, size, 3, generator=generator)
    low, high = torch.tensor(ACTIONS.low), torch.tensor(ACTIONS.high)
    actions = low + (high - low) * torch.rand(size, 2, generator=generator)
    rewards = torch.randn(size, generator=generator)
    terminated, truncated = (torch.rand(2, size, generator=generator) < 0.3).float()
    return Batch(observations, actions, rewards, following, terminated, truncated)


def flat(network: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in network.parameters()])


# -- section 7 ---------------------------------------------------------------------------------


def test_papers_hyperparameters() -> None:
    """Its "Experiment details": Adam with 1e-4 and 1e-3, L2 of 1e-2 on Q, gamma 0.99, tau 1e-3,
    400 and 300 units, batches of 64, 10^6 transitions, noise with theta 0.15 and sigma 0.2.
    """
    config = DDPGConfig.paper()
    assert (config.actor_learning_rate, config.critic_learning_rate) == (1e-4, 1e-3)
    assert config.critic_weight_decay == 1e-2
    assert (config.gamma, config.tau) == (0.99, 1e-3)
    assert config.hidden_sizes == (400, 300)
    assert (config.batch_size, config.buffer_size) == (64, 1_000_000)
    assert (config.noise_theta, config.noise_sigma) == (0.15, 0.2)
    assert (config.train_freq, config.gradient_steps) == (1, -1)
    agent = DDPG(OBSERVATIONS, ACTIONS, config)
    assert isinstance(agent.noise, OrnsteinUhlenbeckNoise)
    assert (agent.noise.theta, agent.noise.sigma) == (0.15, 0.2)
    assert agent.actor_optimizer.rate.item() == 1e-4
    assert agent.critic_optimizer.rate.item() == 1e-3
    assert agent.actor_optimizer.weight_decay == 0
    assert agent.critic_optimizer.weight_decay == 1e-2


def shapes(network: nn.Module, kind: type[nn.Module]) -> list[tuple[int, ...]]:
    return [tuple(m.weight.shape) for m in network.modules() if isinstance(m, kind)]  # type: ignore[arg-type]


def test_papers_networks() -> None:
    """Actions enter at the second hidden layer of Q; normalized are the state input, the actor's
    hidden layers, and those of Q before the action.
    """
    agent = DDPG(OBSERVATIONS, ACTIONS, DDPGConfig.paper())
    assert shapes(agent.actor, nn.Linear) == [(400, 3), (300, 400), (2, 300)]
    assert shapes(agent.critic, nn.Linear) == [(400, 3), (300, 400 + 2), (1, 300)]
    assert shapes(agent.actor, nn.BatchNorm1d) == [(3,), (400,), (300,)]
    assert shapes(agent.critic, nn.BatchNorm1d) == [(3,), (400,)]
    for network in (agent.actor, agent.critic):
        *hidden, last = [m for m in network.modules() if isinstance(m, nn.Linear)]
        for layer in hidden:  # "uniform distributions [-1/sqrt(f), 1/sqrt(f)]", f the fan-in
            bound = 1 / math.sqrt(layer.in_features)
            for values in layer.parameters():
                assert 0.9 * bound < values.abs().max() <= bound
        for values in last.parameters():
            assert values.abs().max() <= 3e-3
        assert last.weight.abs().max() > 0.95 * 3e-3
        assert last.weight.std().item() == pytest.approx(3e-3 / math.sqrt(3), rel=0.1)
    for target, source in (
        (agent.target_actor, agent.actor),
        (agent.target_critic, agent.critic),
    ):
        assert torch.equal(flat(target), flat(source))


def test_order_of_a_papers_layer() -> None:
    """Linear, normalization, ReLU; the inputs are normalized as they come."""
    agent = DDPG(OBSERVATIONS, ACTIONS, DDPGConfig.paper())
    kinds = [type(m).__name__ for m in agent.actor.net.modules() if not list(m.children())]
    layer = ["Linear", "BatchNorm1d", "ReLU"]
    assert kinds == ["BatchNorm1d", *layer, *layer, "Linear"]


@pytest.mark.parametrize(
    ("action_layer", "expected"),
    [(0, [(8, 5), (6, 8), (1, 6)]), (1, [(8, 3), (6, 10), (1, 6)])],
)
def test_where_actions_enter(action_layer: Any, expected: list[tuple[int, int]]) -> None:
    assert shapes(make(action_layer=action_layer).critic, nn.Linear) == expected


def test_one_hidden_layer() -> None:
    """Then actions enter the last layer."""
    agent = make(action_layer=1, hidden_sizes=(8,), batch_norm=True)
    assert shapes(agent.critic, nn.Linear) == [(8, 3), (1, 10)]
    assert all(math.isfinite(value) for value in agent.update(batch()).values())


def test_defaults_are_those_of_stable_baselines3() -> None:
    agent = DDPG(OBSERVATIONS, ACTIONS)
    assert not shapes(agent.actor, nn.BatchNorm1d)
    assert shapes(agent.critic, nn.Linear) == [(400, 5), (300, 400), (1, 300)]
    assert isinstance(agent.noise, GaussianNoise)
    assert agent.config.tau == 0.005


# -- batch normalization -----------------------------------------------------------------------


def normalizations(network: nn.Module) -> list[nn.BatchNorm1d]:
    return [m for m in network.modules() if isinstance(m, nn.BatchNorm1d)]


def test_acting_uses_running_statistics() -> None:
    """An observation's action does not depend on its company, and acting changes no statistics."""
    agent = make(batch_norm=True)
    agent.update(batch())
    before = {name: values.clone() for name, values in agent.actor.state_dict().items()}
    observations = batch(20, seed=1).observations.numpy()  # type: ignore[union-attr]
    together = agent.act(observations, deterministic=True)
    alone = [agent.act(observation, deterministic=True) for observation in observations]
    np.testing.assert_allclose(alone, together, rtol=1e-5, atol=1e-6)
    assert np.ptp(together, axis=0).min() > 1e-3
    for name, values in agent.actor.state_dict().items():
        assert torch.equal(values, before[name]), name


@pytest.mark.parametrize(("name", "passes"), [("actor", 1), ("critic", 2)])
def test_learning_uses_the_batchs_statistics(name: str, passes: int) -> None:
    """And moves the running ones towards them; the critic's twice, for both losses."""
    agent, data = make(batch_norm=True, action_layer=1), batch()
    network = getattr(agent, name)
    first = normalizations(network)[0]
    seen: list[tuple[bool, Tensor]] = []
    first.register_forward_hook(lambda module, _, out: seen.append((module.training, out)))
    agent.update(data)
    assert len(seen) == passes
    for training, out in seen:
        assert training
        shift, scale = (torch.tensor(value).expand(3) for value in (0.0, 1.0))
        torch.testing.assert_close(out.mean(0), shift, atol=0.02, rtol=0)  # after a step of its own
        torch.testing.assert_close(out.std(0, correction=0), scale, atol=0.02, rtol=0)
    assert isinstance(data.observations, Tensor)
    kept = 0.9**passes
    torch.testing.assert_close(first.running_mean, (1 - kept) * data.observations.mean(0))
    torch.testing.assert_close(first.running_var, kept + (1 - kept) * data.observations.var(0))
    assert not network.training


def test_targets_use_and_follow_running_statistics() -> None:
    """By tau, as their parameters do; no batch that they see moves them."""
    agent = make(batch_norm=True, tau=0.25)
    pairs = [(agent.target_actor, agent.actor), (agent.target_critic, agent.critic)]
    for step in range(3):
        before = [[b.clone() for b in target.state_dict().values()] for target, _ in pairs]
        agent.update(batch(seed=step))
        for (target, source), old in zip(pairs, before, strict=True):
            states = zip(
                target.state_dict().items(), source.state_dict().values(), old, strict=True
            )
            for (name, new), moved, values in states:
                if new.is_floating_point():
                    expected = 0.75 * values + 0.25 * moved
                    torch.testing.assert_close(new, expected, atol=1e-6, rtol=1e-5, msg=name)
            assert not target.training
    assert normalizations(agent.target_actor)[0].running_mean.abs().max() > 0.01  # type: ignore[union-attr]


def test_target_by_hand() -> None:
    """y with the targets' running statistics; r alone after a termination."""
    agent, data = make(batch_norm=True, gamma=0.9), batch()
    for seed in range(2):
        agent.update(batch(seed=seed))
    with torch.no_grad():
        actions = agent.target_actor(data.next_observations)
        following = agent.target_critic(data.next_observations, actions)
    expected = [
        r if end else r + 0.9 * q
        for r, end, q in zip(data.rewards, data.terminated, following, strict=True)
    ]
    torch.testing.assert_close(agent._critic_target(data), torch.stack(expected))
    assert 0 < data.terminated.sum() < 32
    assert (data.truncated * (1 - data.terminated)).any()


# -- losses and steps --------------------------------------------------------------------------


def test_weight_decay_acts_on_the_critic_alone() -> None:
    """The first step of Adam has the size of the rate and the sign of the gradient; without a
    loss that is weight_decay times theta, towards zero.
    """
    agent, rate = make(critic_weight_decay=0.1, critic_learning_rate=1e-3), 1e-3
    data = batch()
    before = flat(agent.critic)
    agent.critic_optimizer.minimize(0.0 * agent.critic(data.observations, data.actions).sum())
    torch.testing.assert_close(flat(agent.critic), before - rate * before.sign(), atol=1e-6, rtol=0)

    plain, decayed = make(), make(critic_weight_decay=0.1)
    for one in (plain, decayed):
        one.actor_optimizer.minimize(one._actor_loss(data.observations))
    assert torch.equal(flat(plain.actor), flat(decayed.actor))
    for one in (plain, decayed):
        one.critic_optimizer.minimize(one._critic_loss(data, torch.zeros(32))[0])
    assert not torch.equal(flat(plain.critic), flat(decayed.critic))


@pytest.mark.parametrize("action_layer", [0, 1])
def test_actors_gradient_is_equation_6(action_layer: Any) -> None:
    """E[grad_a Q(s, a) at a = mu(s), times grad_theta mu(s)], row by row."""
    agent, data = make(action_layer=action_layer), batch(8)
    assert isinstance(data.observations, Tensor)
    parameters = list(agent.actor.parameters())
    expected = [torch.zeros_like(p) for p in parameters]
    for observation in data.observations.split(1):
        action = agent.actor(observation)
        fixed = action.detach().requires_grad_()
        (slope,) = torch.autograd.grad(agent.critic(observation, fixed).sum(), fixed)
        for sum_, part in zip(
            expected, torch.autograd.grad(action, parameters, slope), strict=True
        ):
            sum_ += part / 8
    gradients = torch.autograd.grad(agent._actor_loss(data.observations), parameters)
    for ours, theirs in zip(gradients, expected, strict=True):
        torch.testing.assert_close(ours, -theirs, rtol=1e-4, atol=1e-7)


def test_slope_of_q_by_finite_differences() -> None:
    """The actor climbs: a small step along its gradient raises Q(s, mu(s)) by its square."""
    agent, data = make(), batch()
    loss = agent._actor_loss(data.observations)
    parameters = list(agent.actor.parameters())
    gradients = torch.autograd.grad(loss, parameters)
    square, h = sum(g.square().sum() for g in gradients), 1e-2
    with torch.no_grad():
        for p, g in zip(parameters, gradients, strict=True):
            p.sub_(h * g)
        now = agent._actor_loss(data.observations)
    assert ((loss - now) / h).item() == pytest.approx(float(square), rel=0.05)


def test_each_loss_moves_its_own_network() -> None:
    agent, data = make(), batch()
    actor, critic = flat(agent.actor), flat(agent.critic)
    agent.critic_optimizer.minimize(agent._critic_loss(data, torch.zeros(32))[0])
    assert torch.equal(flat(agent.actor), actor)
    assert not torch.equal(flat(agent.critic), critic)
    critic = flat(agent.critic)
    agent.actor_optimizer.minimize(agent._actor_loss(data.observations))
    assert torch.equal(flat(agent.critic), critic)
    assert not torch.equal(flat(agent.actor), actor)


def test_critic_sees_actions_in_units_of_half_their_range() -> None:
    agent, data = make(), batch()
    unit = (data.actions - torch.tensor([1.0, 0.5])) / torch.tensor([3.0, 0.5])
    assert unit.abs().max() <= 1
    expected = (1.5 - agent.critic(data.observations, unit)).square().mean()
    loss, _ = agent._critic_loss(data, torch.full((32,), 1.5))
    torch.testing.assert_close(loss, expected)


# -- acting ------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", ["gaussian", "ornstein-uhlenbeck"])
def test_noise_is_in_units_of_half_the_range(noise: Any) -> None:
    agent = make(noise=noise, noise_sigma=0.1)
    with torch.no_grad():
        agent.actor.net[-1].weight.zero_()  # type: ignore[operator]
        agent.actor.net[-1].bias.zero_()  # type: ignore[operator]
    observations = np.zeros((5_000, 3), np.float32)
    actions = agent.act(observations)  # the first step of the process
    np.testing.assert_allclose(actions.mean(0), [1, 0.5], atol=0.03)
    np.testing.assert_allclose(actions.std(0), [0.3, 0.05], rtol=0.06)
    still = agent.act(observations, deterministic=True)
    np.testing.assert_allclose(still, np.tile([1, 0.5], (5_000, 1)), atol=1e-6)


def test_actions_are_of_the_space() -> None:
    agent = make(noise_sigma=2.0)
    observations = 10 * np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)
    for actions in (agent.act(observations), agent.random_actions(100)):
        assert all(ACTIONS.contains(action) for action in actions)
    assert ACTIONS.contains(agent.act(observations[0]))
    noisy = agent.act(observations)
    assert (noisy == ACTIONS.low).any()  # clipped
    assert (noisy == ACTIONS.high).any()


def test_an_episodes_end_resets_its_noise() -> None:
    agent = make(noise="ornstein-uhlenbeck")
    agent.act(np.zeros((3, 3), np.float32))
    agent.end_episodes(np.array([True, False, False]))
    assert isinstance(agent.noise, OrnsteinUhlenbeckNoise)
    assert agent.noise.x is not None
    assert agent.noise.x.any(dim=1).tolist() == [False, True, True]


def test_evaluation_does_not_move_the_noise() -> None:
    agent = make(noise="ornstein-uhlenbeck")
    agent.act(np.zeros((3, 3), np.float32))
    before, generator = agent.noise.state_dict()["x"].clone(), agent.generator.get_state()
    agent.act(np.zeros((7, 3), np.float32), deterministic=True)
    assert torch.equal(agent.noise.state_dict()["x"], before)
    assert torch.equal(agent.generator.get_state(), generator)


# -- configuration, spaces, state --------------------------------------------------------------


@pytest.mark.parametrize(
    "space", [Discrete(2), MultiDiscrete([2, 2]), Box(-np.inf, np.inf, (2,)), Box(-1, 1, (2, 2))]
)
def test_refuses_other_actions(space: Space[Any]) -> None:
    with pytest.raises(UnsupportedSpaceError, match="DDPG"):
        DDPG(OBSERVATIONS, space)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("actor_learning_rate", 0.0),
        ("critic_learning_rate", -1.0),
        ("critic_weight_decay", -1.0),
        ("batch_size", 0),
        ("gamma", 1.1),
        ("tau", -0.1),
        ("hidden_sizes", ()),
        ("final_init", -1.0),
        ("noise_sigma", -0.1),
        ("noise_theta", 1.1),
        ("gradient_steps", 0),
        ("encoder", "nothing"),
    ],
)
def test_bad_config(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        DDPGConfig(**{name: value})


@pytest.mark.parametrize("paper", [False, True])
def test_round_trip(tmp_path: Path, paper: bool) -> None:
    """Restored into another agent: the same actions and updates from there on."""
    config = {"batch_norm": paper, "critic_weight_decay": 0.01 * paper, "action_layer": int(paper)}
    config["noise"] = "ornstein-uhlenbeck" if paper else "gaussian"  # type: ignore[assignment]
    agent, other = (make(seed, normalize_observations=True, **config) for seed in (0, 7))

    def go_on(one: DDPG, seed: int) -> list[Any]:
        observations = np.random.default_rng(seed).normal(size=(4, 3)).astype(np.float32)
        one.observe(observations)
        one.end_episodes(np.array([seed % 2 == 0] * 2 + [False] * 2))
        return [*one.act(observations).ravel(), *one.update(batch(seed=seed)).values()]

    for seed in range(3):
        go_on(agent, seed)
    save_state(tmp_path, agent.state_dict())
    other.load_state_dict(load_state(tmp_path))
    for seed in range(3, 6):
        assert go_on(agent, seed) == go_on(other, seed)
    for name in ("actor", "critic", "target_actor", "target_critic"):
        assert torch.equal(flat(getattr(agent, name)), flat(getattr(other, name)))
    assert (agent.steps, agent.updates) == (other.steps, other.updates) == (24, 6)


def test_pictures_and_numbers() -> None:
    """Actor and critic have an encoder each, which their own losses train."""
    space = Dict({"a": Box(0, 255, (1, 36, 36), np.uint8), "b": Box(-1, 1, (2,))})
    agent = DDPG(space, ACTIONS, DDPGConfig(hidden_sizes=(8,)))
    data = random_batch(agent, 4)
    encoders = agent.actor.encoder, agent.critic.encoder
    before = [flat(encoder) for encoder in encoders]
    assert all(math.isfinite(value) for value in agent.update(data).values())
    for encoder, old in zip(encoders, before, strict=True):
        assert not torch.equal(flat(encoder), old)
