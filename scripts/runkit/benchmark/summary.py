"""Results -> the one nested dict of plain values that tables, pictures and the page are made of."""

import statistics as middle
import tomllib
from pathlib import Path
from typing import Any

import numpy as np

from runkit.benchmark import statistics
from runkit.benchmark.records import Record, Results, settings
from runkit.benchmark.suite import ARMS, OURS, PEER, Suite, Task

PUBLISHED = Path(__file__).with_name("published.toml")
PROFILE = np.linspace(-0.2, 1.2, 57)  # normalized scores at which profiles are drawn


def summarize(suite: Suite, results: Results) -> dict[str, Any]:
    """See tests/test_benchmark_summary.py for an example of every part."""
    records = list(results.records.values())
    tasks = [_task(suite, task, results) for task in suite.tasks]
    versions = [dict(pairs) for pairs in sorted({tuple(r.versions.items()) for r in records})]
    return {
        "suite": suite.name,
        "title": suite.title,
        "command": middle.mode(record.command for record in records) if records else "",
        "machines": sorted({record.machine for record in records}),
        "versions": versions,
        "commits": sorted({record.commit for record in records if record.commit}),
        "arms": ARMS,
        "tasks": tasks,
        "aggregates": _aggregates(suite, results),
    }


def _task(suite: Suite, task: Task, results: Results) -> dict[str, Any]:
    finished = {arm: _finished(results, task, arm) for arm in ARMS}
    band = suite.band * (task.scale[1] - task.scale[0])
    finals = {arm: _finals(finished[arm]) for arm in ARMS}
    halves = statistics.halves(finals[PEER])
    return {
        "key": task.key,
        **settings(task),
        "scale": list(task.scale),
        "band": band,
        "arms": {arm: _arm(task, arm, results) for arm in ARMS},
        "comparison": _comparison(finals[OURS], finals[PEER], band),
        "same_against_same": _comparison(*halves, band),
        "equal_time": _equal_time(finished),
        "published": _published(task),
    }


def _finished(results: Results, task: Task, arm: str) -> list[Record]:
    """The arm's finished records, by seed."""
    mine = [r for r in results.records.values() if (r.task, r.arm) == (task.key, arm)]
    return sorted((r for r in mine if r.finished_well), key=lambda r: r.seed)


def _finals(records: list[Record]) -> np.ndarray:
    return np.array([record.evaluations[-1].mean for record in records])


def _area(record: Record) -> float:
    steps = [evaluation.step for evaluation in record.evaluations]
    return statistics.area(steps, [evaluation.mean for evaluation in record.evaluations])


def _arm(task: Task, arm: str, results: Results) -> dict[str, Any]:
    finished = _finished(results, task, arm)
    recorded = {r.seed: r for r in results.records.values() if (r.task, r.arm) == (task.key, arm)}
    seeds = sorted({*range(task.seeds), *recorded})
    finals, areas = _finals(finished), np.array([_area(record) for record in finished])
    return {
        "runs": [_run(seed, recorded.get(seed)) for seed in seeds],
        "mean": statistics.mean_interval(finals).record() if finished else None,
        "iqm": statistics.iqm_interval(finals).record() if finished else None,
        "auc": statistics.mean_interval(areas).record() if finished else None,
        "speed": _speed(finished) if finished else None,
    }


def _run(seed: int, record: Record | None) -> dict[str, Any]:
    """One seed: finished, failed or missing."""
    if record is None:
        return {"seed": seed, "status": "missing", "error": None}
    if not record.finished_well:
        return {"seed": seed, "status": "failed", "error": record.error}
    return {
        "seed": seed,
        "status": "finished",
        "error": None,
        "final": record.evaluations[-1].mean,
        "auc": _area(record),
        "steps": [evaluation.step for evaluation in record.evaluations],
        "means": [evaluation.mean for evaluation in record.evaluations],
        "seconds": [evaluation.seconds for evaluation in record.evaluations],
    }


def _speed(finished: list[Record]) -> dict[str, float]:
    names = ["env_steps_per_second", "updates_per_second", "train_seconds", "peak_memory_bytes"]
    return {name: middle.median(getattr(record, name) for record in finished) for name in names}


def _comparison(ours: np.ndarray, theirs: np.ndarray, band: float) -> dict[str, Any] | None:
    """Difference and verdict; None below two seeds an arm, which say nothing about noise."""
    if min(len(ours), len(theirs)) < 2:
        return None
    difference = statistics.difference(ours, theirs)
    improvement = statistics.probability_of_improvement(ours[:, None], theirs[:, None])
    return {
        "difference": difference.record(),
        "verdict": statistics.verdict(difference, band),
        "probability_of_improvement": improvement.record(),
    }


def _equal_time(finished: dict[str, list[Record]]) -> dict[str, Any] | None:
    """Mean returns when the faster arm was done: each seed's last evaluation until then."""
    if not all(finished.values()):
        return None
    when = min(_speed(records)["train_seconds"] for records in finished.values())

    def at(record: Record) -> float:
        seconds = [evaluation.seconds for evaluation in record.evaluations]
        return statistics.at_time(seconds, [e.mean for e in record.evaluations], when)

    means = {arm: float(np.mean([at(r) for r in records])) for arm, records in finished.items()}
    return {"seconds": when, "means": means}


def _published(task: Task) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = tomllib.loads(PUBLISHED.read_text())["results"]
    robot = task.env_id.rsplit("-", 1)[0]
    return [
        {name: value for name, value in row.items() if name != "algorithm"}
        for row in rows
        if (row["algorithm"], row["env_id"].rsplit("-", 1)[0], row["steps"])
        == (task.algorithm, robot, task.total_steps)
    ]


def _aggregates(suite: Suite, results: Results) -> list[dict[str, Any]]:
    """Over an algorithm's tasks, in normalized scores; apart by budget where tasks come in several.

    A matrix of runs and tasks needs as many seeds of every task: the first ones that both arms
    have finished of each.
    """
    groups: dict[tuple[str, int], list[Task]] = {}
    for task in suite.tasks:
        pair = (task.algorithm, task.env_id)
        budgets = sorted(t.total_steps for t in suite.tasks if (t.algorithm, t.env_id) == pair)
        groups.setdefault((task.algorithm, budgets.index(task.total_steps)), []).append(task)
    entries = [_aggregate(tasks, results) for _, tasks in sorted(groups.items())]
    return [entry for entry in entries if entry]


def _aggregate(tasks: list[Task], results: Results) -> dict[str, Any] | None:
    columns: dict[str, list[np.ndarray]] = {arm: [] for arm in ARMS}
    used = []
    for task in tasks:
        low, high = task.scale
        scores = {
            arm: (_finals(_finished(results, task, arm)) - low) / (high - low) for arm in ARMS
        }
        if all(len(values) for values in scores.values()):
            used.append(task.key)
            for arm, values in scores.items():
                columns[arm].append(values)
    runs = min((len(values) for arm in ARMS for values in columns[arm]), default=0)
    if runs < 2:
        return None
    matrices = {arm: np.stack([v[:runs] for v in columns[arm]], axis=1) for arm in ARMS}
    improvement = statistics.probability_of_improvement(matrices[OURS], matrices[PEER])
    return {
        "algorithm": tasks[0].algorithm,
        "tasks": used,
        "runs": runs,
        "iqm": {arm: statistics.iqm_interval(m).record() for arm, m in matrices.items()},
        "probability_of_improvement": improvement.record(),
        "profile": {
            "taus": PROFILE.tolist(),
            **statistics.performance_profile(matrices, PROFILE),
        },
    }
