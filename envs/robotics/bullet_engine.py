"""The scene in PyBullet: its DIRECT client and its software renderer, nothing to install."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from envs.quiet import quiet
from envs.robotics import solids
from envs.robotics.bullet_pictures import View, metres, wrapped
from envs.robotics.engine import Frame
from envs.robotics.parameters import Parameter, ParameterError, Value, check, scene_parameters
from envs.robotics.scene import Body, RobotModel, Scene, Shape
from envs.robotics.textures import Texture

with quiet():  # it prints when it was built
    import pybullet

# Where hidden bodies wait, asleep: behind every camera's far plane.
AWAY = (0.0, 0.0, -1000.0)
TOUCH = 5e-4  # m; what lies on something hovers or sinks by less
# Collision group and mask: what stands still needs no contact with its like.
MOVING, STATIC = (1, 3), (2, 1)
AWAKE = (pybullet.ACTIVATION_STATE_WAKE_UP, pybullet.ACTIVATION_STATE_DISABLE_SLEEPING)
ASLEEP = (pybullet.ACTIVATION_STATE_SLEEP,)

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
    "light.0.position": "shadows take a fifth of the light, and fall only where the camera's "
    "field of view, seen from the light, reaches",
}


@dataclass
class _Body:
    """A body in the client, whose frame there lies in the centre of mass, along its axes.

    centre, axes: that frame in the body's own, [3] and a quaternion.
    moments: about those axes for 1 kg.
    """

    uid: int
    number: int
    spec: Body
    centre: np.ndarray
    axes: np.ndarray
    moments: np.ndarray
    middle: np.ndarray
    half: np.ndarray
    hidden: bool = False


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
        self.client: int | None = pybullet.connect(pybullet.DIRECT)
        self._parameters = {
            path: parameter
            for path, parameter in scene_parameters(scene).items()
            if self._reason(path) is None
        }
        self._values = {path: parameter.nominal for path, parameter in self._parameters.items()}
        self._bodies: dict[str, _Body] = {}
        self._stale = True  # contacts are older than the last change
        self._placed = False  # bodies were put somewhere since the last step
        self._targets = np.zeros(0)
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    # Building

    def _build(self) -> None:
        client = self.client
        pybullet.setPhysicsEngineParameter(
            fixedTimeStep=self.scene.timestep,
            # Otherwise the order of contacts would depend on what happened before.
            deterministicOverlappingPairs=1,
            physicsClientId=client,
        )
        for number, body in enumerate(self.scene.bodies, start=1):
            self._bodies[body.name] = self._add(number, body)
        self._robot: _Robot | None = None
        if self.scene.robot is not None:
            self._robot = _Robot(self.scene.robot, self.client)
            self._targets = np.array(self.scene.robot.home)
        self._numbers = np.zeros(2 + len(self._bodies), dtype=np.int32)  # by client's id; -1 last
        for known in self._bodies.values():
            self._numbers[known.uid] = known.number
        if self._robot is not None:
            self._numbers[self._robot.uid] = -1
        self._apply(self._values)
        for known in self._bodies.values():
            self._show(known, True)
            if known.spec.hidden:
                self.hide(known.spec.name)
        if self._robot is not None:
            self.set_joints(np.array(self._robot.model.home))
        self._start = self.state()

    def _add(self, number: int, body: Body) -> _Body:
        shape = body.shape
        solid = solids.solid(shape)
        moments, axes = solid.principal()
        known = _Body(
            -1,
            number,
            body,
            solid.centre,
            solids.quaternion(axes),
            moments,
            solid.middle,
            solid.half,
        )
        collision = -1
        if body.solid:
            collision = pybullet.createCollisionShape(
                **self._collision(shape), physicsClientId=self.client
            )
        visual = pybullet.createVisualShape(
            **self._visual(shape), rgbaColor=[1, 1, 1, 1], physicsClientId=self.client
        )
        known.uid = pybullet.createMultiBody(
            baseMass=body.mass,
            baseCollisionShapeIndex=collision,
            baseVisualShapeIndex=visual,
            basePosition=body.position,
            baseOrientation=body.quaternion,
            baseInertialFramePosition=known.centre.tolist(),
            baseInertialFrameOrientation=known.axes.tolist(),
            # Rigid bodies rather than chains without links: faster, with exact linear damping.
            useMaximalCoordinates=True,
            physicsClientId=self.client,
        )
        return known

    @staticmethod
    def _collision(shape: Shape) -> dict[str, Any]:
        if shape.kind == "box":
            return {"shapeType": pybullet.GEOM_BOX, "halfExtents": shape.size}
        if shape.kind == "sphere":
            return {"shapeType": pybullet.GEOM_SPHERE, "radius": shape.size[0]}
        if shape.kind == "cylinder":
            radius, half_height = shape.size
            return {
                "shapeType": pybullet.GEOM_CYLINDER,
                "radius": radius,
                "height": 2 * half_height,
            }
        vertices, _ = solids.hull(shape)
        return {"shapeType": pybullet.GEOM_MESH, "vertices": vertices.tolist()}

    @staticmethod
    def _visual(shape: Shape) -> dict[str, Any]:
        if shape.kind == "cylinder":
            radius, half_height = shape.size
            return {
                "shapeType": pybullet.GEOM_CYLINDER,
                "radius": radius,
                "length": 2 * half_height,
            }
        if shape.kind == "mesh":
            return {
                "shapeType": pybullet.GEOM_MESH,
                "fileName": str(shape.file),
                "meshScale": [shape.scale] * 3,
                "visualFrameOrientation": shape.turn,
            }
        if shape.kind == "hull":
            vertices, faces = solids.hull(shape)
            # Every triangle has its own corners, so that its edges are seen.
            corners = vertices[faces]
            normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
            normals /= np.linalg.norm(normals, axis=1, keepdims=True)
            return {
                "shapeType": pybullet.GEOM_MESH,
                "vertices": corners.reshape(-1, 3).tolist(),
                "indices": list(range(3 * len(faces))),
                "normals": np.repeat(normals, 3, axis=0).tolist(),
                "uvs": [[0.0, 0.0]] * (3 * len(faces)),
            }
        return BulletEngine._collision(shape)

    # Time

    def reset(self) -> None:
        self.restore(self._start)

    def step(self, substeps: int) -> None:
        if self._placed:  # see restore
            self.state()
        client, step = self.client, pybullet.stepSimulation
        for _ in range(substeps):
            step(client)
        self._stale = False

    # Bodies

    def pose(self, body: str) -> tuple[np.ndarray, np.ndarray]:
        known = self._bodies[body]
        position, axes = pybullet.getBasePositionAndOrientation(known.uid, self.client)
        turn = _times(np.array(axes), _inverse(known.axes))
        return np.array(position) - _rotate(turn, known.centre), turn

    def velocity(self, body: str) -> tuple[np.ndarray, np.ndarray]:
        known = self._bodies[body]
        linear, angular = map(np.array, pybullet.getBaseVelocity(known.uid, self.client))
        _, turn = self.pose(body)
        return linear - np.cross(angular, _rotate(turn, known.centre)), angular

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

    def _show(self, known: _Body, shown: bool) -> None:
        known.hidden = not shown
        self._collide(known)
        self._rouse(known)

    def _move(self, known: _Body, position: np.ndarray, turn: np.ndarray) -> None:
        centre = position + _rotate(turn, known.centre)
        pybullet.resetBasePositionAndOrientation(
            known.uid, centre.tolist(), _times(turn, known.axes).tolist(), self.client
        )
        pybullet.resetBaseVelocity(known.uid, [0, 0, 0], [0, 0, 0], self.client)
        self._stale = self._placed = True

    def _collide(self, known: _Body) -> None:
        """Whether others can touch it: not while it is hidden."""
        if known.spec.solid:
            kind = (0, 0) if known.hidden else MOVING if known.spec.mass else STATIC
            pybullet.setCollisionFilterGroupMask(known.uid, -1, *kind, self.client)

    def _rouse(self, known: _Body) -> None:
        """Whether it moves: not while it is hidden, or it would fall for ever."""
        if not known.spec.mass:
            return
        for state in ASLEEP if known.hidden else AWAKE:
            pybullet.changeDynamics(
                known.uid, -1, activationState=state, physicsClientId=self.client
            )

    # The robot

    @property
    def _arm(self) -> "_Robot":
        if self._robot is None:
            raise ValueError("the scene has no robot")
        return self._robot

    def joints(self) -> tuple[np.ndarray, np.ndarray]:
        states = pybullet.getJointStates(self._arm.uid, self._arm.indices, self.client)
        return np.array([s[0] for s in states]), np.array([s[1] for s in states])

    def set_joints(self, positions: np.ndarray) -> None:
        arm = self._arm
        for index, position in zip(arm.indices, np.asarray(positions, float), strict=True):
            pybullet.resetJointState(arm.uid, index, position, 0.0, self.client)
        self._stale = True
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
            positionGains=arm.gains,
            physicsClientId=self.client,
        )

    def tool(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        arm = self._arm
        # The link's own frame, further back in the reply, has single precision only.
        centre, axes, _, _, _, _, linear, angular = pybullet.getLinkState(
            arm.uid, arm.tool, 1, 1, self.client
        )
        lever = _rotate(np.array(axes), arm.lever)
        turn = _times(np.array(axes), arm.tool_axes)
        return np.array(centre) + lever, turn, np.array(linear) + np.cross(angular, lever)

    def jacobian(self) -> np.ndarray:
        arm = self._arm
        states = pybullet.getJointStates(arm.uid, arm.movable, self.client)
        still = [0.0] * len(states)
        linear, angular = pybullet.calculateJacobian(
            arm.uid,
            arm.tool,
            arm.model.tool_point,
            [s[0] for s in states],
            still,
            still,
            self.client,
        )
        whole = np.concatenate([linear, angular])
        return whole[:, arm.columns]

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

    def rgb(self, camera: str, width: int, height: int) -> np.ndarray:
        return self.render(camera, width, height).rgb

    def render(self, camera: str, width: int, height: int) -> Frame:
        view = self._view(camera, width / height)
        light, gain, colour = self._light()
        _, _, pixels, buffer, ids = pybullet.getCameraImage(
            width,
            height,
            view.matrix(),
            view.projection(width, height),
            lightColor=[1, 1, 1],
            shadow=int(self.scene.shadows),
            renderer=pybullet.ER_TINY_RENDERER,
            physicsClientId=self.client,
            **light,
        )
        numbers = self._numbers[ids]
        depth = np.where(ids < 0, np.inf, metres(buffer)).astype(np.float32)
        albedo = self._albedo(view, numbers, depth)
        lit = pixels[..., :1].astype(np.float32) * (gain * colour)
        rgb = np.where(
            (ids < 0)[..., None], albedo, np.minimum(lit * (albedo / np.float32(255)), 255)
        )
        return Frame(rgb.astype(np.uint8), depth, numbers)

    def _view(self, camera: str, aspect: float) -> View:
        value = {
            name: self._values[f"camera.{camera}.{name}"]
            for name in ("position", "target", "roll", "fov")
        }
        (spec,) = (spec for spec in self.scene.cameras if spec.name == camera)
        return View.of(
            np.array(value["position"]),
            np.array(value["target"]),
            np.array(spec.up),
            float(value["roll"]),  # type: ignore[arg-type]
            float(value["fov"]),  # type: ignore[arg-type]
            aspect,
        )

    def _light(self) -> tuple[dict[str, Any], float, np.ndarray]:
        """The renderer's arguments, all of them because it remembers; a factor; the colour.

        Its pixels end at 255, full light; where the parts sum up to more they are scaled down,
        and the factor takes that back.
        """
        if not self.scene.lights or not self._values["light.0.on"]:
            parts = [0.0, 0.0, 0.0]
            position, colour = np.array([0.0, 0.0, 1.0]), np.ones(3)
        else:
            parts = [
                float(self._values[f"light.0.{part}"])  # type: ignore[arg-type]
                for part in ("ambient", "diffuse", "specular")
            ]
            position = np.array(self._values["light.0.position"], dtype=np.float64)
            colour = np.array(self._values["light.0.colour"])
        gain = max(1.0, sum(parts))
        distance = float(np.linalg.norm(position))
        return (
            {
                "lightDirection": (position / distance).tolist(),
                "lightDistance": distance,
                "lightAmbientCoeff": parts[0] / gain,
                "lightDiffuseCoeff": parts[1] / gain,
                "lightSpecularCoeff": parts[2] / gain,
            },
            gain,
            colour.astype(np.float32),
        )

    def _albedo(self, view: View, numbers: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """What colour each pixel's surface has in white light, uint8 [H, W, 3]."""
        flat = np.zeros((len(self._bodies) + 2, 3), dtype=np.uint8)
        patterned: list[tuple[int, str, Texture]] = []
        for number, path in self._surfaces():
            texture = self._texture(path)
            if texture.kind == "flat":
                flat[number] = (255 * np.array(texture.first)).round()
            else:
                patterned.append((number, path, texture))
        albedo: np.ndarray = flat[numbers]
        for number, path, texture in patterned:
            rows, columns = np.nonzero(numbers == number)
            if len(rows) == 0:
                continue
            rays = view.rays(rows, columns, numbers.shape)
            if number == 0:
                places = rays
            else:
                points = view.position + rays * depth[rows, columns, None]
                places = self._places(path, points)
            albedo[rows, columns] = wrapped(places, texture.pixels())
        return albedo

    def _surfaces(self) -> list[tuple[int, str]]:
        found = [(known.number, f"body.{name}.texture") for name, known in self._bodies.items()]
        if self._robot is not None:
            found.append((-1, "robot.texture"))
        return [(0, "sky.texture"), *found]

    def _texture(self, path: str) -> Texture:
        value = self._values[path]
        assert isinstance(value, dict)
        return Texture.from_dict(value)

    def _places(self, path: str, points: np.ndarray) -> np.ndarray:
        """Points of the world as directions from a body's middle, its box made a cube."""
        if path == "robot.texture":
            places: np.ndarray = points - np.array(self._arm.model.position)
            return places
        known = self._bodies[path.split(".")[1]]
        position, turn = self.pose(known.spec.name)
        local = (points - position) @ solids.rotation(turn)
        places = (local - known.middle) / known.half
        return places

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
            reason = self._reason(path)
            if reason is not None and path in scene_parameters(self.scene):
                raise ParameterError(f"{path}: not in PyBullet; {reason}")
        check(self._parameters, values)
        self._values.update(values)
        self._apply(values)

    def _apply(self, values: Mapping[str, Value]) -> None:
        """Takes what these parameters are now into the client; looks are read when drawing."""
        if "world.gravity" in values:
            pybullet.setGravity(*self._values["world.gravity"], self.client)  # type: ignore[misc]
        owners = {path.rsplit(".", 1)[0] for path in values if not self._parameters[path].visual}
        for name, known in self._bodies.items():
            if f"body.{name}" in owners:
                self._apply_body(known)
        if self._robot is None:
            return
        if "robot" in owners:
            self._robot.apply(
                self._number("robot.mass"),
                self._number("robot.inertia"),
                self._number("robot.friction"),
            )
        joints = self._robot.model.joints
        if any(f"joint.{joint}" in owners for joint in joints):
            self._robot.apply_joints(
                [self._number(f"joint.{joint}.gain") * self.scene.timestep for joint in joints],
                [self._number(f"joint.{joint}.damping") for joint in joints],
            )
            self.drive(self._targets)

    def _number(self, path: str) -> float:
        value = self._values[path]
        assert isinstance(value, (int, float))
        return float(value)

    def _apply_body(self, known: _Body) -> None:
        path = f"body.{known.spec.name}"
        changes: dict[str, Any] = {}
        if known.spec.solid:
            changes["lateralFriction"] = self._number(f"{path}.friction")
        if known.spec.mass:
            mass, damping = self._number(f"{path}.mass"), self._number(f"{path}.damping")
            moments = known.moments * mass * self._number(f"{path}.inertia")
            changes |= {
                "mass": mass,
                "localInertiaDiagonal": moments.tolist(),
                # Each step, velocities shrink to (1 - this) ** timestep.
                "linearDamping": 1 - np.exp(-damping / mass),
                "angularDamping": 1 - np.exp(-damping / moments.mean()),
            }
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
            states = pybullet.getJointStates(self._robot.uid, self._robot.movable, self.client)
            joints, rates = zip(*((state[0], state[1]) for state in states), strict=True)
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
            self._rouse(known)
            pybullet.resetBasePositionAndOrientation(known.uid, position, turn, client)
            pybullet.resetBaseVelocity(known.uid, [0, 0, 0], [0, 0, 0], client)
        pybullet.setGravity(0, 0, 0, client)
        pybullet.stepSimulation(client)
        pybullet.setGravity(*self._values["world.gravity"], client)  # type: ignore[misc]
        for known, _, (position, turn, linear, angular) in bodies:
            pybullet.resetBasePositionAndOrientation(known.uid, position, turn, client)
            pybullet.resetBaseVelocity(known.uid, linear, angular, client)
            self._collide(known)
        if self._robot is not None:
            self._robot.put(state.joints, state.rates)
            self.drive(state.targets)
        self._stale, self._placed = True, False

    def close(self) -> None:
        if self.client is not None:
            pybullet.disconnect(self.client)
            self.client = None


class _Robot:
    """The robot in the client: which of its links and joints are which."""

    def __init__(self, model: RobotModel, client: int | None) -> None:
        self.model, self.client = model, client
        self.uid = pybullet.loadURDF(
            str(model.urdf),
            basePosition=model.position,
            baseOrientation=model.quaternion,
            useFixedBase=True,
            flags=pybullet.URDF_USE_INERTIA_FROM_FILE,
            physicsClientId=client,
        )
        infos = [
            pybullet.getJointInfo(self.uid, i, client)
            for i in range(pybullet.getNumJoints(self.uid, client))
        ]
        joints = {info[1].decode(): info[0] for info in infos}
        links = {info[12].decode(): info[0] for info in infos}
        self.indices = [joints[name] for name in model.joints]
        self.movable = [info[0] for info in infos if info[2] != pybullet.JOINT_FIXED]
        self.columns = [self.movable.index(index) for index in self.indices]
        self.fingers = frozenset(joints[name] for name in model.fingers)
        self.tool = links[model.tool_link]
        self.gains: list[float] = []
        idle = [index for index in self.movable if index not in self.indices]
        if idle:  # they come with a brake
            pybullet.setJointMotorControlArray(
                self.uid,
                idle,
                pybullet.VELOCITY_CONTROL,
                forces=[0.0] * len(idle),
                physicsClientId=client,
            )
        self.links = range(-1, len(infos))
        self.dynamics = {
            link: pybullet.getDynamicsInfo(self.uid, link, client) for link in self.links
        }
        for link in self.links:
            pybullet.changeDynamics(
                self.uid, link, linearDamping=0, angularDamping=0, physicsClientId=client
            )
        # The tool's frame and point as seen from the link's frame in the client.
        centre, axes = map(np.array, self.dynamics[self.tool][3:5])
        self.tool_axes = _inverse(axes)
        self.lever = _rotate(self.tool_axes, np.array(model.tool_point) - centre)

    def put(self, joints: Sequence[float], rates: Sequence[float]) -> None:
        """All movable joints there, with these velocities."""
        for index, position, rate in zip(self.movable, joints, rates, strict=True):
            pybullet.resetJointState(self.uid, index, position, rate, self.client)

    def apply(self, mass: float, inertia: float, friction: float) -> None:
        """Factors on what the URDF says, and the friction of all links."""
        for link, info in self.dynamics.items():
            pybullet.changeDynamics(
                self.uid,
                link,
                mass=info[0] * mass,
                localInertiaDiagonal=[part * mass * inertia for part in info[2]],
                lateralFriction=friction,
                physicsClientId=self.client,
            )

    def apply_joints(self, gains: list[float], dampings: list[float]) -> None:
        self.gains = gains
        for index, damping in zip(self.indices, dampings, strict=True):
            pybullet.changeDynamics(
                self.uid, index, jointDamping=damping, physicsClientId=self.client
            )


def _rotate(quaternion: np.ndarray, vector: np.ndarray) -> np.ndarray:
    turned: np.ndarray = solids.rotation(quaternion) @ vector
    return turned


def _inverse(quaternion: np.ndarray) -> np.ndarray:
    inverse: np.ndarray = quaternion * np.array([-1.0, -1.0, -1.0, 1.0])
    return inverse


def _times(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The rotation ``second``, then ``first``."""
    u, v, a, b = first[:3], second[:3], first[3], second[3]
    return np.array([*(a * v + b * u + np.cross(u, v)), a * b - u @ v])
