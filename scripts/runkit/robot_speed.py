"""How fast the robot environments step and draw, beside panda-gym's.

    PYTHONPATH=scripts python -m runkit.robot_speed  # adds to results/robotics/speed.jsonl

Every measurement is a process of its own on one core, in turn, round after round, and one line of
speed.jsonl; the tables go between their markers in results/robotics/speed.md. Nothing else should
run meanwhile. All step with 20 substeps of 2 ms, with random actions of the tool, and reset when an
episode ends; frames are of the same size, and nothing is stepped between them but one control step.
panda-gym is optional: without it, ours are measured alone.
"""

import importlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from runkit import PYTHONPATH, ROOT, gl
from runkit.arguments import parse
from runkit.benchmark.tables import table
from runkit.errors import UserError, run_main
from runkit.rundir import machine, versions, write_text

from agents.state import parse_json

OUT = ROOT / "results" / "robotics"
OURS = [
    f"{engine}/{task}-v0"
    for task in ("PandaReach", "PandaPush", "PandaGrasp", "TableLocalise")
    for engine in ("bullet", "mujoco")
]
OURS.append("bullet/KukaGrasp-v0")
THEIRS = {"PandaReach-v3": "PandaReach-v0", "PandaPickAndPlace-v3": "PandaGrasp-v0"}
SIZES = {"steps": None, "720x480": (720, 480), "84x84": (84, 84)}
MARKER = re.compile(r"(<!-- robot speed -->\n).*?(<!-- end -->)", re.DOTALL)
BARS = {"bullet": 2.0, "mujoco": 4.0}  # of steps; of frames 2 in both
FORMAT = 1
FIELDS = ("env", "what", "round", "rate")


@dataclass(frozen=True)
class Arguments:
    """Measures what is missing of so many rounds, and makes the table anew."""

    rounds: int = 3  # of every measurement
    seconds: float = 3.0  # timed, a measurement
    out: Path = OUT  # folder
    envs: tuple[str, ...] = ()  # ids, ours or panda-gym's; default: all

    def __post_init__(self) -> None:
        if self.rounds < 1 or not 0 < self.seconds <= 600:
            raise ValueError("rounds must be positive, and seconds lie in 0 to 600")


def peer_missing() -> str | None:
    """Why panda-gym is not measured, or None if it can be."""
    if importlib.util.find_spec("panda_gym") is None:
        return "panda-gym is not installed (pip install panda-gym): ours are measured alone"
    return None


def measurable(env_id: str, what: str) -> bool:
    """Whether there is such a figure: the Kuka's own camera has one size alone."""
    return what == "steps" or env_id != "bullet/KukaGrasp-v0"


def rate(env_id: str, what: str, seconds: float) -> float:
    """Steps or frames a second of one environment, in this process."""
    env = _make(env_id, SIZES[what])
    space = env.action_space
    space.seed(0)
    actions = [space.sample() for _ in range(64)]
    env.reset(seed=0)
    done, count, start = False, 0, 0.0
    warm = time.perf_counter() + min(1.0, seconds)
    while True:
        if done:
            env.reset()
        _, _, terminated, truncated, _ = env.step(actions[count % 64])
        done = terminated or truncated
        if SIZES[what] is not None:
            # Their pictures and ours are what render() gives: a new one of the present state.
            env.render()
        count += 1
        now = time.perf_counter()
        if start and now - start >= seconds:
            env.close()
            return count / (now - start)
        if not start and now >= warm:
            start, count = now, 0


def _make(env_id: str, size: tuple[int, int] | None) -> Any:
    """The environment; drawing at ``size``, width and height, if there is one."""
    mode: dict[str, Any] = {} if size is None else {"render_mode": "rgb_array"}
    if env_id in THEIRS:
        import gymnasium as gym

        importlib.import_module("panda_gym")  # registers its environments
        if size is not None:
            mode |= {"renderer": "Tiny", "render_width": size[0], "render_height": size[1]}
        return gym.make(env_id, disable_env_checker=True, **mode)
    from runkit.environments import make_env

    env = make_env(env_id, **mode)
    return env if size is None else _Sized(env, size)


class _Sized:
    """One of ours whose ``render`` draws at a size, from its engine's own camera."""

    def __init__(self, env: Any, size: tuple[int, int]) -> None:
        inner = env.unwrapped
        self.env, self.size = env, size
        if hasattr(inner, "render_size"):
            inner.render_size = size
        elif hasattr(inner, "engine"):
            camera = inner.scene.cameras[0].name
            inner.render = lambda: inner.engine.rgb(camera, *size)
        else:
            raise UserError(f"{env.spec.id} draws at its own size alone")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.env, name)

    def render(self) -> Any:
        picture = self.env.unwrapped.render()
        if picture.shape[:2] != self.size[::-1]:
            raise UserError(f"a picture is {picture.shape}, not of {self.size}")
        return picture


def read(file: Path) -> list[dict[str, Any]]:
    """The lines of speed.jsonl; raises UserError for a damaged one."""
    text = file.read_text(errors="replace") if file.exists() else ""
    lines = []
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            entry = parse_json(line)
            if entry["format"] != FORMAT:
                raise ValueError("it is of another version")
            [entry[name] for name in FIELDS]
            float(entry["rate"])
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{file}, line {number} is damaged: {error}; delete it") from None
        lines.append(entry)
    return lines


def measure(arguments: Arguments) -> None:
    """Adds what is missing, in turn; prints it."""
    file = arguments.out / "speed.jsonl"
    lines = read(file)
    known = {tuple(line[name] for name in FIELDS[:3]) for line in lines}
    missing = peer_missing()
    if missing:
        print(missing, file=sys.stderr)
    wanted = arguments.envs or (*(() if missing else THEIRS), *OURS)
    for name in wanted:
        if name not in OURS and name not in THEIRS:
            raise UserError(f"{name!r} is not measured; there are: {', '.join((*THEIRS, *OURS))}")
        if name in THEIRS and missing:
            raise UserError(missing)
    tried = [(r, env, what) for r in range(arguments.rounds) for env in wanted for what in SIZES]
    for round_, env, what in tried:
        if (env, what, round_) in known or not measurable(env, what):
            continue
        entry = {"format": FORMAT, "env": env, "what": what, "round": round_}
        entry |= {"rate": _measured(env, what, arguments.seconds), "seconds": arguments.seconds}
        entry |= {"machine": machine(), "load": os.getloadavg()[0], "versions": _versions()}
        lines.append(entry)
        write_text(file, "".join(f"{json.dumps(line)}\n" for line in lines))
        print(f"round {round_}  {env}  {what}  {entry['rate']:,.1f}")


def _versions() -> dict[str, str]:
    found = versions() | {"pybullet": version("pybullet")}
    return found if peer_missing() else found | {"panda_gym": version("panda_gym")}


def _measured(env: str, what: str, seconds: float) -> float:
    """In a process of its own, on one core and one thread."""
    code = f"from runkit.robot_speed import rate; print(rate({env!r}, {what!r}, {seconds!r}))"
    path = os.pathsep.join(filter(None, [PYTHONPATH, os.environ.get("PYTHONPATH")]))
    core = {max(os.sched_getaffinity(0))}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "LP_NUM_THREADS": "1"},
        preexec_fn=lambda: os.sched_setaffinity(0, core),
    )
    if done.returncode:
        raise UserError(f"{env} failed: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    return float(done.stdout.splitlines()[-1])


def medians(lines: list[dict[str, Any]]) -> dict[tuple[str, str], float]:
    """(environment, what) -> the median over rounds."""
    found: dict[tuple[str, str], list[float]] = {}
    for line in lines:
        found.setdefault((line["env"], line["what"]), []).append(float(line["rate"]))
    return {key: sorted(rates)[(len(rates) - 1) // 2] for key, rates in found.items()}


def speed_table(lines: list[dict[str, Any]]) -> str:
    """Steps and frames a second, and how many times theirs that is: Markdown."""
    rates = medians(lines)
    theirs = {ours: name for name, ours in THEIRS.items()}
    rows = []
    for env in dict.fromkeys(env for env, _ in rates):
        peer = theirs.get(env.split("/")[-1])
        cells = [f"`{env}`"]
        for what in SIZES:
            mine, other = rates.get((env, what)), rates.get((peer or "", what))
            text = "-" if mine is None else f"{mine:,.0f}" if mine >= 20 else f"{mine:.1f}"
            cells.append(text if not (mine and other) else f"{text} ({mine / other:.1f}×)")
        rows.append(cells)
    return table(["", "steps/s", "frames/s, 720x480", "frames/s, 84x84"], rows)


def report(out: Path, lines: list[dict[str, Any]]) -> None:
    """Writes the table into speed.md; what people write around it stays."""
    page = out / "speed.md"
    if not page.exists():
        bars = " and ".join(f"{bar:g}× ({engine})" for engine, bar in BARS.items())
        text = f"""# Robot environments, steps and frames a second

```sh
PYTHONPATH=scripts python -m runkit.robot_speed
```

On one core, medians over rounds in which everything takes its turn. A control step is 20 substeps
of 2 ms, the actions are random displacements of the tool; a frame is a control step and a picture.
In brackets: how many times panda-gym's. PandaReach is set beside its PandaReach-v3, PandaGrasp
beside its PandaPickAndPlace-v3. Wanted are {bars} of its steps,
and 2× of its frames. KukaGrasp's step is 80 substeps and a picture, TableLocalise's is a scene
that is laid out and looked at.

<!-- robot speed -->
<!-- end -->
"""
        write_text(page, text)
    old = page.read_text()
    if len(MARKER.findall(old)) != 1:
        raise UserError(f"{page} has no place for the table, or two")
    filled = MARKER.sub(lambda match: f"{match[1]}{speed_table(lines)}{match[2]}", old)
    if filled != old:
        write_text(page, filled)


def main(args: list[str]) -> int:
    arguments = parse(Arguments, args, "robot_speed", __doc__ or "")
    gl.set_up()
    arguments.out.mkdir(parents=True, exist_ok=True)
    measure(arguments)
    report(arguments.out, read(arguments.out / "speed.jsonl"))
    return 0


if __name__ == "__main__":
    run_main(main)
