"""Adam, written so that it can be part of a compiled update.

``torch.optim.Adam`` breaks the graph that ``torch.compile`` makes of an update, and between small
networks its bookkeeping takes longer than its arithmetic. This is the arithmetic. The state is
tensors alone, so that it goes into a checkpoint as it is.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


class Adam:
    """Kingma and Ba 2015, algorithm 1, with the paper's betas and epsilon.

    theta: ``parameters``; m, v: running means of the gradient and of its square; t: ``step``.
    """

    BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8

    def __init__(self, parameters: Iterable[Tensor], learning_rate: float) -> None:
        self.parameters = list(parameters)
        self.learning_rate = learning_rate
        self.m = [torch.zeros_like(p) for p in self.parameters]
        self.v = [torch.zeros_like(p) for p in self.parameters]
        # Double: in single precision the first bias corrections are off in the fifth digit.
        device = self.parameters[0].device
        self.step = torch.zeros((), dtype=torch.float64, device=device)

    def minimize(self, loss: Tensor) -> None:
        """Moves the parameters, and nothing else that the loss depends on, down its gradient."""
        gradients = torch.autograd.grad(loss, self.parameters)
        with torch.no_grad():
            self.step += 1
            dtype = self.parameters[0].dtype
            rate = (self.learning_rate / (1 - self.BETA1**self.step)).to(dtype)
            unbias = (1 - self.BETA2**self.step).rsqrt().to(dtype)  # of the root of v
            for theta, g, m, v in zip(self.parameters, gradients, self.m, self.v, strict=True):
                m.lerp_(g, 1 - self.BETA1)
                v.lerp_(g * g, 1 - self.BETA2)
                theta -= rate * m / (unbias * v.sqrt() + self.EPSILON)

    def state_dict(self) -> dict[str, Any]:
        return {"m": self.m, "v": self.v, "step": self.step}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        pairs = zip(
            [*self.m, *self.v, self.step], [*state["m"], *state["v"], state["step"]], strict=True
        )
        for mine, saved in pairs:
            if mine.shape != saved.shape:
                raise ValueError(f"optimizer state of {saved.shape} is not of {mine.shape}")
            mine.copy_(saved)
