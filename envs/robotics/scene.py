"""What stands in front of a robot, said without naming a physics engine.

Units are SI; z points up; quaternions are (x, y, z, w); angles are radians unless a name says
degrees; colours are RGB in 0 to 1. A scene is a value: engines read it and never change it.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from envs.robotics.textures import Texture

Vector = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]
Colour = tuple[float, float, float]

UPRIGHT: Quaternion = (0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True)
class Shape:
    """A solid around the body's origin. Use the functions below rather than this.

    kind: "box", "cylinder" (about z), "sphere", "hull" or "mesh".
    size: half extents of a box; radius and half height of a cylinder; radius of a sphere.
    vertices: the corners of a hull, which is their convex hull.
    file, scale, turn: a Wavefront file, drawn as it is and touched as its convex hull; scaled,
        then turned, about its own origin.
    """

    kind: Literal["box", "cylinder", "sphere", "hull", "mesh"]
    size: tuple[float, ...] = ()
    vertices: tuple[Vector, ...] = ()
    file: Path | None = None
    scale: float = 1.0
    turn: Quaternion = UPRIGHT


def box(x: float, y: float, z: float) -> Shape:
    """A box with these half extents. One of 4 m and more that stands still is a floor: MuJoCo takes
    it for endless, touched at its top alone.
    """
    return Shape("box", (x, y, z))


def cylinder(radius: float, half_height: float) -> Shape:
    return Shape("cylinder", (radius, half_height))


def sphere(radius: float) -> Shape:
    return Shape("sphere", (radius,))


def prism(sides: int, radius: float, half_height: float) -> Shape:
    """An upright prism over a regular polygon whose corners lie on a circle of ``radius``."""
    ring = _ring(sides, radius)
    return Shape(
        "hull", vertices=tuple((x, y, z) for z in (-half_height, half_height) for x, y in ring)
    )


def pyramid(sides: int, radius: float, half_height: float) -> Shape:
    """An upright pyramid (three sides: a tetrahedron, many: a cone); the origin is half way up."""
    base = tuple((x, y, -half_height) for x, y in _ring(sides, radius))
    return Shape("hull", vertices=(*base, (0.0, 0.0, half_height)))


def mesh(file: Path, scale: float = 1.0, turn: Quaternion = UPRIGHT) -> Shape:
    """A Wavefront (.obj) file."""
    return Shape("mesh", file=file, scale=scale, turn=turn)


def _ring(sides: int, radius: float) -> list[tuple[float, float]]:
    angles = 2 * np.pi * np.arange(sides) / sides
    return [(float(radius * np.cos(a)), float(radius * np.sin(a))) for a in angles]


@dataclass(frozen=True)
class Body:
    """A rigid body. Without mass it stays where it is put.

    solid: whether others touch it; a ghost (a marked goal) is only seen.
    friction: Coulomb coefficient; between two bodies the product of theirs counts. The robot's is
        1 until it is changed.
    hidden: out of sight (and of touch) until shown.
    """

    name: str
    shape: Shape
    mass: float = 0.0
    position: Vector = (0.0, 0.0, 0.0)
    quaternion: Quaternion = UPRIGHT
    texture: Texture = field(default_factory=Texture)
    solid: bool = True
    friction: float = 1.0
    hidden: bool = False


@dataclass(frozen=True)
class RobotModel:
    """An arm from a URDF file, its joints driven to target positions.

    joints: driven joints, base to tip, fingers last.
    home: their positions at reset.
    gains: how fast each joint's drive closes an error (1/s): it wants the velocity gain x error.
    dampings: how hard it pulls towards that velocity (N m s/rad or N s/m), and
    forces: at most (N m or N).
    tool_link, tool_point: the link that carries the tool, and the point of it that is steered.
    fingers: those of ``joints`` that open and close.
    welded: movable joints of the file that are rigid here, at 0.
    """

    name: str
    urdf: Path
    joints: tuple[str, ...]
    home: tuple[float, ...]
    gains: tuple[float, ...]
    dampings: tuple[float, ...]
    forces: tuple[float, ...]
    tool_link: str
    tool_point: Vector
    fingers: tuple[str, ...] = ()
    welded: tuple[str, ...] = ()
    position: Vector = (0.0, 0.0, 0.0)
    quaternion: Quaternion = UPRIGHT

    def shut(self) -> "RobotModel":
        """The same with its fingers welded where they meet: joints that nobody moves cost time."""
        arm = len(self.joints) - len(self.fingers)
        return replace(
            self,
            joints=self.joints[:arm],
            home=self.home[:arm],
            gains=self.gains[:arm],
            dampings=self.dampings[:arm],
            forces=self.forces[:arm],
            fingers=(),
            welded=self.welded + self.fingers,
        )


SHADOWED = 1.2  # m from the origin, along each axis: how far shadows fall


@dataclass(frozen=True)
class Light:
    """A far light, shining from ``position`` towards the world's origin.

    ambient, diffuse, specular: strength of the three parts, times ``colour``.
    """

    position: Vector = (0.6, -0.6, 2.0)
    colour: Colour = (1.0, 1.0, 1.0)
    ambient: float = 0.4
    diffuse: float = 0.6
    specular: float = 0.2
    on: bool = True


@dataclass(frozen=True)
class Camera:
    """A pinhole camera at ``position`` that looks at ``target``.

    up: which way the top of the picture points.
    fov: vertical field of view in degrees.
    """

    name: str
    position: Vector
    target: Vector
    up: Vector = (0.0, 0.0, 1.0)
    fov: float = 45.0


@dataclass(frozen=True)
class Scene:
    """Everything an engine builds; a substep of it takes ``timestep`` seconds."""

    bodies: tuple[Body, ...]
    robot: RobotModel | None = None
    cameras: tuple[Camera, ...] = ()
    lights: tuple[Light, ...] = (Light(),)
    sky: Texture = field(
        default_factory=lambda: Texture("gradient", (0.6, 0.7, 0.8), (0.9, 0.9, 0.95))
    )
    gravity: Vector = (0.0, 0.0, -9.81)
    timestep: float = 0.002
    shadows: bool = True

    def body(self, name: str) -> Body:
        """The body of that name; KeyError if there is none."""
        for body in self.bodies:
            if body.name == name:
                return body
        raise KeyError(name)
