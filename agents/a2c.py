"""Advantage actor-critic, synchronous: every few steps of n environments, one gradient step.

Mnih et al. 2016, "Asynchronous Methods for Deep Reinforcement Learning" (arXiv 1602.01783),
section 4 and algorithm S3, with all actors in step (the form that OpenAI's baselines named A2C):

    A_t      = sum_i<k gamma^i r_t+i + gamma^k V(s_t+k) - V(s_t)      k-step advantage
    L_policy = -E[ log pi(a_t|s_t) A_t ]                              A_t is no function of theta
    L_value  = E[ (A_t + V(s_t) held fixed - V(s_t))^2 ]
    L        = L_policy + c_v L_value - beta E[ H(pi(.|s_t)) ]        beta: entropy bonus

Deviations from the paper, all of them today's practice (and Stable-Baselines3's):
- Synchronous: no actor ever acts or learns with parameters older than another's.
- Generalized advantage estimation as an option; lambda = 1 is the paper.
- The gradient's norm is clipped to 0.5; RMSProp's epsilon is outside of the root.
- A truncated episode is bootstrapped from the state in which the clock ran out.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import Space
from torch import Tensor

from agents.actor_critic import ActorCritic
from agents.agent import Agent
from agents.config import check
from agents.distributions import make_distribution
from agents.normalizer import RewardNormalizer
from agents.observations import Observations
from agents.optimizer import RMSProp
from agents.returns import advantages
from agents.rollout import Rollout


@dataclass(frozen=True)
class A2CConfig:
    """Hyperparameters of A2C; "section 8" is that of the paper's supplement."""

    learning_rate: float = 7e-4  # step size of RMSProp (SB3; the paper searches 1e-4 to 1e-2)
    learning_rate_decay_steps: int = 0  # steps in which it falls linearly to 0; 0: constant (SB3)
    n_steps: int = 5  # steps of every environment an update (t_max of section 8)
    gamma: float = 0.99  # discount an environment step (section 8)
    gae_lambda: float = 1.0  # 1: n-step returns, as in the paper; 0: one-step
    entropy_coefficient: float = 0.0  # beta (SB3; 0.01 in section 8)
    value_coefficient: float = 0.5  # c_v (SB3; the paper's gradient of V has 1)
    max_grad_norm: float = 0.5  # of the gradient over all parameters; inf: no limit (SB3)
    rmsprop_decay: float = 0.99  # alpha of RMSProp (section 8)
    rmsprop_epsilon: float = 1e-5  # (SB3)
    epsilon_inside: bool = False  # under the root, as in the paper (SB3)
    hidden_sizes: tuple[int, ...] = (64, 64)  # tanh layers of policy and of value (SB3)
    normalize_advantages: bool = False  # over the rollout, to mean 0 and deviation 1 (SB3)
    normalize_observations: bool = False  # by running mean and variance (not in the paper)
    normalize_rewards: bool = False  # by the running deviation of the return (not in the paper)
    encoder: str = "nature_cnn"  # backbone for pictures (SB3)

    def __post_init__(self) -> None:
        positive = ["learning_rate", "n_steps", "max_grad_norm", "rmsprop_epsilon"]
        coefficients = ["entropy_coefficient", "value_coefficient", "learning_rate_decay_steps"]
        fractions = ["gamma", "gae_lambda", "rmsprop_decay"]
        check(self, positive=positive, fractions=fractions, not_negative=coefficients)


class A2C(Agent):
    """The agent: ``act``, ``update``, and a state that can be saved.

    Args:
        observation_space: see Agent.
        action_space: Discrete, 1-D MultiDiscrete or a 1-D Box (whose bounds the policy does not
            know: actions are clipped); anything else is an UnsupportedSpaceError.
        config: hyperparameters.
        seed: of the initial weights and of all noise.
        device: where the network and rollouts live.
    """

    algorithm = "a2c"
    config: A2CConfig
    metric_names = ("policy_loss", "value_loss", "entropy")
    stateful = ("network", "optimizer")

    def __init__(
        self,
        observation_space: Space[Any],
        action_space: Space[Any],
        config: A2CConfig | None = None,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        self.config = config = config or A2CConfig()
        super().__init__(observation_space, config, seed, device)
        self.action_space = action_space
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.distribution = make_distribution(action_space, "A2C")
            self.network = ActorCritic(
                self.layout, self.distribution, config.hidden_sizes, config.encoder
            ).to(self.device)
        self.optimizer = RMSProp(
            self.network.parameters(),
            config.learning_rate,
            config.max_grad_norm,
            decay=config.rmsprop_decay,
            epsilon=config.rmsprop_epsilon,
            epsilon_inside=config.epsilon_inside,
        )
        self.reward_normalizer = (
            RewardNormalizer(config.gamma) if config.normalize_rewards else None
        )

    # -- acting ------------------------------------------------------------------------------

    def act(self, observations: Observations, deterministic: bool = False) -> np.ndarray:
        """One observation or n -> an action or n, in the environment's units.

        Deterministic means the likeliest action.
        """
        drawn, single = self._draw(observations, deterministic)
        actions = self.distribution.to_environment(drawn)
        chosen: np.ndarray = actions[0] if single else actions
        return chosen

    def sample(self, observations: Observations) -> tuple[np.ndarray, np.ndarray]:
        """n observations -> actions [n, A] as drawn, for learning, and as the environment's."""
        drawn, _ = self._draw(observations, deterministic=False)
        return drawn.cpu().numpy(), self.distribution.to_environment(drawn)

    def random_actions(self, n: int) -> np.ndarray:
        """n uniform actions; standard normal where the space has no bounds."""
        return self.distribution.to_environment(self.distribution.uniform(n, self.generator))

    @torch.no_grad()
    def _draw(self, observations: Observations, deterministic: bool) -> tuple[Tensor, bool]:
        features, single = self.features(observations)
        numbers = self.network.act(features)
        if deterministic:
            return self.distribution.mode(numbers), single
        return self.distribution.sample(numbers, self.generator), single

    # -- learning ----------------------------------------------------------------------------

    def update(self, rollout: Rollout) -> dict[str, float]:
        """One gradient step; returns ``metric_names`` with their values."""
        rollout = rollout._replace(
            observations=self.normalize(rollout.observations),
            next_observations=self.normalize(rollout.next_observations),
        )
        if self.config.learning_rate_decay_steps:
            left = max(0.0, 1 - self.steps / self.config.learning_rate_decay_steps)
            self.optimizer.rate.fill_(self.config.learning_rate * left)
        metrics = self._gradient_step(rollout).tolist()
        self.updates += 1
        return dict(zip(self.metric_names, metrics, strict=True))

    def _gradient_step(self, rollout: Rollout) -> Tensor:
        """Returns and the three parts of the loss, then one step; the parts' values."""
        numbers, values = self.network(rollout.observations)
        advantage = self._advantages(rollout, values.detach())
        weights = rollout.real.flatten()  # a reset is no step
        weights = weights / weights.sum().clamp(min=1)

        log_prob = self.distribution.log_prob(numbers, rollout.actions)
        entropy = (weights * self.distribution.entropy(numbers)).sum()
        value_loss = (weights * (advantage + values.detach() - values).square()).sum()
        if self.config.normalize_advantages:
            advantage = standardize(advantage, weights)
        policy_loss = -(weights * log_prob * advantage).sum()

        config = self.config
        loss = policy_loss + config.value_coefficient * value_loss
        self.optimizer.minimize(loss - config.entropy_coefficient * entropy)
        return torch.stack([policy_loss, value_loss, entropy]).detach()

    def _advantages(self, rollout: Rollout, values: Tensor) -> Tensor:
        """A_t [T * n]; ``values`` [T * n]."""
        shape = rollout.rewards.shape
        return advantages(
            rollout.rewards,
            values.view(shape),
            self.network.values(rollout.next_observations).view(shape),
            rollout.terminated,
            rollout.done,
            self.config.gamma,
            self.config.gae_lambda,
        ).flatten()

    # -- state -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        rewards = self.reward_normalizer
        return super().state_dict() | {"rewards": None if rewards is None else rewards.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        if (self.reward_normalizer is None) != (state["rewards"] is None):
            raise ValueError("rewards are normalized or not, unlike in the config")
        if self.reward_normalizer is not None:
            self.reward_normalizer.load_state_dict(state["rewards"])


def standardize(values: Tensor, weights: Tensor) -> Tensor:
    """Values [B] shifted and scaled to weighted mean 0 and standard deviation 1."""
    centered = values - (weights * values).sum()
    return centered / ((weights * centered.square()).sum().sqrt() + 1e-8)
