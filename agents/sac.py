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
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from gymnasium import Space
from torch import Tensor, nn

from agents.config import check
from agents.networks import MLP, EnsembleMLP, polyak_update
from agents.normalizer import RunningNormalizer
from agents.optimizer import Adam
from agents.replay import Batch
from agents.spaces import bounded_actions, vector_observations


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

    def __post_init__(self) -> None:
        positive = ["learning_rate", "batch_size", "initial_temperature", "buffer_size"]
        check(self, positive=[*positive, "train_freq"], fractions=["gamma", "tau"])
        if self.temperature != "auto" and not self.temperature >= 0:
            raise ValueError(f"temperature must be auto or at least 0, not {self.temperature}")


class GaussianActor(nn.Module):
    """Observations [B, O] -> mean and log standard deviation of u, each [B, A]."""

    LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0  # the authors' code; keeps sigma in float32's range

    def __init__(self, observation_size: int, action_size: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.net = MLP([observation_size, *hidden, 2 * action_size])

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = self.net(observations).chunk(2, dim=-1)
        return mean, log_std.clamp(self.LOG_STD_MIN, self.LOG_STD_MAX)


def squashed_gaussian(gaussian: tuple[Tensor, Tensor], noise: Tensor) -> tuple[Tensor, Tensor]:
    """App. C: the action tanh(u), u = mean + sigma * noise [B, A], and its log-density [B].

    The determinant is exact and cannot overflow: log(1 - tanh^2 u) = 2 log 2 - 2 log(e^u + e^-u).
    """
    mean, log_std = gaussian
    u = mean + log_std.exp() * noise
    log_normal = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
    log_det = 2 * (math.log(2) - torch.logaddexp(u, -u))
    return u.tanh(), (log_normal - log_det).sum(-1)


class SAC:
    """The agent: ``act``, ``update``, and a state that can be saved.

    Args:
        observation_space: 1-D Box.
        action_space: 1-D Box with finite bounds; anything else is an UnsupportedSpaceError.
        config: hyperparameters.
        seed: of the initial weights and of all noise.
        device: where networks and batches live.
    """

    algorithm = "sac"
    metric_names: tuple[str, ...] = (
        "critic_loss",
        "q_value",
        "actor_loss",
        "temperature_loss",
        "entropy",
        "temperature",
    )

    def __init__(
        self,
        observation_space: Space[Any],
        action_space: Space[Any],
        config: SACConfig | None = None,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        self.config = config = config or SACConfig()
        self.observation_space = vector_observations(observation_space, "SAC")
        self.action_space = bounded_actions(action_space, "SAC")
        self.device = torch.device(device)
        n_obs, n_act = self.observation_space.shape[0], self.action_space.shape[0]

        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.actor = GaussianActor(n_obs, n_act, config.hidden_sizes).to(self.device)
            sizes = [n_obs + n_act, *config.hidden_sizes, 1]
            self.critics = EnsembleMLP(2, sizes).to(self.device)  # twins, against overestimation
            self.target_critics = EnsembleMLP(2, sizes).to(self.device)
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
        self.normalizer = (
            RunningNormalizer(n_obs, device=self.device) if config.normalize_observations else None
        )
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.updates = 0
        low = torch.tensor(self.action_space.low, dtype=torch.float32, device=self.device)
        high = torch.tensor(self.action_space.high, dtype=torch.float32, device=self.device)
        self._center, self._scale = (high + low) / 2, (high - low) / 2
        self._gradient_step: Callable[[Batch, Tensor], Tensor] = self._algorithm_1

    # -- acting ------------------------------------------------------------------------------

    @torch.no_grad()
    def act(self, observations: np.ndarray, deterministic: bool = False) -> np.ndarray:
        """Observations [O] or [n, O] -> actions [A] or [n, A] in the environment's units.

        Deterministic means tanh(mean), the mode of u squashed.
        """
        x = torch.as_tensor(np.asarray(observations, np.float32), device=self.device)
        mean, log_std = self.actor(self._normalize(x))
        if not deterministic:
            mean = mean + log_std.exp() * self._noise(mean.shape)
        return self._to_environment(mean.tanh())

    def random_actions(self, n: int) -> np.ndarray:
        """Uniform actions [n, A] in the environment's units: what fills the buffer at first."""
        shape = (n, *self.action_space.shape)
        uniform = torch.rand(shape, generator=self.generator, device=self.device)
        return self._to_environment(2 * uniform - 1)

    def predict(
        self,
        observation: Any,
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Stable-Baselines3's signature of ``act``, so that its ``evaluate_policy`` runs us."""
        return self.act(observation, deterministic), state

    def observe(self, observations: np.ndarray) -> None:
        """Feeds observations [n, O] that training has met to the normalizer, if there is one."""
        if self.normalizer is not None:
            self.normalizer.update(observations)

    # -- learning ----------------------------------------------------------------------------

    def update(self, batch: Batch) -> dict[str, float]:
        """One gradient step of algorithm 1; returns ``metric_names`` with their values."""
        batch = batch._replace(
            observations=self._normalize(batch.observations),
            next_observations=self._normalize(batch.next_observations),
        )
        noise = self._noise((2, *batch.actions.shape))
        metrics = self._gradient_step(batch, noise).tolist()
        self.updates += 1
        return dict(zip(self.metric_names, metrics, strict=True))

    def _algorithm_1(self, batch: Batch, noise: Tensor) -> Tensor:
        """Critics, then actor and temperature, then target critics. noise [2, B, A]."""
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
        q = self._q(self.target_critics, next_obs, next_actions).amin(0)
        soft_value = q - self.log_temperature.exp() * log_prob
        return batch.rewards + self.config.gamma * (1 - batch.terminated) * soft_value

    def _critic_loss(self, batch: Batch, target: Tensor) -> tuple[Tensor, Tensor]:
        """Eq. 5, summed over both critics; also the mean Q as a metric."""
        actions = (batch.actions - self._center) / self._scale
        q = self._q(self.critics, batch.observations, actions)
        return 0.5 * (q - target).square().mean(-1).sum(), q.mean()

    def _actor_loss(self, obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Eq. 7-9: the noise passes through the action into the smaller critic; also log pi [B]."""
        actions, log_prob = squashed_gaussian(self.actor(obs), noise)
        q = self._q(self.critics, obs, actions).amin(0)
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

    def compile(self) -> None:
        """Has torch.compile make one graph of algorithm 1, backward passes and Adam included.

        The equations are the same, in fewer and fused kernels. It takes 10-20 s at the first
        update and needs a C++ compiler on a CPU.
        """
        torch._dynamo.config.trace_autograd_ops = True  # backward passes are part of the graph
        options: dict[str, Any] | None = (
            {"cpp_wrapper": True} if self.device.type == "cpu" else None
        )
        self._gradient_step = torch.compile(self._algorithm_1, fullgraph=True, options=options)

    # -- helpers -----------------------------------------------------------------------------

    def _q(self, critics: nn.Module, obs: Tensor, actions: Tensor) -> Tensor:
        """Both critics' values [2, B] of actions in [-1, 1]."""
        values: Tensor = critics(torch.cat([obs, actions], dim=-1)).squeeze(-1)
        return values

    def _noise(self, shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=self.generator, device=self.device)

    def _normalize(self, observations: Tensor) -> Tensor:
        return observations if self.normalizer is None else self.normalizer(observations)

    def _to_environment(self, squashed: Tensor) -> np.ndarray:
        """Actions in [-1, 1] -> the environment's bounds, which rounding must not leave."""
        actions = (self._center + self._scale * squashed).cpu().numpy()
        low, high = self.action_space.low, self.action_space.high
        clipped: np.ndarray = np.clip(actions, low, high)
        return clipped.astype(self.action_space.dtype, copy=False)

    # -- state -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next ``act`` and ``update`` depend on, as nested plain data."""
        return {
            "actor": self.actor.state_dict(),
            "critics": self.critics.state_dict(),
            "target_critics": self.target_critics.state_dict(),
            "log_temperature": self.log_temperature.detach(),
            "critic_optimizer": self.critic_optimizer.state_dict(),
            "policy_optimizer": self.policy_optimizer.state_dict(),
            "normalizer": None if self.normalizer is None else self.normalizer.state_dict(),
            "generator": self.generator.get_state(),
            "updates": self.updates,
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores ``state_dict``; KeyError, ValueError or RuntimeError if it does not fit."""
        for name in ["actor", "critics", "target_critics"]:
            getattr(self, name).load_state_dict(state[name])
        self.log_temperature.copy_(state["log_temperature"])
        self.critic_optimizer.load_state_dict(state["critic_optimizer"])
        self.policy_optimizer.load_state_dict(state["policy_optimizer"])
        if self.normalizer is not None:
            self.normalizer.load_state_dict(state["normalizer"])
        self.generator.set_state(state["generator"])
        self.updates = int(state["updates"])
