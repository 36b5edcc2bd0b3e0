"""Evaluate a trained policy: deterministic episodes on held-out seeds.

python scripts/evaluate.py runs/sac-HalfCheetah-v4-seed0-… --episodes 20
"""

import json
from dataclasses import dataclass

from runkit.arguments import RunDirectory, parse
from runkit.environments import make_envs
from runkit.errors import UserError, run_main
from runkit.rundir import RunDir

from agents import load
from agents.evaluation import EVALUATION_SEED, play


@dataclass(frozen=True)
class Arguments:
    """Deterministic episodes of a run's policy; episode i is reset with seed + i."""

    run_dir: RunDirectory  # what train_agent.py made
    episodes: int = 10  # how many
    seed: int = EVALUATION_SEED  # of the first episode; training never uses seeds below 2^20
    json: bool = False  # print one JSON object instead of a line

    def __post_init__(self) -> None:
        if self.episodes < 1:
            raise ValueError(f"episodes must be positive, not {self.episodes}")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, as {self.seed} is")


def main(args: list[str]) -> int:
    arguments = parse(Arguments, args, "evaluate.py", __doc__)
    config = RunDir(arguments.run_dir).read_config()
    agent = load(arguments.run_dir)
    envs = make_envs(config["env_id"], arguments.episodes)
    if envs.single_observation_space != agent.observation_space:
        raise UserError(f"{arguments.run_dir}: the policy was not trained on {config['env_id']}")
    returns, successes = play(agent.predict, envs, arguments.seed)
    result = {
        "algorithm": config["algorithm"],
        "env_id": config["env_id"],
        "episodes": arguments.episodes,
        "seed": arguments.seed,
        "return_mean": float(returns.mean()),
        "return_std": float(returns.std()),
        "returns": returns.tolist(),
    }
    if successes is not None:
        result["success_rate"] = float(successes.mean())
    if arguments.json:
        print(json.dumps(result))
    else:
        mean, std = result["return_mean"], result["return_std"]
        print(f"{config['algorithm']} on {config['env_id']}: return {mean:.1f} ± {std:.1f}", end="")
        if successes is not None:
            print(f", {result['success_rate']:.0%} successes", end="")
        print(f" over {arguments.episodes} episodes, seeds from {arguments.seed}")
    return 0


if __name__ == "__main__":
    run_main(main)
