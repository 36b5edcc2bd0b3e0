"""Automatic domain randomization (OpenAI et al. 2019, arXiv:1910.07113, section 5).

Ranges start at the nominal values and widen where the policy copes. Of parameter i, φ_i^L and
φ_i^H are the range's ends, λ_i what an episode has:

    λ_j ~ U(φ_j^L, φ_j^H) for every j; with probability p_b, for one i and one end, λ_i = φ_i^L
    or φ_i^H instead, and the performance goes to that end's queue (Algorithm 1, Algorithm 2);
    a queue of m: its mean p̄ is taken and it is emptied;
    p̄ >= t_H: that end moves outwards by Δ_i; p̄ <= t_L: inwards by Δ_i;
    entropy = 1/d Σ log(φ_i^H - φ_i^L), in nats per dimension.

DISCREPANCY: an end never passes the outermost value that the spec gives, nor the nominal one: the
paper does not say what happens there.

    env = DomainRandomization(gym.make("HalfCheetah-v4"), "halfcheetah")
    adr = ADR(limits(env), Thresholds(low=1000.0, high=3000.0))
    env = AdaptiveRandomization(env, adr.ranges)
    …                                 # at every step of one environment, or of a vector of them:
    if adr.observe(info):             # an end has moved:
        env.set_ranges(adr.ranges)    # envs.call("set_ranges", adr.ranges) of a vector

Ranges are in what the spec draws: of operation "scale" a factor, of "add" a summand.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import gymnasium as gym
import numpy as np

from sim2real.binding import Bound
from sim2real.distributions import Uniform
from sim2real.randomization import DomainRandomization
from sim2real.spec import SpecError
from sim2real.streams import stream
from sim2real.tables import is_number

Ranges = dict[str, list[float]]  # path -> [low, high]


@dataclass(frozen=True)
class Limits:
    """Where both ends of a range start, how far they may go, and by how much (Δ) they move."""

    start: float
    low: float
    high: float
    step: float

    def __post_init__(self) -> None:
        if not self.low <= self.start <= self.high or self.step <= 0:
            raise ValueError(f"the start must lie between the limits, the step be positive: {self}")


@dataclass(frozen=True)
class Thresholds:
    """low, high: t_L and t_H, in units of performance. queue: m, the episodes to a decision."""

    low: float
    high: float
    queue: int = 20

    def __post_init__(self) -> None:
        if self.low >= self.high or self.queue < 1:
            raise ValueError(f"low must be below high, and queue positive: {self}")


class ADR:
    """The ranges, the queues of their ends, and how they came about.

    End 2i is the low one of the i-th path, end 2i + 1 its high one.
    """

    def __init__(self, limits: Mapping[str, Limits], thresholds: Thresholds) -> None:
        if not limits:
            raise ValueError("there is no parameter to widen")
        self.limits, self.thresholds = dict(limits), thresholds
        self.paths = list(limits)
        self.ranges: Ranges = {path: [at.start, at.start] for path, at in limits.items()}
        self.queues: list[list[float]] = [[] for _ in range(2 * len(limits))]
        self.evaluations = 0
        self.moves: list[list[float]] = []  # [evaluations, end, mean performance, new value]

    def record(self, end: int, performance: float) -> bool:
        """Puts an episode at an end into its queue; whether that end has moved."""
        self.evaluations += 1
        queue = self.queues[end]
        queue.append(float(performance))
        if len(queue) < self.thresholds.queue:
            return False
        mean = sum(queue) / len(queue)
        queue.clear()
        path, side = self.paths[end // 2], end % 2
        at, before = self.limits[path], self.ranges[path][side]
        outwards = at.step if side else -at.step
        if mean >= self.thresholds.high:
            after = before + outwards
        elif mean <= self.thresholds.low:
            after = before - outwards
        else:
            return False
        lowest, highest = (at.start, at.high) if side else (at.low, at.start)
        after = min(max(after, lowest), highest)
        if after == before:
            return False
        self.ranges[path][side] = after
        self.moves.append([self.evaluations, end, mean, after])
        return True

    def observe(self, info: Mapping[str, Any]) -> bool:
        """Records what episodes have ended at an end; whether any end has moved.

        Args:
            info: of a step of an AdaptiveRandomization, or of a vector environment of them that
                resets in the same step.

        """
        if "final_info" in info:
            info = info["final_info"]
        if "adr" not in info or "performance" not in info["adr"]:
            return False
        ends, performances = info["adr"]["end"], info["adr"]["performance"]
        if np.ndim(ends) == 0:
            return self.record(int(ends), float(performances))
        there = info["adr"]["_performance"]
        pairs = zip(ends[there], performances[there], strict=True)
        moved = [self.record(int(end), float(performance)) for end, performance in pairs]
        return any(moved)

    def entropy(self) -> float:
        """In nats per dimension; minus infinity while a range is a point."""
        widths = [high - low for low, high in self.ranges.values()]
        return sum(map(math.log, widths)) / len(widths) if min(widths) > 0 else -math.inf

    def history(self) -> dict[str, np.ndarray]:
        """For plots: path -> rows (evaluations, low, high), [1 + moves + 1, 3], first to now."""
        rows = {path: [[0.0, at.start, at.start]] for path, at in self.limits.items()}
        for count, end, _, value in self.moves:
            path = self.paths[int(end) // 2]
            row = [float(count), *rows[path][-1][1:]]
            row[1 + int(end) % 2] = value
            rows[path].append(row)
        for path, (low, high) in self.ranges.items():
            rows[path].append([float(self.evaluations), low, high])
        return {path: np.array(found) for path, found in rows.items()}

    def state(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "ranges": {path: [*ends] for path, ends in self.ranges.items()},
            "queues": [[*queue] for queue in self.queues],
            "evaluations": self.evaluations,
            "moves": [[*move] for move in self.moves],
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Goes on from a ``state``. Raises ValueError, and changes nothing, if it is of others."""
        ranges = checked(state["ranges"], self.paths)
        queues, moves = state["queues"], state["moves"]
        if len(queues) != len(self.queues):
            raise ValueError(f"the state has {len(queues)} queues, not {len(self.queues)}")
        self.ranges = ranges
        self.queues = [[float(performance) for performance in queue] for queue in queues]
        self.evaluations = int(state["evaluations"])
        self.moves = [[*move] for move in moves]


class AdaptiveRandomization(gym.Wrapper[Any, Any, Any, Any]):
    """Draws within the ranges it is given, now and then at an end of one (Algorithm 2).

    ``info["adr"]["end"]`` says at a reset which end that is, -1 for none; where an episode there
    ends, ``info["adr"]`` has its "end" and its "performance", for ``ADR.observe``.

    Args:
        env: whose spec draws the ranges' parameters; its other parameters stay as they are.
        ranges: of an ADR; ``set_ranges`` changes them from the next reset on.
        boundary_probability: p_b.
        performance: of an episode: its return, or whether its last info has "is_success".

    """

    def __init__(
        self,
        env: DomainRandomization,
        ranges: Ranges,
        boundary_probability: float = 0.5,
        performance: Literal["return", "is_success"] = "return",
    ) -> None:
        super().__init__(env)
        self.randomization = env
        self.boundary_probability, self.performance = boundary_probability, performance
        known = {bound.path: bound for bound in env.bound}
        self.bound = {path: known[path] for path in ranges}
        self.set_ranges(ranges)
        self.setting = self.ranges
        self.end, self.total = -1, 0.0

    def set_ranges(self, ranges: Ranges) -> None:
        """The ranges from the next reset on; what the last one had stays in ``setting``."""
        self.ranges = checked(ranges, list(self.bound))

    def set_setting(self, setting: Any) -> None:
        """For envs.resumable: what an episode depends on beside its seed."""
        self.set_ranges(setting)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        options = dict(options or {})
        self.end, self.total, self.setting = -1, 0.0, self.ranges
        if "replay" not in options:
            seed, episode = self.randomization.next_episode(seed)
            values = self._draw(seed, episode)
            options["domain"] = values | options.get("domain", {})
            seed = seed if episode == 0 else None
        observation, info = self.env.reset(seed=seed, options=options)
        return observation, info | {"adr": {"end": self.end}}

    def _draw(self, seed: int, episode: int) -> dict[str, Any]:
        drawn = {
            path: stream(seed, episode, path).uniform(low, high)
            for path, (low, high) in self.ranges.items()
        }
        rng = stream(seed, episode, "adr")
        if rng.random() < self.boundary_probability:
            self.end = int(rng.integers(2 * len(drawn)))
            path = list(drawn)[self.end // 2]
            drawn[path] = self.ranges[path][self.end % 2]
        return {path: self.bound[path].value(value) for path, value in drawn.items()}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.total += float(reward)
        if self.end >= 0 and (terminated or truncated):
            success = self.performance == "is_success"
            performance = float(info["is_success"]) if success else self.total
            info = info | {"adr": {"end": self.end, "performance": performance}}
        return observation, reward, terminated, truncated, info


def limits(env: DomainRandomization, steps: int = 20) -> dict[str, Limits]:
    """Of every number that the spec draws evenly at a reset; all of a range in ``steps`` steps.

    Ranges start where the parameter is nominal. Raises SpecError for one that does not hold its
    nominal value, and if there is none at all.
    """
    found = {bound.path: _limits(bound, steps) for bound in env.bound if _widens(bound)}
    if not found:
        raise SpecError(f"{env.domain_spec.name} draws no number from uniform at a reset")
    return found


def _widens(bound: Bound) -> bool:
    drawn, when = bound.entry.distribution, bound.entry.when
    return isinstance(drawn, Uniform) and drawn.dimension == 1 and when == "reset"


def _limits(bound: Bound, steps: int) -> Limits:
    low, high = (float(end) for end in bound.entry.distribution.support())
    nominal = bound.parameter.nominal
    start = {"scale": 1.0, "add": 0.0}.get(bound.entry.operation, nominal)
    if not is_number(start) or not low <= start <= high:  # type: ignore[operator]
        raise SpecError(f"{bound.path} is nominally {start}, outside of {low:g} to {high:g}")
    return Limits(float(start), low, high, (high - low) / steps)  # type: ignore[arg-type]


def checked(ranges: Any, paths: list[str]) -> Ranges:
    """A copy of ``ranges``; ValueError unless it has one range for each of ``paths``."""
    if not isinstance(ranges, Mapping) or set(ranges) != set(paths):
        raise ValueError(f"ranges are wanted of {', '.join(paths)}")
    for path, ends in ranges.items():
        right = isinstance(ends, list) and len(ends) == 2 and all(map(is_number, ends))
        if not right or ends[0] > ends[1]:
            raise ValueError(f"the range of {path} is [low, high], not {ends!r}")
    return {path: [float(end) for end in ranges[path]] for path in paths}
