"""A robot, a task and an engine as a Gymnasium environment."""

from collections.abc import Mapping
from math import isfinite
from typing import Any, Literal, Protocol

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict

from envs.robotics.engine import Engine
from envs.robotics.kinematics import DOWN, displacement
from envs.robotics.parameters import Parameter, Value, check, scene_parameters
from envs.robotics.robots import FINGER_OPENING
from envs.robotics.scene import RobotModel, Scene

EngineName = Literal["bullet", "mujoco"]
TIMESTEP, SUBSTEPS = 0.002, 20  # a control step takes 40 ms
STRIDE = 0.05  # m (or rad, for joints) that an action of 1 asks for in a control step
FAR = 3.0  # m; depth pictures end there


class Task(Protocol):
    """What is to be done with the robot; free of engine and robot."""

    grasps: bool  # whether the fingers are the policy's to move
    tolerance: float  # m between what is achieved and desired, at most, in a success
    camera: str  # what pictures are taken with
    low: tuple[float, float, float]  # corners of the box in which goals lie
    high: tuple[float, float, float]

    def scene(self, robot: RobotModel) -> Scene: ...

    def parameters(self) -> dict[str, Parameter]:
        """The task's own, "task.…"."""

    def reset(self, engine: Engine, rng: np.random.Generator, values: Mapping[str, Any]) -> None:
        """Puts things where an episode starts and draws a goal."""

    def observe(self, engine: Engine) -> np.ndarray:
        """What the policy should know beside the robot, float64 [n]."""

    def achieved(self, engine: Engine) -> np.ndarray:
        """Where what has a goal is, [3]."""

    @property
    def goal(self) -> np.ndarray: ...


def make_engine(name: EngineName, scene: Scene) -> Engine:
    """The engine of that name, imported only now. Raises ValueError for another name."""
    if name == "bullet":
        from envs.robotics.bullet_engine import BulletEngine

        return BulletEngine(scene)
    if name == "mujoco":
        from envs.robotics.mujoco_engine import MujocoEngine

        return MujocoEngine(scene)
    raise ValueError(f"engine is bullet or mujoco, not {name!r}")


class RobotEnv(gym.Env[Any, np.ndarray]):
    """Goal-conditioned, as Gymnasium-Robotics has it.

    Args:
        engine: "bullet" or "mujoco".
        robot, task: what acts, and what for.
        observation: "state" (numbers), "pixels" (picture and depth) or "both".
        control: "end_effector" moves the tool, which keeps pointing down, by up to 5 cm a step;
            "joints" moves the arm's joints by up to 0.05 rad.
        reward: "dense" is minus the distance from the goal in metres, "sparse" 0 within the
            task's tolerance and else -1.
        image_size: height and width of observed pictures.
        render_mode: None, "rgb_array", "depth_array" or "segmentation_array".
        render_size: width and height of what ``render`` gives.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012  (Gymnasium declares it so)
        "render_modes": ["rgb_array", "depth_array", "segmentation_array"],
        "render_fps": round(1 / (TIMESTEP * SUBSTEPS)),
    }

    def __init__(
        self,
        engine: EngineName,
        robot: RobotModel,
        task: Task,
        observation: Literal["state", "pixels", "both"] = "state",
        control: Literal["end_effector", "joints"] = "end_effector",
        reward: Literal["dense", "sparse"] = "dense",
        image_size: int = 84,
        render_mode: str | None = None,
        render_size: tuple[int, int] = (480, 360),
    ) -> None:
        _check_choice("observation", observation, ("state", "pixels", "both"))
        _check_choice("control", control, ("end_effector", "joints"))
        _check_choice("reward", reward, ("dense", "sparse"))
        if render_mode is not None:
            _check_choice("render_mode", render_mode, tuple(self.metadata["render_modes"]))
        self.robot, self.task, self.render_mode = robot, task, render_mode
        self.observation, self.control, self.reward = observation, control, reward
        self.image_size, self.render_size = image_size, render_size
        self.scene = task.scene(robot)
        self.engine = make_engine(engine, self.scene)
        self._arm = len(robot.joints) - len(robot.fingers)
        self._own = task.parameters()
        self._own["control.substeps"] = Parameter("control.substeps", "integer", SUBSTEPS, 1, 200)
        self._values: dict[str, Any] = {path: p.nominal for path, p in self._own.items()}
        free = 3 if control == "end_effector" else self._arm
        self.action_space = Box(-1.0, 1.0, (free + int(task.grasps),), np.float32)
        self.observation_space = self._space()

    def _space(self) -> Dict:
        goal = Box(-np.inf, np.inf, (3,), np.float64)
        spaces: dict[str, gym.Space[Any]] = {"achieved_goal": goal, "desired_goal": goal}
        if self.observation != "pixels":
            self.task.reset(self.engine, np.random.default_rng(0), self._values)
            numbers = len(self._numbers())
            spaces["observation"] = Box(-np.inf, np.inf, (numbers,), np.float64)
        if self.observation != "state":
            size = self.image_size
            spaces["image"] = Box(0, 255, (size, size, 3), np.uint8)
            spaces["depth"] = Box(0.0, FAR, (size, size, 1), np.float32)
        return Dict(spaces)

    # Gymnasium

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        super().reset(seed=seed)
        self.engine.reset()
        self.task.reset(self.engine, self.np_random, self._values)
        observation = self._observe()
        return observation, {"is_success": self._success(observation)}

    def step(
        self, action: np.ndarray
    ) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Raises ValueError for an action of another shape, or that is not finite."""
        action = np.asarray(action, np.float64)
        # An engine that was given a NaN once may keep it through every later reset.
        finite = action.shape == self.action_space.shape and all(map(isfinite, action.tolist()))
        if not finite:
            raise ValueError(f"an action is {self.action_space.shape} finite numbers, not {action}")
        self.engine.drive(self._targets(action.clip(-1.0, 1.0)))
        self.engine.step(self._values["control.substeps"])
        observation = self._observe()
        achieved, desired = observation["achieved_goal"], observation["desired_goal"]
        info = {"is_success": self._success(observation)}
        return observation, float(self.compute_reward(achieved, desired, info)), False, False, info

    def render(self) -> np.ndarray | None:
        if self.render_mode is None:
            return None
        width, height = self.render_size
        if self.render_mode == "rgb_array":
            return self.engine.rgb(self.task.camera, width, height)
        frame = self.engine.render(self.task.camera, width, height)
        return frame.depth if self.render_mode == "depth_array" else frame.segmentation

    def close(self) -> None:
        self.engine.close()

    # Goals, as Gymnasium-Robotics' GoalEnv has them; vectorized over leading dimensions.

    def compute_reward(self, achieved_goal: np.ndarray, desired_goal: np.ndarray, info: Any) -> Any:
        """The reward of being at ``achieved_goal`` [..., 3] when ``desired_goal`` is wanted."""
        difference = achieved_goal - desired_goal
        distance = np.sqrt((difference * difference).sum(-1))
        return -distance if self.reward == "dense" else (distance > self.task.tolerance) * -1.0

    def compute_terminated(
        self, achieved_goal: np.ndarray, desired_goal: np.ndarray, info: Any
    ) -> bool:
        """Never: the goal is to be held."""
        return False

    def compute_truncated(
        self, achieved_goal: np.ndarray, desired_goal: np.ndarray, info: Any
    ) -> bool:
        return False

    def _success(self, observation: dict[str, np.ndarray]) -> bool:
        difference = observation["achieved_goal"] - observation["desired_goal"]
        return bool(difference @ difference <= self.task.tolerance**2)

    # Parameters

    def parameters(self) -> dict[str, Parameter]:
        """Everything that may be changed: the engine's, the task's, and "control.substeps"."""
        return {**self.engine.parameters(), **self._own}

    def set_parameters(self, values: Mapping[str, Value]) -> None:
        """Sets parameters, all or none. Those that are not live count from the next reset on.

        Raises:
            ParameterError: for an unknown path, a value out of range, or what this engine cannot.

        """
        known = {**scene_parameters(self.scene), **self._own}
        check(known, values)
        own = {path: value for path, value in values.items() if path in self._own}
        self.engine.set({path: value for path, value in values.items() if path not in own})
        self._values |= own

    # The robot

    def _targets(self, action: np.ndarray) -> np.ndarray:
        """Where the drives should pull the joints."""
        engine, arm = self.engine, self._arm
        targets = engine.joints()[0].copy()
        if self.control == "joints":
            targets[:arm] += STRIDE * action[:arm]
        else:
            _, quaternion, _ = engine.tool()
            jacobian = engine.jacobian()[:, :arm]
            targets[:arm] += displacement(jacobian, STRIDE * action[:3], quaternion, DOWN)
        if self.task.grasps:  # -1 shuts the fingers and 1 opens them
            targets[arm:] = (action[-1] + 1) / 2 * FINGER_OPENING
        return targets

    def _observe(self) -> dict[str, np.ndarray]:
        found = {
            "achieved_goal": self.task.achieved(self.engine),
            "desired_goal": self.task.goal.copy(),
        }
        if self.observation != "pixels":
            found["observation"] = self._numbers()
        if self.observation != "state":
            frame = self.engine.render(self.task.camera, self.image_size, self.image_size)
            found["image"] = frame.rgb
            found["depth"] = np.minimum(frame.depth, FAR)[..., None]
        return found

    def _numbers(self) -> np.ndarray:
        position, _, velocity = self.engine.tool()
        parts = [position, velocity]
        if self.control == "joints":
            parts += [part[: self._arm] for part in self.engine.joints()]
        if self.task.grasps:
            parts.append(self.engine.joints()[0][self._arm :])
        parts.append(self.task.observe(self.engine))
        return np.concatenate(parts)


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} is one of {', '.join(choices)}, not {value!r}")
