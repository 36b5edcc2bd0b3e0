"""Rollouts to H.264 video, streamed frame by frame, and read back before we call it a video."""

import os
from pathlib import Path
from typing import Any

import cv2
import gymnasium as gym
import imageio_ffmpeg
import numpy as np

from agents.evaluation import EVALUATION_SEED


class RenderError(Exception):
    """The environment could not draw itself."""


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


def _write(
    agent: Any, env: gym.Env[Any, Any], file: Path, episodes: int, seed: int
) -> tuple[list[float], int]:
    writer, returns, frames = None, [], 0
    try:
        for episode in range(episodes):
            observation, _ = env.reset(seed=seed + episode)
            step, total, reward, done = 0, 0.0, 0.0, False
            while True:
                frame = _overlay(_draw(env), step, reward, total)
                if writer is None:
                    writer = _open(file, frame.shape, env.metadata.get("render_fps", 30))
                writer.send(frame)
                frames += 1
                if done:
                    break
                action = agent.act(observation, deterministic=True)
                observation, env_reward, terminated, truncated, _ = env.step(action)
                reward = float(env_reward)
                step, total, done = step + 1, total + reward, terminated or truncated
            returns.append(total)
    finally:
        if writer is not None:
            writer.close()
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
    height, width = frame.shape[:2]
    return np.ascontiguousarray(frame[: height // 2 * 2, : width // 2 * 2], dtype=np.uint8)


def _overlay(frame: np.ndarray, step: int, reward: float, total: float) -> np.ndarray:
    """Writes step, reward and return into the top left corner, white on a dark outline."""
    lines = [f"step {step}", f"reward {reward:.2f}", f"return {total:.1f}"]
    scale = max(frame.shape[0] / 800, 0.35)
    for row, text in enumerate(lines, start=1):
        for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
            where = (8, int(30 * scale * row + 6))
            cv2.putText(
                frame, text, where, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, thickness, cv2.LINE_AA
            )
    return frame


def _verify(file: Path, frames: int) -> None:
    """Decodes the whole file; raises RenderError unless it holds exactly ``frames`` frames."""
    reader = imageio_ffmpeg.read_frames(str(file))
    next(reader)  # the first item describes the file
    decoded = sum(1 for _ in reader)
    if decoded != frames:
        raise RenderError(f"the video is damaged: {decoded} of {frames} frames can be read")
