"""The scene in PyBullet: what it does, against what can be worked out by hand."""

import gc
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pybullet
import pytest
from scipy.spatial import ConvexHull

from envs.robotics import assets, bullet_sleep, rotations, solids
from envs.robotics.bullet_bodies import MARGIN
from envs.robotics.bullet_engine import APPROXIMATED, BulletEngine
from envs.robotics.kinematics import DOWN, displacement
from envs.robotics.parameters import Parameter, ParameterError, scene_parameters
from envs.robotics.pinhole import View
from envs.robotics.scene import (
    Body,
    Camera,
    Light,
    RobotModel,
    Scene,
    box,
    cylinder,
    mesh,
    prism,
    pyramid,
    sphere,
)
from envs.robotics.textures import Texture

PANDA = RobotModel(
    name="panda",
    urdf=assets.PANDA,
    joints=(
        *(f"panda_joint{i}" for i in range(1, 8)),
        "panda_finger_joint1",
        "panda_finger_joint2",
    ),
    home=(0.0, 0.2, 0.0, -2.4, 0.0, 2.6, 0.785, 0.03, 0.03),
    gains=(20.0,) * 9,
    dampings=(100.0,) * 9,
    forces=(87.0,) * 4 + (12.0,) * 3 + (20.0,) * 2,
    tool_link="panda_hand",
    tool_point=(0.02, 0.01, 0.1034),  # beside the axis, so that a wrong frame shows
    fingers=("panda_finger_joint1", "panda_finger_joint2"),
    position=(-0.6, 0.0, 0.0),
)
TOP = Camera("top", position=(0.0, 0.0, 1.0), target=(0.0, 0.0, 0.0), up=(0.0, 1.0, 0.0))
SIDE = Camera("side", position=(0.9, -0.5, 0.6), target=(0.0, 0.0, 0.1))
WHITE = Light((0.0, 0.0, 2.0), ambient=1.0, diffuse=0.0, specular=0.0)
FLOOR = Body("floor", box(1.0, 1.0, 0.5), position=(0.0, 0.0, -0.5))
CUBE = Body("cube", box(0.03, 0.02, 0.025), 0.2, (0.1, 0.0, 0.025))


@pytest.fixture
def engine() -> Iterator[Any]:
    """Makes engines that are closed afterwards."""
    made: list[BulletEngine] = []

    def make(*bodies: Body, **fields: Any) -> BulletEngine:
        made.append(BulletEngine(Scene(bodies, **fields)))
        return made[-1]

    yield make
    for one in made:
        one.close()


def everything() -> Scene:
    """One of all."""
    blob = assets.training_meshes()[5]
    return Scene(
        (
            FLOOR,
            CUBE,
            Body("can", cylinder(0.03, 0.04), 0.1, (0.12, 0.1, 0.06), (0.1, 0.2, 0.3, 0.927361849)),
            Body("blob", mesh(blob, assets.RANDOM_MESH_SCALE), 0.1, (0.1, -0.12, 0.08)),
            Body("cone", pyramid(24, 0.03, 0.03), 0.1, (0.2, 0.1, 0.05)),
            Body("goal", sphere(0.02), 0.0, (0.2, 0.0, 0.2), solid=False),
            Body("spare", prism(6, 0.03, 0.03), 0.1, (0.3, 0.0, 0.03), hidden=True),
        ),
        PANDA,
        (SIDE,),
        lights=(Light(), Light()),
    )


def trajectory(engine: BulletEngine, steps: int = 8) -> np.ndarray:
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
    engine = BulletEngine(everything())
    engine.set({"body.cube.mass": 0.5})
    engine.place("blob", np.array([0.15, -0.05, 0.05]), np.array([0.0, 0.0, 0.6, 0.8]))
    frame = engine.render("side", 32, 24)
    parts = [trajectory(engine), frame.rgb, frame.depth, frame.segmentation]
    engine.close()
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


def test_another_process_gives_the_same_to_the_last_bit() -> None:
    root = Path(__file__).resolve().parents[1]
    path = os.pathsep.join([str(root), str(root / "tests"), os.environ.get("PYTHONPATH", "")])
    source = "import test_bullet_engine as t; print(t.digest_of_a_run())"
    done = subprocess.run(
        [sys.executable, "-c", source],
        env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "7"},
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.strip() == digest_of_a_run()


def test_it_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    source = "from envs.robotics.bullet_engine import BulletEngine as E; from envs.robotics import"
    source += " scene as s; E(s.Scene((s.Body('a', s.sphere(0.1), 0.1),))).step(1)"
    subprocess.run([sys.executable, "-c", source], check=True, timeout=60)
    assert capfd.readouterr() == ("", "")


def test_reset_forgets_all_that_happened(engine: Any) -> None:
    scene = everything()
    used = engine(*scene.bodies, robot=PANDA)
    first = trajectory(used)
    for name in ("cube", "blob"):  # out of order, and in contact when reset
        used.place(name, np.array([0.2, 0.02, 0.03]), np.array([0.5, 0.5, 0.5, 0.5]))
    used.place("spare", np.array([0.3, 0.0, 0.03]), np.array([0.0, 0.0, 0.0, 1.0]))
    used.hide("can")
    used.step(7)
    used.touching("cube", "robot")
    used.reset()
    np.testing.assert_array_equal(trajectory(used), first)


@pytest.mark.parametrize("before", [0, 30, 150])
def test_a_restored_state_goes_on_the_same(engine: Any, before: int) -> None:
    """With bodies that roll and rest, and ones that were placed a moment ago."""
    one = engine(*everything().bodies, robot=PANDA)
    one.step(before)
    one.place("can", np.array([0.1, 0.1, 0.1]), np.array([0.6, 0.0, 0.0, 0.8]))
    state = one.state()
    first = trajectory(one)
    one.hide("can")
    one.place("spare", np.array([0.3, 0.0, 0.03]), np.array([0.0, 0.0, 0.0, 1.0]))
    one.step(3)
    for _ in range(2):
        one.restore(state)
        np.testing.assert_array_equal(trajectory(one), first)


def test_a_placed_body_forgets_how_it_lay(engine: Any) -> None:
    """PyBullet keeps its inertia tensor along the axes that it had before."""
    blob = everything().bodies[3]
    place, turn = np.array([0.0, 0.0, 0.05]), np.array([0.1, 0.2, 0.3, 0.927361849])
    fresh, used = engine(FLOOR, blob), engine(FLOOR, blob)
    used.place("blob", np.array([0.1, 0.0, 0.05]), np.array([0.5, 0.5, -0.5, 0.5]))
    used.step(40)
    motions = []
    for one in (fresh, used):
        one.place("blob", place, turn)
        one.step(40)
        motions.append(np.concatenate([*one.pose("blob"), *one.velocity("blob")]))
    np.testing.assert_array_equal(motions[0], motions[1])


def test_taking_a_state_changes_no_place(engine: Any) -> None:
    one = engine(*everything().bodies, robot=PANDA)
    one.step(100)
    before = [np.concatenate([*one.pose(name), *one.velocity(name)]) for name in ("can", "blob")]
    one.state()
    after = [np.concatenate([*one.pose(name), *one.velocity(name)]) for name in ("can", "blob")]
    np.testing.assert_allclose(before, after, rtol=0, atol=1e-12)


def test_what_is_asked_for_is_what_is_now(engine: Any) -> None:
    def asked() -> np.ndarray:
        return np.concatenate(
            [*one.pose("cube"), *one.velocity("cube"), *one.joints(), *one.tool()]
        )

    one = engine(replace(CUBE, position=(0.1, 0.0, 5.0)), robot=PANDA)
    start, state = asked(), one.state()
    one.drive(np.array(PANDA.home) + 0.1)
    one.step(1)
    one.step(20)
    moved = [2, 9, 13, 16, 31, 32, 33]  # heights and velocities, joints, the tool
    assert np.abs(asked()[moved] - start[moved]).min() > 1e-5
    one.restore(state)
    np.testing.assert_allclose(asked(), start, atol=1e-12)
    one.place("cube", np.array([1.0, 2.0, 3.0]), np.array([0.0, 0.0, 0.0, 1.0]))
    assert one.pose("cube")[0].tolist() == [1.0, 2.0, 3.0]
    one.set_joints(np.array(PANDA.home) + 0.2)
    np.testing.assert_allclose(one.joints()[0], np.array(PANDA.home) + 0.2, atol=1e-15)
    assert np.abs(one.tool()[0] - start[31:34]).max() > 0.01
    one.pose("cube")[0][:] = 0.0  # nobody else's
    assert one.pose("cube")[0].tolist() == [1.0, 2.0, 3.0]


# Parameters


def other_value(parameter: Parameter) -> Any:
    """A value that should make a difference."""
    if parameter.kind == "texture":
        return Texture("checker", (0.9, 0.1, 0.1), (0.1, 0.1, 0.9)).as_dict()
    if parameter.path.endswith(".on"):
        return 0
    if parameter.path.endswith((".position", ".target")):
        return [part + 0.1 for part in parameter.nominal]  # type: ignore[operator,union-attr]
    if parameter.path == "world.gravity":
        return [1.0, 0.5, -5.0]
    if parameter.kind == "colour":
        return [0.5, 0.8, 0.3]
    if parameter.path.startswith("joint.") and parameter.path.endswith(".damping"):
        return 1000.0  # enough that the drive's force does not suffice
    assert isinstance(parameter.nominal, (int, float))
    return parameter.nominal * 0.6 + 0.3


def test_every_parameter_makes_a_difference_and_can_be_taken_back(engine: Any) -> None:
    scene = replace(
        everything(), bodies=tuple(replace(b, hidden=False) for b in everything().bodies)
    )
    one = BulletEngine(scene)
    parameters = one.parameters()
    refused = {path for path in scene_parameters(scene) if path not in parameters}
    assert {path.split(".")[-1] for path in refused if path.startswith("joint")} == {
        "armature",
        "friction",
    }
    assert all(path.startswith(("light.1.", "joint.")) for path in refused)

    def look() -> np.ndarray:
        return one.render("side", 48, 48).rgb

    def move() -> np.ndarray:
        one.reset()
        # Onto the table from a small height: everything hits, slides and turns.
        for i, name in enumerate(("cube", "can", "blob", "cone", "spare")):
            place = np.array([0.05 + 0.08 * i, 0.15 - 0.05 * i, 0.09])
            one.place(name, place, np.array([0.2, 0.3, 0.1, 0.9273618]))
        return trajectory(one, 6)

    picture, motion = look(), move()
    one.reset()
    for path, parameter in parameters.items():
        measure, nominal = (look, picture) if parameter.visual else (move, motion)
        one.set({path: other_value(parameter)})
        assert (measure() != nominal).any(), path
        one.set({path: parameter.nominal})
        one.reset()
        assert (measure() == nominal).all(), path
        one.reset()
    one.close()


def test_what_cannot_be_set_is_refused_and_nothing_else_is_set(engine: Any) -> None:
    one = engine(FLOOR, CUBE, robot=PANDA, lights=(Light(), Light()))
    for path, word in {
        "joint.panda_joint1.armature": "rotor",
        "light.1.on": "one light",
        "body.cubes.mass": "nearest: body.cube.mass",
        "body.floor.mass": "nearest",
    }.items():
        with pytest.raises(ParameterError, match=word):
            one.set({"body.cube.mass": 0.9, path: 1})
    dynamics = pybullet.getDynamicsInfo(one._bodies["cube"].uid, -1, one.client)
    assert dynamics[0] == 0.2
    assert set(APPROXIMATED) <= {
        "joint.*.gain",
        "joint.*.damping",
        "body.*.damping",
        "light.0.specular",
        "light.0.position",
    }


# Motion


def test_free_fall(engine: Any) -> None:
    one = engine(replace(CUBE, position=(0.0, 0.0, 5.0)))
    one.step(100)
    # Semi-implicit Euler: after n steps of h, g h² n (n + 1) / 2 further down.
    position, _ = one.pose("cube")
    assert position[2] == pytest.approx(5 - 9.81 * 0.002**2 * 100 * 101 / 2, abs=1e-12)
    linear, _ = one.velocity("cube")
    assert linear[2] == pytest.approx(-9.81 * 0.2, abs=1e-12)


@pytest.mark.parametrize(
    ("shape", "height"),
    [
        (box(0.03, 0.02, 0.025), 0.025),
        (cylinder(0.03, 0.04), 0.04),
        (sphere(0.03), 0.03),
        (prism(3, 0.03, 0.02), 0.02),
        (prism(6, 0.03, 0.03), 0.03),
        (pyramid(24, 0.03, 0.03), 0.03),
    ],
)
def test_bodies_rest_at_their_height(engine: Any, shape: Any, height: float) -> None:
    one = engine(FLOOR, Body("it", shape, 0.1, (0.0, 0.0, height + 0.001)))
    one.step(300)
    position, quaternion = one.pose("it")
    np.testing.assert_allclose(position, (0, 0, height), atol=1e-4)
    assert abs(quaternion[3]) > 0.9999
    assert one.touching("it", "floor")


@pytest.mark.parametrize(("mine", "floors"), [(0.5, 1.0), (0.5, 0.6), (2.0, 0.3)])
def test_friction_is_the_product(engine: Any, mine: float, floors: float) -> None:
    """On a slope, here tilted gravity, a block slides beyond the angle whose tangent it is."""
    one = engine(replace(FLOOR, friction=floors), replace(CUBE, friction=mine))
    one.step(100)
    for share, slides in ((0.95, False), (1.05, True)):
        angle = np.arctan(share * mine * floors)
        one.set({"world.gravity": [9.81 * float(np.sin(angle)), 0.0, -9.81 * float(np.cos(angle))]})
        one.reset()
        one.step(100)
        before = one.pose("cube")[0][0]
        one.step(200)
        # A twentieth more pull: for 0.4 s that gives a few millimetres, creep a few hundredths.
        assert (one.pose("cube")[0][0] - before > 2e-3) == slides


def spun(one: BulletEngine, torque: list[float], steps: int = 10) -> np.ndarray:
    """The spin of "it" from a torque of that long."""
    uid = one._bodies["it"].uid
    for _ in range(steps):
        pybullet.applyExternalTorque(
            uid, -1, torque, pybullet.WORLD_FRAME, physicsClientId=one.client
        )
        one.step(1)
    return one.velocity("it")[1]


def test_mass_scales_the_inertia_and_inertia_comes_on_top(engine: Any) -> None:
    one = engine(Body("it", box(0.03, 0.02, 0.01), 0.3), gravity=(0.0, 0.0, 0.0))
    about_z = (0.03**2 + 0.02**2) / 3
    for mass, factor in ((0.3, 1.0), (0.6, 1.0), (0.6, 2.5), (0.3, 1.0)):
        one.set({"body.it.mass": mass, "body.it.inertia": factor})
        one.reset()
        spin = spun(one, [0.0, 0.0, 1e-3])
        np.testing.assert_allclose(spin, (0, 0, 1e-3 * 0.02 / (mass * factor * about_z)), rtol=1e-9)


def test_damping(engine: Any) -> None:
    """A force of -d v: the speed falls by the factor exp(-d t / m)."""
    one = engine(Body("it", sphere(0.1), 0.5), gravity=(0.0, 0.0, 0.0))
    one.set({"body.it.damping": 0.7})
    uid = one._bodies["it"].uid
    pybullet.resetBaseVelocity(uid, [1, 2, 0], [0, 0, 3], one.client)
    one.step(100)
    linear, angular = one.velocity("it")
    np.testing.assert_allclose(linear, np.exp(-0.7 * 0.2 / 0.5) * np.array([1, 2, 0]), rtol=1e-6)
    moment = 0.4 * 0.5 * 0.1**2
    assert angular[2] == pytest.approx(3 * np.exp(-0.7 * 0.2 / moment), rel=1e-6)


def test_a_body_turns_about_its_centre_of_mass(engine: Any) -> None:
    """A pyramid's lies below the middle of its height: a quarter up from the base."""
    shape = pyramid(4, 0.05, 0.04)
    assert solids.solid(shape).centre[2] == pytest.approx(-0.02)
    one = engine(Body("it", shape, 0.2), gravity=(0.0, 0.0, 0.0))
    spin = spun(one, [1e-4, 0.0, 0.0], 20)
    linear, _ = one.velocity("it")
    # The centre of mass stays where it was; the origin, 2 cm above it, goes round it.
    origin, turn = one.pose("it")
    centre = origin + rotations.rotate(turn, solids.solid(shape).centre)
    np.testing.assert_allclose(centre, (0, 0, -0.02), atol=1e-9)
    np.testing.assert_allclose(linear, np.cross(spin, origin - centre), atol=1e-9)
    assert abs(linear[1]) > 5e-4


def test_hulls_against_known_solids() -> None:
    """A box given by its corners is that box; the client's hull is as large as the shape."""
    corners = tuple((x, y, z) for x in (-0.3, 0.3) for y in (-0.2, 0.2) for z in (-0.1, 0.1))
    hull, known = (
        solids.solid(replace(prism(3, 1, 1), vertices=corners)),
        solids.solid(box(0.3, 0.2, 0.1)),
    )
    np.testing.assert_allclose(hull.inertia, known.inertia, atol=1e-12)
    np.testing.assert_allclose(hull.centre, 0, atol=1e-12)
    np.testing.assert_allclose(hull.half, known.half)
    inset = solids.inset(replace(prism(3, 1, 1), vertices=corners), MARGIN)
    np.testing.assert_allclose(np.abs(inset).max(axis=0), np.array([0.3, 0.2, 0.1]) - MARGIN)
    # Of a regular triangle's prism, about the axis: side²/12 with side = radius √3.
    about = solids.solid(prism(3, 0.03, 0.05)).inertia[2, 2]
    assert about == pytest.approx((0.03 * np.sqrt(3)) ** 2 / 12)
    moments, axes = solids.solid(mesh(assets.training_meshes()[7], 0.015)).principal()
    assert np.linalg.det(axes) == pytest.approx(1)
    assert (moments > 0).all()


def test_meshes_are_scaled_and_turned(engine: Any) -> None:
    """The blob's box in the picture from above is that of its turned corners."""
    turn = (0.0, 0.0, float(np.sin(0.4)), float(np.cos(0.4)))
    shape = mesh(assets.training_meshes()[5], 0.02, turn)
    corners = solids.corners(shape)
    one = engine(
        Body("it", shape, 0.1), cameras=(replace(TOP, position=(0.0, 0.0, 10.0), fov=5.0),)
    )
    rows, columns = np.nonzero(one.render("top", 400, 400).segmentation == 1)
    pixel = 2 * 10 * np.tan(np.deg2rad(2.5)) / 400
    low, high = corners.min(axis=0), corners.max(axis=0)
    seen = np.array([columns.min(), columns.max() + 1]) * pixel - 200 * pixel
    np.testing.assert_allclose(seen, (low[0], high[0]), atol=0.02 * high[0] + 1.5 * pixel)
    seen = 200 * pixel - np.array([rows.max() + 1, rows.min()]) * pixel
    np.testing.assert_allclose(seen, (low[1], high[1]), atol=0.02 * high[1] + 1.5 * pixel)
    # And touched where it is seen, as its hull: rays to the middle end where they enter that.
    middle = solids.solid(shape).centre
    one.place("it", -middle, np.array([0.0, 0.0, 0.0, 1.0]))
    pybullet.performCollisionDetection(one.client)
    planes = ConvexHull(corners - middle).equations
    for direction in np.random.default_rng(0).normal(size=(30, 3)):
        start = direction / np.linalg.norm(direction)
        facing = planes[planes[:, :3] @ start > 0]
        wanted = (-facing[:, 3] / (facing[:, :3] @ start)).min()
        ((_, _, share, _, _),) = pybullet.rayTest(start, -start, physicsClientId=one.client)
        assert 1 - 2 * share == pytest.approx(wanted, abs=3 * MARGIN)


# Sleep


def low_arm(engine: Any, *bodies: Body) -> BulletEngine:
    """With the tool, shut, 2 cm above the floor and 25 cm behind ``CUBE``."""
    one: BulletEngine = engine(FLOOR, *bodies, robot=replace(PANDA, tool_point=(0.0, 0.0, 0.1034)))
    joints = np.array(PANDA.home)
    for _ in range(100):
        joints[7:] = 0.0
        one.set_joints(joints)
        position, quaternion, _ = one.tool()
        step = np.array([-0.15, 0.0, 0.02]) - position
        joints[:7] += displacement(one.jacobian()[:, :7], 0.5 * step, quaternion, DOWN)
    assert np.abs(step).max() < 1e-3
    return one


def pushed(one: BulletEngine, control_steps: int = 40) -> tuple[list[bool], np.ndarray]:
    """Whether the cube slept, and where it was, while the tool waits and goes towards +x."""
    slept, places = [], []
    for i in range(control_steps):
        targets = one.joints()[0]
        if i >= 5:
            _, quaternion, _ = one.tool()
            go = np.array([0.015, 0.0, 0.0])
            targets[:7] += displacement(one.jacobian()[:, :7], go, quaternion, DOWN)
        one.drive(targets)
        one.step(20)
        slept.append(one._sleep.asleep)
        places.append(one.pose("cube")[0])
    return slept, np.array(places)


def test_what_lies_still_sleeps_until_it_is_pushed_and_moves_as_if_it_never_had(
    engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not right in the middle, where a hair decides which of the two fingers turns the cube.
    aside = replace(CUBE, position=(0.1, 0.002, 0.025))
    slept, places = pushed(low_arm(engine, aside))
    assert slept[4]
    assert not slept[-1]
    assert places[-1][0] - places[4][0] > 0.05
    monkeypatch.setattr(bullet_sleep, "STILL", 0.0)
    never, wanted = pushed(low_arm(engine, aside))
    assert not any(never)
    assert np.abs(places - wanted).max() < 5e-3


def test_what_rolls_slowly_goes_on(engine: Any) -> None:
    """PyBullet by itself has it fall asleep after two seconds, or does not wake it."""
    ball = Body("ball", sphere(0.1), 0.1, (0.0, 0.0, 0.1))
    other = replace(ball, name="other", position=(-0.22, 0.0, 0.1))
    one = engine(FLOOR, ball, other)
    for _ in range(3):
        one.step(20)
    assert one._sleep.asleep
    pybullet.resetBaseVelocity(one._bodies["other"].uid, [0.09, 0, 0], [0, 0.9, 0], one.client)
    places = []
    for _ in range(150):
        one.step(20)
        places.append([one.pose(name)[0][0] for name in ("ball", "other")])
    assert places[40][0] > 0.01
    assert (np.diff(places[40:], axis=0) > 1e-4).all()


@pytest.mark.parametrize(
    "change",
    [
        {"body.floor.friction": 0.05},
        {"world.gravity": [9.0, 0.0, -4.0]},
        {"body.cube.friction": 0.05},
    ],
)
def test_what_changes_wakes_who_lies_on_it(engine: Any, change: dict[str, Any]) -> None:
    one = engine(FLOOR, CUBE, gravity=(1.5, 0.0, -9.7))
    for _ in range(50):
        one.step(20)
    assert one._sleep.asleep
    before = one.pose("cube")[0][0]
    one.set(change)
    one.step(100)
    # Half of what a free slide of 0.2 s would give at least.
    assert one.pose("cube")[0][0] - before > 0.01


def test_who_sleeps_touches_and_is_the_same_after_a_restore(engine: Any) -> None:
    one = engine(FLOOR, CUBE)
    for _ in range(5):
        one.step(20)
    assert one._sleep.asleep
    assert one.touching("cube", "floor")
    state = one.state()
    runs = []
    for _ in range(2):
        one.restore(state)
        one.step(20)
        one.step(20)
        runs.append(np.concatenate([*one.pose("cube"), *one.velocity("cube")]).tobytes())
    assert runs[0] == runs[1]


def test_what_is_shown_later_or_weighs_anew_in_the_air_falls(engine: Any) -> None:
    spare = replace(CUBE, name="spare", hidden=True)
    one = engine(FLOOR, replace(CUBE, position=(0.1, 0.0, 0.6)), spare, robot=PANDA)
    for _ in range(3):
        one.step(20)
    one.place("spare", np.array([0.5, 0.5, 0.8]), np.array([0.0, 0.0, 0.0, 1.0]))
    one.set({"world.gravity": [0.0, 0.0, -1.0], "body.cube.mass": 0.4})
    before = one.velocity("cube")[0][2]
    one.step(50)
    assert one.velocity("cube")[0][2] - before == pytest.approx(-0.1, rel=1e-9)
    assert one.velocity("spare")[0][2] == pytest.approx(-0.1, rel=1e-9)


# Hidden bodies


def test_a_hidden_body_is_not_seen_nor_touched(engine: Any) -> None:
    block = Body("block", box(0.1, 0.1, 0.05), 0.0, (0.0, 0.0, 0.05), hidden=True)
    ball = Body("ball", sphere(0.03), 0.1, (0.0, 0.0, 0.2))
    one = engine(FLOOR, block, ball, cameras=(SIDE,))
    bare = engine(FLOOR, ball, cameras=(SIDE,))
    np.testing.assert_array_equal(one.rgb("side", 64, 64), bare.rgb("side", 64, 64))
    one.step(300)
    assert one.pose("ball")[0][2] == pytest.approx(0.03, abs=1e-3)  # through where the block was
    one.reset()
    one.place("block", np.array([0.0, 0.0, 0.05]), np.array([0.0, 0.0, 0.0, 1.0]))
    assert (one.render("side", 64, 64).segmentation == 2).any()
    one.step(300)
    assert one.pose("ball")[0][2] == pytest.approx(0.13, abs=1e-3)
    assert one.touching("ball", "block")
    one.hide("block")
    assert not one.touching("ball", "block")
    one.step(300)
    assert one.pose("ball")[0][2] == pytest.approx(0.03, abs=1e-3)


def test_a_hidden_body_does_not_fall_and_stays_free_when_shown(engine: Any) -> None:
    one = engine(FLOOR, replace(CUBE, hidden=True))
    place, _ = one.pose("cube")
    one.step(500)
    np.testing.assert_array_equal(one.pose("cube")[0], place)
    one.place("cube", np.array([0.0, 0.0, 0.3]), np.array([0.0, 0.0, 0.0, 1.0]))
    one.step(400)
    assert one.pose("cube")[0][2] == pytest.approx(0.025, abs=1e-3)


def test_a_ghost_is_seen_but_not_touched(engine: Any) -> None:
    ghost = Body("ghost", box(0.1, 0.1, 0.1), solid=False)
    one = engine(FLOOR, ghost, replace(CUBE, position=(0.0, 0.0, 0.2)), cameras=(SIDE,))
    assert (one.render("side", 64, 64).segmentation == 2).any()
    one.step(300)
    assert one.pose("cube")[0][2] == pytest.approx(0.025, abs=1e-3)


# Pictures


def test_depth_and_extent_of_a_box_at_a_known_distance(engine: Any) -> None:
    """Half a metre wide, its top 0.8 m below a camera of 60°: 0.25 / (0.8 tan 30°) of half."""
    it = Body("it", box(0.25, 0.15, 0.2))
    one = engine(it, cameras=(replace(TOP, fov=60.0),))
    frame = one.render("top", 200, 100)
    seen = frame.segmentation == 1
    np.testing.assert_allclose(frame.depth[seen], 0.8, atol=1e-4)
    assert np.isinf(frame.depth[~seen]).all()
    assert (frame.segmentation[~seen] == 0).all()
    rows, columns = np.nonzero(seen)
    half_height = 0.8 * np.tan(np.deg2rad(30))
    for found, half, middle in ((columns, 0.25, 100), (rows, 0.15, 50)):
        wanted = 50 * half / half_height
        # A pixel is seen if its middle is: the picture is symmetric about its own middle.
        assert found.min() == round(middle - wanted)
        assert found.max() == round(middle + wanted) - 1
    assert (frame.rgb.shape, frame.rgb.dtype) == ((100, 200, 3), np.uint8)
    assert (frame.depth.dtype, frame.segmentation.dtype) == (np.float32, np.int32)


def test_which_way_is_up_right_and_rolled(engine: Any) -> None:
    right = Body("right", box(0.02, 0.02, 0.02), position=(0.2, 0.0, 0.0))
    above = Body("above", box(0.02, 0.02, 0.02), position=(0.0, 0.2, 0.0))
    one = engine(right, above, cameras=(TOP,))

    def middle(number: int) -> np.ndarray:
        rows, columns = np.nonzero(one.render("top", 101, 101).segmentation == number)
        return np.array([columns.mean() - 50, 50 - rows.mean()])

    far = 50 * 0.2 / (0.98 * np.tan(np.deg2rad(22.5)))
    np.testing.assert_allclose(middle(1), (far, 0), atol=1)
    np.testing.assert_allclose(middle(2), (0, far), atol=1)
    one.set({"camera.top.roll": 0.5})  # the camera anticlockwise, so the picture clockwise
    np.testing.assert_allclose(middle(1), (far * np.cos(0.5), -far * np.sin(0.5)), atol=1)
    one.set({"camera.top.roll": 0.0, "camera.top.fov": 60.0})
    far = 50 * 0.2 / (0.98 * np.tan(np.deg2rad(30)))
    np.testing.assert_allclose(middle(1), (far, 0), atol=1)
    one.set({"camera.top.position": [0.2, 0.0, 1.0], "camera.top.target": [0.2, 0.0, 0.0]})
    np.testing.assert_allclose(middle(1), (0, 0), atol=1)


def test_segmentation_names_robot_bodies_and_sky(engine: Any) -> None:
    one = engine(FLOOR, CUBE, robot=PANDA, cameras=(replace(SIDE, position=(1.3, -0.9, 0.9)),))
    assert set(np.unique(one.render("side", 96, 96).segmentation)) == {-1, 0, 1, 2}


def test_flat_colours_in_full_light_are_themselves(engine: Any) -> None:
    it = Body("it", box(0.2, 0.2, 0.2), texture=Texture("flat", (0.8, 0.4, 0.2)))
    sky = Texture("flat", (0.1, 0.2, 0.3))
    one = engine(it, cameras=(TOP,), lights=(WHITE,), sky=sky)
    frame = one.render("top", 32, 32)
    np.testing.assert_allclose(frame.rgb[16, 16], (204, 102, 51), atol=1)
    np.testing.assert_allclose(frame.rgb[0, 0], np.array([0.1, 0.2, 0.3]) * 255, atol=1)
    one.set({"light.0.colour": [0.5, 1.0, 1.0]})
    tinted = one.rgb("top", 32, 32)
    np.testing.assert_allclose(tinted[16, 16], (102, 102, 51), atol=1)
    np.testing.assert_array_equal(tinted[0, 0], frame.rgb[0, 0])  # the sky shines by itself
    one.set({"light.0.colour": [1.0, 1.0, 1.0], "light.0.ambient": 0.25, "light.0.diffuse": 0.5})
    # The light stands above, so the top has all of the diffuse part.
    np.testing.assert_allclose(one.rgb("top", 32, 32)[16, 16], (153, 77, 38), atol=2)
    one.set({"light.0.ambient": 1.0, "light.0.diffuse": 1.0})  # twice as bright, where it can be
    np.testing.assert_allclose(one.rgb("top", 32, 32)[16, 16], (255, 204, 102), atol=3)
    one.set({"light.0.on": 0})
    assert (one.rgb("top", 32, 32)[16, 16] == 0).all()


def test_textures_are_wrapped_once_around_each_face(engine: Any) -> None:
    checker = Texture("checker", (1.0, 0.0, 0.0), (0.0, 0.0, 1.0), cells=2)
    it = Body("it", box(0.3, 0.2, 0.2), texture=checker, position=(0.1, 0.0, 0.0))
    one = engine(it, cameras=(TOP,), lights=(WHITE,), shadows=False)
    scale = 50 / (0.8 * np.tan(np.deg2rad(22.5)))

    def colour(x: float, y: float) -> list[int]:
        picture = one.rgb("top", 101, 101)
        found: list[int] = picture[round(50 - scale * y), round(50 + scale * x)].tolist()
        return found

    # Quarters of the top, upper left first.
    assert colour(-0.1, 0.1) == colour(0.25, -0.1) == [255, 0, 0]
    assert colour(0.25, 0.1) == colour(-0.1, -0.1) == [0, 0, 255]
    one.place("it", np.array([-0.1, 0.0, 0.0]), np.array([0.0, 0.0, 1.0, 0.0]))  # half a turn
    assert colour(-0.25, 0.1) == colour(0.1, -0.1) == [255, 0, 0]
    one.set({"body.it.texture": Texture("flat", (0.0, 1.0, 0.0)).as_dict()})
    assert colour(-0.25, 0.1) == [0, 255, 0]


def test_shadows_only_where_wanted(engine: Any) -> None:
    block = Body("block", box(0.05, 0.05, 0.2), position=(0.0, 0.0, 0.2))
    light = Light((1.0, 0.0, 1.5))
    camera = replace(TOP, position=(0.0, 0.0, 1.5))
    with_, without = (
        engine(FLOOR, block, cameras=(camera,), lights=(light,), shadows=shadows)
        for shadows in (True, False)
    )
    dark, bright = with_.rgb("top", 64, 64).astype(int), without.rgb("top", 64, 64).astype(int)
    assert (dark - bright).max() == 0
    shaded = np.nonzero((dark - bright).min(axis=2) < -5)
    assert len(shaded[0]) > 30
    assert (shaded[1] < 32).mean() > 0.95  # to the left: the light stands to the right


@pytest.mark.parametrize("size", [128, 512])
def test_a_shadow_leaves_the_ambient_light_and_no_other(engine: Any, size: int) -> None:
    white = replace(FLOOR, texture=Texture("flat", (1.0, 1.0, 1.0)))
    block = Body("block", box(0.05, 0.05, 0.2), position=(0.0, 0.0, 0.2))
    camera = replace(TOP, position=(0.0, 0.0, 1.5))
    light = Light((1.0, 0.0, 1.5), (1.0, 0.8, 0.6), ambient=0.4, diffuse=0.5, specular=0.1)
    one = engine(white, block, cameras=(camera,), lights=(light,))
    column = round(size * (0.5 - 0.15 / (2 * 1.5 * np.tan(np.deg2rad(22.5)))))  # 15 cm to the left
    shaded = one.rgb("top", size, size)[size // 2, column]
    np.testing.assert_allclose(shaded, 255 * 0.4 * np.array([1.0, 0.8, 0.6]), atol=2)
    # Also where all of it together is more than the picture can hold.
    one.set({"light.0.ambient": 0.8, "light.0.diffuse": 1.0})
    shaded = one.rgb("top", size, size)[size // 2, column]
    np.testing.assert_allclose(shaded, 255 * 0.8 * np.array([1.0, 0.8, 0.6]), atol=3)


@pytest.mark.parametrize("size", [128, 512])
def test_shadows_lie_where_rays_say_and_nowhere_else(engine: Any, size: int) -> None:
    block = Body("block", box(0.1, 0.1, 0.1), position=(0.0, 0.0, 0.1))
    camera = replace(SIDE, position=(0.0, -1.2, 1.2))
    with_, without = (
        engine(FLOOR, block, cameras=(camera,), lights=(Light((1.0, 0.4, 1.5)),), shadows=shadows)
        for shadows in (True, False)
    )
    frame, bright = with_.render("side", size, size), without.rgb("side", size, size).astype(int)
    dark = (bright - frame.rgb).max(axis=2)
    view = View.of(camera.position, camera.target, np.array(camera.up), 0.0, camera.fov, aspect=1.0)
    rows, columns = np.nonzero(np.isfinite(frame.depth))
    points = (
        np.array(camera.position)
        + view.rays(rows, columns, frame.depth.shape) * (frame.depth[rows, columns, None])
    )
    # A ray from each point of the floor to the light, at the heights between which the block is.
    heights = np.linspace(1e-3, 0.2, 100)
    rays = points[:, None, :2] + np.array([1.0, 0.4]) / 1.5 * heights[:, None]
    inside = np.abs(rays).max(axis=2)
    on_floor = frame.segmentation[rows, columns] == 1
    found = dark[rows, columns]
    edge = 0.03  # m: shadows' edges are as soft as the light's map is coarse
    hidden = on_floor & ((inside < 0.1 - edge).sum(axis=1) >= 3)
    assert hidden.sum() > size * size / 200
    assert (found[hidden] > 20).all()
    lit = on_floor & (inside > 0.1 + edge).all(axis=1)
    assert (found[lit] == 0).all()
    # The block is nowhere in its own shadow: what is turned away has no direct light to lose.
    upper = ~on_floor & (points[:, 2] > 0.195)
    assert upper.sum() > size * size / 200
    assert (found[upper] == 0).all()
    assert (found[~on_floor] == 0).mean() > 0.97


def test_a_shadow_begins_where_the_thing_stands(engine: Any) -> None:
    cube = Body("cube", box(0.02, 0.02, 0.02), position=(0.0, 0.0, 0.02))
    camera = replace(TOP, position=(0.0, 0.0, 0.5))
    one = engine(FLOOR, cube, cameras=(camera,), lights=(Light((1.0, 0.0, 0.7)),))
    row = one.rgb("top", 128, 128)[64].astype(int).sum(axis=1)
    scale = 64 / (0.5 * np.tan(np.deg2rad(22.5)))  # pixels a metre
    shaded = row[round(64 - 0.055 * scale) : round(64 - 0.03 * scale)]  # 1 to 3.5 cm beside it
    assert (shaded < row[127] - 60).all()


def test_coarse_shadows_of_large_pictures_are_those_of_small_ones(engine: Any) -> None:
    block = Body("block", box(0.1, 0.1, 0.1), position=(0.0, 0.0, 0.1))
    camera = replace(TOP, position=(0.0, 0.0, 1.5))
    one = engine(FLOOR, block, cameras=(camera,), lights=(Light((1.0, 0.5, 1.5)),))
    large = one.rgb("top", 512, 512).reshape(128, 4, 128, 4, 3).mean(axis=(1, 3))
    difference = np.abs(large - one.rgb("top", 128, 128)).max(axis=2)
    assert np.median(difference) <= 1
    assert (difference > 8).mean() < 0.05  # along edges


# The robot


def test_jacobian_against_finite_differences(engine: Any) -> None:
    turned = replace(PANDA, quaternion=(0.1, 0.2, 0.3, float(np.sqrt(0.86))))
    for model in (PANDA, turned):
        one = engine(robot=model)
        joints = one.joints()[0] + 0.1
        one.set_joints(joints)
        found = one.jacobian()
        position, quaternion, _ = one.tool()
        for j in range(9):
            moved = joints.copy()
            moved[j] += 1e-6
            one.set_joints(moved)
            there, turn, _ = one.tool()
            angle = 2 * rotations.times(turn, rotations.inverse(quaternion))[:3]
            wanted = np.concatenate([there - position, angle]) / 1e-6
            np.testing.assert_allclose(found[:, j], wanted, atol=1e-5)


def test_the_tools_velocity_is_the_jacobians(engine: Any) -> None:
    one = engine(FLOOR, robot=PANDA)
    one.drive(np.array(PANDA.home) + 0.1)
    one.step(10)
    _, rates = one.joints()
    np.testing.assert_allclose(one.tool()[2], (one.jacobian() @ rates)[:3], atol=1e-6)


def test_drives_close_errors_at_their_rate(engine: Any) -> None:
    """The velocity is gain x error: in every step, that share of it goes."""
    falling = replace(CUBE, position=(5.0, 0.0, 5.0))  # with which the solver works to the end
    one = engine(falling, robot=PANDA)
    targets = np.array(PANDA.home)
    targets[6] += 0.02  # little enough that no drive reaches its force
    for gain in (20.0, 5.0):
        one.set({"joint.panda_joint7.gain": gain})
        one.reset()
        one.drive(targets)
        one.step(10)  # at first the force is the limit
        before = (targets - one.joints()[0])[6]
        one.step(40)
        left = (targets - one.joints()[0])[6] / before
        assert left == pytest.approx((1 - gain * 0.002) ** 40, rel=0.01)


def test_the_arm_needs_no_drives_to_stay_where_it_is(engine: Any) -> None:
    """Its controller compensates gravity; a body beside it falls."""
    one = engine(FLOOR, replace(CUBE, position=(0.4, 0.4, 0.5)), robot=PANDA)
    one.step(1)
    pybullet.setJointMotorControlArray(
        one._robot.uid,
        one._robot.indices,
        pybullet.VELOCITY_CONTROL,
        forces=[0.0] * 9,
        physicsClientId=one.client,
    )
    one.step(200)
    np.testing.assert_allclose(one.joints()[0], PANDA.home, atol=1e-12)
    assert one.pose("cube")[0][2] < 0.03


def test_a_heavy_arm_lags_behind_when_its_force_ends(engine: Any) -> None:
    one = engine(robot=PANDA)
    targets = np.array(PANDA.home)
    targets[0] += 0.3
    left = []
    for mass in (1.0, 12.0):
        one.set({"robot.mass": mass})
        one.reset()
        one.drive(targets)
        one.step(50)
        left.append(targets[0] - one.joints()[0][0])
    assert left[0] < 0.12
    assert left[1] > 0.25


def test_the_arm_alone_is_close_to_the_exact_solution(
    engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = []
    for sweeps, residual in ((bullet_sleep.SWEEPS, bullet_sleep.COARSE), (3000, 0.0)):
        monkeypatch.setattr(bullet_sleep, "SWEEPS", sweeps)
        monkeypatch.setattr(bullet_sleep, "COARSE", residual)
        one = engine(robot=PANDA)
        path = []
        for i in range(8):
            one.drive(np.add(PANDA.home, (0.1 * (i % 3), 0.05 * i, 0, 0, 0, 0, 0.1, 0, 0)))
            for _ in range(20):
                one.step(1)
                path.append(one.tool()[0])
        paths.append(np.array(path))
    assert np.ptp(paths[0], axis=0).max() > 0.1
    apart = np.linalg.norm(paths[0] - paths[1], axis=1)
    assert apart.mean() < 5e-4
    assert apart.max() < 1.5e-3


def test_the_arm_does_not_touch_what_it_stands_on(engine: Any) -> None:
    one = engine(FLOOR, robot=PANDA)
    one.step(20)
    assert not one.touching("robot", "floor")


def test_merged_links_keep_their_mass_and_centre(engine: Any) -> None:
    """Link 7 (0.2 kg, 8 cm out) with the hand (0.81 kg, 10.7 + 4 cm out)."""
    one = engine(robot=PANDA)
    mass, _, _, centre, *_ = pybullet.getDynamicsInfo(one._robot.uid, one._robot.tool, one.client)
    assert mass == pytest.approx(1.01)
    np.testing.assert_allclose(centre, (0, 0, (0.2 * 0.08 + 0.81 * 0.147) / 1.01), atol=1e-9)


def test_the_hand_is_where_the_urdf_has_it(engine: Any) -> None:
    """All joints at zero: 0.088 m out, and the flange 0.333 + 0.316 + 0.384 - 0.107 m up."""
    upright = replace(PANDA, home=(0.0,) * 9, tool_point=(0.0, 0.0, 0.0), position=(0.0, 0.0, 0.0))
    position, quaternion, _ = engine(robot=upright).tool()
    np.testing.assert_allclose(position, (0.088, 0, 0.926), atol=1e-6)
    np.testing.assert_allclose(rotations.rotate(quaternion, (0, 0, 1)), (0, 0, -1), atol=1e-6)


def test_fingers_touch_what_they_hold(engine: Any) -> None:
    one = engine(robot=PANDA, gravity=(0.0, 0.0, 0.0))
    place = one.tool()[0]
    one.close()
    held = Body("held", box(0.02, 0.02, 0.02), 0.05, tuple(place))
    one = engine(held, robot=replace(PANDA, tool_point=(0.0, 0.0, 0.1034)))
    one.place("held", one.tool()[0], one.tool()[1])
    assert not one.touching("held", "fingers")
    grip = np.array(PANDA.home)
    grip[7:] = 0.0
    one.drive(grip)
    one.step(100)
    assert one.touching("held", "fingers")
    assert one.touching("fingers", "held")
    assert one.touching("held", "robot")
    lift = grip.copy()
    lift[3] += 0.3
    one.drive(lift)
    one.step(300)
    assert np.linalg.norm(one.pose("held")[0] - one.tool()[0]) < 0.01  # it came along


def test_a_scene_without_a_robot_says_so(engine: Any) -> None:
    one = engine(CUBE)
    with pytest.raises(ValueError, match="no robot"):
        one.joints()
    one.step(1)
    one.reset()


# Leftovers


def test_closing_leaves_nothing() -> None:
    scene = replace(everything(), cameras=(SIDE,))

    def cycle() -> None:
        one = BulletEngine(scene)
        one.rgb("side", 16, 16)
        one.close()
        one.close()

    for _ in range(3):
        cycle()
    before = memory(), len(os.listdir("/proc/self/fd"))
    for _ in range(12):
        cycle()
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before[1]
    assert memory() - before[0] < 12e6  # an engine left open would cost 30 MB each time


def memory() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_closed_engine_reaches_no_other(engine: Any) -> None:
    one = engine(CUBE)
    one.close()
    other = engine(CUBE)
    with pytest.raises(pybullet.error):
        one.step(1)
    assert other.pose("cube")[0][2] == pytest.approx(0.025)
