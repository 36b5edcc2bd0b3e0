"""Automatic domain randomization: ranges widen where a policy copes, and only there."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from randomizable import spec, uniform

from agents.state import load_state, save_state
from envs.resumable import Resumable
from envs.robotics.parameters import Parameter, Value, check
from sim2real.adr import ADR, AdaptiveRandomization, Limits, Ranges, Thresholds, limits
from sim2real.randomization import DomainRandomization
from sim2real.spec import Spec, SpecError

STEPS = 25


class Cart(gym.Env[Any, Any]):
    """A cart, a metre from where it should be within STEPS steps, 0.1 s each."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float64)

    def __init__(self) -> None:
        self.values: dict[str, Any] = {"cart.mass": 1.0, "cart.wind": 0.0}
        self.unsupported: dict[str, str] = {}

    def parameters(self) -> dict[str, Parameter]:
        nominal = {"cart.mass": 1.0, "cart.wind": 0.0}
        return {path: Parameter(path, "number", nominal[path], -9, 9) for path in nominal}

    def set_parameters(self, values: Mapping[str, Value]) -> None:
        check(self.parameters(), values)
        self.values.update(values)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.state, self.steps = np.array([self.np_random.uniform(0.9, 1.1), 0.0]), 0
        return self.state.copy(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        force = 1.2 * float(np.clip(action[0], -1, 1)) + self.values["cart.wind"]
        self.state[1] += 0.1 * force / self.values["cart.mass"]
        self.state[0] += 0.1 * self.state[1]
        self.steps += 1
        info = {"is_success": bool(abs(self.state[0]) < 0.3)}
        return self.state.copy(), -abs(self.state[0]), self.steps >= STEPS, False, info


def policy(observation: np.ndarray) -> np.ndarray:
    """Brings a cart of its own weight there, and a lighter one; is too slow for a heavy one."""
    action: np.ndarray = -2.0 * observation[..., :1] - 2.0 * observation[..., 1:]
    return action


WIDE = (
    uniform("cart.mass", 0.5, 6.0, operation="scale"),
    uniform("cart.wind", -0.15, 0.15, operation="add"),
)
CONFIG = Thresholds(low=0.5, high=0.9, queue=5)


def adaptive(ranges: Ranges | None = None, **options: Any) -> AdaptiveRandomization:
    env = DomainRandomization(Cart(), spec(*WIDE))
    start = {path: [at.start, at.start] for path, at in limits(env).items()}
    return AdaptiveRandomization(env, ranges or start, performance="is_success", **options)


def curriculum() -> ADR:
    return ADR(limits(DomainRandomization(Cart(), spec(*WIDE))), CONFIG)


def train(env: AdaptiveRandomization, adr: ADR, episodes: int, seed: int | None = 0) -> None:
    for k in range(episodes):
        observation, _ = env.reset(seed=seed if k == 0 else None)
        ended = False
        while not ended:
            observation, _, ended, _, info = env.step(policy(observation))
            if adr.observe(info):
                env.set_ranges(adr.ranges)


def success(**values: float) -> float:
    """Share of episodes in which the policy gets there with such a cart, else nominal."""
    env = DomainRandomization(Cart(), spec(*WIDE))
    found = []
    for k in range(20):
        exact = {"cart.mass": 1.0, "cart.wind": 0.0}
        exact |= {path.replace("_", "."): value for path, value in values.items()}
        observation, _ = env.reset(seed=k, options={"domain": exact})
        for _ in range(STEPS):
            observation, *_, info = env.step(policy(observation))
        found.append(info["is_success"])
    return float(np.mean(found))


def test_ranges_open_where_the_policy_copes_and_stay_where_it_does_not() -> None:
    adr = curriculum()
    train(adaptive(), adr, 2500)
    copes = {"cart_mass": [0.5, 1.0, 2.0], "cart_wind": [-0.15, 0.15]}
    assert all(success(**{name: v}) > 0.9 for name, values in copes.items() for v in values)
    assert success(cart_mass=6.0) < 0.5
    (light, heavy), wind = adr.ranges["cart.mass"], adr.ranges["cart.wind"]
    assert wind == [-0.15, 0.15]  # all that the spec allows
    assert light == 0.5
    assert 3.5 < heavy < 5.0  # it has gone on to where the policy fails, and come no further
    assert success(cart_mass=heavy + 2 * adr.limits["cart.mass"].step) < 0.9
    assert adr.entropy() == pytest.approx((math.log(heavy - light) + math.log(0.3)) / 2)


def test_the_end_goes_back_when_performance_falls() -> None:
    adr = ADR({"a": Limits(1.0, 0.0, 2.0, 0.25)}, Thresholds(0.2, 0.8, queue=2))
    moved = [adr.record(1, performance) for performance in (1.0, 0.6, 1.0, 1.0)]
    assert moved == [False, True, False, True]  # means of two: 0.8 and 1
    assert adr.ranges == {"a": [1.0, 1.5]}
    assert not adr.record(1, 0.2) | adr.record(1, 0.8)  # between the thresholds
    assert not adr.record(1, 0.2) & adr.record(1, 0.2)
    assert adr.ranges == {"a": [1.0, 1.25]}
    for _ in range(20):
        adr.record(1, 0.0)
    assert adr.ranges == {"a": [1.0, 1.0]}  # no further than nominal
    for _ in range(20):
        adr.record(0, 1.0)
    assert adr.ranges == {"a": [0.0, 1.0]}  # nor than the limit
    assert adr.entropy() == 0.0


def test_the_other_ends_queue_is_untouched() -> None:
    adr = ADR({p: Limits(0.0, -1.0, 1.0, 0.5) for p in "ab"}, Thresholds(0.2, 0.8, queue=2))
    for end in range(4):
        assert not adr.record(end, 1.0)
    assert adr.ranges == {"a": [0.0, 0.0], "b": [0.0, 0.0]}
    assert adr.entropy() == -math.inf
    assert adr.record(2, 1.0)
    assert adr.ranges == {"a": [0.0, 0.0], "b": [-0.5, 0.0]}
    assert adr.queues == [[1.0], [1.0], [], [1.0]]


def test_episodes_are_drawn_within_the_ranges_and_at_their_ends() -> None:
    env = adaptive({"cart.mass": [0.75, 2.0], "cart.wind": [-0.1, 0.2]})
    rows = []
    for k in range(1500):
        _, info = env.reset(seed=0 if k == 0 else None)
        domain = info["domain"]
        rows.append([info["adr"]["end"], domain["cart.mass"], domain["cart.wind"]])
    ends, values = np.array(rows)[:, 0], np.array(rows)[:, 1:]
    assert 0.46 < (ends >= 0).mean() < 0.54
    counts = [(ends == end).sum() for end in range(4)]
    assert min(counts) > 140
    for end, bound in enumerate([0.75, 2.0, -0.1, 0.2]):
        chosen, other = values[ends == end, end // 2], values[ends == end, 1 - end // 2]
        assert (chosen == bound).all()
        assert len(set(other)) == len(other)
    inside = values[ends < 0]
    assert (inside > [0.75, -0.1]).all()
    assert (inside < [2.0, 0.2]).all()
    np.testing.assert_allclose(inside.mean(0), [1.375, 0.05], atol=0.05)
    never = adaptive(boundary_probability=0.0)
    assert all(never.reset()[1]["adr"]["end"] == -1 for _ in range(20))


def test_resuming_from_json_is_exact() -> None:
    whole, half = curriculum(), curriculum()
    env = adaptive()
    train(env, whole, 600)
    train(adaptive(), half, 300)
    text = json.dumps(half.state())
    again = curriculum()
    again.load(json.loads(text))
    assert again.state() == half.state()
    # The 301st episode of the same seed is the next one.
    rest = adaptive(again.ranges)
    rest.randomization.seed, rest.randomization.episode = 0, 299
    train(rest, again, 300, seed=None)
    assert again.state() == whole.state() != half.state()
    assert again.moves


def test_a_state_of_other_parameters_is_refused() -> None:
    adr = curriculum()
    other = ADR({"a": Limits(0.0, 0.0, 1.0, 0.5)}, CONFIG)
    before = adr.state()
    with pytest.raises(ValueError, match=r"ranges are wanted of cart\.mass, cart\.wind"):
        adr.load(other.state())
    with pytest.raises(ValueError, match="the range of"):
        adr.load(before | {"ranges": {"cart.mass": [2.0, 1.0], "cart.wind": [0.0, 0.0]}})
    assert adr.state() == before


def test_history_is_what_a_plot_needs() -> None:
    adr = ADR({p: Limits(1.0, 0.0, 2.0, 0.5) for p in "ab"}, Thresholds(0.2, 0.8, queue=1))
    for end in (1, 2, 1):
        adr.record(end, 1.0)
    adr.record(1, 0.0)
    history = adr.history()
    wanted = [[0, 1, 1], [1, 1, 1.5], [3, 1, 2.0], [4, 1, 1.5], [4, 1, 1.5]]
    np.testing.assert_array_equal(history["a"], wanted)
    np.testing.assert_array_equal(history["b"], [[0, 1, 1], [2, 0.5, 1], [4, 0.5, 1]])


def test_in_a_vector_environment(tmp_path: Path) -> None:
    """Ends of episodes come back from every sub-environment; what is saved goes on exactly."""

    def vector() -> Any:
        return SyncVectorEnv(
            [lambda i=i: Resumable(adaptive(), 3, i) for i in range(4)],  # type: ignore[misc]
            autoreset_mode=AutoresetMode.SAME_STEP,
        )

    def run(envs: Any, adr: ADR, observations: np.ndarray, steps: int) -> np.ndarray:
        for _ in range(steps):
            observations, _, _, _, infos = envs.step(policy(observations))
            if adr.observe(infos):
                envs.call("set_ranges", adr.ranges)
        return observations

    envs, adr = vector(), curriculum()
    observations = run(envs, adr, envs.reset()[0], 2010)  # in the middle of episodes
    assert adr.evaluations > 100
    assert adr.moves
    # The ranges move on while episodes that began with the old ones are under way.
    envs.call("set_ranges", {"cart.mass": [0.6, 1.9], "cart.wind": [-0.1, 0.1]})
    state = {"environments": list(envs.call("snapshot")), "adr": adr.state()}
    save_state(tmp_path, {**state, "observations": observations})
    envs.call("set_ranges", adr.ranges)
    soon = run(envs, adr, observations, 7)  # before the episodes end
    run(envs, adr, soon, 1003)

    again, resumed, loaded = vector(), curriculum(), load_state(tmp_path)
    again.call("restore", loaded["environments"])
    resumed.load(loaded["adr"])
    again.call("set_ranges", resumed.ranges)
    np.testing.assert_array_equal(run(again, resumed, loaded["observations"], 7), soon)
    run(again, resumed, soon, 1003)
    assert resumed.state() == adr.state()


def test_what_can_be_widened() -> None:
    env = DomainRandomization(Cart(), spec(*WIDE, uniform("observation.noise", 0, 1)))
    assert limits(env, steps=10) == {
        "cart.mass": Limits(1.0, 0.5, 6.0, 5.5 / 10),
        "cart.wind": Limits(0.0, -0.15, 0.15, 0.3 / 10),
        "observation.noise": Limits(0.0, 0.0, 1.0, 0.1),
    }
    with pytest.raises(SpecError, match=r"cart\.mass is nominally 1.0, outside of 2 to 3"):
        limits(DomainRandomization(Cart(), spec(uniform("cart.mass", 2.0, 3.0))))
    with pytest.raises(SpecError, match="test draws no number from uniform at a reset"):
        limits(DomainRandomization(Cart(), Spec("test", ())))
    with pytest.raises(ValueError, match="the start must lie between the limits"):
        Limits(0.0, 1.0, 2.0, 0.1)
    with pytest.raises(ValueError, match="low must be below high"):
        Thresholds(1.0, 1.0)
