"""Deep deterministic policy gradient: Q-learning for continuous actions.

Lillicrap et al. 2016, "Continuous control with deep reinforcement learning" (arXiv 1509.02971),
algorithm 1:

    y        = r + gamma Q'(s', mu'(s'))               r alone if the episode terminates at s'
    L        = E[ (y - Q(s, a))^2 ]                                                 critic
    grad J   = E[ grad_a Q(s, a)|a=mu(s) grad_theta mu(s) ]                         actor, eq. 6
    theta'  <- tau theta + (1 - tau) theta'            for mu' and Q'               targets
    a        = mu(s) + noise                                                        behaviour

Deviations of the defaults, all of them today's practice (and Stable-Baselines3's); ``paper()``
undoes them:
- No batch normalization, no weight decay, PyTorch's initialization in all layers, actions enter
  the critic with the observation, Gaussian noise, both learning rates 1e-3, tau 0.005, batch 256.

Deviation of both: pictures go through the encoder of Mnih et al. 2015 instead of the paper's three
layers of 32 filters.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from gymnasium import Space
from torch import Tensor, nn

from agents.agent import Agent
from agents.config import check
from agents.encoders import Encoder
from agents.networks import polyak_update
from agents.noise import GaussianNoise, OrnsteinUhlenbeckNoise
from agents.observations import Features, ObservationLayout, Observations
from agents.optimizer import Adam
from agents.replay import Batch
from agents.spaces import ActionScale, bounded_actions


@dataclass(frozen=True)
class DDPGConfig:
    """Hyperparameters of DDPG; "section 7" is "Experiment details" of arXiv 1509.02971."""

    actor_learning_rate: float = 1e-3  # step size of Adam (SB3; 1e-4 in section 7)
    critic_learning_rate: float = 1e-3  # (section 7)
    critic_weight_decay: float = 0.0  # L2 (SB3; 1e-2 in section 7)
    batch_size: int = 256  # transitions an update (SB3; 64 in section 7)
    gamma: float = 0.99  # discount an environment step (section 7)
    tau: float = 0.005  # how far the targets move an update (SB3; 1e-3 in section 7)
    hidden_sizes: tuple[int, ...] = (400, 300)  # ReLU layers of actor and critic (section 7)
    action_layer: Literal[0, 1] = 0  # hidden layers of the critic before actions enter (SB3)
    batch_norm: bool = False  # of the layers that have seen no action (SB3; section 3)
    final_init: float = 0.0  # last layers start in ±this; 0: as all layers (SB3; 3e-3 in 7)
    noise: Literal["gaussian", "ornstein-uhlenbeck"] = "gaussian"  # (section 7: the second)
    noise_sigma: float = 0.1  # in units of half the actions' range (zoo; 0.2 in section 7)
    noise_theta: float = 0.15  # of Ornstein-Uhlenbeck: how fast it forgets (section 7)
    buffer_size: int = 1_000_000  # transitions kept for replay (section 7)
    learning_starts: int = 100  # environment steps with uniformly random actions first (SB3)
    train_freq: int = 1  # environment steps between two training phases (algorithm 1)
    gradient_steps: int = -1  # updates a phase; -1: one for each environment step (algorithm 1)
    normalize_observations: bool = False  # by running mean and variance (not in the paper)
    encoder: str = "nature_cnn"  # backbone of actor and critic for pictures (not in the paper)

    def __post_init__(self) -> None:
        rates = ["actor_learning_rate", "critic_learning_rate"]
        decays = ["critic_weight_decay", "final_init", "noise_sigma", "learning_starts"]
        check(
            self,
            positive=[*rates, "batch_size", "buffer_size", "train_freq"],
            fractions=["gamma", "tau", "noise_theta"],
            not_negative=decays,
        )
        if len(self.hidden_sizes) < 1:
            raise ValueError("hidden_sizes must hold at least one layer")

    @classmethod
    def paper(cls) -> "DDPGConfig":
        """Section 7, for observations that are vectors."""
        return cls(
            actor_learning_rate=1e-4,
            critic_weight_decay=1e-2,
            batch_size=64,
            tau=1e-3,
            action_layer=1,
            batch_norm=True,
            final_init=3e-3,
            noise="ornstein-uhlenbeck",
            noise_sigma=0.2,
        )


def hidden_layer(n_in: int, n_out: int, batch_norm: bool) -> nn.Sequential:
    """Linear, normalized over the batch if asked for, ReLU."""
    middle = [nn.BatchNorm1d(n_out)] if batch_norm else []
    return nn.Sequential(nn.Linear(n_in, n_out), *middle, nn.ReLU())


def last_layer(n_in: int, n_out: int, init: float) -> nn.Linear:
    """Linear; weights and biases from U(-init, init), or as in all layers if that is 0."""
    layer = nn.Linear(n_in, n_out)
    if init:
        for parameter in layer.parameters():
            nn.init.uniform_(parameter, -init, init)
    return layer


class Actor(nn.Module):
    """Observations -> mu(s) [B, A] in [-1, 1]."""

    def __init__(self, layout: ObservationLayout, action_size: int, config: DDPGConfig) -> None:
        super().__init__()
        self.encoder = Encoder(layout, config.encoder)
        widths = [self.encoder.size, *config.hidden_sizes]
        layers: list[nn.Module] = [nn.BatchNorm1d(widths[0])] if config.batch_norm else []
        for n_in, n_out in pairwise(widths):
            layers.append(hidden_layer(n_in, n_out, config.batch_norm))
        self.net = nn.Sequential(*layers, last_layer(widths[-1], action_size, config.final_init))

    def forward(self, observations: Features) -> Tensor:
        actions: Tensor = self.net(self.encoder(observations)).tanh()
        return actions


class Critic(nn.Module):
    """Observations, actions [B, A] in [-1, 1] -> Q(s, a) [B]."""

    def __init__(self, layout: ObservationLayout, action_size: int, config: DDPGConfig) -> None:
        super().__init__()
        self.encoder = Encoder(layout, config.encoder)
        widths, first = [self.encoder.size, *config.hidden_sizes], config.action_layer
        before: list[nn.Module] = [nn.BatchNorm1d(widths[0])] if config.batch_norm else []
        after: list[nn.Module] = []
        for i, (n_in, n_out) in enumerate(pairwise(widths)):
            if i < first:
                before.append(hidden_layer(n_in, n_out, config.batch_norm))
            else:
                after.append(hidden_layer(n_in + (action_size if i == first else 0), n_out, False))
        self.before = nn.Sequential(*before)
        joined = action_size if len(config.hidden_sizes) == first else 0
        last = last_layer(widths[-1] + joined, 1, config.final_init)
        self.after = nn.Sequential(*after, last)

    def forward(self, observations: Features, actions: Tensor) -> Tensor:
        x = self.before(self.encoder(observations))
        values: Tensor = self.after(torch.cat([x, actions], dim=-1)).squeeze(-1)
        return values


class DDPG(Agent):
    """The agent: ``act``, ``update``, and a state that can be saved.

    Args:
        observation_space: see Agent.
        action_space: 1-D Box with finite bounds; anything else is an UnsupportedSpaceError.
        config: hyperparameters.
        seed: of the initial weights and of all noise.
        device: where networks and batches live.
    """

    algorithm = "ddpg"
    config: DDPGConfig
    metric_names = ("critic_loss", "q_value", "actor_loss")
    stateful = (
        "actor",
        "critic",
        "target_actor",
        "target_critic",
        "actor_optimizer",
        "critic_optimizer",
        "noise",
    )

    def __init__(
        self,
        observation_space: Space[Any],
        action_space: Space[Any],
        config: DDPGConfig | None = None,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        self.config = config = config or DDPGConfig()
        super().__init__(observation_space, config, seed, device)
        self.action_space = bounded_actions(action_space, "DDPG")
        self.scale = ActionScale(self.action_space, self.device)
        self.action_size = n_act = self.action_space.shape[0]
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.actor, self.target_actor = (
                Actor(self.layout, n_act, config).to(self.device) for _ in range(2)
            )
            self.critic, self.target_critic = (
                Critic(self.layout, n_act, config).to(self.device) for _ in range(2)
            )
        pairs = ((self.target_actor, self.actor), (self.target_critic, self.critic))
        for target, source in pairs:
            target.load_state_dict(source.state_dict())
            target.requires_grad_(False)
        for network in (self.actor, self.critic, self.target_actor, self.target_critic):
            network.eval()
        self.actor_optimizer = Adam(self.actor.parameters(), config.actor_learning_rate)
        self.critic_optimizer = Adam(
            self.critic.parameters(),
            config.critic_learning_rate,
            weight_decay=config.critic_weight_decay,
        )
        self.noise: GaussianNoise | OrnsteinUhlenbeckNoise = (
            GaussianNoise(n_act, config.noise_sigma)
            if config.noise == "gaussian"
            else OrnsteinUhlenbeckNoise(n_act, config.noise_sigma, config.noise_theta)
        )

    # -- acting ------------------------------------------------------------------------------

    @torch.no_grad()
    def act(self, observations: Observations, deterministic: bool = False) -> np.ndarray:
        """One observation or n -> actions [A] or [n, A] in the environment's units.

        Deterministic means without noise.
        """
        features, single = self.features(observations)
        unit = self.actor(features)
        if not deterministic:
            unit = (unit + self.noise.draw(len(unit), self.generator)).clamp(-1, 1)
        actions = self.scale.to_environment(unit)
        return actions[0] if single else actions

    def random_actions(self, n: int) -> np.ndarray:
        """Uniform actions [n, A] in the environment's units: what fills the buffer at first."""
        shape = (n, self.action_size)
        uniform = torch.rand(shape, generator=self.generator, device=self.device)
        return self.scale.to_environment(2 * uniform - 1)

    def end_episodes(self, done: np.ndarray) -> None:
        self.noise.end(done)

    # -- learning ----------------------------------------------------------------------------

    def update(self, batch: Batch) -> dict[str, float]:
        """One gradient step of algorithm 1; returns ``metric_names`` with their values."""
        batch = batch._replace(
            observations=self.normalize(batch.observations),
            next_observations=self.normalize(batch.next_observations),
        )
        self._set_training(True)
        metrics = self._gradient_step(batch).tolist()
        self._set_training(False)
        self.updates += 1
        return dict(zip(self.metric_names, metrics, strict=True))

    def _gradient_step(self, batch: Batch) -> Tensor:
        """Critic, then actor, then both targets; the metrics."""
        with torch.no_grad():
            target = self._critic_target(batch)
        critic_loss, q_value = self._critic_loss(batch, target)
        self.critic_optimizer.minimize(critic_loss)
        actor_loss = self._actor_loss(batch.observations)
        self.actor_optimizer.minimize(actor_loss)
        polyak_update(self.target_critic, self.critic, self.config.tau)
        polyak_update(self.target_actor, self.actor, self.config.tau)
        return torch.stack([critic_loss, q_value, actor_loss]).detach()

    def _critic_target(self, batch: Batch) -> Tensor:
        """y [B]: the reward and what the targets expect to follow; nothing after termination."""
        next_actions = self.target_actor(batch.next_observations)
        following: Tensor = self.target_critic(batch.next_observations, next_actions)
        return batch.rewards + self.config.gamma * (1 - batch.terminated) * following

    def _critic_loss(self, batch: Batch, target: Tensor) -> tuple[Tensor, Tensor]:
        """The mean squared error of Q(s, a); also the mean Q."""
        q = self.critic(batch.observations, self.scale.to_unit(batch.actions))
        return (target - q).square().mean(), q.mean()

    def _actor_loss(self, observations: Features) -> Tensor:
        """-E[Q(s, mu(s))]: its gradient with respect to the actor is minus eq. 6."""
        q: Tensor = self.critic(observations, self.actor(observations))
        return -q.mean()

    def _set_training(self, training: bool) -> None:
        """Batch normalization by the batch's own moments while learning, by running ones else."""
        if self.config.batch_norm:
            self.actor.train(training)
            self.critic.train(training)
