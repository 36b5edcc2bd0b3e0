"""The Kuka's bin: its spaces, its sameness, and that grasps succeed where they should."""

import hashlib
import math
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pybullet
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_sb3

from envs.robotics import assets, rotations
from envs.robotics.kuka_grasp import GRASP_HEIGHT, OPENING, STRIDE, TURN, KukaGrasp


@pytest.fixture(scope="module")
def env() -> Iterator[KukaGrasp]:
    made = KukaGrasp(objects="held_out_meshes", n_objects=2, image_size=24)
    yield made
    made.close()


def episode(env: KukaGrasp, seed: int) -> list[Any]:
    """Everything that an episode of random actions shows."""
    shown = [env.reset(seed=seed)[0], env.objects()[0][1]]
    rng = np.random.default_rng(seed)
    for _ in range(15):
        picture, reward, terminated, _, info = env.step(rng.uniform(-1, 1, 3))
        shown += [picture, env.flange()[0], np.array([reward, info["is_success"]])]
        if terminated:
            break
    return [*shown, *(np.concatenate(found[1:]) for found in env.objects())]


def digest(shown: list[Any]) -> str:
    return hashlib.sha256(b"".join(np.ascontiguousarray(x).tobytes() for x in shown)).hexdigest()


def full_bin() -> KukaGrasp:
    """With all five objects, as fewer may not touch."""
    return KukaGrasp(objects="held_out_meshes", image_size=16)


def digest_of_an_episode() -> str:
    env = full_bin()
    shown = episode(env, 3)
    env.close()
    return digest(shown)


def test_another_process_and_another_past_give_the_same() -> None:
    root = Path(__file__).resolve().parents[1]
    path = os.pathsep.join([str(root), str(root / "tests"), os.environ.get("PYTHONPATH", "")])
    source = "import test_kuka_grasp as t; print(t.digest_of_an_episode())"
    done = subprocess.run(
        [sys.executable, "-c", source],
        env={**os.environ, "PYTHONPATH": path},
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    env = full_bin()
    env.reset(seed=103)
    rng = np.random.default_rng(3)
    for _ in range(4):  # left in the middle of a movement
        env.step(rng.uniform(-1, 1, 3))
    first = digest(episode(env, 3))
    env.close()
    assert done.stdout.strip() == first


def test_gymnasiums_checks_pass(env: KukaGrasp) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*render.*|.*spec.*|.*unwrapped.*")
        check_env(env, skip_render_check=True)
        warnings.filterwarnings("ignore", message="The minimal resolution")
        check_env_sb3(env)


@pytest.mark.parametrize(
    ("arguments", "action"),
    [
        ({}, [0.0, math.nan, 0.0]),
        ({}, [0.0, math.inf, 0.0]),
        ({}, [0.0, 0.0]),
        ({}, 0.0),
        ({"descent": False}, [0.0, 0.0, 0.0]),
        ({"discrete": True}, 7),
        ({"discrete": True}, -1),
    ],
)
def test_what_is_no_action_is_refused_and_moves_nothing(
    arguments: dict[str, Any], action: Any
) -> None:
    env = KukaGrasp(**arguments)
    env.reset(seed=0)
    before = env.flange()
    with pytest.raises(ValueError, match="an action is"):
        env.step(action)
    np.testing.assert_array_equal(before[0], env.flange()[0])
    env.step(env.action_space.sample())
    env.close()


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ({}, spaces.Box(-1, 1, (3,), np.float32)),
        ({"discrete": True}, spaces.Discrete(7)),
        ({"descent": False}, spaces.Box(-1, 1, (4,), np.float32)),
        ({"discrete": True, "descent": False}, spaces.Discrete(9)),
    ],
)
def test_spaces(arguments: dict[str, Any], wanted: spaces.Space[Any]) -> None:
    made = KukaGrasp(n_objects=1, image_size=16, **arguments)
    assert made.action_space == wanted
    assert made.observation_space == spaces.Box(0, 255, (16, 16, 3), np.uint8)
    made.close()


def moved(env: KukaGrasp, action: Any) -> np.ndarray:
    """Where the target goes, and how far the gripper turns, from the start."""
    env.reset(seed=0)
    start, yaw = env._target.copy(), env._yaw
    env.step(action)
    return np.append(env._target - start, env._yaw - yaw)


def test_numbered_actions_are_those_of_the_table() -> None:
    made = KukaGrasp(n_objects=1, image_size=16, discrete=True)
    s, t = STRIDE, TURN
    for number, wanted in enumerate(
        [
            (0, 0, -s, 0),
            (-s, 0, -s, 0),
            (s, 0, -s, 0),
            (0, -s, -s, 0),
            (0, s, -s, 0),
            (0, 0, -s, -t),
            (0, 0, -s, t),
        ]
    ):
        np.testing.assert_allclose(moved(made, number), wanted, atol=1e-12)
    made.close()
    made = KukaGrasp(n_objects=1, image_size=16, discrete=True, descent=False)
    for number, wanted in (
        (0, (0, 0, 0, 0)),
        (5, (0, 0, -s, 0)),
        (6, (0, 0, s, 0)),
        (8, (0, 0, 0, t)),
    ):
        np.testing.assert_allclose(moved(made, number), wanted, atol=1e-12)
    made.close()


def test_gripper_goes_where_it_is_sent_and_points_down(env: KukaGrasp) -> None:
    env.reset(seed=0)
    for _ in range(3):
        env.step(np.array([0.5, -1.0, 0.0]))
    position, quaternion = env.flange()
    wanted = (0.537 + 1.5 * STRIDE, -3 * STRIDE, 0.5 - 3 * STRIDE)
    np.testing.assert_allclose(position, wanted, atol=0.01)
    np.testing.assert_allclose(rotations.rotate(quaternion, (0, 0, 1)), (0, 0, -1), atol=0.02)
    for _ in range(3):  # and not further than it reaches
        env.step(np.array([1.0, -1.0, 0.0]))
    assert env.flange()[0][0] < 0.76
    assert env.flange()[0][1] > -0.23


def test_episode_ends_with_the_attempt_not_before(env: KukaGrasp) -> None:
    env.reset(seed=3)
    heights: list[float] = []
    for _ in range(15):
        _, reward, terminated, truncated, info = env.step(np.zeros(3))
        assert not truncated
        assert info["attempted"] == terminated
        assert reward == float(terminated and info["is_success"])
        if terminated:
            break
        heights.append(env.flange()[0][2])
    assert len(heights) == 6  # 0.5 m to 0.1 m by 6 cm
    assert min(heights) > GRASP_HEIGHT
    assert env._opening == 0.0
    assert env.flange()[0][2] > 0.5  # lifted
    env.reset(seed=3)
    assert env._opening == OPENING


def test_a_grasp_at_an_objects_middle_lifts_it() -> None:
    """Scripted grasps across the narrow side: 18 of 20 succeeded when this was measured."""
    made = KukaGrasp(objects="held_out_meshes", image_size=16)
    assert sum(scripted(made, seed) for seed in range(4)) >= 3
    made.close()


def test_closing_beside_the_objects_earns_nothing(env: KukaGrasp) -> None:
    for seed in range(2):
        env.reset(seed=seed)
        for _, uid in env._objects:  # all into a corner that the gripper does not reach
            pybullet.resetBasePositionAndOrientation(
                uid, [0.42, 0.26, -0.1], [0, 0, 0, 1], env._client
            )
        for _ in range(15):
            _, reward, terminated, _, info = env.step(np.array([1.0, -1.0, 0.0]))
            if terminated:
                break
        assert (reward, info["is_success"], info["attempted"]) == (0.0, False, True)


def test_what_is_high_up_earns_nothing_before_the_attempt(env: KukaGrasp) -> None:
    env.reset(seed=0)
    uid = env._objects[0][1]
    pybullet.resetBasePositionAndOrientation(uid, [0.2, 0.5, 2.0], [0, 0, 0, 1], env._client)
    _, reward, terminated, _, info = env.step(np.zeros(3))
    assert (reward, terminated, info["is_success"]) == (0.0, False, True)


def scripted(env: KukaGrasp, seed: int) -> float:
    """The reward for closing across the narrow side of the object nearest to the reach's middle."""
    env.reset(seed=seed)
    mesh, position, quaternion = min(
        env.objects(), key=lambda found: float(np.linalg.norm(found[1][:2] - (0.6, 0.0)))
    )
    vertices = assets.RANDOM_MESH_SCALE * assets.mesh_vertices(mesh)
    points = (vertices @ rotations.matrix(quaternion).T + position)[:, :2]
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    angles = np.arange(-1.55, 1.55, 0.05)
    widths = [np.ptp(points @ (np.cos(angle), -np.sin(angle))) for angle in angles]
    yaw = angles[int(np.argmin(widths))]
    tips = np.array([0.0, 0.024])  # of the fingers, beside the flange
    reward, terminated = 0.0, False
    while not terminated:
        way = (middle - tips - env._target[:2]) / STRIDE
        action = np.array([*way, (yaw - env._yaw) / TURN]).clip(-1, 1)
        _, reward, terminated, _, _ = env.step(action)
    return reward


def test_pools_of_objects() -> None:
    made = KukaGrasp(objects="held_out_meshes", n_objects=5, image_size=16)
    made.reset(seed=1)
    names = [mesh.stem for mesh, _, _ in made.objects()]
    assert len(set(names)) == 5
    assert all(name.endswith("0") for name in names)
    for _, position, _ in made.objects():
        assert -0.2 < position[2] < 0.0  # in the tray
    made.close()
    made = KukaGrasp(objects="training_meshes", n_objects=2, image_size=16)
    made.reset(seed=1)
    assert not any(mesh.stem.endswith("0") for mesh, _, _ in made.objects())
    made.close()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"objects": "all"}, "training_meshes, held_out_meshes, not 'all'"),
        ({"n_objects": 0}, "1 to 900"),
        ({"objects": "held_out_meshes", "n_objects": 101}, "1 to 100"),
        ({"render_mode": "human"}, "'rgb_array', not 'human'"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KukaGrasp(**arguments)


def test_pictures(env: KukaGrasp) -> None:
    picture, _ = env.reset(seed=0)
    assert (picture.shape, picture.dtype) == ((24, 24, 3), np.uint8)
    assert picture.std() > 20
    assert env.render() is None
    later, *_ = env.step(np.array([0.0, 0.0, 0.0]))
    assert (later != picture).any()


def test_closing_twice_is_fine_and_leaves_no_file_open() -> None:
    KukaGrasp(n_objects=1, image_size=16).close()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(2):
        made = KukaGrasp(n_objects=1, image_size=16, render_mode="rgb_array")
        made.reset(seed=0)
        picture = made.render()
        assert picture is not None
        assert picture.shape == (256, 256, 3)
        made.close()
        made.close()
    assert len(os.listdir("/proc/self/fd")) == before
