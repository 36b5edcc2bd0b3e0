"""The perceptron: the 1958 reinforcement systems, and the error-correction rule against
scikit-learn's and Novikoff's bound.
"""

import itertools

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits, load_iris
from sklearn.linear_model import Perceptron
from torch import Tensor

from supervised.foundations.perceptron import (
    AssociationUnits,
    ErrorCorrection,
    PerceptronConfig,
    ReinforcedResponses,
    System,
    bars,
    create,
    expected_activity,
    expected_recall,
    mistake_bound,
    separator,
)

SYSTEMS: tuple[System, ...] = ("alpha", "beta", "gamma")


# -- S to A ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("x", "y", "theta"), [(10, 0, 4), (5, 5, 1), (6, 3, 2)])
@pytest.mark.parametrize("lit", [0.1, 0.5])
def test_units_fire_as_often_as_equation_1_says(x: int, y: int, theta: int, lit: float) -> None:
    config = PerceptronConfig(40_000, excitatory=x, inhibitory=y, threshold=theta)
    retina = torch.zeros(1, 1000)
    retina[0, : int(1000 * lit)] = 1
    fired = AssociationUnits(1000, config, seed=1)(retina).double().mean().item()
    expected = expected_activity(lit, config)
    assert fired == pytest.approx(expected, abs=4 * (expected * (1 - expected) / 40_000) ** 0.5)


def test_connections_are_plus_or_minus_one_and_fixed() -> None:
    config = PerceptronConfig(50, excitatory=7, inhibitory=3, threshold=2)
    units, responses = create(5000, config, seed=3)
    assert units.wiring.sum(1).tolist() == [4.0] * 50
    # On a retina this large two origins of a unit hardly ever coincide.
    assert units.wiring.abs().sum(1).mean() > 9.9
    before = units.wiring.clone()
    active = units((torch.rand(20, 5000) < 0.3).float())
    for row in active:
        responses.reinforce(row, 1)
    assert torch.equal(units.wiring, before)
    assert responses.values.abs().sum() > 0


def test_threshold_is_reached_not_exceeded() -> None:
    config = PerceptronConfig(1, excitatory=3, threshold=3, responses=1)
    units = AssociationUnits(1, config)
    assert units(torch.ones(1, 1)).tolist() == [[True]]


# -- the systems of 1958 -----------------------------------------------------------------------


def reinforced(system: System, bivalent: bool = False) -> list[float]:
    """Values after one reinforcement of response 0; units 0, 2, 4, 6 are its source-set."""
    config = PerceptronConfig(8, responses=2, system=system, feed=12.0, bivalent=bivalent)
    responses = ReinforcedResponses(config)
    active = torch.tensor([1, 1, 1, 0, 1, 0, 0, 0]).bool()  # 3 of its 4, 1 of the other set
    responses.reinforce(active, 0)
    values: list[float] = responses.values.tolist()
    return values


def test_values_change_as_in_table_1() -> None:
    assert reinforced("alpha") == [1, 0, 1, 0, 1, 0, 0, 0]
    assert reinforced("beta") == [4, 3, 4, 3, 4, 3, 0, 3]
    assert reinforced("gamma") == [1, 0, 1, 0, 1, 0, -3, 0]


def test_bivalent_systems_take_from_the_other_responses() -> None:
    assert reinforced("alpha", bivalent=True) == [1, -1, 1, 0, 1, 0, 0, 0]
    expected = [1, -1, 1, 1 / 3, 1, 1 / 3, -3, 1 / 3]
    assert reinforced("gamma", bivalent=True) == pytest.approx(expected)


@pytest.mark.parametrize("system", SYSTEMS)
def test_punishment_undoes_reward(system: System) -> None:
    responses = ReinforcedResponses(PerceptronConfig(60, responses=3, system=system))
    active = torch.rand(60, generator=torch.Generator().manual_seed(0)) < 0.3
    responses.reinforce(active, 2)
    assert responses.values.abs().max() > 0
    responses.reinforce(active, 2, sign=-1)
    assert responses.values.abs().max() < 1e-12


def test_only_gamma_keeps_the_total_of_each_source_set() -> None:
    totals = {}
    for system in SYSTEMS:
        responses = ReinforcedResponses(PerceptronConfig(200, system=system, feed=10.0))
        generator = torch.Generator().manual_seed(0)
        for _ in range(30):
            responses.reinforce(torch.rand(200, generator=generator) < 0.2, 0)
        totals[system] = [responses.values[responses.source_set == r].sum().item() for r in (0, 1)]
    assert totals["alpha"][0] > 400
    assert totals["alpha"][1] == 0
    assert totals["beta"] == pytest.approx([300, 300])  # the same, whatever happened
    assert totals["gamma"] == pytest.approx([0, 0], abs=1e-9)


def test_mean_and_sum_discrimination() -> None:
    """One strong active unit against two weak ones."""
    for discrimination, dominant in (("mean", 0), ("sum", 1)):
        config = PerceptronConfig(4, discrimination=discrimination)  # type: ignore[arg-type]
        responses = ReinforcedResponses(config)
        responses.values = torch.tensor([3.0, 2.0, 9.0, 2.0], dtype=torch.float64)
        assert responses.respond(torch.tensor([[1, 1, 0, 1]]).bool()).item() == dominant


def recall(config: PerceptronConfig, counts: tuple[int, int], seed: int) -> float:
    """P_r, averaged over both classes, in the ideal environment: stimuli have no likeness."""
    points, generator = 2000, torch.Generator().manual_seed(seed)
    units, responses = create(points, config, seed)
    order = torch.rand(sum(counts), points, generator=generator).argsort(1)
    active = units((order < 0.2 * points).float())
    classes = (torch.arange(sum(counts)) >= counts[0]).long()
    for row, response in zip(active, classes.tolist(), strict=True):
        responses.reinforce(row, response)
    right = (responses.respond(active) == classes).double()
    return sum(right[classes == c].mean().item() for c in range(2)) / 2


@pytest.mark.parametrize("system", ["alpha", "gamma"])
def test_recall_in_the_ideal_environment_is_that_of_equation_4(system: System) -> None:
    config = PerceptronConfig(400, system=system)
    for n in (20, 100):
        measured = np.mean([recall(config, (n, n), seed) for seed in range(8)])
        expected = expected_recall(n, expected_activity(0.2, config), config)
        assert measured == pytest.approx(expected, abs=0.025)


def test_gamma_bears_unequal_frequencies_and_alpha_does_not() -> None:
    """Fig. 10: when one response is reinforced three times as often, alpha gives no other."""
    seen = {
        system: np.mean(
            [recall(PerceptronConfig(400, system=system), (50, 150), seed) for seed in range(4)]
        )
        for system in SYSTEMS
    }
    assert seen["alpha"] < 0.55
    assert seen["gamma"] > 0.75


@pytest.mark.learning
@pytest.mark.parametrize("system", SYSTEMS)
def test_bars_are_recognized_where_they_were_not_seen(system: System) -> None:
    """P_g in a differentiated environment, where likeness says what belongs together."""
    stimuli, classes = bars()
    assert len(stimuli.unique(dim=0)) == 40
    assert (stimuli.sum(1) == 80).all()
    right = []
    for seed in range(10):
        config = PerceptronConfig(1000, excitatory=5, threshold=3, system=system)
        units, responses = create(400, config, seed)
        order = torch.randperm(40, generator=torch.Generator().manual_seed(seed))
        active = units(stimuli)
        for k in order[:30].tolist() * 3:
            responses.reinforce(active[k], int(classes[k]))
        given = responses.respond(active[order[30:]])
        right.append((given == classes[order[30:]]).double().mean().item())
    assert np.mean(right) > 0.75  # chance is 0.5 ± 0.05


# -- error correction --------------------------------------------------------------------------


def digits() -> tuple[Tensor, Tensor]:
    bunch = load_digits()
    return torch.tensor(bunch.data), torch.tensor(bunch.target)


def iris() -> tuple[Tensor, Tensor]:
    bunch = load_iris()
    return torch.tensor(bunch.data), torch.tensor(bunch.target)


@pytest.mark.parity
@pytest.mark.parametrize("sweeps", [1, 7])
@pytest.mark.parametrize("rate", [1.0, 0.25])
@pytest.mark.parametrize("name", ["digits", "iris", "setosa"])
def test_weights_are_those_of_scikit_learn(name: str, rate: float, sweeps: int) -> None:
    inputs, targets = digits() if name == "digits" else iris()
    if name == "setosa":
        targets = (targets == 0).long()
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0))
    inputs, targets = inputs[order], targets[order]
    ours = ErrorCorrection(inputs.shape[1], int(targets.max()) + 1, rate)
    for _ in range(sweeps):
        ours.sweep(inputs, targets)
    theirs = Perceptron(shuffle=False, tol=None, max_iter=sweeps, eta0=rate)
    theirs.fit(inputs.numpy(), targets.numpy())
    assert np.array_equal(ours.weight.numpy(), theirs.coef_)
    assert np.array_equal(ours.bias.numpy(), theirs.intercept_)
    assert np.array_equal(ours.respond(inputs).numpy(), theirs.predict(inputs.numpy()))


def test_setosa_is_learned_without_an_error_and_within_the_bound() -> None:
    inputs, targets = iris()
    setosa = (targets == 0).long()
    machine = ErrorCorrection(4, 2)
    sweeps = next(n for n in itertools.count(1) if machine.sweep(inputs, setosa) == 0)
    assert sweeps < 10
    assert torch.equal(machine.respond(inputs), setosa)
    bound = mistake_bound(inputs, 2 * setosa - 1)
    assert 0 < int(machine.mistakes) <= bound < 1000


def separable(seed: int, margin: float) -> tuple[Tensor, Tensor, Tensor]:
    """Points, their sides, and a unit vector that separates them (bias last)."""
    generator = torch.Generator().manual_seed(seed)
    u = torch.randn(6, generator=generator, dtype=torch.float64)
    u /= u.norm()
    points = torch.randn(400, 5, generator=generator, dtype=torch.float64)
    sums = points @ u[:5] + u[5]
    return points[sums.abs() > margin], sums[sums.abs() > margin].sign(), u


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("margin", [0.03, 0.3])
def test_mistakes_never_exceed_novikoffs_bound(seed: int, margin: float) -> None:
    points, sides, u = separable(seed, margin)
    bound = mistake_bound(points, sides, steps=2000)
    radius = points.square().sum(1).add(1).max().sqrt().item()
    # The margin found is at least nearly as large as that of the vector the points come from.
    known = (sides * (points @ u[:5] + u[5])).min().item()
    assert bound <= 1.05 * (radius / known) ** 2
    machine = ErrorCorrection(5, 2)
    for _ in range(5000):
        if machine.sweep(points, (sides > 0).long()) == 0:
            break
    assert torch.equal(machine.respond(points), (sides > 0).long())
    assert 0 < int(machine.mistakes) <= bound


def test_the_bound_is_the_theorems() -> None:
    """Two cases at ±1 on a line, with the bias' 1: R^2 = 2, gamma = 1. The machine needs 1 or 2."""
    points, sides = torch.tensor([[1.0], [-1.0]]), torch.tensor([1, -1])
    assert mistake_bound(points, sides) == pytest.approx(2)
    machine = ErrorCorrection(1, 2)
    while machine.sweep(points, (sides > 0).long()):
        pass
    assert int(machine.mistakes) <= 2


def test_separator_finds_the_largest_margin() -> None:
    points = torch.tensor([[2.0, 1.0], [2.0, -1.0], [5.0, 0.0]], dtype=torch.float64)
    *_, u = separator(points)
    assert u.tolist() == pytest.approx([1, 0], abs=1e-3)


def test_what_no_line_separates_has_no_bound_but_association_units_do_it() -> None:
    """Exclusive or: impossible for the rule alone, easy behind random units."""
    bits = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]]).float()
    answer = (bits[:, 0] != bits[:, 1]).long()
    plain = ErrorCorrection(2, 2)
    assert all(plain.sweep(bits, answer) > 0 for _ in range(100))
    assert mistake_bound(bits, 2 * answer - 1, steps=500) == float("inf")
    units = AssociationUnits(2, PerceptronConfig(40, excitatory=1, inhibitory=1, threshold=1), 0)
    active = units(bits).float()
    behind = ErrorCorrection(40, 2)
    assert any(behind.sweep(active, answer) == 0 for _ in range(100))
    assert torch.equal(behind.respond(active), answer)


@pytest.mark.learning
def test_digits_behind_random_units() -> None:
    """The machine with error correction: as good as scikit-learn's, and better than in 1958."""
    inputs, targets = digits()
    config = PerceptronConfig(1000, excitatory=6, inhibitory=6, threshold=2, responses=10)
    units, responses = create(64, config)
    active = units((inputs > 7).float())
    x, y = active[:1400].double(), targets[:1400]
    corrected = ErrorCorrection(1000, 10)
    for _ in range(5):
        corrected.sweep(x, y)
    for row, response in zip(active[:1400], y.tolist(), strict=True):
        responses.reinforce(row, response)
    theirs = Perceptron(shuffle=False, tol=None, max_iter=5).fit(x.numpy(), y.numpy())

    def score(given: Tensor) -> float:
        return (given == targets[1400:]).double().mean().item()

    right = score(corrected.respond(active[1400:]))
    assert right == theirs.score(active[1400:].double().numpy(), targets[1400:].numpy())
    assert right > 0.85
    assert 0.5 < score(responses.respond(active[1400:])) < right  # chance is 0.1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"association_units": 1}, "1 A-units cannot serve 2 responses"),
        ({"inhibitory": -1}, "fewer than 0"),
        ({"threshold": 0}, "threshold 0 must be 1 to 10"),
        ({"threshold": 11}, "threshold 11 must be 1 to 10"),
    ],
)
def test_impossible_machines_are_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PerceptronConfig(**arguments)  # type: ignore[arg-type]


def test_wrong_shapes_and_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match=r"stimuli must be \[B, 9\]"):
        AssociationUnits(9, PerceptronConfig.small())(torch.zeros(2, 8))
    with pytest.raises(ValueError, match="classes 1"):
        ErrorCorrection(3, 1)
