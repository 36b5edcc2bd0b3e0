"""Atari games as Mnih et al. 2015 play them, on the Arcade Learning Environment.

Gymnasium's own AtariPreprocessing and FrameStackObservation do most of it: up to 30 no-ops at the
start, every action for 4 frames, the maximum of the last two, grey, 84 x 84, stacks of 4. For
training only, rewards are clipped to their sign, and losing a life terminates the episode without
restarting the game.

The id chooses the emulator's settings: ``PongNoFrameskip-v4`` is deterministic, as in the paper;
``ALE/Pong-v5`` repeats an action with probability 0.25 (Machado et al. 2018).
"""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation, TransformReward

STACK = 4


def is_atari(env_id: str) -> bool:
    """Whether ``env_id`` is registered, and an Atari game that is seen (not its memory)."""
    return env_id in gym.registry and "ale_py" in str(gym.registry[env_id].entry_point)


def atari(env_id: str, training: bool, **kwargs: Any) -> gym.Env[Any, Any]:
    """The game with observations uint8 [4, 84, 84] and its own actions."""
    # The preprocessing skips frames itself, and reads the grey screen from the emulator.
    env = gym.make(env_id, disable_env_checker=True, frameskip=1, obs_type="grayscale", **kwargs)
    env = AtariPreprocessing(env, noop_max=30, frame_skip=4, screen_size=84)
    if training:
        env = LifeLoss(env)
    env = FrameStackObservation(env, STACK)
    env.metadata = {**env.metadata, "render_fps": 15}  # one of the emulator's 60 frames in four
    return TransformReward(env, sign) if training else env


def sign(reward: Any) -> float:
    """-1, 0 or 1: rewards as the paper clips them."""
    return float(np.sign(reward))


class LifeLoss(gym.Wrapper[Any, Any, Any, Any], gym.utils.RecordConstructorArgs):
    """Losing a life terminates the episode, but the game goes on: the next ``reset`` only steps.

    ``goes_on`` says whether the next ``reset`` without a seed will continue the game.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        gym.utils.RecordConstructorArgs.__init__(self)
        super().__init__(env)
        self.lives, self.goes_on = 0, False

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        lives = int(info["lives"])
        lost, self.lives = 0 < lives < self.lives, lives
        self.goes_on = lost and not (terminated or truncated)
        return observation, reward, terminated or lost, truncated, info

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        if self.goes_on and seed is None:
            self.goes_on = False
            observation, _, terminated, truncated, info = self.env.step(0)  # no-op
            if not (terminated or truncated):
                self.lives = int(info["lives"])
                return observation, info
        self.goes_on = False
        observation, info = self.env.reset(seed=seed, options=options)
        self.lives = int(info["lives"])
        return observation, info
