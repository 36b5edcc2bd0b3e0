"""The training loop of every supervised paper: shuffle, step, report.

    fit = Fit(model, optimizer, loss, (inputs, targets), batch_size=128, seed=0)
    fit.run(1_000, lambda report: print(report.step, report.loss) or True)

One step draws the next batch of a shuffled epoch, evaluates ``loss(model, batch)``, and moves the
parameters down its gradient. Everything that happens around that (pictures, files, progress,
evaluation) belongs to the caller, who is called after each step and may stop it.

What a fit does follows from its arguments alone. It has random numbers of its own, for the order
of the examples, for ``transform``, and for what the model draws while it trains (dropout): what
the caller draws in between changes nothing, and a fit that goes on from a saved state ends bit
for bit like one that was never stopped.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

Batch = tuple[Tensor, ...]
Precision: TypeAlias = Literal["float32", "bfloat16"]  # of matrix products and convolutions


class NotFiniteError(RuntimeError):
    """The loss became NaN or infinite."""


@dataclass(frozen=True)
class FitReport:
    """What the caller learns after each step."""

    step: int  # steps done
    loss: float  # of this step's batch, before the step
    learning_rate: float  # of the optimizer's first group in this step
    epoch: int  # whole passes over the data done


class Fit:
    """A model in training.

    Args:
        model: trained in place, on the device where its parameters are.
        optimizer: has torch.optim.Optimizer's interface, and the model's parameters.
        loss: (model, batch) -> the scalar to minimize.
        data: tensors with one row an example; a batch is the same rows of each.
        batch_size: examples a step. The last batch of an epoch may be smaller.
        seed: of the order, of ``transform`` and of what the model draws.
        schedule: steps done so far -> factor on the learning rate that each of the optimizer's
            groups has now; None leaves the rates alone.
        ema_decay: beta of the averages theta' <- beta theta' + (1 - beta) theta after each step,
            which ``averaged`` gives; 0 makes theta' theta.
        precision: of matrix products and convolutions; weights are float32 in any case.
        transform: changes a batch (augmentation) before it reaches the loss, with random numbers
            from the CPU generator that it gets.

    Raises:
        ValueError: for tensors of different lengths or none, and for numbers out of range.

    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss: Callable[[nn.Module, Batch], Tensor],
        data: Batch,
        batch_size: int,
        seed: int = 0,
        schedule: Callable[[int], float] | None = None,
        ema_decay: float = 0.0,
        precision: Precision = "float32",
        transform: Callable[[Batch, torch.Generator], Batch] | None = None,
    ) -> None:
        lengths = {len(tensor) for tensor in data}
        if len(lengths) != 1 or lengths == {0}:
            raise ValueError(f"data must be tensors of one length above 0, not {sorted(lengths)}")
        if batch_size < 1:
            raise ValueError(f"batch_size must be positive, not {batch_size}")
        if not 0 <= ema_decay < 1:
            raise ValueError(f"ema_decay must lie in [0, 1), not {ema_decay}")
        if precision not in get_args(Precision):
            raise ValueError(f"precision must be float32 or bfloat16, not {precision!r}")
        self.model, self.optimizer, self.loss = model, optimizer, loss
        self.data, self.batch_size = data, batch_size
        self.schedule, self.transform = schedule, transform
        self.ema_decay, self.precision = ema_decay, precision
        self.device = next(model.parameters()).device
        self.rates = [float(group["lr"]) for group in optimizer.param_groups]
        self.step = 0
        self.average = {n: w.detach().clone() for n, w in self._weights()} if ema_decay else {}
        # Three sources, so that none depends on how much another was used.
        self._shuffler, self._transformer = (
            torch.Generator().manual_seed(3 * seed + i) for i in range(2)
        )
        with torch.random.fork_rng(self._forked()):
            torch.manual_seed(3 * seed + 2)
            self._drawn = self._global_states()
        self._shuffle()

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(len(self.data[0]) / self.batch_size)

    def run(self, until: int, on_step: Callable[[FitReport], bool] | None = None) -> None:
        """Trains until ``until`` steps are done in all, or ``on_step`` returns False.

        Raises NotFiniteError before a step with a loss that is not finite; the parameters are
        then those of the step before.
        """
        while self.step < until:
            report = self._one_step()
            if on_step is not None and not on_step(report):
                return

    def _one_step(self) -> FitReport:
        if self.schedule is not None:
            factor = self.schedule(self.step)
            for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
                group["lr"] = rate * factor
        batch = self._next_batch()
        self.model.train()
        with self._own_random_numbers():
            with torch.autocast(
                self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"
            ):
                loss = self.loss(self.model, batch)
            value = loss.item()
            if not math.isfinite(value):
                raise NotFiniteError(f"the loss became {value} at step {self.step + 1:,}")
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        self.step += 1
        for name, weight in self._weights() if self.ema_decay else ():
            if weight.is_floating_point():
                self.average[name].lerp_(weight.detach(), 1 - self.ema_decay)
            else:  # a counter among the buffers
                self.average[name].copy_(weight)
        rate = float(self.optimizer.param_groups[0]["lr"])
        return FitReport(self.step, value, rate, self.step // self.steps_per_epoch)

    def _next_batch(self) -> Batch:
        place = self.step % self.steps_per_epoch
        if place == 0 and self.step > 0:
            self._shuffle()
        rows = self._order[place * self.batch_size : (place + 1) * self.batch_size]
        batch = tuple(tensor[rows.to(tensor.device)] for tensor in self.data)
        if self.transform is not None:
            batch = self.transform(batch, self._transformer)
        return tuple(tensor.to(self.device) for tensor in batch)

    def _shuffle(self) -> None:
        self._before_shuffle = self._shuffler.get_state()
        self._order = torch.randperm(len(self.data[0]), generator=self._shuffler)

    @contextmanager
    def averaged(self) -> Iterator[nn.Module]:
        """The model with the averaged weights in place of its own, which come back at the end."""
        if not self.average:
            yield self.model
            return
        own = {name: weight.detach().clone() for name, weight in self._weights()}
        self._put(self.average)
        try:
            yield self.model
        finally:
            self._put(own)

    def state_dict(self) -> dict[str, Any]:
        """All that a fit made with the same arguments needs to go on from here: nested dicts
        with string keys and lists of tensors and plain values.
        """
        optimizer = self.optimizer.state_dict()
        return {
            "step": self.step,
            "model": {name: weight.detach().clone() for name, weight in self._weights()},
            "average": {name: weight.clone() for name, weight in self.average.items()},
            "optimizer": {
                "state": {str(i): dict(values) for i, values in optimizer["state"].items()},
                "param_groups": [dict(group) for group in optimizer["param_groups"]],
            },
            "shuffler": self._before_shuffle.clone(),
            "transformer": self._transformer.get_state(),
            "drawn": [state.clone() for state in self._drawn],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises ValueError if the state is not one of such a fit, which is then half loaded."""
        try:
            step = state["step"]
            if type(step) is not int or step < 0:
                raise ValueError(f"step is {step!r}")
            for mine, saved in ((self.average, state["average"]), (self._own(), state["model"])):
                _check_weights(saved, mine)
            self._put(state["model"])
            for name, weight in state["average"].items():
                self.average[name].copy_(weight)
            self._load_optimizer(state["optimizer"])
            self._shuffler.set_state(state["shuffler"])
            self._shuffle()
            self._transformer.set_state(state["transformer"])
            drawn = list(state["drawn"])
            if [s.shape for s in drawn] != [s.shape for s in self._drawn]:
                raise ValueError("it has random states of another kind of device")
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(f"no state of this fit: {error}") from None
        self.step, self._drawn = step, drawn

    def _load_optimizer(self, state: dict[str, Any]) -> None:
        """JSON has neither integer keys nor tuples; the optimizer gets both back."""
        groups = []
        for saved, mine in zip(state["param_groups"], self.optimizer.param_groups, strict=True):
            if saved.keys() != mine.keys():
                raise ValueError(f"its optimizer has {', '.join(saved)}")
            tuples = {name for name, value in mine.items() if isinstance(value, tuple)}
            groups.append({n: tuple(v) if n in tuples else v for n, v in saved.items()})
        by_index = {int(i): values for i, values in state["state"].items()}
        self.optimizer.load_state_dict({"state": by_index, "param_groups": groups})

    def _weights(self) -> Iterator[tuple[str, Tensor]]:
        """Parameters and buffers by name; one that is shared comes once."""
        seen: set[int] = set()
        for name, weight in self.model.state_dict(keep_vars=True).items():
            if id(weight) not in seen:
                seen.add(id(weight))
                yield name, weight

    def _own(self) -> dict[str, Tensor]:
        return dict(self._weights())

    @torch.no_grad()
    def _put(self, weights: dict[str, Tensor]) -> None:
        for name, weight in self._weights():
            weight.copy_(weights[name])

    @contextmanager
    def _own_random_numbers(self) -> Iterator[None]:
        """PyTorch's global random numbers are this fit's, and afterwards the caller's again."""
        with torch.random.fork_rng(self._forked()):
            torch.set_rng_state(self._drawn[0])
            if self.device.type == "cuda":
                torch.cuda.set_rng_state(self._drawn[1], self.device)
            yield
            self._drawn = self._global_states()

    def _global_states(self) -> list[Tensor]:
        states = [torch.get_rng_state()]
        if self.device.type == "cuda":
            states.append(torch.cuda.get_rng_state(self.device))
        return states

    def _forked(self) -> list[torch.device]:
        return [self.device] if self.device.type == "cuda" else []


@torch.no_grad()
def predict(model: nn.Module, inputs: Tensor, batch_size: int = 256) -> Tensor:
    """The model's outputs for ``inputs``, one row an example, in evaluation mode and without
    gradients. Batches go to the model's device, outputs come back to that of ``inputs``.
    """
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    try:
        batches = [inputs[i : i + batch_size] for i in range(0, max(len(inputs), 1), batch_size)]
        return torch.cat([model(batch.to(device)).to(inputs.device) for batch in batches])
    finally:
        model.train(training)


def _check_weights(weights: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    if weights.keys() != expected.keys():
        raise ValueError(f"it has or lacks {', '.join(sorted(weights.keys() ^ expected.keys()))}")
    for name, weight in weights.items():
        mine = expected[name]
        if weight.shape != mine.shape or weight.dtype != mine.dtype:
            raise ValueError(
                f"{name} is {weight.dtype} {tuple(weight.shape)}, "
                f"not {mine.dtype} {tuple(mine.shape)}"
            )
