"""Policies under shifted dynamics: a JSON file a run, and a table a task.

{run, algorithm, env_id, randomization, seed, steps, episodes,
 shifts: [{kind, amount, env_id, returns, successes}]}
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from runkit.benchmark.tables import table
from runkit.errors import UserError
from runkit.rundir import RunDir, machine, versions, write_json

from agents import load
from sim2real.dynamics import Episodes, evaluate, grid, retention
from sim2real.transfer import Interval


def score(run_dir: Path, out: Path, episodes: int, seed: int, command: str) -> Path:
    """Plays under every shift; writes OUT/dynamics/RUN.json."""
    config = RunDir(run_dir).read_config()
    agent, env_id = load(run_dir), config["env_id"]
    shifts: list[dict[str, Any]] = []
    for shift in grid(env_id):
        played = evaluate(agent, env_id, shift, episodes, seed)
        told = None if played.successes is None else [bool(s) for s in played.successes]
        shifts.append(
            {
                "kind": shift.kind,
                "amount": shift.amount,
                "env_id": shift.env_id or env_id,
                "returns": [round(float(x), 3) for x in played.returns],
                "successes": told,
            }
        )
        print(f"{shift.kind} {shift.amount:g}: {played.scores.mean():.3g}", flush=True)
    run = config["run"]
    record = {
        "run": run_dir.name,
        "algorithm": config["algorithm"],
        "env_id": env_id,
        "randomization": run.get("randomization"),
        "seed": run["seed"],
        "steps": run["total_steps"],
        "episodes": episodes,
        "first_seed": seed,
        "command": command,
        "machine": machine(),
        "versions": versions(["numpy", "torch", "gymnasium", "mujoco", "pybullet"]),
        "shifts": shifts,
    }
    file = out / "dynamics" / f"{run_dir.name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, record)
    return file


def table_of(out: Path) -> str:
    """For each task, whatever the engine: a row a shift, a column a run."""
    tasks: dict[str, list[tuple[str, dict[str, str]]]] = {}
    for file in sorted((out / "dynamics").glob("*.json")):
        try:
            record = json.loads(file.read_text())
            engine, _, task = record["env_id"].rpartition("/")
            trained = f"{record['randomization'] or 'nominal'}, {record['steps']:,} steps"
            head = f"{engine and f'{engine}, '}{trained}, seed {record['seed']}"
            columns = tasks.setdefault(f"{record['algorithm'].upper()}, {task}", [])
            columns.append((head, _column(record)))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"{file} is damaged: {error}") from None
    return "\n".join(_table(task, columns) for task, columns in tasks.items())


def _table(task: str, columns: list[tuple[str, dict[str, str]]]) -> str:
    shifts = list(dict.fromkeys(shift for _, column in columns for shift in column))
    rows = [[shift, *(column.get(shift, "-") for _, column in columns)] for shift in shifts]
    return table([task, *(head for head, _ in columns)], rows)


def _column(record: dict[str, Any]) -> dict[str, str]:
    """Shift -> score, and what is left of the nominal one."""
    shifts = [(shift, _episodes(shift)) for shift in record["shifts"]]
    nominal = shifts[0][1]
    percent, unit = (1, "") if nominal.successes is None else (100, "%")
    column = {}
    for shift, played in shifts:
        text = _text(played.score(), percent, unit)
        if nominal.scores.mean() > 0 and played is not nominal:
            text += f"; {_text(retention(nominal, played), 100, '%')}"
        column[_shift(shift)] = text
    return column


def _episodes(shift: dict[str, Any]) -> Episodes:
    told = shift["successes"]
    return Episodes(np.array(shift["returns"]), None if told is None else np.array(told, bool))


def _shift(shift: dict[str, Any]) -> str:
    kind, amount = shift["kind"], shift["amount"]
    if kind == "nominal":
        return "none"
    if kind == "engine":
        return "the other engine"
    return f"{kind} {amount:g} steps" if kind == "latency" else f"{kind} × {amount:g}"


def _text(interval: Interval, factor: float, unit: str) -> str:
    value, low, high = (factor * x for x in (interval.value, interval.low, interval.high))
    return f"{value:.0f}{unit} [{low:.0f}, {high:.0f}]"
