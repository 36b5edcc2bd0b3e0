"""A scene's bodies and its robot, put into a PyBullet client."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from envs.quiet import quiet
from envs.robotics import meshes, rotations, solids, urdf
from envs.robotics.scene import Body, RobotModel, Shape

with quiet():  # it prints when it was built
    import pybullet

# Collision group and mask: what stands still needs no contact with its like, nor do links.
MOVING, STATIC = (1, 15), (2, 5)
LINK, BASE = (4, 3), (8, 1)
MARGIN = 1e-3  # m; by which the client fattens every hull


@dataclass
class Placed:
    """A body in the client, whose frame there lies in the centre of mass, along its axes.

    number: as ``Frame.segmentation`` has it.
    centre, axes: that frame in the body's own, [3] and a quaternion; origin, back: the other way.
    moments: about those axes for 1 kg.
    """

    uid: int
    number: int
    spec: Body
    centre: np.ndarray
    axes: np.ndarray
    moments: np.ndarray
    hidden: bool = False

    def __post_init__(self) -> None:
        # As floats: for what is asked in every step NumPy would be slow.
        self.back = tuple(rotations.inverse(self.axes).tolist())
        self.origin = tuple(rotations.rotate(self.back, -self.centre).tolist())


def add(client: int, number: int, body: Body) -> Placed:
    """Builds a body."""
    solid = solids.solid(body.shape)
    moments, principal = solid.principal()
    axes = rotations.quaternion(principal)
    collision = -1
    if body.solid:
        collision = pybullet.createCollisionShape(
            **_collision_shape(body.shape), physicsClientId=client
        )
    visual = pybullet.createVisualShape(
        **_visual_shape(body.shape), rgbaColor=[1, 1, 1, 1], physicsClientId=client
    )
    uid = pybullet.createMultiBody(
        baseMass=body.mass,
        baseCollisionShapeIndex=collision,
        baseVisualShapeIndex=visual,
        basePosition=body.position,
        baseOrientation=body.quaternion,
        baseInertialFramePosition=solid.centre.tolist(),
        baseInertialFrameOrientation=axes.tolist(),
        # Rigid bodies rather than chains without links: faster, with exact linear damping.
        useMaximalCoordinates=True,
        physicsClientId=client,
    )
    return Placed(uid, number, body, solid.centre, axes, moments)


def _collision_shape(shape: Shape) -> dict[str, Any]:
    if shape.kind == "box":
        return {"shapeType": pybullet.GEOM_BOX, "halfExtents": shape.size}
    if shape.kind == "sphere":
        return {"shapeType": pybullet.GEOM_SPHERE, "radius": shape.size[0]}
    if shape.kind == "cylinder":
        radius, half = shape.size
        return {"shapeType": pybullet.GEOM_CYLINDER, "radius": radius, "height": 2 * half}
    return {"shapeType": pybullet.GEOM_MESH, "vertices": _corners(shape)}


def _visual_shape(shape: Shape) -> dict[str, Any]:
    if shape.kind == "cylinder":
        radius, half = shape.size
        return {"shapeType": pybullet.GEOM_CYLINDER, "radius": radius, "length": 2 * half}
    if shape.kind == "mesh":
        return {
            "shapeType": pybullet.GEOM_MESH,
            "fileName": str(shape.file),
            "meshScale": [shape.scale] * 3,
            "visualFrameOrientation": shape.turn,
        }
    if shape.kind == "hull":
        return {"shapeType": pybullet.GEOM_MESH, "fileName": str(_drawn(shape))}
    return _collision_shape(shape)


@cache
def _corners(shape: Shape) -> list[list[float]]:
    """Always the same object, because the client never lets go of one."""
    corners: list[list[float]] = solids.inset(shape, MARGIN).tolist()
    return corners


@cache
def _drawn(hull: Shape) -> Path:
    """A file of what is drawn: the client loses the memory of corners that it is handed."""
    vertices, faces = solids.hull(hull)
    name = hashlib.sha256(vertices.tobytes() + faces.tobytes()).hexdigest()
    file = meshes.scratch("hulls") / f"{name}.obj"
    unfinished = file.with_suffix(f".{os.getpid()}")  # forked processes may share the folder
    meshes.write(unfinished, vertices, faces)
    return unfinished.replace(file)


class Arm:
    """The robot in the client: which of its links and joints are which."""

    def __init__(self, client: int, model: RobotModel) -> None:
        self.client, self.model = client, model
        light = urdf.lightened(model.urdf, model.welded)
        self.uid = pybullet.loadURDF(
            str(light.file),
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
        numbers = {info[1].decode(): info[0] for info in infos}
        links = {info[12].decode(): info[0] for info in infos}
        self.indices = [numbers[name] for name in model.joints]
        self.movable = [info[0] for info in infos if info[2] != pybullet.JOINT_FIXED]
        # Of the driven joints among the movable ones; a slice costs less.
        driven = [self.movable.index(index) for index in self.indices]
        self.columns = slice(None) if self.indices == self.movable else driven
        self.fingers = frozenset(numbers[name] for name in model.fingers)  # a link has its joint's
        holder, frame = light.frames[model.tool_link]
        self.tool = links[holder]
        idle = [index for index in self.movable if index not in self.indices]
        if idle:  # they come with a brake
            pybullet.setJointMotorControlArray(
                self.uid,
                idle,
                pybullet.VELOCITY_CONTROL,
                forces=[0.0] * len(idle),
                physicsClientId=client,
            )
        self._dynamics = {
            link: pybullet.getDynamicsInfo(self.uid, link, client) for link in range(-1, len(infos))
        }
        for link in self._dynamics:
            pybullet.changeDynamics(
                self.uid, link, linearDamping=0, angularDamping=0, physicsClientId=client
            )
            kind = BASE if link == -1 else LINK
            pybullet.setCollisionFilterGroupMask(self.uid, link, *kind, client)
        # The client's frame of the tool's link lies in its centre of mass, along its axes of
        # inertia. The tool in that; and for the Jacobian, along those axes, but from the joint.
        point = (frame @ [*model.tool_point, 1.0])[:3]
        centre, axes = map(np.array, self._dynamics[self.tool][3:5])
        back = rotations.inverse(axes)
        self.lever = rotations.rotate(back, point - centre).tolist()
        self.from_joint = rotations.rotate(back, point).tolist()
        self.tool_axes = rotations.times(back, rotations.quaternion(frame[:3, :3])).tolist()
        self.base_axes = rotations.matrix(np.array(model.quaternion))

    def put(self, joints: Sequence[float], rates: Sequence[float]) -> None:
        """All movable joints there, with these velocities."""
        for index, position, rate in zip(self.movable, joints, rates, strict=True):
            pybullet.resetJointState(self.uid, index, position, rate, self.client)

    def set_dynamics(self, mass: float, inertia: float, friction: float) -> None:
        """Factors on what the URDF says, and the friction of all links."""
        for link, info in self._dynamics.items():
            pybullet.changeDynamics(
                self.uid,
                link,
                mass=info[0] * mass,
                localInertiaDiagonal=[part * mass * inertia for part in info[2]],
                lateralFriction=friction,
                physicsClientId=self.client,
            )

    def set_dampings(self, dampings: Sequence[float]) -> None:
        for index, damping in zip(self.indices, dampings, strict=True):
            pybullet.changeDynamics(
                self.uid, index, jointDamping=damping, physicsClientId=self.client
            )
