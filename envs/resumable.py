"""Environments that can be put back exactly where they were, whatever simulator is inside."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper

# Training episodes are seeded from here up, evaluation below: the two never share a seed.
FIRST_TRAINING_SEED, LAST_TRAINING_SEED = 2**20, 2**31 - 1


class Resumable(gym.Wrapper[Any, Any, Any, Any]):
    """Remembers how the episode began and every action since; ``restore`` plays them again.

    A simulator's state cannot be read in general (contact caches, generators hidden in C++), but
    an episode is determined by its seed and its actions. So every episode gets a seed of its own,
    drawn from this wrapper's stream, and a snapshot is that seed, the actions, and the stream.
    What else an episode depends on, a wrapper inside has as ``setting`` (plain data, as it was at
    the reset) and takes back through ``set_setting``.
    Where a wrapper inside lets a game go on through a reset (``goes_on``), the whole game is
    remembered, with the places of those resets.

    Args:
        env: any environment that is deterministic given ``reset(seed=...)`` and the actions.
        seed, index: of the run and of this sub-environment; together they name the stream.

    """

    def __init__(self, env: gym.Env[Any, Any], seed: int, index: int) -> None:
        super().__init__(env)
        self.index = index
        self.rng = np.random.default_rng([seed, index])
        self.episode_seed = 0
        self.actions: list[Any] = []
        self.resets: list[int] = []  # numbers of actions after which the game went on

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        goes_on = self.env.has_wrapper_attr("goes_on") and self.env.get_wrapper_attr("goes_on")
        if seed is None and goes_on:
            self.resets.append(len(self.actions))
            return self.env.reset(options=options)
        if seed is None:
            seed = int(self.rng.integers(FIRST_TRAINING_SEED, LAST_TRAINING_SEED))
        self.episode_seed, self.actions, self.resets = seed, [], []
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> Any:
        self.actions.append(np.array(action))
        return self.env.step(action)

    def snapshot(self) -> dict[str, Any]:
        """Plain data that ``restore`` takes."""
        snapshot = {
            "episode_seed": self.episode_seed,
            "actions": np.stack(self.actions) if self.actions else None,
            "resets": [*self.resets],
            "rng": self.rng.bit_generator.state,
        }
        if self.env.has_wrapper_attr("setting"):
            snapshot["setting"] = self.env.get_wrapper_attr("setting")
        return snapshot

    def restore(self, snapshots: list[dict[str, Any]]) -> None:
        """Replays this sub-environment's own snapshot out of those of all sub-environments."""
        mine = snapshots[self.index]
        actions, resets = mine["actions"], list(mine["resets"])
        if not (actions is None or isinstance(actions, np.ndarray)):
            raise ValueError("the episode's actions are no array")
        if any(type(count) is not int for count in resets):
            raise ValueError("the episode's resets are no numbers")
        if self.env.has_wrapper_attr("setting"):
            self.env.get_wrapper_attr("set_setting")(mine["setting"])
        self.reset(seed=int(mine["episode_seed"]))
        for count, action in enumerate(() if actions is None else actions):
            if resets and count == resets[0]:
                self.resets.append(resets.pop(0))
                self.env.reset()
            self.step(action)
        if resets:
            self.resets.append(resets[0])
            self.env.reset()
        self.rng.bit_generator.state = mine["rng"]


class ResumableVector(VectorWrapper[Any, Any, Any]):
    """The same for an environment that is vectorized itself, in numpy: its arrays are its state.

    Args:
        env: an environment all of whose state is arrays, numbers and its ``np_random``.
        seed: of the run.

    """

    def __init__(self, env: VectorEnv[Any, Any, Any], seed: int) -> None:
        super().__init__(env)
        env.reset(seed=0)  # without which it may lack some of its arrays
        self.rng = np.random.default_rng([seed, 0])

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        if seed is None:
            seed = int(self.rng.integers(FIRST_TRAINING_SEED, LAST_TRAINING_SEED))
        return self.env.reset(seed=seed, options=options)

    def call(self, name: str, *args: Any) -> tuple[Any, ...]:
        """What SyncVectorEnv's ``call`` does, for ``snapshot`` and ``restore``."""
        return (getattr(self, name)(*args),)

    def snapshot(self) -> dict[str, Any]:
        """Plain data that ``restore`` takes."""
        state = {
            name: np.array(value) if isinstance(value, np.ndarray) else value
            for name, value in vars(self.env.unwrapped).items()
            if isinstance(value, (np.ndarray, bool, int, float))
        }
        return {"state": state, "rng": self.env.unwrapped.np_random.bit_generator.state}

    def restore(self, snapshots: list[dict[str, Any]]) -> None:
        """Puts the arrays and the generator back."""
        (mine,) = snapshots
        env = self.env.unwrapped
        self.reset()
        for name, value in mine["state"].items():
            if name not in vars(env):
                raise ValueError(f"the environment has no {name!r}")
            setattr(env, name, np.array(value) if isinstance(value, np.ndarray) else value)
        env.np_random.bit_generator.state = mine["rng"]
