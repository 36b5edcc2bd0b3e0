"""What works on this machine: Python packages, OpenGL backends, GPU, video encoder, threads.

python scripts/doctor.py
"""

import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import gymnasium as gym
import imageio_ffmpeg
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from runkit import ROOT, gl, robot_speed, video
from runkit.arguments import parse
from runkit.devices import choose_compile, measure_threads
from runkit.environments import choose_vectorization, make_envs
from runkit.errors import UserError, run_main
from runkit.rundir import machine

from agents import SAC
from agents.off_policy import random_batch

PACKAGES = ["torch", "numpy", "gymnasium", "mujoco", "pybullet", "ale-py", "Box2D"]
PACKAGES += ["safetensors", "stable-baselines3"]
ENVIRONMENTS = ["Pendulum-v1", "LunarLander-v3", "HalfCheetah-v4", "HalfCheetah-v5"]
ENVIRONMENTS += ["HalfCheetahBulletEnv-v0", "PongNoFrameskip-v4"]
VECTORIZED = ["CartPole-v1", "HalfCheetah-v4"]
ROBOT_SECONDS = 0.3  # of each measurement of a robot


@dataclass(frozen=True)
class Arguments:
    """No flags: it looks, and changes nothing."""


def main(args: list[str]) -> int:
    parse(Arguments, args, "doctor.py", __doc__)
    backends = {backend: gl.probe(backend) for backend in gl.BACKENDS}
    gl.set_up()
    table = Table("what", "found", title="Firsthand doctor", title_justify="left")
    table.add_row("checkout", str(ROOT))
    table.add_row("machine", machine())
    table.add_row("python", platform.python_version())
    for name in PACKAGES:
        table.add_row(name, _version(name))
    for backend, works in backends.items():
        table.add_row(f"OpenGL: {backend}", "draws" if works else "does not work")
    table.add_row("OpenGL: used", os.environ.get("MUJOCO_GL", "none; videos will be missing"))
    table.add_row("GPU", torch.cuda.get_device_name() if torch.cuda.is_available() else "none")
    table.add_row("compiler", shutil.which("g++") or shutil.which("clang++") or "none")
    table.add_row("torch.compile", choose_compile("auto", 10**9, "cpu")[1])
    table.add_row("ffmpeg", Path(imageio_ffmpeg.get_ffmpeg_exe()).name)
    for env_id in ENVIRONMENTS:
        table.add_row(env_id, _attempt(partial(_steps_per_second, env_id)))
    for env_id in robot_speed.OURS:
        table.add_row(env_id, _attempt(partial(_robot, env_id)))
    for env_id in VECTORIZED:
        table.add_row(f"8 x {env_id}", _attempt(partial(_vectorizations, env_id)))
    table.add_row("H.264 video", _attempt(_video))
    for line in _threads():
        table.add_row("SAC updates", line)
    Console().print(table)
    return 0


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _attempt(check: Callable[[], str]) -> str:
    """The check's finding, or why it failed: the doctor reports, it does not stop."""
    try:
        return check()
    except (UserError, video.RenderError, OSError) as error:
        return f"fails: {' '.join(str(error).split())}"


def _steps_per_second(env_id: str) -> str:
    envs = make_envs(env_id, 1, seed=0)
    envs.reset()
    action = envs.action_space.sample()
    start, steps = time.perf_counter(), 0
    while time.perf_counter() - start < 0.5:
        envs.step(action)
        steps += 1
    return f"{steps / (time.perf_counter() - start):,.0f} steps/s"


def _robot(env_id: str) -> str:
    """Steps a second, and small pictures a second where the environment's camera takes them."""
    kinds = [kind for kind in ("steps", "84x84") if robot_speed.measurable(env_id, kind)]
    rates = [robot_speed.rate(env_id, kind, ROBOT_SECONDS) for kind in kinds]
    texts = ["steps/s", "frames/s at 84x84"]
    return ", ".join(f"{rate:,.0f} {text}" for rate, text in zip(rates, texts, strict=False))


def _vectorizations(env_id: str) -> str:
    return choose_vectorization(env_id, 8, "auto")[1]


def _video() -> str:
    """Draws, encodes and decodes a second of an untrained cheetah."""
    env: gym.Env[Any, Any] = gym.wrappers.TimeLimit(
        video.make_drawable("HalfCheetah-v4"), max_episode_steps=20
    )
    agent = SAC(env.observation_space, env.action_space)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        video.record(agent, env, Path(folder) / "doctor.mp4")
        seconds = time.perf_counter() - start
    env.close()
    return f"21 frames drawn, encoded and read back in {seconds:.1f} s"


def _threads() -> list[str]:
    """Updates per second of SAC at HalfCheetah's size, batch 256, by thread count."""
    observations = gym.spaces.Box(-np.inf, np.inf, (17,))
    agent = SAC(observations, gym.spaces.Box(-1.0, 1.0, (6,)))
    batch = random_batch(agent, 256)
    rates = measure_threads(lambda: agent.update(batch))
    return [f"{rate:.0f} a second on {n} thread(s)" for n, rate in rates.items()]


if __name__ == "__main__":
    run_main(main)
