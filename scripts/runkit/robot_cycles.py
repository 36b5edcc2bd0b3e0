"""Whether robot environments that are made and closed again and again leave anything behind.

    PYTHONPATH=scripts python -m runkit.robot_cycles  # writes results/robotics/cycles.md

A cycle makes an environment, resets it, steps once, draws once and closes it. After the first
tenth of the cycles what is kept on purpose, such as meshes, is there; the table says what the
others added.
"""

import ctypes
import gc
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runkit import PYTHONPATH, ROOT, gl
from runkit.arguments import parse
from runkit.benchmark.tables import table
from runkit.errors import UserError, run_main
from runkit.rundir import machine, versions, write_text

PAGE = ROOT / "results" / "robotics" / "cycles.md"
TASKS = ("PandaReach", "PandaPush", "PandaGrasp", "TableLocalise")
ENVS = [f"{engine}/{task}-v0" for task in TASKS for engine in ("bullet", "mujoco")]
ENVS.append("bullet/KukaGrasp-v0")
END = "<!-- end -->\n"  # below it stands what people write


@dataclass(frozen=True)
class Arguments:
    """Makes and closes environments, each in a process of its own."""

    cycles: int = 1000
    out: Path = PAGE
    envs: tuple[str, ...] = tuple(ENVS)

    def __post_init__(self) -> None:
        if self.cycles < 20:
            raise ValueError(f"cycles must be 20 or more, not {self.cycles}")


class _Mallinfo(ctypes.Structure):
    """glibc's ``struct mallinfo2``: ten numbers, of which two are wanted."""

    _fields_ = (
        ("_before", ctypes.c_size_t * 4),
        ("hblkhd", ctypes.c_size_t),  # bytes in blocks of their own
        ("_between", ctypes.c_size_t * 2),
        ("uordblks", ctypes.c_size_t),  # bytes in all others
        ("_after", ctypes.c_size_t * 2),
    )


def left() -> tuple[int, int, int, int]:
    """What the process holds: kB of memory, kB that were asked for, open files, threads.

    Threads that come and go leave gaps in memory which the first figure counts, and another time
    does not; the second has no chance in it, but misses what was not got from malloc.
    """
    gc.collect()
    libc = ctypes.CDLL(None)
    libc.malloc_trim(0)  # what is free goes back to the system
    libc.mallinfo2.restype = _Mallinfo
    info = libc.mallinfo2()
    asked = (info.uordblks + info.hblkhd) // 1024
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    kilobytes = pages * os.sysconf("SC_PAGE_SIZE") // 1024
    files, threads = (len(os.listdir(f"/proc/self/{name}")) for name in ("fd", "task"))
    return kilobytes, asked, files, threads


def measure(env_id: str, cycles: int) -> list[int]:
    """What the last nine tenths of the cycles added to ``left``, in this process."""
    import gymnasium as gym

    import envs  # noqa: F401  # registers

    smaller: dict[str, Any] = {"render_size": (64, 64)} if "Panda" in env_id else {}
    before = left()
    for i in range(cycles):
        if i == cycles // 10:
            before = left()
        env = gym.make(env_id, render_mode="rgb_array", **smaller)
        env.reset(seed=i)
        env.step(env.action_space.sample())
        env.render()
        env.close()
    return [now - then for now, then in zip(left(), before, strict=True)]


def main(args: list[str]) -> int:
    arguments = parse(Arguments, args, "robot_cycles", __doc__ or "")
    gl.set_up()
    rows = []
    for env_id in arguments.envs:
        command = [sys.executable, "-c", _MEASURE, env_id, str(arguments.cycles)]
        environment = {**os.environ, "PYTHONPATH": PYTHONPATH}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise UserError(f"{env_id}: {done.stderr.strip().splitlines()[-1]}")
        memory, asked, files, threads = map(int, done.stdout.split())
        each = 1024 * asked / (arguments.cycles - arguments.cycles // 10)
        figures = [f"{memory:,}", f"{asked:,}", f"{each:,.0f}", str(files), str(threads)]
        rows.append([f"`{env_id}`", *figures])
        print(" | ".join(rows[-1]), flush=True)
    header = ["", "kB resident", "kB asked for", "bytes of it a cycle", "open files", "threads"]
    known = ", ".join(f"{name} {version}" for name, version in versions().items())
    below = arguments.out.read_text().partition(END)[2] if arguments.out.exists() else ""
    write_text(
        arguments.out,
        f"""# Made and closed {arguments.cycles:,} times

```sh
PYTHONPATH=scripts python -m runkit.robot_cycles
```

A cycle makes an environment, resets it, steps once, draws once and closes it, all in one process.
What the last nine tenths of the cycles left behind ({machine()}; {known}):

{table(header, rows).rstrip()}
{END}{below}""",
    )
    return 0


_MEASURE = """
import sys
from runkit import robot_cycles
print(*robot_cycles.measure(sys.argv[1], int(sys.argv[2])))
"""

if __name__ == "__main__":
    run_main(main)
