"""A stochastic policy and a state value, as A2C and A3C learn them."""

import math
from typing import TypeAlias

import torch
from torch import Tensor, nn

from agents.distributions import Distribution
from agents.encoders import Encoder
from agents.networks import MLP
from agents.observations import Features, ObservationLayout

Memory: TypeAlias = tuple[Tensor, Tensor]  # hidden and cell state of an LSTM, [B, M] each


class ActorCritic(nn.Module):
    """Observations -> the numbers that an action distribution takes [B, size], and V(s) [B].

    Pictures go through one encoder that policy and value share; behind it each has layers of its
    own. Weights start orthogonal, as in OpenAI's baselines and Stable-Baselines3: with gain
    sqrt 2, but 0.01 at the policy's output, so that it starts near uniform, and 1 at the value's.

    Args:
        layout: of the observations.
        distribution: of the actions; its parameters, if it has any, are learned along.
        hidden_sizes: tanh layers of the policy, and of the value.
        backbone: of the encoder of pictures.
        memory: cells of an LSTM between the encoder and the rest; 0: none.

    """

    def __init__(
        self,
        layout: ObservationLayout,
        distribution: Distribution,
        hidden_sizes: tuple[int, ...],
        backbone: str,
        memory: int = 0,
    ) -> None:
        super().__init__()
        self.encoder = Encoder(layout, backbone)
        self.distribution = distribution
        self.lstm = nn.LSTMCell(self.encoder.size, memory) if memory else None
        widths = [memory or self.encoder.size, *hidden_sizes]
        self.policy = MLP([*widths, distribution.size], nn.Tanh)
        self.value = MLP([*widths, 1], nn.Tanh)
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                nn.init.orthogonal_(module.weight, math.sqrt(2))
                if module.bias is not None:  # a normalization behind the layer has one
                    nn.init.zeros_(module.bias)
        for head, gain in ((self.policy, 0.01), (self.value, 1.0)):
            last = head[-1]
            assert isinstance(last, nn.Linear)
            nn.init.orthogonal_(last.weight, gain)

    def forward(self, observations: Features) -> tuple[Tensor, Tensor]:
        """Policy and value, for a network without a memory."""
        features = self.encoder(observations)
        return self.policy(features), self.value(features).squeeze(-1)

    def act(self, observations: Features) -> Tensor:
        """The policy alone, for a network without a memory."""
        numbers: Tensor = self.policy(self.encoder(observations))
        return numbers

    def values(self, observations: Features) -> Tensor:
        """The value alone, without a gradient, for a network without a memory."""
        with torch.no_grad():
            value: Tensor = self.value(self.encoder(observations)).squeeze(-1)
        return value

    def remember(self, features: Tensor, memory: Memory) -> Memory:
        """One step of the LSTM, [B, F] -> its next state; the state as it is without an LSTM."""
        return memory if self.lstm is None else self.lstm(features, memory)

    def no_memory(self, n: int) -> Memory:
        """The state at the start of n episodes: zeros."""
        size = 0 if self.lstm is None else self.lstm.hidden_size
        device = next(self.parameters()).device
        return torch.zeros(n, size, device=device), torch.zeros(n, size, device=device)

    def along(self, observations: Features, memory: Memory) -> tuple[Tensor, Tensor, Memory]:
        """Policy [T, size] and value [T] along T observations of one episode, and the last state.

        ``memory`` [1, M]: the LSTM's state before the first.
        """
        features = self.encoder(observations)
        if self.lstm is not None:
            steps = []
            for step in features:
                memory = self.remember(step[None], memory)
                steps.append(memory[0])
            features = torch.cat(steps)
        return self.policy(features), self.value(features).squeeze(-1), memory
