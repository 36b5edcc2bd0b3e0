"""A run directory: what is where, and how it comes into being."""

import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from runkit.errors import UserError

from agents.state import read_json

PACKAGES = ["torch", "numpy", "gymnasium", "mujoco", "safetensors"]
AGENT_FIELDS: dict[str, type] = {
    "algorithm": str,
    "env_id": str,
    "run": dict,
    "config": dict,
}  # of config.json


@dataclass(frozen=True)
class RunDir:
    """Paths inside one run directory."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.csv"

    @property
    def evals(self) -> Path:
        return self.path / "eval.csv"

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint"

    @property
    def policy(self) -> Path:
        return self.path / "policy"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    @property
    def curve(self) -> Path:
        return self.path / "learning_curve.png"

    @property
    def videos(self) -> Path:
        return self.path / "videos"

    @property
    def models(self) -> Path:
        return self.path / "model"

    @property
    def pictures(self) -> Path:
        return self.path / "pictures"

    def read_config(self, types: dict[str, type] = AGENT_FIELDS) -> dict[str, Any]:
        """config.json; raises UserError if this is no run directory, or if the file is damaged or
        lacks a field of ``types``.
        """
        if not self.path.is_dir():
            raise UserError(f"no run directory {self.path}")
        self._refuse_links()
        if not self.config.is_file():
            raise UserError(f"{self.path} is no run directory: it has no config.json")
        try:
            config: dict[str, Any] = read_json(self.config)
            if [type(config[name]) for name in types] != list(types.values()):
                raise ValueError(f"one of {', '.join(types)} is not what it should be")
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{self.config} is damaged: {error}") from None
        return config

    def _refuse_links(self) -> None:
        """What a resumed run writes and deletes must be its own, wherever it was copied from."""
        places = [self.path, self.checkpoint, self.policy, self.videos, self.models]
        places += [self.pictures, *self.checkpoint.glob("*/")]
        for entry in (entry for place in places if place.is_dir() for entry in place.iterdir()):
            if entry.is_symlink():
                raise UserError(f"{entry} is a link, and may lead to what is not of this run")


def new_path(path: Path | None, learner: str, task: str, seed: int) -> Path:
    """Where a new run goes; raises UserError if ``path`` exists already."""
    if path is None:
        name = f"{learner}-{task.replace('/', '_')}-seed{seed}-{time.strftime('%Y%m%d-%H%M%S')}"
        return Path("runs") / name
    if path.exists():
        raise UserError(
            f"{path} exists already; choose another --run-dir, or go on with --resume {path}"
        )
    return path


def write_json(file: Path, data: dict[str, Any]) -> None:
    """Writes ``data`` in one step: the file is the old one or the new one, never half of it."""
    write_text(file, json.dumps(data, indent=2) + "\n")


def write_text(file: Path, text: str) -> None:
    """The same for any text."""
    temporary = file.with_name(f".{file.name}.tmp")
    try:
        with open(temporary, "w", newline="") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Versions of what a result depends on."""
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def peer_versions() -> dict[str, str]:
    """The same with Stable-Baselines3's."""
    return {**versions(), "stable_baselines3": version("stable_baselines3")}


def machine() -> str:
    """The processor's name, as far as the system tells it, and the number of usable cores."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name}, {len(os.sched_getaffinity(0))} cores"
