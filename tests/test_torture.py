"""kill -9 at random moments, again and again: no more is lost than was done since a checkpoint."""

import contextlib
import csv
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import train_agent
from command import SMALL, run
from lifecycle import STARTED, assert_same_state, descendants, start, wait_until_ended

from agents import load
from agents.state import load_state

pytestmark = pytest.mark.lifecycle

INTERVAL, LOOK = 50, 25  # environment steps between checkpoints, and between evaluations
FOREVER = 10_000_000
# Wide layers, for checkpoints that take a while to write.
FLAGS = ["CartPole-v1", "--seed", 3, *SMALL, "--eval-episodes", 1, "--hidden-sizes", 512, 512]
OFTEN = ["--checkpoint-every", INTERVAL, "--eval-every", LOOK]


@pytest.fixture(autouse=True)
def end_what_was_started() -> Iterator[None]:
    """So that a test that fails leaves nothing running."""
    yield
    for process in STARTED:
        process.kill()
        process.wait(timeout=60)
    STARTED.clear()


def rows(folder: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return (folder / "eval.csv").read_bytes().count(b"\n")
    return 0


def last_seen(folder: Path) -> int:
    """The last step that is known to have been reached: evaluations come before checkpoints."""
    with contextlib.suppress(FileNotFoundError), open(folder / "eval.csv", newline="") as stream:
        lines = [line for line in stream.read().split("\n")[:-1] if not line.startswith("step")]
        return int(lines[-1].split(",")[0]) if lines else 0
    return 0


def torn(folder: Path) -> set[Path]:
    """Files that were being written."""
    return {*folder.rglob("*.tmp")}


def wait(process: subprocess.Popen[str], condition: Callable[[], bool], pause: float) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, f"it ended by itself, with status {process.returncode}"
        assert time.monotonic() < deadline, "nothing has happened for a minute"
        time.sleep(pause)


def hold_in_a_write(process: subprocess.Popen[str], part: Path) -> None:
    """Stops it while it writes a file there, which a busy machine may see too late to kill it."""

    def writing() -> bool:
        return any(entry.name.endswith(".tmp") for entry in os.scandir(part))

    while True:
        wait(process, lambda: not writing(), 0.0)  # no longer what an earlier kill has left
        wait(process, writing, 0.0)
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        if writing():
            return
        process.send_signal(signal.SIGCONT)


def kill_at_a_random_moment(
    process: subprocess.Popen[str], folder: Path, rng: random.Random
) -> bool:
    """In the middle of a write, at any moment of training, or while it starts; True for the first:
    whether there is a file now that was half written.
    """
    way = rng.choices(["write", "train", "start"], [8, 4, 1])[0]
    if way == "start":
        time.sleep(rng.uniform(0.0, 3.0))
    else:
        done = rows(folder)
        wait(process, lambda: rows(folder) > done + 1, 0.01)  # it has been going for a while
        time.sleep(rng.uniform(0.0, 0.5))
    before = torn(folder)
    if way == "write":
        part = folder / rng.choice(["checkpoint", "checkpoint", "policy"])
        hold_in_a_write(process, part)
        if rng.random() < 0.25:  # or a little later
            process.send_signal(signal.SIGCONT)
            time.sleep(rng.uniform(0.0, 0.01))
    process.kill()
    process.communicate(timeout=60)
    return bool(torn(folder) - before)


def test_a_run_killed_again_and_again_ends_like_one_that_was_not(
    tmp_path: Path, thorough: bool
) -> None:
    rng, folder = random.Random(0), tmp_path / "killed"
    kills, hits, saved_at, wanted = 0, 0, 0, (50, 10) if thorough else (6, 1)
    process = start(folder, "dqn", *FLAGS, *OFTEN, "--total-steps", FOREVER)
    wait(process, lambda: (folder / "policy/state.json").exists(), 0.01)  # now it can be resumed
    while True:
        hits += kill_at_a_random_moment(process, folder, rng)
        kills += 1
        state, seen = load_state(folder / "checkpoint"), last_seen(folder)
        resumable_at = state["loop"]["steps"]
        where = f"kill {kills}: seen at {seen}, resumed at {resumable_at}"
        assert (seen - 1) // INTERVAL * INTERVAL <= resumable_at <= seen, where
        assert resumable_at >= saved_at, where
        assert resumable_at == state["agent"]["steps"]
        # The policy is saved after the checkpoint; a kill in between leaves the one from before,
        # and so does the next one that comes so soon.
        behind = resumable_at - load(folder).steps
        assert 0 <= behind <= INTERVAL or resumable_at - saved_at <= INTERVAL, where
        saved_at = resumable_at
        if kills >= wanted[0] and hits >= wanted[1]:
            break
        assert kills < 2 * wanted[0], "too few kills came in the middle of a write"
        process = start(None, "--resume", folder)
    print(f"{kills} kills, {hits} of them in the middle of a write, {saved_at:,} steps")

    total = ["--total-steps", saved_at + 2 * INTERVAL]
    again = run(train_agent.main, "--resume", folder, *total)
    assert again.status == 0, again
    assert f"at step {saved_at:,}\n" in again.out
    assert not torn(folder)
    whole = tmp_path / "whole"
    seldom = ["--checkpoint-every", FOREVER, "--eval-every", FOREVER, "--run-dir", whole]
    assert run(train_agent.main, "dqn", *FLAGS, *seldom, *total).status == 0
    assert_same_state(whole, folder)
    with open(folder / "eval.csv", newline="") as stream:
        steps = [int(row["step"]) for row in csv.DictReader(stream)]
    assert steps == list(range(0, saved_at + 2 * INTERVAL + 1, LOOK))


def test_a3c_counts_exactly_and_its_workers_end_when_it_is_killed(
    tmp_path: Path, thorough: bool
) -> None:
    """The order of its updates is not determined, so there is no other run to compare it with."""
    folder = tmp_path / "killed"
    options = ["a3c", "CartPole-v1", "--n-envs", 2, "--no-video", "--hidden-sizes", 8]
    options += ["--normalize-observations", "--eval-episodes", 1, "--eval-every", 1_000]
    options += ["--checkpoint-every", 1_000, "--total-steps", FOREVER]
    process, saved_at = start(folder, *options), 0
    for _ in range(5 if thorough else 1):
        done = rows(folder)
        wait(process, lambda done=done: rows(folder) > done + 3, 0.01)  # type: ignore[misc]
        helpers = descendants(process.pid)
        assert len(helpers) >= 2
        process.kill()
        process.communicate(timeout=60)
        wait_until_ended(helpers, seconds=5)
        resumable_at, seen = check_counts(folder), last_seen(folder)
        assert max(seen - 2_000, saved_at) < resumable_at <= seen
        saved_at = resumable_at
        process = start(None, "--resume", folder)
    wait(process, lambda: last_seen(folder) > seen + 1_000, 0.01)
    process.terminate()
    out, _ = process.communicate(timeout=60)
    assert f"at step {saved_at:,}\n" in out
    assert check_counts(folder) > saved_at


def check_counts(folder: Path) -> int:
    """Steps of a saved run of A3C, after having checked that all who count them agree."""
    state = load_state(folder / "checkpoint")
    counts, agent = state["loop"]["counts"], state["agent"]
    assert len(counts) == 2
    assert counts.min() > 0
    assert int(counts.sum()) == agent["steps"] == agent["normalizer"]["count"]
    return int(agent["steps"])


def test_processes_of_environments_end_when_the_run_is_killed(tmp_path: Path) -> None:
    options = ["a2c", "CartPole-v1", "--n-envs", 3, "--vectorization", "async", "--threads", 1]
    options += ["--compile", "no", "--no-video", "--eval-episodes", 1, "--eval-every", 300]
    process = start(tmp_path / "killed", *options)
    wait(process, lambda: rows(tmp_path / "killed") > 2, 0.01)
    helpers = descendants(process.pid)
    assert len(helpers) >= 3
    process.kill()
    process.communicate(timeout=60)
    wait_until_ended(helpers, seconds=5)
