"""Damaged run directories: one line each; nothing executed, nothing touched, no memory taken."""

import contextlib
import itertools
import json
import random
import resource
import shutil
import signal
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import evaluate
import gymnasium as gym
import numpy as np
import pytest
import torch
import train_agent
from command import Outcome, assert_error, files, run
from damages import damage, pack, unpack
from gymnasium.spaces import Box, Dict, Discrete
from lifecycle import seal

pytestmark = pytest.mark.lifecycle

COMMON = ["--seed", 3, "--threads", 1, "--compile", "no", "--no-video", "--eval-episodes", 1]
COMMON += ["--hidden-sizes", 8, 8, "--normalize-observations"]
REPLAY = ["--batch-size", 16, "--buffer-size", 200, "--learning-starts", 50]
BOTH = "firsthand/Both-v0"
KINDS: dict[str, list[Any]] = {
    "sac": ["sac", "Pendulum-v1", *COMMON, *REPLAY],
    "dqn": ["dqn", BOTH, *COMMON, *REPLAY],
    "a2c": [
        "a2c",
        "CartPole-v1",
        *COMMON,
        "--n-envs",
        2,
        "--vectorization",
        "sync",
        "--normalize-rewards",
    ],
}
STEPS = 110
MEMORY = 500  # MB that a fuzz may claim: bounds of 2^24 numbers, the most that a space may have
ROOM = 2**32  # bytes of addresses beside those that the process has


class Both(gym.Env[dict[str, np.ndarray], np.int64]):
    """Pictures and numbers; episodes of 15 steps."""

    observation_space: Any = Dict(
        picture=Box(0, 255, (1, 36, 36), np.uint8), numbers=Box(-1.0, 1.0, (2,))
    )
    action_space: Any = Discrete(3)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        super().reset(seed=seed)
        self.left = 15
        return self._observe(), {}

    def _observe(self) -> dict[str, np.ndarray]:
        picture = self.np_random.integers(256, size=(1, 36, 36), dtype=np.uint8)
        return {"picture": picture, "numbers": np.full(2, self.left / 15, np.float32)}

    def step(self, action: np.int64) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.left -= 1
        return self._observe(), float(action), self.left == 0, False, {}


class Hang(BaseException):
    """Nothing catches it."""


@contextlib.contextmanager
def at_most(seconds: int) -> Iterator[None]:
    def raise_(*_: Any) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, raise_)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def little_room() -> Iterator[None]:
    """Whoever asks for terabytes is refused at once, instead of being given a promise."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def peak() -> float:
    """MB of memory that this process has had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished run of each kind."""
    if BOTH not in gym.registry:
        gym.register(BOTH, lambda **_: Both())
    folder = tmp_path_factory.mktemp("fuzz")
    for kind, arguments in KINDS.items():
        options = ["--total-steps", STEPS, "--run-dir", folder / kind]
        outcome = run(train_agent.main, *arguments, *options)
        assert outcome.status == 0, outcome
    torch.empty(0, device="meta")
    return {kind: folder / kind for kind in KINDS}


def use(part: Path) -> Outcome:
    """What reads this part of a run."""
    if part.name == "policy":
        return run(evaluate.main, part.parent, "--episodes", 1)
    return run(train_agent.main, "--resume", part.parent, "--total-steps", STEPS + 15)


def test_damaged_runs_are_refused(tmp_path: Path, whole: dict[str, Path], thorough: bool) -> None:
    parts = list(itertools.product(KINDS, ["policy", "checkpoint"]))
    count, harmless, failed, start = 2_000 if thorough else 150, [], [], peak()
    for seed in range(count):
        kind, name = parts[seed % len(parts)]
        place = tmp_path / str(seed)
        place.mkdir()
        folder = place / "run"
        shutil.copytree(whole[kind], folder)
        done, must_fail = damage(random.Random(seed), folder / name)
        what = f"seed {seed}, {kind}'s {name}: {done}"
        before = files(place)
        try:
            with at_most(seconds=20), little_room(), warnings.catch_warnings(record=True) as said:
                outcome = use(folder / name)
            if outcome.status == 0:
                assert not must_fail, "it was not noticed"
                harmless.append(what)
            else:
                assert_error(outcome)
                if not any(size in what for size in ("buffer_size", "n_steps")):  # chosen by users
                    assert "alloc" not in outcome.err, "memory was asked for"
                spoken = [w for w in said if not issubclass(w.category, DeprecationWarning)]
                assert not spoken, [str(w.message) for w in spoken]
                assert files(place) == before, "something was changed"
            assert not (place / "canary").exists(), "something was executed"
            assert torch.get_num_threads() == 1
        except (Exception, Hang) as error:
            failed.append(f"{what}: {type(error).__name__}: {str(error)[-600:]}")
        shutil.rmtree(place)
    print(f"{count} damages, {len(harmless)} harmless, {peak() - start:.0f} MB")
    print("\n".join(harmless))
    assert not failed, "\n".join([f"{len(failed)} failed", *failed])
    assert len(harmless) < count / 10, harmless
    assert peak() - start < MEMORY


def larger_box(tree: Any, _: dict[str, torch.Tensor]) -> None:
    tree["observation_space"]["shape"] = [10**12]


def more_returns(_: Any, tensors: dict[str, torch.Tensor]) -> None:
    tensors["/agent/rewards/returns"] = torch.zeros(3, dtype=torch.float64)


def strange_clock(tree: Any, _: dict[str, torch.Tensor]) -> None:
    tree["meter"]["wall_seconds"] = "4.5"


@pytest.mark.parametrize(
    ("kind", "name", "forge", "word"),
    [
        ("sac", "policy", larger_box, "too many numbers"),
        ("a2c", "checkpoint", more_returns, "returns"),
        ("sac", "checkpoint", strange_clock, "wall_seconds is of type str"),
    ],
)
def test_forgeries_that_chance_seldom_finds(
    tmp_path: Path,
    whole: dict[str, Path],
    kind: str,
    name: str,
    forge: Callable[[Any, dict[str, torch.Tensor]], None],
    word: str,
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(whole[kind], folder)
    tree, tensors = unpack(folder / name)
    forge(tree, tensors)
    pack(folder / name, tree, tensors)
    before = files(folder)
    assert_error(use(folder / name), word)
    assert files(folder) == before


@pytest.mark.parametrize("name", ["policy", "checkpoint", ".metrics.csv.tmp", "metrics.csv"])
def test_links_out_of_a_run_are_not_followed(
    tmp_path: Path, whole: dict[str, Path], name: str
) -> None:
    """A resumed run saves, and removes old tensors and what was left half written."""
    folder, outside = tmp_path / "run", tmp_path / "outside"
    shutil.copytree(whole["sac"], folder)
    if name in ("policy", "checkpoint"):
        shutil.copytree(folder / name, outside)
        shutil.rmtree(folder / name)
        (outside / "of somebody else.safetensors").write_text("precious")
    else:
        outside.write_text("step,precious\n1,2\n")
        (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(outside)
    before = files(tmp_path)
    outcome = run(train_agent.main, "--resume", folder, "--total-steps", STEPS + 15)
    assert_error(outcome, f"{folder / name} is a link")
    assert files(tmp_path) == before


def test_no_module_is_imported_for_an_environment(
    tmp_path: Path, whole: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gymnasium would do so for an id with a colon, and a config may come from anybody."""
    (tmp_path / "trap.py").write_text("raise AssertionError('it was imported')")
    monkeypatch.syspath_prepend(tmp_path)
    folder = tmp_path / "run"
    shutil.copytree(whole["sac"], folder)
    for name in ("config.json", "checkpoint/state.json"):
        text = (folder / name).read_text()
        (folder / name).write_text(text.replace("Pendulum-v1", "trap:Pendulum-v1"))
    body = json.loads((folder / "checkpoint/state.json").read_text())["body"]
    seal(folder / "checkpoint", body)
    assert_error(use(folder / "policy"), "cannot make 'trap:Pendulum-v1'")
    assert_error(use(folder / "checkpoint"), "cannot make 'trap:Pendulum-v1'")
