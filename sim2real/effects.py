"""What can be changed of any environment from outside: its actions and its observations.

| path | what it is |
|---|---|
| action.latency | steps by which an action comes late; before the first arrives, 0 acts |
| action.noise | standard deviation of what is added to it, within its bounds |
| observation.noise | the same for observed numbers; of a Dict for "observation" alone, no goal |
| image.blur | standard deviation in pixels of the Gaussian that a uint8 picture is blurred with |
| image.noise | standard deviation, in grey levels of 255, of what is added to each of its colours |
| image.compression | 100 less the JPEG quality that it goes through; 0: it does not |

A picture is blurred by the lens, then noisy from the sensor, then compressed.
"""

from collections import deque
from collections.abc import Mapping
from typing import Any

import cv2
import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict

from envs.robotics.parameters import Parameter, Value
from sim2real.streams import stream

NUMBERS = {
    "action.latency": Parameter("action.latency", "integer", 0, 0, 1000, "steps"),
    "action.noise": Parameter("action.noise", "number", 0.0, 0.0, 1e3),
    "observation.noise": Parameter("observation.noise", "number", 0.0, 0.0, 1e3),
    "image.blur": Parameter("image.blur", "number", 0.0, 0.0, 20.0, "pixels", True),
    "image.noise": Parameter("image.noise", "number", 0.0, 0.0, 255.0, "of 255", True),
    "image.compression": Parameter("image.compression", "integer", 0, 0, 99, "", True),
}


class Effects:
    """The effects that fit an environment's spaces.

    parameters: those that do.
    unsupported: the others, and why.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        self.action_space, self.observation_space = env.action_space, env.observation_space
        spaces = self.observation_space
        parts = dict(spaces.items()) if isinstance(spaces, Dict) else {"observation": spaces}
        self.pictures = [name for name, space in parts.items() if _is_picture(space)]
        numbers = parts.get("observation")
        self.numbers = numbers if isinstance(numbers, Box) and numbers.dtype.kind == "f" else None
        reasons = {
            "action": "" if isinstance(env.action_space, Box) else "its actions are no numbers",
            "observation": "" if self.numbers is not None else "it observes no numbers",
            "image": "" if self.pictures else "it observes no uint8 picture [H, W, 1 or 3]",
        }
        self.unsupported = {
            path: reason for path in NUMBERS if (reason := reasons[path.split(".")[0]])
        }
        self.parameters = {p: x for p, x in NUMBERS.items() if p not in self.unsupported}
        self.begin(0, 0)
        self.values: dict[str, Any] = {path: p.nominal for path, p in NUMBERS.items()}

    def set(self, values: Mapping[str, Value]) -> None:
        """Values that have been checked."""
        self.values.update(values)

    def begin(self, seed: int, episode: int) -> None:
        """A new episode, with its own noise."""
        self.episode = seed, episode
        self.noises: dict[str, np.random.Generator] = {}
        self.sent: deque[np.ndarray] = deque(maxlen=int(NUMBERS["action.latency"].high) + 1)

    def _noise(self, path: str, shape: tuple[int, ...]) -> np.ndarray:
        if path not in self.noises:
            self.noises[path] = stream(*self.episode, f"{path}: noise")
        return self.noises[path].normal(0, self.values[path], shape)

    def act(self, action: Any) -> Any:
        """What reaches the environment when ``action`` is sent."""
        latency, noise = self.values["action.latency"], self.values["action.noise"]
        if "action.noise" in self.unsupported:
            return action
        self.sent.append(np.array(action))
        if latency:
            late = latency >= len(self.sent)
            action = np.zeros_like(self.sent[0]) if late else self.sent[-1 - latency]
        if noise:
            action = action + self._noise("action.noise", np.shape(action))
        if latency or noise:
            assert isinstance(self.action_space, Box)
            bounds = self.action_space.low, self.action_space.high
            action = np.clip(action, *bounds).astype(self.action_space.dtype)
        return action

    def observe(self, observation: Any) -> Any:
        """What is seen of ``observation``; that itself stays as it is."""
        if isinstance(observation, dict):
            return {name: self._part(name, part) for name, part in observation.items()}
        return self._part("observation", observation)

    def _part(self, name: str, part: Any) -> Any:
        if name in self.pictures:
            return self._picture(part)
        if name == "observation" and self.numbers is not None and self.values["observation.noise"]:
            noisy = part + self._noise("observation.noise", part.shape)
            return np.clip(noisy, self.numbers.low, self.numbers.high).astype(part.dtype)
        return part

    def _picture(self, picture: np.ndarray) -> np.ndarray:
        blur, noise = self.values["image.blur"], self.values["image.noise"]
        if blur:
            picture = cv2.GaussianBlur(picture, (0, 0), blur).reshape(picture.shape)
        if noise:
            noisy = picture + self._noise("image.noise", picture.shape)
            picture = noisy.round().clip(0, 255).astype(np.uint8)
        if compression := self.values["image.compression"]:
            options = [cv2.IMWRITE_JPEG_QUALITY, 100 - compression]
            # OpenCV takes the channels for blue, green, red; JPEG does not treat them alike.
            colour = picture.shape[-1] == 3
            _, file = cv2.imencode(".jpg", picture[..., ::-1] if colour else picture, options)
            back = cv2.imdecode(file, cv2.IMREAD_COLOR if colour else cv2.IMREAD_GRAYSCALE)
            assert back is not None
            picture = np.ascontiguousarray(back[..., ::-1] if colour else back[..., None])
        return picture


def _is_picture(space: gym.Space[Any]) -> bool:
    return (
        isinstance(space, Box)
        and space.dtype == np.uint8
        and len(space.shape) == 3
        and space.shape[-1] in (1, 3)
    )
