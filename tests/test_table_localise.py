"""TableLocalise: where things are in the picture, and what the environment says of it."""

import os
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from envs.robotics import objects
from envs.robotics.registration import ENGINES
from envs.robotics.tasks.localise import CAMERA, LIGHTS

pytestmark = pytest.mark.skipif("MUJOCO_GL" not in os.environ, reason="no OpenGL to draw with")


def make(engine: str, **kwargs: Any) -> Any:
    return gym.make(f"{engine}/TableLocalise-v0", **kwargs).unwrapped


def project(point: np.ndarray, size: int) -> np.ndarray:
    """Column and row of a point in the nominal camera's picture."""
    position, target = np.array(CAMERA.position), np.array(CAMERA.target)
    ahead = (target - position) / np.linalg.norm(target - position)
    right = np.cross(ahead, CAMERA.up)
    right /= np.linalg.norm(right)
    up = np.cross(right, ahead)
    offset = point - position
    scale = size / 2 / np.tan(np.deg2rad(CAMERA.fov / 2)) / (offset @ ahead)
    return np.array([size / 2 + scale * (offset @ right), size / 2 - scale * (offset @ up)])


@pytest.mark.parametrize("engine", ENGINES)
def test_the_object_is_seen_where_info_says(engine: str) -> None:
    env = make(engine, image_size=160)
    for seed in range(4):
        picture, info = env.reset(seed=seed)
        red = (picture[..., 0].astype(int) - picture[..., 1]) > 60
        rows, columns = np.nonzero(red)
        found = np.array([columns.mean() + 0.5, rows.mean() + 0.5])
        np.testing.assert_allclose(found, project(info["position"], 160), atol=3)
    env.close()


@pytest.mark.parametrize("engine", ENGINES)
def test_positions_cover_the_table_and_objects_keep_apart(engine: str) -> None:
    env = make(engine, image_size=32)
    env.set_parameters({"task.distractors": 6})
    positions = []
    for seed in range(25):
        _, info = env.reset(seed=seed)
        positions.append(info["position"])
        shown = [b for b in env.scene.bodies if b.name.startswith("distractor")]
        places = [(env.engine.pose(b.name)[0], objects.reach(b.shape)) for b in shown]
        places = [(p[:2], r) for p, r in places if p[2] > -1]
        assert len(places) == 6
        places.append((info["position"][:2], objects.reach(objects.shape("cube"))))
        for i, (p, r) in enumerate(places):
            for q, s in places[:i]:
                assert np.linalg.norm(p - q) > r + s
    spread = np.ptp(positions, axis=0)
    margin = objects.reach(objects.shape("cube"))
    assert (spread[:2] > 0.8 * ((np.array(env.high) - env.low)[:2] - 2 * margin)).all()
    env.close()


def test_both_engines_have_the_same_episodes() -> None:
    mine, theirs = (make(engine, distractors="held_out_meshes") for engine in ENGINES)
    for env in (mine, theirs):
        env.set_parameters({"task.distractors": 4})
    a, b = mine.reset(seed=3), theirs.reset(seed=3)
    np.testing.assert_array_equal(a[1]["position"], b[1]["position"])
    frames = [env.engine.render("main", 112, 112) for env in (mine, theirs)]
    assert (frames[0].segmentation == frames[1].segmentation).mean() > 0.98
    assert not np.array_equal(a[0], b[0])  # drawn by two renderers
    mine.close()
    theirs.close()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("distractors", ["shapes", "held_out_meshes"])
def test_occluded_objects_are_partly_seen(engine: str, distractors: str) -> None:
    env = make(engine, distractors=distractors)
    env.set_parameters({"task.occluded": 1})
    visible = []
    for seed in range(12):
        _, info = env.reset(seed=seed)
        visible.append(info["visible"])
        # The same as counted with the others gone.
        number = env.scene.bodies.index(env.scene.body("object")) + 1
        seen = (env.engine.render("main", 112, 112).segmentation == number).sum()
        for body in env.scene.bodies:
            if body.name.startswith("distractor"):
                env.engine.hide(body.name)
        whole = (env.engine.render("main", 112, 112).segmentation == number).sum()
        assert info["visible"] == pytest.approx(seen / whole)
    assert np.mean([0.3 <= share <= 0.85 for share in visible]) > 0.7
    env.set_parameters({"task.occluded": 0})
    assert env.reset(seed=0)[1]["visible"] == 1.0
    env.close()


@pytest.mark.parametrize("engine", ENGINES)
def test_reward_is_minus_the_error(engine: str) -> None:
    env = make(engine, image_size=32)
    _, info = env.reset(seed=0)
    low, high = np.array(env.low), np.array(env.high)
    estimate = info["position"] + [0.03, 0.0, -0.0]
    _, reward, terminated, truncated, _ = env.step(2 * (estimate - low) / (high - low) - 1)
    assert reward == pytest.approx(-0.03, abs=1e-6)
    assert (terminated, truncated) == (True, False)
    env.close()


def test_every_target_and_the_lights() -> None:
    for name in objects.SHAPES:
        env = make("mujoco", target=name)
        picture, info = env.reset(seed=1)
        assert ((picture[..., 0].astype(int) - picture[..., 1]) > 60).sum() > 15
        assert info["position"][2] == objects.rest(objects.shape(name))
        env.close()
    env = make("mujoco")
    dark, _ = env.reset(seed=1)
    env.set_parameters({"light.1.on": 1, "light.2.on": 1})
    assert env.reset(seed=1)[0].mean() > dark.mean() + 5
    assert [light.on for light in LIGHTS] == [True, False, False]
    env.close()


def test_held_out_meshes_are_not_training_meshes() -> None:
    pools = [objects.pool(kind, 20) for kind in ("training_meshes", "held_out_meshes")]
    files = [{shape.file for shape in pool} for pool in pools]
    assert len(files[0]) == len(files[1]) == 20
    assert not files[0] & files[1]
    with pytest.raises(ValueError, match="held_out_meshes"):
        objects.pool("teapots", 3)
