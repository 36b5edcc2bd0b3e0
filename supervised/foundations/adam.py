"""Adam: a step size for every parameter, from running means of its gradient and of the square.

Kingma and Ba 2014, "Adam: a method for stochastic optimization". The step is the running mean of
the gradient over the root of the running mean of its square, so it does not change when the loss
is multiplied by a constant, and it is bounded by about alpha (section 2.1). Both means start at
0 and are therefore too small at first; dividing by 1 - beta^t makes up for exactly that
(section 3). AdaMax (section 7.1) replaces the root of the mean square by a decaying maximum.

    name           paper     shape
    p              theta     any
    g              g_t       of p
    m              m_t       of p       biased first moment
    v              v_t       of p       biased second raw moment
    u              u_t       of p       exponentially weighted infinity norm (AdaMax)
    average        theta-bar of p       running mean of the iterates (section 7.2)
    lr, beta1, beta2, eps    alpha, beta_1, beta_2, epsilon
    state["step"]  t

Deviations:
    AdaMax divides by u_t, which is 0 for a parameter that never had a gradient (the weights of a
    pixel that is always black). 0/0 is taken as 0: such a parameter stays where it is.
    The bias correction can be switched off, for the ablation of figure 4.
    There is no weight decay, as in the paper.

"""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class AdamConfig:
    lr: float = 1e-3  # alpha (algorithm 1)
    beta1: float = 0.9  # decay of the mean (algorithm 1)
    beta2: float = 0.999  # decay of the mean square, of AdaMax's maximum, and of the average
    eps: float = 1e-8  # added to the root; AdaMax has none (algorithms 1 and 2)
    correct_bias: bool = True  # False: m_t and v_t as they are (section 6.4)
    reordered: bool = False  # the cheaper order of section 2; eps is then the paper's eps-hat
    average: bool = False  # keep theta-bar, for averaged() (section 7.2)

    def __post_init__(self) -> None:
        if not (0 <= self.lr < math.inf and 0 <= self.eps < math.inf):
            raise ValueError(f"lr and eps must not be negative, not {self.lr} and {self.eps}")
        if not (0 <= self.beta1 < 1 and 0 <= self.beta2 < 1):
            raise ValueError(f"betas must be in [0, 1), not {self.beta1} and {self.beta2}")
        if self.reordered and not self.correct_bias:
            raise ValueError("reordered is an order of the bias correction: it needs correct_bias")

    @classmethod
    def paper(cls) -> "AdamConfig":
        """The settings that algorithm 1 recommends."""
        return cls()

    @classmethod
    def adamax(cls) -> "AdamConfig":
        """The settings that algorithm 2 recommends."""
        return cls(lr=2e-3)


class _MomentOptimizer(torch.optim.Optimizer):
    """What both algorithms share: their loop, and the average of their iterates.

    Args:
        params: tensors or parameter groups, as for every torch optimizer; a group may set any
            field of the config for itself.
        config: the settings of all other groups.

    """

    def __init__(self, params: Iterable[Any], config: AdamConfig) -> None:
        super().__init__(params, asdict(config))
        for group in self.param_groups:
            AdamConfig(**{key: group[key] for key in asdict(config)})  # checks what a group sets

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step for every parameter that has a gradient; returns closure's loss, if any."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                if p.grad.is_sparse:
                    raise ValueError("sparse gradients are not supported")
                state = self.state[p]
                if not state:
                    self._start(p, state, group)
                state["step"] += 1  # t
                self._move(p, p.grad, state, group)
                if group["average"]:  # section 7.2
                    state["average"].lerp_(p, 1 - group["beta2"])
        return loss

    def _start(self, p: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """t, m_0 and theta-bar_0 are 0; the subclass adds its own moment."""
        state["step"] = 0
        state["m"] = torch.zeros_like(p)
        if group["average"]:
            state["average"] = torch.zeros_like(p)

    def _move(self, p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        raise NotImplementedError

    @contextmanager
    @torch.no_grad()
    def averaged(self) -> Iterator[None]:
        """While it lasts, the parameters are their averages over the steps, theta-hat.

        theta-hat_t = theta-bar_t / (1 - beta2^t): the average starts at 0, so it needs the same
        correction as the moments. Parameters without a step stay what they are.
        """
        kept: list[tuple[Tensor, Tensor]] = []
        for group in self.param_groups:
            if not group["average"]:
                raise ValueError("there is no average: the config has average=False")
            for p in group["params"]:
                if state := self.state[p]:
                    kept.append((p, p.clone()))
                    p.copy_(state["average"] / (1 - group["beta2"] ** state["step"]))
        try:
            yield
        finally:
            for p, value in kept:
                p.copy_(value)


class Adam(_MomentOptimizer):
    """Algorithm 1. For arguments see the base class; the config's default is the paper's."""

    def __init__(self, params: Iterable[Any], config: AdamConfig | None = None) -> None:
        super().__init__(params, config or AdamConfig.paper())

    def _start(self, p: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        super()._start(p, state, group)
        state["v"] = torch.zeros_like(p)

    def _move(self, p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        alpha, beta1, beta2, eps = (group[key] for key in ("lr", "beta1", "beta2", "eps"))
        m, v, t = state["m"], state["v"], state["step"]
        m.mul_(beta1).add_(g, alpha=1 - beta1)
        v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
        if not group["correct_bias"]:
            p.sub_(alpha * m / (v.sqrt() + eps))
        elif group["reordered"]:
            # Section 2: two divisions of tensors fewer. Here eps adds to the uncorrected root,
            # so it equals algorithm 1 with eps / sqrt(1 - beta2^t): at first a larger one.
            alpha_t = alpha * math.sqrt(1 - beta2**t) / (1 - beta1**t)
            p.sub_(alpha_t * m / (v.sqrt() + eps))
        else:
            m_hat = m / (1 - beta1**t)
            v_hat = v / (1 - beta2**t)
            p.sub_(alpha * m_hat / (v_hat.sqrt() + eps))  # eps after the correction


class AdaMax(_MomentOptimizer):
    """Algorithm 2: u_t = max(beta2 u_{t-1}, |g_t|), eq. 12, takes the place of the root of v_t.

    A maximum is not too small at first, so only m is corrected; eps and reordered have no effect.
    For arguments see the base class; the config's default is the paper's.
    """

    def __init__(self, params: Iterable[Any], config: AdamConfig | None = None) -> None:
        super().__init__(params, config or AdamConfig.adamax())

    def _start(self, p: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        super()._start(p, state, group)
        state["u"] = torch.zeros_like(p)

    def _move(self, p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        alpha, beta1, beta2 = group["lr"], group["beta1"], group["beta2"]
        m, u, t = state["m"], state["u"], state["step"]
        m.mul_(beta1).add_(g, alpha=1 - beta1)
        torch.maximum(beta2 * u, g.abs(), out=u)
        alpha_t = alpha / (1 - beta1**t) if group["correct_bias"] else alpha
        p.sub_((alpha_t * m / u).masked_fill(u == 0, 0.0))


def create(
    params: Iterable[Any],
    config: AdamConfig | None = None,
    variant: Literal["adam", "adamax"] = "adam",
) -> Adam | AdaMax:
    """The optimizer of either algorithm, over tensors or parameter groups."""
    if variant not in ("adam", "adamax"):
        raise ValueError(f"variant must be adam or adamax, not {variant!r}")
    return Adam(params, config) if variant == "adam" else AdaMax(params, config)
