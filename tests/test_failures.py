"""What ends a run from outside: one line that names the step, and a checkpoint that is whole."""

import contextlib
import itertools
import multiprocessing
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import evaluate as evaluate_script
import flaky
import numpy as np
import pytest
import train_agent
from command import SMALL, Outcome, assert_error, files, run

from runkit import training
from runkit.metrics import MetricsLog

from agents import asynchronous
from agents.evaluation import evaluate
from agents.failures import EnvironmentFailure, check_rewards
from agents.state import load_state, save_state

pytestmark = pytest.mark.lifecycle

FLAGS = ["--seed", 3, "--checkpoint-every", 50, "--total-steps", 400, *SMALL]
A2C = ["--seed", 3, "--checkpoint-every", 50, "--total-steps", 400, "--threads", 1, "--no-video"]
A2C += ["--compile", "no", "--hidden-sizes", 8, 8, "--eval-episodes", 2, "--eval-every", 200]
A3C = [*A2C[:-4], "--eval-episodes", 2, "--eval-every", 200, "--n-envs", 2]
OPTIONS = {"sac": FLAGS, "a2c": A2C, "a3c": A3C}


def saved(folder: Path) -> dict[str, bytes]:
    return files(folder / "checkpoint")


def assert_whole(outcome: Outcome, folder: Path) -> int:
    """The line says from which step to go on, and from there the run does; returns that step."""
    match = re.search(r"the checkpoint of step ([\d,]+) in .* is whole: go on with", outcome.err)
    assert match, outcome.err
    step = int(match[1].replace(",", ""))
    assert load_state(folder / "checkpoint")["agent"]["steps"] == step
    return step


def assert_goes_on(folder: Path, step: int) -> None:
    again = run(train_agent.main, "--resume", folder, "--total-steps", step + 60)
    assert again.status == 0, again
    assert f"at step {step:,}" in again.out


# -- environments ------------------------------------------------------------------------------


@pytest.fixture
def spawned(monkeypatch: pytest.MonkeyPatch) -> None:
    """A3C's processes import ``flaky``, and so know its ids; and A3C reports more often."""
    monkeypatch.setattr(training, "worker_env", flaky.worker_env)
    monkeypatch.setattr(asynchronous, "REPORT_STEPS", 50)


CASES = {
    "raises": ["environment failed", "RuntimeError: the simulator broke down"],
    "observation": ["an observation with NaN or inf"],
    "vast observation": ["an observation with NaN or inf"],
    "reward": ["a reward of NaN or inf"],
    "vast reward": ["a reward of NaN or inf"],
    "reset": ["environment failed", "RuntimeError: it cannot begin anew"],
}


@pytest.mark.usefixtures("spawned")
@pytest.mark.parametrize(
    ("algorithm", "failure"),
    [*itertools.product(["sac", "a2c"], CASES), ("a3c", "raises"), ("a3c", "observation")],
)
def test_environment_that_fails(tmp_path: Path, algorithm: str, failure: str) -> None:
    folder = tmp_path / "run"
    options = [*OPTIONS[algorithm], "--run-dir", folder]
    outcome = run(train_agent.main, algorithm, flaky.env_id(failure), *options)
    assert_error(outcome, *CASES[failure])
    match = re.search(r" at step ([\d,]+)", outcome.err)
    assert match, outcome.err
    step, resumable_at = int(match[1].replace(",", "")), assert_whole(outcome, folder)
    workers = 2 if algorithm == "a3c" else 1  # of which each fails after so many steps of its own
    assert flaky.STEPS - 1 <= step <= workers * flaky.STEPS + 20
    assert step - 50 * workers <= resumable_at <= step
    assert_goes_on(folder, resumable_at)


def test_environment_that_fails_in_an_evaluation(tmp_path: Path) -> None:
    options = [*A2C, "--run-dir", tmp_path / "run"]
    outcome = run(train_agent.main, "a2c", flaky.env_id("evaluation"), *options)
    assert_error(outcome, "environment failed at step 0 of an evaluation", "no checkpoint yet")


@pytest.mark.usefixtures("spawned")
@pytest.mark.parametrize(
    ("algorithm", "every", "flags"),
    [
        ("a2c", 120, ["--n-envs", 2, "--vectorization", "async"]),
        ("a2c", 200, ["--n-envs", 2, "--vectorization", "async"]),  # just before a checkpoint
        ("a3c", 120, []),
        ("a3c", 200, []),
    ],
)
def test_process_that_is_killed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    algorithm: str,
    every: int,
    flags: list[object],
) -> None:
    """As by the system when memory is short; here in the middle of the second evaluation."""
    folder, count = tmp_path / "run", 0

    def evaluate_and_kill(*args: Any) -> Any:
        nonlocal count
        count += 1
        if count == 2:
            victim = multiprocessing.active_children()[0]
            victim.kill()
            victim.join()
        return evaluate(*args)

    monkeypatch.setattr(training, "evaluate", evaluate_and_kill)
    options = [*OPTIONS[algorithm], *flags, "--eval-every", every, "--run-dir", folder]
    outcome = run(train_agent.main, algorithm, "CartPole-v1", *options)
    step = assert_whole(outcome, folder)
    assert_error(outcome, "a worker process of", " died ", "step ")
    assert multiprocessing.active_children() == []
    assert_goes_on(folder, step)


# -- numbers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("algorithm", "env_id", "flags"),
    [
        ("sac", "Pendulum-v1", ["--learning-rate", 1e30]),
        ("sac", flaky.env_id("huge reward"), []),
        ("a2c", flaky.env_id("huge reward"), []),
    ],
)
def test_loss_that_is_not_finite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, algorithm: str, env_id: str, flags: list[Any]
) -> None:
    """The checkpoint from before is kept as it was."""
    folder, before = tmp_path / "run", {}

    def save(*args: Any) -> None:
        nonlocal before
        save_state(*args)
        before = saved(folder)

    monkeypatch.setattr(training, "save_state", save)
    options = [*OPTIONS[algorithm], *flags, "--run-dir", folder]
    outcome = run(train_agent.main, algorithm, env_id, *options)
    assert_error(outcome, "_loss became ", " at step ")
    assert_whole(outcome, folder)
    assert saved(folder) == before


# -- disks -------------------------------------------------------------------------------------


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mounts a small file system of its own, and takes it away again."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(options: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("file systems cannot be mounted here")
        return place

    yield mount
    subprocess.run(["umount", "--lazy", str(place)], capture_output=True)


def fill(disk: Path) -> Path:
    """Leaves no room on a disk."""
    with contextlib.suppress(OSError), open(disk / "filler", "wb", buffering=0) as stream:
        while stream.write(b"." * 4096) == 4096:
            pass
    return disk / "filler"


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("at", ["checkpoint", "policy", "evaluation's row", "metrics' row"])
def test_full_disk(
    tmp_path: Path, mount: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    disk, folder = mount("size=4m"), tmp_path / "disk/run"
    calls = {
        "checkpoint": (training, "save_state"),
        "policy": (training, "save"),
        "evaluation's row": (training, "evaluate"),
        "metrics' row": (MetricsLog, "train"),
    }
    owner, name = calls[at]
    original, count = getattr(owner, name), 0

    def fill_first(*args: Any) -> Any:
        nonlocal count
        count += 1
        if count == 2:
            fill(disk)
        return original(*args)

    monkeypatch.setattr(owner, name, fill_first)
    monkeypatch.setattr(training, "LOG_EVERY", 70)
    options = [*FLAGS, "--eval-every", 60, "--run-dir", folder]
    outcome = run(train_agent.main, "sac", "Pendulum-v1", *options)
    assert_error(outcome, "No space left")
    step = assert_whole(outcome, folder)
    assert not list(folder.rglob("*.tmp"))
    before = files(folder)
    assert_error(run(train_agent.main, "--resume", folder), "No space left")  # still full
    assert saved(folder) == {n.split("/")[1]: b for n, b in before.items() if "checkpoint/" in n}
    (disk / "filler").unlink()
    monkeypatch.undo()
    assert_goes_on(folder, step)


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_full_disk_from_the_start(mount: Callable[..., Path]) -> None:
    disk = mount("size=64k")
    fill(disk)
    options = [*FLAGS, "--run-dir", disk / "run"]
    assert_error(run(train_agent.main, "sac", "Pendulum-v1", *options), "No space left")
    assert not (disk / "run/config.json").exists()


def test_disk_that_can_only_be_read(mount: Callable[..., Path]) -> None:
    disk = mount("size=4m")
    options = ["sac", "Pendulum-v1", *FLAGS, "--run-dir"]
    assert run(train_agent.main, *options, disk / "run").status == 0
    remount = ["mount", "-o", "remount,ro", str(disk)]
    subprocess.run(remount, check=True)
    before = files(disk)
    assert_error(run(train_agent.main, *options, disk / "new"), "Read-only file system")
    more = ["--total-steps", 450]
    assert_error(run(train_agent.main, "--resume", disk / "run", *more), "Read-only file system")
    assert files(disk) == before
    assert run(evaluate_script.main, disk / "run", "--episodes", 1).status == 0


def test_folder_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    options = [*FLAGS, "--run-dir", tmp_path / "file/run"]
    assert_error(run(train_agent.main, "sac", "Pendulum-v1", *options), "Not a directory")


# -- logs --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("failures") / "run"
    options = [*FLAGS, "--total-steps", 1_050, "--run-dir", folder]
    assert run(train_agent.main, "sac", "Pendulum-v1", *options).status == 0
    return folder


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"return,loss\r\n1,2\r\n", ["metrics.csv", "columns do not begin with step"]),
        (bytes(range(256)) * 9, ["metrics.csv", "damaged"]),
        (None, ["metrics.csv", "no file"]),
    ],
    ids=["other columns", "bytes", "a directory"],
)
def test_metrics_that_are_none(
    tmp_path: Path, finished: Path, content: bytes | None, words: list[str]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    (folder / "metrics.csv").unlink()
    if content is None:
        (folder / "metrics.csv").mkdir()
    else:
        (folder / "metrics.csv").write_bytes(content)
    before = files(folder)
    assert_error(run(train_agent.main, "--resume", folder, "--total-steps", 1_100), *words)
    assert files(folder) == before


def test_damaged_rows_are_dropped(tmp_path: Path, finished: Path) -> None:
    """A run is worth more than a row of its log."""
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    with open(folder / "metrics.csv", "ab") as stream:
        stream.write(b"1001,\xff\x00\r\n\x00\x00\r\n" + b"9" * 30 + b"," * 8 + b"\r\n1040,0.5")
    whole = (finished / "metrics.csv").read_bytes()
    again = run(train_agent.main, "--resume", folder, "--total-steps", 1_100)
    assert again.status == 0, again
    assert (folder / "metrics.csv").read_bytes() == whole


def test_rewards_too_large_do_not_hide_behind_each_other() -> None:
    check_rewards(np.array([1e38, -1e38]), step=3)
    with pytest.raises(EnvironmentFailure, match="step 3"):
        check_rewards(np.array([1e39, -1e39]), step=3)
