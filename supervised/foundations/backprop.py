"""Back-propagation: what a hidden unit should do follows from what its superiors did wrong.

Rumelhart, Hinton & Williams 1986, "Learning representations by back-propagating errors", Nature 323
(Eq. n), and their chapter 8 of "Parallel Distributed Processing", vol. 1 (PDP n). A forward pass
sets the states of all units; a backward pass carries the derivatives of the error from the outputs
down, one multiplication by the same weights for each connection; all weights then move together,
once a sweep through all cases. There is no autograd here: every derivative is written out.

    name         symbol              shape
    y[i]         y_i                 [C, units of group i]      states; C cases at once
    x            x_j                 [C, units of group j]      total inputs
    w            w_ji                [units of j, units of i]   weights from group i to group j
    targets      d_j                 [C, output units]
    dE_dx        dE/dx_j             [C, units of j]            -delta_j of the PDP chapter

Groups are numbered from the bottom: inputs first, the output last, and a weight may lead from any
group to any higher one ("connections can skip intermediate layers"). The biases are the weights
from one more unit, BIAS, whose state is always 1, as in the paper.

Scale-downs: none for the symmetry and family-tree networks. Digits are not in the paper.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

BIAS = -1  # the group of the one unit that is always on


@dataclass(frozen=True)
class BackpropConfig:
    """A network of groups and how it learns; the defaults are those of the paper's Fig. 1."""

    groups: tuple[int, ...] = (6, 2, 1)  # units of each group, inputs first, outputs last
    inputs: int = 1  # how many of the groups are inputs
    projections: tuple[tuple[int, int], ...] = ((0, 1), (1, 2))  # (lower, higher), all to all
    initial: float = 0.3  # weights start uniformly in ±initial
    epsilon: float = 0.1  # learning rate of Eq. 8 and 9
    alpha: float = 0.9  # momentum of Eq. 9
    first_sweeps: int = 0  # for so many sweeps the two below hold instead
    first_epsilon: float = 0.005
    first_alpha: float = 0.5
    decay: float = 0.0  # part of every weight that is lost after each change
    slack: float = 0.0  # an output this close to its target counts as right (Fig. 4: 0.2)
    sweeps: int = 1425  # sweeps through all cases

    def __post_init__(self) -> None:
        if not 1 <= self.inputs < len(self.groups) or min(self.groups) < 1:
            raise ValueError(
                f"groups {self.groups} need at least one unit each and one group above the inputs"
            )
        for low, high in self.projections:
            if not (0 <= low < high < len(self.groups) and high >= self.inputs):
                raise ValueError(f"projection ({low}, {high}) must lead up, and not to an input")
        fed = {high for _, high in self.projections}
        if missing := set(range(self.inputs, len(self.groups))) - fed:
            raise ValueError(f"no projection leads to group {min(missing)}")

    @classmethod
    def symmetry(cls) -> "BackpropConfig":
        """Fig. 1: is a row of six bits its own mirror image? Two hidden units suffice."""
        return cls()

    @classmethod
    def family_trees(cls) -> "BackpropConfig":
        """Fig. 3 and 4: person and relation, 6 units for each, 12 units, 6 units, person."""
        return cls(
            groups=(24, 12, 6, 6, 12, 6, 24),
            inputs=2,
            projections=((0, 2), (1, 3), (2, 4), (3, 4), (4, 5), (5, 6)),
            epsilon=0.01,
            first_sweeps=20,
            decay=0.002,
            slack=0.2,
            sweeps=1500,
        )

    @classmethod
    def small(cls) -> "BackpropConfig":
        """64 pixels, 10 classes: for scikit-learn's digits, whose sweeps have 1,400 cases.

        Nine of ten outputs are to be off, and full steps from the start turn all of them off for
        good; hence small ones first, as in the family trees.
        """
        groups = (64, 40, 10)
        return cls(groups, epsilon=0.002, first_sweeps=100, first_epsilon=0.0002, sweeps=500)


class Network:
    """Logistic units in groups, their weights, and the learning procedure.

    Args:
        config: groups, projections and learning.
        seed: of the initial weights.
        dtype: of all that is computed.

    """

    def __init__(
        self, config: BackpropConfig, seed: int = 0, dtype: torch.dtype = torch.float64
    ) -> None:
        self.config = config
        self.learners = range(config.inputs, len(config.groups))  # the groups that have weights
        self.sweeps = 0
        generator = torch.Generator().manual_seed(seed)
        size = {BIAS: 1, **dict(enumerate(config.groups))}
        self.weights: dict[tuple[int, int], Tensor] = {}
        for i, j in [*config.projections, *((BIAS, j) for j in self.learners)]:
            uniform = torch.rand(size[j], size[i], generator=generator, dtype=dtype)
            self.weights[i, j] = config.initial * (2 * uniform - 1)
        self.changes = {key: torch.zeros_like(w) for key, w in self.weights.items()}

    def forward(self, inputs: Sequence[Tensor]) -> dict[int, Tensor]:
        """States of the input groups, [C, units] each -> states of all groups; ValueError."""
        expected = self.config.groups[: self.config.inputs]
        if tuple(group.shape[-1] for group in inputs) != expected:
            found = [tuple(group.shape) for group in inputs]
            raise ValueError(f"inputs must be [C, units] for units in {expected}, not {found}")
        y = {BIAS: torch.ones_like(inputs[0][:, :1]), **dict(enumerate(inputs))}
        for j in self.learners:
            into_j = [(i, w) for (i, to), w in self.weights.items() if to == j]
            x = torch.stack([y[i] @ w.T for i, w in into_j]).sum(0)  # Eq. 1
            y[j] = torch.sigmoid(x)  # Eq. 2: 1 / (1 + e^-x)
        return y

    def output(self, inputs: Sequence[Tensor]) -> Tensor:
        """States of the output group, [C, output units]."""
        return self.forward(inputs)[self.learners[-1]]

    def deviation(self, output: Tensor, targets: Tensor) -> Tensor:
        """y - d, where it is larger than the slack, else 0."""
        wrong = output - targets
        return wrong.where(wrong.abs() > self.config.slack, 0)

    def error(self, output: Tensor, targets: Tensor) -> float:
        """Eq. 3: E, half the sum of squares over cases and output units."""
        return 0.5 * self.deviation(output, targets).square().sum().item()

    def backward(self, y: Mapping[int, Tensor], targets: Tensor) -> dict[tuple[int, int], Tensor]:
        """dE/dw of every weight, summed over the cases, from the states ``y`` of a forward pass."""
        last = self.learners[-1]
        dE_dy = {last: self.deviation(y[last], targets)}  # Eq. 4
        dE_dw: dict[tuple[int, int], Tensor] = {}
        for j in reversed(self.learners):
            # Eq. 5. PDP 13 (outputs) and 14 (hidden) are this, with delta = -dE_dx. Uses only the
            # state: the logistic function's slope is y (1 - y).
            dE_dx = dE_dy[j] * y[j] * (1 - y[j])
            for (i, to), w in self.weights.items():
                if to == j:
                    dE_dw[i, j] = dE_dx.T @ y[i]  # Eq. 6
                    if i in self.learners:  # Eq. 7: summed over all the units that i leads to
                        dE_dy[i] = dE_dy.get(i, torch.zeros_like(y[i])) + dE_dx @ w
        return dE_dw

    def sweep(self, inputs: Sequence[Tensor], targets: Tensor) -> float:
        """One pass through all cases and one change of all weights; E before the change."""
        config, first = self.config, self.sweeps < self.config.first_sweeps
        epsilon = config.first_epsilon if first else config.epsilon
        alpha = config.first_alpha if first else config.alpha
        y = self.forward(inputs)
        for key, gradient in self.backward(y, targets).items():
            # Eq. 9 (PDP 16): "acceleration"; with alpha = 0 it is Eq. 8.
            self.changes[key] = -epsilon * gradient + alpha * self.changes[key]
            self.weights[key] = (self.weights[key] + self.changes[key]) * (1 - config.decay)
        self.sweeps += 1
        return self.error(y[self.learners[-1]], targets)


def create(config: BackpropConfig | None = None, seed: int = 0) -> Network:
    """A network that has not learned yet; the paper's symmetry network by default."""
    return Network(config or BackpropConfig.symmetry(), seed)


def symmetry_cases() -> tuple[Tensor, Tensor]:
    """All rows of six bits [64, 6], and 1 for the eight that are their own mirror image [64, 1]."""
    rows = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 6)
    return rows, (rows == rows.flip(1)).all(1, keepdim=True).double()


# Fig. 2: the two trees are the same tree. Numbers are places in it, the same in both families.
ENGLISH = (
    *("Christopher", "Andrew", "Arthur", "James", "Charles", "Colin"),
    *("Penelope", "Christine", "Victoria", "Jennifer", "Margaret", "Charlotte"),
)
ITALIAN = (
    *("Roberto", "Pierro", "Emilio", "Marco", "Tomaso", "Alfonso"),
    *("Maria", "Francesca", "Lucia", "Angela", "Gina", "Sophia"),
)
PEOPLE = ENGLISH + ITALIAN
RELATIONS = (
    *("father", "mother", "husband", "wife", "son", "daughter"),
    *("uncle", "aunt", "brother", "sister", "nephew", "niece"),
)
COUPLES = ((0, 6), (1, 7), (2, 10), (3, 8), (4, 9))  # he, she
CHILDREN = {(0, 6): (2, 8), (1, 7): (3, 9), (3, 8): (5, 11)}


def relatives(person: int) -> dict[str, set[int]]:
    """Relation -> who stands in it to the person at this place (0 to 11) of the tree."""

    def children(people: set[int]) -> set[int]:
        return {c for couple, cs in CHILDREN.items() if people & set(couple) for c in cs}

    def siblings(people: set[int]) -> set[int]:
        return {c for cs in CHILDREN.values() if people & set(cs) for c in cs} - people

    def spouses(people: set[int]) -> set[int]:
        return {p for couple in COUPLES if people & set(couple) for p in couple} - people

    me = {person}
    parents = {p for couple, cs in CHILDREN.items() if person in cs for p in couple}
    uncles = siblings(parents)
    kin = (  # both sexes, in the order of RELATIONS
        *(parents, spouses(me), children(me), uncles | spouses(uncles), siblings(me)),
        children(siblings(me) | siblings(spouses(me))),
    )
    men = set(range(6))
    return {
        name: who
        for k, everybody in enumerate(kin)
        for name, who in (
            (RELATIONS[2 * k], everybody & men),
            (RELATIONS[2 * k + 1], everybody - men),
        )
    }


def family_cases() -> tuple[tuple[Tensor, Tensor], Tensor]:
    """The 104 questions of the family trees that have an answer, "Colin has aunt who?".

    Returns ((person [104, 24], relation [104, 12]), answers [104, 24]): one unit is on in each
    input, and in the answers one unit for everybody who is right (two for Colin's aunts).
    """
    cases = [
        (12 * family + place, relation, [12 * family + other for other in who])
        for family in range(2)
        for place in range(12)
        for relation, who in enumerate(relatives(place).values())
        if who
    ]
    answers = torch.zeros(len(cases), 24, dtype=torch.float64)
    for row, (_, _, right) in enumerate(cases):
        answers[row, right] = 1
    eye = torch.eye(24, dtype=torch.float64)
    person = eye[[case[0] for case in cases]]
    relation = eye[[case[1] for case in cases], :12]
    return (person, relation), answers
