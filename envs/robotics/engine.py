"""What a physics engine has to offer, and what it gives back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from envs.robotics.parameters import Parameter, Value
from envs.robotics.scene import Scene


@dataclass(frozen=True)
class Frame:
    """A picture.

    rgb: uint8 [H, W, 3].
    depth: float32 [H, W], metres along the camera's axis; infinity where there is only sky.
    segmentation: int32 [H, W]: 0 sky, -1 robot, i + 1 for the scene's body i.
    """

    rgb: np.ndarray
    depth: np.ndarray
    segmentation: np.ndarray


class Engine(Protocol):
    """A scene come to life. Positions float64 [3], quaternions float64 [4] as (x, y, z, w).

    The same calls after ``reset`` give the same numbers, to the last bit, in any process.
    """

    scene: Scene
    unsupported: Mapping[str, str]  # glob of parameter paths -> why this engine cannot change them

    def reset(self) -> None:
        """Poses, velocities, joints and drives as the scene says; parameters stay as set."""

    def step(self, substeps: int) -> None:
        """That many timesteps."""

    def pose(self, body: str) -> tuple[np.ndarray, np.ndarray]:
        """Position and quaternion of a body's origin."""

    def velocity(self, body: str) -> tuple[np.ndarray, np.ndarray]:
        """Linear and angular velocity, in the world's frame."""

    def place(self, body: str, position: np.ndarray, quaternion: np.ndarray) -> None:
        """Puts a body there, at rest. A hidden one is shown, and solid again if it was."""

    def hide(self, body: str) -> None:
        """Out of sight and of touch."""

    def joints(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions and velocities of the robot's driven joints, float64 [J] each."""

    def set_joints(self, positions: np.ndarray) -> None:
        """Puts the joints there, at rest, and holds them there."""

    def drive(self, targets: np.ndarray) -> None:
        """Where the joints' drives pull from now on, [J]."""

    def tool(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Position, quaternion and linear velocity of the tool's point."""

    def jacobian(self) -> np.ndarray:
        """d (tool position, rotation vector) / d joints, in the world's frame, [6, J]."""

    def touching(self, first: str, second: str) -> bool:
        """Whether two bodies touch; "robot" is any link, "fingers" any finger's link."""

    def render(self, camera: str, width: int, height: int) -> Frame:
        """What a camera of the scene sees."""

    def rgb(self, camera: str, width: int, height: int) -> np.ndarray:
        """The frame's colours alone, uint8 [H, W, 3]: cheaper where depth costs extra."""

    def parameters(self) -> dict[str, Parameter]:
        """What this engine can change, ``scene_parameters`` less ``unsupported``."""

    def set(self, values: Mapping[str, Value]) -> None:
        """Sets parameters, all or (ParameterError) none; those not named stay."""

    def state(self) -> Any:
        """Where everything is and moves; ``restore`` takes it back, bit for bit."""

    def restore(self, state: Any) -> None: ...

    def close(self) -> None:
        """Frees clients, contexts and files. Twice is fine."""
