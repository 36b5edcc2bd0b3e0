"""Train an agent on a Gymnasium environment.

    python scripts/train_agent.py sac HalfCheetah-v4
    python scripts/train_agent.py sac Pendulum-v1 --seed 3 --total-steps 20000
    python scripts/train_agent.py sac HalfCheetah-v4 --resume runs/…

``train_agent.py ALGO ENV_ID --help`` lists every flag with its default for that pair.
"""

import difflib
from dataclasses import dataclass, make_dataclass
from pathlib import Path
from typing import Any

from runkit import gl
from runkit.arguments import RunOptions, parse, resumes, split
from runkit.errors import UserError, run_main
from runkit.rundir import RunDir, write_json
from runkit.training import CHANGEABLE, Job, Training

from agents import ALGORITHMS
from agents.presets import find_preset

PROG = "train_agent.py"


def main(args: list[str]) -> int:
    names, flags = split(args)
    if "-h" in flags or "--help" in flags:
        return show_help(names, flags)
    gl.set_up()
    if resumes(flags):
        return resume(names, flags)
    if len(names) != 2:
        raise UserError(f"give an algorithm and an environment: {PROG} sac HalfCheetah-v4")
    algorithm, env_id = check_algorithm(names[0]), names[1]
    arguments = parse_flags(algorithm, env_id, flags)
    return Training.start(Job(algorithm, env_id, arguments.run, arguments.config)).finish()


def check_algorithm(name: str) -> str:
    if name in ALGORITHMS:
        return name
    near = difflib.get_close_matches(name, ALGORITHMS, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise UserError(f"unknown algorithm {name!r}; {hint}there is: {', '.join(ALGORITHMS)}")


def parse_flags(algorithm: str, env_id: str, flags: list[str]) -> Any:
    """Flags over the preset for this pair over the defaults."""
    preset = find_preset(algorithm, env_id)
    _, config_type = ALGORITHMS[algorithm]
    # All flags, as one dataclass: those of the run and those of the algorithm.
    arguments_type = make_dataclass("Arguments", [("run", RunOptions), ("config", config_type)])
    run = RunOptions(preset.total_steps, n_envs=preset.n_envs)
    default = arguments_type(run, config_type(**preset.overrides))
    chosen = {"total_steps": preset.total_steps, "n_envs": preset.n_envs, **preset.overrides}
    listed = ", ".join(f"{name} = {value}" for name, value in chosen.items())
    description = f"{algorithm} on {env_id}. Preset ({preset.source}): {listed}."
    prog = f"{PROG} {algorithm} {env_id}"
    return parse(arguments_type, flags, prog, description, default=default)


def show_help(names: list[str], flags: list[str]) -> int:
    print(__doc__)
    print(f"algorithms: {', '.join(ALGORITHMS)}\n")
    if names:
        parse_flags(check_algorithm(names[0]), [*names, "ENV_ID"][1], flags)
    return 0


@dataclass(frozen=True)
class ResumeArguments:
    """What a resumed run may change; everything else stays as it was."""

    resume: Path  # the run directory
    total_steps: int | None = None  # train to here instead
    checkpoint_every: int | None = None  # environment steps between two checkpoints
    eval_every: int | None = None  # environment steps between two evaluations


def resume(names: list[str], flags: list[str]) -> int:
    arguments = parse(ResumeArguments, flags, f"{PROG} … --resume RUN_DIR")
    folder = RunDir(arguments.resume)
    saved = folder.read_config()
    algorithm = check_algorithm(saved["algorithm"])
    if names and names != [algorithm, saved["env_id"]][: len(names)]:
        was = f"{algorithm} {saved['env_id']}"
        raise UserError(f"{folder.path} is a run of {was}, not of {' '.join(names)}")
    changes = {
        name: value for name in CHANGEABLE if (value := getattr(arguments, name)) is not None
    }
    training = Training.resume(Job.read(folder, **changes), folder)
    if changes:
        write_json(folder.config, saved | {"run": saved["run"] | changes})
    return training.finish()


if __name__ == "__main__":
    run_main(main)
