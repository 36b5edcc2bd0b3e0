"""A scene as a MuJoCo model: bodies, robot, contacts, drives, textures, lights and cameras."""

from collections.abc import Iterable

import mujoco
import numpy as np

from envs.robotics import meshes, urdf
from envs.robotics.scene import SHADOWED, Body, Camera, Light, RobotModel, Scene, Shape
from envs.robotics.textures import Texture

# Half of a box's width (metres) from which on only its top is touched, as an endless plane. What is
# clear of a plane is found so at a glance, while every link lies in a wide box's bounding sphere.
WIDE = 2.0
TEXELS = 64  # along an edge of each of a texture's six faces
SKY = "sky"
ROBOT = "robot"

# Between any two things that touch: hard, and no creeping under a steady pull.
SOLVER = {"solref": [0.01, 1.0], "solimp": [0.95, 0.99, 0.001, 0.5, 2.0], "condim": 4}
# In the robot's file: whatever is only seen stays.
KEEP = '<mujoco><compiler discardvisual="false" fusestatic="false"/></mujoco>'
# A body that moves by less for ten timesteps, and that nothing moving touches, sleeps until
# something does: its contacts are neither found nor solved for. m/s, rad/s times its length.
SLEEPY = 1e-4
# Friction against spinning and rolling, as a share of that against sliding (metres).
SPINNING, ROLLING = 0.005, 0.0001


def build(scene: Scene) -> "mujoco.MjModel":
    """The compiled model. Bodies are named as in the scene, "<body>" geoms, "<link>" links."""
    spec = _robot_spec(scene.robot) if scene.robot is not None else mujoco.MjSpec()
    spec.option.timestep = scene.timestep
    spec.option.gravity = scene.gravity
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    spec.option.impratio = 10.0
    spec.option.enableflags = mujoco.mjtEnableBit.mjENBL_SLEEP
    spec.option.sleep_tolerance = SLEEPY
    spec.compiler.inertiafromgeom = mujoco.mjtInertiaFromGeom.mjINERTIAFROMGEOM_AUTO
    # Distances of the renderer's clipping planes are shares of the extent.
    spec.stat.extent, spec.stat.center = 1.0, (0.0, 0.0, 0.0)
    spec.visual.map.znear, spec.visual.map.zfar = 0.01, 20.0
    # A software renderer's time goes into shadow maps and into several samples a pixel. One
    # sample is also what depth and segmentation have, and all that PyBullet's renderer takes.
    spec.visual.map.shadowclip = SHADOWED  # half the width of what shadows fall on
    spec.visual.quality.shadowsize = 512
    spec.visual.quality.offsamples = 0
    # What a light casts shadows with, it leaves no ambient light in: that comes from the camera.
    spec.visual.headlight.active = 1
    spec.visual.headlight.diffuse = spec.visual.headlight.specular = (0.0, 0.0, 0.0)
    spec.visual.headlight.ambient = ambient(scene.lights)
    _add_texture(spec, SKY, mujoco.mjtTexture.mjTEXTURE_SKYBOX, scene.sky)
    for body in scene.bodies:
        _add_body(spec, body)
    for first, second in _partners(spec, scene):
        spec.add_pair(geomname1=first, geomname2=second, **SOLVER)
    for i, light in enumerate(scene.lights):
        _add_light(spec, f"light{i}", light, scene.shadows)
    for camera in scene.cameras:
        _add_camera(spec, camera)
    return spec.compile()


def _add_texture(
    spec: "mujoco.MjSpec", name: str, kind: "mujoco.mjtTexture", texture: Texture
) -> None:
    made = spec.add_texture(name=name, width=TEXELS, height=6 * TEXELS, nchannel=3)
    made.type, made.data = kind, faces(texture).tobytes()


def faces(texture: Texture) -> np.ndarray:
    """The texture on each face of a cube, one below the other, uint8 [6 T, T, 3]."""
    return np.tile(texture.pixels(TEXELS), (6, 1, 1))


def _add_material(spec: "mujoco.MjSpec", name: str, texture: Texture) -> None:
    _add_texture(spec, name, mujoco.mjtTexture.mjTEXTURE_CUBE, texture)
    material = spec.add_material(name=name, rgba=[1, 1, 1, 1], specular=1.0, shininess=0.3)
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = name


def _add_body(spec: "mujoco.MjSpec", body: Body) -> None:
    _add_material(spec, body.name, body.texture)
    x, y, z, w = body.quaternion
    made = spec.worldbody.add_body(name=body.name, pos=body.position, quat=[w, x, y, z])
    if body.mass:
        made.add_freejoint(name=body.name)
        # Held up while hidden. MuJoCo compensates for no body unless one asks at compile time.
        made.gravcomp = 1.0
    geom = made.add_geom(
        name=body.name, material=body.name, contype=0, conaffinity=0, **_geometry(spec, body)
    )
    geom.mass = body.mass
    if _wide(body):
        top = made.add_geom(name=_touched(body), type=mujoco.mjtGeom.mjGEOM_PLANE, rgba=[0] * 4)
        top.pos, top.size = [0.0, 0.0, body.shape.size[2]], [1.0, 1.0, 1.0]
        top.contype = top.conaffinity = 0


def _wide(body: Body) -> bool:
    return body.shape.kind == "box" and not body.mass and min(body.shape.size[:2]) >= WIDE


def _touched(body: Body) -> str:
    """The geom of a body that others touch."""
    return f"{body.name}/top" if _wide(body) else body.name


def _geometry(spec: "mujoco.MjSpec", body: Body) -> dict[str, object]:
    shape, kinds = body.shape, mujoco.mjtGeom
    if shape.kind == "box":
        return {"type": kinds.mjGEOM_BOX, "size": shape.size}
    if shape.kind == "cylinder":
        return {"type": kinds.mjGEOM_CYLINDER, "size": [*shape.size, 0.0]}
    if shape.kind == "sphere":
        return {"type": kinds.mjGEOM_SPHERE, "size": [*shape.size, 0.0, 0.0]}
    _add_mesh(spec, body.name, shape)
    if shape.kind == "hull":
        return {"type": kinds.mjGEOM_MESH, "meshname": body.name}
    x, y, z, w = shape.turn
    return {"type": kinds.mjGEOM_MESH, "meshname": body.name, "quat": [w, x, y, z]}


def _add_mesh(spec: "mujoco.MjSpec", name: str, shape: Shape) -> None:
    mesh = spec.add_mesh(name=name, inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_CONVEX)
    if shape.kind == "hull":
        # Flat faces and sharp edges, as in the description.
        mesh.uservert = np.ravel(shape.vertices).astype(np.float64)
        mesh.smoothnormal = False
        return
    # Read here: MuJoCo takes the first part of a Wavefront file that has several.
    assert shape.file is not None
    vertices, triangles = meshes.read(shape.file)
    mesh.uservert = (shape.scale * vertices).ravel()
    mesh.userface = triangles.ravel()


def _robot_spec(robot: RobotModel) -> "mujoco.MjSpec":
    text = urdf.lightened(robot.urdf, robot.welded).file.read_text()
    end = text.index(">", text.index("<robot")) + 1
    spec = mujoco.MjSpec.from_string(text[:end] + KEEP + text[end:])
    _add_material(spec, ROBOT, Texture("flat", (0.9, 0.9, 0.9)))
    base = spec.worldbody.first_body()
    x, y, z, w = robot.quaternion
    base.pos, base.quat = robot.position, [w, x, y, z]
    for body in spec.bodies[1:]:
        body.gravcomp = 1.0  # as the arm's own controller does
        for i, geom in enumerate(body.geoms):
            solid = geom.contype != 0
            geom.name = f"{ROBOT}/{body.name}/{i}" if solid else ""
            geom.contype = geom.conaffinity = 0
            geom.mass = 0.0
            # What is touched is not seen, and the other way round.
            geom.rgba, geom.material = [1, 1, 1, float(not solid)], "" if solid else ROBOT
    for name, gain, damping, force in zip(
        robot.joints, robot.gains, robot.dampings, robot.forces, strict=True
    ):
        actuator = spec.add_actuator(name=name, target=name)
        actuator.trntype = mujoco.mjtTrn.mjTRN_JOINT
        actuator.gaintype = mujoco.mjtGain.mjGAIN_FIXED
        actuator.biastype = mujoco.mjtBias.mjBIAS_AFFINE
        actuator.gainprm[0] = gain * damping
        actuator.biasprm[1], actuator.biasprm[2] = -gain * damping, -damping
        actuator.forcelimited = True
        actuator.forcerange = [-force, force]
    return spec


def _partners(spec: "mujoco.MjSpec", scene: Scene) -> list[tuple[str, str]]:
    """Geoms that may touch: every two bodies or a body and a link, of which one moves."""
    solids = [body for body in scene.bodies if body.solid]
    pairs = [
        (_touched(first), _touched(second))
        for i, first in enumerate(solids)
        for second in solids[i + 1 :]
        if first.mass or second.mass
    ]
    if scene.robot is None:
        return pairs
    links = [geom.name for geom in spec.geoms if geom.name.startswith(f"{ROBOT}/")]
    base = {geom.name for geom in spec.worldbody.first_body().geoms}  # it stands still
    return pairs + [
        (link, _touched(body)) for link in links for body in solids if body.mass or link not in base
    ]


def _add_light(spec: "mujoco.MjSpec", name: str, light: Light, shadows: bool) -> None:
    colour = np.array(light.colour)
    spec.worldbody.add_light(
        name=name,
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
        pos=light.position,
        dir=-np.array(light.position) / np.linalg.norm(light.position),
        ambient=(0.0, 0.0, 0.0),
        diffuse=light.diffuse * colour,
        specular=light.specular * colour,
        castshadow=shadows,
        active=light.on,
    )


def ambient(lights: Iterable[Light]) -> np.ndarray:
    """That of all lights together, [3]."""
    parts = [light.ambient * np.array(light.colour) for light in lights if light.on]
    return np.sum(parts, axis=0) if parts else np.zeros(3)


def _add_camera(spec: "mujoco.MjSpec", camera: Camera) -> None:
    spec.worldbody.add_camera(
        name=camera.name,
        pos=camera.position,
        quat=look(np.array(camera.position), np.array(camera.target), np.array(camera.up), 0.0),
        fovy=camera.fov,
    )


def look(position: np.ndarray, target: np.ndarray, up: np.ndarray, roll: float) -> np.ndarray:
    """The quaternion (w, x, y, z) of a camera that looks along its own -z, its y axis up.

    roll: turns it about that axis, anticlockwise as it sees the world, in radians.
    """
    back = (position - target) / np.linalg.norm(position - target)
    right = np.cross(up, back)
    if (length := float(np.linalg.norm(right))) < 1e-9:  # straight up or down
        right, length = np.array([1.0, 0.0, 0.0]), 1.0
    right = right / length
    above = np.cross(back, right)
    cos, sin = np.cos(roll), np.sin(roll)
    axes = np.stack([cos * right + sin * above, cos * above - sin * right, back], axis=1)
    quaternion = np.zeros(4)
    mujoco.mju_mat2Quat(quaternion, axes.ravel())
    return quaternion
