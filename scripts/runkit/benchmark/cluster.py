"""The same cells on a Ray cluster: a task each, in a process of its own on whichever node is free.

Without an address, Ray is started on this machine for the time of the benchmark. On a cluster of
several machines every node needs this checkout and its virtual environment at the same path, on a
file system that they share, as a killed cell goes on from the files it left.
"""

import os
import socket
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from runkit import PYTHONPATH
from runkit.benchmark.launch import Request, Worker
from runkit.benchmark.pool import Done
from runkit.errors import UserError
from runkit.signals import StopRequest

RETRIES = 3  # of a cell whose Ray worker or node died


def run(requests: Iterable[Request], jobs: int, address: str | None, done: Done) -> int:
    """Like ``pool.run``; ``jobs`` is the size of the embedded cluster."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    _check_reachable(address)
    import ray

    own: dict[str, Any] = {"num_cpus": jobs, "include_dashboard": False}
    try:
        ray.init(
            address=address or "local",
            runtime_env={"env_vars": {"PYTHONPATH": PYTHONPATH}},
            log_to_driver=False,
            **({} if address else own),
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(f"no Ray cluster at {address}: {error}") from None
    try:
        remote = ray.remote(num_cpus=1, max_retries=RETRIES)(work)
        running = {remote.remote(asdict(request)): request for request in requests}
        with StopRequest() as stop:
            while running and stop.number is None:
                ready, _ = ray.wait(list(running), timeout=0.5)
                for reference in ready:
                    done(running.pop(reference), _outcome(reference))
            for reference in running:
                ray.cancel(reference)
            if running:  # they save what they can go on from
                ray.wait(list(running), num_returns=len(running), timeout=30)
        return stop.number or 0
    finally:
        ray.shutdown()


def _check_reachable(address: str | None) -> None:
    """Ray itself would try for minutes."""
    if address is None or address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError) as error:
        raise UserError(f"no Ray cluster at {address}: {error}") from None


def work(request: dict[str, Any]) -> dict[str, Any]:
    """One cell, in a Ray worker; if that is killed, the cell's process saves and stops itself."""
    worker = Worker(Request(**request))
    try:
        return worker.outcome()
    except BaseException:  # cancelled
        worker.stop()
        raise


def _outcome(reference: Any) -> dict[str, Any]:
    import ray

    try:
        outcome: dict[str, Any] = ray.get(reference)
    except ray.exceptions.RayError as error:
        return {"error": f"lost {RETRIES + 1} times: {type(error).__name__}"}
    return outcome
