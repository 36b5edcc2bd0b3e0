"""Files of pybullet_data, and furniture: that they are where tasks think they are."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from envs.robotics import assets


def test_random_meshes_are_split_by_their_number() -> None:
    training, held_out = assets.training_meshes(), assets.held_out_meshes()
    assert (len(training), len(held_out)) == (900, 100)
    assert all(path.stem[-1] == "0" for path in held_out)
    assert not set(training) & set(held_out)
    assert list(training) == sorted(training)  # the same object under the same index everywhere
    assert all(path.exists() for path in (*training, *held_out, assets.PANDA, assets.KUKA))


def test_what_is_not_there_is_named() -> None:
    with pytest.raises(FileNotFoundError, match=r"pandas\.urdf"):
        assets.data("franka_panda/pandas.urdf")


def test_importing_imports_no_engine() -> None:
    source = "import sys, envs.robotics.assets as a; a.held_out_meshes(); "
    source += "assert not {'pybullet', 'pybullet_data', 'mujoco'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", source], check=True, timeout=60)


def test_mesh_extent() -> None:
    low, high = assets.mesh_extent(assets.data("cube.obj"))
    np.testing.assert_allclose(high - low, 2 * high, atol=1e-6)  # a cube about its middle
    low, high = assets.mesh_extent(assets.held_out_meshes()[0])
    assert (low < high).all()
    # As scaled, things that a hand can hold on at least one side.
    assert 0.01 < assets.RANDOM_MESH_SCALE * (high - low).min() < 0.08


def test_a_file_without_vertices_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty.obj").write_text("vn 0 0 1\n")
    with pytest.raises(ValueError, match="no vertices"):
        assets.mesh_extent(tmp_path / "empty.obj")


def test_table_top_is_at_its_position() -> None:
    top, floor = assets.table(height=0.3, position=(0.1, 0.2, 0.5))
    assert top.position[2] + top.shape.size[2] == pytest.approx(0.5)
    assert floor.position[2] + floor.shape.size[2] == pytest.approx(0.2)
    assert (top.position[:2], floor.position[:2]) == ((0.1, 0.2), (0.1, 0.2))


def test_tray_walls_stand_on_its_floor_and_lean_outwards() -> None:
    floor, *walls = assets.tray(half_size=0.2, wall=0.1, position=(1.0, 2.0, 3.0))
    assert floor.position == (1.0, 2.0, 3.005)
    outward = [(1, 0), (0, 1), (-1, 0), (0, -1)]
    for wall, (x, y) in zip(walls, outward, strict=True):
        up = _rotate(wall.quaternion, (0, 0, 1))
        foot = np.array(wall.position) - 0.05 * up
        np.testing.assert_allclose(foot, (1 + 0.2 * x, 2 + 0.2 * y, 3.01), atol=1e-12)
        assert up[:2] @ (x, y) == pytest.approx(np.sin(np.deg2rad(33)))
        assert up[2] == pytest.approx(np.cos(np.deg2rad(33)))


def _rotate(quaternion: tuple[float, ...], vector: tuple[float, ...]) -> np.ndarray:
    u, w = np.array(quaternion[:3]), quaternion[3]
    v = np.array(vector, dtype=float)
    rotated: np.ndarray = v + 2 * np.cross(u, np.cross(u, v) + w * v)
    return rotated
