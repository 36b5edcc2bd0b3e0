"""Wrappers that make environments behave as the papers and we expect."""

from typing import Any

import gymnasium as gym


class SettledReset(gym.Wrapper[Any, Any, Any, Any], gym.utils.RecordConstructorArgs):
    """Makes the first episode like all others, for simulators whose first reset differs.

    PyBullet's environments load their robot at the first reset and restore a saved state at every
    later one; the two differ in the last digits. A throw-away reset before the first removes that.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        gym.utils.RecordConstructorArgs.__init__(self)
        super().__init__(env)
        self.settled = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        if not self.settled:
            self.env.reset(seed=0)
            self.settled = True
        return self.env.reset(seed=seed, options=options)
