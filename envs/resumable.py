"""An environment that can be put back exactly where it was, whatever simulator is inside."""

from typing import Any

import gymnasium as gym
import numpy as np

# Training episodes are seeded from here up, evaluation below: the two never share a seed.
FIRST_TRAINING_SEED, LAST_TRAINING_SEED = 2**20, 2**31 - 1


class Resumable(gym.Wrapper[Any, Any, Any, Any]):
    """Remembers how the episode began and every action since; ``restore`` plays them again.

    A simulator's state cannot be read in general (contact caches, generators hidden in C++), but
    an episode is determined by its seed and its actions. So every episode gets a seed of its own,
    drawn from this wrapper's stream, and a snapshot is that seed, the actions, and the stream.

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

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        if seed is None:
            seed = int(self.rng.integers(FIRST_TRAINING_SEED, LAST_TRAINING_SEED))
        self.episode_seed, self.actions = seed, []
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> Any:
        self.actions.append(np.array(action))
        return self.env.step(action)

    def snapshot(self) -> dict[str, Any]:
        """Plain data that ``restore`` takes."""
        return {
            "episode_seed": self.episode_seed,
            "actions": np.stack(self.actions) if self.actions else None,
            "rng": self.rng.bit_generator.state,
        }

    def restore(self, snapshots: list[dict[str, Any]]) -> None:
        """Replays this sub-environment's own snapshot out of those of all sub-environments."""
        mine = snapshots[self.index]
        self.reset(seed=int(mine["episode_seed"]))
        for action in () if mine["actions"] is None else mine["actions"]:
            self.step(action)
        self.rng.bit_generator.state = mine["rng"]
