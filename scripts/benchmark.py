"""Ours against Stable-Baselines3: trains both arms, compares them, and writes a report.

    python scripts/benchmark.py smoke
    python scripts/benchmark.py classic --jobs 2
    python scripts/benchmark.py mujoco --tasks 'sac-HalfCheetah-v4-100k'

What is finished is kept in the output folder and skipped the next time; what was interrupted is
gone on with. Tables, pictures and report.html are made anew at every end.
"""

import fnmatch
import shlex
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from runkit import ROOT
from runkit.arguments import parse
from runkit.benchmark import hpo, launch, pool, report_files, speed
from runkit.benchmark.launch import Request
from runkit.benchmark.records import Evaluation, Record, Results, locked, settings
from runkit.benchmark.suite import Cell, Suite, load_suite
from runkit.errors import UserError, run_main
from runkit.rundir import machine, peer_versions


@dataclass(frozen=True)
class Arguments:
    """Trains every cell (arm, task, seed) of a suite that has no result yet, and reports."""

    suite: tyro.conf.Positional[str]  # smoke, classic, mujoco, bullet, speed; or a .toml file
    seeds: int | None = None  # of every task, from 0 (of speed: rounds); default: the suite's
    jobs: int = 1  # processes at a time, one thread each; 0: only the report
    tasks: str = "*"  # pattern of task keys; the others are reported as far as they exist
    out: Path | None = None  # results; default: results/SUITE
    ray: bool = False  # run the cells on a Ray cluster: an embedded local one without an address
    ray_address: str | None = None  # of a cluster whose nodes see this checkout at this path
    hpo: bool = False  # search hyperparameters of the one task that --tasks names, and retest them
    trials: int = 50  # of the search, in all
    sbx_python: Path | None = None  # a Python that has sbx-rl, for a third arm in speed

    def __post_init__(self) -> None:
        if self.jobs < 0:
            raise ValueError(f"jobs must not be negative, but is {self.jobs}")
        if self.trials < 1:
            raise ValueError(f"trials must be positive, not {self.trials}")
        if self.seeds is not None and not 1 <= self.seeds <= 10_000:
            raise ValueError(f"seeds must lie in [1, 10,000], not {self.seeds}")


def main(args: list[str]) -> int:
    arguments = parse(Arguments, args, "benchmark.py", __doc__)
    command = shlex.join(["python", "scripts/benchmark.py", *args])
    if arguments.suite == "speed":
        return measure_speed(arguments, command)
    suite = load_suite(arguments.suite)
    out = arguments.out or ROOT / "results" / suite.name
    cells = chosen(suite, arguments)
    if arguments.hpo:
        status = search(cells, out, arguments, command)
        return stopped(status, command) if status else 0
    with locked(out):
        results = Results(out)
        results.check(suite, peer_versions() if arguments.jobs else None)
        status = train(suite, cells, results, out, arguments, command) if arguments.jobs else 0
        report_files.write(suite, results, out)
    print(f"report: {out / 'report.html'}")
    return stopped(status, command) if status else 0


def measure_speed(arguments: Arguments, command: str) -> int:
    out = arguments.out or ROOT / "results/speed"
    with locked(out):
        status = 0
        if arguments.jobs:
            status = speed.run(out, arguments.seeds, arguments.sbx_python, command)
        speed.report(out, command)
    print(f"tables: {out / 'README.md'}")
    return stopped(status, command) if status else 0


def stopped(signal: int, command: str) -> int:
    print(f"stopped; go on with: {command}")
    return 128 + signal


def search(cells: list[Cell], out: Path, arguments: Arguments, command: str) -> int:
    """Hyperparameter search for one task."""
    tasks = list(dict.fromkeys(cell.task for cell in cells))
    if len(tasks) > 1:
        keys = ", ".join(task.key for task in tasks)
        raise UserError(f"--hpo searches for one task: give --tasks one of {keys}")
    with locked(out / "hpo"):
        jobs = max(arguments.jobs, 1)
        return hpo.run(hpo.Search(tasks[0], out / "hpo", arguments.trials, jobs), command)


def chosen(suite: Suite, arguments: Arguments) -> list[Cell]:
    """The cells that are asked for."""
    cells = suite.cells(arguments.seeds)
    kept = [cell for cell in cells if fnmatch.fnmatch(cell.task.key, arguments.tasks)]
    if not kept:
        keys = ", ".join(task.key for task in suite.tasks)
        raise UserError(f"no task of {suite.name} matches {arguments.tasks!r}; there is: {keys}")
    return kept


def train(
    suite: Suite, cells: list[Cell], results: Results, out: Path, arguments: Arguments, command: str
) -> int:
    """Runs what has no result; returns 0 or the number of the signal that stopped it."""
    finished = [cell for cell in cells if (r := results.get(cell)) and r.finished_well]
    todo = [cell for cell in cells if cell not in finished]
    print(f"{suite.title}: {len(cells)} cells, {len(finished)} of them finished before")
    requests = [Request.of(cell, out / "work") for cell in todo]
    cell_of = {request.folder: cell for request, cell in zip(requests, todo, strict=True)}
    commit, started, ended = head_commit(), time.perf_counter(), 0

    def done(request: Request, outcome: dict[str, Any]) -> None:
        nonlocal ended
        ended += 1
        cell = cell_of[request.folder]
        record = record_of(suite, cell, outcome, commit, command)
        report_files.keep_video(request, cell, out)
        results.add(record)
        if record.finished_well:
            launch.clear(request)
        minutes = (time.perf_counter() - started) / 60
        what = f"return {record.evaluations[-1].mean:.1f}" if record.finished_well else record.error
        print(f"[{ended}/{len(todo)}, {minutes:.0f} min] {cell.name}: {what}", flush=True)

    if arguments.ray or arguments.ray_address:
        from runkit.benchmark import cluster

        return cluster.run(requests, arguments.jobs, arguments.ray_address, done)
    return pool.run(requests, arguments.jobs, done)


def record_of(
    suite: Suite, cell: Cell, outcome: dict[str, Any], commit: str | None, command: str
) -> Record:
    error = outcome.get("error")
    return Record(
        suite=suite.name,
        task=cell.task.key,
        arm=cell.arm,
        seed=cell.seed,
        settings=settings(cell.task),
        status="failed" if error else "finished",
        error=error,
        evaluations=[Evaluation(**entry) for entry in outcome.get("evaluations", [])],
        env_steps_per_second=outcome.get("env_steps_per_second"),
        updates_per_second=outcome.get("updates_per_second"),
        train_seconds=outcome.get("train_seconds"),
        peak_memory_bytes=outcome.get("peak_memory_bytes"),
        machine=outcome.get("machine", machine()),
        versions=outcome.get("versions", peer_versions()),
        commit=commit,
        command=command,
        finished=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )


def head_commit() -> str | None:
    """The checkout's commit, with a + if files differ from it; None outside of git."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=12", "--dirty=+"]
    done = subprocess.run([*command, "--exclude=*"], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None


if __name__ == "__main__":
    run_main(main)
