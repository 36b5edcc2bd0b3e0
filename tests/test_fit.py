"""The training loop: equal to one written by hand, and to itself when it is interrupted."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from agents.state import load_state, save_state
from supervised.data import load
from supervised.fit import Batch, Fit, FitReport, NotFiniteError, predict
from supervised.schedules import step_decay, to_zero


def network() -> nn.Module:
    """One with all that has a state: buffers, a counter, random numbers of its own."""
    torch.manual_seed(5)
    return nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3)
    )


def loss(model: nn.Module, batch: Batch) -> Tensor:
    inputs, targets = batch
    return nn.functional.cross_entropy(model(inputs).float(), targets)


def examples(count: int = 23) -> Batch:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(count, 6, generator=generator)
    return inputs, torch.randint(3, (count,), generator=generator)


def jitter(batch: Batch, generator: torch.Generator) -> Batch:
    inputs, targets = batch
    return inputs + 0.1 * torch.randn(inputs.shape, generator=generator), targets


OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, 0.1, momentum=0.9),
    "adam": lambda parameters: torch.optim.Adam(parameters, 0.01, betas=(0.8, 0.99)),
    "adagrad": lambda parameters: torch.optim.Adagrad(parameters, 0.05),
}
VARIANTS: list[dict[str, Any]] = [
    {},
    {"ema_decay": 0.9},
    {"precision": "bfloat16"},
    {"transform": jitter},
    {"schedule": step_decay(14, [0.5, 0.8], 0.5)},
    {
        "ema_decay": 0.8,
        "precision": "bfloat16",
        "transform": jitter,
        "schedule": step_decay(12, [0.25, 1], 0.3),
    },
]


def make(optimizer: str = "sgd", data: Batch | None = None, **kwargs: Any) -> Fit:
    model = network()
    data = examples() if data is None else data
    arguments = {"batch_size": 5, "seed": 3, **kwargs}
    return Fit(model, OPTIMIZERS[optimizer](model.parameters()), loss, data, **arguments)


def assert_same(one: Any, other: Any, path: str = "") -> None:
    assert type(one) is type(other), path
    if isinstance(one, dict):
        assert one.keys() == other.keys(), path
        for key in one:
            assert_same(one[key], other[key], f"{path}/{key}")
    elif isinstance(one, (list, tuple)):
        for i, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same(a, b, f"{path}/{i}")
    elif isinstance(one, Tensor):
        assert one.dtype == other.dtype, path
        assert torch.equal(one, other), path
    else:
        assert one == other, path


# -- equal to a loop by hand ---------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_equals_a_loop_by_hand(optimizer: str) -> None:
    fit = make(optimizer, schedule=step_decay(12, [0.5], 0.5), ema_decay=0.7)
    fit.run(13)

    model, (inputs, targets) = network(), examples()
    by_hand = OPTIMIZERS[optimizer](model.parameters())
    rate = by_hand.param_groups[0]["lr"]
    average = {name: weight.detach().clone() for name, weight in model.state_dict().items()}
    shuffler, step = torch.Generator().manual_seed(9), 0  # 3 x the seed
    torch.manual_seed(11)  # what dropout draws: 3 x the seed + 2
    while step < 13:
        order = torch.randperm(23, generator=shuffler)
        for rows in order.split(5):  # the last one has 3
            if step == 13:
                break
            by_hand.param_groups[0]["lr"] = rate * (0.5 if step >= 6 else 1.0)
            by_hand.zero_grad()
            loss(model, (inputs[rows], targets[rows])).backward()
            by_hand.step()
            step += 1
            for name, weight in model.state_dict().items():
                if weight.is_floating_point():
                    average[name] = average[name] + (1 - 0.7) * (weight - average[name])
                else:
                    average[name] = weight.clone()
    assert_same(dict(model.state_dict()), dict(fit.model.state_dict()))
    for name, weight in average.items():
        assert torch.allclose(fit.average[name], weight, rtol=1e-6, atol=1e-7), name


def test_bfloat16_computes_in_bfloat16() -> None:
    seen: set[torch.dtype] = set()

    def spying(model: nn.Module, batch: Batch) -> Tensor:
        outputs: Tensor = model(batch[0])
        seen.add(outputs.dtype)
        return outputs.float().square().mean()

    fit = make(precision="bfloat16")
    fit.loss = spying
    fit.run(2)
    assert seen == {torch.bfloat16}
    assert all(p.dtype == torch.float32 for p in fit.model.parameters())


# -- epochs and reports --------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 20), st.integers(1, 25), st.integers(0, 50))
def test_every_epoch_has_every_example_once(count: int, batch_size: int, seed: int) -> None:
    seen: list[int] = []

    def noting(model: nn.Module, batch: Batch) -> Tensor:
        assert len(batch[0]) <= batch_size
        seen.extend(batch[0].tolist())
        return next(iter(model.parameters())).sum()

    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    fit = Fit(model, optimizer, noting, (torch.arange(count),), batch_size, seed)
    fit.run(3 * fit.steps_per_epoch)
    epochs = [seen[i : i + count] for i in range(0, len(seen), count)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(count))] * 3
    if count == 20:
        assert epochs[0] != epochs[1]


def test_reports() -> None:
    reports: list[FitReport] = []

    def on_step(report: FitReport) -> bool:
        reports.append(report)
        return report.step < 8

    losses: list[float] = []

    def noting(model: nn.Module, batch: Batch) -> Tensor:
        value = loss(model, batch)
        losses.append(value.item())
        return value

    fit = make(schedule=step_decay(4, [0.5]))
    fit.loss = noting
    fit.run(1_000, on_step)
    assert fit.step == 8  # it was stopped
    assert [report.step for report in reports] == list(range(1, 9))
    assert [report.epoch for report in reports] == [0, 0, 0, 0, 1, 1, 1, 1]
    assert [report.learning_rate for report in reports] == pytest.approx([0.1] * 2 + [0.01] * 6)
    assert [report.loss for report in reports] == losses


def test_schedule_multiplies_the_rate_of_every_group() -> None:
    model = network()
    groups = [{"params": model[0].parameters(), "lr": 0.5}, {"params": model[4].parameters()}]  # type: ignore[index]
    optimizer = torch.optim.SGD(groups, 0.2)
    Fit(model, optimizer, loss, examples(), 5, schedule=lambda step: 0.1 * (step + 1)).run(3)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.15, 0.06])


# -- interruptions -------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("variant", range(len(VARIANTS)))
@pytest.mark.parametrize("at", [0, 4, 5, 13])  # at the start, before and at an epoch's end, within
def test_resumed_fit_is_bit_identical(
    tmp_path: Path, optimizer: str, variant: int, at: int
) -> None:
    whole = make(optimizer, **VARIANTS[variant])
    whole.run(17)
    first = make(optimizer, **VARIANTS[variant])
    first.run(at)
    save_state(tmp_path, first.state_dict())
    first.run(17)  # saving changes nothing
    second = make(optimizer, **VARIANTS[variant])
    second.run(2)  # and whatever it was is gone
    second.load_state_dict(load_state(tmp_path))
    second.run(17)
    assert_same(whole.state_dict(), first.state_dict())
    assert_same(whole.state_dict(), second.state_dict())


def test_another_seed_differs() -> None:
    """The comparison above can fail."""
    one, other = make(), make(seed=4)
    one.run(5)
    other.run(5)
    with pytest.raises(AssertionError):
        assert_same(one.state_dict()["model"], other.state_dict()["model"])


def test_the_caller_changes_nothing() -> None:
    """Neither drawing random numbers nor evaluating between steps; nor is the caller disturbed."""
    undisturbed = make(transform=jitter)
    undisturbed.run(9)
    disturbed = make(transform=jitter)

    def on_step(_: FitReport) -> bool:
        torch.manual_seed(77)
        torch.rand(100)
        disturbed.model.eval()
        return True

    disturbed.run(9, on_step)
    assert_same(undisturbed.state_dict(), disturbed.state_dict())
    fit = make()
    torch.manual_seed(8)
    expected = torch.rand(3)
    torch.manual_seed(8)
    fit.run(3)
    assert torch.equal(torch.rand(3), expected)


def test_state_is_a_copy() -> None:
    fit = make("adam", ema_decay=0.5)
    fit.run(2)
    state = fit.state_dict()
    before = state["model"]["0.weight"].clone()
    fit.run(4)
    assert torch.equal(state["model"]["0.weight"], before)


def test_a_shared_weight_is_saved_once(tmp_path: Path) -> None:
    def tied() -> Fit:
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3))
        model[1].weight = model[0].weight
        optimizer = torch.optim.Adam(model.parameters(), 0.01)
        return Fit(model, optimizer, loss, examples(), 5, ema_decay=0.9)

    fit, again = tied(), tied()
    fit.run(6)
    save_state(tmp_path, fit.state_dict())
    again.load_state_dict(load_state(tmp_path))
    assert "1.weight" not in fit.state_dict()["model"]
    fit.run(9)
    again.run(9)
    assert_same(fit.state_dict(), again.state_dict())


def damaged(way: str, state: dict[str, Any]) -> None:
    model, groups = state["model"], state["optimizer"]["param_groups"]
    if way == "lacks a weight":
        del model["0.weight"]
    elif way == "another shape":
        model["0.weight"] = model["0.weight"][:4]
    elif way == "another dtype":
        model["0.weight"] = model["0.weight"].double()
    elif way == "no tensor":
        model["0.weight"] = 3
    elif way == "no average":
        state["average"] = {}
    elif way == "another optimizer":
        groups[0]["nesterov_factor"] = groups[0].pop("weight_decay")
    elif way == "more groups":
        groups.append(dict(groups[0]))
    elif way == "a negative step":
        state["step"] = -1
    elif way == "a fractional step":
        state["step"] = 1.5
    elif way == "no random state":
        state["shuffler"] = torch.zeros(3, dtype=torch.uint8)
    elif way == "random states of two devices":
        state["drawn"] = [*state["drawn"], state["drawn"][0]]
    else:
        del state[way]


@pytest.mark.parametrize(
    "way",
    [
        *("lacks a weight", "another shape", "another dtype", "no tensor", "no average"),
        *("another optimizer", "more groups", "a negative step", "a fractional step"),
        *("no random state", "random states of two devices", "optimizer", "step", "transformer"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(way: str) -> None:
    fit = make("adam", ema_decay=0.9)
    fit.run(3)
    state = fit.state_dict()
    damaged(way, state)
    with pytest.raises(ValueError, match="no state of this fit"):
        make("adam", ema_decay=0.9).load_state_dict(state)


# -- averages ------------------------------------------------------------------------------------


def test_averaged_weights_come_and_go() -> None:
    fit = make(ema_decay=0.9)
    fit.run(6)
    own = {name: weight.clone() for name, weight in fit.model.state_dict().items()}
    with contextlib.suppress(KeyError), fit.averaged() as model:
        assert model is fit.model
        assert_same(dict(model.state_dict()), fit.average)
        assert not torch.equal(model.state_dict()["0.weight"], own["0.weight"])
        raise KeyError
    assert_same(dict(fit.model.state_dict()), own)


def test_without_averaging_the_average_is_the_model() -> None:
    fit = make()
    fit.run(2)
    own = {name: weight.clone() for name, weight in fit.model.state_dict().items()}
    with fit.averaged() as model:
        assert_same(dict(model.state_dict()), own)


# -- failures and bad arguments ------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_ends_it_before_the_step(value: float) -> None:
    fit = make()
    fit.run(2)
    own = [p.detach().clone() for p in fit.model.parameters()]
    fit.loss = lambda model, batch: loss(model, batch) * value
    with pytest.raises(NotFiniteError, match=f"the loss became {value} at step 3"):
        fit.run(5)
    assert all(torch.equal(a, b) for a, b in zip(own, fit.model.parameters(), strict=True))
    assert fit.step == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size must be positive, not 0"),
        ({"ema_decay": 1.0}, r"ema_decay must lie in \[0, 1\)"),
        ({"ema_decay": -0.1}, r"ema_decay must lie in \[0, 1\)"),
        ({"precision": "float16"}, "precision must be float32 or bfloat16"),
        ({"data": (torch.ones(3, 6), torch.ones(4))}, r"one length above 0, not \[3, 4\]"),
        ({"data": (torch.ones(0, 6), torch.ones(0))}, r"one length above 0, not \[0\]"),
        ({"data": ()}, "one length above 0"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**arguments)


# -- prediction ----------------------------------------------------------------------------------


def test_predict() -> None:
    fit = make()
    fit.run(3)
    inputs, _ = examples()
    batched = predict(fit.model, inputs, batch_size=4)
    assert fit.model.training  # as it was before
    assert not batched.requires_grad
    fit.model.eval()
    assert torch.allclose(batched, fit.model(inputs), atol=1e-6)
    predict(fit.model, inputs)
    assert not fit.model.training
    assert predict(fit.model, inputs[:0]).shape == (0, 3)


# -- schedules -----------------------------------------------------------------------------------


def test_steps_down() -> None:
    decay = step_decay(6, [0.5, 0.75])
    assert [decay(step) for step in range(7)] == pytest.approx([1, 1, 1, 0.1, 0.1, 0.01, 0.01])
    assert step_decay(1, [0.5])(0) == 1
    assert step_decay(5, [], 0.5)(10**9) == 1


def test_a_straight_line_to_zero() -> None:
    line = to_zero(4)
    assert [line(step) for step in range(5)] == [1, 0.75, 0.5, 0.25, 0]


# -- learning ------------------------------------------------------------------------------------


@pytest.mark.learning
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_learns_handwritten_digits(precision: Any) -> None:
    """95% of held-out digits; the most frequent class has 11%."""
    digits = load("digits")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    data = (digits.train.inputs / 16, digits.train.targets)
    Fit(model, optimizer, loss, data, 64, precision=precision, ema_decay=0.9).run(300)
    guesses = predict(model, digits.test.inputs / 16).argmax(1)
    assert (guesses == digits.test.targets).float().mean() > 0.95
