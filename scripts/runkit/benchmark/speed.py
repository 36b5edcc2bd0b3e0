"""The speed suite: environment steps a second of both arms, in turn, round after round.

Every measurement is a process of its own (``speed_worker.py``) and a line of speed.jsonl. Nothing
else should run meanwhile.
"""

import json
import os
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

from runkit import PYTHONPATH, ROOT
from runkit.benchmark.report_files import fill_pages
from runkit.benchmark.suite import ARMS, SUITES
from runkit.benchmark.tables import table
from runkit.devices import thread_counts
from runkit.errors import UserError
from runkit.rundir import machine, peer_versions, write_text
from runkit.signals import StopRequest

from agents.state import parse_json

FORMAT = 1
LABELS = ARMS | {"sbx": "SBX (JAX)"}
WORKER = ROOT / "scripts/runkit/speed_worker.py"


@dataclass(frozen=True)
class SpeedTask:
    """What is timed."""

    algorithm: str
    env_id: str
    hyperparameters: Literal["defaults", "zoo"]
    n_envs: int = 1

    @property
    def key(self) -> str:
        return f"{self.algorithm}-{self.env_id}-{self.n_envs}env-{self.hyperparameters}"

    @property
    def label(self) -> str:
        envs = f", {self.n_envs} environments" if self.n_envs > 1 else ""
        zoo = ", rl-baselines3-zoo's hyperparameters" if self.hyperparameters == "zoo" else ""
        return f"{self.algorithm.upper()} {self.env_id}{envs}{zoo}"


@dataclass(frozen=True)
class SpeedSuite:
    tasks: tuple[SpeedTask, ...]
    rounds: int
    seconds: float  # timed, a measurement

    @classmethod
    def load(cls) -> "SpeedSuite":
        data = tomllib.loads((SUITES / "speed.toml").read_text())
        tasks = tuple(SpeedTask(**entry) for entry in data["tasks"])
        return cls(tasks, data["rounds"], data["seconds"])


class Measurements:
    """The lines of speed.jsonl."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "speed.jsonl"
        self.lines: list[dict[str, Any]] = []
        text = self.file.read_text(errors="replace") if self.file.exists() else ""
        for number, line in enumerate(text.splitlines(), start=1):
            where = f"{self.file}, line {number}"
            try:
                entry = parse_json(line)
                identity = [entry[name] for name in ("task", "arm", "threads", "round")]
                float(entry["steps_per_second"])
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(f"{where} is damaged: {error}; delete it") from None
            if entry.get("format") != FORMAT:
                raise UserError(f"{where} is of another version; choose another --out ({identity})")
            self.lines.append(entry)

    def add(self, entry: dict[str, Any]) -> None:
        self.lines.append(entry)
        write_text(self.file, "".join(f"{json.dumps(line)}\n" for line in self.lines))

    def has(self, task: str, arm: str, threads: int, round_: int) -> bool:
        identity = (task, arm, threads, round_)
        return any((e["task"], e["arm"], e["threads"], e["round"]) == identity for e in self.lines)

    def best(self, task: str, arm: str) -> dict[str, Any] | None:
        """The median measurement at the arm's better thread count."""
        by_threads: dict[int, list[dict[str, Any]]] = {}
        for entry in self.lines:
            if (entry["task"], entry["arm"]) == (task, arm):
                by_threads.setdefault(entry["threads"], []).append(entry)
        medians = [sorted(same, key=_rate)[(len(same) - 1) // 2] for same in by_threads.values()]
        return max(medians, key=_rate, default=None)


def _rate(entry: dict[str, Any]) -> float:
    return float(entry["steps_per_second"])


def run(out: Path, rounds: int | None, sbx_python: Path | None, command: str) -> int:
    """Measures what is missing; returns 0, or the number of the signal that stopped it."""
    suite, measurements = SpeedSuite.load(), Measurements(out)
    common = {"machine": machine(), "versions": peer_versions(), "command": command}
    with StopRequest() as stop:
        for round_, task, arm, threads in product(
            range(suite.rounds if rounds is None else rounds), suite.tasks, LABELS, thread_counts()
        ):
            if arm == "sbx" and not (sbx_python and task.algorithm == "sac"):
                continue
            if measurements.has(task.key, arm, threads, round_):
                continue
            if stop.number is not None:
                return stop.number
            python = str(sbx_python) if arm == "sbx" else sys.executable
            result = _measure(python, arm, task, threads, suite.seconds)
            where = {"task": task.key, "arm": arm, "threads": threads, "round": round_}
            measurements.add({"format": FORMAT, **where, **result, **common})
            print(f"round {round_}  {task.key}  {arm}  {threads} thread(s)  {_rate(result):.0f}")
    return 0


def _measure(
    python: str, arm: str, task: SpeedTask, threads: int, seconds: float
) -> dict[str, Any]:
    command = [python, str(WORKER), arm, task.algorithm, task.env_id, str(task.n_envs)]
    command += [str(threads), str(seconds), task.hyperparameters]
    # JAX has no thread setting: pinning to n cores is what limits it (and it alone).
    cores = sorted(os.sched_getaffinity(0))
    pin = cores[:threads] if arm == "sbx" else cores
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": "" if arm == "sbx" else PYTHONPATH},
        preexec_fn=lambda: os.sched_setaffinity(0, pin),
    )
    if done.returncode != 0:
        raise UserError(f"{arm} failed: {done.stderr.strip().splitlines()[-1]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def report(out: Path, command: str) -> None:
    """Writes the tables between their markers."""
    measurements = Measurements(out)
    made = {"throughput": throughput(measurements), "profiles": profiles(measurements)}
    fill_pages(out, "Speed, beside Stable-Baselines3", command, made)


def throughput(measurements: Measurements) -> str:
    """The table: medians at each arm's better thread count."""
    rows = []
    for task in SpeedSuite.load().tasks:
        ours = measurements.best(task.key, "firsthand")
        for arm in LABELS:
            entry = measurements.best(task.key, arm)
            if entry is None:
                continue
            rate = entry["steps_per_second"]
            ratio = f"{ours['steps_per_second'] / rate:.2f}" if ours and entry is not ours else "-"
            cells = [LABELS[arm], str(entry["threads"]), f"{rate:,.0f}"]
            cells.append(f"{rate * entry['updates_per_step']:,.0f}")
            rows.append([task.label, *cells, f"{entry['peak_memory_bytes'] / 1e6:,.0f}", ratio])
    head = ["", "arm", "threads", "env steps/s", "updates/s", "peak MB", "Firsthand is faster by"]
    return table(head, rows)


def profiles(measurements: Measurements) -> str:
    """Where our time goes, and how much of an update is matrix products."""
    rows = []
    for task in SpeedSuite.load().tasks:
        entry = measurements.best(task.key, "firsthand")
        if entry is None:
            continue
        split = ", ".join(f"{name} {1e3 * value:.3f}" for name, value in entry["split"].items())
        share = "-"
        if "gflops" in entry:
            limit = entry["update_gflop"] / entry["gflops"]
            share = (
                f"{entry['update_gflop']:.2f} GFLOP, {1e3 * limit:.2f} ms at the "
                f"{entry['gflops']:.0f} GFLOP/s measured: {limit / entry['split']['update']:.0%}"
            )
        rows.append([task.label, split, share])
    return table(["", "ms a step", "matrix products of an update"], rows)
