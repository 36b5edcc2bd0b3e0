"""Draw the simulator's data sets with PyBullet: train.safetensors, test.safetensors, classes.json.

python scripts/render_dataset.py simulator_classes --count 5000 --test-count 1000
"""

import json
import multiprocessing as mp
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import tyro
from rich.console import Console
from rich.progress import track
from safetensors.numpy import save_file

from runkit.arguments import check_seed, parse
from runkit.errors import UserError, run_main

if TYPE_CHECKING:
    from runkit.studio import Picture, Studio


@dataclass(frozen=True)
class Arguments:
    """Pictures of one object each with its class (simulator_classes), or of two to four objects
    with masks and poses (simulator_masks). The same arguments always draw the same pictures.
    """

    name: Annotated[
        Literal["simulator_classes", "simulator_masks"],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="SET"),
    ]  # simulator_classes or simulator_masks
    count: int = 5000  # training pictures
    test_count: int = 1000  # test pictures, with textures, colours, poses and views of their own
    size: int = 64  # height and width of a picture
    seed: int = 0  # of everything random
    jobs: int = os.cpu_count() or 1  # processes that draw
    out: Path | None = None  # folder; default: $FIRSTHAND_DATA/SET, or ~/.cache/firsthand/SET
    overwrite: bool = False  # replace the folder if it is there

    def __post_init__(self) -> None:
        for name, most in [("count", 1_000_000), ("test_count", 1_000_000), ("jobs", 1024)]:
            if not 1 <= getattr(self, name) <= most:
                raise ValueError(f"{name} must lie in 1 to {most:,}, not {getattr(self, name)}")
        if not 16 <= self.size <= 512:
            raise ValueError(f"size must lie in 16 to 512, not {self.size}")
        check_seed(self.seed)


_studios: "dict[tuple[Arguments, int], Studio]" = {}  # of this process, by split


def _draw(arguments: Arguments, task: tuple[int, int]) -> "Picture":
    """A split's picture with an index."""
    # PyBullet is only imported once the arguments are known to be good: it prints a line.
    from runkit.studio import Studio

    split, index = task
    key = arguments, split
    if key not in _studios:
        _studios[key] = Studio(arguments.name, arguments.seed, split, arguments.size)
    return _studios[key].draw(index)


def _leave_interrupts_alone() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its children


def _pictures(arguments: Arguments) -> Iterator["Picture"]:
    """The training pictures, then the test pictures."""
    draw = partial(_draw, arguments)
    tasks = [(0, i) for i in range(arguments.count)] + [(1, i) for i in range(arguments.test_count)]
    if arguments.jobs == 1:
        yield from map(draw, tasks)
        return
    # Spawned: a fork would inherit locks of threads that are not there.
    with mp.get_context("spawn").Pool(arguments.jobs, _leave_interrupts_alone) as pool:
        yield from pool.imap(draw, tasks, chunksize=16)


def tensors(name: str, drawn: list["Picture"]) -> dict[str, np.ndarray]:
    """The arrays that a split's file holds, by name.

    inputs: uint8 [N, 3, S, S].
    targets: int64 [N], the class; or of masks uint8 [N, S, S], 0 for table and floor and else the
        class. Numbers are those of classes.json.
    And of masks
    instances: uint8 [N, S, S], 0 for table and floor, i for what row i - 1 of poses describes.
    poses: float32 [N, 4, 8]: class, position x y z (metres), quaternion x y z w, in the world's
        frame (z up, 0 on the table); rows of zeros where there are fewer objects.
    views: float32 [N, 4, 4], world -> camera (which looks along -z).
    """
    inputs = np.stack([picture.pixels for picture in drawn])
    if name == "simulator_classes":
        targets = np.array([picture.classes[0] for picture in drawn], np.int64)
        return {"inputs": inputs, "targets": targets}
    poses = np.zeros((len(drawn), 4, 8), np.float32)
    masks = []
    for row, picture in zip(poses, drawn, strict=True):
        row[: len(picture.poses), 0] = picture.classes + 1
        row[: len(picture.poses), 1:] = picture.poses
        masks.append(np.array([0, *(picture.classes + 1)], np.uint8)[picture.instances])
    return {
        "inputs": inputs,
        "targets": np.stack(masks),
        "instances": np.stack([picture.instances for picture in drawn]),
        "poses": poses,
        "views": np.stack([picture.view for picture in drawn]),
    }


def write(arguments: Arguments, folder: Path) -> None:
    """Draws both splits into ``folder``, which is there and empty."""
    console = Console()
    pictures = iter(
        track(
            _pictures(arguments),
            arguments.name,
            total=arguments.count + arguments.test_count,
            console=console,
            disable=not console.is_terminal,
        )
    )
    for name, count in [("train", arguments.count), ("test", arguments.test_count)]:
        drawn = [next(pictures) for _ in range(count)]
        # safetensors takes C order for granted.
        arrays = {k: np.ascontiguousarray(a) for k, a in tensors(arguments.name, drawn).items()}
        save_file(arrays, folder / f"{name}.safetensors")

    from runkit import studio

    classes = list(studio.SCENES[arguments.name].classes)
    if arguments.name == "simulator_masks":
        classes.insert(0, "background")
    settings = {
        **{name: getattr(arguments, name) for name in ("count", "test_count", "size", "seed")},
        "pybullet": version("pybullet"),
        "renderer": studio.RENDERER,
        "field_of_view": studio.FIELD_OF_VIEW,
    }
    (folder / "classes.json").write_text(json.dumps(classes) + "\n")
    (folder / "settings.json").write_text(json.dumps(settings, indent=2) + "\n")


def replace(new: Path, folder: Path) -> None:
    """Puts ``new`` in the place of ``folder``, at once if that is not there."""
    if not folder.exists():
        new.rename(folder)
        return
    old = new.with_name(f"{new.name}.old")
    folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old)


def main(args: list[str]) -> int:
    arguments = parse(Arguments, args, "render_dataset.py", __doc__)
    data = Path(os.environ.get("FIRSTHAND_DATA") or "~/.cache/firsthand").expanduser()
    folder = arguments.out or data / arguments.name
    if folder.exists() and not arguments.overwrite:
        raise UserError(f"{folder} is there already; --overwrite replaces it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    temporary.mkdir()
    try:
        write(arguments, temporary)
        replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    print(f"{folder} ({arguments.count:,} + {arguments.test_count:,} pictures)")
    return 0


if __name__ == "__main__":
    run_main(main)
