"""Policies elsewhere: what shifts change, that seeds pair up, and what is left of a score."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from agents import SAC, SACConfig
from sim2real.dynamics import Episodes, Shift, evaluate, grid, play, retention, shifted
from sim2real.spec import SpecError

CHEETAH = "HalfCheetah-v4"


class Pushes:
    """A policy that always pushes alike, and forgets nothing it is told."""

    def __init__(self, action: float) -> None:
        self.action = action
        self.firsts: list[bool] = []

    def predict(
        self, observation: Any, state: Any, episode_start: np.ndarray, deterministic: bool
    ) -> tuple[np.ndarray, Any]:
        assert deterministic
        self.firsts.append(bool(episode_start[0]))
        return np.full(6, self.action, np.float32), state


class Counts(gym.Env[Any, Any]):
    """Four steps; the reward is the seed's last digit, success if that is even."""

    observation_space = gym.spaces.Box(0, 1, (1,))
    action_space = gym.spaces.Box(-1, 1, (6,))

    def __init__(self, tells: bool) -> None:
        self.tells = tells

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        assert seed is not None
        self.seed, self.left = seed, 4
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        self.left -= 1
        info = {"is_success": self.seed % 2 == 0 and self.left == 0} if self.tells else {}
        return np.zeros(1, np.float32), self.seed % 10, False, self.left == 0, info


def test_episodes_are_played_to_their_end() -> None:
    policy: Any = Pushes(0.0)
    episodes = play(policy, Counts(tells=False), [3, 14, 5])
    assert episodes.returns.tolist() == [12, 16, 20]
    assert episodes.successes is None
    assert episodes.score().value == 16
    assert policy.firsts == 3 * [True, False, False, False]


def test_success_is_the_score_where_there_is_one() -> None:
    policy: Any = Pushes(0.0)
    episodes = play(policy, Counts(tells=True), [3, 14, 5, 6])
    assert episodes.scores.tolist() == [0, 1, 0, 1]
    assert episodes.score().value == 0.5
    assert 0.1 < episodes.score().low < 0.2  # Wilson's of 2 in 4


def test_what_is_left_is_a_ratio_in_pairs() -> None:
    nominal = Episodes(np.array([100.0, 200.0, 300.0]), None)
    halved = Episodes(nominal.returns / 2, None)
    left = retention(nominal, halved)
    assert (left.value, left.low, left.high) == pytest.approx((0.5, 0.5, 0.5))
    nothing = Episodes(np.zeros(3), np.zeros(3, bool))
    assert retention(nominal, nothing).value == 0
    with pytest.raises(ValueError, match="no share"):
        retention(nothing, nominal)
    with pytest.raises(ValueError, match="equally many"):
        retention(nominal, Episodes(np.ones(2), None))


def test_the_grid_of_a_mujoco_environment() -> None:
    shifts = grid(CHEETAH, masses=(0.5,), frictions=(2.0,), latencies=(1, 3))
    assert [(s.kind, s.amount) for s in shifts] == [
        ("nominal", 0),
        ("mass", 0.5),
        ("friction", 2.0),
        ("latency", 1),
        ("latency", 3),
    ]
    assert all(shift.env_id is None for shift in shifts)


@pytest.mark.parametrize(("engine", "other"), [("bullet", "mujoco"), ("mujoco", "bullet")])
def test_a_robot_is_also_tried_in_the_other_engine(engine: str, other: str) -> None:
    shifts = grid(f"{engine}/PandaReach-v0")
    assert shifts[-1] == Shift("engine", 0.0, env_id=f"{other}/PandaReach-v0")


def test_masses_and_friction_are_shifted() -> None:
    nominal, mass, friction, _ = grid(CHEETAH, (1.5,), (0.25,), (2,))
    models = []
    for shift in (nominal, mass, friction):
        env = shifted(CHEETAH, shift)
        env.reset(seed=0)
        model = env.get_wrapper_attr("model")
        models.append((model.body_mass[1:].copy(), model.geom_friction[:, 0].copy()))
        env.close()
    np.testing.assert_allclose(models[1][0], 1.5 * models[0][0])
    np.testing.assert_allclose(models[1][1], models[0][1])
    np.testing.assert_allclose(models[2][1], 0.25 * models[0][1])
    np.testing.assert_allclose(models[2][0], models[0][0])


def test_an_action_comes_late() -> None:
    """By two steps: as if the first two actions had been 0."""
    late = shifted(CHEETAH, grid(CHEETAH, (), (), (2,))[1])
    plain = shifted(CHEETAH, Shift("nominal", 0.0))
    late.reset(seed=0)
    plain.reset(seed=0)
    actions = np.random.default_rng(0).uniform(-1, 1, (5, 6)).astype(np.float32)
    for step in range(5):
        sent = actions[step - 2] if step >= 2 else np.zeros(6, np.float32)
        np.testing.assert_array_equal(late.step(actions[step])[0], plain.step(sent)[0])
    late.close()
    plain.close()


def test_every_shift_plays_the_same_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    policy: Any = Pushes(0.1)
    monkeypatch.setattr("sim2real.dynamics.make_env", lambda *_: Counts(tells=False))
    shifts = [Shift("nominal", 0.0), Shift("latency", 1, grid(CHEETAH)[-1].tables)]
    one, other = (evaluate(policy, "any", shift, 3, seed=21) for shift in shifts)
    assert one.returns.tolist() == other.returns.tolist() == [4, 8, 12]


def test_a_shift_of_what_is_not_there_is_an_error() -> None:
    table = {"path": "body.wing.mass", "distribution": {"kind": "constant", "value": 1.0}}
    with pytest.raises(SpecError, match=r"body\.wing\.mass.*nearest"):
        shifted(CHEETAH, Shift("mass", 1.0, (table,)))


def test_a_trained_agent_plays(monkeypatch: pytest.MonkeyPatch) -> None:
    env = gym.make("Pendulum-v1")
    agent = SAC(env.observation_space, env.action_space, SACConfig(hidden_sizes=(8,)), seed=0)
    played = [play(agent, env, [0, 1]) for _ in range(2)]
    env.close()
    np.testing.assert_array_equal(played[0].returns, played[1].returns)
    assert (played[0].returns < 0).all()
