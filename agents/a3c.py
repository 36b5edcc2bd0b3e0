"""Asynchronous advantage actor-critic: workers that act and learn on their own, and never wait.

Mnih et al. 2016, "Asynchronous Methods for Deep Reinforcement Learning" (arXiv 1602.01783),
algorithm S3. Every worker repeats, with its own environment:

    theta' <- theta                                                   copy the shared parameters
    act up to t_max steps with pi(a|s; theta'), or to the episode's end
    R       = 0 if s_t is terminal, else V(s_t; theta')
    R       = r_i + gamma R                                           for i = t-1 ... t_start
    dtheta += grad log pi(a_i|s_i; theta') (R - V(s_i; theta'))       policy
            + beta grad H(pi(.|s_i; theta'))                          entropy bonus, section 4
            - c_v grad (R - V(s_i; theta'))^2                         value
    theta  <- theta + eta dtheta / sqrt(g + epsilon)                  RMSProp, eq. S2-S3
    g       = alpha g + (1 - alpha) dtheta^2                          shared among the workers

No lock is ever taken: workers overwrite each other's changes to theta and g now and then, as in
Hogwild! (Recht et al. 2011). So the order of the updates, and with it the result, is different
every time; with one worker it is not.

Deviations from the paper:
- Policy and value share the encoder of pictures and the LSTM, as in the paper's Atari networks,
  but have tanh layers of their own behind them where observations are numbers.
- Generalized advantage estimation as an option; lambda = 1 is the paper.
- An episode that was truncated is bootstrapped from the state in which the clock ran out.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import Space
from torch import Tensor

from agents.actor_critic import ActorCritic, Memory
from agents.agent import Agent
from agents.config import check
from agents.distributions import make_distribution
from agents.normalizer import RewardNormalizer
from agents.observations import Features, Observations
from agents.optimizer import RMSProp, clip_norm
from agents.returns import advantages
from agents.rollout import Rollout


@dataclass(frozen=True)
class A3CConfig:
    """Hyperparameters of A3C; "section 8" is that of the paper's supplement."""

    learning_rate: float = 7e-4  # eta at the start (figure 2: good values lie around it)
    learning_rate_decay_steps: int = 0  # steps in which it falls linearly to 0 (section 8: all)
    n_steps: int = 5  # t_max (section 8)
    gamma: float = 0.99  # discount an environment step (section 8)
    gae_lambda: float = 1.0  # 1: n-step returns, as in the paper; 0: one-step
    entropy_coefficient: float = 0.01  # beta (section 8)
    value_coefficient: float = 0.5  # c_v (algorithm S3 has 1; 0.5 is what implementations use)
    max_grad_norm: float = math.inf  # of the gradient over all parameters (not in the paper)
    rmsprop_decay: float = 0.99  # alpha (section 8)
    rmsprop_epsilon: float = 0.1  # under the root, of eq. S3 (not in the paper; its authors' value)
    lstm_size: int = 0  # cells of the recurrent variant (256 in section 8); 0: without
    hidden_sizes: tuple[int, ...] = (64, 64)  # tanh layers of policy and of value
    normalize_observations: bool = False  # by running mean and variance (not in the paper)
    normalize_rewards: bool = False  # by the running deviation of the return (not in the paper)
    encoder: str = "nature_cnn"  # backbone for pictures (the paper's is that of Mnih et al. 2013)

    def __post_init__(self) -> None:
        positive = ["learning_rate", "n_steps", "max_grad_norm", "rmsprop_epsilon"]
        coefficients = ["entropy_coefficient", "value_coefficient", "learning_rate_decay_steps"]
        fractions = ["gamma", "gae_lambda", "rmsprop_decay"]
        not_negative = [*coefficients, "lstm_size"]
        check(self, positive=positive, fractions=fractions, not_negative=not_negative)


class A3C(Agent):
    """The agent whose parameters the workers share; each worker has one of its own besides.

    Args:
        observation_space: see Agent.
        action_space: Discrete, 1-D MultiDiscrete or a 1-D Box (whose bounds the policy does not
            know: actions are clipped); anything else is an UnsupportedSpaceError.
        config: hyperparameters.
        seed: of the initial weights and of all noise.
        device: "cpu": processes share main memory; anything else is a ValueError.
    """

    algorithm = "a3c"
    config: A3CConfig
    metric_names = ("policy_loss", "value_loss", "entropy")
    stateful = ("network", "optimizer")

    def __init__(
        self,
        observation_space: Space[Any],
        action_space: Space[Any],
        config: A3CConfig | None = None,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        if torch.device(device).type not in ("cpu", "meta"):
            raise ValueError(f"A3C's workers share main memory: it needs device cpu, not {device}")
        self.config = config = config or A3CConfig()
        super().__init__(observation_space, config, seed, device)
        self.action_space = action_space
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.distribution = make_distribution(action_space, "A3C")
            sizes = (config.hidden_sizes, config.encoder, config.lstm_size)
            self.network = ActorCritic(self.layout, self.distribution, *sizes)
        self.optimizer = RMSProp(
            self.network.parameters(),
            config.learning_rate,
            decay=config.rmsprop_decay,
            epsilon=config.rmsprop_epsilon,
            epsilon_inside=True,
        )
        self.reward_normalizer = (
            RewardNormalizer(config.gamma) if config.normalize_rewards else None
        )

    # -- acting ------------------------------------------------------------------------------

    def act(self, observations: Observations, deterministic: bool = False) -> np.ndarray:
        """One observation or n -> an action or n, as at the start of an episode.

        Deterministic means the likeliest action. The recurrent variant's memory is in ``predict``.
        """
        return self.predict(observations, None, None, deterministic)[0]

    def predict(
        self,
        observation: Observations,
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """SB3's signature; ``state`` is the LSTM's, forgotten where ``episode_start`` is true."""
        n = self.layout.count(self.layout.batched(observation)[0])
        memory = self.network.no_memory(n)
        if state is not None:
            begins = np.zeros(n, bool) if episode_start is None else np.atleast_1d(episode_start)
            kept = torch.from_numpy(~begins.astype(bool))[:, None]
            hidden, cell = (kept * torch.from_numpy(part) for part in state)
            memory = hidden, cell
        drawn, memory, single = self.draw(observation, memory, deterministic)
        actions = self.distribution.to_environment(drawn)
        return actions[0] if single else actions, tuple(part.numpy() for part in memory)

    @torch.no_grad()
    def draw(
        self, observations: Observations, memory: Memory, deterministic: bool = False
    ) -> tuple[Tensor, Memory, bool]:
        """n observations and memories -> actions [n, A] as drawn, the next memories, and whether
        it was a single observation.
        """
        features, single = self.features(observations)
        encoded = self.network.encoder(features)
        memory = self.network.remember(encoded, memory)
        numbers = self.network.policy(encoded if self.network.lstm is None else memory[0])
        if deterministic:
            return self.distribution.mode(numbers), memory, single
        return self.distribution.sample(numbers, self.generator), memory, single

    def random_actions(self, n: int) -> np.ndarray:
        """n uniform actions; standard normal where the space has no bounds."""
        return self.distribution.to_environment(self.distribution.uniform(n, self.generator))

    # -- learning ----------------------------------------------------------------------------

    def update(self, batch: tuple[Rollout, Memory]) -> dict[str, float]:
        """``learn`` on this agent's own parameters, as a lone worker would."""
        return self.learn(self.optimizer, *batch)

    def learn(self, shared: RMSProp, rollout: Rollout, memory: Memory) -> dict[str, float]:
        """Accumulates gradients with respect to this agent's parameters, theta', and applies them
        to the shared ones, theta.

        Args:
            shared: moves the parameters that all workers share, with statistics that they share.
            rollout: t steps of one environment, n = 1, within one episode.
            memory: the LSTM's state before the first of them.

        Returns:
            ``metric_names`` with their values.

        """
        rollout = rollout._replace(
            observations=self.normalize(rollout.observations),
            next_observations=self.normalize(rollout.next_observations),
        )
        loss, metrics = self._loss(rollout, memory)
        gradients = torch.autograd.grad(loss, list(self.network.parameters()))
        if self.config.learning_rate_decay_steps:
            left = max(0.0, 1 - self.steps / self.config.learning_rate_decay_steps)
            shared.rate.fill_(self.config.learning_rate * left)
        with torch.no_grad():
            shared.apply(clip_norm(gradients, self.config.max_grad_norm))
        self.updates += 1
        return dict(zip(self.metric_names, metrics.tolist(), strict=True))

    def _loss(self, rollout: Rollout, memory: Memory) -> tuple[Tensor, Tensor]:
        """Minus the sum that algorithm S3 accumulates, and the means of its parts."""
        numbers, values, memory = self.network.along(rollout.observations, memory)
        advantage = self._advantages(rollout, values.detach(), memory)
        log_prob = self.distribution.log_prob(numbers, rollout.actions)
        policy_loss = -log_prob * advantage
        value_loss = (advantage + values.detach() - values).square()
        entropy = self.distribution.entropy(numbers)
        value_part = self.config.value_coefficient * value_loss
        loss = policy_loss + value_part - self.config.entropy_coefficient * entropy
        parts = [part.detach().mean() for part in (policy_loss, value_loss, entropy)]
        return loss.sum(), torch.stack(parts)

    @torch.no_grad()
    def _advantages(self, rollout: Rollout, values: Tensor, memory: Memory) -> Tensor:
        """R - V(s_i) [t], with R bootstrapped from the last successor."""
        last = last_of(rollout.next_observations)
        _, bootstrap, _ = self.network.along(last, memory)
        next_values = torch.cat([values[1:], bootstrap])[:, None]
        return advantages(
            rollout.rewards,
            values[:, None],
            next_values,
            rollout.terminated,
            rollout.done,
            self.config.gamma,
            self.config.gae_lambda,
        ).squeeze(1)

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


def last_of(features: Features) -> Features:
    """The last row of a batch, as a batch of one."""
    if isinstance(features, dict):
        return {name: values[-1:] for name, values in features.items()}
    return features[-1:]
