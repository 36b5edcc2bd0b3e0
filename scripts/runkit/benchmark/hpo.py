"""Hyperparameter search with Optuna that is not fooled by luck.

A trial is the mean final return over several seeds; after each of them it is pruned if it is below
the median of the trials before. The best trial won partly by luck, so it is trained again on fresh
seeds, beside the hyperparameters that the search began with, and only that retest is reported.
"""

import time
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from runkit.benchmark import launch, pool
from runkit.benchmark.launch import Request, Worker
from runkit.benchmark.records import settings
from runkit.benchmark.statistics import difference
from runkit.benchmark.suite import OURS, Cell, Task
from runkit.errors import UserError
from runkit.rundir import machine, versions, write_json
from runkit.signals import StopRequest

SPACES = Path(__file__).with_name("search.toml")
TRIAL_SEEDS = range(1_000, 1_003)  # neither the benchmark's nor the retest's
RETEST_SEEDS = range(2_000, 2_005)


@dataclass(frozen=True)
class Search:
    """Where a search is kept and how large it is."""

    task: Task
    folder: Path  # for the storage and the report
    trials: int  # in all, also over several calls
    jobs: int

    @property
    def storage(self) -> Path:
        return self.folder / f"{self.task.key}.sqlite3"

    @property
    def report(self) -> Path:
        return self.folder / f"{self.task.key}.json"

    def request(self, values: dict[str, Any], seed: int, name: str) -> Request:
        """One seed with some values of the search space instead of the suite's."""
        base = Request.of(Cell(self.task, OURS, seed), self.folder / "work")
        config = base.hyperparameters | {k: v for k, v in values.items() if k != "n_envs"}
        return replace(
            base,
            folder=str(self.folder / "work" / f"{self.task.key}-{name}-seed{seed}"),
            video=False,
            n_envs=values.get("n_envs", base.n_envs),
            hyperparameters=config,
        )


def run(search: Search, command: str) -> int:
    """Searches and retests; returns 0, or the number of the signal that stopped it."""
    search.folder.mkdir(parents=True, exist_ok=True)
    study = _study(search)
    status = _try_out(search, study)
    return status or _retest(search, study, command)


def _study(search: Search) -> Any:
    """The stored study, or a new one that begins with the suite's own values."""
    import optuna
    from sqlalchemy.exc import DatabaseError

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(
            storage=f"sqlite:///{search.storage}",
            study_name=search.task.key,
            direction="maximize",
            load_if_exists=True,
            sampler=optuna.samplers.TPESampler(seed=0, constant_liar=search.jobs > 1),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=0),
        )
        had = study.user_attrs.get("settings")
    except DatabaseError as error:
        raise UserError(f"{search.storage} is no Optuna storage: {error.orig}") from None
    now = settings(search.task)
    if had not in (None, now):
        raise UserError(f"{search.storage} is of other settings than the suite's; move it away")
    if had is None:
        study.set_user_attr("settings", now)
        study.enqueue_trial(_initial(search.task))
    for trial in study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)  # a killed search left it
        study.enqueue_trial(trial.params)
    return study


def space_of(algorithm: str) -> dict[str, dict[str, Any]]:
    spaces: dict[str, dict[str, dict[str, Any]]] = tomllib.loads(SPACES.read_text())
    return spaces[algorithm]


def _initial(task: Task) -> dict[str, Any]:
    """The suite's own values, as far as the search space has them."""
    plain = settings(task)["hyperparameters"] | {"n_envs": task.n_envs}
    values = {}
    for name, spec in space_of(task.algorithm).items():
        value = plain[name]
        value = "x".join(map(str, value)) if isinstance(value, list) else value
        if "range" in spec:
            low, high = spec["range"]
            values[name] = min(max(value, low), high)
        elif value in spec["choice"]:
            values[name] = value
    return values


def _suggest(trial: Any, task: Task) -> dict[str, Any]:
    """Draws a value of every dimension; raises ValueError where they do not fit together."""
    values: dict[str, Any] = {}
    for name, spec in space_of(task.algorithm).items():
        if "choice" in spec:
            value = trial.suggest_categorical(name, spec["choice"])
        else:
            low, high = spec["range"]
            draw = trial.suggest_int if isinstance(low, int) else trial.suggest_float
            value = draw(name, low, high, log=spec.get("log", False))
        values[name] = _layers(value)
    return values


def _layers(value: Any) -> Any:
    return [int(n) for n in value.split("x")] if isinstance(value, str) else value


def final_return(outcome: dict[str, Any]) -> float:
    """Mean over the episodes of a worker's last evaluation."""
    return float(np.mean(outcome["evaluations"][-1]["returns"]))


class _Attempt:
    """A trial under way: its seeds one after the other."""

    def __init__(self, search: Search, trial: Any) -> None:
        self.search, self.trial = search, trial
        self.values = _suggest(trial, search.task)
        self.returns: list[float] = []
        self._next()

    def _next(self) -> None:
        seed = TRIAL_SEEDS[len(self.returns)]
        self.request = self.search.request(self.values, seed, f"trial{self.trial.number}")
        self.worker = Worker(self.request)

    def go_on(self, study: Any) -> bool:
        """After a seed has ended: the next one, or the verdict; returns whether there is more."""
        import optuna

        outcome = self.worker.outcome()
        launch.clear(self.request)
        if "error" in outcome:  # a non-finite loss, say: such values are to be avoided
            print(f"trial {self.trial.number} failed: {outcome['error']}", flush=True)
            study.tell(self.trial, state=optuna.trial.TrialState.FAIL)
            return False
        self.returns.append(final_return(outcome))
        mean = float(np.mean(self.returns))
        self.trial.report(mean, len(self.returns) - 1)
        self.trial.set_user_attr("returns", self.returns)
        if len(self.returns) == len(TRIAL_SEEDS):
            study.tell(self.trial, mean)
        elif self.trial.should_prune():
            study.tell(self.trial, state=optuna.trial.TrialState.PRUNED)
        else:
            self._next()
            return True
        seeds = ", ".join(f"{value:.0f}" for value in self.returns)
        pruned = " (pruned)" if len(self.returns) < len(TRIAL_SEEDS) else ""
        print(f"trial {self.trial.number}: {mean:.1f} over {seeds}{pruned}", flush=True)
        return False


def _try_out(search: Search, study: Any) -> int:
    import optuna

    ended = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    left = search.trials - len(study.get_trials(states=ended))
    running: list[_Attempt] = []
    with StopRequest() as stop:
        try:
            while (left > 0 or running) and stop.number is None:
                while left > 0 and len(running) < search.jobs:
                    running.append(_Attempt(search, study.ask()))
                    left -= 1
                for attempt in [a for a in running if not a.worker.running()]:
                    if not attempt.go_on(study):
                        running.remove(attempt)
                time.sleep(0.1)
        finally:
            for attempt in running:
                attempt.worker.stop()
    return stop.number or 0


def _retest(search: Search, study: Any, command: str) -> int:
    """Trains the best and the initial values on fresh seeds and writes the report."""
    complete = [t for t in study.get_trials() if t.value is not None and len(t.params)]
    if not complete:
        raise UserError(f"none of the trials in {search.storage} was finished")
    best = max(complete, key=lambda trial: float(trial.value))
    arms = {
        "best": {name: _layers(value) for name, value in best.params.items()},
        "initial": {},
    }
    pairs = [(arm, seed) for seed in RETEST_SEEDS for arm in arms]
    requests = [search.request(arms[arm], seed, arm) for arm, seed in pairs]
    pair_of = {request.folder: pair for request, pair in zip(requests, pairs, strict=True)}
    outcomes: dict[str, list[float | None]] = {arm: [None] * len(RETEST_SEEDS) for arm in arms}

    def done(request: Request, outcome: dict[str, Any]) -> None:
        arm, seed = pair_of[request.folder]
        if "error" not in outcome:
            final = final_return(outcome)
            outcomes[arm][seed - RETEST_SEEDS[0]] = final
            print(f"retest of {arm}, seed {seed}: {final:.1f}", flush=True)

    if status := pool.run(requests, search.jobs, done):
        return status
    _write_report(search, study, best, outcomes, command)
    return 0


def _write_report(
    search: Search, study: Any, best: Any, outcomes: dict[str, list[float | None]], command: str
) -> None:
    got = {arm: np.array([v for v in values if v is not None]) for arm, values in outcomes.items()}
    enough = min(map(len, got.values())) > 1
    gain = difference(got["best"], got["initial"]) if enough else None
    record = {
        "task": search.task.key,
        "command": command,
        "trials": len(study.get_trials()),
        "best": {"number": best.number, "values": best.params, "search_mean": best.value},
        "trial_seeds": list(TRIAL_SEEDS),
        "retest_seeds": list(RETEST_SEEDS),
        "retest": outcomes,
        "retest_difference": gain.record() if gain else None,
        "machine": machine(),
        "versions": versions(),
    }
    write_json(search.report, record)
    for arm, values in got.items():
        listed = ", ".join(f"{value:.0f}" for value in values)
        print(f"{arm:8} {values.mean() if len(values) else float('nan'):8.1f}  ({listed})")
    print(f"report: {search.report}")
