"""Pictures of a domain on disk, drawn by as many processes as there are cores.

    FOLDER/dataset.json           of what, and the domain's digest
    FOLDER/00000.safetensors, …   some hundred pictures each: pictures uint8 [n, 3, S, S],
                                  positions float32 [n, 3] in metres, places float32 [n, 5, 2]
                                  across the picture (see ``views.place``), visible float32 [n]
    FOLDER/00000.jsonl, …         what was drawn for them, a line a picture

Picture i follows from the domain, the seed and i alone: neither the number of processes nor what
was drawn before matters, and any picture can be drawn again from its line. A shard appears when it
is whole, so that a set that was stopped is gone on with, and one that is there can be made longer.
"""

import fcntl
import json
import multiprocessing as mp
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch import Tensor

from agents.state import read_json
from envs.robotics.scene import Scene
from sim2real.domains import Domain, SealedError
from sim2real.views import place

FORMAT = 2


class DatasetError(ValueError):
    """A set of pictures is missing, damaged, or of something else."""


@dataclass(frozen=True)
class Request:
    """Which pictures: everything that their pixels follow from, but for their numbers."""

    domain: Domain
    target: str  # the object to be found
    size: int  # height and width of a picture
    seed: int
    visibility: bool = False  # whether what covers the object is measured, four times as slow
    shard: int = 256  # pictures a file

    def record(self) -> dict[str, Any]:
        """As ``dataset.json`` has it."""
        return {
            "format": FORMAT,
            "domain": self.domain.name,
            "sha256": self.domain.sha256,
            "sealed": self.domain.sealed,
            "target": self.target,
            "size": self.size,
            "seed": self.seed,
            "visibility": self.visibility,
            "shard": self.shard,
        }


@dataclass(frozen=True)
class Picture:
    """One picture with what is known of it."""

    pixels: np.ndarray  # uint8 [S, S, 3]
    position: np.ndarray  # float64 [3], metres
    places: np.ndarray  # float64 [5, 2], where in the picture that and the workspace's corners are
    visible: float  # share of the target's pixels that nothing covers; NaN if not measured
    drawn: dict[str, Any]  # parameter -> value


@dataclass(frozen=True)
class Pictures:
    """A set in memory."""

    pictures: Tensor  # uint8 [N, 3, S, S]
    positions: Tensor  # float32 [N, 3], metres
    places: Tensor  # float32 [N, 5, 2]: the object's and the workspace's corners', from 0 to 1
    visible: Tensor  # float32 [N]; NaN where it was not measured
    low: tuple[float, ...]  # corners of the workspace, metres
    high: tuple[float, ...]
    about: dict[str, Any]  # dataset.json


def make(request: Request) -> gym.Env[Any, Any]:
    """The environment that draws."""
    return request.domain.make(request.target, request.size, visibility=request.visibility)


def draw(env: gym.Env[Any, Any], request: Request, index: int) -> Picture:
    """Picture ``index``."""
    pixels, info = env.reset(seed=(request.seed << 32) + index)
    scene: Scene = env.get_wrapper_attr("scene")
    low, high = env.get_wrapper_attr("low"), env.get_wrapper_attr("high")
    corners = [(x, y, low[2]) for x in (low[0], high[0]) for y in (low[1], high[1])]
    points = [info["position"], *corners]
    places = np.stack([place(scene.cameras[0], info["domain"], point) for point in points])
    return Picture(pixels, info["position"], places, info["visible"], info["domain"])


def generate(
    request: Request,
    folder: Path,
    count: int,
    jobs: int = 1,
    on_shard: Callable[[int], bool] | None = None,
) -> None:
    """Draws what is missing of the first ``count`` pictures, in whole shards.

    Args:
        request: which pictures.
        folder: made if it is not there.
        count: of pictures, at least.
        jobs: processes.
        on_shard: gets the number of pictures that are there; False stops, between two shards.

    Raises:
        DatasetError: the folder holds other pictures.

    """
    if not (count >= 1 and jobs >= 1):
        raise ValueError(f"count and jobs must be positive, not {count} and {jobs}")
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        _claim(request, folder)
        shards = range(-(-count // request.shard))
        missing = [shard for shard in shards if not _file(folder, shard).exists()]
        done = len(shards) - len(missing)
        if (on_shard is not None and not on_shard(done * request.shard)) or not missing:
            return
        with _workers(min(jobs, len(missing))) as each:
            for _ in each(partial(_write_shard, request, folder), missing):
                done += 1
                if on_shard is not None and not on_shard(done * request.shard):
                    return


def load(folder: Path, count: int | None = None) -> Pictures:
    """The first ``count`` pictures of a folder, or all; DatasetError if there are fewer."""
    about = _about(folder)
    shard, size = about["shard"], about["size"]
    there = 0
    while _file(folder, there).exists():
        there += 1
    count = there * shard if count is None else count
    if not 0 < count <= there * shard:
        raise DatasetError(f"{folder} holds {there * shard:,} pictures, not {count:,}")
    # Filled shard by shard: two copies of a large set would not fit.
    whole = {
        name: torch.empty(count, *shape, dtype=torch.uint8 if type_ is np.uint8 else torch.float32)
        for name, (type_, shape) in _arrays(size).items()
    }
    for first in range(0, count, shard):
        part = _read_shard(_file(folder, first // shard), shard, size)
        rows = slice(first, min(first + shard, count))
        for name, tensor in whole.items():
            tensor[rows] = torch.from_numpy(part[name][: rows.stop - first])
    return Pictures(**whole, low=tuple(about["low"]), high=tuple(about["high"]), about=about)


def load_for_training(folder: Path, count: int | None = None, ceiling: bool = False) -> Pictures:
    """The same, but SealedError for pictures of a sealed domain, unless for the ceiling."""
    about = _about(folder)
    if about["sealed"] and not ceiling:
        raise SealedError(f"{folder} holds pictures of {about['domain']}, which is sealed")
    return load(folder, count)


def draws(folder: Path, count: int) -> list[dict[str, Any]]:
    """What was drawn for the first ``count`` pictures: parameter -> value."""
    found: list[dict[str, Any]] = []
    shard = _about(folder)["shard"]
    while len(found) < count:
        file = _file(folder, len(found) // shard).with_suffix(".jsonl")
        try:
            found += [json.loads(line) for line in file.read_text().splitlines()]
        except (OSError, ValueError) as error:
            raise DatasetError(f"{file} is missing or damaged: {error}") from None
    return found[:count]


# -- inside ----------------------------------------------------------------------------------------

_envs: dict[str, gym.Env[Any, Any]] = {}  # of this process: building one takes seconds


@contextmanager
def _workers(jobs: int) -> Iterator[Callable[..., Iterable[Any]]]:
    """A ``map`` whose results come as they are made."""
    if jobs == 1:
        try:
            yield map
        finally:
            while _envs:
                _envs.popitem()[1].close()
        return
    # Spawned: a fork would inherit locks of threads that are not there, and contexts of OpenGL.
    with mp.get_context("spawn").Pool(jobs, _leave_interrupts_alone) as pool:
        yield pool.imap_unordered


def _write_shard(request: Request, folder: Path, shard: int) -> None:
    key = json.dumps(request.record())
    if key not in _envs:
        _envs[key] = make(request)
    numbers = range(shard * request.shard, (shard + 1) * request.shard)
    drawn = [draw(_envs[key], request, index) for index in numbers]
    arrays = {
        # safetensors takes C order for granted.
        "pictures": np.ascontiguousarray(np.stack([p.pixels for p in drawn]).transpose(0, 3, 1, 2)),
        "positions": np.stack([p.position for p in drawn]).astype(np.float32),
        "places": np.stack([p.places for p in drawn]).astype(np.float32),
        "visible": np.array([p.visible for p in drawn], np.float32),
    }
    file = _file(folder, shard)
    lines = "".join(json.dumps(picture.drawn) + "\n" for picture in drawn)
    _write(file.with_suffix(".jsonl"), lambda temporary: temporary.write_text(lines))
    _write(file, lambda temporary: save_file(arrays, temporary))  # last: it makes the shard whole


def _arrays(size: int) -> dict[str, tuple[type, tuple[int, ...]]]:
    """Of a shard: name -> type and shape of a row."""
    return {
        "pictures": (np.uint8, (3, size, size)),
        "positions": (np.float32, (3,)),
        "places": (np.float32, (5, 2)),
        "visible": (np.float32, ()),
    }


def _write(file: Path, write: Callable[[Path], Any]) -> None:
    """The whole file or none."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


def _leave_interrupts_alone() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its children


def _file(folder: Path, shard: int) -> Path:
    return folder / f"{shard:05d}.safetensors"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keeps a second process from drawing into the folder; a killed one leaves no lock."""
    with open(folder / ".lock", "w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DatasetError(f"another process is drawing into {folder}") from None
        for left in folder.glob(".*.tmp"):  # by one that was killed
            left.unlink()
        yield


def _claim(request: Request, folder: Path) -> None:
    """Writes ``dataset.json``, or compares it."""
    file = folder / "dataset.json"
    wanted = request.record()
    if file.exists():
        about = _about(folder)
        for name, value in wanted.items():
            # The same content may have been derived in another way.
            if name != "domain" and about.get(name) != value:
                raise DatasetError(
                    f"{folder} holds pictures with {name} {about.get(name)!r}, not {value!r}"
                )
        return
    env = make(request)
    corners = {side: list(env.get_wrapper_attr(side)) for side in ("low", "high")}
    env.close()
    text = json.dumps(wanted | corners, indent=2) + "\n"
    _write(file, lambda temporary: temporary.write_text(text))


def _about(folder: Path) -> dict[str, Any]:
    file = folder / "dataset.json"
    try:
        about: dict[str, Any] = read_json(file)
        if about["format"] != FORMAT or about["sealed"] not in (True, False):
            raise ValueError("it is of another format")
    except FileNotFoundError:
        raise DatasetError(f"{folder} holds no pictures: {file.name} is missing") from None
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"{file} is damaged: {error}") from None
    return about


def _read_shard(file: Path, shard: int, size: int) -> dict[str, np.ndarray]:
    try:
        part: dict[str, np.ndarray] = load_file(file)
    except (SafetensorError, OSError) as error:
        raise DatasetError(f"{file} is damaged: {error}") from None
    found = {name: (array.dtype.type, array.shape) for name, array in part.items()}
    if found != {name: (type_, (shard, *shape)) for name, (type_, shape) in _arrays(size).items()}:
        raise DatasetError(f"{file} is damaged: it holds {found}")
    return part
