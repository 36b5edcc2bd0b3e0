"""The whole command: both arms trained, killed, gone on with, failed, reported."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks import LONG, lines, no_process_is_left, start, wait_for, write_suite  # noqa: F401
from command import ROOT
from lifecycle import descendants, wait_until_ended

from runkit.benchmark import launch
from runkit.benchmark.suite import load_suite

pytestmark = pytest.mark.lifecycle
CELLS = [("a2c-CartPole-v1-400-defaults", arm) for arm in ("firsthand", "stable_baselines3")]


def benchmark(file: Path, out: Path, *args: object) -> str:
    process = start(file, out, *args)
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    return stdout


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The tiny suite's file, and its results."""
    folder = tmp_path_factory.mktemp("benchmark")
    file, out = write_suite(folder), folder / "out"
    benchmark(file, out, "--jobs", 2)
    return file, out


def test_both_arms_from_one_record_of_hyperparameters(finished: tuple[Path, Path]) -> None:
    _, out = finished
    records = {(r["task"], r["arm"]): r for r in lines(out)}
    assert sorted(records) == CELLS
    ours, theirs = (records[cell] for cell in CELLS)
    for record in (ours, theirs):
        assert record["status"] == "finished", record["error"]
        assert [e["step"] for e in record["evaluations"]] == [0, 200, 400]
        assert all(len(e["returns"]) == 2 for e in record["evaluations"])
        seconds = [e["seconds"] for e in record["evaluations"]]
        assert seconds == sorted(seconds)
        assert seconds[0] == 0
        assert record["peak_memory_bytes"] > 10**8
        assert record["versions"]["stable_baselines3"]
        assert f"--out {out}" in record["command"]
    assert ours["settings"] == theirs["settings"], "one record of hyperparameters"
    assert ours["settings"]["hyperparameters"]["n_steps"] == 5
    assert ours["updates_per_second"] * ours["train_seconds"] == pytest.approx(80, abs=8)
    ratio = theirs["updates_per_second"] / theirs["env_steps_per_second"]
    assert ratio == pytest.approx(1 / 5, rel=0.1), "SB3's updates are those it made"
    assert (out / "a2c-CartPole-v1-400-defaults.png").stat().st_size > 1000
    assert "a2c-CartPole-v1-400" in (out / "report.html").read_text()
    assert not list((out / "work").iterdir()), "working files go when the result is kept"


def test_what_is_finished_is_skipped(finished: tuple[Path, Path]) -> None:
    file, out = finished
    before = (out / "results.jsonl").read_bytes()
    (out / "report.html").unlink()
    assert "2 of them finished before" in benchmark(file, out)
    assert (out / "results.jsonl").read_bytes() == before
    assert (out / "report.html").exists()


def test_our_arm_is_train_agent_and_no_version_of_it_for_benchmarks(
    finished: tuple[Path, Path], tmp_path: Path
) -> None:
    _, out = finished
    command = [sys.executable, "scripts/train_agent.py", "a2c", "CartPole-v1", "--run-dir"]
    command += [str(tmp_path / "run"), "--total-steps", "400", "--eval-every", "200", "--n-envs"]
    command += ["1", "--eval-episodes", "2", "--threads", "1", "--no-video"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    rows = (tmp_path / "run/eval.csv").read_text().splitlines()[1:]
    returns = [list(map(float, row.split(",")[-2:])) for row in rows]
    ours = next(record for record in lines(out) if record["arm"] == "firsthand")
    assert [e["returns"] for e in ours["evaluations"]] == returns


def test_killed_and_gone_on_with(tmp_path: Path) -> None:
    """kill -9: no worker outlives it, and ours goes on from its checkpoint."""
    file, out = write_suite(tmp_path, **LONG), tmp_path / "out"
    process = start(file, out)
    checkpoints = "work/a2c-CartPole-v1-40k-defaults-firsthand-seed0/run/checkpoint/state.json"
    wait_for((out / checkpoints).exists, process)
    workers = descendants(process.pid)
    assert workers
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_until_ended(workers, 60)
    assert "stopped at step" in log_of(out / checkpoints.split("/run/")[0]), "not at its end"
    done = benchmark(file, out)
    assert "0 of them finished before" in done
    records = lines(out)
    assert [record["status"] for record in records] == ["finished"] * 2
    steps = [evaluation["step"] for evaluation in records[0]["evaluations"]]
    assert steps == list(range(0, 40_001, 1000)), "one row an evaluation, before and after"


def test_a_resumed_cell_goes_on_and_does_not_begin_anew(tmp_path: Path) -> None:
    file, out = write_suite(tmp_path, **LONG), tmp_path / "out"
    process = start(file, out)
    run = out / "work/a2c-CartPole-v1-40k-defaults-firsthand-seed0/run"
    wait_for((run / "checkpoint/state.json").exists, process)
    process.terminate()
    stdout, _ = process.communicate(timeout=120)
    assert process.returncode == 143
    assert f"stopped; go on with: python scripts/benchmark.py {file} --out {out}" in stdout
    assert not lines(out), "what was stopped is no result"
    rows = (run / "eval.csv").read_text().splitlines()
    process = start(file, out)
    wait_for(lambda: "resuming" in log_of(run.parent), process)
    process.communicate(timeout=300)
    assert process.returncode == 0
    kept = lines(out)[0]["evaluations"]
    assert [e["seconds"] for e in kept][: len(rows) - 1] == [
        float(row.split(",")[4]) for row in rows[1:]
    ]


def log_of(folder: Path) -> str:
    file = folder / "log.txt"
    return file.read_text() if file.exists() else ""


def test_only_what_was_begun_with_the_same_settings_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a cell would be recorded with settings that it was not trained with."""
    monkeypatch.setattr(launch, "WORKER", Path(os.devnull))  # a process that does nothing
    cell = load_suite(str(write_suite(tmp_path))).cells()[0]
    request = launch.Request.of(cell, tmp_path)
    left = Path(request.folder) / "run/checkpoint"
    launch.Worker(request).outcome()
    left.mkdir(parents=True)
    launch.Worker(request).outcome()
    assert left.exists()
    config = request.hyperparameters | {"gamma": 0.5}
    launch.Worker(replace(request, hyperparameters=config)).outcome()
    assert not left.exists()


def test_what_fails_is_shown_and_the_rest_is_done(tmp_path: Path) -> None:
    text = write_suite(tmp_path).read_text()
    broken = text[text.index("[[tasks]]") :].replace("CartPole-v1", "NoSuchEnv-v0")
    file, out = write_suite(tmp_path, text + broken), tmp_path / "out"
    benchmark(file, out)
    status = {(r["task"], r["arm"]): (r["status"], r["error"]) for r in lines(out)}
    assert [status[cell][0] for cell in CELLS] == ["finished"] * 2
    failed = [value for key, value in status.items() if key not in CELLS]
    assert [entry[0] for entry in failed] == ["failed"] * 2
    assert all("NoSuchEnv" in entry[1] for entry in failed)
    assert "failed" in (out / "README.md").read_text()
    assert "2 of them finished before" in benchmark(file, out), "failed cells are tried again"


def test_two_benchmarks_do_not_work_in_one_folder(tmp_path: Path) -> None:
    file, out = write_suite(tmp_path, **LONG), tmp_path / "out"
    first = start(file, out)
    wait_for((out / "work").exists, first)
    second = start(file, out)
    _, stderr = second.communicate(timeout=120)
    assert second.returncode == 2
    assert stderr == f"error: another benchmark is at work in {out}\n"
    first.send_signal(signal.SIGINT)
    first.wait(timeout=120)
    assert first.returncode == 130
