"""Headless OpenGL for MuJoCo: find a backend that works before MuJoCo is imported."""

import os
import subprocess
import sys

BACKENDS = ("egl", "osmesa")

_PROBE = """
import mujoco
context = mujoco.GLContext(64, 64)
context.make_current()
mujoco.MjrContext(mujoco.MjModel.from_xml_string("<mujoco/>"), mujoco.mjtFontScale.mjFONTSCALE_100)
"""


def probe(backend: str) -> bool:
    """Whether MuJoCo can draw with ``backend``, tried in a process of its own: it may crash."""
    environment = {**os.environ, "MUJOCO_GL": backend}
    environment.pop("PYOPENGL_PLATFORM", None)
    command = [sys.executable, "-c", _PROBE]
    done = subprocess.run(command, env=environment, capture_output=True, timeout=120)
    return done.returncode == 0


def set_up() -> str | None:
    """Sets MUJOCO_GL unless it is set already; returns the backend, None if none works.

    MuJoCo reads the variable once, at import: call this first.
    """
    if "MUJOCO_GL" in os.environ:
        return os.environ["MUJOCO_GL"]
    for backend in BACKENDS:
        if probe(backend):
            os.environ["MUJOCO_GL"] = backend
            return backend
    return None


def explain(error: Exception) -> str:
    """One line for an error that drawing raised; says what to install if OpenGL is missing."""
    if "MUJOCO_GL" in os.environ:
        return " ".join(str(error).split()) or type(error).__name__
    return (
        "no OpenGL backend works, neither EGL nor OSMesa; install one, "
        "e.g. `apt-get install libegl1 libgl1-mesa-dri` or `apt-get install libosmesa6`"
    )
