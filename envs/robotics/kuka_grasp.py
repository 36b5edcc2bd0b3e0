"""Picking objects out of a tray with a Kuka arm: the bin of Quillen et al. (2018)."""

from pathlib import Path
from typing import Any, Literal

import cv2
import gymnasium as gym
import numpy as np
from gymnasium import spaces

from envs.quiet import quiet
from envs.robotics import assets
from envs.robotics.kinematics import rotation_between

with quiet():  # it prints when it was built
    import pybullet

TIMESTEP = 1 / 240
SUBSTEPS = 80  # of an action
STRIDE = 0.06  # m; an action of 1
TURN = 0.25  # rad; an action of 1
GRASP_HEIGHT = 0.1  # m; of the flange above the table: here it closes
LIFTED = 0.2  # m; an object above this is out of the tray
START = (0.537, 0.0, 0.5)  # of the flange
REACH = ((0.45, 0.75), (-0.22, 0.22))  # m, of the flange in x and y
OPENING = 0.3  # rad; of each open finger
CLOSING, LIFTING = 250, 500  # substeps; after the first 100 the fingers only press
SETTLING = 500  # substeps at most, for each dropped object
# Joints of the SDF file: seven of the arm, the gripper's turn, two fingers and their tips.
ARM, WRIST, FINGERS, TIPS = list(range(7)), 7, (8, 11), (10, 13)
FLANGE = 6
DOWN = np.array([0.0, 1.0, 0.0, 0.0])  # the flange's orientation: half a turn about y
HOME = (
    0.0064,
    0.4132,
    -0.0114,
    -1.5893,
    0.0054,
    1.1377,
    -0.0065,
    0.0,
    -OPENING,
    0,
    0,
    OPENING,
    0,
    0,
)
ARM_FORCE, FINGER_FORCES, TIP_FORCE = 200.0, (6.0, 5.5), 6.0
# The numbered actions: (dx, dy, dz, turn).
MOVES = ((0, 0, 0, 0), (-1, 0, 0, 0), (1, 0, 0, 0), (0, -1, 0, 0), (0, 1, 0, 0))
HEIGHTS = ((0, 0, -1, 0), (0, 0, 1, 0))
TURNS = ((0, 0, 0, -1), (0, 0, 0, 1))


class KukaGrasp(gym.Env[np.ndarray, Any]):
    """A Kuka iiwa with a two-fingered WSG 50 above a tray of random objects, seen from the side.

    ## Description
    Five objects are drawn without replacement from a thousand random shapes and dropped into a
    tray, one after the other. The gripper points down and sinks with every action; where the
    flange reaches 10 cm it closes and lifts, which ends the episode. It is the environment of
    Quillen et al., "Deep Reinforcement Learning for Vision-Based Robotic Grasping" (2018), in the
    dimensions of bullet3's KukaDiverseObjectEnv, whose own arm, gripper and tray it uses.

    ## Action space
    `Box(-1, 1, (3,), float32)`; an action lasts a third of a second (80 steps of 1/240 s).

    | Num | Action                                    | Min | Max | Unit of 1 |
    | --- | ----------------------------------------- | --- | --- | --------- |
    | 0   | displacement of the gripper along x       | -1  | 1   | 6 cm      |
    | 1   | displacement of the gripper along y       | -1  | 1   | 6 cm      |
    | 2   | turn of the gripper, clockwise from above | -1  | 1   | 0.25 rad  |

    At first its fingers close along x. Their tips hang 24 cm below the flange, 2.4 cm towards +y.

    With `discrete=True` it is `Discrete(7)`:

    | Num  | Action                     |
    | ---- | -------------------------- |
    | 0    | straight down              |
    | 1, 2 | 6 cm towards -x, +x        |
    | 3, 4 | 6 cm towards -y, +y        |
    | 5, 6 | a turn of -0.25, +0.25 rad |

    With `descent=False` the gripper does not sink by itself: the displacement along z (6 cm) comes
    third, `Box(-1, 1, (4,), float32)`, or as actions 5 (down) and 6 (up) before the turns 7 and 8.

    ## Observation space
    `Box(0, 255, (64, 64, 3), uint8)`: the picture of a camera beside the tray, drawn twice as
    large and averaged.

    ## Rewards
    1 if after closing and lifting an object is more than 20 cm up, otherwise 0.

    ## Starting state
    The gripper 50 cm up. Objects are dropped on x = 0.4 to 0.7 m, y = -0.15 to 0.15 m, turned by
    90° to 144° about the vertical.

    ## Episode end
    It terminates after an attempt to grasp, and is truncated after 15 actions (by the registered
    time limit).

    ## Arguments
    objects: "training_meshes" (900) or "held_out_meshes" (100).
    n_objects: how many lie in the tray. discrete, descent: see above.
    image_size: edge of the observed picture.

    ``info`` has ``is_success``, whether an object is lifted, and ``attempted``.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012  (Gymnasium declares it so)
        "render_modes": ["rgb_array"],
        "render_fps": 3,
    }

    def __init__(
        self,
        objects: Literal["training_meshes", "held_out_meshes"] = "training_meshes",
        n_objects: int = 5,
        discrete: bool = False,
        descent: bool = True,
        image_size: int = 64,
        render_mode: str | None = None,
    ) -> None:
        pools = {
            "training_meshes": assets.training_meshes,
            "held_out_meshes": assets.held_out_meshes,
        }
        if objects not in pools:
            raise ValueError(f"objects is one of {', '.join(pools)}, not {objects!r}")
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode is None or 'rgb_array', not {render_mode!r}")
        self._meshes = pools[objects]()
        if not 1 <= n_objects <= len(self._meshes):
            raise ValueError(f"n_objects is 1 to {len(self._meshes)}, not {n_objects}")
        self.render_mode, self.n_objects = render_mode, n_objects
        self.discrete, self.descent, self.image_size = discrete, descent, image_size
        moves = (*MOVES, *TURNS) if descent else (*MOVES, *HEIGHTS, *TURNS)
        self._moves = np.array(moves, dtype=np.float64)
        self.action_space = (
            spaces.Discrete(len(moves))
            if discrete
            else spaces.Box(-1, 1, (3 if descent else 4,), np.float32)
        )
        self.observation_space = spaces.Box(0, 255, (image_size, image_size, 3), np.uint8)
        self._client = pybullet.connect(pybullet.DIRECT)
        self._objects: list[tuple[Path, int]] = []

    def _build(self) -> None:
        client = {"physicsClientId": self._client}
        pybullet.setPhysicsEngineParameter(
            numSolverIterations=150,
            fixedTimeStep=TIMESTEP,
            enableFileCaching=1,
            **client,
        )
        pybullet.setGravity(0, 0, -10, **client)
        for name, *place in (
            ("plane.urdf", [0, 0, -1]),
            ("table/table.urdf", [0.5, 0, -0.82]),
            ("tray/tray.urdf", [0.64, 0.075, -0.19], [0, 0, 1, 0]),
        ):
            pybullet.loadURDF(str(assets.data(name)), *place, **client)
        sdf = str(assets.data("kuka_iiwa/kuka_with_gripper2.sdf"))
        (self._kuka,) = pybullet.loadSDF(sdf, **client)
        pybullet.resetBasePositionAndOrientation(
            self._kuka, [-0.1, 0, 0.07], [0, 0, 0, 1], **client
        )
        infos = [pybullet.getJointInfo(self._kuka, i, **client) for i in range(len(HOME))]
        self._movable = [info[0] for info in infos if info[2] != pybullet.JOINT_FIXED]
        # Of the thousand objects' files each is needed rarely: they are not kept.
        pybullet.setPhysicsEngineParameter(enableFileCaching=0, **client)
        # Of the flange's centre of mass from its joint, as the Jacobian wants it.
        self._offset = pybullet.getDynamicsInfo(self._kuka, FLANGE, **client)[3]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        # Built anew: what PyBullet remembers of earlier episodes would change the last digits.
        pybullet.resetSimulation(physicsClientId=self._client)
        self._build()
        self._objects = []
        self._attempted = False
        self._target, self._yaw, self._opening = np.array(START), 0.0, OPENING
        for joint, angle in enumerate(HOME):
            pybullet.resetJointState(self._kuka, joint, angle, 0.0, self._client)
        self._drive(np.array(HOME[:7]))
        chosen = self.np_random.choice(len(self._meshes), self.n_objects, replace=False)
        for index in chosen:
            self._drop(self._meshes[index])
        return self._observation(), self._info()

    def _drop(self, mesh: Path) -> None:
        """A new object; it comes to rest before the next is dropped, so that none overlap."""
        x, y, turn = self.np_random.random(3)
        yaw = np.pi / 2 + 0.3 * np.pi * turn
        uid = pybullet.loadURDF(
            str(mesh.with_suffix(".urdf")),
            [0.4 + 0.3 * x, 0.3 * (y - 0.5), 0.15],
            [0, 0, np.sin(yaw / 2), np.cos(yaw / 2)],
            physicsClientId=self._client,
        )
        self._objects.append((mesh, uid))
        for _ in range(SETTLING // 50):
            self._simulate(50)
            linear, angular = pybullet.getBaseVelocity(uid, self._client)
            if np.linalg.norm(linear) < 0.01 and np.linalg.norm(angular) < 0.1:
                return

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Raises ValueError for an action of another shape, or that is not finite."""
        dx, dy, dz, turn = self._move(action)
        self._target += STRIDE * np.array([dx, dy, dz])
        self._target[:2] = [
            np.clip(value, *limits) for value, limits in zip(self._target[:2], REACH, strict=True)
        ]
        self._yaw += TURN * float(turn)
        self._servo(SUBSTEPS, stop=GRASP_HEIGHT)
        if self.flange()[0][2] <= GRASP_HEIGHT:
            self._grasp()
        info = self._info()
        reward = float(self._attempted and info["is_success"])
        return self._observation(), reward, self._attempted, False, info

    def _move(self, action: Any) -> np.ndarray:
        """Shares of the longest step along x, y and z, and of the greatest turn."""
        if self.discrete:
            if not self.action_space.contains(action := np.int64(action)):
                raise ValueError(f"an action is one of {self.action_space}, not {action}")
            move = np.array(self._moves[action])
        else:
            move = np.asarray(action, dtype=np.float64)
            if move.shape != self.action_space.shape or not np.isfinite(move).all():
                shape = self.action_space.shape
                raise ValueError(f"an action is {shape} finite numbers, not {action}")
            if self.descent:
                move = np.insert(move, 2, 0.0)
        if self.descent:
            move[2] = -1.0
        return move

    def _grasp(self) -> None:
        self._target = self.flange()[0]
        for phase, rise in ((CLOSING, 0.0), (LIFTING, 0.001)):
            for _ in range(phase // 10):
                self._opening = max(0.0, self._opening - 10 * OPENING / 100)
                self._target[2] += 10 * rise
                self._servo(10)
        self._attempted = True

    def _servo(self, substeps: int, stop: float = -np.inf) -> None:
        """Moves the flange to the target, pointing down; ends where it is as low as ``stop``."""
        for _ in range(substeps // 10):
            position, quaternion = self.flange()
            if position[2] <= stop:
                return
            turn = rotation_between(quaternion, DOWN)
            error = np.concatenate([self._target - position, turn])
            angles = [
                state[0]
                for state in pybullet.getJointStates(self._kuka, self._movable, self._client)
            ]
            still = [0.0] * len(angles)
            parts = pybullet.calculateJacobian(
                self._kuka, FLANGE, self._offset, angles, still, still, self._client
            )
            jacobian = np.concatenate(parts)[:, ARM]
            # Damped least squares.
            step = jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + 1e-4 * np.eye(6), error)
            self._drive(np.array(angles[:7]) + step)
            self._simulate(10)

    def flange(self) -> tuple[np.ndarray, np.ndarray]:
        """Position of the last link's centre of mass, from which the gripper hangs; quaternion."""
        centre, axes, *_ = pybullet.getLinkState(self._kuka, FLANGE, 0, 1, self._client)
        return np.array(centre), np.array(axes)

    def objects(self) -> list[tuple[Path, np.ndarray, np.ndarray]]:
        """Of each object: its mesh's file, position and quaternion."""
        found = []
        for mesh, uid in self._objects:
            position, quaternion = pybullet.getBasePositionAndOrientation(uid, self._client)
            found.append((mesh, np.array(position), np.array(quaternion)))
        return found

    def _drive(self, arm: np.ndarray) -> None:
        """Where the arm's joints, the wrist and the fingers are pulled from now on."""
        fingers = (-self._opening, self._opening)
        pybullet.setJointMotorControlArray(
            self._kuka,
            [*ARM, WRIST, *FINGERS, *TIPS],
            pybullet.POSITION_CONTROL,
            targetPositions=[*arm, self._yaw, *fingers, 0.0, 0.0],
            forces=[ARM_FORCE] * 8 + [*FINGER_FORCES, TIP_FORCE, TIP_FORCE],
            # Of the error, each step: a fortieth in the arm, a tenth in the gripper.
            positionGains=[0.03] * 7 + [0.1] * 5,
            physicsClientId=self._client,
        )

    def _simulate(self, substeps: int) -> None:
        for _ in range(substeps):
            pybullet.stepSimulation(self._client)

    def _info(self) -> dict[str, Any]:
        lifted = any(position[2] > LIFTED for _, position, _ in self.objects())
        return {"is_success": lifted, "attempted": self._attempted}

    def _observation(self) -> np.ndarray:
        picture = self._picture(2 * self.image_size)
        size = (self.image_size, self.image_size)
        return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)

    def _picture(self, size: int) -> np.ndarray:
        view = pybullet.computeViewMatrixFromYawPitchRoll([0.23, 0.2, 0.54], 1.0, 245, -56, 0, 2)
        *_, pixels, _, _ = pybullet.getCameraImage(
            size,
            size,
            view,
            pybullet.computeProjectionMatrixFOV(20, 1, 0.01, 10),
            shadow=0,
            lightDirection=[1, 1, 1],
            renderer=pybullet.ER_TINY_RENDERER,
            flags=pybullet.ER_NO_SEGMENTATION_MASK,
            physicsClientId=self._client,
        )
        return np.ascontiguousarray(pixels[..., :3], dtype=np.uint8)

    def render(self) -> np.ndarray | None:
        return self._picture(256) if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        if self._client >= 0:
            pybullet.disconnect(self._client)
            self._client = -1
