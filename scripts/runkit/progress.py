"""What a run shows while it trains: a live line in a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

PLAIN_SECONDS = 10.0  # between two plain lines


def describe_agent(row: dict[str, Any]) -> str:
    """Return, losses and speeds of an agent's row."""
    parts = []
    if row.get("episode_return") is not None:
        parts.append(f"return {row['episode_return']:.1f}")
    losses = {name: row[name] for name in row if name.endswith("_loss")}
    parts += [f"{name} {loss:.3g}" for name, loss in losses.items() if loss is not None]
    parts.append(f"{row['env_steps_per_second']:.0f} steps/s")
    parts.append(f"{row['updates_per_second']:.0f} updates/s")
    return "  ".join(parts)


class TrainingProgress:
    """Step, figures and the time left. A context manager; ``describe`` puts a row into words."""

    def __init__(
        self,
        total_steps: int,
        done_steps: int,
        describe: Callable[[dict[str, Any]], str] = describe_agent,
    ) -> None:
        self.total_steps, self.first_step = total_steps, done_steps
        self.describe = describe
        self.console = Console()
        self.started = time.monotonic()
        self.last_line = float("-inf")
        columns = (
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(bar_width=20),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"),
        )
        self.bar = Progress(*columns, console=self.console, disable=not self.console.is_terminal)
        self.task = self.bar.add_task("train", total=total_steps, completed=done_steps, text="")

    def __enter__(self) -> "TrainingProgress":
        self.bar.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.bar.stop()

    def advance(self, step: int) -> None:
        """Moves the bar, where there is one."""
        self.bar.update(self.task, completed=step)

    def show(self, row: dict[str, Any]) -> None:
        """Shows one row of metrics.csv."""
        text = self.describe(row)
        if self.console.is_terminal:
            self.bar.update(self.task, text=text)
        elif time.monotonic() - self.last_line >= PLAIN_SECONDS:
            self.last_line = time.monotonic()
            self.say(
                f"step {row['step']:,}/{self.total_steps:,}  {text}  {self._left(row['step'])}"
            )

    def say(self, text: str) -> None:
        """A line that stays."""
        self.bar.console.print(text, highlight=False, soft_wrap=True, markup=False)

    def _left(self, step: int) -> str:
        done = max(step - self.first_step, 1)
        seconds = (time.monotonic() - self.started) / done * (self.total_steps - step)
        return f"left {int(seconds // 60)}:{int(seconds % 60):02d}"
