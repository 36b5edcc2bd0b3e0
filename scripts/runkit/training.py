"""One training run from start to summary: the loop, and all that happens around it."""

import json
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from runkit import gl, plots, video
from runkit.arguments import RunOptions
from runkit.devices import choose_compile, choose_device, choose_threads
from runkit.environments import choose_vectorization, make_envs, randomization, worker_env
from runkit.errors import UserError
from runkit.memory import keep_freed_memory
from runkit.meter import Meter
from runkit.metrics import MetricsLog, read_lines
from runkit.progress import TrainingProgress
from runkit.rundir import RunDir, machine, new_path, versions, write_json
from runkit.signals import StopRequest

from agents import A2C, A3C, ALGORITHMS, Agent, check_agent, config_from_json, save
from agents.asynchronous import AsynchronousLoop
from agents.config import from_json
from agents.evaluation import evaluate
from agents.failures import NonFiniteMetric, TrainingFailure, environment_failures
from agents.off_policy import OffPolicyLoop, random_batch
from agents.on_policy import OnPolicyLoop, random_rollout
from agents.replay import ReplayBuffer
from agents.state import StateError, check_like, load_state, save_state
from agents.stepping import Loop, StepReport
from envs.vector import Wrap

UNRECORDED = ("run_dir", "resume")  # options that say where, not what
CHANGEABLE = ("total_steps", "checkpoint_every", "eval_every")  # options of a resumed run
LOG_EVERY = 1_000  # environment steps between two rows of metrics.csv
BAR_EVERY = 50  # environment steps between two moves of the progress bar


@dataclass(frozen=True)
class Job:
    """What to train: the command line, resolved."""

    algorithm: str
    env_id: str
    run: RunOptions
    config: Any  # of the algorithm

    @classmethod
    def read(cls, folder: RunDir, **changes: Any) -> "Job":
        """The job of a run directory, with other run options where ``changes`` says so."""
        saved = folder.read_config()
        try:
            options = {"randomization": None, **saved["run"]}
            run = replace(from_json(RunOptions, options, without=UNRECORDED), **changes)
            config = config_from_json(saved["algorithm"], saved["config"])
        except (TypeError, ValueError) as error:
            raise UserError(f"{folder.config}: {error}") from None
        return cls(saved["algorithm"], saved["env_id"], run, config)

    def record(self) -> dict[str, Any]:
        """All of it as plain data."""
        run = {k: v for k, v in asdict(self.run).items() if k not in UNRECORDED}
        if self.run.randomization is None:
            del run["randomization"]  # as runs were recorded before there was any
        plain = {"run": run, "config": asdict(self.config)}
        return {
            "algorithm": self.algorithm,
            "env_id": self.env_id,
            **json.loads(json.dumps(plain)),  # lists for tuples
        }

    def lasting(self) -> dict[str, Any]:
        """The part of the record that stays the same when the run is resumed."""
        record = self.record()
        for name in CHANGEABLE:
            del record["run"][name]
        return record


class Training:
    """A run in progress: made by ``start`` or ``resume``, then ``finish``ed."""

    def __init__(self, job: Job, folder: RunDir) -> None:
        """Builds agent, environments and loop. ``job.run`` has no "auto" left in it."""
        self.job, self.folder, self.device = job, folder, job.run.device
        self.saved_at: int | None = None  # step of the last checkpoint
        torch.set_num_threads(int(job.run.threads))
        keep_freed_memory()
        self.envs: Any = training_envs(job)
        self.eval_envs = make_envs(job.env_id, job.run.eval_episodes)
        self.agent = new_agent(job, self.envs)
        if job.run.compile == "yes":
            self.agent.compile()
        self.loop = new_loop(job, self.agent, self.envs)
        self.meter = Meter()
        self.last_returns = np.zeros(0)

    @classmethod
    def start(cls, job: Job) -> "Training":
        """A new run in a new directory, made only once the job is known to be possible."""
        job = replace(job, run=replace(job.run, device=choose_device(job.run.device)))
        if job.run.randomization is not None and job.run.vectorization == "vector_entry_point":
            raise UserError("--randomization needs --vectorization sync or async")
        probe = new_agent(job, make_envs(job.env_id, 1, wrap=wrap_of(job)))
        path = new_path(job.run.run_dir, job.algorithm, job.env_id, job.run.seed)
        job = replace(job, run=settle(job, probe))
        training = cls(job, RunDir(path))
        path.mkdir(parents=True)
        record = job.record() | {"machine": machine(), "versions": versions()}
        write_json(training.folder.config, record)
        return training

    @classmethod
    def resume(cls, job: Job, folder: RunDir) -> "Training":
        """Goes on from the run's checkpoint, on the same device, threads and compilation."""
        choose_device(job.run.device)  # a run from a GPU, resumed where there is none
        state = load_state(folder.checkpoint)
        for name, value in job.lasting().items():
            if state.get(name) == value:
                continue
            if isinstance(value, str):
                what = f"a checkpoint of {name} {state.get(name)!r}, not {value!r}"
            else:
                what = f"of other options than {folder.config} says ({name})"
            raise UserError(f"{folder.checkpoint} is {what}")
        for log in (folder.metrics, folder.evals):
            read_lines(log)
        expected = {*job.lasting(), "agent", "loop", "environments", "meter"}
        if state.keys() != expected:
            raise StateError(f"{folder.checkpoint} has or lacks {state.keys() ^ expected}")
        envs = make_envs(job.env_id, 1)
        spaces = envs.single_observation_space, envs.single_action_space
        try:  # before memory is claimed for what config.json and the checkpoint say
            check_agent(state["agent"], job.algorithm, *spaces, job.config)
            counted = state["loop"]["counts" if job.algorithm == "a3c" else "returns"]
            if counted.shape != (job.run.n_envs,):
                raise ValueError(f"it is of {counted.shape}, not {job.run.n_envs} environments")
        except Exception as error:  # what is read may be anything
            raise StateError(f"{folder.checkpoint} does not fit this run: {error}") from None
        training = cls(job, folder)
        try:
            training._restore(state)
        except BaseException:
            training.loop.close()
            raise
        print(f"resuming {folder.path} at step {training.loop.steps:,}")
        return training

    def _restore(self, state: dict[str, Any]) -> None:
        try:
            self.agent.load_state_dict(state["agent"])
            self.loop.load_state_dict(state["loop"])
            check_like(state["meter"], self.meter.state_dict(), "meter")
            self.meter.load_state_dict(state["meter"])
            check_like(state["environments"], self._snapshot(), "environments")
            if state["environments"] is not None:
                self.envs.call("restore", state["environments"])
        except Exception as error:  # what is read may be anything, and so may what it leads to
            raise StateError(f"{self.folder.checkpoint} does not fit this run: {error}") from None
        if self.loop.steps >= self.job.run.total_steps:
            raise UserError(
                f"{self.folder.path} has done its {self.loop.steps:,} steps; "
                "give a larger --total-steps to train on"
            )
        self.saved_at = self.loop.steps

    def finish(self) -> int:
        """Trains to the end or to a signal, and writes the results; returns the exit status."""
        try:
            return self._finish()
        except (TrainingFailure, StateError, OSError) as error:
            raise TrainingFailure(f"{error}; {self._left()}") from error
        finally:
            self.loop.close()

    def _left(self) -> str:
        """What of a run that failed can be gone on with."""
        if self.saved_at is None:
            return f"there is no checkpoint yet in {self.folder.path}"
        path = self.folder.path
        return (
            f"the checkpoint of step {self.saved_at:,} in {path} is whole: go on with "
            f"--resume {path}"
        )

    def _finish(self) -> int:
        total, first = self.job.run.total_steps, self.loop.steps
        log = MetricsLog(self.folder.metrics, self.folder.evals, first if first else -1)
        with StopRequest() as stop, TrainingProgress(total, first) as progress:
            if first == 0:
                self._evaluate(log, progress)
            self.meter.start(first, self.agent.updates)

            def on_step(report: StepReport) -> bool:
                self.meter.tick(report)
                self._after_step(report, log, progress)
                self.meter.proceed()
                return stop.number is None

            with closing(log):
                self.loop.run(total, on_step)
                self._save()
            self.loop.close()
        if stop.number is not None and self.loop.steps < total:
            print(f"stopped at step {self.loop.steps:,}; the checkpoint is saved. Go on with:")
            command = f"python scripts/train_agent.py {self.job.algorithm} {self.job.env_id}"
            print(f"  {command} --resume {self.folder.path}")
            return 128 + stop.number
        self._write_results()
        return 0

    def _after_step(self, report: StepReport, log: MetricsLog, progress: TrainingProgress) -> None:
        run = self.job.run

        def due(every: int) -> bool:
            return report.before // every < report.step // every

        if due(BAR_EVERY):
            progress.advance(report.step)
        if due(LOG_EVERY):
            row = self.meter.row(report, self.agent.updates, self.agent.metric_names)
            log.train(row)
            progress.show(row)
        if due(run.eval_every) or report.step >= run.total_steps:
            self._evaluate(log, progress)
        if due(run.checkpoint_every):
            self._save()

    def _evaluate(self, log: MetricsLog, progress: TrainingProgress) -> None:
        self.last_returns = evaluate(self.agent.predict, self.eval_envs)
        mean, std = float(self.last_returns.mean()), float(self.last_returns.std())
        row = {"step": self.loop.steps, "return_mean": mean, "return_std": std}
        row |= {"wall_seconds": round(self.meter.wall_seconds, 2)}
        row |= {"train_seconds": round(self.meter.train_seconds, 2)}
        log.evaluation(row | {f"episode_{i}": float(r) for i, r in enumerate(self.last_returns)})
        progress.say(f"step {self.loop.steps:,}: evaluation return {mean:.1f} ± {std:.1f}")

    def _save(self) -> None:
        if not self.agent.finite():
            raise NonFiniteMetric(f"a weight became NaN or infinite at step {self.loop.steps:,}")
        state = {
            **self.job.lasting(),
            "agent": self.agent.state_dict(),
            "loop": self.loop.state_dict(),
            "environments": self._snapshot(),
            "meter": self.meter.state_dict(),
        }
        save_state(self.folder.checkpoint, state)
        self.saved_at = self.loop.steps
        save(self.agent, self.folder.policy)

    def _snapshot(self) -> list[Any] | None:
        """The environments' states, unless the loop's workers have them."""
        if isinstance(self.loop, AsynchronousLoop):
            return None
        with environment_failures(self.loop.steps):
            return list(self.envs.call("snapshot"))

    def _write_results(self) -> None:
        job, folder, meter = self.job, self.folder, self.meter
        chance = new_agent(job, self.envs)
        random_returns = evaluate(at_random(chance), self.eval_envs)
        summary: dict[str, Any] = {
            "algorithm": job.algorithm,
            "env_id": job.env_id,
            "total_steps": self.loop.steps,
            "seed": job.run.seed,
            "eval_return_mean": float(self.last_returns.mean()),
            "eval_return_std": float(self.last_returns.std()),
            "random_return_mean": float(random_returns.mean()),
            "env_steps_per_second": round(self.loop.steps / meter.train_seconds, 1),
            "updates_per_second": round(self.agent.updates / max(meter.learning_seconds, 1e-9), 1),
            "updates": self.agent.updates,
            "wall_seconds": round(meter.wall_seconds, 1),
            "train_seconds": round(meter.train_seconds, 1),
            "seconds": {name: round(value, 2) for name, value in self.loop.seconds.items()},
            "threads": job.run.threads,
            "machine": machine(),
            "versions": versions(),
        }
        write_json(folder.summary, summary)
        plots.learning_curve(folder.evals, folder.curve, f"{job.algorithm.upper()} on {job.env_id}")
        print(f"return:         {summary['eval_return_mean']:.1f}", end="")
        print(f" ± {summary['eval_return_std']:.1f} over {len(self.last_returns)} episodes")
        print(f"random policy:  {summary['random_return_mean']:.1f} on the same seeds")
        print(f"run directory:  {folder.path}")
        print(f"learning curve: {folder.curve}")
        if job.run.video:
            self._record()

    def _record(self) -> None:
        """Films the episode whose return was the median of the last evaluation.

        The video is a picture of the result, not the result: without one the run is whole.
        """
        file = self.folder.videos / "final.mp4"
        try:
            filmed = video.record_median(self.agent, self.job.env_id, self.last_returns, file)
        except (video.RenderError, UserError, OSError) as error:
            print(f"video:          none ({gl.explain(error)})")
        else:
            print(f"video:          {file} (return {filmed:.1f})")


def training_envs(job: Job) -> Any:
    """The sub-environments to train in; for A3C, whose workers make their own, a sample."""
    way = job.run.vectorization
    if job.algorithm == "a3c" or way == "auto":
        return make_envs(job.env_id, 1)
    return make_envs(job.env_id, job.run.n_envs, job.run.seed, way, wrap=wrap_of(job))


def wrap_of(job: Job) -> Wrap | None:
    """What is put around training environments; evaluations are of the nominal one."""
    return randomization(job.run.randomization, job.run.seed)


def new_agent(job: Job, envs: Any) -> Agent:
    """A fresh agent for the sub-environments' spaces; raises UnsupportedSpaceError."""
    agent_type, _ = ALGORITHMS[job.algorithm]
    spaces = envs.single_observation_space, envs.single_action_space
    agent: Agent = agent_type(*spaces, job.config, seed=job.run.seed, device=job.run.device)
    return agent


def new_loop(job: Job, agent: Agent, envs: Any) -> Loop | AsynchronousLoop:
    """The loop that trains this kind of agent; raises UserError if there is no memory for it."""
    if isinstance(agent, A2C):
        return OnPolicyLoop(agent, envs)
    if isinstance(agent, A3C):
        make = partial(worker_env, job.env_id, job.run.seed, wrap=wrap_of(job))
        return AsynchronousLoop(agent, make, job.run.n_envs)
    size = job.config.buffer_size
    spaces = agent.observation_space, agent.action_space
    try:
        buffer = ReplayBuffer(size, *spaces, job.run.seed, agent.device, job.run.n_envs)
    except (RuntimeError, MemoryError, ValueError) as error:  # the last if bytes overflow
        raise UserError(f"no memory for a --buffer-size of {size:,}: {error}") from None
    return OffPolicyLoop(agent, envs, buffer)


def at_random(agent: Agent) -> Any:
    """A ``predict`` that chooses uniformly."""

    def predict(observation: Any, *_: Any, **__: Any) -> tuple[np.ndarray, None]:
        return agent.random_actions(agent.layout.count(observation)), None

    return predict


def settle(job: Job, scratch: Agent) -> RunOptions:
    """Measures what "auto" leaves open, with throw-away updates of ``scratch``, and prints it."""
    run, device = job.run, job.run.device
    if isinstance(scratch, A3C):
        print(f"workers: {run.n_envs} processes, one thread each")
        return replace(run, threads=1, compile="no", vectorization="sync")
    noise: Any = (
        random_rollout(scratch, run.n_envs)
        if isinstance(scratch, A2C)
        else random_batch(scratch, job.config.batch_size)
    )
    threads, how = choose_threads(run.threads, lambda: scratch.update(noise))
    compile_, why = choose_compile(run.compile, expected_updates(job), device)
    way, rates = choose_vectorization(job.env_id, run.n_envs, run.vectorization)
    if run.randomization is not None and way == "vector_entry_point":
        way = "sync"  # nothing can be put around what is inside the other
    print(f"device: {device}")
    print(f"threads: {threads} ({how})")
    print(f"torch.compile: {'on' if compile_ else 'off'} ({why})")
    print(f"environments: {run.n_envs}, {way} ({rates})")
    chosen = {"threads": threads, "compile": "yes" if compile_ else "no", "vectorization": way}
    return replace(run, **chosen)  # type: ignore[arg-type]


def expected_updates(job: Job) -> int:
    """Gradient steps of the whole run."""
    config, steps = job.config, job.run.total_steps
    if job.algorithm == "a2c":
        return int(steps / (config.n_steps * job.run.n_envs))
    per_phase = config.train_freq if config.gradient_steps == -1 else config.gradient_steps
    return int(max(steps - config.learning_starts, 0) / config.train_freq * per_phase)
