"""Networks that several agents share."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class MLP(nn.Sequential):
    """Linear layers with a nonlinearity between each two: [B, sizes[0]] -> [B, sizes[-1]]."""

    def __init__(self, sizes: Sequence[int], nonlinearity: type[nn.Module] = nn.ReLU) -> None:
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(sizes):
            layers += [nn.Linear(n_in, n_out), nonlinearity()]
        super().__init__(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        # Not the layers' own __call__: for one observation that takes longer than the products.
        for layer in self._modules.values():
            x = layer.forward(x)
        return x


class EnsembleLinear(nn.Module):
    """``members`` linear layers evaluated as one batched product: [E, B, in] -> [E, B, out].

    Each member starts like ``nn.Linear``: weight and bias from U(-1/sqrt(in), 1/sqrt(in)).
    """

    def __init__(self, members: int, n_in: int, n_out: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(n_in)
        self.weight = nn.Parameter(torch.empty(members, n_in, n_out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(members, 1, n_out).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        return torch.bmm(x, self.weight) + self.bias  # not baddbmm, whose bias cannot be fused


class EnsembleMLP(nn.Sequential):
    """``members`` independent MLPs over the same input: [B, sizes[0]] -> [E, B, sizes[-1]]."""

    def __init__(self, members: int, sizes: Sequence[int]) -> None:
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(sizes):
            layers += [EnsembleLinear(members, n_in, n_out), nn.ReLU()]
        super().__init__(*layers[:-1])
        self.members = members

    def forward(self, x: Tensor) -> Tensor:
        values: Tensor = super().forward(x.expand(self.members, *x.shape))
        return values


@torch.no_grad()
def polyak_update(target: nn.Module, source: nn.Module, tau: float) -> None:
    """Target <- (1 - tau) target + tau source, for parameters and for running statistics."""
    pairs = zip(target.state_dict().values(), source.state_dict().values(), strict=True)
    targets, sources = zip(*((t, s) for t, s in pairs if t.is_floating_point()), strict=True)
    torch._foreach_lerp_(targets, sources, tau)
