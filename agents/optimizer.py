"""Adam over a fixed list of parameters, fed gradients instead of reading ``.grad``.

The arithmetic is PyTorch's own (``torch.optim.adam.adam``, fused). What is left out is what
``torch.optim.Optimizer`` does around it (parameter groups, hooks, closures, ``zero_grad``), which
costs as much as the arithmetic when the networks are small. The state is tensors alone, so that it
goes into a checkpoint as it is.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam


class Adam:
    """Kingma and Ba 2015 with PyTorch's defaults: betas (0.9, 0.999), eps 1e-8."""

    def __init__(self, parameters: Iterable[Tensor], learning_rate: float) -> None:
        self.parameters = list(parameters)
        self.learning_rate = learning_rate
        self.exp_avgs = [torch.zeros_like(p) for p in self.parameters]
        self.exp_avg_sqs = [torch.zeros_like(p) for p in self.parameters]
        self.steps = [torch.zeros((), device=p.device) for p in self.parameters]

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor]) -> None:
        """Moves every parameter once along its gradient (same order as ``parameters``)."""
        adam(
            self.parameters,
            list(gradients),
            self.exp_avgs,
            self.exp_avg_sqs,
            [],
            self.steps,
            fused=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=self.learning_rate,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )

    def state_dict(self) -> dict[str, Any]:
        return {"exp_avgs": self.exp_avgs, "exp_avg_sqs": self.exp_avg_sqs, "steps": self.steps}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, ours in self.state_dict().items():
            for mine, saved in zip(ours, state[name], strict=True):
                if mine.shape != saved.shape:
                    raise ValueError(f"optimizer state {name}: {saved.shape} is not {mine.shape}")
                mine.copy_(saved)
