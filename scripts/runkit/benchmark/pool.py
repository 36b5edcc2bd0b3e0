"""Runs cells, a process each: N at a time on this machine."""

import time
from collections.abc import Callable, Iterable
from typing import Any

from runkit.benchmark.launch import Request, Worker
from runkit.signals import StopRequest

Done = Callable[[Request, dict[str, Any]], None]  # takes a worker's outcome


def run(requests: Iterable[Request], jobs: int, done: Done) -> int:
    """Calls ``done`` with each request and its outcome, as they end.

    Returns 0, or the number of the signal that stopped it; then the cells that were under way have
    saved what they can go on from, and no outcome of theirs was passed on.
    """
    waiting, running = list(requests)[::-1], list[tuple[Request, Worker]]()
    with StopRequest() as stop:
        try:
            while (waiting or running) and stop.number is None:
                while waiting and len(running) < jobs:
                    request = waiting.pop()
                    running.append((request, Worker(request)))
                for entry in [entry for entry in running if not entry[1].running()]:
                    running.remove(entry)
                    done(entry[0], entry[1].outcome())
                time.sleep(0.1)
        finally:
            for _, worker in running:
                worker.stop()
    return stop.number or 0
