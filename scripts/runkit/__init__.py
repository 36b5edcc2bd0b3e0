"""What the scripts share: run directories, logging, progress, checkpoints, video, arguments.

Importing it makes sure that ``agents``, ``envs``, ``sim2real`` and ``supervised`` are the ones of
this checkout: the names are common, and another package called ``agents`` may be installed.
"""

import importlib.util
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# For processes that run a script of runkit itself, which does not lie beside the packages.
PYTHONPATH = os.pathsep.join([str(ROOT), str(ROOT / "scripts")])


def _check_packages() -> None:
    def fail(message: str) -> None:
        print(f"error: {message}", file=sys.stderr)
        sys.exit(2)

    for name in ["agents", "envs", "sim2real", "supervised"]:
        spec = importlib.util.find_spec(name)
        origin = spec.origin if spec else None
        if origin is None:
            fail(f"package {name!r} not found; run `make .venv` in {ROOT} and use that Python")
        elif Path(origin).resolve().parent != ROOT / name:
            fail(f"package {name!r} is shadowed by {origin}; uninstall that one")


_check_packages()
