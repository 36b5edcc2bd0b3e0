"""The benchmark on Ray: a real cluster of two nodes, one of whose workers is killed."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import benchmark
import command
import pytest
from benchmarks import LONG, lines, no_process_is_left, start, write_suite  # noqa: F401
from lifecycle import descendants

pytestmark = pytest.mark.lifecycle


@pytest.fixture
def address() -> Iterator[str]:
    """A cluster of two nodes with one core each, on this machine."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    yield cluster.address
    cluster.shutdown()


def ray_workers() -> dict[int, list[int]]:
    """Ray's workers on this machine that have started a cell -> the processes they started."""
    found = {}
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = file.read_bytes()
        except OSError:
            continue
        if line.startswith(b"ray::work") and (cells := descendants(int(file.parent.name))):
            found[int(file.parent.name)] = cells
    return found


def test_two_nodes_and_a_worker_killed_in_the_middle(address: str, tmp_path: Path) -> None:
    file, out = write_suite(tmp_path, **LONG), tmp_path / "out"
    process = start(file, out, "--ray", "--ray-address", address)
    ours = out / "work/a2c-CartPole-v1-40k-defaults-firsthand-seed0"
    deadline = time.monotonic() + 240
    while len(ray_workers()) < 2 or not (ours / "run/checkpoint/state.json").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    cells = ray_workers()
    assert len(cells) == 2, "each node has a cell"
    victim = next(pid for pid, started in cells.items() if is_of(started[0], ours))
    os.kill(victim, signal.SIGKILL)
    stdout, stderr = process.communicate(timeout=400)
    assert process.returncode == 0, stderr
    records = lines(out)
    assert sorted((r["arm"], r["status"]) for r in records) == [
        ("firsthand", "finished"),
        ("stable_baselines3", "finished"),
    ], stdout
    [again] = [record for record in records if record["arm"] == "firsthand"]
    steps = [evaluation["step"] for evaluation in again["evaluations"]]
    assert steps == list(range(0, 40_001, 1000))


def is_of(pid: int, folder: Path) -> bool:
    """Whether the process writes its output into the folder."""
    return Path(os.readlink(f"/proc/{pid}/fd/1")).parent == folder


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense"])
def test_no_cluster_at_an_address_is_one_line(tmp_path: Path, address: str) -> None:
    file, out = write_suite(tmp_path), tmp_path / "out"
    outcome = command.run(benchmark.main, file, "--out", out, "--ray-address", address)
    command.assert_error(outcome, f"no Ray cluster at {address}")


def test_an_embedded_cluster(tmp_path: Path) -> None:
    file, out = write_suite(tmp_path), tmp_path / "out"
    process = start(file, out, "--ray", "--jobs", "2")
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    assert [record["status"] for record in lines(out)] == ["finished"] * 2
