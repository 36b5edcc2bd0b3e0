"""The scene in PyBullet: its DIRECT client and its software renderer, nothing to install."""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from envs.quiet import quiet
from envs.robotics import bullet_bodies, rotations
from envs.robotics.bullet_bodies import MOVING, STATIC, Arm, Placed
from envs.robotics.bullet_pictures import ROBOT, Painter
from envs.robotics.bullet_sleep import Sleep
from envs.robotics.engine import Frame
from envs.robotics.parameters import Parameter, ParameterError, Value, check, scene_parameters
from envs.robotics.scene import Scene

with quiet():  # it prints when it was built
    import pybullet

# Where hidden bodies wait, asleep: behind every camera's far plane.
AWAY = (0.0, 0.0, -1000.0)
TOUCH = 5e-4  # m; what lies on something hovers or sinks by less

UNSUPPORTED = {
    "light.[1-9]*": "PyBullet's software renderer has one light, light.0",
    "joint.*.armature": "PyBullet's joints have no rotor inertia",
    "joint.*.friction": "PyBullet's driven joints have no dry friction",
}
APPROXIMATED = {
    "joint.*.gain": "the drive is a velocity constraint as hard as its force allows, whatever its "
    "damping",
    "joint.*.damping": "the drive overcomes it as long as its force lasts",
    "body.*.damping": "turning: one rate about all axes, that of the mean moment of inertia",
    "light.0.specular": "the highlight does not depend on where the camera is",
}


@dataclass(frozen=True)
class _State:
    """bodies: position, quaternion, linear and angular velocity of each body's frame in the client.

    joints, rates: of all movable joints; targets: of the driven ones.
    """

    bodies: tuple[tuple[tuple[float, ...], ...], ...]
    hidden: tuple[bool, ...]
    joints: tuple[float, ...]
    rates: tuple[float, ...]
    targets: np.ndarray


class BulletEngine:
    """See ``envs.robotics.engine.Engine``."""

    unsupported: Mapping[str, str] = UNSUPPORTED

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        everything = scene_parameters(scene)
        self._refused = {path: reason for path in everything if (reason := self._reason(path))}
        self._parameters = {
            path: parameter for path, parameter in everything.items() if path not in self._refused
        }
        self._values: dict[str, Any] = {
            path: parameter.nominal for path, parameter in self._parameters.items()
        }
        self._bodies: dict[str, Placed] = {}
        self._robot: Arm | None = None
        self._targets = np.zeros(0)
        self._gains: list[float] = []
        self._stale = True  # contacts are older than the last change
        self._placed = False  # bodies were put somewhere since the last step
        self._seen: dict[str | tuple[str, int], Any] = {}  # asked for since the last change
        self.client: int = pybullet.connect(pybullet.DIRECT)
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def _build(self) -> None:
        # For so few bodies a list of boxes is faster than a tree of them, and it remembers nothing.
        pybullet.resetSimulation(pybullet.RESET_USE_SIMPLE_BROADPHASE, self.client)
        pybullet.setPhysicsEngineParameter(
            fixedTimeStep=self.scene.timestep,
            # Otherwise the order of contacts would depend on what happened before.
            deterministicOverlappingPairs=1,
            physicsClientId=self.client,
        )
        for number, body in enumerate(self.scene.bodies, start=1):
            self._bodies[body.name] = bullet_bodies.add(self.client, number, body)
        numbers = {known.uid: known.number for known in self._bodies.values()}
        if self.scene.robot is not None:
            self._robot = Arm(self.client, self.scene.robot)
            self._targets = np.array(self.scene.robot.home)
            numbers[self._robot.uid] = ROBOT
        loose = [known for known in self._bodies.values() if known.spec.mass]
        arm = None if self._robot is None else self._robot.uid
        self._sleep = Sleep(self.client, loose, self.scene.gravity, arm)
        self._painter = Painter(self.client, self.scene, numbers, self._values, self.pose)
        self._apply(self._values)
        for known in self._bodies.values():
            self._show(known, True)
            if known.spec.hidden:
                self.hide(known.spec.name)
        if self._robot is not None:
            self.set_joints(self._targets)
        self._start = self.state()

    # Time

    def reset(self) -> None:
        self.restore(self._start)

    def step(self, substeps: int) -> None:
        if self._placed:  # see restore
            self.state()
        self._sleep.settle(self._speed)
        client, step = self.client, pybullet.stepSimulation
        for _ in range(substeps):
            step(client)
        self._stale = False
        self._seen.clear()

    # Bodies

    def pose(self, body: str) -> tuple[np.ndarray, np.ndarray]:
        position, turn, _ = self._pose(self._bodies[body])
        return position.copy(), turn.copy()

    def velocity(self, body: str) -> tuple[np.ndarray, np.ndarray]:
        known = self._bodies[body]
        linear, angular = self._speed(known)
        _, _, lever = self._pose(known)
        return np.array(linear) + rotations.cross(angular, lever), np.array(angular)

    def _pose(self, known: Placed) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Its origin, its turn, and the way to its origin from that of its frame in the client."""
        key = "pose", known.uid
        if key not in self._seen:
            centre, axes = pybullet.getBasePositionAndOrientation(known.uid, self.client)
            lever = rotations.rotate(axes, known.origin)
            self._seen[key] = centre + lever, rotations.times(axes, known.back), lever
        found: tuple[np.ndarray, np.ndarray, np.ndarray] = self._seen[key]
        return found

    def _speed(self, known: Placed) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Linear and angular, of its frame in the client."""
        key = "speed", known.uid
        if key not in self._seen:
            self._seen[key] = pybullet.getBaseVelocity(known.uid, self.client)
        found: tuple[tuple[float, ...], tuple[float, ...]] = self._seen[key]
        return found

    def place(self, body: str, position: np.ndarray, quaternion: np.ndarray) -> None:
        known = self._bodies[body]
        if known.hidden:
            self._show(known, True)
        self._move(known, np.asarray(position, float), np.asarray(quaternion, float))

    def hide(self, body: str) -> None:
        known = self._bodies[body]
        if known.hidden:
            return
        self._show(known, False)
        self._move(known, np.array(AWAY), np.array([0.0, 0.0, 0.0, 1.0]))

    def _show(self, known: Placed, shown: bool) -> None:
        known.hidden = not shown
        self._collide(known)
        self._sleep.rouse(known)

    def _move(self, known: Placed, position: np.ndarray, turn: np.ndarray) -> None:
        centre = position + rotations.rotate(turn, known.centre)
        pybullet.resetBasePositionAndOrientation(
            known.uid, centre.tolist(), rotations.times(turn, known.axes).tolist(), self.client
        )
        pybullet.resetBaseVelocity(known.uid, [0, 0, 0], [0, 0, 0], self.client)
        self._stale = self._placed = True
        self._seen.clear()

    def _collide(self, known: Placed) -> None:
        """Whether others can touch it: not while it is hidden."""
        if known.spec.solid:
            kind = (0, 0) if known.hidden else MOVING if known.spec.mass else STATIC
            pybullet.setCollisionFilterGroupMask(known.uid, -1, *kind, self.client)

    # The robot

    @property
    def _arm(self) -> "Arm":
        if self._robot is None:
            raise ValueError("the scene has no robot")
        return self._robot

    def joints(self) -> tuple[np.ndarray, np.ndarray]:
        if "joints" not in self._seen:
            columns = self._arm.columns
            self._seen["joints"] = tuple(np.array(part)[columns] for part in self._movable())
        positions, rates = self._seen["joints"]
        return positions.copy(), rates.copy()

    def _movable(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Positions and velocities of all movable joints."""
        if "movable" not in self._seen:
            arm = self._arm
            states = pybullet.getJointStates(arm.uid, arm.movable, self.client)
            self._seen["movable"] = tuple(zip(*(state[:2] for state in states), strict=True))
        found: tuple[tuple[float, ...], tuple[float, ...]] = self._seen["movable"]
        return found

    def set_joints(self, positions: np.ndarray) -> None:
        arm = self._arm
        for index, position in zip(arm.indices, np.asarray(positions, float), strict=True):
            pybullet.resetJointState(arm.uid, index, position, 0.0, self.client)
        self._stale = True
        self._seen.clear()
        self.drive(positions)

    def drive(self, targets: np.ndarray) -> None:
        self._targets = np.array(targets, dtype=np.float64)
        arm = self._arm
        pybullet.setJointMotorControlArray(
            arm.uid,
            arm.indices,
            pybullet.POSITION_CONTROL,
            targetPositions=self._targets.tolist(),
            forces=arm.model.forces,
            positionGains=self._gains,
            physicsClientId=self.client,
        )

    def tool(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if "tool" not in self._seen:
            arm = self._arm
            # The link's own frame, further back in the reply, has single precision only.
            centre, axes, _, _, _, _, linear, angular = pybullet.getLinkState(
                arm.uid, arm.tool, 1, 1, self.client
            )
            lever = rotations.rotate(axes, arm.lever)
            turn = rotations.times(axes, arm.tool_axes)
            speed = np.array(linear) + rotations.cross(angular, lever)
            self._seen["tool"] = np.array(centre) + lever, turn, speed
        position, turn, velocity = self._seen["tool"]
        return position.copy(), turn.copy(), velocity.copy()

    def jacobian(self) -> np.ndarray:
        arm = self._arm
        angles, still = self._movable()[0], [0.0] * len(arm.movable)
        parts = pybullet.calculateJacobian(
            arm.uid, arm.tool, arm.from_joint, angles, still, still, self.client
        )
        # It comes along the base's axes, and for all movable joints.
        whole = arm.base_axes @ np.array(parts)[:, :, arm.columns]
        turned: np.ndarray = whole.reshape(6, -1)
        return turned

    def touching(self, first: str, second: str) -> bool:
        if self._stale:
            pybullet.performCollisionDetection(self.client)
            self._stale = False
        (one, links), (two, others) = self._parts(first), self._parts(second)
        return any(
            contact[8] < TOUCH
            and (links is None or contact[3] in links)
            and (others is None or contact[4] in others)
            for contact in pybullet.getContactPoints(one, two, physicsClientId=self.client)
        )

    def _parts(self, name: str) -> tuple[int, frozenset[int] | None]:
        """The client's id, and which links count (None: all)."""
        if name == "robot":
            return self._arm.uid, None
        if name == "fingers":
            return self._arm.uid, self._arm.fingers
        return self._bodies[name].uid, None

    # Pictures

    def render(self, camera: str, width: int, height: int) -> Frame:
        return self._painter.frame(camera, width, height)

    def rgb(self, camera: str, width: int, height: int) -> np.ndarray:
        return self.render(camera, width, height).rgb

    # Parameters

    def _reason(self, path: str) -> str | None:
        for pattern, reason in self.unsupported.items():
            if fnmatchcase(path, pattern):
                return reason
        return None

    def parameters(self) -> dict[str, Parameter]:
        return dict(self._parameters)

    def set(self, values: Mapping[str, Value]) -> None:
        for path in values:
            if path in self._refused:
                raise ParameterError(f"{path} cannot be set here: {self._refused[path]}")
        check(self._parameters, values)
        self._values.update(values)
        self._apply(values)

    def _apply(self, values: Mapping[str, Value]) -> None:
        """Takes what these parameters are now into the client; looks are read when drawing."""
        if "world.gravity" in values:
            self._sleep.weigh(self._values["world.gravity"])
        owners = {path.rsplit(".", 1)[0] for path in values if not self._parameters[path].visual}
        for name, known in self._bodies.items():
            if f"body.{name}" in owners:
                self._apply_body(known)
        if owners:  # also what lies on something that is another now
            self._sleep.wake()
        arm = self._robot
        if arm is None:
            return
        if "robot" in owners:
            factors = [self._values[f"robot.{name}"] for name in ("mass", "inertia", "friction")]
            arm.set_dynamics(*factors)
        if any(owner.startswith("joint.") for owner in owners):
            joints, step = arm.model.joints, self.scene.timestep
            arm.set_dampings([self._values[f"joint.{name}.damping"] for name in joints])
            self._gains = [self._values[f"joint.{name}.gain"] * step for name in joints]
            self.drive(self._targets)

    def _apply_body(self, known: Placed) -> None:
        spec, path = known.spec, f"body.{known.spec.name}"
        changes: dict[str, Any] = {}
        if spec.solid:
            changes["lateralFriction"] = self._values[f"{path}.friction"]
        if spec.mass:
            mass, damping = self._values[f"{path}.mass"], self._values[f"{path}.damping"]
            moments = known.moments * mass * self._values[f"{path}.inertia"]
            changes |= {
                "mass": mass,
                "localInertiaDiagonal": moments.tolist(),
                # Each step, velocities shrink by the factor (1 - this) ** timestep.
                "linearDamping": 1 - np.exp(-damping / mass),
                "angularDamping": 1 - np.exp(-damping / moments.mean()),
            }
        if changes:
            pybullet.changeDynamics(known.uid, -1, **changes, physicsClientId=self.client)

    # States

    def state(self) -> Any:
        bodies = tuple(
            (
                *pybullet.getBasePositionAndOrientation(known.uid, self.client),
                *pybullet.getBaseVelocity(known.uid, self.client),
            )
            for known in self._bodies.values()
        )
        joints: tuple[float, ...] = ()
        rates: tuple[float, ...] = ()
        if self._robot is not None:
            joints, rates = self._movable()
        hidden = tuple(known.hidden for known in self._bodies.values())
        state = _State(bodies, hidden, joints, rates, self._targets.copy())
        # What goes on from here must do so exactly as it will after a later restore.
        self.restore(state)
        return state

    def restore(self, state: Any) -> None:
        """Not by the client's own saved states, which are not exact.

        Its contact solver remembers former contacts, which go when a body leaves the world of
        contacts; and a body that was put somewhere keeps the inertia tensor of how it lay before
        until it is stepped once. So all are stepped once, without gravity, contact or velocity.
        """
        client = self.client
        bodies = list(zip(self._bodies.values(), state.hidden, state.bodies, strict=True))
        for known, hidden, (position, turn, _, _) in bodies:
            known.hidden = True
            self._collide(known)
            known.hidden = hidden
            self._sleep.rouse(known)
            pybullet.resetBasePositionAndOrientation(known.uid, position, turn, client)
            pybullet.resetBaseVelocity(known.uid, [0, 0, 0], [0, 0, 0], client)
        pybullet.setGravity(0, 0, 0, client)
        pybullet.stepSimulation(client)
        self._sleep.weigh(self._values["world.gravity"])
        for known, _, (position, turn, linear, angular) in bodies:
            pybullet.resetBasePositionAndOrientation(known.uid, position, turn, client)
            pybullet.resetBaseVelocity(known.uid, linear, angular, client)
            self._collide(known)
        if self._robot is not None:
            self._robot.put(state.joints, state.rates)
            self.drive(state.targets)
        self._stale, self._placed = True, False
        self._seen.clear()

    def close(self) -> None:
        if self.client >= 0:
            pybullet.disconnect(self.client)
            self.client = -1  # of none: others get the freed number
