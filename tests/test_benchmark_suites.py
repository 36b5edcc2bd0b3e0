"""Suites as data: what comes with the project is sound, what is wrong is one line."""

from pathlib import Path

import benchmark
import pytest
from benchmarks import TINY, task, write_suite
from command import assert_error, run

from runkit.benchmark.hpo import _initial, space_of
from runkit.benchmark.speed import SpeedSuite
from runkit.benchmark.suite import COMPARABLE, load_suite, suite_names
from runkit.errors import UserError

from agents import config_from_json
from agents.presets import find_preset

SUITES = [name for name in suite_names() if name != "speed"]


def test_the_suites_that_come_with_the_project() -> None:
    assert suite_names() == ["bullet", "classic", "mujoco", "smoke", "speed"]
    pairs = {(task.algorithm, task.env_id, task.seeds) for task in load_suite("classic").tasks}
    assert pairs == {
        ("dqn", "CartPole-v1", 10),
        ("a2c", "CartPole-v1", 10),
        ("dqn", "LunarLander-v3", 10),
        ("a2c", "LunarLander-v3", 10),
        ("sac", "Pendulum-v1", 5),
        ("ddpg", "Pendulum-v1", 5),
    }
    mujoco = {(t.algorithm, t.env_id, t.total_steps) for t in load_suite("mujoco").tasks}
    assert mujoco == {
        (algorithm, f"{robot}-v4", steps)
        for algorithm in ("sac", "ddpg")
        for robot in ("HalfCheetah", "Hopper", "Walker2d", "Ant")
        for steps in (100_000, 300_000, 1_000_000)
    }
    assert {entry.algorithm for entry in SpeedSuite.load().tasks} == set(COMPARABLE)


@pytest.mark.parametrize("name", SUITES)
def test_every_task_has_a_preset_and_whole_evaluations(name: str) -> None:
    for entry in load_suite(name).tasks:
        preset = find_preset(entry.algorithm, entry.env_id)
        assert "no preset" not in preset.source, entry.key
        assert entry.eval_every * entry.evaluations == entry.total_steps
        assert entry.eval_every % entry.n_envs == 0, "an evaluation would come a step too late"
        assert preset.n_envs == entry.n_envs


@pytest.mark.parametrize("algorithm", COMPARABLE)
def test_a_search_begins_with_the_suites_own_values(algorithm: str) -> None:
    env_id = "CartPole-v1" if algorithm in ("a2c", "dqn") else "Pendulum-v1"
    of = task(algorithm=algorithm, env_id=env_id)
    initial = _initial(of)
    for name, spec in space_of(algorithm).items():
        if "choice" in spec:
            assert initial[name] in spec["choice"], name
    values = {k: v for k, v in initial.items() if k not in ("n_envs", "hidden_sizes")}
    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(of.config()).items()}
    changed = plain | values
    if algorithm == "a2c":  # the zoo's 0 has no logarithm
        assert changed.pop("entropy_coefficient") == 1e-6
        changed["entropy_coefficient"] = 0.0
    assert config_from_json(algorithm, changed) == of.config()


def test_cells_are_ordered_so_that_the_arms_alternate(tmp_path: Path) -> None:
    suite = load_suite(str(write_suite(tmp_path, **{"seeds = 1": "seeds = 2"})))
    cells = [(cell.arm, cell.seed) for cell in suite.cells()]
    assert cells == [(a, s) for s in (0, 1) for a in ("firsthand", "stable_baselines3")]
    assert len(suite.cells(seeds=5)) == 10


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("band = 0.1", "band = 0", "band must be positive"),
        ("band = 0.1", "bond = 0.1", "unknown bond"),
        ("band = 0.1", "", "lacks 'band'"),
        ('title = "Tiny"', "title =", "Invalid value"),
        ('"a2c"', '"ppo"', "task 1: algorithm 'ppo'"),
        ("= 400", "= 0", "task 1: total_steps"),
        ("= 400", "= 401", "2 evaluations do not divide 401"),
        ("seeds = 1", 'seeds = "1"', "task 1: seeds"),
        ("[20, 500]", "[500, 20]", "scale must rise"),
        ("[20, 500]", "[20]", "task 1"),
        ('"defaults"', '"mine"', 'is "zoo" or "defaults"'),
        ("evaluations = 2", "evaluation = 2", "unknown evaluation"),
        ("scale = [20, 500]", "", "lacks 'scale'"),
    ],
)
def test_a_wrong_suite_is_one_line(tmp_path: Path, old: str, new: str, words: str) -> None:
    file = write_suite(tmp_path, **{old: new})
    out = tmp_path / "out"
    assert_error(run(benchmark.main, file, "--out", out), "tiny.toml", words)
    assert not out.exists()


def test_a_task_that_is_there_twice(tmp_path: Path) -> None:
    file = write_suite(tmp_path, TINY + TINY[TINY.index("[[tasks]]") :])
    with pytest.raises(UserError, match="more than once"):
        load_suite(str(file))


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["clasic"], "there is: bullet, classic, mujoco, smoke, speed"),
        (["nowhere/suite.toml"], "no suite"),
        (["smoke", "--tasks", "ppo*"], "no task of smoke matches 'ppo*'; there is: dqn-CartPole"),
        (["smoke", "--jobs", "-1"], "jobs must not be negative"),
        (["smoke", "--seeds", "0"], "seeds must lie in"),
        (["smoke", "--job", "2"], "--job"),
        (["smoke", "--hpo"], "--hpo searches for one task: give --tasks one of dqn-CartPole"),
        (["smoke", "--hpo", "--trials", "0"], "trials must be positive"),
    ],
)
def test_a_wrong_command_is_one_line(tmp_path: Path, args: list[str], words: str) -> None:
    out = tmp_path / "out"
    assert_error(run(benchmark.main, *args, "--out", out), words)
    assert not out.exists()
