"""Suites: which tasks both arms train on, read from TOML and checked before anything runs."""

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from runkit.errors import UserError

from agents import ALGORITHMS
from agents.presets import find_preset

OURS, PEER = "firsthand", "stable_baselines3"
ARMS = {OURS: "Firsthand", PEER: "Stable-Baselines3"}  # the arms, and what they are called
SUITES = Path(__file__).parent / "suites"
COMPARABLE = ("a2c", "ddpg", "dqn", "sac")  # what Stable-Baselines3 has too


@dataclass(frozen=True)
class Task:
    """What one arm does with one seed: an entry of ``tasks`` in a suite's file."""

    algorithm: str
    env_id: str  # Gymnasium id
    total_steps: int  # environment steps
    seeds: int  # 0 up to this, in both arms
    scale: tuple[float, float]  # returns that are normalized to 0 (random) and 1 (good)
    evaluations: int = 10  # at equal distances; there is one more, before the first step
    eval_episodes: int = 20  # deterministic ones, on held-out seeds, an evaluation
    hyperparameters: str = "zoo"  # "zoo": agents/presets.py; "defaults": SB3's, which are ours too

    def __post_init__(self) -> None:
        if self.algorithm not in COMPARABLE:
            raise ValueError(f"algorithm {self.algorithm!r} is none of {', '.join(COMPARABLE)}")
        for name in ("total_steps", "seeds", "evaluations", "eval_episodes"):
            if type(value := getattr(self, name)) is not int or value < 1:
                raise ValueError(f"{name} must be a positive whole number, not {value!r}")
        if self.total_steps % self.evaluations:
            raise ValueError(f"{self.evaluations} evaluations do not divide {self.total_steps}")
        if self.hyperparameters not in ("zoo", "defaults"):
            raise ValueError(
                f'hyperparameters is "zoo" or "defaults", not {self.hyperparameters!r}'
            )
        low, high = self.scale
        if not low < high:
            raise ValueError(f"scale must rise, not {list(self.scale)}")

    @property
    def key(self) -> str:
        """Such as dqn-CartPole-v1-50k."""
        steps = self.total_steps
        short = next(
            (f"{steps // n}{unit}" for n, unit in ((10**6, "M"), (10**3, "k")) if steps % n == 0),
            str(steps),
        )
        defaults = "-defaults" if self.hyperparameters == "defaults" else ""
        return f"{self.algorithm}-{self.env_id.replace('/', '_')}-{short}{defaults}"

    @property
    def eval_every(self) -> int:
        return self.total_steps // self.evaluations

    def config(self) -> Any:
        """The hyperparameters of both arms, as our config."""
        _, config_type = ALGORITHMS[self.algorithm]
        if self.hyperparameters == "defaults":
            return config_type()
        return config_type(**find_preset(self.algorithm, self.env_id).overrides)

    @property
    def n_envs(self) -> int:
        zoo = self.hyperparameters == "zoo"
        return find_preset(self.algorithm, self.env_id).n_envs if zoo else 1

    @property
    def source(self) -> str:
        """Where the hyperparameters come from."""
        if self.hyperparameters == "defaults":
            return "the algorithm's defaults, Stable-Baselines3's"
        return find_preset(self.algorithm, self.env_id).source


@dataclass(frozen=True)
class Cell:
    """One training: a unit of work."""

    task: Task
    arm: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.task.key}-{self.arm}-seed{self.seed}"


@dataclass(frozen=True)
class Suite:
    """A named list of tasks, and how far apart two arms may be to count as the same."""

    name: str
    title: str
    band: float  # of the normalized score: 0.1 is a tenth of the way from random to good
    tasks: tuple[Task, ...]

    def cells(self, seeds: int | None = None) -> list[Cell]:
        """Task by task, seed by seed, the arms in turn: so that both see the same machine."""
        return [
            Cell(task, arm, seed)
            for task in self.tasks
            for seed in range(task.seeds if seeds is None else seeds)
            for arm in ARMS
        ]


def suite_names() -> list[str]:
    return sorted(file.stem for file in SUITES.glob("*.toml"))


def load_suite(name: str) -> Suite:
    """Reads a suite that comes with the project, or a file; raises UserError."""
    file = Path(name) if name.endswith(".toml") else SUITES / f"{name}.toml"
    if not file.is_file():
        raise UserError(f"no suite {name!r}; there is: {', '.join(suite_names())}")
    try:
        data = tomllib.loads(file.read_text())
        unknown = data.keys() - {"title", "band", "tasks"}
        if unknown:
            raise ValueError(f"unknown {', '.join(sorted(unknown))}")
        tasks = tuple(_task(number, entry) for number, entry in enumerate(data["tasks"], start=1))
        keys = [task.key for task in tasks]
        if twice := {key for key in keys if keys.count(key) > 1}:
            raise ValueError(f"{', '.join(sorted(twice))} is there more than once")
        suite = Suite(file.stem, str(data["title"]), float(data["band"]), tasks)
        if not suite.band > 0:
            raise ValueError(f"band must be positive, not {suite.band}")
    except KeyError as error:
        raise UserError(f"{file}: it lacks {error}") from None
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{file}: {error}") from None
    return suite


def _task(number: int, entry: Any) -> Task:
    try:
        entry = dict(entry)
        unknown = entry.keys() - {field.name for field in fields(Task)}
        if unknown:
            raise ValueError(f"unknown {', '.join(sorted(unknown))}")
        low, high = entry.pop("scale")
        return Task(**entry, scale=(float(low), float(high)))
    except (KeyError, TypeError, ValueError) as error:
        what = f"it lacks {error}" if isinstance(error, KeyError) else error
        raise ValueError(f"task {number}: {what}") from None
