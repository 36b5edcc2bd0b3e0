"""DQN's equations, one by one, and what surrounds them."""

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import Space
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete, Text
from stable_baselines3.common.utils import LinearSchedule
from torch import Tensor

import agents
from agents import DQN, DQNConfig, UnsupportedSpaceError
from agents.networks import MLP
from agents.optimizer import RMSProp
from agents.replay import Batch, ReplayBuffer

OBSERVATIONS = Box(-np.inf, np.inf, (3,))
ACTIONS = Discrete(4)
PICTURES = Box(0, 255, (4, 36, 36), np.uint8)  # the smallest that the Nature CNN takes


def make(action_space: Discrete = ACTIONS, seed: int = 0, **config: Any) -> DQN:
    return DQN(OBSERVATIONS, action_space, DQNConfig(**{"hidden_sizes": (8,), **config}), seed=seed)


def random_batch(size: int = 16, seed: int = 0, first_action: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    terminated, truncated = (torch.rand(2, size, generator=generator) < 0.3).float()
    return Batch(
        torch.randn(size, 3, generator=generator),
        first_action + torch.randint(4, (size, 1), generator=generator).float(),
        torch.randn(size, generator=generator),
        torch.randn(size, 3, generator=generator),
        terminated,
        truncated,
    )


def one_transition(
    reward: float, action: int = 0, terminated: bool = False, truncated: bool = False
) -> Batch:
    flags = torch.tensor([float(terminated)]), torch.tensor([float(truncated)])
    actions = torch.tensor([[float(action)]])
    return Batch(torch.ones(1, 3), actions, torch.tensor([reward]), torch.ones(1, 3), *flags)


@torch.no_grad()
def make_constant(network: torch.nn.Module, *values: float) -> None:
    """All weights zero and the last bias ``values``: the network ignores its input."""
    parameters = list(network.parameters())
    for parameter in parameters:
        parameter.zero_()
    parameters[-1].copy_(torch.tensor(values))


def weights(network: torch.nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def walk(agent: DQN, steps: int) -> None:
    """Shows the agent ``steps`` observations."""
    for _ in range(steps):
        agent.observe(np.zeros((1, 3)))


# -- the loss ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("terminated", "truncated", "bootstraps"),
    [(False, False, True), (True, False, False), (False, True, True), (True, True, False)],
)
@pytest.mark.parametrize("action", [0, 2])
def test_loss_by_hand(terminated: bool, truncated: bool, bootstraps: bool, action: int) -> None:
    """The best of the target network's values, whatever the network itself thinks best."""
    agent = make(gamma=0.9)
    q = (0.5, -1.0, 0.2, 9.0)
    make_constant(agent.network, *q)
    make_constant(agent.target_network, 0.1, 0.6, -0.3, -5.0)
    metrics = agent.update(one_transition(0.25, action, terminated, truncated))
    error = 0.25 + (0.9 * 0.6 if bootstraps else 0.0) - q[action]
    assert metrics == pytest.approx({"loss": 0.5 * error**2, "q_value": q[action]}, rel=1e-5)


@pytest.mark.parametrize("error", [-30.0, -1.5, -1.0, -0.4, 0.0, 0.4, 1.0, 1.5, 30.0])
def test_error_is_clipped_to_one(error: float) -> None:
    """Its gradient is the error within [-1, 1] and 1 or -1 beyond; the loss is Huber's."""
    agent = make()
    make_constant(agent.network, 0.0, 2.0, 0.0, 0.0)
    loss, _ = agent._loss(one_transition(0.0, action=1), torch.tensor([2.0 + error]))
    expected = 0.5 * error**2 if abs(error) <= 1 else abs(error) - 0.5
    assert loss.item() == pytest.approx(expected, abs=1e-6)
    (gradient,) = torch.autograd.grad(loss, [list(agent.network.parameters())[-1]])
    clipped = min(max(error, -1.0), 1.0)
    assert gradient.tolist() == pytest.approx([0, -clipped, 0, 0], abs=1e-6)


def test_loss_is_the_mean_over_the_batch() -> None:
    agent, batch = make(), random_batch()
    target = agent._target(batch)
    parts = [
        agent._loss(Batch(*(column[i : i + 1] for column in batch)), target[i : i + 1])  # type: ignore[index]
        for i in range(16)
    ]
    loss, q_value = agent._loss(batch, target)
    assert loss.item() == pytest.approx(np.mean([part[0].item() for part in parts]), rel=1e-5)
    assert q_value.item() == pytest.approx(np.mean([part[1].item() for part in parts]), rel=1e-5)


def test_update_moves_the_network_alone() -> None:
    agent = make(learning_rate=0.1)
    before, target = weights(agent.network), weights(agent.target_network)
    agent.update(random_batch())
    assert not torch.equal(weights(agent.network), before)
    assert torch.equal(weights(agent.target_network), target)
    assert agent.updates == 1


def test_max_grad_norm_limits_the_gradient() -> None:
    """RMSProp without a memory moves by the clipped gradient itself, if epsilon is large."""
    limit = 1e-3
    free, limited = make(), make(max_grad_norm=limit)
    batch = random_batch()
    loss, _ = free._loss(batch, free._target(batch))
    gradients = torch.autograd.grad(loss, list(free.network.parameters()))
    norm = torch.cat([g.flatten() for g in gradients]).norm()
    assert norm > 2 * limit
    limited.update(batch)
    for m, gradient in zip(limited.optimizer.m, gradients, strict=True):  # Adam's, at 1 - 0.9
        torch.testing.assert_close(m, 0.1 * gradient * limit / norm, rtol=1e-2, atol=1e-9)


# -- the target network ------------------------------------------------------------------------


def test_target_network_is_copied_when_a_multiple_has_passed() -> None:
    agent = make(learning_rate=0.01, target_update_interval=10)
    agent.update(random_batch())  # from here on the two networks differ
    copied = []
    for step in range(1, 45):
        walk(agent, 1)
        if step % 4 == 0:
            before = weights(agent.network)
            agent.update(random_batch(seed=step))
            if torch.equal(weights(agent.target_network), before):
                copied.append(step)
            assert not torch.equal(weights(agent.network), before)
    assert copied == [12, 20, 32, 40]  # the first updates after 10, 20, 30 and 40


def test_target_network_is_copied_once_however_many_updates_follow() -> None:
    agent = make(learning_rate=0.01, target_update_interval=10)
    walk(agent, 25)
    before = weights(agent.network)
    for seed in range(3):
        agent.update(random_batch(seed=seed))
        assert torch.equal(weights(agent.target_network), before)


# -- acting ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "epsilon"), [(0, 0.8), (25, 0.625), (50, 0.45), (100, 0.1), (101, 0.1), (500, 0.1)]
)
def test_epsilon(steps: int, epsilon: float) -> None:
    agent = make(initial_epsilon=0.8, final_epsilon=0.1, exploration_steps=100)
    walk(agent, steps)
    assert agent.epsilon() == pytest.approx(epsilon, rel=1e-12)
    theirs = LinearSchedule(0.8, 0.1, 0.2)  # of 500 steps
    assert agent.epsilon() == pytest.approx(theirs(1 - steps / 500), rel=1e-12)


def test_no_exploration_steps() -> None:
    agent = make(exploration_steps=0, final_epsilon=0.3)
    walk(agent, 1)  # as it does before its first action
    assert agent.epsilon() == pytest.approx(0.3)


def test_actions_are_greedy_but_for_epsilon() -> None:
    agent = make(initial_epsilon=0.4, final_epsilon=0.4)
    make_constant(agent.network, 0.0, 1.0, 3.0, 2.0)
    observations = np.zeros((20_000, 3))
    counts = np.bincount(agent.act(observations), minlength=4)
    expected = np.array([2_000, 2_000, 14_000, 2_000])  # the greedy action is among the random
    assert ((counts - expected) ** 2 / expected).sum() < 16.27  # chi-square, 3 degrees, 99.9 %
    assert (agent.act(observations, deterministic=True) == 2).all()


def test_random_actions_are_uniform() -> None:
    actions = make(Discrete(4, start=3)).random_actions(20_000)
    values, counts = np.unique(actions, return_counts=True)
    assert values.tolist() == [3, 4, 5, 6]
    assert ((counts - 5_000) ** 2 / 5_000).sum() < 16.27


def test_one_observation_and_many() -> None:
    agent = make()
    observations = np.random.default_rng(0).normal(size=(5, 3))
    many = agent.act(observations, deterministic=True)
    assert many.shape == (5,)
    for observation, expected in zip(observations, many, strict=True):
        action = agent.act(observation, deterministic=True)
        assert action == expected
        assert ACTIONS.contains(action)


def test_actions_that_do_not_start_at_zero() -> None:
    """It acts and learns like one whose actions start at zero, but for their names."""
    plain, shifted = make(seed=1), make(Discrete(4, start=3), seed=1)
    observations = np.random.default_rng(0).normal(size=(50, 3))
    for deterministic in (True, False):
        ours, theirs = (a.act(observations, deterministic) for a in (plain, shifted))
        np.testing.assert_array_equal(ours + 3, theirs)
    for seed in range(3):
        metrics = plain.update(random_batch(seed=seed))
        assert shifted.update(random_batch(seed=seed, first_action=3)) == metrics
    assert torch.equal(weights(plain.network), weights(shifted.network))


def test_evaluation_is_random_at_its_own_rate_and_reproducibly() -> None:
    agent = make(evaluation_epsilon=0.2)
    make_constant(agent.network, 0.0, 1.0, 3.0, 2.0)
    observations, stream = np.zeros((500, 3)), agent.rng.bit_generator.state

    def episode() -> np.ndarray:
        state, played = None, []
        for _ in range(20):
            actions, state = agent.predict(observations, state, deterministic=True)
            played.append(actions)
        return np.stack(played)

    first = episode()
    assert (first != 2).mean() == pytest.approx(0.2 * 3 / 4, abs=0.015)  # four deviations
    assert len({actions.tobytes() for actions in first}) == 20  # not the same ones at each step
    agent.act(np.zeros((7, 3)))  # training goes on in between
    agent.rng.bit_generator.state = stream
    np.testing.assert_array_equal(episode(), first)
    assert agent.rng.bit_generator.state == stream  # of which evaluation takes nothing
    sampled, _ = agent.predict(observations)
    assert len(set(sampled)) == 4  # epsilon is still 1
    assert agent.rng.bit_generator.state != stream


def test_evaluation_is_greedy_by_default() -> None:
    agent = make()
    observations = np.random.default_rng(0).normal(size=(100, 3))
    actions, _ = agent.predict(observations, deterministic=True)
    np.testing.assert_array_equal(actions, agent.act(observations, deterministic=True))


# -- networks ----------------------------------------------------------------------------------


def test_network_of_the_paper() -> None:
    """Methods, "Model architecture": three convolutions, 512 rectifiers, one output an action."""
    agent = DQN(Box(0, 255, (4, 84, 84), np.uint8), Discrete(6), DQNConfig.paper())
    convolutions = (4 * 8 * 8 + 1) * 32 + (32 * 4 * 4 + 1) * 64 + (64 * 3 * 3 + 1) * 64
    side = ((84 - 8) // 4 + 1 - 4) // 2 + 1 - 3 + 1
    linear = (64 * side * side + 1) * 512 + (512 + 1) * 6
    assert convolutions + linear == 1_687_206
    assert sum(p.numel() for p in agent.network.parameters()) == 1_687_206
    assert sum(isinstance(m, torch.nn.Linear) for m in agent.network.modules()) == 2


def test_pictures_are_scaled_to_one() -> None:
    agent = DQN(PICTURES, ACTIONS, DQNConfig(hidden_sizes=()))
    pictures = PICTURES.sample()[None]
    with torch.no_grad():
        values = agent.network(agent.features(pictures)[0])
        network: Any = agent.network.double()
        (encoder,), x = network.encoder.pictures, torch.tensor(pictures).double() / 255
        for stage in encoder.backbone.stages:
            x = stage(x).relu()
        expected = network.net(encoder.linear(x.flatten(1)).relu())
    torch.testing.assert_close(values.double(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "space", [PICTURES, Dict(speed=Box(-1, 1, (2,)), camera=PICTURES), Discrete(5)], ids=str
)
def test_learns_from_observations_of_other_kinds(space: Space[Any]) -> None:
    config = DQNConfig(hidden_sizes=(8,), batch_size=8, normalize_observations=True)
    agent, buffer = DQN(space, ACTIONS, config), ReplayBuffer(20, space, ACTIONS, seed=0)
    space.seed(0)
    rows = [space.sample() for _ in range(11)]
    for before, after in itertools.pairwise(rows):
        observations, successors = (agent.layout.batched(o)[0] for o in (before, after))
        agent.observe(observations)
        actions = agent.act(observations)
        buffer.add(observations, actions, np.ones(1), successors, *np.zeros((2, 1), bool))
    before_update = weights(agent.network)
    assert math.isfinite(agent.update(buffer.sample(8))["loss"])
    assert not torch.equal(weights(agent.network), before_update)
    assert ACTIONS.contains(agent.act(rows[0], deterministic=True))


def test_bfloat16_is_nearly_float32() -> None:
    """Only the arithmetic on pictures: weights and values stay float32."""
    exact, rounded = (
        DQN(PICTURES, ACTIONS, DQNConfig(encoder_precision=precision))
        for precision in ("float32", "bfloat16")
    )
    PICTURES.seed(0)
    features = exact.features(np.stack([PICTURES.sample() for _ in range(4)]))[0]
    with torch.no_grad():
        ours, theirs = exact.network(features), rounded.network(features)
    assert theirs.dtype == torch.float32
    assert {p.dtype for p in rounded.network.parameters()} == {torch.float32}
    torch.testing.assert_close(ours, theirs, rtol=0.02, atol=0.005)
    assert not torch.equal(ours, theirs)


# -- configs and refusals ----------------------------------------------------------------------


def test_config_of_the_paper() -> None:
    """Extended data table 1, in its order; steps of the agent are four frames each."""
    config = DQNConfig.paper()
    assert config.batch_size == 32
    assert config.buffer_size == 1_000_000
    assert config.target_update_interval == 10_000 * config.train_freq  # it counts updates
    assert config.gamma == 0.99
    assert config.train_freq == 4
    assert config.gradient_steps == 1
    assert config.learning_rate == 0.00025
    assert config.initial_epsilon == 1.0
    assert config.final_epsilon == 0.1
    assert config.exploration_steps == 1_000_000
    assert config.learning_starts == 50_000
    assert config.evaluation_epsilon == 0.05  # Methods, "Evaluation procedure"
    assert config.max_grad_norm == math.inf
    assert config.hidden_sizes == ()
    assert config.encoder == "nature_cnn"
    optimizer = DQN(OBSERVATIONS, ACTIONS, config).optimizer
    assert isinstance(optimizer, RMSProp)
    assert optimizer.decay == 0.95  # gradient momentum and squared gradient momentum
    assert optimizer.epsilon == 0.01 / 32**2  # min squared gradient, of a mean over 32
    assert optimizer.centered
    assert optimizer.epsilon_inside
    assert optimizer.max_norm == math.inf
    assert optimizer.rate == 0.00025


def test_optimizer_of_the_paper_works_on_summed_gradients() -> None:
    """As the authors' code: its epsilon of 0.01 stands beside squares of sums over a minibatch."""
    agent = DQN(OBSERVATIONS, ACTIONS, DQNConfig.paper())
    (theta, *_), (g, *rest) = agent.optimizer.parameters, gradients_like(agent.optimizer.parameters)
    m, v = 0.05 * 32 * g, 0.05 * (32 * g) ** 2
    expected = theta - 0.00025 * 32 * g / (v - m**2 + 0.01).sqrt()
    with torch.no_grad():
        agent.optimizer.apply([g, *rest])
    torch.testing.assert_close(theta, expected, rtol=1e-5, atol=1e-7)


def gradients_like(parameters: list[Tensor]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [0.01 * torch.randn(p.shape, generator=generator) for p in parameters]


@pytest.mark.parametrize(
    ("observation_space", "action_space", "message"),
    [
        (OBSERVATIONS, Box(-1, 1, (2,)), "actions to choose from.*Box"),
        (OBSERVATIONS, MultiDiscrete([2, 3]), "actions to choose from.*MultiDiscrete"),
        (Text(5), ACTIONS, "observations.*Text"),
        (Dict(a=Dict(b=OBSERVATIONS)), ACTIONS, "observations.*Dict"),
    ],
)
def test_spaces_it_cannot_act_in(
    observation_space: Space[Any], action_space: Space[Any], message: str
) -> None:
    with pytest.raises(UnsupportedSpaceError, match=f"DQN.*{message}"):
        DQN(observation_space, action_space)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", 0.0),
        ("batch_size", 0),
        ("buffer_size", 0),
        ("train_freq", 0),
        ("gradient_steps", 0),
        ("learning_starts", -1),
        ("exploration_steps", -1),
        ("target_update_interval", 0),
        ("initial_epsilon", 1.1),
        ("final_epsilon", -0.1),
        ("evaluation_epsilon", math.nan),
        ("gamma", 1.01),
        ("max_grad_norm", 0.0),
        ("hidden_sizes", (64, 0)),
        ("encoder", "no_such_backbone"),
    ],
)
def test_config_refuses(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{name} must"):
        DQNConfig(**{name: value})


# -- seeds and state ---------------------------------------------------------------------------


def test_seed_alone_determines_weights_and_exploration() -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    first = make(seed=7)
    torch.manual_seed(2)
    np.random.seed(2)
    second = make(seed=7)
    assert torch.equal(weights(first.network), weights(second.network))
    assert torch.equal(weights(first.network), weights(first.target_network))
    observations = np.zeros((50, 3))
    np.testing.assert_array_equal(first.act(observations), second.act(observations))
    np.testing.assert_array_equal(first.random_actions(50), second.random_actions(50))
    assert not torch.equal(weights(first.network), weights(make(seed=8).network))


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"optimizer": "rmsprop", "max_grad_norm": math.inf},
        {"normalize_observations": True},
        {"evaluation_epsilon": 0.3, "hidden_sizes": ()},
    ],
)
def test_saved_agent_goes_on_identically(tmp_path: Path, config: dict[str, Any]) -> None:
    agent = make(
        seed=3, exploration_steps=100, target_update_interval=20, learning_rate=0.01, **config
    )
    rng = np.random.default_rng(0)
    for seed in range(3):
        agent.observe(rng.normal(size=(10, 3)))
        agent.update(random_batch(seed=seed))
    agents.save(agent, tmp_path / "policy")
    loaded = agents.load(tmp_path)
    assert isinstance(loaded, DQN)
    assert loaded.config == agent.config
    assert loaded.action_space == agent.action_space
    assert (loaded.steps, loaded.updates, loaded.copied_at) == (30, 3, 20)
    assert loaded.epsilon() == agent.epsilon()
    for seed in range(3, 8):  # the target network is copied at 40, 60 and 80
        observations = rng.normal(size=(10, 3))
        for a in (agent, loaded):
            a.observe(observations)
        np.testing.assert_array_equal(agent.act(observations), loaded.act(observations))
        ours, theirs = (a.predict(observations, deterministic=True)[0] for a in (agent, loaded))
        np.testing.assert_array_equal(ours, theirs)
        assert agent.update(random_batch(seed=seed)) == loaded.update(random_batch(seed=seed))
    assert torch.equal(weights(agent.network), weights(loaded.network))
    assert torch.equal(weights(agent.target_network), weights(loaded.target_network))


def test_heads_of_hidden_layers() -> None:
    assert isinstance(make(hidden_sizes=(7, 5)).network.net, MLP)
    shapes = [tuple(p.shape) for p in make(hidden_sizes=(7, 5)).network.parameters()]
    assert shapes == [(7, 3), (7,), (5, 7), (5,), (4, 5), (4,)]
