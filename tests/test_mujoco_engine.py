"""The scene in MuJoCo: what it does, against what can be worked out by hand, and PyBullet's."""

import hashlib
import os
import subprocess
import sys
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_bullet_engine import CUBE, FLOOR, PANDA, SIDE, TOP, WHITE, everything, other_value

from envs.robotics import assets, mujoco_model, rotations, solids
from envs.robotics.bullet_engine import BulletEngine
from envs.robotics.engine import Engine
from envs.robotics.mujoco_engine import MujocoEngine
from envs.robotics.parameters import ParameterError, scene_parameters
from envs.robotics.scene import (
    Body,
    Light,
    RobotModel,
    Scene,
    Shape,
    box,
    cylinder,
    mesh,
    prism,
    pyramid,
    sphere,
)
from envs.robotics.textures import Texture

drawing = pytest.mark.skipif("MUJOCO_GL" not in os.environ, reason="no OpenGL to draw with")
UP = np.array([0.0, 0.0, 0.0, 1.0])


@pytest.fixture
def engine() -> Iterator[Any]:
    """Makes engines that are closed afterwards."""
    made: list[MujocoEngine] = []

    def make(*bodies: Body, **fields: Any) -> MujocoEngine:
        made.append(MujocoEngine(Scene(bodies, **fields)))
        return made[-1]

    yield make
    for one in made:
        one.close()


def trajectory(engine: Engine, steps: int = 8) -> np.ndarray:
    """Where everything is after each of a few control steps in which the arm sweeps the table."""
    home = np.array(PANDA.home)
    rows = []
    for i in range(steps):
        engine.drive(home + np.array([0.08, 0.06, 0, 0, 0, 0, 0.1, -0.002, -0.002]) * i)
        engine.step(20)
        poses = [np.concatenate(engine.pose(body.name)) for body in engine.scene.bodies]
        rows.append(np.concatenate([*engine.joints(), *poses, *engine.tool()]))
    return np.array(rows)


# Sameness


def digest_of_a_run() -> str:
    engine = MujocoEngine(everything())
    engine.set({"body.cube.mass": 0.5})
    engine.place("blob", np.array([0.15, -0.05, 0.05]), np.array([0.0, 0.0, 0.6, 0.8]))
    parts = [trajectory(engine)]
    if "MUJOCO_GL" in os.environ:
        frame = engine.render("side", 32, 24)
        parts += [frame.rgb, frame.depth, frame.segmentation]
    engine.close()
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


def test_another_process_gives_the_same_to_the_last_bit() -> None:
    root = Path(__file__).resolve().parents[1]
    folders = [root, root / "tests", root / "scripts"]
    path = os.pathsep.join([*map(str, folders), os.environ.get("PYTHONPATH", "")])
    source = "import test_mujoco_engine as t; print(t.digest_of_a_run())"
    done = subprocess.run(
        [sys.executable, "-c", source],
        env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "7"},
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.split()[-1] == digest_of_a_run()


def test_reset_forgets_all_that_happened(engine: Any) -> None:
    used = engine(*everything().bodies, robot=PANDA)
    first = trajectory(used)
    for name in ("cube", "blob"):  # out of order, and in contact when reset
        used.place(name, np.array([0.2, 0.02, 0.03]), np.array([0.5, 0.5, 0.5, 0.5]))
    used.place("spare", np.array([0.3, 0.0, 0.03]), UP)
    used.place("goal", np.array([0.3, 0.0, 0.5]), UP)
    used.hide("can")
    used.step(7)
    used.touching("cube", "robot")
    used.reset()
    np.testing.assert_array_equal(trajectory(used), first)


@pytest.mark.parametrize("before", [0, 30, 150])
def test_a_restored_state_goes_on_the_same(engine: Any, before: int) -> None:
    one = engine(*everything().bodies, robot=PANDA)
    one.step(before)
    one.place("can", np.array([0.1, 0.1, 0.1]), np.array([0.6, 0.0, 0.0, 0.8]))
    state = one.state()
    first = trajectory(one)
    one.hide("can")
    one.place("spare", np.array([0.3, 0.0, 0.03]), UP)
    one.step(3)
    for _ in range(2):
        one.restore(state)
        np.testing.assert_array_equal(trajectory(one), first)


# Parameters


@drawing
def test_every_parameter_makes_a_difference_and_can_be_taken_back() -> None:
    scene = everything()
    one = MujocoEngine(replace(scene, bodies=tuple(replace(b, hidden=False) for b in scene.bodies)))
    assert one.parameters() == scene_parameters(one.scene)  # MuJoCo refuses nothing

    def look() -> np.ndarray:
        return one.rgb("side", 64, 64)

    def move() -> np.ndarray:
        one.reset()
        # Onto the table from a small height: everything hits, slides and turns.
        for i, name in enumerate(("cube", "can", "blob", "cone", "spare")):
            place = np.array([0.05 + 0.08 * i, 0.15 - 0.05 * i, 0.09])
            one.place(name, place, np.array([0.2, 0.3, 0.1, 0.9273618]))
        return trajectory(one, 6)

    picture, motion = look(), move()
    one.reset()
    for path, parameter in one.parameters().items():
        measure, nominal = (look, picture) if parameter.visual else (move, motion)
        one.set({path: other_value(parameter)})
        assert (measure() != nominal).any(), path
        one.set({path: parameter.nominal})
        one.reset()
        assert (measure() == nominal).all(), path
        one.reset()
    one.close()


def test_what_cannot_be_set_is_refused_and_nothing_else_is_set(engine: Any) -> None:
    one = engine(FLOOR, CUBE, robot=PANDA)
    for path, word in {
        "body.cubes.mass": "nearest: body.cube.mass",
        "body.floor.mass": "nearest",
        "light.1.on": "nearest: light.0.on",
    }.items():
        with pytest.raises(ParameterError, match=word):
            one.set({"body.cube.mass": 0.9, path: 1})
    assert one.model.body("cube").mass == 0.2


# Motion


def test_free_fall(engine: Any) -> None:
    one = engine(replace(CUBE, position=(0.0, 0.0, 5.0)))
    one.step(100)
    # Semi-implicit Euler: after n steps of h, g h² n (n + 1) / 2 further down.
    position, _ = one.pose("cube")
    assert position[2] == pytest.approx(5 - 9.81 * 0.002**2 * 100 * 101 / 2, abs=1e-12)
    assert one.velocity("cube")[0][2] == pytest.approx(-9.81 * 0.2, abs=1e-12)


# So wide that it is met as an endless plane.
GROUND = replace(FLOOR, shape=box(mujoco_model.WIDE, mujoco_model.WIDE, 0.5))


@pytest.mark.parametrize("floor", [FLOOR, GROUND], ids=["block", "plane"])
@pytest.mark.parametrize(
    ("shape", "height"),
    [
        (box(0.03, 0.02, 0.025), 0.025),
        (cylinder(0.03, 0.04), 0.04),
        (sphere(0.03), 0.03),
        (prism(3, 0.03, 0.02), 0.02),
        (pyramid(24, 0.03, 0.03), 0.03),
    ],
)
def test_bodies_rest_at_their_height(engine: Any, shape: Shape, height: float, floor: Body) -> None:
    one = engine(floor, Body("it", shape, 0.1, (0.0, 0.0, height + 0.001)))
    one.step(300)
    position, quaternion = one.pose("it")
    np.testing.assert_allclose(position, (0, 0, height), atol=3e-4)
    assert abs(quaternion[3]) > 0.9999
    assert one.touching("it", "floor")


@pytest.mark.parametrize("floor", [FLOOR, GROUND], ids=["block", "plane"])
@pytest.mark.parametrize(("mine", "floors"), [(0.5, 1.0), (0.5, 0.6), (2.0, 0.3)])
def test_friction_is_the_product(engine: Any, mine: float, floors: float, floor: Body) -> None:
    """On a slope, here tilted gravity, a block slides beyond the angle whose tangent it is."""
    one = engine(replace(floor, friction=floors), replace(CUBE, friction=mine))
    for share, slides in ((0.9, False), (1.1, True)):
        angle = np.arctan(share * mine * floors)
        one.set({"world.gravity": [9.81 * float(np.sin(angle)), 0.0, -9.81 * float(np.cos(angle))]})
        one.reset()
        one.step(100)
        before = one.pose("cube")[0][0]
        one.step(200)
        # A tenth more pull gives a centimetre in 0.4 s; what sticks creeps a millimetre.
        assert (one.pose("cube")[0][0] - before > 5e-3) == slides


@pytest.mark.parametrize(
    "shape",
    [
        box(0.03, 0.02, 0.01),
        prism(3, 0.03, 0.05),
        pyramid(4, 0.05, 0.04),
        mesh(assets.training_meshes()[5], assets.RANDOM_MESH_SCALE),
    ],
)
def test_mass_and_inertia_are_those_of_the_solid(engine: Any, shape: Shape) -> None:
    """In the frame of the body, against the same worked out without an engine."""
    one = engine(Body("it", shape, 0.3))
    for mass, factor in ((0.3, 1.0), (0.6, 1.0), (0.6, 2.5)):
        one.set({"body.it.mass": mass, "body.it.inertia": factor})
        it, known = one.model.body("it"), solids.solid(shape)
        w, x, y, z = it.iquat
        turn = rotations.matrix(np.array([x, y, z, w]))
        assert it.mass == pytest.approx(mass)
        np.testing.assert_allclose(it.ipos, known.centre, atol=1e-6)
        found = turn @ np.diag(it.inertia) @ turn.T
        np.testing.assert_allclose(found, mass * factor * known.inertia, rtol=1e-4, atol=1e-9)


def test_damping(engine: Any) -> None:
    """A force of -d v: the speed falls by the factor exp(-d t / m)."""
    one = engine(Body("it", sphere(0.1), 0.5), gravity=(0.0, 0.0, 0.0))
    one.set({"body.it.damping": 0.7})
    one.data.qvel[:] = [1, 2, 0, 0, 0, 0]
    one.step(100)
    wanted = np.exp(-0.7 * 0.2 / 0.5) * np.array([1, 2, 0])
    np.testing.assert_allclose(one.velocity("it")[0], wanted, rtol=2e-3)


def test_velocities_are_in_the_worlds_frame(engine: Any) -> None:
    one = engine(Body("it", box(0.1, 0.2, 0.3), 1.0), gravity=(0.0, 0.0, 0.0))
    one.place("it", np.zeros(3), np.array([np.sin(0.4), 0.0, 0.0, np.cos(0.4)]))
    one.data.qvel[3:6] = [0.0, 0.0, 2.0]  # about its own z
    np.testing.assert_allclose(one.velocity("it")[1], (0, -2 * np.sin(0.8), 2 * np.cos(0.8)))


# The robot


def test_the_jacobian_against_finite_differences(engine: Any) -> None:
    one = engine(robot=PANDA)
    joints = np.array(PANDA.home) + 0.1
    one.set_joints(joints)
    position, quaternion, _ = one.tool()
    jacobian, h = one.jacobian(), 1e-6
    for i in range(len(joints)):
        one.set_joints(joints + h * np.eye(len(joints))[i])
        moved, turned, _ = one.tool()
        np.testing.assert_allclose(jacobian[:3, i], (moved - position) / h, atol=1e-5)
        turn = rotations.times(turned, rotations.inverse(quaternion))
        turn *= np.sign(turn[3])
        np.testing.assert_allclose(jacobian[3:, i], 2 * turn[:3] / h, atol=1e-5)


@pytest.mark.parametrize("robot", [PANDA, PANDA.shut()], ids=["fingers", "shut"])
def test_both_engines_agree_on_where_the_arm_is(engine: Any, robot: RobotModel) -> None:
    one, other = engine(robot=robot), BulletEngine(Scene((), robot))
    rng, home = np.random.default_rng(0), np.array(robot.home)
    for _ in range(5):
        joints = home + np.append(rng.uniform(-0.3, 0.3, 7), [0.0] * (len(home) - 7))
        for each in (one, other):
            each.set_joints(joints)
        for mine, theirs in zip(one.tool()[:2], other.tool()[:2], strict=True):
            np.testing.assert_allclose(mine, theirs * np.sign(mine @ theirs), atol=1e-6)
        np.testing.assert_allclose(one.jacobian(), other.jacobian(), atol=1e-6)
    other.close()


@pytest.mark.parametrize("make", [BulletEngine, MujocoEngine])
def test_a_shut_hand_moves_as_one_whose_fingers_are_held_shut(make: type[Any]) -> None:
    """The arm under gravity, without its fingers' joints: mass and its place are all there."""
    held, shut = make(Scene((), PANDA)), make(Scene((), PANDA.shut()))
    turn = np.array([0.3, -0.2, 0.2, 0.4, -0.3, 0.2, 0.5])
    bent = np.array(PANDA.home[:7]) + turn
    for each, fingers in ((held, [0.0, 0.0]), (shut, [])):
        each.set_joints(np.array([*PANDA.home[:7], *fingers]))
        each.drive(np.array([*bent, *fingers]))
        each.step(50)
    assert len(shut.joints()[0]) == 7
    (mine, rates), (theirs, others) = shut.joints(), held.joints()
    np.testing.assert_allclose(mine, theirs[:7], atol=1e-4)
    np.testing.assert_allclose(rates, others[:7], atol=2e-3)
    assert np.abs(held.joints()[1]).max() > 0.1  # under way
    for each in (held, shut):
        each.close()


@pytest.mark.parametrize("make", [BulletEngine, MujocoEngine])
def test_the_arm_holds_itself_up_but_not_against_another_gravity(make: type[Any]) -> None:
    """It is so heavy that its drives could not hold it; its controller is made for the scene's."""
    one = make(Scene((), PANDA))
    rises = []
    for height in (-9.81, 0.0):
        one.set({"robot.mass": 12.0, "world.gravity": [0.0, 0.0, height]})
        one.reset()
        before = one.tool()[0][2]
        one.step(500)
        rises.append(one.tool()[0][2] - before)
    assert abs(rises[0]) < 1e-3
    assert rises[1] > 0.1
    one.close()


@pytest.mark.parametrize("make", [BulletEngine, MujocoEngine])
def test_the_tool_is_told_anew_after_whatever_moves_it(make: type[Any]) -> None:
    one = make(Scene((), PANDA))
    start, seen = one.state(), []
    for act in (
        lambda: (one.set_joints(np.array(PANDA.home) + 0.1), one.drive(np.array(PANDA.home))),
        lambda: one.step(5),
        lambda: one.step(5),
        lambda: one.restore(start),
    ):
        act()
        seen.append(one.tool()[0])
        kept = seen[-1].copy()
        one.tool()[0][:] = 7.0  # a caller's own
        np.testing.assert_array_equal(one.tool()[0], kept)
    assert len({tuple(place) for place in seen}) == 4
    one.set_joints(np.array(PANDA.home) + 0.1)
    assert np.linalg.norm(one.tool()[0] - seen[-1]) > 0.01
    one.close()


def test_drives_close_errors_at_their_gain_and_hold_against_gravity(engine: Any) -> None:
    one = engine(robot=PANDA)
    home = np.array(PANDA.home)
    one.step(500)
    np.testing.assert_allclose(one.joints()[0], home, atol=1e-4)
    target = home + np.array([0.1, 0, 0, 0, 0, 0, 0, 0, 0])
    one.set({"joint.panda_joint1.gain": 5.0})
    one.drive(target)
    one.step(100)
    # After 0.2 s at 5 / s an e-th is left, and a little more, as the arm has to get going.
    assert 0.1 / np.e < target[0] - one.joints()[0][0] < 0.05
    one.step(1000)
    np.testing.assert_allclose(one.joints()[0], target, atol=1e-4)
    one.set({"joint.panda_joint1.gain": 0.0})
    one.drive(home)
    one.step(100)
    assert abs(one.joints()[0][0] - home[0]) > 0.09


def test_the_robot_touches_bodies_but_not_itself(engine: Any) -> None:
    one = engine(FLOOR, replace(CUBE, position=(0.0, 0.0, 0.5)), robot=PANDA)
    assert not one.touching("robot", "cube")
    position, _, _ = one.tool()
    one.place("cube", position, UP)
    assert one.touching("cube", "fingers")
    assert one.touching("robot", "cube")
    bent = np.array(PANDA.home)
    bent[3] = -3.1  # the forearm through the upper arm
    one.set_joints(bent)
    one.hide("cube")
    one.step(50)
    np.testing.assert_allclose(one.joints()[0], bent, atol=1e-3)


def test_nothing_is_worked_out_between_what_stands_still(engine: Any) -> None:
    """A block that the robot's base stands in, unlike one that is thrown at it."""
    block = Body("block", box(0.05, 0.05, 0.05), position=PANDA.position)
    still, thrown = (engine(replace(block, mass=mass), robot=PANDA) for mass in (0.0, 1.0))
    assert not still.touching("robot", "block")
    assert thrown.touching("robot", "block")


# Sleep


def asleep(engine: MujocoEngine) -> bool:
    return bool((engine.data.tree_asleep >= 0).any())


def resting(engine: Any) -> MujocoEngine:
    """The arm above a cube that lies on the floor and sleeps."""
    one: MujocoEngine = engine(FLOOR, replace(CUBE, position=(0.0, 0.0, 0.025)), robot=PANDA)
    one.step(100)
    assert asleep(one)
    return one


def test_what_sleeps_lies_as_it_would_awake(engine: Any) -> None:
    places = []
    for sleeping in (True, False):
        one = engine(FLOOR, replace(CUBE, position=(0.0, 0.0, 0.026)))
        if not sleeping:
            one.model.opt.enableflags = 0
        one.step(500)
        assert asleep(one) == sleeping
        assert one.touching("cube", "floor")
        places.append(one.pose("cube")[0])
    np.testing.assert_allclose(places[0], places[1], atol=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        lambda one: one.set({"world.gravity": [0.0, 0.0, 1.0]}),
        lambda one: one.place("cube", np.array([0.0, 0.0, 0.2]), UP),
        lambda one: one.place("floor", np.array([0.0, 0.0, -0.2]), UP),
        lambda one: one.hide("floor"),
        lambda one: one.restore(replace(one.state(), places=one.state().places - 0.1)),
    ],
)
def test_whatever_may_move_a_sleeper_wakes_it(engine: Any, change: Any) -> None:
    one = resting(engine)
    change(one)
    before = one.pose("cube")[0]
    one.step(10)
    assert abs(one.pose("cube")[0][2] - before[2]) > 1e-4


@pytest.mark.parametrize("before", [5, 100])
def test_a_state_does_not_tell_sleepers_from_others(engine: Any, before: int) -> None:
    """Neither those who sleep nor those who are about to."""
    one = engine(FLOOR, replace(CUBE, position=(0.0, 0.0, 0.02501)), robot=PANDA)
    one.step(before)
    state = one.state()
    first = trajectory(one)
    one.restore(state)
    np.testing.assert_array_equal(trajectory(one), first)


def test_a_touch_wakes_a_sleeper(engine: Any) -> None:
    one = resting(engine)
    for _ in range(50):  # open fingers go down on both sides of it
        way = np.array([0.02, 0.0, 0.02]) - one.tool()[0]
        turn = np.linalg.pinv(one.jacobian()[:3]) @ way.clip(-0.02, 0.02)
        one.drive(one.joints()[0] + turn)
        one.step(20)
    assert asleep(one)
    assert not one.touching("cube", "fingers")
    targets = one.joints()[0]
    targets[-2:] = 0.0
    one.drive(targets)
    one.step(100)
    assert not asleep(one)
    assert one.touching("cube", "fingers")
    held = one.pose("cube")[0]
    targets[1] -= 0.2  # and up it goes
    one.drive(targets)
    one.step(100)
    assert one.pose("cube")[0][2] - held[2] > 0.02


# Hidden bodies


@drawing
def test_a_hidden_body_is_not_seen_nor_touched(engine: Any) -> None:
    block = Body("block", box(0.1, 0.1, 0.05), 0.0, (0.0, 0.0, 0.05), hidden=True)
    ball = Body("ball", sphere(0.03), 0.1, (0.0, 0.0, 0.2))
    one = engine(FLOOR, block, ball, cameras=(SIDE,))
    bare = engine(FLOOR, ball, cameras=(SIDE,))
    np.testing.assert_array_equal(one.rgb("side", 64, 64), bare.rgb("side", 64, 64))
    one.step(300)
    assert one.pose("ball")[0][2] == pytest.approx(0.03, abs=1e-3)  # through where the block was
    one.reset()
    one.place("block", np.array([0.0, 0.0, 0.05]), UP)
    assert (one.render("side", 64, 64).segmentation == 2).any()
    one.step(300)
    assert one.pose("ball")[0][2] == pytest.approx(0.13, abs=1e-3)
    assert one.touching("ball", "block")
    one.hide("block")
    assert not one.touching("ball", "block")


def test_a_hidden_body_does_not_fall_and_stays_free_when_shown(engine: Any) -> None:
    one = engine(FLOOR, replace(CUBE, hidden=True))
    place, _ = one.pose("cube")
    one.step(500)
    np.testing.assert_array_equal(one.pose("cube")[0], place)
    one.place("cube", np.array([0.0, 0.0, 0.3]), UP)
    one.step(400)
    assert one.pose("cube")[0][2] == pytest.approx(0.025, abs=1e-3)


def test_hidden_bodies_do_not_touch_each_other(engine: Any) -> None:
    cubes = [replace(CUBE, name=name, hidden=True) for name in "abc"]
    one = engine(FLOOR, *cubes, Body("wall", box(1.0, 1.0, 1.0), hidden=True))
    assert not one.touching("a", "b")
    assert not one.touching("c", "wall")
    places = [one.pose(name)[0] for name in "abc"]
    one.step(50)
    np.testing.assert_array_equal([one.pose(name)[0] for name in "abc"], places)


# Pictures


@drawing
def test_depth_and_extent_of_a_box_at_a_known_distance(engine: Any) -> None:
    """Half a metre wide, its top 0.8 m below a camera of 60°: 0.25 / (0.8 tan 30°) of half."""
    one = engine(Body("it", box(0.25, 0.15, 0.2)), cameras=(replace(TOP, fov=60.0),))
    frame = one.render("top", 200, 100)
    seen = frame.segmentation == 1
    np.testing.assert_allclose(frame.depth[seen], 0.8, atol=1e-4)
    assert np.isinf(frame.depth[~seen]).all()
    rows, columns = np.nonzero(seen)
    half_height = 0.8 * np.tan(np.deg2rad(30))
    for found, half, middle in ((columns, 0.25, 100), (rows, 0.15, 50)):
        wanted = 50 * half / half_height
        assert abs(found.min() - (middle - wanted)) <= 1
        assert abs(found.max() - (middle + wanted - 1)) <= 1
    assert (frame.rgb.shape, frame.rgb.dtype) == ((100, 200, 3), np.uint8)
    assert (frame.depth.dtype, frame.segmentation.dtype) == (np.float32, np.int32)


@drawing
def test_roll_and_field_of_view_by_hand(engine: Any) -> None:
    """A ball 0.2 m to the right of the middle, 1 m below: tan of its angle is 0.2."""
    one = engine(Body("it", sphere(0.02), position=(0.2, 0.0, 0.0)), cameras=(TOP,))

    def middle() -> np.ndarray:
        """Of the ball, from the picture's middle, right and up, in half heights."""
        rows, columns = np.nonzero(one.render("top", 200, 200).segmentation == 1)
        return np.array([columns.mean() - 99.5, 99.5 - rows.mean()]) / 100

    for fov in (45.0, 30.0):
        one.set({"camera.top.fov": fov})
        np.testing.assert_allclose(middle(), [0.2 / np.tan(np.deg2rad(fov / 2)), 0], atol=0.01)
    # The camera's own top turns anticlockwise, so the world turns clockwise: right goes down.
    one.set({"camera.top.roll": np.pi / 2})
    np.testing.assert_allclose(middle(), [0, -0.2 / np.tan(np.deg2rad(15))], atol=0.01)


@drawing
@pytest.mark.parametrize(
    "values",
    [
        {},
        {"camera.side.roll": 0.4},
        {"camera.side.fov": 30.0},
        {"camera.side.position": [0.5, 0.8, 0.7], "camera.side.target": [0.1, 0.1, 0.0]},
    ],
)
def test_both_engines_see_the_same(engine: Any, values: dict[str, Any]) -> None:
    """Robot, meshes, hulls, primitives: nearly the same pixels, at nearly the same depth."""
    scene = replace(everything(), cameras=(replace(SIDE, position=(1.0, -0.7, 0.9)), TOP))
    one, other = engine(*scene.bodies, robot=PANDA, cameras=scene.cameras), BulletEngine(scene)
    frames = []
    for each in (one, other):
        each.set(values)
        frames.append(each.render("side", 160, 120))
    other.close()
    mine, theirs = frames
    same = mine.segmentation == theirs.segmentation
    assert same.mean() > 0.98
    assert set(np.unique(mine.segmentation)) == set(np.unique(theirs.segmentation))
    solid = same & (mine.segmentation > 0)
    assert np.quantile(np.abs(mine.depth[solid] - theirs.depth[solid]), 0.95) < 1e-4


@drawing
def test_flat_colours_in_full_light_are_themselves(engine: Any) -> None:
    it = Body("it", box(0.2, 0.2, 0.2), texture=Texture("flat", (0.8, 0.4, 0.2)))
    sky = Texture("flat", (0.1, 0.2, 0.3))
    one = engine(it, cameras=(TOP,), lights=(WHITE, Light(on=False)), sky=sky)
    rgb = one.rgb("top", 32, 32)
    np.testing.assert_allclose(rgb[16, 16], (204, 102, 51), atol=2)
    np.testing.assert_allclose(rgb[0, 0], np.array([0.1, 0.2, 0.3]) * 255, atol=2)
    one.set({"light.0.colour": [0.5, 1.0, 1.0]})
    np.testing.assert_allclose(one.rgb("top", 32, 32)[16, 16], (102, 102, 51), atol=2)
    one.set({"light.0.colour": [1.0, 1.0, 1.0], "light.0.ambient": 0.25, "light.0.diffuse": 0.5})
    # The light stands above, so the top has all of the diffuse part.
    np.testing.assert_allclose(one.rgb("top", 32, 32)[16, 16], (153, 77, 38), atol=2)
    one.set({"light.0.on": 0})
    assert (one.rgb("top", 32, 32)[16, 16] == 0).all()
    one.set({"light.1.on": 1})  # several lights
    assert (one.rgb("top", 32, 32)[16, 16] > 0).all()


@drawing
def test_several_engines_draw_in_turn_and_one_may_go(engine: Any) -> None:
    """Each has its own context, made current again for every picture; sizes may vary."""
    red = engine(Body("it", sphere(0.2), texture=Texture("flat", (1, 0, 0))), cameras=(TOP,))
    blue = engine(Body("it", sphere(0.2), texture=Texture("flat", (0, 0, 1))), cameras=(TOP,))
    first = red.rgb("top", 48, 32), blue.rgb("top", 48, 32)
    assert (first[0] != first[1]).any()
    red.rgb("top", 96, 96)
    np.testing.assert_array_equal(blue.rgb("top", 48, 32), first[1])
    np.testing.assert_array_equal(red.rgb("top", 48, 32), first[0])
    blue.close()
    blue.close()
    np.testing.assert_array_equal(red.rgb("top", 48, 32), first[0])
    with pytest.raises(ValueError, match="closed"):
        blue.rgb("top", 48, 32)


@drawing
def test_a_texture_that_changed_while_its_body_was_hidden(engine: Any) -> None:
    one = engine(replace(CUBE, position=(0.0, 0.0, 0.0), hidden=True), cameras=(TOP,))
    one.rgb("top", 32, 32)
    one.set({"body.cube.texture": Texture("flat", (0.0, 1.0, 0.0)).as_dict()})
    one.place("cube", np.zeros(3), UP)
    red, green, blue = one.rgb("top", 64, 64)[32, 32]
    assert green > 50
    assert red == blue == 0


@drawing
def test_closing_gives_the_context_back(engine: Any) -> None:
    one = engine(CUBE, cameras=(TOP,))
    one.rgb("top", 32, 32)
    context = weakref.ref(one._renderer._context)
    one.close()
    assert context() is None


@drawing
@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no /proc to count files in")
def test_nothing_is_left_of_closed_engines() -> None:
    scene = Scene((CUBE,), cameras=(TOP,))

    def cycle() -> tuple[int, int]:
        one = MujocoEngine(scene)
        one.rgb("top", 64, 64)
        one.close()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return len(os.listdir("/proc/self/fd")), pages * os.sysconf("SC_PAGE_SIZE")

    for _ in range(3):
        cycle()
    files, size = cycle()
    for _ in range(6):
        last = cycle()
    assert last[0] == files
    assert last[1] - size < 3e6  # an engine is more than a megabyte
