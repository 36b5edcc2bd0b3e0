"""Weight decay against Ridge and torch's SGD, and the linear theory against simulation."""

import math
from dataclasses import replace

import pytest
import torch
from datasets import real
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge
from torch import Tensor, nn

from supervised.foundations.weight_decay import (
    DecayedDescent,
    HiddenLayer,
    WeightDecayConfig,
    best_decay,
    cost,
    create,
    expected_error,
    generalization_error,
    half_squares,
    limit_error,
    linear_task,
    minimizer,
    response,
)

DECAYS = torch.logspace(-3, 2, 60, dtype=torch.float64).tolist()


# -- the rule ----------------------------------------------------------------------------------


@pytest.mark.parity
@pytest.mark.parametrize("momentum", [0.0, 0.8])
@pytest.mark.parametrize("decay", [0.0, 0.05])
def test_fifty_steps_are_those_of_torch(momentum: float, decay: float) -> None:
    config = WeightDecayConfig(decay=decay, learning_rate=0.1, momentum=momentum, hidden=5)
    torch.manual_seed(0)
    ours = HiddenLayer(4, 3, config).double()
    theirs = HiddenLayer(4, 3, config).double()
    theirs.load_state_dict(ours.state_dict())
    start = ours.above.weight.detach().clone()
    our_steps = create(ours.parameters(), config)
    their_steps = torch.optim.SGD(
        theirs.parameters(), lr=0.1, momentum=momentum, weight_decay=decay
    )
    for _ in range(50):
        batch = (torch.randn(16, 4).double(), torch.randn(16, 3).double())
        for model, optimizer in ((ours, our_steps), (theirs, their_steps)):
            optimizer.zero_grad()
            half_squares(model, batch).backward()
            optimizer.step()
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=1e-12)
    assert (ours.above.weight - start).abs().max() > 0.1


@pytest.mark.parity
def test_a_step_goes_down_equation_1() -> None:
    """Decay in the gradient is the gradient of the penalty."""
    config = WeightDecayConfig(decay=0.3, learning_rate=0.5, momentum=0.0, hidden=3)
    model = HiddenLayer(2, 1, config).double()
    batch = (torch.randn(8, 2).double(), torch.randn(8, 1).double())
    before = [p.detach().clone() for p in model.parameters()]
    whole = cost(half_squares(model, batch), model.parameters(), 0.3)
    expected = torch.autograd.grad(whole, list(model.parameters()))
    optimizer = create(model.parameters(), config)
    half_squares(model, batch).backward()
    optimizer.step()
    for p, old, gradient in zip(model.parameters(), before, expected, strict=True):
        torch.testing.assert_close(p, old - 0.5 * gradient, rtol=0, atol=1e-12)


def test_weights_without_a_gradient_are_left_alone() -> None:
    w, unused = (torch.ones(2, requires_grad=True) for _ in range(2))
    optimizer = DecayedDescent([w, unused], WeightDecayConfig(decay=0.5, learning_rate=0.1))
    w.sum().backward()
    assert optimizer.step(lambda: 7) == 7
    assert unused.tolist() == [1, 1]
    assert w.tolist() == pytest.approx([0.85, 0.85])


def test_the_penalty_under_adam_is_not_decay() -> None:
    """A weight that only the penalty moves shrinks by rate * lambda * w here, as in AdamW; Adam
    takes a step of one learning rate, whatever lambda is.
    """
    lost = {}
    for decay in (1e-3, 1e-1):
        optimizers = {
            "ours": lambda w, d=decay: DecayedDescent(
                [w], WeightDecayConfig(decay=d, learning_rate=0.01, momentum=0.0)
            ),
            "adam": lambda w, d=decay: torch.optim.Adam([w], lr=0.01, weight_decay=d),
            "adamw": lambda w, d=decay: torch.optim.AdamW([w], lr=0.01, weight_decay=d),
        }
        for name, make in optimizers.items():
            w = torch.full((1,), 2.0, dtype=torch.float64, requires_grad=True)
            w.grad = torch.zeros_like(w)
            make(w).step()
            lost[name, decay] = 2.0 - w.item()
    for decay in (1e-3, 1e-1):
        assert lost["ours", decay] == pytest.approx(0.01 * decay * 2)
        assert lost["adamw", decay] == pytest.approx(0.01 * decay * 2)
        assert lost["adam", decay] == pytest.approx(0.01, rel=1e-4)


# -- the linear network ------------------------------------------------------------------------


def diabetes() -> tuple[Tensor, Tensor]:
    bunch = load_diabetes()
    inputs, targets = torch.tensor(bunch.data), torch.tensor(bunch.target)
    return inputs / inputs.std(0), targets - targets.mean()


@pytest.mark.parity
@pytest.mark.parametrize("decay", [0.01, 1.0, 100.0])
def test_diabetes_is_ridge_regression(decay: float) -> None:
    """The closed form, and where Eq. 2 takes gradient descent."""
    inputs, targets = diabetes()
    theirs = Ridge(alpha=decay, fit_intercept=False, solver="cholesky")
    expected = torch.tensor(theirs.fit(inputs.numpy(), targets.numpy()).coef_)
    assert expected.abs().max() > 10
    torch.testing.assert_close(minimizer(inputs, targets, decay), expected, rtol=0, atol=1e-6)

    w = torch.zeros(10, dtype=torch.float64, requires_grad=True)
    optimizer = create([w], WeightDecayConfig(decay=decay, learning_rate=1e-3, momentum=0.9))
    for _ in range(12_000):
        w.grad = inputs.T @ (inputs @ w.detach() - targets)
        optimizer.step()
    torch.testing.assert_close(w.detach(), expected, rtol=0, atol=1e-6)


def test_of_all_solutions_the_smallest_is_chosen() -> None:
    """Fewer examples than weights: the part of w that no example speaks of decays to nothing."""
    teacher, inputs, targets = linear_task(30, 12, 1.0, 0.0, seed=0)
    smallest = torch.linalg.pinv(inputs) @ targets
    limit = minimizer(inputs, targets, 1e-9)
    torch.testing.assert_close(minimizer(inputs, targets), smallest, rtol=0, atol=1e-10)
    torch.testing.assert_close(limit, smallest, rtol=0, atol=1e-6)
    torch.testing.assert_close(inputs @ limit, targets, rtol=0, atol=1e-6)
    assert limit.norm() < teacher.norm()
    # Examples that are there twice leave A as many directions of eigenvalue 0.
    twice = minimizer(inputs.repeat(2, 1), targets.repeat(2))
    torch.testing.assert_close(twice, smallest, rtol=0, atol=1e-10)
    # Any other solution is larger by exactly its part in the null space of the inputs.
    silent = torch.eye(30, dtype=torch.float64) - torch.linalg.pinv(inputs) @ inputs
    other = smallest + silent @ teacher
    torch.testing.assert_close(inputs @ other, targets, rtol=0, atol=1e-10)
    squares = smallest.square().sum() + (silent @ teacher).square().sum()
    torch.testing.assert_close(other.square().sum(), squares)


def test_what_no_example_speaks_of_decays_at_the_rate_of_lambda() -> None:
    """Without decay it stays where it began; with it, it is multiplied by 1 - rate lambda."""
    _, inputs, targets = linear_task(30, 12, 1.0, 0.0, seed=0)
    silent = torch.eye(30, dtype=torch.float64) - torch.linalg.pinv(inputs) @ inputs
    start = torch.randn(30, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for decay in (0.0, 0.02):
        w = start.clone().requires_grad_()
        config = WeightDecayConfig(decay=decay, learning_rate=0.1, momentum=0.0)
        optimizer = create([w], config)
        for _ in range(200):
            w.grad = inputs.T @ (inputs @ w.detach() - targets)
            optimizer.step()
        expected = silent @ start * (1 - 0.1 * decay) ** 200
        torch.testing.assert_close(silent @ w.detach(), expected, rtol=0, atol=1e-10)


def simulated(decay: float, p: int, noise: float, trials: int = 200) -> float:
    total = 0.0
    for seed in range(trials):
        teacher, inputs, targets = linear_task(20, p, 2.0, noise, seed)
        total += generalization_error(minimizer(inputs, targets, decay), teacher)
    return total / trials


@pytest.mark.parametrize("p", [12, 40])
def test_expected_error_is_that_of_many_trials(p: int) -> None:
    """Averaged over the spectra of the same inputs."""
    for decay in (0.05, 0.5, 5.0):
        expected = sum(
            expected_error(decay, spectrum(linear_task(20, p, 2.0, 1.0, s)[1]), 2.0, 1.0)
            for s in range(200)
        )
        assert simulated(decay, p, 1.0) == pytest.approx(expected / 200, rel=0.05)


def spectrum(inputs: Tensor) -> Tensor:
    eigenvalues: Tensor = torch.linalg.eigvalsh(inputs.T @ inputs)
    return eigenvalues.clamp(min=0)


@pytest.mark.parametrize("load", [0.3, 1.0, 2.5])
def test_the_limit_is_that_of_a_large_network(load: float) -> None:
    n = 600
    inputs = linear_task(n, int(load * n), 1.0, 0.0, seed=0)[1]
    eigenvalues = spectrum(inputs)
    for decay in (0.05, 0.5, 3.0):
        g = (1 / (decay + eigenvalues)).mean().item()
        assert response(decay, load) == pytest.approx(g, rel=0.02)
        expected = expected_error(decay, eigenvalues, 2.0, 0.7)
        assert limit_error(decay, load, 2.0, 0.7) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("load", [0.5, 1.0, 2.0])
@pytest.mark.parametrize(("weight", "noise"), [(1.0, 0.5), (2.0, 0.1), (0.5, 3.0)])
def test_the_best_decay_is_noise_over_weight_variance(
    load: float, weight: float, noise: float
) -> None:
    """U-shaped, in theory and in simulation, with its foot at sigma^2 / u^2 whatever the load."""
    errors = [limit_error(decay, load, weight, noise) for decay in DECAYS]
    foot = errors.index(min(errors))
    step = DECAYS[1] / DECAYS[0]
    assert DECAYS[foot] / step <= best_decay(weight, noise) <= DECAYS[foot] * step
    assert errors[: foot + 1] == sorted(errors[: foot + 1], reverse=True)
    assert errors[foot:] == sorted(errors[foot:])


def test_the_best_decay_is_best_in_simulation() -> None:
    best = best_decay(2.0, 1.0)
    assert best == 0.5
    lowest = simulated(best, 20, 1.0)
    for factor in (1 / 3, 3):
        assert simulated(best * factor, 20, 1.0) > 1.02 * lowest
    assert simulated(1e-6, 20, 1.0) > 3 * lowest  # p = N: noise is amplified without bound


def test_without_noise_decay_only_does_harm_beyond_the_smallest_solution() -> None:
    errors = [limit_error(decay, 0.5, 1.0, 0.0) for decay in DECAYS]
    assert errors == sorted(errors)
    assert errors[0] == pytest.approx(0.25, rel=0.01)  # 1/2 u^2 (1 - alpha): what is never seen


# -- the non-linear network --------------------------------------------------------------------


@pytest.mark.learning
def test_decay_helps_a_network_that_reads_digits_with_wrong_labels() -> None:
    digits = real("digits").train
    inputs, classes = digits.inputs.flatten(1) / 16, digits.targets.clone()
    given = classes[:300].clone()
    given[:60] = torch.randint(10, (60,), generator=torch.Generator().manual_seed(0))
    targets = nn.functional.one_hot(given, 10).float()
    error = {}
    for decay in (0.0, 0.01, 0.3):
        config = replace(WeightDecayConfig.paper(), decay=decay, learning_rate=0.1, momentum=0.9)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = HiddenLayer(64, 10, config)
        optimizer = create(model.parameters(), config)
        for _ in range(1200):
            optimizer.zero_grad()
            half_squares(model, (inputs[:300], targets)).backward()
            optimizer.step()
        with torch.no_grad():
            wrong = model(inputs[300:]).argmax(1) != classes[300:]
        error[decay] = wrong.double().mean().item()
    assert error[0.01] < 0.75 * error[0.0]
    assert error[0.3] > 3 * error[0.01]


@pytest.mark.parametrize(
    "arguments", [{"decay": -1e-9}, {"decay": math.nan}, {"learning_rate": 0}, {"momentum": 1.0}]
)
def test_bad_numbers_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be >= 0, > 0 and in"):
        WeightDecayConfig(**arguments)  # type: ignore[arg-type]


def test_bad_arguments_are_refused() -> None:
    _, inputs, targets = linear_task(4, 3, 1.0, 0.0, seed=0)
    with pytest.raises(ValueError, match="decay must be at least 0"):
        minimizer(inputs, targets, -1.0)
    with pytest.raises(ValueError, match="must be positive"):
        response(0.0, 1.0)
