"""How fast a run goes and what its episodes returned: the rows of metrics.csv."""

import time
from typing import Any

import numpy as np

from agents.stepping import StepReport


class Meter:
    """Clocks that run only while the loop does, not during evaluations and checkpoints.

    ``train_seconds`` counts the whole loop, ``learning_seconds`` its steps that had updates, and
    ``wall_seconds`` everything. All three go on from where they were when a run is resumed.
    """

    CLOCKS = ("train_seconds", "learning_seconds", "wall_seconds")

    def __init__(self) -> None:
        self.train_seconds = self.learning_seconds = self.wall_seconds = 0.0
        self.metrics: dict[str, float] = {}  # of the last update
        self.episodes: list[tuple[float, int]] = []  # since the last row

    def start(self, step: int, updates: int) -> None:
        """To be called right before the loop runs."""
        self._wall = self._resumed = time.perf_counter()
        self._row = (step, updates, self.train_seconds)

    def tick(self, report: StepReport) -> None:
        """Takes in one step of the loop; call ``proceed`` before the loop's next step."""
        now = time.perf_counter()
        self.train_seconds += now - self._resumed
        self.learning_seconds += (now - self._resumed) if report.updates else 0.0
        self.wall_seconds += now - self._wall
        self._wall = now
        self.episodes += report.episodes
        self.metrics = report.metrics or self.metrics

    def proceed(self) -> None:
        self._resumed = time.perf_counter()

    def row(
        self, report: StepReport, updates: int, metric_names: tuple[str, ...]
    ) -> dict[str, Any]:
        """One row of metrics.csv: means over the episodes and speeds since the row before."""
        step_before, updates_before, seconds_before = self._row
        seconds = max(self.train_seconds - seconds_before, 1e-9)
        returns = [episode_return for episode_return, _ in self.episodes]
        lengths = [length for _, length in self.episodes]
        self.episodes = []
        self._row = (report.step, updates, self.train_seconds)
        return {
            "step": report.step,
            "wall_seconds": round(self.wall_seconds, 2),
            "episode_return": float(np.mean(returns)) if returns else None,
            "episode_length": float(np.mean(lengths)) if lengths else None,
            "updates": updates,
            "env_steps_per_second": round((report.step - step_before) / seconds, 1),
            "updates_per_second": round((updates - updates_before) / seconds, 1),
            **{name: self.metrics.get(name) for name in metric_names},
        }

    def state_dict(self) -> dict[str, float]:
        return {name: getattr(self, name) for name in self.CLOCKS}

    def load_state_dict(self, state: dict[str, float]) -> None:
        for name in self.CLOCKS:
            setattr(self, name, float(state[name]))
