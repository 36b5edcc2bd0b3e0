"""Render a trained policy to an H.264 video with step, reward and return on the frames.

python scripts/record_video.py runs/sac-HalfCheetah-v4-seed0-… --out cheetah.mp4
"""

from dataclasses import dataclass
from pathlib import Path

from runkit import gl, video
from runkit.arguments import RunDirectory, parse
from runkit.errors import UserError, run_main
from runkit.rundir import RunDir

from agents import load
from agents.evaluation import EVALUATION_SEED


@dataclass(frozen=True)
class Arguments:
    """Deterministic episodes of a run's policy as a video."""

    run_dir: RunDirectory  # what train_agent.py made
    out: Path | None = None  # default: RUN_DIR/videos/seedS.mp4; replaced if it exists
    episodes: int = 1  # how many, one after the other
    seed: int = EVALUATION_SEED  # of the first episode

    def __post_init__(self) -> None:
        if self.episodes < 1:
            raise ValueError(f"episodes must be positive, not {self.episodes}")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, as {self.seed} is")
        if self.out is not None and self.out.suffix != ".mp4":
            raise ValueError(f"out must end in .mp4, and {self.out} does not")


def main(args: list[str]) -> int:
    arguments = parse(Arguments, args, "record_video.py", __doc__)
    gl.set_up()
    folder = RunDir(arguments.run_dir)
    config = folder.read_config()
    agent = load(arguments.run_dir)
    out = arguments.out or folder.videos / f"seed{arguments.seed}.mp4"
    try:
        env = video.make_drawable(config["env_id"])
        returns = video.record(agent, env, out, arguments.episodes, arguments.seed)
    except video.RenderError as error:
        raise UserError(gl.explain(error)) from None
    env.close()
    listed = ", ".join(f"{value:.1f}" for value in returns)
    print(f"{out} (return {listed})")
    return 0


if __name__ == "__main__":
    run_main(main)
