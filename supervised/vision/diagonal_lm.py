"""The optimizer of LeNet-5: every parameter has a rate of its own, from the loss' curvature there.

LeCun, Bottou, Bengio and Haffner 1998, appendix C, "stochastic diagonal Levenberg-Marquardt":

    w_k -= eps_k dE/dw_k,    eps_k = eta / (mu + h_kk)

where h_kk estimates the second derivative of the mean loss by w_k. A step along a steep valley's
wall is short, along its floor long. h is estimated once before each pass over the training set, on
500 examples.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


class DiagonalLM(torch.optim.Optimizer):
    """Stochastic diagonal Levenberg-Marquardt.

    Args:
        parameters: what it moves; all must get gradients.
        curvature: called with the number of steps made so far; h of each parameter, in their
            order. Must not depend on anything else that changes but the parameters.
        steps_per_pass: steps in a pass over the training set, from one estimate to the next.
        lr: eta. ``RATES`` is the paper's schedule, one a pass.
        mu: keeps the rate finite where the loss is flat.

    """

    RATES = (5e-4,) * 2 + (2e-4,) * 3 + (1e-4,) * 3 + (5e-5,) * 4 + (1e-5,) * 8
    SAMPLES = 500  # on which the paper estimates h

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        curvature: Callable[[int], Sequence[Tensor]],
        steps_per_pass: int,
        lr: float = RATES[0],
        mu: float = 0.02,
    ) -> None:
        if not (lr >= 0 and mu > 0 and steps_per_pass > 0):
            given = f"not {lr}, {mu}, {steps_per_pass}"
            raise ValueError(f"lr, mu and steps_per_pass must be positive, {given}")
        super().__init__(parameters, {"lr": lr, "mu": mu, "step": 0})
        self.curvature, self.steps_per_pass = curvature, steps_per_pass

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step along the gradients that the parameters hold; ``closure`` is not supported."""
        (group,) = self.param_groups
        done = group["step"]
        if done % self.steps_per_pass == 0:
            for w, h in zip(group["params"], self.curvature(done), strict=True):
                self.state[w]["h"] = h
        for w in group["params"]:
            w -= group["lr"] / (group["mu"] + self.state[w]["h"]) * w.grad
        group["step"] = done + 1
