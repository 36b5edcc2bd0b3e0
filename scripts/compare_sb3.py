"""Our agents beside Stable-Baselines3's: learning curves from both arms, and speed.

    python scripts/compare_sb3.py train sac HalfCheetah-v4 --seed 0 --out results/…/sb3-seed0
    python scripts/compare_sb3.py curves results/sac-halfcheetah-100k
    python scripts/compare_sb3.py speed sac HalfCheetah-v4 --out results/sac-speed/speed.json

``train`` trains SB3's published agent through its public API, on one thread, and evaluates it with
the code, the held-out seeds and the schedule that ``train_agent.py`` uses for ours. ``curves``
draws both arms and prints the table. ``speed`` runs the arms in turn, each in a process of its
own, at every thread count, and compares each arm's better one.
"""

import csv
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import tyro

from runkit import ROOT, plots
from runkit.arguments import parse
from runkit.devices import thread_counts
from runkit.environments import make_env, make_envs
from runkit.errors import UserError, run_main
from runkit.peer import sb3_agent
from runkit.rundir import machine, versions, write_json

from agents import ALGORITHMS
from agents.evaluation import evaluate
from agents.presets import find_preset

Algorithm = Literal["a2c", "ddpg", "dqn", "sac"]
EVAL_EPISODES = 10


@dataclass(frozen=True)
class TrainArguments:
    """One seed of a Stable-Baselines3 agent, with our preset's hyperparameters."""

    algorithm: tyro.conf.Positional[Algorithm]  # which
    env_id: tyro.conf.Positional[str]  # Gymnasium id
    out: Path  # folder for eval.csv and run.json; must not exist
    total_steps: int | None = None  # environment steps; default: the preset's
    seed: int = 0  # of everything
    eval_every: int = 5_000  # environment steps between two evaluations


@dataclass(frozen=True)
class CurvesArguments:
    """Draws FOLDER/curves.png and prints a table from FOLDER/{ours,sb3}-seed*/eval.csv: both arms,
    or the one that is there.
    """

    folder: tyro.conf.Positional[Path]  # results of both arms


@dataclass(frozen=True)
class SpeedArguments:
    """Environment steps a second of each arm, in turn, round after round."""

    algorithm: tyro.conf.Positional[Algorithm]  # which
    env_id: tyro.conf.Positional[str]  # Gymnasium id
    out: Path  # JSON file for the raw figures
    hyperparameters: Literal["defaults", "preset"] = "defaults"  # of both arms
    n_envs: int = 1  # sub-environments
    seconds: float = 8.0  # timed, a measurement
    rounds: int = 3  # measurements of each arm at each thread count
    sbx_python: Path | None = None  # a Python that has sbx-rl, for a third arm (SAC's defaults)


def main(args: list[str]) -> int:
    commands = {"train": train, "curves": curves, "speed": speed}
    if not args or args[0] not in commands:
        if {"-h", "--help"} & set(args):
            print(__doc__)
            return 0
        raise UserError(
            f"give one of {', '.join(commands)}: compare_sb3.py train sac HalfCheetah-v4"
        )
    return commands[args[0]](args[1:])


def train(args: list[str]) -> int:
    import torch
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.monitor import Monitor
    from stable_baselines3.common.vec_env import DummyVecEnv

    arguments = parse(TrainArguments, args, "compare_sb3.py train", __doc__)
    if arguments.out.exists():
        raise UserError(f"{arguments.out} exists already")
    torch.set_num_threads(1)
    preset = find_preset(arguments.algorithm, arguments.env_id)
    total_steps = arguments.total_steps or preset.total_steps
    config = ALGORITHMS[arguments.algorithm][1](**preset.overrides)
    envs = make_envs(arguments.env_id, EVAL_EPISODES)
    train_envs = DummyVecEnv([lambda: Monitor(make_env(arguments.env_id))] * preset.n_envs)
    model = sb3_agent(arguments.algorithm, train_envs, config, total_steps, arguments.seed)
    arguments.out.mkdir(parents=True)
    stream = open(arguments.out / "eval.csv", "w", newline="")  # noqa: SIM115 - until the end
    writer = csv.writer(stream)
    episodes = [f"episode_{i}" for i in range(EVAL_EPISODES)]
    writer.writerow(["step", "return_mean", "return_std", "wall_seconds", *episodes])

    class Evaluations(BaseCallback):
        """Writes a row every ``eval_every`` steps; the time that takes is not counted."""

        def _on_training_start(self) -> None:
            self.started, self.paused = time.perf_counter(), 0.0
            self._write()

        def _on_step(self) -> bool:
            before = self.num_timesteps - self.training_env.num_envs
            if before // arguments.eval_every < self.num_timesteps // arguments.eval_every:
                self._write()
            return True

        def _write(self) -> None:
            now = time.perf_counter()
            returns = evaluate(self.model.predict, envs)
            seconds = round(now - self.started - self.paused, 2)
            row = [self.num_timesteps, returns.mean(), returns.std(), seconds, *returns]
            writer.writerow(row)
            stream.flush()
            print(f"step {row[0]:,}: evaluation return {row[1]:.1f} ± {row[2]:.1f}", flush=True)
            self.paused += time.perf_counter() - now

    start = time.perf_counter()
    model.learn(total_steps, callback=Evaluations())
    stream.close()
    record = {
        "arm": "stable_baselines3",
        "algorithm": arguments.algorithm,
        "env_id": arguments.env_id,
        "seed": arguments.seed,
        "total_steps": total_steps,
        "n_envs": preset.n_envs,
        "hyperparameters": asdict(config),
        "threads": 1,
        "machine": machine(),
        "wall_seconds": round(time.perf_counter() - start, 1),
        "versions": {**versions(), "stable_baselines3": version("stable_baselines3")},
    }
    write_json(arguments.out / "run.json", record)
    return 0


def curves(args: list[str]) -> int:
    arguments = parse(CurvesArguments, args, "compare_sb3.py curves", __doc__)
    arms = {}
    for arm, label in (("ours", "Firsthand"), ("sb3", "Stable-Baselines3")):
        if files := sorted(arguments.folder.glob(f"{arm}-seed*/eval.csv")):
            arms[label] = [plots.read_evals(file)[:2] for file in files]
    if not arms:
        raise UserError(f"{arguments.folder} holds no ours-seed*/eval.csv nor sb3-seed*/eval.csv")
    plots.compare(arms, arguments.folder / "curves.png", arguments.folder.name)
    print("| arm | seeds | final return of each seed | mean | std over seeds |")
    print("|---|---|---|---|---|")
    for label, seeds in arms.items():
        final = [means[-1] for _, means in seeds]
        mean, std = statistics.mean(final), statistics.stdev(final) if len(final) > 1 else 0.0
        values = ", ".join(f"{value:.0f}" for value in final)
        print(f"| {label} | {len(final)} | {values} | {mean:.0f} | {std:.0f} |")
    return 0


def speed(args: list[str]) -> int:
    arguments = parse(SpeedArguments, args, "compare_sb3.py speed", __doc__)
    arms = {"firsthand": sys.executable, "stable_baselines3": sys.executable}
    if arguments.sbx_python:
        arms["sbx"] = str(arguments.sbx_python)
    runs: list[dict[str, Any]] = []
    for round_ in range(arguments.rounds):
        for arm, python in arms.items():
            for threads in thread_counts():
                result = _measure(python, arm, arguments, threads)
                runs.append({"round": round_, "arm": arm, "threads": threads, **result})
                rate = result["steps_per_second"]
                print(
                    f"round {round_}  {arm:18} {threads} thread(s)  {rate:8.1f} steps/s", flush=True
                )
    best = {arm: _best(runs, arm) for arm in arms}
    _report(runs, best)
    record = {
        "command": " ".join(["python scripts/compare_sb3.py speed", *args]),
        "machine": machine(),
        "versions": {**versions(), "stable_baselines3": version("stable_baselines3")},
        "runs": runs,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(arguments.out, record)
    return 0


def _measure(python: str, arm: str, arguments: SpeedArguments, threads: int) -> dict[str, Any]:
    command = [python, str(ROOT / "scripts/runkit/speed_worker.py"), arm, arguments.algorithm]
    numbers = (arguments.n_envs, threads, arguments.seconds)
    command += [arguments.env_id, *map(str, numbers), arguments.hyperparameters]
    # JAX has no thread setting: pinning to n cores is what limits it (and it alone).
    cores = sorted(os.sched_getaffinity(0))
    pin = cores[:threads] if arm == "sbx" else cores
    path = os.pathsep.join([str(ROOT), str(ROOT / "scripts")])
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": "" if arm == "sbx" else path},
        preexec_fn=lambda: os.sched_setaffinity(0, pin),
    )
    if done.returncode != 0:
        raise UserError(f"{arm} failed: {done.stderr.strip().splitlines()[-1]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _best(runs: list[dict[str, Any]], arm: str) -> tuple[int, float]:
    """The arm's better thread count, and its median steps a second there."""
    counts = {run["threads"] for run in runs}
    medians = {
        n: statistics.median(
            run["steps_per_second"] for run in runs if (run["arm"], run["threads"]) == (arm, n)
        )
        for n in counts
    }
    threads = max(medians, key=medians.__getitem__)
    return threads, medians[threads]


def _report(runs: list[dict[str, Any]], best: dict[str, tuple[int, float]]) -> None:
    print("\n| arm | threads | env steps/s (median) | Firsthand is faster by |")
    print("|---|---|---|---|")
    ours = best["firsthand"][1]
    for arm, (threads, rate) in best.items():
        print(f"| {arm} | {threads} | {rate:.0f} | {ours / rate:.2f} |")
    mine = [r for r in runs if (r["arm"], r["threads"]) == ("firsthand", best["firsthand"][0])]
    run = sorted(mine, key=lambda r: float(r["steps_per_second"]))[len(mine) // 2]
    split = ", ".join(f"{name} {1e3 * seconds:.3f}" for name, seconds in run["split"].items())
    print(f"\nmilliseconds a step: {split}")
    if "gflops" in run:
        limit = run["update_gflop"] / run["gflops"]
        share = limit / run["split"]["update"]
        print(
            f"an update's {run['update_gflop']:.2f} GFLOP of matrix products take "
            f"{1e3 * limit:.2f} ms at this machine's {run['gflops']:.0f} GFLOP/s: {share:.0%} of it"
        )
    print(f"peak memory {run['peak_memory_bytes'] / 1e9:.2f} GB")


if __name__ == "__main__":
    run_main(main)
