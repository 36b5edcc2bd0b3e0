"""The papers' command: what a run leaves, that it can be interrupted, and one line for the rest."""

import csv
import json
import os
import random
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import toy_paper
import train_paper
from command import Outcome, assert_error, files, run
from damages import flip_json, flip_tensors, unpack
from lifecycle import leaves, seal, start, wait_for_rows
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from runkit import papers
from runkit.papers.log import RowLog

from agents.state import load_state
from supervised import PAPERS

SMALL = ["--steps", 30, "--width", 4, "--threads", 1]


@pytest.fixture(autouse=True)
def toy() -> Iterator[Any]:
    """The experiment's module, among the papers while a test lasts."""
    path = list(papers.__path__)
    toy_paper.install()
    module = papers.experiment("toy")
    yield module
    module.HOOKS.clear()
    del PAPERS["toy"]
    papers.__path__[:] = path


def train(folder: Path, *flags: object, status: int = 0) -> Outcome:
    outcome = run(train_paper.main, "toy", "--run-dir", folder, *SMALL, *flags)
    assert outcome.status == status, outcome
    return outcome


def resume(folder: Path) -> Outcome:
    outcome = run(train_paper.main, "--resume", folder)
    assert outcome.status == 0, outcome
    return outcome


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metrics.csv", newline="") as stream:
        return list(csv.DictReader(stream))


def states(folder: Path) -> dict[str, Any]:
    """All checkpoints of a run as {path: leaf}, without clocks."""
    parts = sorted((folder / "checkpoint").iterdir())
    found = leaves({part.name: load_state(part) for part in parts})
    return {path: leaf for path, leaf in found.items() if not path.endswith("/seconds")}


def assert_same_run(one: Path, other: Path) -> None:
    """Bit for bit, but for clocks."""
    a, b = states(one), states(other)
    assert a.keys() == b.keys()
    for path in a:
        same = a[path].equal(b[path]) if isinstance(a[path], Tensor) else a[path] == b[path]
        assert same, path
    assert (one / "metrics.csv").read_bytes() == (other / "metrics.csv").read_bytes()
    figures = [json.loads((f / "summary.json").read_text())["figures"] for f in (one, other)]
    assert figures[0] == figures[1]
    for name in ("plain", "averaged"):
        file = f"model/{name}.safetensors"
        assert (one / file).read_bytes() == (other / file).read_bytes()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "run"
    path = list(papers.__path__)
    toy_paper.install()
    train(folder)
    papers.__path__[:] = path
    return folder


# -- what a run leaves ---------------------------------------------------------------------------


def test_run_directory(finished: Path) -> None:
    assert sorted(entry.name for entry in finished.iterdir() if "tfevents" not in entry.name) == [
        "checkpoint",
        "config.json",
        "metrics.csv",
        "model",
        "pictures",
        "summary.json",
    ]
    assert (finished / "pictures" / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    summary = json.loads((finished / "summary.json").read_text())
    assert [summary[name] for name in ("paper", "dataset", "seed")] == ["toy", "digits", 0]
    assert summary["figures"].keys() == {"accuracy", "best", "endless", "kind"}
    assert len(summary["figures"]["accuracy"]) == 3
    assert summary["figures"]["endless"] is None  # JSON knows no infinity
    assert summary["wall_seconds"] > 0
    assert {"torch", "numpy", "python"} <= summary["versions"].keys()
    assert "cores" in summary["machine"]
    config = json.loads((finished / "config.json").read_text())
    assert config["options"]["width"] == 4
    assert config["options"]["rates"] == [1e-3]
    assert not [f for f in finished.rglob("*") if f.suffix in {".pkl", ".pt", ".pth", ".tmp"}]


def test_metrics(finished: Path) -> None:
    found = rows(finished)
    assert [(row["step"], row["stage"]) for row in found] == [
        *((str(step), "plain") for step in (10, 20, 30)),
        ("30", ""),  # the experiment's own row
        *((str(step), "averaged") for step in (10, 20, 30)),
    ]
    assert list(found[0]) == [
        *("step", "stage", "epoch", "loss", "learning_rate", "accuracy", "noise", "between")
    ]
    assert float(found[0]["loss"]) > 0
    assert found[3]["accuracy"] == ""
    assert len({row["noise"] for row in found[:3]}) == 3  # each evaluation draws anew
    board = EventAccumulator(str(finished)).Reload()
    assert [event.step for event in board.Scalars("averaged/accuracy")] == [10, 20, 30]


def test_weights_are_those_to_use(finished: Path) -> None:
    """The averaged ones, where weights are averaged."""
    state = load_state(finished / "checkpoint" / "1")["fit"]
    weights = load_file(finished / "model" / "averaged.safetensors")
    assert weights.keys() == state["model"].keys()
    for name, weight in weights.items():
        assert weight.equal(state["average"][name])
        assert not weight.equal(state["model"][name])


def test_same_seed_same_run(tmp_path: Path, finished: Path) -> None:
    train(tmp_path / "again")
    assert_same_run(finished, tmp_path / "again")
    train(tmp_path / "other", "--seed", 1)
    with pytest.raises(AssertionError):
        assert_same_run(finished, tmp_path / "other")


def test_default_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = run(train_paper.main, "toy", "--steps", 1)
    assert outcome.status == 0, outcome
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("toy-digits-seed0-")
    assert f"run directory: runs/{folder.name}" in outcome.out
    assert "picture: " in outcome.out
    assert "drawn" in outcome.out


# -- interruptions -------------------------------------------------------------------------------


@pytest.mark.lifecycle
@pytest.mark.parametrize("name", ["plain", "averaged"])
@pytest.mark.parametrize("step", [10, 20, 30])
def test_stopped_run_resumes_bit_identically(
    tmp_path: Path, finished: Path, toy: Any, name: str, step: int
) -> None:
    def stop(at_name: str, at_step: int) -> None:
        if (at_name, at_step) == (name, step):
            os.kill(os.getpid(), signal.SIGTERM)

    toy.HOOKS.append(stop)
    outcome = run(train_paper.main, "toy", "--run-dir", tmp_path / "run", *SMALL)
    toy.HOOKS.clear()
    if (name, step) == ("averaged", 30):  # all that was left to do was drawing
        assert outcome.status == 0, outcome
    else:
        assert outcome.status == 143, outcome
        assert f"toy --resume {tmp_path / 'run'}" in outcome.out.splitlines()[-1]
        assert not (tmp_path / "run" / "summary.json").exists()
        resume(tmp_path / "run")
    assert_same_run(finished, tmp_path / "run")


@pytest.mark.lifecycle
def test_stopped_twice(tmp_path: Path, finished: Path, toy: Any) -> None:
    """Also a stage that was itself resumed; and wall time adds up."""
    for at in (("plain", 20), ("averaged", 10)):
        toy.HOOKS[:] = [lambda *now, at=at: os.kill(os.getpid(), signal.SIGINT) if now == at else 0]
        existing = (tmp_path / "run").exists()
        flags = ["--resume", tmp_path / "run"] if existing else ["--run-dir", tmp_path / "run"]
        flags += [] if existing else SMALL
        assert run(train_paper.main, "toy", *flags).status == 130
    toy.HOOKS.clear()
    seconds = load_state(tmp_path / "run" / "checkpoint" / "1")["seconds"]
    resume(tmp_path / "run")
    assert_same_run(finished, tmp_path / "run")
    assert json.loads((tmp_path / "run/summary.json").read_text())["wall_seconds"] >= round(seconds)


@pytest.mark.lifecycle
def test_killed_run_goes_on_from_its_last_checkpoint(tmp_path: Path) -> None:
    flags = ["--precision", "bfloat16", "--pause", 0.3, "--checkpoint-every", 0, *SMALL]
    killed = start(tmp_path / "run", "toy", *flags, script="tests/toy_paper.py")
    wait_for_rows(tmp_path / "run" / "metrics.csv", 5)  # in the middle of the second stage
    killed.kill()
    killed.communicate(timeout=60)
    assert not (tmp_path / "run" / "summary.json").exists()
    resume(tmp_path / "run")
    train(tmp_path / "whole", "--precision", "bfloat16", "--pause", 0.3)
    assert_same_run(tmp_path / "whole", tmp_path / "run")


@pytest.mark.lifecycle
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal(tmp_path: Path, number: int, status: int) -> None:
    flags = ["--pause", 0.3, *SMALL]
    process = start(tmp_path / "run", "toy", *flags, script="tests/toy_paper.py")
    wait_for_rows(tmp_path / "run" / "metrics.csv", 1)
    process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == status
    assert f"--resume {tmp_path / 'run'}" in out.splitlines()[-1]
    assert 10 <= load_state(tmp_path / "run" / "checkpoint" / "0")["fit"]["step"] <= 21


def test_run_without_a_checkpoint_yet_starts_anew(tmp_path: Path, finished: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoint")
    (tmp_path / "run" / "summary.json").unlink()
    resume(tmp_path / "run")
    assert_same_run(finished, tmp_path / "run")


# -- damages -------------------------------------------------------------------------------------


@pytest.fixture
def interrupted(tmp_path: Path, finished: Path) -> Path:
    """A run whose last row of results is lacking."""
    folder = tmp_path / "interrupted"
    shutil.copytree(finished, folder)
    (folder / "summary.json").unlink()
    return folder


@pytest.mark.parametrize("stage", ["0", "1"])
@pytest.mark.parametrize("way", [flip_tensors, flip_json])
def test_damaged_checkpoint(interrupted: Path, stage: str, way: Any) -> None:
    for seed in range(5):
        part = interrupted / "checkpoint" / stage
        intact = files(part)
        way(random.Random(seed), part)
        before = files(interrupted)
        outcome = run(train_paper.main, "--resume", interrupted)
        if outcome.status == 0:  # JSON has bits that mean nothing
            assert way is flip_json
            (interrupted / "summary.json").unlink()
        else:
            assert_error(outcome, f"checkpoint/{stage}")
            assert files(interrupted) == before
        for name, content in intact.items():
            (part / name).write_bytes(content)


def alter(part: Path, changes: dict[str, Any]) -> None:
    """Changes a checkpoint, checksum and all; None removes."""
    tree, _ = unpack(part)
    tree = {name: value for name, value in (tree | changes).items() if value is not None}
    body = json.loads((part / "state.json").read_text())["body"]
    seal(part, body | {"state": tree})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stage": "other"}, ["does not fit this run", "'other'"]),
        ({"steps": 31}, ["does not fit this run", "31 steps"]),
        ({"rows": [3]}, ["does not fit this run", "rows"]),
        ({"seconds": None}, ["has or lacks seconds"]),
        ({"seconds": "long"}, ["seconds"]),
        ({"extra": 1}, ["has or lacks extra"]),
        ({"job": {}}, ["another run"]),
    ],
)
def test_foreign_checkpoint(interrupted: Path, changes: dict[str, Any], words: list[str]) -> None:
    alter(interrupted / "checkpoint" / "1", changes)
    before = files(interrupted)
    assert_error(run(train_paper.main, "--resume", interrupted), "checkpoint/1", *words)
    assert files(interrupted) == before


def test_checkpoint_of_other_options(interrupted: Path) -> None:
    config = json.loads((interrupted / "config.json").read_text())
    config["options"]["width"] = 5
    (interrupted / "config.json").write_text(json.dumps(config))
    before = files(interrupted)
    assert_error(run(train_paper.main, "--resume", interrupted), "another run", "config.json")
    assert files(interrupted) == before


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", ["config.json is damaged"]),
        ({"paper": "tyo"}, ["unknown paper 'tyo'", "did you mean 'toy'"]),
        ({"paper": "rnn"}, ["rnn has no experiment yet", "toy"]),
        ({"paper": 3}, ["config.json is damaged"]),
        ({"dataset": "cifar10"}, ["toy has no --dataset cifar10", "digits"]),
        ({"seed": -1}, ["seed must lie in"]),
        ({"threads": 0}, ["threads must be"]),
        ({"device": "tpu"}, ["device must be cpu or cuda"]),
        ({"options": {}}, ["config.json", "unknown or missing"]),
        (
            {
                "options": {
                    "steps": 3,
                    "width": 0,
                    "rates": [],
                    "precision": "float32",
                    "pause": 0.0,
                }
            },
            ["config.json", "width must be positive"],
        ),
    ],
)
def test_damaged_config(interrupted: Path, content: Any, words: list[str]) -> None:
    file = interrupted / "config.json"
    if isinstance(content, dict):
        content = json.dumps(json.loads(file.read_text()) | content)
    file.write_text(content)
    before = files(interrupted)
    assert_error(run(train_paper.main, "--resume", interrupted), *words)
    assert files(interrupted) == before


@pytest.mark.parametrize("place", ["checkpoint/1/state.json", "model/plain.safetensors"])
def test_links_are_not_followed(interrupted: Path, place: str) -> None:
    outside = interrupted.with_name("outside")
    (interrupted / place).replace(outside)
    (interrupted / place).symlink_to(outside)
    assert_error(run(train_paper.main, "--resume", interrupted), "is a link")


def test_no_run_directory(tmp_path: Path) -> None:
    assert_error(run(train_paper.main, "--resume", tmp_path / "none"), "no run directory")
    assert_error(run(train_paper.main, "--resume", tmp_path), "no run directory", "config.json")


# -- failures ------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite(tmp_path: Path) -> None:
    outcome = train(tmp_path / "run", "--rates", 1e30, status=2)
    assert_error(outcome, "averaged: ", "no checkpoint yet")
    assert (tmp_path / "run" / "config.json").exists()


def test_a_figure_that_is_not_finite(tmp_path: Path, toy: Any, monkeypatch: Any) -> None:
    flags = ["--checkpoint-every", 0]
    monkeypatch.setattr(toy, "predict", lambda *_: toy.torch.full((359, 10), float("nan")))
    monkeypatch.setattr(toy.torch, "rand", lambda *_: toy.torch.tensor(float("nan")))
    outcome = train(tmp_path / "run", *flags, status=2)
    assert_error(outcome, "plain: noise became nan at step 10", "of step 9 is whole: --resume")


def test_an_absent_data_set_leaves_nothing(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("FIRSTHAND_DATA", str(tmp_path))
    outcome = train(tmp_path / "run", "--dataset", "simulator_classes", status=2)
    assert_error(outcome, "render_dataset.py simulator_classes")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["tyo"], ["unknown paper 'tyo'", "did you mean 'toy'", "--list"]),
        (["mmm"], ["unknown paper 'mmm'; --list shows them all"]),
        (["dqn"], ["python scripts/train_agent.py dqn ENV_ID"]),
        (["alphafold"], ["alphafold has no experiment yet; there is: ", "toy"]),
        (["toy", "digits"], ["give one paper"]),
        (["--seed", "3"], ["give one paper"]),
        (["toy", "--dataset", "mnsit"], ["toy has no --dataset mnsit", "digits, lfw_subset"]),
        (["toy", "--widht", "3"], ["--widht", "--width"]),
        (["toy", "--width", "0"], ["width must be positive, not 0"]),
        (["toy", "--width", "wide"], ["--width", "wide"]),
        (["toy", "--seed", "-1"], ["seed must lie in [0, 2^31)"]),
        (["toy", "--threads", "0"], ["threads must be auto or 1 to 1024"]),
        (["toy", "--checkpoint-every", "-1"], ["checkpoint_every must not be negative"]),
        (["toy", "--precision", "int8"], ["--precision"]),
        (["toy", "--resume"], ["--resume"]),
        (["toy", "--resume", "runs/x", "--width", "3"], ["--width"]),
        (["--list", "--all"], ["give one paper"]),
    ],
)
def test_bad_command(tmp_path: Path, args: list[str], words: list[str]) -> None:
    out = tmp_path / "run"
    flags = [] if "--resume" in args or "--list" in args else ["--run-dir", out]
    assert_error(run(train_paper.main, *args, *flags), *words)
    assert not out.exists()


def test_resuming_another_paper(interrupted: Path) -> None:
    assert_error(run(train_paper.main, "lenet", "--resume", interrupted), "toy, not of lenet")


def test_finished_run_is_not_touched(finished: Path) -> None:
    before = files(finished)
    assert_error(run(train_paper.main, "--resume", finished), "is finished", "summary.json")
    outcome = run(train_paper.main, "toy", "--run-dir", finished)
    assert_error(outcome, "exists already", "--resume")
    assert files(finished) == before


# -- reading -------------------------------------------------------------------------------------


def test_list() -> None:
    outcome = run(train_paper.main, "--list")
    assert outcome.status == 0
    lines = outcome.out.splitlines()
    for key, paper in PAPERS.items():
        (line,) = (line for line in lines if line.split()[0] == key)
        assert paper.status in line
        assert str(paper.year) in line
    assert any("0.95%" in line for line in lines)


@pytest.mark.parametrize("args", [[], ["--help"], ["-h"]])
def test_help(args: list[str]) -> None:
    outcome = run(train_paper.main, *args)
    assert outcome.status == 0
    assert "train_paper.py lenet" in outcome.out
    assert "toy" in outcome.out


def test_help_of_a_paper() -> None:
    outcome = run(train_paper.main, "toy", "--help")
    assert outcome.status == 0
    for words in ("--width", "hidden units", "--dataset", "digits, lfw_subset", "--run-dir"):
        assert words in outcome.out


def test_rows_of_different_columns(tmp_path: Path) -> None:
    class Board:
        def __init__(self) -> None:
            self.seen: list[tuple[str, float, int]] = []

        def add_scalar(self, *values: Any) -> None:
            self.seen.append(values)

    (tmp_path / "metrics.csv").write_text("old")
    board: Any = Board()
    log = RowLog(tmp_path / "metrics.csv", board)
    log.write({"step": 1, "a": 2.0})
    log.write({"step": 2, "a": 3.0})
    log.write({"step": 3, "stage": "x", "b": 4, "text": "y"})
    log.write({"step": 4, "a": 5.0})
    assert rows(tmp_path) == [
        {"step": "1", "a": "2.0", "stage": "", "b": "", "text": ""},
        {"step": "2", "a": "3.0", "stage": "", "b": "", "text": ""},
        {"step": "3", "a": "", "stage": "x", "b": "4", "text": "y"},
        {"step": "4", "a": "5.0", "stage": "", "b": "", "text": ""},
    ]
    assert board.seen == [("a", 2.0, 1), ("a", 3.0, 2), ("x/b", 4, 3), ("a", 5.0, 4)]
