"""Data sets by name, as tensors.

    train = load("mnist").train
    train.inputs, train.targets, train.classes  # uint8 [60000, 1, 28, 28], int64 [60000], names

Files are looked for in the folder that ``$FIRSTHAND_DATA`` names, by default ~/.cache/firsthand,
one folder in it a set, as its publisher laid it out. What is absent is downloaded where it may
be, and else DataError says in one line what to put where. What is read must have the digest that
the publisher's file has, and is only ever parsed: nothing is unpickled.

| name | folder | train + test | inputs | targets |
|---|---|---|---|---|
| mnist | mnist | 60,000 + 10,000 | [1, 28, 28] | class |
| fashion_mnist | fashion-mnist | 60,000 + 10,000 | [1, 28, 28] | class |
| cifar10 | cifar-10-batches-bin | 10,000 a batch present + 10,000 | [3, 32, 32] | class |
| isbi2012 | isbi2012-em | 24 + 6 slices | [1, 512, 512] | mask: 0 membrane, 1 cell |
| digits | (scikit-learn) | 80% + 20% of 1,797 | [1, 8, 8], 0 to 16 | class |
| iris, breast_cancer, wine | (scikit-learn) | 80% + 20% | table | class |
| diabetes | (scikit-learn) | 80% + 20% of 442 | table | number |
| lfw_subset | (scikit-image) | 80% + 20% of 200 | [1, 25, 25] | class: face or not |
| simulator_classes | simulator_classes | as drawn | picture | class |
| simulator_masks | simulator_masks | as drawn | picture | mask |

Sets without a split of their own are divided once and for all: ``stratified_split`` with seed 0.
The slices of isbi2012 are one volume, so its last six, not any six, are the test.
"""

import difflib
import json
import os
import tarfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from supervised.download import DataError, check_digest, fetch, unzipped, write

__all__ = [
    "LOADERS",
    "DataError",
    "Dataset",
    "Splits",
    "load",
    "read_cifar10",
    "read_idx",
    "stratified_split",
]


@dataclass(frozen=True)
class Dataset:
    """Examples in rows; ValueError unless there is one target for each input.

    inputs: uint8 [N, C, H, W] for pictures, float32 [N, features] for tables.
    targets: int64 [N] classes, float32 [N] numbers, or uint8 [N, H, W] masks.
    classes: the names of the classes, by their number; empty for numbers.
    """

    inputs: Tensor
    targets: Tensor
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.targets):
            raise ValueError(f"{len(self.inputs)} inputs have {len(self.targets)} targets")

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, rows: Tensor | slice) -> "Dataset":
        """The examples in ``rows``: indices, a mask, or a slice."""
        return Dataset(self.inputs[rows], self.targets[rows], self.classes)


@dataclass(frozen=True)
class Splits:
    """What to learn from and what to be judged by."""

    train: Dataset
    test: Dataset


def load(name: str, root: Path | None = None) -> Splits:
    """The data set called ``name``; ``root`` stands in for $FIRSTHAND_DATA.

    Raises DataError, in one line, if there is no such set, or if its files are neither there nor
    to be had, or are damaged.
    """
    if name not in LOADERS:
        near = difflib.get_close_matches(name, LOADERS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise DataError(f"unknown data set {name!r}; {hint}there is: {', '.join(LOADERS)}")
    if root is None:
        root = Path(os.environ.get("FIRSTHAND_DATA") or "~/.cache/firsthand").expanduser()
    return LOADERS[name](root)


def stratified_split(dataset: Dataset, fraction: float, seed: int) -> tuple[Dataset, Dataset]:
    """Two parts in random order, the second with ``fraction`` of each class, to the nearest
    example. What has no classes (numbers, masks) is divided as if it were one class.

    The same dataset, fraction and seed always give the same parts. ValueError unless the fraction
    lies in [0, 1].
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction must lie in [0, 1], not {fraction}")
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(dataset), generator=generator)
    second = torch.zeros(len(dataset), dtype=torch.bool)
    if dataset.targets.dtype == torch.int64:
        groups = [order[dataset.targets[order] == c] for c in dataset.targets.unique()]
    else:
        groups = [order]
    for rows in groups:
        second[rows[: round(fraction * len(rows))]] = True
    return dataset.take(order[~second[order]]), dataset.take(order[second[order]])


# -- sets in files -------------------------------------------------------------------------------

MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
MNIST_DIGESTS = {
    "train-images-idx3-ubyte.gz": (
        "sha256:440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"
    ),
    "train-labels-idx1-ubyte.gz": (
        "sha256:3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"
    ),
    "t10k-images-idx3-ubyte.gz": (
        "sha256:8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"
    ),
    "t10k-labels-idx1-ubyte.gz": (
        "sha256:f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"
    ),
}
FASHION_MIRRORS = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
)
FASHION_DIGESTS = {  # as its publisher states them
    "train-images-idx3-ubyte.gz": "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "md5:25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "md5:bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "md5:bb300cfdad3c16e7a12a480ee83cd310",
}
FASHION_CLASSES = (
    *("T-shirt/top", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)

CIFAR10_ARCHIVE = "cifar-10-binary.tar.gz"
CIFAR10_MIRRORS = ("https://www.cs.toronto.edu/~kriz/",)
CIFAR10_DIGESTS = {
    CIFAR10_ARCHIVE: "md5:c32a1d4ab5d03f1284b67883e8d87530",  # as its publisher states it
    # Unzipped; the other batches are known by their size and labels alone.
    "data_batch_1.bin": "sha256:cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "test_batch.bin": "sha256:8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
}
CIFAR10_BATCH = 10_000  # pictures a file
CIFAR10_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)

# Of the decoded pixels of all 30 slices: PNGs of the same pictures may differ.
ISBI2012_DIGESTS = {
    "image": "sha256:200da3d452d726e6c9ca1ce04b869d4edb727320d23b516d01cce707dc8c4760",
    "label": "sha256:a7cb64000a1a7e542682927e19c91339f58f9f178e0bcce4e207371116f0ca36",
}


def _idx_set(folder: Path, digests: dict[str, str], mirrors: Sequence[str]) -> dict[str, Tensor]:
    """The four files of MNIST, or of what is laid out like it, by the beginning of their names."""
    found = {}
    for name, digest in digests.items():
        fetch(folder / name, digest, mirrors)
        found[name.split("-idx")[0]] = read_idx(folder / name)
    return found


def _mnist(root: Path) -> Splits:
    tensors = _idx_set(root / "mnist", MNIST_DIGESTS, MNIST_MIRRORS)
    return _from_idx(tensors, tuple("0123456789"))


def _fashion_mnist(root: Path) -> Splits:
    tensors = _idx_set(root / "fashion-mnist", FASHION_DIGESTS, FASHION_MIRRORS)
    return _from_idx(tensors, FASHION_CLASSES)


def _from_idx(tensors: dict[str, Tensor], classes: tuple[str, ...]) -> Splits:
    train, test = (
        Dataset(tensors[f"{part}-images"][:, None], tensors[f"{part}-labels"].long(), classes)
        for part in ("train", "t10k")
    )
    return Splits(train, test)


def read_idx(file: Path) -> Tensor:
    """The uint8 array of an idx file (LeCun's format for MNIST), gzipped or
    not, of up to four dimensions.

    Two zero bytes, 8 for "unsigned bytes", the number of dimensions, the size of each as a
    big-endian 32-bit integer, and the bytes. DataError if it is anything else.
    """
    content = unzipped(file)
    if len(content) < 4 or content[:3] != b"\0\0\x08" or content[3] > 4:
        raise DataError(f"{file} is damaged: it is no idx file of unsigned bytes")
    start = 4 + 4 * content[3]
    shape = np.frombuffer(content[4:start], ">u4").tolist() if len(content) >= start else [-1]
    if (expected := int(np.prod(shape, dtype=object))) != len(content) - start:
        raise DataError(
            f"{file} is damaged: {expected:,} bytes should follow its header, "
            f"not {max(len(content) - start, 0):,}"
        )
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy())


def _cifar10(root: Path) -> Splits:
    """The training batches that are there, one or all five, and the test batch."""
    folder = root / "cifar-10-batches-bin"
    names = [f"data_batch_{i}.bin" for i in range(1, 6)]
    if not any(_cifar10_file(folder, name) for name in names):
        fetch(folder / CIFAR10_ARCHIVE, CIFAR10_DIGESTS[CIFAR10_ARCHIVE], CIFAR10_MIRRORS)
        _extract(folder / CIFAR10_ARCHIVE, [*names, "test_batch.bin"])
    train = [read_cifar10(file) for name in names if (file := _cifar10_file(folder, name))]
    test_file = _cifar10_file(folder, "test_batch.bin")
    if test_file is None:
        raise DataError(f"{folder} lacks test_batch.bin (or test_batch.bin.gz)")
    inputs, targets = (torch.cat(parts) for parts in zip(*train, strict=True))
    return Splits(
        Dataset(inputs, targets, CIFAR10_CLASSES),
        Dataset(*read_cifar10(test_file), CIFAR10_CLASSES),
    )


def _cifar10_file(folder: Path, name: str) -> Path | None:
    return next((f for f in (folder / name, folder / f"{name}.gz") if f.is_file()), None)


def read_cifar10(file: Path) -> tuple[Tensor, Tensor]:
    """Pictures uint8 [10000, 3, 32, 32] and classes int64 [10000] of a batch in CIFAR-10's binary
    layout, gzipped or not: for each example a byte with the class, then its red, green and blue
    pixels in rows. DataError if it is damaged.
    """
    content = unzipped(file)
    if digest := CIFAR10_DIGESTS.get(file.name.removesuffix(".gz")):
        check_digest(file, content, digest)
    if len(content) != CIFAR10_BATCH * 3_073:
        raise DataError(f"{file} is damaged: {len(content):,} bytes, not 10,000 times 3,073")
    rows = torch.frombuffer(bytearray(content), dtype=torch.uint8).reshape(-1, 3_073)
    if rows[:, 0].max() > 9:
        raise DataError(f"{file} is damaged: it has a class {int(rows[:, 0].max())}")
    return rows[:, 1:].reshape(-1, 3, 32, 32).clone(), rows[:, 0].long()


def _extract(archive: Path, names: list[str]) -> None:
    """Unpacks the files called ``names``, and nothing else, beside the archive."""
    try:
        with tarfile.open(archive) as opened:
            members = {Path(member.name).name: member for member in opened if member.isfile()}
            for name in names:
                content = opened.extractfile(members[name])
                assert content is not None  # it is a file
                write(archive.with_name(name), content.read())
    except (KeyError, tarfile.TarError, zlib.error, EOFError) as error:
        raise DataError(f"{archive} is damaged: {error}") from None


def _isbi2012(root: Path) -> Splits:
    folder = root / "isbi2012-em" / "train"
    stacks = {}
    for kind, digest in ISBI2012_DIGESTS.items():
        files = [folder / kind / f"{i}.png" for i in range(30)]
        for file in files:
            if not file.is_file():
                raise DataError(
                    f"no data set isbi2012: {file} is missing; put the 30 training slices of the "
                    f"ISBI-2012 challenge as 8-bit grey PNGs into {folder}/image/0.png to 29.png, "
                    f"and their label maps into {folder}/label"
                )
        pictures = [_read_png(file) for file in files]
        if any(picture.shape != (512, 512) for picture in pictures):
            raise DataError(f"{folder / kind} is damaged: not all slices are grey, 512 x 512")
        stack = np.stack(pictures)
        check_digest(folder / kind, stack.tobytes(), digest)
        stacks[kind] = torch.from_numpy(stack)
    whole = Dataset(stacks["image"][:, None], stacks["label"] // 255, ("membrane", "cell"))
    return Splits(whole.take(slice(0, 24)), whole.take(slice(24, 30)))


def _read_png(file: Path) -> np.ndarray:
    picture = cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_UNCHANGED)
    if picture is None:
        raise DataError(f"{file} is damaged: it is no picture")
    return picture


def _simulator(name: str, root: Path) -> Splits:
    """What scripts/render_dataset.py has drawn: train.safetensors and test.safetensors, each with
    ``inputs`` and ``targets``, and classes.json.
    """
    folder = root / name
    files = [folder / f"{part}.safetensors" for part in ("train", "test")]
    for file in (*files, folder / "classes.json"):
        if not file.is_file():
            raise DataError(
                f"no data set {name}: {file} is missing; draw it with "
                f"python scripts/render_dataset.py {name}"
            )
    try:
        classes = json.loads((folder / "classes.json").read_text())
        if not isinstance(classes, list) or not all(isinstance(c, str) for c in classes):
            raise ValueError("classes.json is no list of names")
        train, test = (_inputs_and_targets(file, tuple(classes)) for file in files)
        for part in (train, test):
            _check_pictures(part, masks=name == "simulator_masks")
    except (SafetensorError, ValueError) as error:
        raise DataError(f"{folder} is damaged: {error}") from None
    return Splits(train, test)


def _inputs_and_targets(file: Path, classes: tuple[str, ...]) -> Dataset:
    """The two tensors of the file's that every set has; others (poses) are left unread."""
    with safe_open(file, "pt") as tensors:
        return Dataset(tensors.get_tensor("inputs"), tensors.get_tensor("targets"), classes)


def _check_pictures(dataset: Dataset, masks: bool) -> None:
    inputs, targets = dataset.inputs, dataset.targets
    shape = (len(inputs), *inputs.shape[2:]) if masks else (len(inputs),)
    if inputs.ndim != 4 or inputs.dtype != torch.uint8 or len(inputs) == 0:
        raise ValueError(f"inputs are {inputs.dtype} {tuple(inputs.shape)}, not uint8 [N, C, H, W]")
    if targets.shape != shape or targets.dtype != (torch.uint8 if masks else torch.int64):
        raise ValueError(f"targets are {targets.dtype} {tuple(targets.shape)}")
    if not 0 <= int(targets.min()) <= int(targets.max()) < len(dataset.classes):
        raise ValueError(f"there are targets without one of the {len(dataset.classes)} classes")


# -- sets inside packages ------------------------------------------------------------------------


def _scikit_learn(name: str, root: Path) -> Splits:
    from sklearn import datasets  # takes a second to import

    bunch = getattr(datasets, f"load_{name}")()
    targets = torch.from_numpy(bunch.target)
    targets = targets.long() if name != "diabetes" else targets.float()
    classes = tuple(str(c) for c in bunch.get("target_names", ()))
    inputs = torch.from_numpy(bunch.data).float()
    if name == "digits":
        inputs = inputs.to(torch.uint8).reshape(-1, 1, 8, 8)
    return Splits(*stratified_split(Dataset(inputs, targets, classes), 0.2, seed=0))


def _lfw_subset(root: Path) -> Splits:
    from skimage.data import lfw_subset

    pictures = torch.from_numpy(lfw_subset()).mul(255).round().to(torch.uint8)[:, None]
    targets = (torch.arange(200) < 100).long()  # faces come first
    return Splits(*stratified_split(Dataset(pictures, targets, ("other", "face")), 0.2, seed=0))


LOADERS: dict[str, Callable[[Path], Splits]] = {
    "mnist": _mnist,
    "fashion_mnist": _fashion_mnist,
    "cifar10": _cifar10,
    "isbi2012": _isbi2012,
    **{
        name: partial(_scikit_learn, name)
        for name in ("digits", "iris", "breast_cancer", "wine", "diabetes")
    },
    "lfw_subset": _lfw_subset,
    **{name: partial(_simulator, name) for name in ("simulator_classes", "simulator_masks")},
}
