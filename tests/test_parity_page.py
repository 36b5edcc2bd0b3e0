"""The parity page: its tables come from the engines, and its motions are the same in both."""

from pathlib import Path

import numpy as np
import pytest

from runkit import ROOT, parity

from envs.robotics.scene import Body, Camera, Scene, box


@pytest.fixture(scope="module")
def motion() -> parity.Motion:
    return parity.Motion(0)


def test_properties_are_the_engines_own() -> None:
    scene = Scene(
        (Body("cube", box(1, 1, 1), mass=1.0),), cameras=(Camera("c", (1, 1, 1), (0, 0, 0)),)
    )
    tables = {
        "mujoco": ({}, {}),
        "bullet": ({"light.[1-9]*": "one light"}, {"*.mass": "nearly", "light.*.on": "hardly"}),
    }
    lines = parity.properties(scene, tables).splitlines()
    assert "| `body.*.mass` | yes | **roughly**: nearly |" in lines
    assert "| `light.0.on` | yes | **roughly**: hardly |" in lines
    assert "| `light.[1-9].on` | yes | **no**: one light |" in lines  # no counts before roughly
    assert "| `camera.*.fov` | yes | yes |" in lines


def test_the_tables_name_things_that_are_there() -> None:
    """A glob that matches nothing would say what is not so."""
    from dataclasses import replace
    from fnmatch import fnmatchcase

    from runkit.environments import make_env

    from envs.robotics.parameters import scene_parameters

    env = make_env(f"bullet/{parity.TASK}")
    scene = env.unwrapped.scene  # type: ignore[attr-defined]
    env.close()
    paths = scene_parameters(replace(scene, lights=scene.lights[:1] * 2))
    for tables in parity.engine_tables().values():
        for pattern in (pattern for table in tables for pattern in table):
            assert any(fnmatchcase(path, pattern) for path in paths), pattern


def test_the_tool_goes_the_same_way_in_both(motion: parity.Motion) -> None:
    assert motion.tool["mujoco"][0] == pytest.approx(motion.tool["bullet"][0], abs=1e-3)
    assert motion.travelled("tool") > 0.1
    assert np.median(motion.apart("tool")) < 0.005
    assert motion.travelled("thing") > 0.05  # it is pushed
    assert motion.apart("thing")[: parity.MOMENTS[1]].max() < 1e-3  # not before it is touched


def test_pictures_are_side_by_side(motion: parity.Motion, tmp_path: Path) -> None:
    picture = parity.side_by_side(motion)
    width, height = parity.SIZE
    assert picture.shape == (2 * height, 3 * width, 3)
    assert picture[:height, :width].std() > 10
    assert (picture[:height] != picture[height:]).any()
    parity.draw_paths(motion, tmp_path / "paths.png")
    assert (tmp_path / "paths.png").stat().st_size > 10_000


def test_the_committed_page_has_the_engines_tables() -> None:
    """Whoever changes an engine's table makes the page anew."""
    text = (ROOT / "results/robotics/parity.md").read_text()
    for unsupported, approximated in parity.engine_tables().values():
        for reason in (*unsupported.values(), *approximated.values()):
            assert reason in text, f"{reason}: run {parity.COMMAND}"
