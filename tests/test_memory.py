"""What is freed stays with the process, and is not fetched from the system page by page."""

import platform
import subprocess
import sys

import pytest
from command import ROOT

# Page faults of allocating and freeing three times 2 MB a hundred times over.
FAULTS = """
import resource, numpy as np
from runkit.memory import keep_freed_memory
{call}
def work(times):
    for _ in range(times):
        arrays = [np.ones(250_000) for _ in range(3)]
        del arrays
work(10)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work(100)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(call: str) -> int:
    code = FAULTS.format(call=call)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "scripts", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_freed_memory_is_used_again() -> None:
    pages = 100 * 3 * 2_000_000 // 4096
    assert faults("") > pages / 2  # what it is against
    assert faults("keep_freed_memory()") < pages / 100
