"""Deep Q-learning: Q-learning with a network, made stable by replay and a frozen target.

Mnih et al. 2015, "Human-level control through deep reinforcement learning" (Nature 518), algorithm
1 and Methods:

    y = r                                        if the episode terminates at s'
    y = r + gamma max_a' Q(s', a'; theta^-)      otherwise                            target
    L(theta) = E[ (y - Q(s, a; theta))^2 ]       its error clipped to [-1, 1]         loss
    theta^- <- theta                             every C steps                        target network
    a = argmax_a Q(s, a; theta), or with probability epsilon any action               behaviour

Clipping the error term of the gradient to [-1, 1] makes the loss quadratic up to an error of 1
and linear from there on.

Deviations of the defaults, all of them today's practice (and Stable-Baselines3's); the preset for
Atari undoes them:
- Adam instead of RMSProp, and the gradient's norm clipped to 10.
- A multilayer perceptron reads observations that are vectors.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from gymnasium import Space
from torch import Tensor, nn

from agents.agent import Agent
from agents.config import check
from agents.encoders import Encoder
from agents.networks import MLP
from agents.observations import Features, ObservationLayout, Observations
from agents.optimizer import Adam, Optimizer, RMSProp
from agents.replay import Batch
from agents.spaces import discrete_actions
from supervised.fit import Precision


@dataclass(frozen=True)
class DQNConfig:
    """Hyperparameters of DQN; "table 1" is extended data table 1 of the paper."""

    learning_rate: float = 1e-4  # step size (SB3)
    batch_size: int = 32  # transitions an update (table 1: minibatch size)
    gamma: float = 0.99  # discount an environment step (table 1)
    hidden_sizes: tuple[int, ...] = (64, 64)  # ReLU layers after the encoder (SB3)
    buffer_size: int = 1_000_000  # transitions kept for replay (table 1)
    learning_starts: int = 100  # environment steps with uniformly random actions first (SB3)
    train_freq: int = 4  # environment steps between two training phases (table 1)
    gradient_steps: int = 1  # updates a phase; -1: one for each environment step (table 1)
    target_update_interval: int = 10_000  # environment steps from one copy to the next (SB3)
    initial_epsilon: float = 1.0  # probability of a random action at the start (table 1)
    final_epsilon: float = 0.05  # and after exploration_steps (SB3)
    exploration_steps: int = 10_000  # environment steps in which epsilon falls linearly (SB3)
    evaluation_epsilon: float = 0.0  # probability of a random action in evaluation (SB3)
    max_grad_norm: float = 10.0  # of the gradient over all parameters; inf: no limit (SB3)
    optimizer: Literal["adam", "rmsprop"] = "adam"  # rmsprop: the paper's variant (SB3)
    normalize_observations: bool = False  # by running mean and variance (not in the paper)
    encoder: str = "nature_cnn"  # backbone for pictures (Methods, "Model architecture")
    encoder_precision: Precision = "float32"  # bfloat16: half the time on CPUs that have it

    def __post_init__(self) -> None:
        positive = ["learning_rate", "batch_size", "buffer_size", "train_freq", "max_grad_norm"]
        epsilons = ["initial_epsilon", "final_epsilon", "evaluation_epsilon"]
        check(
            self,
            positive=[*positive, "target_update_interval"],
            fractions=["gamma", *epsilons],
            not_negative=["learning_starts", "exploration_steps"],
        )

    @classmethod
    def paper(cls) -> "DQNConfig":
        """Extended data table 1. Its steps are agent steps: four frames of the emulator each."""
        return cls(
            learning_rate=2.5e-4,
            hidden_sizes=(),
            learning_starts=50_000,
            target_update_interval=40_000,  # 10,000 updates, one every four steps
            final_epsilon=0.1,
            exploration_steps=1_000_000,
            evaluation_epsilon=0.05,
            max_grad_norm=math.inf,
            optimizer="rmsprop",
        )


class QNetwork(nn.Module):
    """Observations -> the value of every action, [B, A]."""

    def __init__(self, layout: ObservationLayout, actions: int, config: DQNConfig) -> None:
        super().__init__()
        self.encoder = Encoder(layout, config.encoder, config.encoder_precision)
        self.net = MLP([self.encoder.size, *config.hidden_sizes, actions])

    def forward(self, observations: Features) -> Tensor:
        values: Tensor = self.net(self.encoder(observations))
        return values


class DQN(Agent):
    """The agent: ``act``, ``update``, and a state that can be saved.

    Args:
        observation_space: see Agent.
        action_space: Discrete; anything else is an UnsupportedSpaceError.
        config: hyperparameters.
        seed: of the initial weights and of exploration.
        device: where networks and batches live.
    """

    algorithm = "dqn"
    config: DQNConfig
    metric_names = ("loss", "q_value")
    stateful = ("network", "target_network", "optimizer")

    def __init__(
        self,
        observation_space: Space[Any],
        action_space: Space[Any],
        config: DQNConfig | None = None,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        self.config = config = config or DQNConfig()
        super().__init__(observation_space, config, seed, device)
        self.action_space = space = discrete_actions(action_space, "DQN")
        self.n_actions, self.first_action = int(space.n), int(space.start)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.network = QNetwork(self.layout, self.n_actions, config).to(self.device)
            self.target_network = QNetwork(self.layout, self.n_actions, config).to(self.device)
        self.target_network.load_state_dict(self.network.state_dict())
        self.target_network.requires_grad_(False)
        self.optimizer = self._make_optimizer()
        self.copied_at = 0  # step of the last copy to the target network
        self.rng = np.random.default_rng(seed)  # of exploration

    def _make_optimizer(self) -> Optimizer:
        config, parameters = self.config, self.network.parameters()
        if config.optimizer == "adam":
            return Adam(parameters, config.learning_rate, config.max_grad_norm)
        # Table 1: "gradient momentum" and "squared gradient momentum" are the decays of the two
        # running means, "min squared gradient", 0.01, is the epsilon under the root. The authors'
        # code adds up the gradients of a minibatch; our loss is a mean, so its squares are smaller.
        return RMSProp(
            parameters,
            config.learning_rate,
            config.max_grad_norm,
            decay=0.95,
            epsilon=0.01 / config.batch_size**2,
            centered=True,
            epsilon_inside=True,
        )

    # -- acting ------------------------------------------------------------------------------

    def act(self, observations: Observations, deterministic: bool = False) -> np.ndarray:
        """One observation or n -> an action or actions [n]: greedy if deterministic, or else
        epsilon-greedy.
        """
        return self._act(observations, 0.0 if deterministic else self.epsilon(), self.rng)

    def predict(
        self,
        observation: Observations,
        state: Any = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, Any]:
        """SB3's signature of ``act``; deterministic means ``evaluation_epsilon``, by default 0.

        The state is evaluation's own random stream, always the same one and apart from training's.
        """
        if not deterministic:
            return self.act(observation), state
        state = state or (np.random.default_rng(0),)
        return self._act(observation, self.config.evaluation_epsilon, state[0]), state

    @torch.no_grad()
    def _act(
        self, observations: Observations, epsilon: float, rng: np.random.Generator
    ) -> np.ndarray:
        features, single = self.features(observations)
        actions = self.network(features).argmax(-1).cpu().numpy()
        explore = np.flatnonzero(rng.random(len(actions)) < epsilon)
        if len(explore):
            actions[explore] = rng.integers(self.n_actions, size=len(explore))
        actions += self.first_action
        chosen: np.ndarray = actions[0] if single else actions
        return chosen

    def epsilon(self) -> float:
        """The probability of a random action after ``steps`` steps: linear, then flat."""
        config = self.config
        first, last = config.initial_epsilon, config.final_epsilon
        done = min(self.steps / max(config.exploration_steps, 1), 1.0)
        return first + (last - first) * done

    def random_actions(self, n: int) -> np.ndarray:
        """Uniform actions [n]."""
        return self.rng.integers(self.n_actions, size=n) + self.first_action

    # -- learning ----------------------------------------------------------------------------

    def update(self, batch: Batch) -> dict[str, float]:
        """One gradient step of algorithm 1; returns ``metric_names`` with their values."""
        self._update_target()
        batch = batch._replace(
            observations=self.normalize(batch.observations),
            next_observations=self.normalize(batch.next_observations),
        )
        metrics = self._gradient_step(batch).tolist()
        self.updates += 1
        return dict(zip(self.metric_names, metrics, strict=True))

    def _gradient_step(self, batch: Batch) -> Tensor:
        """A step down the loss; its metrics."""
        with torch.no_grad():
            target = self._target(batch)
        loss, q_value = self._loss(batch, target)
        self.optimizer.minimize(loss)
        return torch.stack([loss, q_value]).detach()

    def _target(self, batch: Batch) -> Tensor:
        """y [B]: the reward, and unless the episode terminated the best of what may follow."""
        best: Tensor = self.target_network(batch.next_observations).amax(-1)
        return batch.rewards + self.config.gamma * (1 - batch.terminated) * best

    def _loss(self, batch: Batch, target: Tensor) -> tuple[Tensor, Tensor]:
        """The mean squared error, halved, with its gradient clipped; also the mean Q."""
        actions = batch.actions.long() - self.first_action
        q = self.network(batch.observations).gather(1, actions).squeeze(1)
        error = (target - q).abs()
        clipped = error.clamp(max=1.0)
        return (clipped * (error - 0.5 * clipped)).mean(), q.mean()

    def _update_target(self) -> None:
        """Copies the network to the target network if a multiple of the interval has passed.

        The network has not changed since the last update, so copying late, here, is copying then.
        """
        interval = self.config.target_update_interval
        if self.steps // interval > self.copied_at // interval:
            self.target_network.load_state_dict(self.network.state_dict())
            self.copied_at = self.steps

    # -- state -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        rng = self.rng.bit_generator.state
        return super().state_dict() | {"copied_at": self.copied_at, "rng": rng}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.copied_at = int(state["copied_at"])
        self.rng.bit_generator.state = state["rng"]
