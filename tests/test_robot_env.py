"""Robot, task and engine as a Gymnasium environment."""

import gc
import hashlib
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AsyncVectorEnv
from stable_baselines3.common.env_checker import check_env as check_env_sb3

from envs import make_resumable, make_vec
from envs.robotics.kinematics import displacement, rotation_between
from envs.robotics.parameters import ParameterError
from envs.robotics.registration import ENGINES, TASKS
from envs.vector import Vectorization

ROOT = Path(__file__).resolve().parents[1]
IDS = [f"{engine}/{name}" for engine in ENGINES for name in TASKS]
GOALS = [id_ for id_ in IDS if "Panda" in id_]
drawing = pytest.mark.skipif("MUJOCO_GL" not in os.environ, reason="no OpenGL to draw with")


def actions(env: gym.Env[Any, Any], count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    assert env.action_space.shape is not None
    return list(rng.uniform(-1, 1, (count, *env.action_space.shape)).astype(np.float32))


def episode(env: gym.Env[Any, Any], seed: int | None, steps: int = 12) -> bytes:
    """Everything that an episode gives, as bytes."""
    observation, _ = env.reset(seed=seed)
    parts = [observation]
    for action in actions(env, steps):
        observation, reward, terminated, _, _ = env.step(action)
        parts += [observation, {"reward": np.float64(reward)}]
        if terminated:
            break
    flat = [part if isinstance(part, dict) else {"": part} for part in parts]
    return b"".join(np.asarray(array).tobytes() for part in flat for array in part.values())


@pytest.mark.parametrize("env_id", IDS)
@drawing
def test_the_checkers_find_nothing(env_id: str) -> None:
    env = gym.make(env_id, render_mode="rgb_array")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*infinity.*")  # goals have no bounds
        warnings.filterwarnings("ignore", message=".*different from the unwrapped version.*")
        warnings.filterwarnings("ignore", message=".*symmetric and normalized.*")
        check_env(env.unwrapped)
        check_env_sb3(env.unwrapped)
    env.close()


def test_import_envs_imports_no_engine() -> None:
    source = "import sys, envs; print([m for m in ('pybullet', 'mujoco') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def digest(env_id: str) -> str:
    env = gym.make(env_id)
    first = [episode(env, seed) for seed in (5, None)]
    env.close()
    return hashlib.sha256(b"".join(first)).hexdigest()


@drawing
def test_another_process_gives_the_same_to_the_last_bit() -> None:
    path = os.pathsep.join([str(ROOT / "tests"), str(ROOT / "scripts"), str(ROOT)])
    source = f"import test_robot_env as t\nfor i in {IDS}: print(t.digest(i))"
    done = subprocess.run(
        [sys.executable, "-c", source],
        env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "7"},
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.split() == [digest(env_id) for env_id in IDS]


@pytest.mark.parametrize("env_id", GOALS)
def test_an_episode_does_not_depend_on_the_one_before(env_id: str) -> None:
    env = gym.make(env_id)
    first = episode(env, 5)
    episode(env, 6, steps=20)
    assert episode(env, 5) == first
    assert episode(env, 6) != first
    env.close()


@pytest.mark.parametrize("env_id", ["bullet/PandaPush-v0", "mujoco/PandaGrasp-v0"])
def test_resuming_in_the_middle_of_an_episode_is_bit_exact(env_id: str) -> None:
    env, other = (make_resumable(env_id, seed=1, index=0) for _ in range(2))
    env.reset()
    moves = actions(env, 70)
    for action in moves[:60]:
        if env.step(action)[3]:
            env.reset()
    other.restore([env.snapshot()])
    for action in moves[60:]:
        mine, theirs = env.step(action), other.step(action)
        assert mine[1] == theirs[1]
        for key in mine[0]:
            np.testing.assert_array_equal(mine[0][key], theirs[0][key])
    env.close()
    other.close()


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_vector_environments(vectorization: Any) -> None:
    vector = make_vec("mujoco/PandaReach-v0", 2, 0, vectorization)
    observation, _ = vector.reset()
    assert observation["observation"].shape == (2, 6)
    assert vector.step(vector.action_space.sample())[1].shape == (2,)
    vector.close()


@drawing
@pytest.mark.parametrize("engine", ENGINES)
def test_processes_draw_after_this_one_has_drawn(engine: str) -> None:
    """As when the ways to vectorize are measured one after the other."""
    pictures = []
    ways: tuple[Vectorization, ...] = ("sync", "async")
    for vectorization in ways:
        vector = make_vec(f"{engine}/TableLocalise-v0", 2, 0, vectorization)
        if isinstance(vector, AsyncVectorEnv):
            vector.reset_async()
            pictures.append(vector.reset_wait(timeout=60)[0])
        else:
            pictures.append(vector.reset()[0])
        vector.close()
    np.testing.assert_array_equal(*pictures)


@pytest.mark.parametrize("reward", ["dense", "sparse"])
def test_rewards_are_those_of_the_goals_and_vectorize(reward: Any) -> None:
    env: Any = gym.make("mujoco/PandaReach-v0", reward=reward).unwrapped
    env.reset(seed=0)
    rows = [env.step(action) for action in actions(env, 15)]
    achieved = np.array([row[0]["achieved_goal"] for row in rows])
    desired = np.array([row[0]["desired_goal"] for row in rows])
    rewards = np.array([row[1] for row in rows])
    np.testing.assert_allclose(env.compute_reward(achieved, desired, {}), rewards)
    distance = np.linalg.norm(achieved - desired, axis=1)
    wanted = -distance if reward == "dense" else np.where(distance > 0.05, -1.0, 0.0)
    np.testing.assert_allclose(rewards, wanted)
    near = desired + np.array([0.03, 0.0, 0.0])
    assert env.compute_reward(near, desired, {}).tolist() == pytest.approx(
        [-0.03] * 15 if reward == "dense" else [0.0] * 15
    )
    env.close()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("control", ["end_effector", "joints"])
def test_actions_move_what_they_say(engine: str, control: Any) -> None:
    env: Any = gym.make(f"{engine}/PandaReach-v0", control=control).unwrapped
    env.reset(seed=0)
    axes = range(3) if control == "end_effector" else range(7)
    for axis in axes:
        env.reset(seed=0)
        before = env.engine.tool()[0] if control == "end_effector" else env.engine.joints()[0][:7]
        before, action = before.copy(), np.zeros(env.action_space.shape)
        action[axis] = -1.0
        for _ in range(3):
            env.step(action)
        after = env.engine.tool()[0] if control == "end_effector" else env.engine.joints()[0][:7]
        moved = after - before
        # Steps follow on each other before the drive has closed the error: about two thirds.
        assert -0.15 < moved[axis] < -0.07
        # A joint's start jerks the next ones, of which the wrist's have 12 N m to stand up to it.
        assert np.abs(np.delete(moved, axis)).max() < 0.03
    env.close()


@pytest.mark.parametrize("engine", ENGINES)
def test_the_tool_keeps_pointing_down(engine: str) -> None:
    env: Any = gym.make(f"{engine}/PandaReach-v0").unwrapped
    env.reset(seed=0)
    for action in actions(env, 40):
        env.step(action)
        _, quaternion, _ = env.engine.tool()
        assert np.linalg.norm(rotation_between(quaternion, np.array([1.0, 0, 0, 0]))) < 0.15
    env.close()


def test_rotation_between() -> None:
    turn = np.array([0.0, 0.0, np.sin(0.05), np.cos(0.05)])
    found = rotation_between(np.array([0.0, 0.0, 0.0, 1.0]), turn)
    np.testing.assert_allclose(found, (0, 0, 0.1), rtol=1e-3)
    np.testing.assert_allclose(rotation_between(np.array([0.0, 0.0, 0.0, -1.0]), turn), found)
    np.testing.assert_allclose(rotation_between(turn, turn), 0, atol=1e-12)


def test_damped_least_squares_reaches_where_it_can_and_stays_small_where_it_cannot() -> None:
    rng = np.random.default_rng(0)
    jacobian = rng.normal(size=(6, 7))
    down = np.array([1.0, 0.0, 0.0, 0.0])
    step = np.array([0.01, -0.02, 0.03])
    error = jacobian @ displacement(jacobian, step, down, down)
    np.testing.assert_allclose(error, [*step, 0, 0, 0], atol=1e-5)
    jacobian[2] = 0.0  # nothing moves it along z
    assert np.linalg.norm(displacement(jacobian, step, down, down)) < 1.0


@drawing
@pytest.mark.parametrize("engine", ENGINES)
def test_pictures(engine: str) -> None:
    env = gym.make(f"{engine}/PandaReach-v0", observation="both", image_size=48)
    observation, _ = env.reset(seed=0)
    assert set(observation) == {"observation", "achieved_goal", "desired_goal", "image", "depth"}
    assert (observation["image"].shape, observation["image"].dtype) == ((48, 48, 3), np.uint8)
    assert observation["depth"].shape == (48, 48, 1)
    assert env.observation_space.contains(observation)
    moved = env.step(np.ones(3, np.float32))[0]
    assert (moved["image"] != observation["image"]).any()
    assert (moved["depth"] != observation["depth"]).any()
    env.close()
    env = gym.make(f"{engine}/PandaReach-v0", observation="pixels")
    assert set(env.reset(seed=0)[0]) == {"achieved_goal", "desired_goal", "image", "depth"}
    env.close()
    for mode, dtype in (("rgb_array", np.uint8), ("depth_array", np.float32)):
        env = gym.make(f"{engine}/PandaReach-v0", render_mode=mode, render_size=(64, 48))
        env.reset(seed=0)
        picture: Any = env.render()
        assert picture.dtype == dtype
        assert picture.shape[:2] == (48, 64)
        assert len(np.unique(picture)) > 10
        env.close()
    env = gym.make(f"{engine}/PandaReach-v0", render_mode="segmentation_array")
    env.reset(seed=0)
    assert set(np.unique(env.render())) >= {-1, 1, 2, 3}  # type: ignore[arg-type]
    env.close()


@pytest.mark.parametrize("env_id", ["bullet/PandaPush-v0", "mujoco/PandaPush-v0"])
def test_parameters(env_id: str) -> None:
    env: Any = gym.make(env_id).unwrapped
    first = episode(env, 0)
    assert {"control.substeps", "body.object.mass", "world.gravity"} <= set(env.parameters())
    env.set_parameters({"control.substeps": 10, "body.object.mass": 0.5})
    assert episode(env, 0) != first
    for values, word in (
        ({"control.substeps": 0}, "lies in"),
        ({"control.substeps": 1.5}, "integer"),
        ({"body.objekt.mass": 1.0}, "nearest: body.object.mass"),
    ):
        with pytest.raises(ParameterError, match=word):
            env.set_parameters({"control.substeps": 20, **values})
    env.set_parameters({"control.substeps": 20, "body.object.mass": 0.1})
    assert episode(env, 0) == first
    env.close()


def test_bad_arguments_say_what_is_right() -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"observation": "sound"}, "state, pixels, both"),
        ({"control": "mind"}, "end_effector, joints"),
        ({"reward": "none"}, "dense, sparse"),
        ({"target": "teapot"}, "cone, cube"),
        ({"engine": "chrono"}, "bullet or mujoco"),
    ]
    for kwargs, word in cases:
        with pytest.raises(ValueError, match=word):
            gym.make("mujoco/PandaPush-v0", **kwargs)
    with pytest.raises(ValueError, match="shapes, training_meshes, held_out_meshes"):
        gym.make("mujoco/TableLocalise-v0", distractors="cats")


@pytest.mark.parametrize("engine", ENGINES)
def test_bad_actions_are_refused_and_leave_no_trace(engine: str) -> None:
    env: Any = gym.make(f"{engine}/PandaPush-v0").unwrapped
    first = episode(env, 0)
    for action in ([np.nan, 0, 0], [np.inf, -np.inf, 0], [0, 0], [0, 0, 0, 0]):
        with pytest.raises(ValueError, match="finite numbers"):
            env.step(np.array(action))
    assert episode(env, 0) == first
    env.close()


@drawing
@pytest.mark.parametrize(
    ("env_id", "arguments", "megabytes"),
    [
        ("bullet/PandaReach-v0", {"render_size": (32, 32)}, 2),
        ("bullet/TableLocalise-v0", {"image_size": 32}, 2),
        ("mujoco/PandaReach-v0", {"render_size": (32, 32)}, 15),  # OpenGL's own, of any context
    ],
)
def test_nothing_is_left_after_closing(
    env_id: str, arguments: dict[str, Any], megabytes: int
) -> None:
    """Of 15 cycles; ``runkit.robot_cycles`` makes a thousand."""

    def cycle() -> None:
        env = gym.make(env_id, render_mode="rgb_array", **arguments)
        env.reset(seed=0)
        env.render()
        env.close()

    def used() -> tuple[int, int, int]:
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        memory = pages * os.sysconf("SC_PAGE_SIZE")
        return memory, len(os.listdir("/proc/self/fd")), len(gc.get_objects())

    for _ in range(5):
        cycle()
    before = used()
    for _ in range(15):
        cycle()
    after = used()
    assert after[1] <= before[1]
    assert after[0] - before[0] < megabytes * 1e6
    assert after[2] - before[2] < 10 * 15
