"""What the tests of kills, resumes and damages share."""

import contextlib
import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from command import ROOT

from agents.state import load_state

STARTED: list[subprocess.Popen[str]] = []  # by ``start``


def leaves(node: Any, path: str = "") -> dict[str, Any]:
    """A nested state as {path: leaf}; clocks are left out."""
    if isinstance(node, dict):
        pairs = ((k, v) for k, v in node.items() if k != "meter")
    elif isinstance(node, list):
        pairs = ((str(i), v) for i, v in enumerate(node))
    else:
        return {path: node}
    found = {}
    for key, value in pairs:
        found.update(leaves(value, f"{path}/{key}"))
    return found


def assert_same_state(one: Path, other: Path) -> None:
    """Bit for bit: weights, optimizers, replay, normalizer, generators, environments."""
    a = leaves(load_state(one / "checkpoint"))
    b = leaves(load_state(other / "checkpoint"))
    assert a.keys() == b.keys()
    for path in a:
        if isinstance(a[path], (torch.Tensor, np.ndarray)):
            same = np.array_equal(np.asarray(a[path]), np.asarray(b[path]))
        else:
            same = a[path] == b[path]
        assert same, path


def start(
    run_dir: Path | None, *args: object, script: str = "scripts/train_agent.py"
) -> subprocess.Popen[str]:
    """``train_agent.py ARGS`` as a process of its own, in a new ``run_dir`` unless it resumes."""
    command = [sys.executable, script, *map(str, args)]
    command += [] if run_dir is None else ["--run-dir", str(run_dir)]
    process = subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE)
    STARTED.append(process)
    return process


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, and those that these have."""
    parents = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it may have ended meanwhile
            parents[int(file.parent.name)] = int(file.read_text().rsplit(")", 1)[1].split()[1])
    children = [child for child, parent in parents.items() if parent == pid]
    return children + [below for child in children for below in descendants(child)]


def wait_until_ended(pids: list[int], seconds: float) -> None:
    """Fails unless all have ended; what nobody has waited for yet counts as ended."""
    deadline, left = time.monotonic() + seconds, pids
    while left:
        assert time.monotonic() < deadline, f"{left} are still there"
        time.sleep(0.05)
        left = [pid for pid in left if _runs(pid)]


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def wait_for_rows(file: Path, rows: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if file.exists() and len(file.read_text().splitlines()) > rows:
            return
        time.sleep(0.02)
    raise AssertionError(f"{file} has not got {rows} rows in two minutes")


def seal(folder: Path, body: Any) -> None:
    """Writes a state.json whose checksum is right: what an attacker can do, unlike an accident."""
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    outer = {"format": "firsthand-state-1", "sha256": digest, "body": body}
    (folder / "state.json").write_text(json.dumps(outer))
