"""Trains one arm with one seed in a process of its own: one JSON object in, one out.

    echo '{"arm": …, "folder": …, …}' | python worker.py

Reads a request (see ``launch.Request``) from the first line of standard input, and writes
outcome.json into its folder when all is done. When standard input closes, whoever asked is gone:
the process then stops itself as SIGTERM would, with a checkpoint saved.
"""

import csv
import json
import os
import resource
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from runkit import gl, video
from runkit.arguments import RunOptions
from runkit.benchmark.suite import OURS
from runkit.environments import make_env, make_envs
from runkit.errors import UserError, run_main
from runkit.peer import sb3_agent
from runkit.rundir import RunDir, machine, peer_versions, write_json
from runkit.training import Job, Training

from agents import StateError, config_from_json, load
from agents.evaluation import evaluate

Outcome = dict[str, Any]


def main(_: list[str]) -> int:
    request = json.loads(sys.stdin.readline())
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    if request["video"]:
        gl.set_up()
    folder = Path(request["folder"])
    arm = firsthand if request["arm"] == OURS else stable_baselines3
    outcome, agent = arm(request, folder)
    outcome |= {"machine": machine(), "versions": peer_versions()}
    if request["video"]:
        _film(agent, request["env_id"], outcome["evaluations"][-1]["returns"], folder)
    write_json(folder / "outcome.json", outcome)
    return 0


def _stop_with_parent() -> None:
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


def firsthand(request: dict[str, Any], folder: Path) -> tuple[Outcome, Any]:
    """Ours, as train_agent.py trains it; goes on from a checkpoint if there is one."""
    run_dir = RunDir(folder / "run")
    if not run_dir.summary.exists():
        training = _resumed(run_dir) or _started(request, run_dir)
        status = training.finish()
        if status:
            sys.exit(status)
    summary = json.loads(run_dir.summary.read_text())
    outcome = _outcome(
        read_evaluations(run_dir.evals),
        request["total_steps"],
        summary["updates"],
        summary["train_seconds"],
    )
    return outcome, load(run_dir.path)


def _started(request: dict[str, Any], run_dir: RunDir) -> Training:
    shutil.rmtree(run_dir.path, ignore_errors=True)
    run = RunOptions(
        request["total_steps"],
        seed=request["seed"],
        n_envs=request["n_envs"],
        vectorization="sync",  # as in the other arm
        device="cpu",
        threads=1,
        run_dir=run_dir.path,
        eval_every=request["eval_every"],
        eval_episodes=request["eval_episodes"],
        video=False,
    )
    config = config_from_json(request["algorithm"], request["hyperparameters"])
    return Training.start(Job(request["algorithm"], request["env_id"], run, config))


def _resumed(run_dir: RunDir) -> Training | None:
    if not run_dir.checkpoint.is_dir():
        return None
    try:
        return Training.resume(Job.read(run_dir), run_dir)
    except (UserError, StateError) as error:  # begin anew: nothing but this cell is lost
        print(f"cannot go on: {error}", file=sys.stderr)
        return None


def stable_baselines3(request: dict[str, Any], folder: Path) -> tuple[Outcome, Any]:
    """SB3's published agent, through its public API."""
    import torch
    from stable_baselines3.common.monitor import Monitor
    from stable_baselines3.common.vec_env import DummyVecEnv

    torch.set_num_threads(1)
    env_id, total = request["env_id"], request["total_steps"]
    config = config_from_json(request["algorithm"], request["hyperparameters"])
    envs = DummyVecEnv([lambda: Monitor(make_env(env_id))] * request["n_envs"])
    model = sb3_agent(request["algorithm"], envs, config, total, request["seed"])
    folder.mkdir(parents=True, exist_ok=True)
    callback = evaluations_callback(request, folder / "eval.csv")
    model.learn(total, callback=callback)
    evaluations = read_evaluations(folder / "eval.csv")
    return _outcome(evaluations, total, callback.updates, callback.seconds), model


def evaluations_callback(request: dict[str, Any], file: Path) -> Any:
    """An SB3 callback that writes the eval.csv that our arm writes, and keeps its clock.

    The clock stands while evaluations run.
    """
    from stable_baselines3.common.callbacks import BaseCallback

    eval_envs = make_envs(request["env_id"], request["eval_episodes"])
    every, total = request["eval_every"], request["total_steps"]

    class Evaluations(BaseCallback):
        updates: float = 0
        seconds = 0.0

        def _on_training_start(self) -> None:
            self.resumed = time.perf_counter()
            self.rows: list[dict[str, Any]] = []
            self._evaluate()

        def _on_step(self) -> bool:
            self.updates = self.logger.name_to_value.get("train/n_updates") or self.updates
            before = self.num_timesteps - self.training_env.num_envs
            if before // every < self.num_timesteps // every and before < total:
                self._evaluate()
            return True

        def _evaluate(self) -> None:
            self.seconds += time.perf_counter() - self.resumed
            returns = evaluate(self.model.predict, eval_envs)
            row: dict[str, float] = {f"episode_{i}": float(r) for i, r in enumerate(returns)}
            step_and_time = {"step": self.num_timesteps, "train_seconds": round(self.seconds, 2)}
            self.rows.append(step_and_time | row)
            with open(file, "w", newline="") as stream:
                writer = csv.DictWriter(stream, self.rows[0])
                writer.writeheader()
                writer.writerows(self.rows)
            self.resumed = time.perf_counter()

    return Evaluations()


def read_evaluations(file: Path) -> list[dict[str, Any]]:
    """Evaluations from an eval.csv of either arm."""
    with open(file, newline="") as stream:
        return [
            {
                "step": int(row["step"]),
                "seconds": float(row["train_seconds"]),
                "returns": [float(v) for name, v in row.items() if name.startswith("episode_")],
            }
            for row in csv.DictReader(stream)
        ]


def _outcome(
    evaluations: list[dict[str, Any]], steps: int, updates: float, seconds: float
) -> Outcome:
    return {
        "evaluations": evaluations,
        "env_steps_per_second": round(steps / seconds, 1),
        "updates_per_second": round(updates / seconds, 1),
        "train_seconds": round(seconds, 1),
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def _film(agent: Any, env_id: str, returns: list[float], folder: Path) -> None:
    """Films the episode with the median return, as train_agent.py does; no video is no failure."""
    try:
        video.record_median(agent, env_id, returns, folder / "video.mp4")
    except (video.RenderError, UserError, OSError) as error:
        print(f"no video: {error}", file=sys.stderr)


if __name__ == "__main__":
    run_main(main)
