"""The hyperparameter search: several seeds a trial, pruned, killed, gone on with, retested."""

import json
import os
import shutil
import signal
import sqlite3
from pathlib import Path
from typing import Any

import optuna
import pytest
from benchmarks import no_process_is_left, start, wait_for, write_suite  # noqa: F401
from lifecycle import descendants, wait_until_ended

from runkit.benchmark import hpo
from runkit.benchmark.launch import Request
from runkit.benchmark.suite import load_suite
from runkit.errors import UserError

KEY = "a2c-CartPole-v1-400-defaults"
SEEDS = len(hpo.TRIAL_SEEDS)


class FakeWorker:
    """Ends at once; its return is that of ``score``."""

    started: list[Request]
    score: Any

    def __init__(self, request: Request) -> None:
        self.request = request
        self.started.append(request)

    def running(self) -> bool:
        return False

    def stop(self) -> None:
        raise AssertionError("nothing runs")

    def outcome(self) -> dict[str, Any]:
        value = FakeWorker.score(self.request)
        if value is None:
            return {"error": "a loss is not finite"}
        return {"evaluations": [{"step": 400, "seconds": 1.0, "returns": [value]}]}


@pytest.fixture
def search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> hpo.Search:
    FakeWorker.started = []
    monkeypatch.setattr(hpo, "Worker", FakeWorker)
    monkeypatch.setattr("runkit.benchmark.pool.Worker", FakeWorker)
    return hpo.Search(load_suite(str(write_suite(tmp_path))).tasks[0], tmp_path / "hpo", 12, 1)


def trials(search: hpo.Search) -> list[Any]:
    study = optuna.load_study(study_name=KEY, storage=f"sqlite:///{search.storage}")
    return study.get_trials()


def test_a_search_finds_what_is_good_and_retests_it_on_fresh_seeds(search: hpo.Search) -> None:
    FakeWorker.score = lambda r: 100.0 * r.hyperparameters["gamma"] + 0.01 * r.seed
    assert hpo.run(search, "the command") == 0
    report = json.loads(search.report.read_text())
    assert report["best"]["values"]["gamma"] == 0.999
    searched = {r.seed for r in FakeWorker.started if "-trial" in r.folder}
    retested = {r.seed for r in FakeWorker.started if "-trial" not in r.folder}
    assert searched == set(report["trial_seeds"])
    assert retested == set(report["retest_seeds"])
    assert not searched & retested
    assert len(report["retest"]["best"]) == len(report["retest"]["initial"]) == len(retested)
    assert report["retest_difference"]["value"] == pytest.approx(0.9)  # 0.999 against 0.99


def test_the_first_trial_is_the_suites_own(search: hpo.Search) -> None:
    FakeWorker.score = lambda r: 1.0
    hpo.run(search, "")
    first = FakeWorker.started[0].hyperparameters
    assert first["learning_rate"] == 7e-4
    assert first["n_steps"] == 5
    assert FakeWorker.started[0].n_envs == 1


def test_what_is_bad_with_its_first_seed_is_pruned(search: hpo.Search) -> None:
    scores = iter([100.0] * (5 * SEEDS) + [1.0] * 1000)
    FakeWorker.score = lambda r: next(scores) if "-trial" in r.folder else 0.0
    hpo.run(search, "")
    states = [trial.state.name for trial in trials(search)]
    assert states == ["COMPLETE"] * 5 + ["PRUNED"] * 7
    counts = [sum(f"-trial{i}-" in r.folder for r in FakeWorker.started) for i in range(12)]
    assert counts == [SEEDS] * 5 + [1] * 7


def test_a_trial_that_fails_is_no_result(search: hpo.Search) -> None:
    FakeWorker.score = lambda r: None if "-trial1-" in r.folder else 10.0
    hpo.run(search, "")
    found = trials(search)
    assert found[1].state.name == "FAIL"
    assert sum(trial.state.name in ("COMPLETE", "PRUNED") for trial in found) == 11


def test_a_search_is_gone_on_with(search: hpo.Search) -> None:
    FakeWorker.score = lambda r: 1.0
    hpo.run(search, "")
    count = len(trials(search))
    hpo.run(search, "")
    assert len(trials(search)) == count, "all trials were there"


def test_a_damaged_storage_or_one_of_other_settings_is_one_line(search: hpo.Search) -> None:
    FakeWorker.score = lambda r: 1.0
    hpo.run(search, "")
    study = optuna.load_study(study_name=KEY, storage=f"sqlite:///{search.storage}")
    study.set_user_attr("settings", {"gamma": 0})
    with pytest.raises(UserError, match="other settings"):
        hpo.run(search, "")
    content = b"no database at all, but a file of this name" * 100
    search.storage.write_bytes(content)
    with pytest.raises(UserError, match="is no Optuna storage"):
        hpo.run(search, "")
    assert search.storage.read_bytes() == content


@pytest.mark.lifecycle
def test_a_killed_search_tries_what_was_under_way_again(tmp_path: Path) -> None:
    file, out = write_suite(tmp_path, **{"= 400": "= 4_000"}), tmp_path / "out"
    key = "a2c-CartPole-v1-4k-defaults"
    storage = out / "hpo" / f"{key}.sqlite3"
    first = start(file, out, "--hpo", "--trials", 1)
    wait_for(lambda: storage.exists() and running(storage), first)
    workers = descendants(first.pid)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    wait_until_ended(workers, 60)
    second = start(file, out, "--hpo", "--trials", 1)
    wait_for(lambda: (out / "hpo/work" / f"{key}-trial1-seed1000").exists(), second)
    second.terminate()
    assert second.wait(timeout=60) == 143
    study = optuna.load_study(study_name=key, storage=f"sqlite:///{storage}")
    lost, again = study.get_trials()
    assert lost.state.name == "FAIL"
    assert again.params == lost.params
    shutil.rmtree(out)


def running(storage: Path) -> bool:
    """Whether a trial has all its values and is under way."""
    try:
        with sqlite3.connect(storage) as database:
            query = "select count(*) from trial_params"
            return bool(database.execute(query).fetchone()[0] == len(hpo.space_of("a2c")))
    except sqlite3.OperationalError:
        return False
