"""Pictures a second: one process that resets an environment for each, against the generator."""

import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from runkit import gl
from runkit.benchmark.tables import table
from runkit.rundir import machine, versions, write_json

from sim2real import dataset, domains
from sim2real.dataset import Request

FILE = "speed.json"


def measure(out: Path, domain: str, target: str, size: int, jobs: int, rounds: int) -> Path:
    """Both ways in turns, ``rounds`` times; writes OUT/speed.json."""
    gl.set_up()
    request = Request(domains.read(domain), target, size, seed=0)
    rates: dict[str, list[float]] = {"reset": [], "generator": []}
    for _ in range(rounds):
        rates["reset"].append(_one_at_a_time(request, request.shard))
        rates["generator"].append(_generator(request, jobs))
        print({way: f"{values[-1]:.1f}/s" for way, values in rates.items()}, flush=True)
    file = out / FILE
    out.mkdir(parents=True, exist_ok=True)
    about = {"domain": domain, "target": target, "size": size, "jobs": jobs}
    packages = ["numpy", "mujoco", "pybullet"]
    write_json(file, about | {"rates": rates, "machine": machine(), "versions": versions(packages)})
    return file


def _one_at_a_time(request: Request, count: int) -> float:
    """Pictures a second of ``env.reset``, with all that it gives."""
    env = dataset.make(replace(request, visibility=True))
    env.reset(seed=0)
    started = time.perf_counter()
    for index in range(count):
        env.reset(seed=index)
    rate = count / (time.perf_counter() - started)
    env.close()
    return rate


def _generator(request: Request, jobs: int) -> float:
    """Of the shards after the first of each process: starting up is paid once for a set."""
    ticks: list[float] = []

    def tick(_: int) -> bool:
        ticks.append(time.perf_counter())
        return True

    with tempfile.TemporaryDirectory() as folder:
        dataset.generate(request, Path(folder), 4 * jobs * request.shard, jobs, tick)
    warm = ticks[jobs:]  # the first came before any shard
    return (len(warm) - 1) * request.shard / (warm[-1] - warm[0])


def table_of(out: Path) -> str:
    """Medians, and how much faster the generator is."""
    file = out / FILE
    if not file.exists():
        return table(["", ""], [])
    found = json.loads(file.read_text())
    reset, generator = (sorted(found["rates"][way]) for way in ("reset", "generator"))
    one, many = reset[len(reset) // 2], generator[len(generator) // 2]
    named = f"{found['domain']}, {found['size']} px"
    head = ["pictures", "env.reset, one process", f"generator, {found['jobs']} processes", "faster"]
    return table(head, [[named, f"{one:.1f}/s", f"{many:.1f}/s", f"{many / one:.1f} times"]])
