"""Who may import whom and what, read from the code itself."""

import ast
import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervised import PAPERS

ROOT = Path(__file__).resolve().parents[1]

# Package -> those of ours that it may import besides itself. scripts/ is no package: its helper
# package scripts/runkit is imported as "runkit".
MAY_IMPORT: dict[str, set[str]] = {
    "supervised": set(),
    "agents": {"supervised"},
    "envs": set(),
    "sim2real": {"envs", "agents", "supervised"},
    "scripts": {"supervised", "agents", "envs", "sim2real", "runkit"},
}
OURS = {*MAY_IMPORT, "runkit"}

UNPICKLING = {"pickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "torch.load"}
# What belongs to scripts/: arguments, logs, progress, pictures.
REPORTING = {
    "argparse",
    "imageio_ffmpeg",
    "logging",
    "matplotlib",
    "rich",
    "tensorboard",
    "torch.utils.tensorboard",
    "tqdm",
    "tyro",
}
SIMULATORS = {"mujoco", "pybullet"}
# Paper -> the papers that it builds on and may import.
BUILDS_ON: dict[str, set[str]] = {}
FORBIDDEN = {"agents": REPORTING | SIMULATORS, "supervised": REPORTING}


def violations(package: str, source: str) -> list[str]:
    """What ``source``, a module of ``package``, uses and must not; one line each."""
    tree = ast.parse(source)
    names = [*imports(tree, package), *attributes(tree)]
    forbidden = UNPICKLING | FORBIDDEN.get(package, set())
    forbidden |= OURS - MAY_IMPORT[package] - {package}
    found = [
        f"{package} uses {name}"
        for name in names
        if any(name == f or name.startswith(f"{f}.") for f in forbidden)
    ]
    found += [
        f"{package} calls with allow_pickle"
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        for keyword in call.keywords
        if keyword.arg == "allow_pickle" and getattr(keyword.value, "value", None) is not False
    ]
    return found


def papers_imported(key: str, source: str) -> set[str]:
    """Keys of the papers, other than its own, whose modules a paper's module imports."""
    names = set(imports(ast.parse(source), "supervised"))
    return {
        other.key
        for other in PAPERS.values()
        if other.key != key
        and other.module is not None
        and any(name == other.module or name.startswith(f"{other.module}.") for name in names)
    }


def imports(tree: ast.AST, package: str) -> Iterator[str]:
    """Dotted names of all that is imported, anywhere in the module and in whichever way."""
    known = aliases(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # Python itself refuses a relative import that leaves the package.
            module = node.module if node.level == 0 else package
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and dotted(node.func, known) in {
            "importlib.import_module",
            "builtins.__import__",
            "__import__",
        }:
            arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
            for argument in arguments:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield argument.value


def attributes(tree: ast.AST) -> Iterator[str]:
    """Dotted names of the attributes that are read, such as "torch.load"."""
    known = aliases(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and (name := dotted(node, known)):
            yield name


def aliases(tree: ast.AST) -> dict[str, str]:
    """Name in the module -> dotted name of what was imported under it."""
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.split(".")[0]
                known[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            for alias in node.names:
                known[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return known


def dotted(node: ast.expr, known: dict[str, str]) -> str | None:
    """The name "a.b.c" of such an expression if its first part was imported, else None."""
    if isinstance(node, ast.Name):
        return known.get(node.id, node.id if node.id == "__import__" else None)
    if isinstance(node, ast.Attribute) and (left := dotted(node.value, known)):
        return f"{left}.{node.attr}"
    return None


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_every_module_keeps_to_the_rules(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files, f"no module of {package} found: the test looks in the wrong place"
    found = [
        f"{file.relative_to(ROOT)}: {violation}"
        for file in files
        for violation in violations(package, file.read_text())
    ]
    assert found == []


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("supervised", "import agents"),
        ("supervised", "def f():\n    from agents.sac import SAC"),
        ("supervised", "__import__('sim2real')"),
        ("supervised", "import rich.progress"),
        ("agents", "import envs"),
        ("agents", "import numpy, sim2real.arm as arm"),
        ("agents", "from scripts import runkit"),
        ("agents", "if True:\n    import argparse"),
        ("agents", "import logging"),
        ("agents", "from torch.utils import tensorboard"),
        ("agents", "from torch.utils.tensorboard import SummaryWriter"),
        ("agents", "import torch.utils\ntorch.utils.tensorboard.SummaryWriter()"),
        ("agents", "import mujoco"),
        ("agents", "def f():\n    import pybullet as p"),
        ("envs", "from agents import load"),
        ("envs", "import supervised.data"),
        ("envs", "from importlib import import_module as get\nget('agents.sac')"),
        ("sim2real", "import runkit"),
        ("sim2real", "import importlib as i\ni.import_module(name='runkit.gl')"),
        ("scripts", "import pickle"),
        ("envs", "from joblib import dump"),
        ("scripts", "import torch\ntorch.load('x')"),
        ("scripts", "import torch as t\nread = t.load"),
        ("scripts", "from torch import load"),
        ("scripts", "import numpy as np\nnp.load('x', allow_pickle=True)"),
    ],
)
def test_checker_finds_what_is_forbidden(package: str, source: str) -> None:
    assert len(violations(package, source)) >= 1


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("supervised", "from supervised.data import find\nfrom . import data\nimport torch"),
        ("agents", "from supervised import create\nfrom agents.sac import SAC"),
        ("agents", "import agentsmith, richer, torch.utils.data"),
        ("agents", "import json\njson.load(open('pickle'))  # import logging"),
        ("envs", "import mujoco, pybullet\nimport logging"),
        ("sim2real", "import agents.sac, envs\nfrom supervised import create"),
        ("scripts", "import runkit.gl, rich, tyro\nfrom torch.utils.tensorboard import x"),
        ("scripts", "import numpy as np\nnp.load('x', allow_pickle=False)"),
    ],
)
def test_checker_accepts_what_is_allowed(package: str, source: str) -> None:
    assert violations(package, source) == []


def test_papers_import_only_what_they_build_on() -> None:
    for file in (ROOT / "supervised").glob("*/*.py"):
        if (key := file.stem) in PAPERS:
            assert papers_imported(key, file.read_text()) <= BUILDS_ON.get(key, set()), file


def test_papers_imported() -> None:
    source = "from supervised.vision.vgg import x\nimport supervised.foundations.adam as a\n"
    source += "from supervised.vision import resnet, unet\nfrom supervised.fit import Fit"
    assert papers_imported("unet", source) == {"vgg", "adam", "resnet"}


@pytest.mark.parametrize("name", ["agents", "envs", "sim2real", "supervised"])
def test_packages_are_those_of_this_checkout(name: str) -> None:
    file = importlib.import_module(name).__file__
    assert file is not None
    assert Path(file).resolve() == ROOT / name / "__init__.py"


def test_a_shadowing_package_is_one_line_of_error(tmp_path: Path) -> None:
    """The names are common: somebody else's ``agents`` may come first on the path."""
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "__init__.py").touch()
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "scripts/train_agent.py", "--help"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
    )
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert str(tmp_path / "agents") in line
    assert done.returncode == 2
