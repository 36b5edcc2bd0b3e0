"""The two physics engines side by side: what each can change, and the same motion in both.

    PYTHONPATH=scripts python -m runkit.parity  # writes results/robotics/parity.md and pictures

The first table is made from the engines' own tables. Motions are of PandaPush: from the same start
(seeds 0, 1, …) the tool is steered along the same places in both, and pushes an object.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import cv2
import gymnasium as gym
import numpy as np

from runkit import ROOT, gl
from runkit.benchmark.tables import table
from runkit.environments import make_env
from runkit.rundir import machine, versions, write_text
from runkit.scripted import steered, waypoints

from envs.robotics.parameters import scene_parameters
from envs.robotics.scene import Scene

OUT = ROOT / "results" / "robotics"
TASK = "PandaPush-v0"
ENGINES = {"mujoco": "MuJoCo", "bullet": "PyBullet"}
SEEDS = 5
STEPS = 50
MOMENTS = (0, 22, 50)  # steps of which there are pictures
SIZE = (360, 270)
COMMAND = "PYTHONPATH=scripts python -m runkit.parity"

Table = Mapping[str, str]  # glob of paths -> what is to be said of them


def engine_tables() -> dict[str, tuple[Table, Table]]:
    """Engine -> what it cannot change, and what only roughly."""
    from envs.robotics import bullet_engine, mujoco_engine

    return {
        "mujoco": (mujoco_engine.UNSUPPORTED, mujoco_engine.APPROXIMATED),
        "bullet": (bullet_engine.UNSUPPORTED, bullet_engine.APPROXIMATED),
    }


def properties(scene: Scene, engines: Mapping[str, tuple[Table, Table]]) -> str:
    """A row for each kind of property of a scene with two lights: Markdown."""
    lights = (scene.lights * 2)[:2]
    kinds: dict[str, str] = {}
    for path in scene_parameters(replace(scene, lights=lights)):
        kinds.setdefault(re.sub(r"^(body|joint|camera)\.[^.]+", r"\1.*", path), path)
    rows = []
    for kind, path in kinds.items():
        shown = re.sub(r"^light\.1", "light.[1-9]", kind)
        rows.append([f"`{shown}`", *(verdict(path, *engines[name]) for name in engines)])
    return table(["property", *(ENGINES[name] for name in engines)], rows)


def verdict(path: str, unsupported: Table, approximated: Table) -> str:
    """Whether an engine with these tables can change ``path``, and what is to be said of it."""
    for word, entries in (("no", unsupported), ("roughly", approximated)):
        for pattern, reason in entries.items():
            if fnmatchcase(path, pattern):
                return f"**{word}**: {reason}"
    return "yes"


class Motion:
    """What the same places asked of the tool lead to in each engine.

    tool, thing: engine -> positions in metres, [steps + 1, 3].
    pictures: engine -> one for each of MOMENTS; of the first seed alone.
    """

    def __init__(self, seed: int) -> None:
        self.tool: dict[str, np.ndarray] = {}
        self.thing: dict[str, np.ndarray] = {}
        self.pictures: dict[str, list[np.ndarray]] = {}
        for name in ENGINES:
            env = make_env(f"{name}/{TASK}", render_mode="rgb_array", render_size=SIZE)
            try:
                self._play(name, env, seed)
            finally:
                env.close()

    def _play(self, name: str, env: gym.Env[Any, Any], seed: int) -> None:
        space = env.action_space
        assert isinstance(space, gym.spaces.Box)
        observation, _ = env.reset(seed=seed)
        places = waypoints(observation, STEPS)
        tool, thing, pictures = [], [], []
        for step in range(STEPS + 1):
            if step:
                observation = env.step(steered(space, observation, places[step - 1]))[0]
            tool.append(observation["observation"][:3].copy())
            thing.append(observation["achieved_goal"].copy())
            if seed == 0 and step in MOMENTS:
                pictures.append(np.array(env.render()))
        self.tool[name], self.thing[name] = np.array(tool), np.array(thing)
        self.pictures[name] = pictures

    def apart(self, what: str) -> np.ndarray:
        """Metres between the engines, at each step."""
        first, second = getattr(self, what).values()
        return np.asarray(np.linalg.norm(first - second, axis=1))

    def travelled(self, what: str) -> float:
        """Metres from start to end in MuJoCo."""
        path = getattr(self, what)["mujoco"]
        return float(np.linalg.norm(path[-1] - path[0]))


def differences(motions: list[Motion]) -> str:
    """A row for each seed: Markdown."""
    rows = []
    for seed, motion in enumerate(motions):
        cells = [str(seed)]
        for what in ("tool", "thing"):
            apart = motion.apart(what)
            figures = (motion.travelled(what), apart.mean(), apart.max(), apart[-1])
            cells += [f"{1000 * figure:.1f}" for figure in figures]
        rows.append(cells)
    head = ["seed"]
    for what in ("tool", "object"):
        head += [f"{what} moves", "apart, mean", "most", "at the end"]
    return table(head, rows)


def draw_paths(motion: Motion, out: Path) -> None:
    """Positions over time in both engines, and how far they are apart."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(13, 3.6), dpi=110)
    seconds = 0.04 * np.arange(len(motion.tool["mujoco"]))
    for axis, what, title in zip(axes, ("tool", "thing"), ("tool", "pushed object"), strict=False):
        for i, (name, label) in enumerate(ENGINES.items()):
            for k in range(3):
                path = 100 * getattr(motion, what)[name][:, k]
                style = "-" if i == 0 else "--"
                axis.plot(seconds, path, style, color=f"C{k}", label=f"{'xyz'[k]}, {label}")
        axis.set(title=title, xlabel="seconds", ylabel="cm")
        axis.legend(fontsize=7, ncols=2)
    for what, label in (("tool", "tool"), ("thing", "object")):
        axes[2].plot(seconds, 1000 * motion.apart(what), label=label)
    axes[2].set(title="between the engines", xlabel="seconds", ylabel="mm")
    axes[2].legend()
    for axis in axes:
        axis.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(out)
    plt.close(figure)


def side_by_side(motion: Motion) -> np.ndarray:
    """A row for each engine, a column for each moment."""
    return np.vstack([np.hstack(motion.pictures[name]) for name in ENGINES])


def write(out: Path = OUT) -> None:
    """Writes parity.md and its pictures."""
    out.mkdir(parents=True, exist_ok=True)
    env = make_env(f"mujoco/{TASK}")
    scene: Scene = env.unwrapped.scene  # type: ignore[attr-defined]
    env.close()
    motions = [Motion(seed) for seed in range(SEEDS)]
    draw_paths(motions[0], out / "parity-paths.png")
    picture = side_by_side(motions[0])[..., ::-1]
    cv2.imwrite(str(out / "parity-pictures.png"), picture, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    moments = ", ".join(f"{0.04 * step:g}" for step in MOMENTS)
    made = ", ".join(f"{name} {v}" for name, v in versions().items())
    text = f"""# One scene, two physics engines

```sh
{COMMAND}
```

Made by that command from the engines themselves ({machine()}; {made}).

## What each engine can change

*No* is an error for whoever asks for it, with the reason given here; *roughly* works, with a
difference that is known.

{properties(scene, engine_tables())}
## The same motion in both

{TASK}, {STEPS} control steps of 40 ms from the same start: the tool is asked to go down behind the
object and to push it to its goal, the same places at the same times in both. How far it moves
in MuJoCo, and how far the engines are apart, in mm:

{differences(motions)}
![Positions of tool and object in both engines](parity-paths.png)

Seed 0, seen after {moments} seconds, in {" (above) and ".join(ENGINES.values())} (below):

![Both engines' pictures](parity-pictures.png)
"""
    write_text(out / "parity.md", text)


if __name__ == "__main__":
    gl.set_up()
    write()
