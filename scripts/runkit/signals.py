"""SIGINT and SIGTERM as a request to stop after the current step."""

import signal
from types import FrameType
from typing import Any


class StopRequest:
    """A context manager; ``number`` is the signal that came, or None.

    The first signal only asks. A second one gets the handler from before, so that an impatient
    Ctrl-C still ends the process.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.number: int | None = None

    def __enter__(self) -> "StopRequest":
        self.before = {s: signal.signal(s, self._note) for s in self.SIGNALS}
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        self.number = number
        signal.signal(number, self.before[signal.Signals(number)])
