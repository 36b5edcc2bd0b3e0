"""The perceptron: fixed random units in front of one layer that learns.

Rosenblatt 1958, "The Perceptron: a Probabilistic Model for Information Storage and Organization in
the Brain", Psychological Review 65 (Eq. n, Table 1). Sensory points (S) excite or inhibit
association units (A) through random connections that never change; an A-unit fires when its sum
reaches a threshold, and the response (R) with the strongest A-units dominates. What is learned is
one number for each A-unit, its value. The 1958 paper changes values by the alpha, beta and gamma
systems (``ReinforcedResponses``): none of them looks at whether the machine was right. The rule
that is called the perceptron today, which corrects errors and does nothing else
(``ErrorCorrection``), came later: Rosenblatt, "Perceptron Simulation Experiments", 1960, and
"Principles of Neurodynamics", 1962; the bound on its mistakes is Novikoff's, 1962.

    name            symbol        shape
    stimuli         S             [B, S-points]             1 where a point is lit
    wiring          -             [A-units, S-points]       sums of +1 and -1 connections
    active          -             [B, A-units]              which A-units fire
    values          V             [A-units]                 what reinforcement changes
    source_set      -             [A-units]                 the response that an A-unit leads to
    n, N            N_ar, N_Ar    -                         active units, all units of a source-set
    weight, bias    w, b          [units, features], [units]    of the error-correction rule

Deviations: source-sets do not overlap (omega = 1 / N_R), the feedback from R to A is left out, and
a response dominates when its input is the largest. The error-correction rule is given any features;
to be Rosenblatt's machine it is given A-units.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

System = Literal["alpha", "beta", "gamma"]


@dataclass(frozen=True)
class PerceptronConfig:
    """A photo-perceptron; ``.paper()`` has the connections of the paper's Fig. 4b and 6."""

    association_units: int = 1000  # N_A
    excitatory: int = 10  # x: connections of +1 that an A-unit gets
    inhibitory: int = 0  # y: connections of -1
    threshold: int = 4  # theta: the sum at which an A-unit fires
    responses: int = 2  # N_R
    system: System = "gamma"  # how values change (Table 1)
    discrimination: Literal["mean", "sum"] = "mean"  # of active A-units' values: mu or Sigma
    feed: float = 100.0  # K of beta: what every source-set gains at every reinforcement
    bivalent: bool = False  # whether active A-units of the other source-sets lose value

    def __post_init__(self) -> None:
        if not 1 <= self.responses <= self.association_units:
            raise ValueError(
                f"{self.association_units} A-units cannot serve {self.responses} responses"
            )
        if self.excitatory < 0 or self.inhibitory < 0:
            raise ValueError("an A-unit cannot have fewer than 0 connections")
        if not 1 <= self.threshold <= self.excitatory:
            raise ValueError(
                f"threshold {self.threshold} must be 1 to {self.excitatory}, the excitatory "
                "connections: else A-units fire always or never"
            )

    @classmethod
    def paper(cls) -> "PerceptronConfig":
        return cls(excitatory=10, inhibitory=0, threshold=4)

    @classmethod
    def small(cls) -> "PerceptronConfig":
        return cls(association_units=200)


class AssociationUnits:
    """S to A: threshold units with random connections of +1 and -1 that never learn.

    Args:
        sensory_points: how many points the retina has.
        config: connections, threshold and number of units.
        seed: of the connections. An A-unit's origins are drawn with replacement, as in Eq. 1.

    """

    def __init__(self, sensory_points: int, config: PerceptronConfig, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        x, y = config.excitatory, config.inhibitory
        shape = (config.association_units, x + y)
        origins = torch.randint(sensory_points, shape, generator=generator)
        signs = torch.tensor([1.0] * x + [-1.0] * y).expand(shape)
        wiring = torch.zeros(config.association_units, sensory_points)
        self.wiring = wiring.scatter_add(1, origins, signs)
        self.threshold = config.threshold

    def __call__(self, stimuli: Tensor) -> Tensor:
        """[B, S-points] of 0 and 1 -> which A-units fire, bool [B, A-units]; ValueError."""
        if stimuli.ndim != 2 or stimuli.shape[1] != self.wiring.shape[1]:
            raise ValueError(
                f"stimuli must be [B, {self.wiring.shape[1]}], not {tuple(stimuli.shape)}"
            )
        return stimuli.float() @ self.wiring.T >= self.threshold


def binomial(n: int, k: int, p: float) -> float:
    return math.comb(n, k) * math.pow(p, k) * math.pow(1 - p, n - k)


def expected_activity(lit: float, config: PerceptronConfig) -> float:
    """P_a, Eq. 1: the chance that an A-unit fires at a stimulus that lights this part R of S."""
    x, y, theta = config.excitatory, config.inhibitory, config.threshold
    return sum(
        binomial(x, e, lit) * binomial(y, i, lit)
        for e in range(theta, x + 1)
        for i in range(min(y, e - theta) + 1)
    )


def expected_recall(stimuli: int, activity: float, config: PerceptronConfig) -> float:
    """P_r, Eq. 4: the chance of the right one of two responses to a stimulus that was shown once.

    For the ideal environment (stimuli without any likeness, ``stimuli`` for each response) and a
    mean-discriminating alpha system, or gamma: c_1 = c_3 = 0. A unit that fires at the stimulus
    has gained 1 - P_a more from it than other units; chance gains of mean 0 are in the way, of
    variance P_a (1 - P_a) a stimulus and unit, averaged over the P_a N_e units that fire.
    """
    units = config.association_units / config.responses  # N_e
    z = math.sqrt((1 - activity) * units / (2 * stimuli))
    normal = 0.5 * (1 + math.erf(z / math.sqrt(2)))
    return (1 - math.pow(1 - activity, units)) * normal


class ReinforcedResponses:
    """A to R as in 1958: a response is forced to dominate and active A-units are reinforced.

    Table 1, for one unit of time; n of the N A-units of a source-set are active:

        A-unit                               alpha    beta     gamma
        active, of the dominant source-set   +1       +K/n     +1
        inactive, of the same                0        0        -n/(N-n)
        of another source-set                0        +K/N     0
    """

    def __init__(self, config: PerceptronConfig) -> None:
        self.config = config
        self.values = torch.zeros(config.association_units, dtype=torch.float64)
        self.source_set = torch.arange(config.association_units) % config.responses

    def reinforce(self, active: Tensor, response: int, sign: Literal[1, -1] = 1) -> None:
        """Forces ``response`` while these A-units fire, bool [A-units].

        ``sign`` -1 is negative reinforcement, a punishment. In a bivalent system the source-sets
        of the other responses get the opposite of what the dominant one gets.
        """
        for other in range(self.config.responses):
            members = self.source_set == other
            if other == response:
                self.values += sign * self.gain(active, members)
            elif self.config.bivalent:
                self.values -= sign * self.gain(active, members)
            elif self.config.system == "beta":
                self.values += sign * members.double() * self.config.feed / members.sum()

    def gain(self, active: Tensor, members: Tensor) -> Tensor:
        """What the A-units [A-units] of the dominant source-set gain in a unit of time."""
        firing, silent = active & members, ~active & members
        n, rest = int(firing.sum()), int(silent.sum())
        if self.config.system == "alpha":  # uncompensated gain
            return firing.double()
        if self.config.system == "beta":  # constant feed, shared by those that fire
            return firing.double() * self.config.feed / max(n, 1)
        # Parasitic gain: what some gain the others lose. Nobody can where all fire.
        return (
            firing.double() - silent.double() * n / rest if rest else torch.zeros_like(self.values)
        )

    def inputs(self, active: Tensor) -> Tensor:
        """Bool [B, A-units] -> mean or sum of the values of active A-units, [B, R].

        A source-set without an active unit has the input 0.
        """
        members = torch.nn.functional.one_hot(self.source_set, self.config.responses).double()
        sums = (active * self.values) @ members
        if self.config.discrimination == "sum":
            return sums
        return sums / (active.double() @ members).clamp(min=1)

    def respond(self, active: Tensor) -> Tensor:
        """The dominant responses, int64 [B]; among equals the first."""
        return self.inputs(active).argmax(1)


class ErrorCorrection:
    """The later rule (1960-62): weights move only when the response was wrong.

    One threshold unit for each class against the rest; two classes share one unit.

    Args:
        features: inputs of a unit.
        classes: at least 2.
        rate: size of a correction. From weights of 0 it only scales them.
        dtype: of the weights.

    """

    def __init__(
        self, features: int, classes: int, rate: float = 1.0, dtype: torch.dtype = torch.float64
    ) -> None:
        if features < 1 or classes < 2 or not rate > 0:
            raise ValueError(
                f"features {features}, classes {classes}, rate {rate} must be >= 1, >= 2, > 0"
            )
        units = 1 if classes == 2 else classes
        self.classes, self.rate = classes, rate
        self.weight = torch.zeros(units, features, dtype=dtype)
        self.bias = torch.zeros(units, dtype=dtype)
        self.mistakes = torch.zeros(units, dtype=torch.int64)

    def desired(self, targets: Tensor) -> Tensor:
        """Classes [B] -> responses of +1 and -1, [B, units]."""
        if self.classes == 2:
            return (2 * targets - 1)[:, None].to(self.weight.dtype)
        return (2 * torch.nn.functional.one_hot(targets, self.classes) - 1).to(self.weight.dtype)

    def correct(self, x: Tensor, desired: Tensor) -> None:
        """Shows one case, [features] and [units]. A sum of exactly 0 counts as wrong."""
        wrong = desired * (self.weight @ x + self.bias) <= 0
        step = self.rate * desired * wrong  # + towards the case, - away from it, 0 if right
        self.weight += step[:, None] * x
        self.bias += step
        self.mistakes += wrong

    def sweep(self, inputs: Tensor, targets: Tensor) -> int:
        """All cases once, in their order; how many corrections were made."""
        before = int(self.mistakes.sum())
        desired = self.desired(targets)
        for x, d in zip(inputs.to(self.weight.dtype), desired, strict=True):
            self.correct(x, d)
        return int(self.mistakes.sum()) - before

    def respond(self, inputs: Tensor) -> Tensor:
        """Classes, int64 [B]: the unit with the largest sum, or the one unit's sign."""
        sums = inputs.to(self.weight.dtype) @ self.weight.T + self.bias
        return (sums[:, 0] > 0).long() if self.classes == 2 else sums.argmax(1)


def bars(side: int = 20) -> tuple[Tensor, Tensor]:
    """A differentiated environment: every row (0) and column (1) that lights a fifth of a square
    retina, around its edges too. Returns stimuli [2 side, side * side] and classes [2 side].
    """
    place = torch.arange(side)
    lit = ((place - place[:, None]) % side < side // 5).float()  # [where it begins, place]
    rows = lit[:, :, None].expand(side, side, side)
    return torch.cat([rows, rows.mT]).flatten(1), place.new_tensor([0, 1]).repeat_interleave(side)


def separator(points: Tensor, steps: int = 10_000) -> Iterator[Tensor]:
    """Unit vectors u [features] that come ever closer to the largest margin of ``points``.

    ``points`` are y x for all cases, [B, features]. The point of their convex hull that is closest
    to the origin has the direction of the largest margin; it is approached by the steps of Gilbert
    (1966). ``(points @ u).min()`` is a margin for certain, be u the best or not.
    """
    nearest = points[0]
    for _ in range(steps):
        yield nearest / nearest.norm()
        towards = points[(points @ nearest).argmin()] - nearest
        length = towards.dot(towards)
        if length == 0:
            return
        nearest = nearest + (-nearest.dot(towards) / length).clamp(0, 1) * towards


def mistake_bound(inputs: Tensor, desired: Tensor, steps: int = 10_000) -> float:
    """Novikoff's (R / gamma)^2: no more corrections are ever made, in whichever order.

    R is the longest case and gamma the largest margin, with the bias' constant 1 as one more
    input. Infinite where no separator was found.

    Args:
        inputs: [B, features].
        desired: +1 or -1, [B].
        steps: taken towards the largest margin.

    """
    cases = torch.cat([inputs, torch.ones_like(inputs[:, :1])], 1).double()
    points = desired.double()[:, None] * cases
    margin = max(float((points @ u).min()) for u in separator(points, steps))
    return float(cases.norm(dim=1).max() / margin) ** 2 if margin > 0 else math.inf


def create(
    sensory_points: int, config: PerceptronConfig | None = None, seed: int = 0
) -> tuple[AssociationUnits, ReinforcedResponses]:
    """A photo-perceptron of 1958 that has not learned yet: S to A, and A to R."""
    config = config or PerceptronConfig.paper()
    return AssociationUnits(sensory_points, config, seed), ReinforcedResponses(config)
