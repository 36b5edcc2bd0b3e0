"""Experiments of the supervised papers, a module each, named by the paper's key.

Such a module has

    DATASETS = ("mnist", "digits")  # what --dataset takes; the first is the default
    @dataclass(frozen=True)
    class Options: ...              # the experiment's own flags
    def run(run: PaperRun, options: Options) -> dict[str, float | str | list[float]]

``run`` trains, draws, and returns the figures for summary.json. It has to be a function of its
arguments and of PyTorch's, NumPy's and Python's global random numbers, which are seeded: when a
run is resumed it is called again, and ``PaperRun.train`` skips what is done already.
"""

import difflib
import importlib
import pkgutil
from types import ModuleType

from runkit.errors import UserError

from supervised import PAPERS


def experiment(key: str) -> ModuleType:
    """The module of a paper's experiment; UserError if there is no such paper, or it has none."""
    if key not in PAPERS:
        near = difflib.get_close_matches(key, PAPERS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UserError(f"unknown paper {key!r}; {hint}--list shows them all")
    module = PAPERS[key].module
    if module is not None and module.startswith("agents."):
        raise UserError(f"{key} is an agent: python scripts/train_agent.py {key} ENV_ID")
    if key not in available():
        listed = ", ".join(available()) or "none yet"
        raise UserError(f"{key} has no experiment yet; there is: {listed}")
    return importlib.import_module(f"{__name__}.{key}")


def available() -> list[str]:
    """Keys of the papers with an experiment."""
    found = {module.name for module in pkgutil.iter_modules(__path__)}
    return [key for key in PAPERS if key in found]
