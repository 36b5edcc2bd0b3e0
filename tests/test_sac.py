"""SAC's equations, one by one, and what surrounds them."""

import copy
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import Space
from gymnasium.spaces import (
    Box,
    Dict,
    Discrete,
    Graph,
    MultiBinary,
    MultiDiscrete,
    Sequence,
    Text,
    Tuple,
)
from gymnasium.vector.utils import batch_space
from torch import Tensor

import agents
from agents import SAC, SACConfig, StateError, UnsupportedSpaceError
from agents.networks import EnsembleLinear
from agents.replay import Batch, ReplayBuffer
from agents.sac import squashed_gaussian
from agents.state import load_state, save_state

OBSERVATIONS = Box(-np.inf, np.inf, (3,))
ACTIONS = Box(np.array([-2, 0], np.float32), np.array([4, 1], np.float32))  # asymmetric
ONE_ACTION = Box(-1, 1, (1,))


def make(action_space: Box = ACTIONS, seed: int = 0, **config: Any) -> SAC:
    return SAC(OBSERVATIONS, action_space, SACConfig(hidden_sizes=(8, 8), **config), seed=seed)


def random_batch(size: int = 16, seed: int = 0, action_space: Box = ACTIONS) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(size, *action_space.shape, generator=generator)
    low, high = torch.tensor(action_space.low), torch.tensor(action_space.high)
    return Batch(
        torch.randn(size, 3, generator=generator),
        (low + (high - low) * uniform).float(),
        torch.randn(size, generator=generator),
        torch.randn(size, 3, generator=generator),
        (torch.rand(size, generator=generator) < 0.3).float(),
        torch.zeros(size),
    )


def one_transition(reward: float, terminated: bool, truncated: bool) -> Batch:
    flags = torch.tensor([float(terminated)]), torch.tensor([float(truncated)])
    return Batch(
        torch.ones(1, 3), torch.zeros(1, 1), torch.tensor([reward]), torch.ones(1, 3), *flags
    )


@torch.no_grad()
def make_constant(network: torch.nn.Module, *outputs: float) -> None:
    """All weights zero and the last bias ``outputs``: the network ignores its input."""
    parameters = list(network.parameters())
    for parameter in parameters:
        parameter.zero_()
    parameters[-1].copy_(torch.tensor(outputs).reshape(parameters[-1].shape))


def fix_noise(agent: SAC, monkeypatch: pytest.MonkeyPatch, for_next: float, now: float) -> None:
    """Noise of the update: [0] goes into the next actions, [1] into those of the actor's loss."""

    def noise(shape: tuple[int, ...]) -> Tensor:
        return torch.stack([torch.full(shape[1:], for_next), torch.full(shape[1:], now)])

    monkeypatch.setattr(agent, "_noise", noise)


def log_density(mean: float, log_std: float, noise: float) -> float:
    """Eq. 26 in one dimension, as it is printed."""
    u = mean + math.exp(log_std) * noise
    log_normal = -0.5 * noise**2 - log_std - 0.5 * math.log(2 * math.pi)
    return log_normal - math.log(1 - math.tanh(u) ** 2)


# -- the losses --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("terminated", "truncated", "bootstraps"),
    [(False, False, True), (True, False, False), (False, True, True), (True, True, False)],
)
@pytest.mark.parametrize("target_q", [(1.5, 4.0), (4.0, 1.5)])
def test_critic_target_by_hand(
    monkeypatch: pytest.MonkeyPatch,
    terminated: bool,
    truncated: bool,
    bootstraps: bool,
    target_q: tuple[float, float],
) -> None:
    agent = make(ONE_ACTION, gamma=0.9, initial_temperature=0.5)
    make_constant(agent.actor, 0.3, -0.7)
    make_constant(agent.critics, 2.0, -3.0)
    make_constant(agent.target_critics, *target_q)
    fix_noise(agent, monkeypatch, for_next=0.8, now=-0.4)

    loss = agent.update(one_transition(0.25, terminated, truncated))["critic_loss"]

    value = 1.5 - 0.5 * log_density(0.3, -0.7, 0.8)  # the smaller target critic
    target = 0.25 + (0.9 * value if bootstraps else 0.0)
    assert loss == pytest.approx(0.5 * (2.0 - target) ** 2 + 0.5 * (-3.0 - target) ** 2, rel=1e-5)


@pytest.mark.parametrize("q", [(2.0, -3.0), (-3.0, 2.0)])
def test_policy_losses_by_hand(monkeypatch: pytest.MonkeyPatch, q: tuple[float, float]) -> None:
    agent = make(
        ONE_ACTION,
        learning_rate=1e-9,  # the critics' step comes first and must not show
        initial_temperature=0.5,
        target_entropy=-0.25,
    )
    make_constant(agent.actor, 0.3, -0.7)
    make_constant(agent.critics, *q)
    fix_noise(agent, monkeypatch, for_next=0.8, now=-0.4)

    metrics = agent.update(one_transition(0.25, False, False))

    log_prob = log_density(0.3, -0.7, -0.4)
    expected = {
        "q_value": -0.5,
        "actor_loss": 0.5 * log_prob + 3.0,  # the smaller critic
        "temperature_loss": -math.log(0.5) * (log_prob - 0.25),
        "entropy": -log_prob,
        "temperature": 0.5,
    }
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, rel=1e-5)


def test_actor_climbs_the_critic() -> None:
    """Critics that grow with the action must pull the actor's mean up."""
    agent = make(ONE_ACTION, temperature=0.0, learning_rate=1e-2)
    make_constant(agent.actor, 0.0, -1.0)
    with torch.no_grad():
        for parameter in agent.critics.parameters():
            parameter.zero_()
        first, second, last = (m for m in agent.critics.net if isinstance(m, EnsembleLinear))
        first.weight[:, 3, 0] = second.weight[:, 0, 0] = last.weight[:, 0, 0] = 1.0
        first.bias[:, 0, 0] = 2.0  # keeps the ReLUs open: Q = a + 2
    before = agent.act(np.ones(3), deterministic=True)
    agent.update(random_batch(action_space=ONE_ACTION))
    assert agent.act(np.ones(3), deterministic=True) > before


def test_actor_step_leaves_the_critics_alone() -> None:
    """After an update the critics are where one Adam step on eq. 5 alone puts them."""
    agent = make(learning_rate=1e-2)
    batch = random_batch()
    before = copy.deepcopy(agent)
    noise = before._noise((2, 16, 2))

    with torch.no_grad():
        next_actions, log_prob = squashed_gaussian(before.actor(batch.next_observations), noise[0])
        q = before.target_critics(batch.next_observations, next_actions)
        value = q.amin(0) - log_prob  # the temperature starts at 1
        target = batch.rewards + 0.99 * (1 - batch.terminated) * value
    actions = torch.stack([(batch.actions[:, 0] - 1) / 3, batch.actions[:, 1] * 2 - 1], 1)
    q = before.critics(batch.observations, actions)
    loss = 0.5 * ((q - target) ** 2).mean(1).sum()
    parameters = list(before.critics.parameters())
    gradients = torch.autograd.grad(loss, parameters)

    metrics = agent.update(batch)
    assert metrics["critic_loss"] == pytest.approx(loss.item(), rel=1e-5)
    for updated, p, g in zip(agent.critics.parameters(), parameters, gradients, strict=True):
        # Both moments of Adam's first step are the gradient's own after bias correction.
        torch.testing.assert_close(updated, p - 1e-2 * g / (g.abs() + 1e-8), rtol=0, atol=1e-6)


@pytest.mark.parametrize("tau", [0.0, 0.005, 0.3, 1.0])
def test_target_critics_follow_by_tau(tau: float) -> None:
    agent = make(tau=tau, learning_rate=0.1)
    agent.update(random_batch())  # from here on critics and targets differ
    before = [p.double() for p in agent.target_critics.parameters()]
    agent.update(random_batch(seed=1))
    for old, critic, target in zip(
        before, agent.critics.parameters(), agent.target_critics.parameters(), strict=True
    ):
        expected = ((1 - tau) * old + tau * critic.double()).float()
        torch.testing.assert_close(target, expected, rtol=0, atol=1e-7)


def test_standard_deviation_is_limited() -> None:
    actor = make(Box(-1, 1, (3,))).actor
    make_constant(actor, 0.0, 0.0, 0.0, -50.0, 0.5, 50.0)
    _, log_std = actor(torch.ones(2, 3))
    assert log_std.tolist() == [[-20.0, 0.5, 2.0]] * 2


def test_layers_start_like_torchs() -> None:
    """Uniform with bound 1/sqrt(inputs), weights and biases, in the stacked critics too."""
    agent = SAC(OBSERVATIONS, ACTIONS, SACConfig(hidden_sizes=(400, 400)))
    inputs = {"actor": [3, 400, 400], "critics": [5, 400, 400]}
    for name, sizes in inputs.items():
        parameters = list(getattr(agent, name).parameters())
        for (weight, bias), n in zip(
            zip(parameters[::2], parameters[1::2], strict=True), sizes, strict=True
        ):
            assert weight.abs().max() <= n**-0.5
            assert bias.abs().max() <= n**-0.5
            assert weight.std().item() == pytest.approx((3 * n) ** -0.5, rel=0.05)


# -- the temperature ---------------------------------------------------------------------------


@pytest.mark.parametrize(("log_std", "direction"), [(-4.0, 1), (-0.5, -1)])
def test_temperature_moves_towards_the_target_entropy(log_std: float, direction: int) -> None:
    """Less random than the target -> alpha rises, more random -> it falls; Adam steps by lr."""
    agent = make(ONE_ACTION, learning_rate=1e-3, initial_temperature=0.2)
    make_constant(agent.actor, 0.0, log_std)
    entropy = agent.update(random_batch(action_space=ONE_ACTION))["entropy"]
    assert (agent.target_entropy - entropy) * direction > 0.5  # the case is what it claims to be
    moved = agent.log_temperature.item() - math.log(0.2)
    assert moved == pytest.approx(direction * 1e-3, rel=1e-3)


@pytest.mark.parametrize("temperature", [0.2, 0.0])
def test_fixed_temperature_stays(temperature: float) -> None:
    agent = make(temperature=temperature)
    for seed in range(3):
        metrics = agent.update(random_batch(seed=seed))
    assert metrics["temperature"] == pytest.approx(temperature)
    assert metrics["temperature_loss"] == 0
    assert all(math.isfinite(value) for value in metrics.values())
    assert agent.log_temperature.exp().item() == pytest.approx(temperature)


def test_target_entropy() -> None:
    assert make(Box(-1, 1, (5,))).target_entropy == -5
    assert make(Box(-1, 1, (5,)), target_entropy=-1.5).target_entropy == -1.5


# -- acting ------------------------------------------------------------------------------------


def test_actions_fill_the_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = make()
    make_constant(agent.actor, 0.5, -1.0, -0.3, 0.2)
    squashed = [math.tanh(0.5), math.tanh(-1.0)]
    expected = np.array([1 + 3 * squashed[0], 0.5 + 0.5 * squashed[1]])
    one = agent.act(np.zeros(3), deterministic=True)
    many = agent.act(np.zeros((4, 3)), deterministic=True)
    np.testing.assert_allclose(one, expected, rtol=1e-6)
    np.testing.assert_allclose(many, np.tile(expected, (4, 1)), rtol=1e-6)
    assert one.dtype == many.dtype == np.float32

    monkeypatch.setattr(agent, "_noise", lambda shape: torch.tensor([2.0, -1.0]).expand(shape))
    u = [0.5 + 2 * math.exp(-0.3), -1.0 - math.exp(0.2)]
    sampled = agent.act(np.zeros((4, 3)))
    expected = np.array([1 + 3 * math.tanh(u[0]), 0.5 + 0.5 * math.tanh(u[1])])
    np.testing.assert_allclose(sampled, np.tile(expected, (4, 1)), rtol=1e-6)


def test_predict_has_stable_baselines_signature() -> None:
    agent, observation = make(), np.ones((2, 3), np.float32)
    action, state = agent.predict(observation, deterministic=True)
    np.testing.assert_array_equal(action, agent.act(observation, deterministic=True))
    assert state is None


def test_random_actions_are_uniform_over_the_bounds() -> None:
    actions = make().random_actions(20_000)
    for column, low, high in zip(actions.T, ACTIONS.low, ACTIONS.high, strict=True):
        counts, _ = np.histogram(column, bins=20, range=(low, high))
        assert counts.sum() == 20_000  # none outside
        assert ((counts - 1000) ** 2 / 1000).sum() < 43.82  # chi-square, 19 degrees, 99.9 %


@pytest.mark.parametrize("mean", [-30.0, 30.0])
def test_saturated_actions_stay_inside_awkward_bounds(mean: float) -> None:
    """(high + low) / 2 ± (high - low) / 2 need not round back to the bounds."""
    low = np.linspace(-1.7, 0.3, 40, dtype=np.float32)
    space = Box(low, low + np.linspace(0.1, 2.9, 40, dtype=np.float32))
    agent = make(space)
    make_constant(agent.actor, *[mean] * 40, *[0.0] * 40)
    assert space.contains(agent.act(np.zeros(3), deterministic=True))


def test_float64_action_space_acts_and_learns() -> None:
    space = Box(-1.0, 1.0, (2,), dtype=np.float64)
    agent = make(space)
    assert agent.act(np.zeros(3)).dtype == np.float64
    assert math.isfinite(agent.update(random_batch(action_space=space))["critic_loss"])


def test_normalizer_stands_before_all_networks() -> None:
    """An agent that normalizes behaves on raw data like a plain one on normalized data."""
    normalizing, plain = make(normalize_observations=True), make()
    batch = random_batch()
    seen = 5 + 3 * np.random.default_rng(0).normal(size=(50, 3))
    normalizing.observe(seen)
    mean, std = torch.tensor(seen.mean(0)), torch.tensor(seen.std(0))
    scaled, next_scaled = batch.observations, batch.next_observations
    assert isinstance(scaled, Tensor)
    assert isinstance(next_scaled, Tensor)
    observations = (scaled * std + mean).float()
    next_observations = (next_scaled * std + mean).float()
    raw = batch._replace(observations=observations, next_observations=next_observations)
    for stochastic in (False, True):
        ours = normalizing.act(observations.numpy(), deterministic=not stochastic)
        theirs = plain.act(scaled.numpy(), deterministic=not stochastic)
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert normalizing.update(raw) == pytest.approx(plain.update(batch), rel=1e-4)


# -- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("observation_space", "action_space", "message"),
    [
        (OBSERVATIONS, Discrete(3), r"continuous actions.*Discrete\(3\)"),
        (OBSERVATIONS, Box(-1, 1, (2, 2)), r"1-D Box.*\(2, 2\)"),
        (OBSERVATIONS, Box(-np.inf, np.inf, (2,)), "bounds.*RescaleAction"),
        (
            OBSERVATIONS,
            Box(np.array([-1, -np.inf], np.float32), 1.0, (2,)),
            "bounds.*RescaleAction",
        ),
        (OBSERVATIONS, Box(np.array([-1, 0.5], np.float32), 0.5, (2,)), "low < high"),
        (Text(5), ONE_ACTION, "needs observations that are.*Text"),
        (Graph(OBSERVATIONS, None), ONE_ACTION, "needs observations that are.*Graph"),
        (Sequence(OBSERVATIONS), ONE_ACTION, "needs observations that are.*Sequence"),
        (Tuple([OBSERVATIONS]), ONE_ACTION, "needs observations that are.*Tuple"),
        (Dict(a=Dict(b=OBSERVATIONS)), ONE_ACTION, "needs observations that are.*Dict"),
        (Dict(a=OBSERVATIONS, b=Text(5)), ONE_ACTION, "needs observations that are.*Text"),
    ],
)
def test_spaces_it_cannot_act_in(
    observation_space: Space[Any], action_space: Space[Any], message: str
) -> None:
    with pytest.raises(UnsupportedSpaceError, match=f"SAC.*{message}"):
        SAC(observation_space, action_space)


def test_pictures_that_the_encoder_cannot_take() -> None:
    with pytest.raises(UnsupportedSpaceError, match=r"35 x 84.*too small.*ResizeObservation"):
        SAC(Box(0, 255, (35, 84), np.uint8), ONE_ACTION)


@pytest.mark.parametrize(
    "space",
    [
        Box(0, 255, (8, 8)),  # floats: numbers, whatever their shape
        Discrete(4, start=-1),
        MultiDiscrete([3, 2]),
        MultiBinary((2, 3)),
        Box(0, 255, (36, 36), np.uint8),
        Box(0, 255, (2, 36, 40, 3), np.uint8),
        Dict(joints=OBSERVATIONS, goal=Discrete(3), camera=Box(0, 255, (40, 36, 3), np.uint8)),
    ],
)
def test_observations_of_other_kinds(tmp_path: Path, space: Space[Any]) -> None:
    """It acts, learns from replay, and comes back from a file as it was."""
    agent = SAC(space, ACTIONS, SACConfig(hidden_sizes=(8,), normalize_observations=True))
    buffer = ReplayBuffer(10, space, ACTIONS, seed=0, n_envs=3)
    space.seed(0)
    many = batch_space(space, 3)
    observations, successors = many.sample(), many.sample()
    agent.observe(observations)
    actions = agent.act(observations)
    assert actions.shape == (3, 2)
    buffer.add(observations, actions, np.ones(3), successors, *np.zeros((2, 3), bool))
    metrics = agent.update(buffer.sample(4))
    assert all(math.isfinite(value) for value in metrics.values())

    agents.save(agent, tmp_path)
    loaded = agents.load(tmp_path)
    assert loaded.observation_space == space
    one = space.sample()
    mode = agent.act(one, deterministic=True)
    assert ACTIONS.contains(mode)
    np.testing.assert_array_equal(loaded.act(one, deterministic=True), mode)
    np.testing.assert_array_equal(loaded.act(observations), agent.act(observations))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", 0.0),
        ("learning_rate", math.nan),
        ("batch_size", 0),
        ("buffer_size", -1),
        ("train_freq", 0),
        ("initial_temperature", 0.0),
        ("gamma", 1.01),
        ("gamma", -0.1),
        ("tau", 2.0),
        ("temperature", -0.5),
        ("hidden_sizes", (64, 0)),
        ("encoder", "no_such_backbone"),
        ("gradient_steps", 0),
        ("gradient_steps", -2),
        ("learning_starts", -1),
    ],
)
def test_config_refuses(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{name} must"):
        SACConfig(**{name: value})


def test_no_hidden_layer_means_linear_networks() -> None:
    agent = SAC(OBSERVATIONS, ACTIONS, SACConfig(hidden_sizes=()))
    assert [tuple(p.shape) for p in agent.actor.parameters()] == [(4, 3), (4,)]
    assert [tuple(p.shape) for p in agent.critics.parameters()] == [(2, 5, 1), (2, 1, 1)]
    assert math.isfinite(agent.update(random_batch())["critic_loss"])


# -- seeds and state ---------------------------------------------------------------------------


def weights(agent: SAC) -> Tensor:
    return torch.cat(
        [p.flatten() for p in (*agent.actor.parameters(), *agent.critics.parameters())]
    )


def test_seed_alone_determines_weights_and_noise() -> None:
    torch.manual_seed(1)
    first = make(seed=7)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second = make(seed=7)
    observations = np.ones((3, 3))
    torch.testing.assert_close(weights(first), weights(second), rtol=0, atol=0)
    np.testing.assert_array_equal(first.act(observations), second.act(observations))
    np.testing.assert_array_equal(first.random_actions(5), second.random_actions(5))
    assert first.update(random_batch()) == second.update(random_batch())
    assert torch.equal(torch.get_rng_state(), state)  # the global generator is left alone
    assert not torch.equal(weights(first), weights(make(seed=8)))


def test_twin_critics_start_apart_and_targets_equal() -> None:
    agent = make()
    for critic, target in zip(
        agent.critics.parameters(), agent.target_critics.parameters(), strict=True
    ):
        assert not torch.equal(critic[0], critic[1])
        assert torch.equal(critic, target)


@pytest.mark.parametrize(
    "config", [{}, {"normalize_observations": True}, {"temperature": 0.1}, {"temperature": 0.0}]
)
def test_saved_agent_goes_on_identically(tmp_path: Path, config: dict[str, Any]) -> None:
    agent = make(seed=3, **config)
    agent.observe(np.random.default_rng(0).normal(size=(20, 3)))
    for seed in range(3):
        agent.update(random_batch(seed=seed))
    agents.save(agent, tmp_path / "policy")
    loaded = agents.load(tmp_path)  # a run directory; its policy folder is found

    assert isinstance(loaded, SAC)
    assert loaded.config == agent.config
    assert loaded.action_space == agent.action_space
    assert loaded.observation_space == agent.observation_space
    assert loaded.updates == 3
    observations = np.random.default_rng(1).normal(size=(5, 3))
    for deterministic in (True, False):
        ours, theirs = (a.act(observations, deterministic) for a in (agent, loaded))
        np.testing.assert_array_equal(ours, theirs)
    for seed in range(3, 6):
        assert agent.update(random_batch(seed=seed)) == loaded.update(random_batch(seed=seed))
    assert torch.equal(weights(agent), weights(loaded))
    for target, again in zip(
        agent.target_critics.parameters(), loaded.target_critics.parameters(), strict=True
    ):
        assert torch.equal(target, again)


@pytest.mark.parametrize(
    "damage",
    [
        {"algorithm": "dqn"},
        {"algorithm": "no such algorithm"},
        {"observation_space": {"type": "Text"}},
        {"config": {"gamma": 0.9}},
        {"action_space": {"type": "Discrete", "n": 3}},
        {"agent": {}},
        {"agent": "other sizes"},
    ],
)
def test_load_refuses_what_does_not_fit(tmp_path: Path, damage: dict[str, Any]) -> None:
    agent = make()
    agents.save(agent, tmp_path)
    state = load_state(tmp_path)
    assert agents.load(tmp_path).updates == 0  # whole, it loads
    if damage.get("agent") == "other sizes":
        damage = {"agent": make(ONE_ACTION).state_dict()}
    save_state(tmp_path, {**state, **damage})
    with pytest.raises(StateError):
        agents.load(tmp_path)


def test_load_from_nowhere(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="holds no saved state"):
        agents.load(tmp_path / "missing")


# -- compilation -------------------------------------------------------------------------------


@pytest.mark.parity
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_update_equals_eager() -> None:
    eager, compiled = make(learning_rate=1e-3), make(learning_rate=1e-3)
    compiled.compile()
    for seed in range(3):
        batch = random_batch(seed=seed)
        assert compiled.update(batch) == pytest.approx(eager.update(batch), rel=1e-4)
    torch.testing.assert_close(weights(compiled), weights(eager), rtol=1e-4, atol=1e-5)
    assert compiled.log_temperature.item() == pytest.approx(eager.log_temperature.item(), rel=1e-4)
