"""Soft actor-critic: an off-policy actor that is paid for being random.

Haarnoja et al. 2018, "Soft Actor-Critic: Off-Policy Maximum Entropy Deep RL with a Stochastic
Actor" (arXiv 1801.01290) and "Soft Actor-Critic Algorithms and Applications" (arXiv 1812.05905).
Equation numbers and tables are those of the second paper:

    (2)-(3)  V(s)    = E_a[ Q(s,a) - alpha log pi(a|s) ]                     soft value
    (5)      J(Q)    = E[ 1/2 (Q(s,a) - (r + gamma V_target(s')))^2 ]        critic
    (7)-(9)  J(pi)   = E[ alpha log pi(f(eps;s)|s) - Q(s, f(eps;s)) ]        actor, reparameterized
    (18)     J(alpha)= E[ -alpha (log pi(a|s) + H_target) ]                  temperature
    App. C   log pi(a|s) = log N(u; mu, sigma) - sum_i log(1 - tanh^2 u_i),  a = tanh u

Deviations from the paper, all of them today's practice (and Stable-Baselines3's):
- The temperature step minimizes -log(alpha) (log pi + H_target) instead of (18) itself: the sign of
  the gradient is the same, and alpha cannot become negative.
- Actor and temperature take one joint Adam step. Adam works parameter by parameter, so this equals
  two separate steps with the same learning rate.
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
from agents.networks import MLP, EnsembleMLP, polyak_update
from agents.observations import Features, ObservationLayout, Observations
from agents.optimizer import Adam
from agents.replay import Batch
from agents.spaces import ActionScale, bounded_actions


@dataclass(frozen=True)
class SACConfig:
    """Hyperparameters of SAC; "table 1" is that of arXiv 1812.05905."""

    learning_rate: float = 3e-4  # step size of Adam for all networks and the temperature (table 1)
    batch_size: int = 256  # transitions an update (table 1)
    gamma: float = 0.99  # discount an environment step (table 1)
    tau: float = 0.005  # how far the target critics move towards the critics an update (table 1)
    hidden_sizes: tuple[int, ...] = (256, 256)  # ReLU layers of actor and critics (table 1)
    temperature: Literal["auto"] | float = "auto"  # alpha: learned as in section 5, or fixed
    initial_temperature: float = 1.0  # alpha at the start if it is learned (SB3)
    target_entropy: Literal["auto"] | float = "auto"  # in nats; auto: -dim(A) (table 1)
    buffer_size: int = 1_000_000  # transitions kept for replay (table 1)
    learning_starts: int = 100  # environment steps with uniformly random actions first (SB3)
    train_freq: int = 1  # environment steps between two training phases (algorithm 1)
    gradient_steps: int = -1  # updates a phase; -1: one for each environment step (algorithm 1)
    normalize_observations: bool = False  # by running mean and variance (not in the paper)
    encoder: str = "nature_cnn"  # backbone of actor and critics for pictures (not in the paper)

    def __post_init__(self) -> None:
        positive = ["learning_rate", "batch_size", "initial_temperature", "buffer_size"]
        check(
            self,
            positive=[*positive, "train_freq"],
            fractions=["gamma", "tau"],
            not_negative=["learning_starts"],
        )
        if self.temperature != "auto" and not self.temperature >= 0:
            raise ValueError(f"temperature must be auto or at least 0, not {self.temperature}")


class GaussianActor(nn.Module):
    """Observations -> mean and log standard deviation of u, each [B, A]."""

    LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0  # the authors' code; keeps sigma in float32's range

    def __init__(self, layout: ObservationLayout, action_size: int, config: SACConfig) -> None:
        super().__init__()
        self.encoder = Encoder(layout, config.encoder)
        self.net = MLP([self.encoder.size, *config.hidden_sizes, 2 * action_size])

    def forward(self, observations: Features) -> tuple[Tensor, Tensor]:
        mean, log_std = self.net(self.encoder(observations)).chunk(2, dim=-1)
        return mean, log_std.clamp(self.LOG_STD_MIN, self.LOG_STD_MAX)


class TwinCritics(nn.Module):
    """Observations, actions [B, A] in [-1, 1] -> Q of both critics, [2, B]."""

    def __init__(self, layout: ObservationLayout, action_size: int, config: SACConfig) -> None:
        super().__init__()
        self.encoder = Encoder(layout, config.encoder)
        self.net = EnsembleMLP(2, [self.encoder.size + action_size, *config.hidden_sizes, 1])

    def forward(self, observations: Features, actions: Tensor) -> Tensor:
        x = torch.cat([self.encoder(observations), actions], dim=-1)
        values: Tensor = self.net(x).squeeze(-1)
        return values


def squashed_gaussian(gaussian: tuple[Tensor, Tensor], noise: Tensor) -> tuple[Tensor, Tensor]:
    """App. C: the action tanh(u), u = mean + sigma * noise [B, A], and its log-density [B].

    The determinant is exact and cannot overflow: log(1 - tanh^2 u) = 2 log 2 - 2 log(e^u + e^-u).
    """
    mean, log_std = gaussian
    u = mean + log_std.exp() * noise
    log_normal = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
    log_det = 2 * (math.log(2) - torch.logaddexp(u, -u))
    return u.tanh(), (log_normal - log_det).sum(-1)


class SAC(Agent):
    """The agent: ``act``, ``update``, and a state that can be saved.

    Args:
        observation_space: see Agent.
        action_space: 1-D Box with finite bounds; anything else is an UnsupportedSpaceError.
        config: hyperparameters.
        seed: of the initial weights and of all noise.
        device: where networks and batches live.
    """

    algorithm = "sac"
    config: SACConfig
    metric_names = (
        "critic_loss",
        "q_value",
        "actor_loss",
        "temperature_loss",
        "entropy",
        "temperature",
    )
    stateful = ("actor", "critics", "target_critics", "critic_optimizer", "policy_optimizer")

    def __init__(
        self,
        observation_space: Space[Any],
        action_space: Space[Any],
        config: SACConfig | None = None,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        self.config = config = config or SACConfig()
        super().__init__(observation_space, config, seed, device)
        self.action_space = bounded_actions(action_space, "SAC")
        self.scale = ActionScale(self.action_space, self.device)
        n_act = self.action_space.shape[0]

        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.actor = GaussianActor(self.layout, n_act, config).to(self.device)
            # Twins, against overestimation.
            self.critics = TwinCritics(self.layout, n_act, config).to(self.device)
            self.target_critics = TwinCritics(self.layout, n_act, config).to(self.device)
        self.target_critics.load_state_dict(self.critics.state_dict())
        self.target_critics.requires_grad_(False)

        self.learn_temperature = config.temperature == "auto"
        alpha = config.initial_temperature if self.learn_temperature else float(config.temperature)
        self.log_temperature = torch.tensor(
            math.log(alpha) if alpha > 0 else -math.inf,
            device=self.device,
            requires_grad=self.learn_temperature,
        )
        auto_entropy = config.target_entropy == "auto"
        self.target_entropy = -float(n_act) if auto_entropy else float(config.target_entropy)

        policy_parameters: list[Tensor] = [*self.actor.parameters()]
        policy_parameters += [self.log_temperature] if self.learn_temperature else []
        self.critic_optimizer = Adam(self.critics.parameters(), config.learning_rate)
        self.policy_optimizer = Adam(policy_parameters, config.learning_rate)

    # -- acting ------------------------------------------------------------------------------

    @torch.no_grad()
    def act(self, observations: Observations, deterministic: bool = False) -> np.ndarray:
        """One observation or n -> actions [A] or [n, A] in the environment's units.

        Deterministic means tanh(mean), the mode of u squashed.
        """
        features, single = self.features(observations)
        mean, log_std = self.actor(features)
        if not deterministic:
            mean = mean + log_std.exp() * self._noise(mean.shape)
        actions = self.scale.to_environment(mean.tanh())
        return actions[0] if single else actions

    def random_actions(self, n: int) -> np.ndarray:
        """Uniform actions [n, A] in the environment's units: what fills the buffer at first."""
        shape = (n, *self.action_space.shape)
        uniform = torch.rand(shape, generator=self.generator, device=self.device)
        return self.scale.to_environment(2 * uniform - 1)

    # -- learning ----------------------------------------------------------------------------

    def update(self, batch: Batch) -> dict[str, float]:
        """One gradient step of algorithm 1; returns ``metric_names`` with their values."""
        batch = batch._replace(
            observations=self.normalize(batch.observations),
            next_observations=self.normalize(batch.next_observations),
        )
        noise = self._noise((2, *batch.actions.shape))
        metrics = self._gradient_step(batch, noise).tolist()
        self.updates += 1
        return dict(zip(self.metric_names, metrics, strict=True))

    def _gradient_step(self, batch: Batch, noise: Tensor) -> Tensor:
        """Algorithm 1: critics, actor and temperature, target critics. noise [2, B, A]."""
        with torch.no_grad():
            target = self._critic_target(batch, noise[0])
        critic_loss, q_value = self._critic_loss(batch, target)
        self.critic_optimizer.minimize(critic_loss)

        actor_loss, log_prob = self._actor_loss(batch.observations, noise[1])
        temperature, temperature_loss = self._temperature_loss(log_prob)
        # The two share no parameter: the gradient of their sum is the gradients of both.
        self.policy_optimizer.minimize(actor_loss + temperature_loss)

        polyak_update(self.target_critics, self.critics, self.config.tau)
        metrics = [critic_loss, q_value, actor_loss, temperature_loss, -log_prob.mean()]
        return torch.stack([*metrics, temperature]).detach()

    def _critic_target(self, batch: Batch, noise: Tensor) -> Tensor:
        """r + gamma V(s') [B], eq. 2-3, with the smaller target critic; V = 0 after termination."""
        next_obs = batch.next_observations
        next_actions, log_prob = squashed_gaussian(self.actor(next_obs), noise)
        q: Tensor = self.target_critics(next_obs, next_actions).amin(0)
        soft_value = q - self.log_temperature.exp() * log_prob
        return batch.rewards + self.config.gamma * (1 - batch.terminated) * soft_value

    def _critic_loss(self, batch: Batch, target: Tensor) -> tuple[Tensor, Tensor]:
        """Eq. 5, summed over both critics; also the mean Q as a metric."""
        q = self.critics(batch.observations, self.scale.to_unit(batch.actions))
        return 0.5 * (q - target).square().mean(-1).sum(), q.mean()

    def _actor_loss(self, obs: Features, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Eq. 7-9: the noise passes through the action into the smaller critic; also log pi [B]."""
        actions, log_prob = squashed_gaussian(self.actor(obs), noise)
        q = self.critics(obs, actions).amin(0)
        alpha = self.log_temperature.detach().exp()
        return (alpha * log_prob - q).mean(), log_prob

    def _temperature_loss(self, log_prob: Tensor) -> tuple[Tensor, Tensor]:
        """Alpha, and eq. 18 in log alpha: it rises while log pi is above minus the target entropy.

        A fixed temperature has no loss.
        """
        temperature = self.log_temperature.exp()
        if not self.learn_temperature:
            return temperature, torch.zeros_like(temperature)
        excess = (log_prob.detach() + self.target_entropy).mean()
        return temperature, -self.log_temperature * excess

    def _noise(self, shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=self.generator, device=self.device)

    # -- state -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"log_temperature": self.log_temperature.detach()}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.log_temperature.copy_(state["log_temperature"])
