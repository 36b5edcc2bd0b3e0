"""Back-propagation written out by hand, against autograd, finite differences and torch's SGD; and
the two tasks of the paper.
"""

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from datasets import real
from torch import Tensor

from supervised.foundations.backprop import (
    BIAS,
    ENGLISH,
    PEOPLE,
    RELATIONS,
    BackpropConfig,
    Network,
    create,
    family_cases,
    relatives,
    symmetry_cases,
)

# Two input groups, and weights that skip a layer: group 4 hears 1, 2 and 3.
BRANCHED = BackpropConfig(
    groups=(4, 3, 5, 2, 3),
    inputs=2,
    projections=((0, 2), (0, 3), (1, 3), (2, 3), (1, 4), (2, 4), (3, 4)),
    initial=1.0,
)
NETWORKS = {
    "symmetry": BackpropConfig.symmetry(),
    "family trees": replace(BackpropConfig.family_trees(), initial=1.0),
    "branched": BRANCHED,
    "slack": replace(BRANCHED, slack=0.3),
}
Weights = Mapping[tuple[int, int], Tensor]


def cases(config: BackpropConfig, n: int = 9) -> tuple[list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(1)

    def uniform(units: int) -> Tensor:
        return torch.rand(n, units, generator=generator, dtype=torch.float64)

    inputs = [2 * uniform(units) - 1 for units in config.groups[: config.inputs]]
    return inputs, uniform(config.groups[-1])


def twin(config: BackpropConfig, weights: Weights, inputs: list[Tensor]) -> Tensor:
    """The network's output in torch's own functions, through which autograd can go."""
    states = dict(enumerate(inputs))
    for j in range(config.inputs, len(config.groups)):
        below = [i for i, high in config.projections if high == j]
        x = torch.cat([states[i] for i in below], 1)
        w = torch.cat([weights[i, j] for i in below], 1)
        states[j] = torch.sigmoid(torch.nn.functional.linear(x, w, weights[BIAS, j][:, 0]))
    return states[len(config.groups) - 1]


def half_squares(config: BackpropConfig, output: Tensor, targets: Tensor) -> Tensor:
    wrong = output - targets
    return 0.5 * wrong[wrong.abs() > config.slack].square().sum()


@pytest.mark.parity
@pytest.mark.parametrize("name", NETWORKS)
def test_derivatives_are_those_of_autograd(name: str) -> None:
    config = NETWORKS[name]
    network = create(config, seed=3)
    inputs, targets = cases(config)
    leaves = {key: w.clone().requires_grad_() for key, w in network.weights.items()}
    expected = half_squares(config, twin(config, leaves, inputs), targets)
    expected.backward()

    y = network.forward(inputs)
    output = y[len(config.groups) - 1]
    assert network.error(output, targets) == pytest.approx(expected.item(), abs=1e-12)
    gradients = network.backward(y, targets)
    assert gradients.keys() == leaves.keys()
    for key, leaf in leaves.items():
        assert leaf.grad is not None
        assert leaf.grad.abs().max() > 1e-4, key
        torch.testing.assert_close(gradients[key], leaf.grad, rtol=0, atol=1e-12)


@pytest.mark.parity
@pytest.mark.parametrize("name", ["symmetry", "branched"])
def test_derivatives_are_those_of_finite_differences(name: str) -> None:
    network = create(NETWORKS[name], seed=4)
    inputs, targets = cases(network.config)
    gradients = network.backward(network.forward(inputs), targets)
    h = 1e-5
    for key, w in network.weights.items():
        for index in range(w.numel()):
            nudged = []
            for sign in (1, -1):
                w.view(-1)[index] += sign * h
                nudged.append(network.error(network.output(inputs), targets))
                w.view(-1)[index] -= sign * h
            slope = (nudged[0] - nudged[1]) / (2 * h)
            assert gradients[key].view(-1)[index].item() == pytest.approx(slope, abs=1e-8)


@pytest.mark.parity
@pytest.mark.parametrize("alpha", [0.0, 0.9])
def test_fifty_sweeps_are_those_of_torch(alpha: float) -> None:
    config = replace(BRANCHED, alpha=alpha, epsilon=0.05)
    network = create(config, seed=5)
    inputs, targets = cases(config)
    leaves = {key: w.clone().requires_grad_() for key, w in network.weights.items()}
    start = {key: w.clone() for key, w in network.weights.items()}
    theirs = torch.optim.SGD(leaves.values(), lr=0.05, momentum=alpha)
    for _ in range(50):
        theirs.zero_grad()
        loss = half_squares(config, twin(config, leaves, inputs), targets)
        loss.backward()
        assert network.sweep(inputs, targets) == pytest.approx(loss.item(), abs=1e-10)
        theirs.step()
    for key, leaf in leaves.items():
        torch.testing.assert_close(network.weights[key], leaf.detach(), rtol=0, atol=1e-10)
        assert (leaf - start[key]).abs().max() > 0.01


def test_the_first_sweeps_have_their_own_rates_and_weights_decay_after_each_change() -> None:
    config = replace(BRANCHED, first_sweeps=1, decay=0.1, epsilon=0.2, alpha=0.7)
    network = create(config)
    inputs, targets = cases(config)
    w0 = network.weights[1, 4]
    g0 = network.backward(network.forward(inputs), targets)[1, 4]
    network.sweep(inputs, targets)
    w1 = network.weights[1, 4]
    torch.testing.assert_close(w1, 0.9 * (w0 - 0.005 * g0))
    g1 = network.backward(network.forward(inputs), targets)[1, 4]
    network.sweep(inputs, targets)
    change = -0.2 * g1 + 0.7 * (-0.005 * g0)
    torch.testing.assert_close(network.weights[1, 4], 0.9 * (w1 + change))


def test_an_output_within_the_slack_is_no_error() -> None:
    network = create(replace(BackpropConfig.symmetry(), slack=0.2))
    output = torch.tensor([[0.85, 0.75, 0.15, 0.25]], dtype=torch.float64)
    targets = torch.tensor([[1.0, 1.0, 0.0, 0.0]], dtype=torch.float64)
    expected = torch.tensor([[0, -0.25, 0, 0.25]], dtype=torch.float64)
    torch.testing.assert_close(network.deviation(output, targets), expected)
    assert network.error(output, targets) == pytest.approx(0.0625)


def test_networks_have_the_papers_sizes() -> None:
    assert {key: tuple(w.shape) for key, w in create().weights.items()} == {
        (0, 1): (2, 6), (1, 2): (1, 2), (BIAS, 1): (2, 1), (BIAS, 2): (1, 1),
    }  # fmt: skip
    family = create(BackpropConfig.family_trees())
    assert sum(w.numel() for w in family.weights.values()) == 144 + 72 + 144 + 72 + 144 + 54
    assert all(w.abs().max() <= 0.3 for w in family.weights.values())
    assert torch.equal(create(seed=7).weights[0, 1], create(seed=7).weights[0, 1])
    assert not torch.equal(create(seed=7).weights[0, 1], create(seed=8).weights[0, 1])


# -- the paper's tasks -------------------------------------------------------------------------


def test_eight_of_the_sixty_four_rows_are_symmetric() -> None:
    rows, symmetric = symmetry_cases()
    assert len({tuple(row) for row in rows.tolist()}) == 64
    assert symmetric.sum() == 8
    for row, answer in zip(rows.tolist(), symmetric[:, 0].tolist(), strict=True):
        assert (row == row[::-1]) == bool(answer)


def symmetry_network(seed: int) -> Network:
    network = create(seed=seed)
    rows, symmetric = symmetry_cases()
    for _ in range(BackpropConfig.symmetry().sweeps):
        network.sweep([rows], symmetric)
    return network


@pytest.mark.learning
def test_symmetry_is_learned_in_the_papers_sweeps_with_the_papers_weights() -> None:
    """Fig. 1: weights to a hidden unit are equal and opposite about the middle, in 1 : 2 : 4."""
    network = symmetry_network(seed=8)
    rows, symmetric = symmetry_cases()
    assert torch.equal(network.output([rows]) > 0.5, symmetric > 0.5)
    w = network.weights[0, 1]
    largest = w.abs().max()
    assert (w + w.flip(1)).abs().max() < 0.02 * largest
    assert (w[0] + w[1]).abs().max() < 0.03 * largest  # the two units are each other's mirror
    sizes = w[:, :3].abs().sort(1).values
    ratios = sizes / sizes[:, :1]
    assert ratios[0].tolist() == pytest.approx([1, 2, 4], rel=0.05)
    assert (network.weights[1, 2] < 0).all()  # either unit turns the output off


def test_the_family_trees_are_those_of_fig_2() -> None:
    (person, relation), answers = family_cases()
    assert person.shape == (104, 24)
    assert relation.shape == (104, 12)
    assert answers.sum() == 112
    facts = {
        (PEOPLE[int(p.argmax())], RELATIONS[int(r.argmax())]): {PEOPLE[i] for i in a.nonzero()}
        for p, r, a in zip(person, relation, answers, strict=True)
    }
    assert len(facts) == 104
    assert facts["Colin", "aunt"] == {"Jennifer", "Margaret"}  # the case of Fig. 3
    assert facts["Alfonso", "uncle"] == {"Emilio", "Tomaso"}
    assert facts["Margaret", "nephew"] == {"Colin"}
    assert facts["Victoria", "brother"] == {"Arthur"}
    assert facts["Sophia", "father"] == {"Marco"}
    assert ("Christopher", "father") not in facts
    # The Italian tree is the English one with other names.
    assert all(
        facts[PEOPLE[12 + k], name] == {PEOPLE[12 + w] for w in who}
        for k in range(12)
        for name, who in relatives(k).items()
        if who
    )


def test_relations_have_their_converses() -> None:
    for k in range(12):
        kin = relatives(k)
        for child in kin["son"] | kin["daughter"]:
            assert k in relatives(child)["father"] | relatives(child)["mother"]
        for other in kin["uncle"] | kin["aunt"]:
            assert k in relatives(other)["nephew"] | relatives(other)["niece"]
        for other in kin["husband"] | kin["wife"] | kin["brother"] | kin["sister"]:
            back = relatives(other)
            assert k in back["husband"] | back["wife"] | back["brother"] | back["sister"]
    assert len(ENGLISH) == 12


@pytest.mark.learning
def test_family_trees_are_learned_and_answer_what_was_held_out() -> None:
    """With larger weights at the start and larger steps than the paper's: see the notes."""
    config = replace(
        BackpropConfig.family_trees(), initial=1.0, epsilon=0.1, first_epsilon=0.05, decay=0.0005
    )
    (person, relation), answers = family_cases()
    order = torch.randperm(104, generator=torch.Generator().manual_seed(1004))
    held_out, known = order[:4], order[4:]
    network = create(config, seed=4)
    for _ in range(config.sweeps):
        network.sweep([person[known], relation[known]], answers[known])
    right = network.output([person, relation]).gt(0.5).eq(answers > 0.5).all(1)
    assert right[known].sum() >= 98
    assert right[held_out].sum() >= 2  # of 2^24 possible answers one is right


@pytest.mark.learning
def test_digits() -> None:
    digits = real("digits")
    network = create(BackpropConfig.small())
    inputs = digits.train.inputs.flatten(1).double() / 16
    targets = torch.nn.functional.one_hot(digits.train.targets, 10).double()
    for _ in range(network.config.sweeps):
        network.sweep([inputs], targets)
    output = network.output([digits.test.inputs.flatten(1).double() / 16])
    assert (output.argmax(1) == digits.test.targets).double().mean() >= 0.96


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"groups": (6,)}, "need at least one unit each"),
        ({"groups": (6, 0, 1)}, "need at least one unit each"),
        ({"projections": ((0, 1), (1, 2), (2, 1))}, r"projection \(2, 1\) must lead up"),
        ({"projections": ((0, 1), (1, 3))}, r"projection \(1, 3\) must lead up"),
        ({"projections": ((0, 2),)}, "no projection leads to group 1"),
    ],
)
def test_impossible_networks_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BackpropConfig(**arguments)  # type: ignore[arg-type]


def test_wrong_inputs_are_refused() -> None:
    with pytest.raises(ValueError, match=r"inputs must be \[C, units\] for units in \(6,\)"):
        create().forward([torch.zeros(3, 5, dtype=torch.float64)])
