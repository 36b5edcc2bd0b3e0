"""Rollouts to H.264 video, streamed frame by frame, and read back before we call it a video."""

import os
from pathlib import Path
from typing import Any

import cv2
import gymnasium as gym
import imageio_ffmpeg
import numpy as np
from numpy.typing import ArrayLike

from runkit.environments import make_env

from agents.evaluation import EVALUATION_SEED

SMALLEST_HEIGHT = 400  # of a video, in pixels; smaller pictures are enlarged


class RenderError(Exception):
    """The environment could not draw itself."""


def make_drawable(env_id: str) -> gym.Env[Any, Any]:
    """The environment in render mode rgb_array; MuJoCo's robots are followed as they run."""
    if "DISPLAY" not in os.environ:
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # else pygame complains on stderr
    env = make_env(env_id, render_mode="rgb_array")
    renderer = getattr(env.unwrapped, "mujoco_renderer", None)
    if renderer is not None:
        _follow(renderer)
    return env


def _follow(renderer: Any) -> None:
    """Looks through the model's camera "track", over a floor without an end, and draws plainly.

    Left alone, Gymnasium 1.4 draws with a camera that stands still, and the floor that is drawn
    ends after 40 m, though physics' floor does not. Nothing here touches the simulation.
    """
    import mujoco  # here, because it reads MUJOCO_GL when it is imported

    model = renderer.model
    cameras = [model.camera(i).name for i in range(model.ncam)]
    if "track" in cameras:
        renderer.camera_id = cameras.index("track")
    for geom in np.flatnonzero(model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE):
        size, material = model.geom_size[geom, :2].copy(), model.geom_matid[geom]
        if size.all() and material >= 0:  # size zero is MuJoCo's sign for "drawn without end"
            model.mat_texrepeat[material] /= 2 * size  # then counts per metre
            model.geom_size[geom, :2] = 0
    model.vis.quality.shadowsize = 1024  # without a GPU these two are most of the drawing time
    model.vis.quality.offsamples = 0


def record(
    agent: Any, env: gym.Env[Any, Any], out: Path, episodes: int = 1, seed: int = EVALUATION_SEED
) -> list[float]:
    """Plays deterministic episodes in ``env`` (render_mode rgb_array) and writes them to ``out``.

    The file appears under its name only when it is complete and every frame can be decoded.
    Returns the return of each episode; raises RenderError if the environment cannot draw.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.stem}.{os.getpid()}.tmp.mp4")
    try:
        returns, frames = _write(agent, env, temporary, episodes, seed)
        _verify(temporary, frames)
        os.replace(temporary, out)
    finally:
        temporary.unlink(missing_ok=True)
    return returns


def record_median(agent: Any, env_id: str, returns: ArrayLike, out: Path) -> float:
    """Films the episode whose return was the median of an evaluation; returns the filmed return.

    Raises RenderError or UserError if the environment cannot be made or drawn.
    """
    order = np.argsort(np.asarray(returns))
    median = int(order[len(order) // 2])
    env = make_drawable(env_id)
    (filmed,) = record(agent, env, out, seed=EVALUATION_SEED + median)
    env.close()
    return filmed


def _write(
    agent: Any, env: gym.Env[Any, Any], file: Path, episodes: int, seed: int
) -> tuple[list[float], int]:
    writer, returns, frames, blank = None, [], 0, 0
    try:
        for episode in range(episodes):
            observation, _ = env.reset(seed=seed + episode)
            step, total, reward, done, state = 0, 0.0, 0.0, False, None
            while True:
                frame = _draw(env)
                frames, blank = frames + 1, blank + bool(frame.min() == frame.max())
                if writer is None:
                    writer = _open(file, frame.shape, env.metadata.get("render_fps", 30))
                writer.send(_overlay(frame, step, reward, total))
                if done:
                    break
                action, state = agent.predict(observation, state, deterministic=True)
                observation, env_reward, terminated, truncated, _ = env.step(action)
                reward = float(env_reward)
                step, total, done = step + 1, total + reward, terminated or truncated
            returns.append(total)
    finally:
        if writer is not None:
            writer.close()
    if blank > frames / 2:  # what a lost OpenGL context looks like: no error, no picture
        raise RenderError(f"{blank} of {frames} frames are of one flat colour")
    return returns, frames


def _open(file: Path, shape: tuple[int, ...], fps: float) -> Any:
    size = (shape[1], shape[0])
    writer = imageio_ffmpeg.write_frames(
        str(file), size, fps=fps, codec="libx264", quality=7, macro_block_size=2
    )
    writer.send(None)
    return writer


def _draw(env: gym.Env[Any, Any]) -> np.ndarray:
    """One frame [H, W, 3]. H.264 needs even sides: an odd last row or column is dropped."""
    try:
        frame: Any = env.render()
    except Exception as error:  # each renderer raises what it likes
        raise RenderError(str(error)) from error
    if not isinstance(frame, np.ndarray):
        raise RenderError("the environment draws nothing in render mode rgb_array")
    factor = -(-SMALLEST_HEIGHT // frame.shape[0])  # an Atari screen has 210 rows
    frame = frame.repeat(factor, axis=0).repeat(factor, axis=1)
    height, width = frame.shape[:2]
    return np.ascontiguousarray(frame[: height // 2 * 2, : width // 2 * 2], dtype=np.uint8)


def _overlay(frame: np.ndarray, step: int, reward: float, total: float) -> np.ndarray:
    """Writes step, reward and return in white on a darkened corner, top left."""
    lines = [f"step {step}", f"reward {reward:.2f}", f"return {total:.1f}"]
    scale = max(frame.shape[0] / 800, 0.35)
    height = int(30 * scale)
    frame[: height * len(lines) + 10, : int(215 * scale)] //= 3
    for row, text in enumerate(lines, start=1):
        where = (8, height * row)
        white, font = (255, 255, 255), cv2.FONT_HERSHEY_SIMPLEX
        cv2.putText(frame, text, where, font, scale, white, 1, cv2.LINE_AA)
    return frame


def _verify(file: Path, frames: int) -> None:
    """Decodes the whole file; raises RenderError unless it holds exactly ``frames`` frames."""
    reader = imageio_ffmpeg.read_frames(str(file))
    next(reader)  # the first item describes the file
    decoded = sum(1 for _ in reader)
    if decoded != frames:
        raise RenderError(f"the video is damaged: {decoded} of {frames} frames can be read")
