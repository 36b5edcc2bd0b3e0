"""Policies elsewhere: what shifts change, that seeds pair up, and what is left of a score."""

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from runkit.errors import UserError
from runkit.transfer import dynamics

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


def _record(folder: Path, name: str, env_id: str, **fields: Any) -> None:
    told = fields.pop("told", True)
    shifts = [
        {
            "kind": kind,
            "amount": amount,
            "env_id": env_id,
            "returns": returns,
            "successes": [r > 0 for r in returns] if told else None,
        }
        for kind, amount, returns in fields.pop("shifts")
    ]
    record: dict[str, Any] = {
        "algorithm": "sac",
        "env_id": env_id,
        "randomization": None,
        "seed": 0,
    }
    record |= {"steps": 1000, "shifts": shifts, **fields}
    (folder / "dynamics").mkdir(exist_ok=True)
    (folder / "dynamics" / f"{name}.json").write_text(json.dumps(record))


def test_a_table_a_task_with_a_row_a_shift_and_a_column_a_run(tmp_path: Path) -> None:
    nominal = ("nominal", 0.0, [1.0] * 10)
    late = ("latency", 2.0, [1.0] * 5 + [-1.0] * 5)
    _record(tmp_path, "a", "bullet/Reach-v0", shifts=[nominal, late])
    heavy = ("mass", 1.5, [1.0] * 9 + [-1.0])
    _record(tmp_path, "b", "mujoco/Reach-v0", shifts=[nominal, heavy], randomization="all", seed=3)
    runs = [("nominal", 0.0, [200.0] * 4), ("friction", 0.5, [50.0] * 4)]
    _record(tmp_path, "c", "Runs-v4", shifts=runs, told=False, steps=20_000)
    reach, run = dynamics.table_of(tmp_path).split("\n\n")
    head, _, *rows = reach.splitlines()
    runs_of = ["bullet, nominal, 1,000 steps, seed 0", "mujoco, all, 1,000 steps, seed 3"]
    assert [cell.strip() for cell in head.strip("|").split("|")] == ["SAC, Reach-v0", *runs_of]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert [row[0] for row in cells] == ["none", "latency 2 steps", "mass × 1.5"]
    assert cells[0][1].startswith("100% [")
    assert "%; " not in cells[0][1]
    assert cells[1][1].startswith("50% [")
    assert "]; 50% [" in cells[1][1]
    assert cells[1][2] == "-"
    assert cells[2][2].startswith("90% [")
    assert run.splitlines()[0] == "| SAC, Runs-v4 | nominal, 20,000 steps, seed 0 |"
    assert run.splitlines()[3] == "| friction × 0.5 | 50 [50, 50]; 25% [25, 25] |"


@pytest.mark.parametrize("text", ["[]", "{", '{"env_id": "A-v0"}'])
def test_a_damaged_record_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "dynamics").mkdir()
    (tmp_path / "dynamics" / "a.json").write_text(text)
    with pytest.raises(UserError, match=r"a\.json is damaged"):
        dynamics.table_of(tmp_path)
