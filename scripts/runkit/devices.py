"""Which device, how many threads, and whether to compile: measured here, printed, remembered."""

import os
import shutil
import time
from collections.abc import Callable
from typing import Any, Literal

import torch

from runkit.errors import UserError

# torch.compile costs 10-20 s at the start and takes 1-2 ms off an update.
UPDATES_WORTH_COMPILING = 10_000


def choose_device(device: str) -> Literal["cpu", "cuda"]:
    """Resolves "auto", "cpu" or "cuda"."""
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device cuda was asked for, and PyTorch sees none here; use --device cpu")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return "cuda" if device == "cuda" else "cpu"


def choose_threads(threads: int | str, update: Callable[[], Any]) -> tuple[int, str]:
    """Sets PyTorch's thread count; "auto" takes the fastest for ``update``.

    Returns the count and how it was found, for printing. More threads than there is work for
    make small networks slower, by how much depends on the machine and what else runs on it.
    """
    if threads != "auto":
        torch.set_num_threads(int(threads))
        return int(threads), "as asked"
    rates = measure_threads(update)
    best = max(rates, key=rates.__getitem__)
    torch.set_num_threads(best)
    return best, ", ".join(f"{n}: {rate:.0f} updates/s" for n, rate in rates.items())


def measure_threads(update: Callable[[], Any]) -> dict[int, float]:
    """Calls of ``update`` a second by thread count: 1, 2, 4, … up to the usable cores."""
    return {n: _rate(update, n) for n in thread_counts()}


def thread_counts() -> list[int]:
    """The thread counts worth trying on this machine."""
    usable = len(os.sched_getaffinity(0))
    return [n for n in (1, 2, 4, 8, 16) if n <= usable]


def _rate(update: Callable[[], Any], threads: int, seconds: float = 0.4) -> float:
    torch.set_num_threads(threads)
    for _ in range(5):
        update()
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        update()
        count += 1
    return count / (time.perf_counter() - start)


def choose_compile(choice: str, updates: int, device: str) -> tuple[bool, str]:
    """Resolves "auto", "yes" or "no": whether to use torch.compile, and why, for printing."""
    if choice == "no":
        return False, "as asked"
    if choice == "auto" and updates < UPDATES_WORTH_COMPILING:
        return False, f"{updates:,} updates are too few to pay for it"
    problem = _compiler_problem(device)
    if choice == "yes" and problem:
        raise UserError(f"--compile yes: {problem}")
    return not problem, problem or "takes some seconds at the first update"


def _compiler_problem(device: str) -> str:
    """Why torch.compile cannot work here, or "" if a trivial function compiled and ran."""
    if device == "cpu" and not (shutil.which("g++") or shutil.which("clang++")):
        return "no C++ compiler on the PATH"
    try:
        torch.compile(lambda x: x * 2 + 1)(torch.ones(8, device=device))
    except Exception as error:  # whatever a missing header or a broken toolchain raises
        return f"torch.compile does not work here: {str(error).splitlines()[0]}"
    return ""
