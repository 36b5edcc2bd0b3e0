"""The scene in MuJoCo."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

from envs.robotics import mujoco_model, rotations, urdf
from envs.robotics.engine import Frame
from envs.robotics.mujoco_parameters import Tuning
from envs.robotics.mujoco_renderer import Renderer
from envs.robotics.parameters import Parameter, Value, check, scene_parameters
from envs.robotics.scene import UPRIGHT, Scene
from envs.robotics.textures import Texture

UNSUPPORTED: dict[str, str] = {}  # it can change everything that a scene has
APPROXIMATED = {
    "body.*.friction": "contacts are soft: under a steady pull what sticks still creeps a little",
}
# Where hidden bodies wait, held up against gravity, so far apart that they do not touch.
AWAY, APART = np.array([0.0, 0.0, -1000.0]), np.array([0.0, 0.0, -20.0])
STATE = mujoco.mjtState.mjSTATE_INTEGRATION
SLEEP = int(mujoco.mjtEnableBit.mjENBL_SLEEP)
AWAKE = -(1 + mujoco.mjMINAWAKE)  # of a tree that has not begun to calm down


@dataclass(frozen=True)
class _State:
    """numbers: MuJoCo's own; places: of bodies without mass; hidden: those bodies' names."""

    numbers: np.ndarray
    places: np.ndarray
    hidden: frozenset[str]


class MujocoEngine:
    """See ``envs.robotics.engine.Engine``."""

    unsupported: Mapping[str, str] = UNSUPPORTED

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.model = model = mujoco_model.build(scene)
        self.data = mujoco.MjData(model)
        self._parameters = scene_parameters(scene)
        self._tuning = Tuning(model, scene)
        self._id = {body.name: model.body(body.name).id for body in scene.bodies}
        self._geom = {body.name: model.geom(body.name).id for body in scene.bodies}
        self._start_of = {  # of a moving body's numbers in qpos and qvel
            body.name: (int(joint.qposadr[0]), int(joint.dofadr[0]))
            for body in scene.bodies
            if body.mass
            for joint in [model.joint(body.name)]
        }
        self._texture = {name: model.texture(name).id for name in [*self._id, mujoco_model.SKY]}
        self._links: list[int] = []
        if scene.robot is not None:
            self._find_robot()
        self._renderer: Renderer | None = Renderer(model, self._numbers(), scene.shadows)
        self._hidden: set[str] = set()
        self._unpainted: set[str] = set()  # what has another texture than the model's
        self._stale = True  # positions are older than the last step
        self._held: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None  # what ``tool`` gives
        for body in scene.bodies:
            if body.hidden:
                self.hide(body.name)
            else:
                self._show(body.name, True)
        if scene.robot is not None:
            self.set_joints(np.array(scene.robot.home))
        self._start = self.state()

    def _find_robot(self) -> None:
        model, robot = self.model, self.scene.robot
        assert robot is not None
        others = {0, *self._id.values()}
        self._links = [i for i in range(model.nbody) if i not in others]
        self._texture["robot"] = model.texture(mujoco_model.ROBOT).id
        joints = [model.joint(name) for name in robot.joints]
        self._qpos = np.array([joint.qposadr[0] for joint in joints])
        self._dofs = np.array([joint.dofadr[0] for joint in joints])
        # The tool's link is a part of another, and lies in that so:
        holder, frame = urdf.lightened(robot.urdf, robot.welded).frames[robot.tool_link]
        self._tool = model.body(holder).id
        self._tool_point = frame[:3, :3] @ robot.tool_point + frame[:3, 3]
        self._tool_turn = rotations.quaternion(frame[:3, :3]).tolist()
        self._fingers = {int(model.joint(name).bodyid[0]) for name in robot.fingers}
        self._jacobian = np.zeros((6, model.nv))
        self._halves = self._jacobian[:3], self._jacobian[3:]  # linear and angular

    def _numbers(self) -> np.ndarray:
        """What segmentation calls each geom: -1 the robot, i + 1 body i."""
        numbers = np.full(self.model.ngeom, -1)
        for i, name in enumerate(self._geom, start=1):
            numbers[self._geom[name]] = i
        return numbers

    # Time

    def reset(self) -> None:
        self.restore(self._start)

    def step(self, substeps: int) -> None:
        mujoco.mj_step(self.model, self.data, substeps)
        self._stale = True

    def _refresh(self) -> None:
        """Brings what follows from the joints up to date: a step leaves it one substep behind."""
        if self._stale:
            mujoco.mj_kinematics(self.model, self.data)
            mujoco.mj_comPos(self.model, self.data)
            self._stale = False
            self._contacts = False
            self._held = None

    def _wake(self) -> None:
        """What sleeps or was about to starts afresh: a state does not say who sleeps."""
        self.data.tree_asleep[:] = AWAKE
        self._sleepless(mujoco.mj_kinematics)
        self._stale = True

    def _sleepless(self, function: Callable[[Any, Any], None]) -> None:
        """One of MuJoCo's functions, of everything: else it passes over what sleeps or is fixed."""
        self.model.opt.enableflags &= ~SLEEP
        function(self.model, self.data)
        self.model.opt.enableflags |= SLEEP

    # Bodies

    def pose(self, body: str) -> tuple[np.ndarray, np.ndarray]:
        self._refresh()
        number = self._id[body]
        w, x, y, z = self.data.xquat[number]
        return self.data.xpos[number].copy(), np.array([x, y, z, w])

    def velocity(self, body: str) -> tuple[np.ndarray, np.ndarray]:
        if body not in self._start_of:
            return np.zeros(3), np.zeros(3)
        self._refresh()
        _, dof = self._start_of[body]
        turn = self.data.xmat[self._id[body]].reshape(3, 3)
        # MuJoCo has a free body's rotation in the body's own frame.
        return self.data.qvel[dof : dof + 3].copy(), turn @ self.data.qvel[dof + 3 : dof + 6]

    def place(self, body: str, position: np.ndarray, quaternion: np.ndarray) -> None:
        if body in self._hidden:
            self._show(body, True)
        self._move(body, position, quaternion)

    def hide(self, body: str) -> None:
        self._show(body, False)
        self._move(body, AWAY + self._id[body] * APART, np.array(UPRIGHT))

    def _show(self, body: str, shown: bool) -> None:
        (self._hidden.discard if shown else self._hidden.add)(body)
        self.model.geom_rgba[self._geom[body], 3] = float(shown)
        if body in self._start_of:
            self.model.body_gravcomp[self._id[body]] = float(not shown)

    def _move(self, body: str, position: np.ndarray, quaternion: np.ndarray) -> None:
        x, y, z, w = quaternion
        if body in self._start_of:
            start, dof = self._start_of[body]
            self.data.qpos[start : start + 7] = [*position, w, x, y, z]
            self.data.qvel[dof : dof + 6] = 0.0
        else:
            number = self._id[body]
            self.model.body_pos[number], self.model.body_quat[number] = position, [w, x, y, z]
        self._wake()

    # The robot

    def joints(self) -> tuple[np.ndarray, np.ndarray]:
        return self.data.qpos[self._qpos], self.data.qvel[self._dofs]

    def set_joints(self, positions: np.ndarray) -> None:
        self.data.qpos[self._qpos] = positions
        self.data.qvel[self._dofs] = 0.0
        self.data.ctrl[:] = positions
        self._stale = True

    def drive(self, targets: np.ndarray) -> None:
        self.data.ctrl[:] = targets

    def tool(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        position, turn, velocity = self._hold()
        return position.copy(), turn.copy(), velocity.copy()

    def jacobian(self) -> np.ndarray:
        self._hold()
        found: np.ndarray = self._jacobian[:, self._dofs]
        return found

    def _hold(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The tool, and in ``_jacobian`` its Jacobian [6, nv]: asked for several times a step."""
        self._refresh()
        if self._held is None:
            turn = self.data.xmat[self._tool].reshape(3, 3)
            tip = self.data.xpos[self._tool] + turn @ self._tool_point
            mujoco.mj_jac(self.model, self.data, *self._halves, tip, self._tool)
            w, x, y, z = self.data.xquat[self._tool].tolist()
            quaternion = rotations.times((x, y, z, w), self._tool_turn)
            self._held = tip, quaternion, self._halves[0] @ self.data.qvel
        return self._held

    def touching(self, first: str, second: str) -> bool:
        self._refresh()
        if not self._contacts:
            self._sleepless(mujoco.mj_collision)
            self._contacts = True
        contacts = self.data.contact
        bodies = self.model.geom_bodyid[contacts.geom[contacts.dist <= 0.0]]
        one, two = self._parts(first), self._parts(second)
        return any((a in one and b in two) or (b in one and a in two) for a, b in bodies.tolist())

    def _parts(self, name: str) -> set[int]:
        if name == "robot":
            return set(self._links)
        return self._fingers if name == "fingers" else {self._id[name]}

    # Pictures

    def render(self, camera: str, width: int, height: int) -> Frame:
        return self._drawer().frame(self.data, self.model.camera(camera).id, width, height)

    def rgb(self, camera: str, width: int, height: int) -> np.ndarray:
        return self._drawer().rgb(self.data, self.model.camera(camera).id, width, height)

    def _drawer(self) -> Renderer:
        if self._renderer is None:
            raise ValueError("the engine is closed")
        self._refresh()
        self._sleepless(mujoco.mj_camlight)
        # A texture takes a millisecond: those that nobody sees wait.
        for name in self._unpainted - self._hidden:
            self._paint(name, self._renderer)
        self._unpainted &= self._hidden
        return self._renderer

    # Parameters

    def parameters(self) -> dict[str, Parameter]:
        return dict(self._parameters)

    def set(self, values: Mapping[str, Value]) -> None:
        check(self._parameters, values)
        self._tuning.set(values)
        self._pull()
        self._wake()
        self._unpainted |= {_owner(path) for path in values if path.endswith(".texture")}

    def _pull(self) -> None:
        """At the arm, what its controller, made for the scene's gravity, leaves of another."""
        excess = self.model.opt.gravity - self.scene.gravity
        masses = self.model.body_mass[self._links]
        self.data.xfrc_applied[self._links, :3] = masses[:, None] * excess

    def _paint(self, name: str, renderer: Renderer) -> None:
        path = f"{name}.texture" if name in ("robot", mujoco_model.SKY) else f"body.{name}.texture"
        texture: Any = self._tuning.values[path]
        faces = mujoco_model.faces(Texture.from_dict(texture)).ravel()
        number = self._texture[name]
        start = self.model.tex_adr[number]
        self.model.tex_data[start : start + faces.size] = faces
        renderer.upload(number)

    # State

    def state(self) -> _State:
        numbers = np.empty(mujoco.mj_stateSize(self.model, STATE))
        mujoco.mj_getState(self.model, self.data, numbers, STATE)
        places = np.concatenate([self.model.body_pos, self.model.body_quat], axis=1)
        self._wake()  # as after a later restore
        return _State(numbers, places, frozenset(self._hidden))

    def restore(self, state: _State) -> None:
        for body in self._id:
            self._show(body, body not in state.hidden)
        self.model.body_pos[:], self.model.body_quat[:] = np.split(state.places, [3], axis=1)
        mujoco.mj_setState(self.model, self.data, state.numbers, STATE)
        self._pull()
        self._wake()

    def close(self) -> None:
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None


def _owner(path: str) -> str:
    """Whose texture a path names: a body's name, "robot" or "sky"."""
    kind, _, rest = path.partition(".")
    return rest.rpartition(".")[0] or kind
